"""What a trace says of itself: who recorded it, where, and of what; kept in the schema's metadata of its file."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from . import events
from .signals import Numbering, numbering

_PREFIX = b"sigwindow."  # of our keys in the schema's metadata
_T = TypeVar("_T", list[Any], dict[str, Any])
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def _version() -> str:
    return metadata.version("sigwindow")


@dataclass(frozen=True)
class TraceInfo:
    """What a trace says of itself. What it does not say is empty, or None.

    backend: what recorded it. os, kernel, arch, host, boot_id: the machine that was traced. clock: that of the column
    `time_ns`; clock_to_wall_ns: what makes it nanoseconds since 1970. signals: whose numbers the signals have, where
    that is not told by `os`. command, targets: what was run, and the processes that were attached to. options: how,
    by the options' names. tool, format: the version of sigwindow that wrote it, and of the event table.
    """

    tool: str = field(default_factory=_version)
    format: int = events.FORMAT_VERSION
    backend: str = ""
    os: str = ""
    kernel: str = ""
    arch: str = ""
    host: str = ""
    boot_id: str = ""
    clock: str = ""
    clock_to_wall_ns: int | None = None
    signals: str = ""
    command: tuple[str, ...] = ()
    targets: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def here(
        cls,
        backend: str,
        *,
        command: Sequence[str] = (),
        targets: Sequence[int] = (),
        options: Mapping[str, Any] | None = None,
    ) -> TraceInfo:
        """That of a trace that begins now, on this machine, by its clock CLOCK_MONOTONIC."""
        return cls(
            backend=backend,
            os=platform.system().lower(),
            kernel=platform.release(),
            arch=platform.machine(),
            host=platform.node(),
            boot_id=_BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "",
            clock="CLOCK_MONOTONIC",
            clock_to_wall_ns=time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            command=tuple(command),
            targets=tuple(targets),
            options=options or {},
        )

    @classmethod
    def from_metadata(cls, told: Mapping[bytes, bytes] | None) -> TraceInfo | None:
        """That of a file, by its schema's metadata; None where nothing in there is ours.

        Whatever stands there, nothing is raised: what has not the form that it should have is not told.
        """
        ours = {_text(k.removeprefix(_PREFIX)): _text(v) for k, v in (told or {}).items() if k.startswith(_PREFIX)}
        if not ours:
            return None
        texts = {name: ours.get(name, "") for name in _TEXTS}
        command, targets = (_json(ours.get(name), list) for name in ("command", "targets"))
        options = _json(ours.get("options"), dict)
        return cls(
            **texts,
            format=_integer(ours.get("format", "")) or 0,
            clock_to_wall_ns=_integer(ours.get("clock_to_wall_ns", "")),
            command=tuple(_encodable(word) for word in command if isinstance(word, str)),
            targets=tuple(pid for pid in targets if type(pid) is int),
            options={name: value for name, value in options.items() if isinstance(value, str | int | float)},
        )

    def to_metadata(self) -> dict[bytes, bytes]:
        """What the schema's metadata of a file holds of it: all that is told."""
        parsed = {"command": self.command, "targets": self.targets, "options": dict(self.options)}
        told: dict[str, str] = {name: getattr(self, name) for name in _TEXTS}
        told["format"] = str(self.format)
        told["clock_to_wall_ns"] = "" if self.clock_to_wall_ns is None else str(self.clock_to_wall_ns)
        told |= {name: json.dumps(value) for name, value in parsed.items()}
        return {_PREFIX + name.encode(): text.encode("utf-8", "replace") for name, text in told.items() if text}

    @property
    def numbering(self) -> Numbering:
        """The signals of the system that was traced."""
        return numbering(self.signals or self.os)


_TEXTS = tuple(one.name for one in fields(TraceInfo) if one.type == "str")  # annotations are not evaluated


def common(infos: Sequence[TraceInfo]) -> TraceInfo:
    """What several traces say of themselves alike; the rest is not told."""
    alike = {
        name: getattr(infos[0], name)
        for name in (one.name for one in fields(TraceInfo))
        if infos and all(getattr(info, name) == getattr(infos[0], name) for info in infos)
    }
    return replace(TraceInfo(tool=""), **alike)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _encodable(text: str) -> str:
    """The text without the half characters that JSON can name and no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch("-?[0-9]{1,19}", text) else None


def _json(text: str | None, kind: type[_T]) -> _T:
    """The list or object that a text is in JSON; an empty one for anything else."""
    with suppress(ValueError, RecursionError):
        found = json.loads(text or "")
        if isinstance(found, kind):
            return found
    return kind()
