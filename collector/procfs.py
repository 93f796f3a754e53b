"""What /proc tells about the threads of a live process, without any probe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sigwindow.probes.errors import UsageError
from sigwindow.probes.text import decoded, printable

_PROC = Path("/proc")


class Thread(NamedTuple):
    """A thread's signal state, as /proc/PID/task/TID/status shows it (proc_pid_status(5)).

    Sets are words of 64 bits, bit n-1 is signal n; `handled`, `ignored` and `pending_process` belong to the whole
    process: what waits there is taken by any of its threads.
    """

    pid: int
    tid: int
    comm: str
    mask: int
    handled: int
    ignored: int
    pending: int
    pending_process: int


def threads(pid: int) -> list[Thread]:
    """The threads that a process has now, by tid.

    Raises UsageError where there is no such process. Threads that end meanwhile are left out.
    """
    try:
        found = sorted(int(entry.name) for entry in (_PROC / str(pid) / "task").iterdir())
    except OSError:
        raise UsageError(f"no process with PID {pid}") from None
    return [thread for tid in found if (thread := _thread(pid, tid)) is not None]


def _thread(pid: int, tid: int) -> Thread | None:
    status = _PROC / str(pid) / "task" / str(tid) / "status"
    try:
        raw = status.read_bytes()
    except OSError:
        return None
    fields = dict(line.split(b":", 1) for line in raw.splitlines() if b":" in line)
    if b"SigBlk" not in fields:
        return None

    def word(name: bytes) -> int:
        return int(fields[name], 16)

    return Thread(
        pid,
        tid,
        # the kernel escapes newline and backslash in Name itself
        decoded(fields[b"Name"].strip()),
        word(b"SigBlk"),
        word(b"SigCgt"),
        word(b"SigIgn"),
        word(b"SigPnd"),
        word(b"ShdPnd"),
    )


def name_of(pid: int) -> str:
    """The name of a process; empty where it is not known."""
    with suppress(OSError):
        return decoded((_PROC / str(pid) / "comm").read_bytes().rstrip(b"\n"))
    return ""


def processes() -> Iterator[tuple[int, str]]:
    """The pid and name of every process there is; none where there is no /proc."""
    for entry in _PROC.glob("[0-9]*"):
        if entry.name.isdigit() and (name := name_of(int(entry.name))):
            yield int(entry.name), name


def pid_of(text: str) -> int:
    """The process that a user names by its id.

    Raises UsageError, with what was likely meant, for a process that isn't there, a thread, or a name.
    """
    if not re.fullmatch("[0-9]{1,9}", text):
        named = [str(pid) for pid, name in processes() if name == text]
        few = ", ".join(named[:6]) + ", ..." * (len(named) > 6)
        hint = f". Processes of that name: {few}; `attach --comm {text}` traces all of them" if named else ""
        raise UsageError(f"{printable(text)!r} is no PID{hint}")
    pid = int(text)
    try:
        os.kill(pid, 0)  # asks nothing of /proc, which FreeBSD lacks
    except (ProcessLookupError, OverflowError):
        raise UsageError(f"no process with PID {pid}") from None
    except PermissionError:
        pass
    leader = _leader(pid)
    if leader not in (None, pid):
        raise UsageError(f"{pid} is a thread of process {leader}, not a process: give {leader}")
    return pid


def _leader(tid: int) -> int | None:
    """The process that a thread belongs to, where /proc tells."""
    with suppress(OSError):
        status = (_PROC / str(tid) / "status").read_text(errors="replace")
        if found := re.search(r"^Tgid:\t(\d+)$", status, re.MULTILINE):
            return int(found[1])
    return None
