"""A live session: from loaded probes to a stream of event batches in the order of time."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.probes import events
from sigwindow.probes.errors import UsageError

from . import procfs
from .command import Command

_SLOWEST_POLL_S, _FASTEST_POLL_S = 0.1, 0.001


class Probes(Protocol):
    """What a session needs of a backend (probes/bcc.py is one)."""

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


class Session:
    """One capture. Iterate over it for the batches; `stop()` from a signal handler ends it.

    probes: a loaded backend; pids: the processes to attach to (all of them for a backend that records everything);
    command: a command to release once the probes watch it; duration_s: when to stop at the latest.
    """

    def __init__(
        self,
        probes: Probes,
        *,
        pids: Sequence[int] = (),
        command: Command | None = None,
        duration_s: float | None = None,
    ) -> None:
        self._probes = probes
        self._command = command
        self._pids = [command.pid] if command else list(pids)
        self._duration_s = duration_s
        self._stopped = False

    def stop(self) -> None:
        """End the session at its next poll; what is in the buffer is still read."""
        self._stopped = True

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""
        return self._probes.fill()

    def lost(self) -> int:
        """How many events were lost up to the last batch."""
        return self._probes.lost()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        pidfds = self._open_pidfds()
        try:
            yield self._first()
            if self._command:
                self._command.release()
            yield from self._until_the_end(pidfds)
        finally:
            for fd in pidfds:
                os.close(fd)

    def _open_pidfds(self) -> set[int]:
        """A handle on every target that says when it ends, and never means another process (pidfd_open(2))."""
        pidfds = set()
        for pid in self._pids:
            try:
                pidfds.add(os.pidfd_open(pid))
            except OSError:
                raise UsageError(f"no process with PID {pid}") from None
        return pidfds

    def _first(self) -> pa.RecordBatch:
        """Start to record, and name the threads that are there already.

        A thread is in /proc before its birth is recorded. So with the probes watching before /proc is read, every
        thread is in one of the two, and one that is in both is taken for what it is: born in the trace. The trace
        starts when all targets are watched; what was recorded of the first of them before that is left out.
        """
        self._probes.add(self._pids)
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)  # from here on nothing is missed
        known = procfs.snapshot(self._pids or [pid for pid, _ in procfs.processes()], start_ns)
        first = self._probes.drain()
        first = first.filter(events.array(events.numbers(first.column("time_ns")) >= start_ns, pa.bool_()))
        born = events.numbers(first.column("kind").indices) == events.CODE["born"]
        births = first.column("tid").filter(events.array(born, pa.bool_()))
        known = known.filter(pc.invert(pc.is_in(known.column("tid"), births)))
        return pa.concat_batches([known, first])

    def _until_the_end(self, pidfds: set[int]) -> Iterator[pa.RecordBatch]:
        deadline = None if self._duration_s is None else time.monotonic() + self._duration_s
        poll = select.poll()
        for fd in pidfds:
            poll.register(fd, select.POLLIN)
        alive = len(pidfds)
        interval_s = _SLOWEST_POLL_S / 4
        over = False
        while not over:
            timeout_s = interval_s if deadline is None else min(interval_s, max(deadline - time.monotonic(), 0))
            for fd, _ in poll.poll(timeout_s * 1000):
                poll.unregister(fd)
                alive -= 1
            # Asked before the drain: what the targets did before their end is then in it.
            over = self._stopped or (bool(pidfds) and not alive)
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
