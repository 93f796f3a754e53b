"""What /proc tells about the threads of a live process, without any probe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from sigwindow.probes import events
from sigwindow.probes.errors import UsageError
from sigwindow.probes.text import decoded

_PROC = Path("/proc")


class Thread(NamedTuple):
    """A thread's signal state, as /proc/PID/task/TID/status shows it (proc_pid_status(5)).

    Sets are words of 64 bits, bit n-1 is signal n; `handled` and `ignored` belong to the whole process.
    """

    pid: int
    tid: int
    comm: str
    mask: int
    handled: int
    ignored: int
    pending: int


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
    )


def processes() -> Iterator[tuple[int, str]]:
    """The pid and name of every process there is."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "comm").read_bytes()
            except OSError:
                continue
            yield int(entry.name), decoded(name.rstrip(b"\n"))


def is_alive(pid: int) -> bool:
    """Whether a process with this pid exists and is the leader of its threads (not one of them)."""
    try:
        status = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return False
    return f"\nTgid:\t{pid}\n" in status


def snapshot(pids: Iterable[int], time_ns: int) -> pa.RecordBatch:
    """The living threads of `pids` as `snapshot` events, all at `time_ns`.

    /proc does not tell about the alternate stack or SA_ONSTACK: those columns stay empty.
    """
    found: list[Thread] = []
    for pid in pids:
        try:
            found += threads(pid)
        except UsageError:
            continue  # it ended after it was named
    told = ("pid", "tid", "mask", "handled", "comm")
    rows = ({name: getattr(thread, name) for name in told} for thread in found)
    return events.batch_of_rows([{"kind": "snapshot", "time_ns": time_ns, **row} for row in rows])
