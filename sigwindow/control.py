"""How a capture tells the program that started it how it goes (--status-fd): JSON, one object a line.

    {"status": "started", "backend": "bcc", "targets": [4242], "trace": "t.arrows"}     nothing is missed any more
    {"status": "refused", "code": 3, "error": "CannotTraceError", "message": "..."}     it has not begun
    {"status": "ended", "code": 0, "error": null, "message": ""}                        it had begun, and is over

The first line is one of the first two, the last one of the last two. `code` is the exit code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError

if TYPE_CHECKING:
    from sigwindow.probes.traceinfo import TraceInfo

_ERRORS = {kind.__name__: kind for kind in (CannotTraceError, InputError, UsageError)}


class Status:
    """The writing end. fd: where to; None tells nobody."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._has_begun = False

    def started(self, info: TraceInfo, trace: Path | None) -> None:
        """Nothing is missed any more."""
        self._has_begun = True
        self._tell("started", backend=info.backend, targets=info.targets, trace=str(trace) if trace else None)

    def ended(self, code: int, error: BaseException | None = None) -> None:
        """The capture is over; or, where it had not begun, is refused."""
        kind = type(error).__name__ if error else None
        status = "ended" if self._has_begun else "refused"
        self._tell(status, code=code, error=kind, message=str(error) if error else "")

    def _tell(self, status: str, **details: object) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, (json.dumps({"status": status, **details}) + "\n").encode())
        except OSError:  # nobody listens any more; the capture goes on
            self._fd = None


@contextmanager
def telling(fd: int | None) -> Iterator[Status]:
    """Something to tell the status by. What the block raises is told; else it says itself how it ended."""
    status = Status(fd)
    try:
        yield status
    except BaseException as error:
        status.ended(130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1), error)
        raise


def heard(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What a capture tells, as it comes; lines that are not its own are left out."""
    for line in lines:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and "status" in told:
            yield told


def error_of(told: Mapping[str, Any]) -> SigwindowError:
    """The error with which a capture was refused, or ended."""
    return _ERRORS.get(str(told["error"]), SigwindowError)(told["message"])
