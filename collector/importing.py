"""Foreign recordings as traces: each kind is recognised by its content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from sigwindow.probes.errors import InputError
from sigwindow.probes.text import decoded, printable
from sigwindow.probes.traceinfo import TraceInfo

from . import lines
from .strace import log as strace

_HEAD_BYTES = 1 << 16


class Recording(Protocol):
    """A foreign recording, opened: what it says of itself, and its events in the order of time, to be read once."""

    @property
    def info(self) -> TraceInfo:
        """What the trace will say of itself."""

    @property
    def read_bytes(self) -> int:
        """How far it is read."""

    @property
    def size_bytes(self) -> int:
        """How large it is."""

    @property
    def notes(self) -> list[str]:
        """After the last batch: what is missing or was assumed, in plain sentences."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events."""


def sources(path: Path, messages: Path | None = None) -> list[Path]:
    """The files that `opened` reads."""
    return [*strace.family(path), *([messages] if messages else [])]


@contextmanager
def opened(path: Path, messages: Path | None = None) -> Iterator[Recording]:
    """A recording in a file: lines of our D and bpftrace scripts, or a log of strace.

    messages: what the script's tracer wrote to its standard error. Raises InputError for anything else, with its first
    line, and for what can't be read.
    """
    try:
        family = strace.family(path)  # of `strace -ff` the name may stand for many files
        with family[0].open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if lines.is_lines(head):
                file.seek(0)
                told = messages.read_text(errors="replace") if messages else ""
                yield lines.Reader(file, told)
                return
    except OSError as error:
        raise InputError(f"can't read {printable(str(path))}: {error.strerror}") from None
    if not strace.recognises(head):
        first = decoded(head.split(b"\n", 1)[0][:120])
        name = printable(str(path))
        raise InputError(f"{name} is neither a log of strace nor lines of our scripts. It begins with {first!r}")
    yield strace.Log(family)
