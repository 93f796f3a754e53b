"""A session over a kernel's ring buffer: the probes record, and the buffer is read before it is full."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.probes import events
from sigwindow.probes.bcc import loader
from sigwindow.probes.errors import UsageError
from sigwindow.probes.traceinfo import TraceInfo

from . import procfs
from .command import Command
from .session import Options, Target

_SLOWEST_POLL_S, _FASTEST_POLL_S = 0.1, 0.001


class Probes(Protocol):
    """What a session needs of a loader (probes/bcc/loader.py is one)."""

    @property
    def watermark_ns(self) -> int:
        """What was drained is earlier than this; what will be is not."""

    def add(self, pids: Sequence[int]) -> None:
        """Record these processes from now on."""

    def drain(self) -> pa.RecordBatch:
        """All events up to now; no later drain returns an earlier one."""

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""

    def lost(self) -> int:
        """How many events were lost so far."""


@contextmanager
def opened(target: Target, options: Options) -> Iterator[RingSession]:
    """A session by eBPF.

    Raises UsageError for a target that isn't there, CannotTraceError where the probes can't be loaded.
    """
    with ExitStack() as stack:
        command = stack.enter_context(closing(Command(target.argv))) if target.argv else None
        pids = (command.pid,) if command else target.pids
        ends = [stack.enter_context(_end_of(pid)) for pid in pids]
        chosen = loader.Options(
            everything=target.everything,
            follow=options.follow,
            stacks=options.stacks,
            buffer_bytes=options.buffer_bytes,
            mark=(_program(target), options.mark) if options.mark else None,
        )
        probes = stack.enter_context(closing(loader.Probes(chosen)))
        info = TraceInfo.here("bcc", command=target.argv, targets=target.pids, options={"follow": options.follow})
        yield RingSession(probes, pids, ends, info, command=command, duration_s=options.duration_s)


@contextmanager
def _end_of(pid: int) -> Iterator[int]:
    """A file descriptor that can be read once a process has ended, and never means another one (pidfd_open(2))."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        raise UsageError(f"no process with PID {pid}") from None
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _program(target: Target) -> str:
    """The program in which a function is looked for."""
    path = shutil.which(target.argv[0]) if target.argv else f"/proc/{target.pids[0]}/exe" if target.pids else None
    if path is None:
        raise UsageError("--ready symbol:NAME needs a command or a PID, to know in which program the function is")
    return os.path.realpath(path)


def _snapshot(pids: Iterable[int], time_ns: int) -> pa.RecordBatch:
    """The living threads of `pids` as `snapshot` events, all at `time_ns`.

    /proc does not tell about the alternate stack or SA_ONSTACK: those columns stay empty.
    """
    found: list[procfs.Thread] = []
    for pid in pids:
        try:
            found += procfs.threads(pid)
        except UsageError:
            continue  # it ended after it was named
    told = ("pid", "tid", "mask", "handled", "comm")
    rows = ({name: getattr(thread, name) for name in told} for thread in found)
    return events.batch_of_rows([{"kind": "snapshot", "time_ns": time_ns, **row} for row in rows])


class RingSession:
    """One capture from a ring buffer.

    probes: loaded; pids: what they are to record (nothing for probes that record everything); ends: for each of them a
    file descriptor that tells its end; info: what the trace says of itself; command: released once it is watched.
    """

    def __init__(
        self,
        probes: Probes,
        pids: Sequence[int],
        ends: Sequence[int],
        info: TraceInfo,
        *,
        command: Command | None = None,
        duration_s: float | None = None,
    ) -> None:
        self._probes = probes
        self._ends = ends
        self._command = command
        self._duration_s = duration_s
        self._stopped = False
        self.info = info
        self.pid = command.pid if command else None
        self._first = self._begin(pids)
        if command:
            command.release()

    @property
    def status(self) -> int | None:
        """The command's exit status once it has ended, 128 + N where signal N ended it."""
        return self._command.status if self._command else None

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""
        return self._probes.fill()

    def lost(self) -> int:
        """How many events were lost up to the last batch."""
        return self._probes.lost()

    def stop(self) -> None:
        """End the session at its next poll; what is in the buffer is still read."""
        self._stopped = True

    def _begin(self, pids: Sequence[int]) -> pa.RecordBatch:
        """Start to record, and name the threads that are there already.

        A thread is in /proc before its birth is recorded. So with the probes watching before /proc is read, every
        thread is in one of the two, and one that is in both is taken for what it is: born in the trace. The trace
        starts when all targets are watched; what was recorded of the first of them before that is left out.
        """
        self._probes.add(pids)
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)  # from here on nothing is missed
        known = _snapshot(pids or [pid for pid, _ in procfs.processes()], start_ns)
        first = self._probes.drain()
        first = first.filter(events.array(events.numbers(first.column("time_ns")) >= start_ns, pa.bool_()))
        born = events.numbers(first.column("kind").indices) == events.CODE["born"]
        births = first.column("tid").filter(events.array(born, pa.bool_()))
        known = known.filter(pc.invert(pc.is_in(known.column("tid"), births)))
        return pa.concat_batches([known, first])

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        yield self._first
        deadline = None if self._duration_s is None else time.monotonic() + self._duration_s
        poll = select.poll()
        for end in self._ends:
            poll.register(end, select.POLLIN)
        alive = len(self._ends)
        interval_s = _SLOWEST_POLL_S / 4
        over = False
        while not over:
            timeout_s = interval_s if deadline is None else min(interval_s, max(deadline - time.monotonic(), 0))
            for end, _ in poll.poll(timeout_s * 1000):
                poll.unregister(end)
                alive -= 1
            # Asked before the drain: what the targets did before their end is then in it.
            over = self._stopped or (bool(self._ends) and not alive)
            over = over or (deadline is not None and time.monotonic() >= deadline)
            fill = self._probes.fill()
            if fill > 0.1:
                interval_s = max(interval_s / 2, _FASTEST_POLL_S)
            elif fill < 0.02:
                interval_s = min(interval_s * 1.5, _SLOWEST_POLL_S)
            yield self._probes.drain()  # empty ones too: they are the clock of whoever writes or draws
        if self._command:
            self._command.poll()
        yield events.batch_of_rows([events.end_of_trace(self._probes.watermark_ns)])
