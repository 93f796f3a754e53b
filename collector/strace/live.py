"""A live session through strace."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.collector import procfs
from sigwindow.collector.session import Options, Target
from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes import strace as tracer
from sigwindow.probes.errors import CannotTraceError, UsageError
from sigwindow.probes.traceinfo import TraceInfo

from .calls import Lines, Style
from .replay import Queue, Replay

_STYLE = Style(b"1 1000000000.000000 execve(0) = 0", "strace")  # of what our own strace writes


@contextmanager
def opened(target: Target, options: Options) -> Iterator[StraceSession]:
    """A session by strace: on a command, which is strace's child, or on processes.

    Raises CannotTraceError where strace is missing or may not trace, UsageError for a target that isn't there.
    """
    session = StraceSession(target, options)
    try:
        yield session
    finally:
        session.close()


class StraceSession:
    """One capture by strace. A command goes on untraced when the session ends before it."""

    def __init__(self, target: Target, options: Options) -> None:
        self._watches_command = bool(target.argv)
        self._follow = options.follow
        self._duration_s = options.duration_s
        self._stopped = False
        self.info = TraceInfo.here(
            "strace", command=target.argv, targets=target.pids, options={"follow": options.follow}
        )
        self.pid: int | None = None
        self.status: int | None = None
        own_mask = sig.word_of(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self._replay = Replay(own_mask if target.argv else None)
        self._queue = Queue(self._replay)
        self._tracer = tracer.Tracer(argv=target.argv, pids=target.pids)
        # As in RingSession: from here on nothing is missed, and what was logged before is left out. What /proc tells
        # may be later than that; the calls in between then set the same state once more.
        self._start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if target.pids else 0
        try:
            known = (thread for pid in target.pids for thread in procfs.threads(pid))
            self._replay.adopt(known, self._start_ns)
        except UsageError:
            self.close()
            raise

    def fill(self) -> float:
        """How full a buffer of ours is: there is none, strace waits."""
        return 0.0

    def lost(self) -> int:
        """How many events were lost: strace loses none."""
        return 0

    def stop(self) -> None:
        """End the capture at its next poll; what strace has written is still read."""
        self._stopped = True

    def close(self) -> None:
        """End strace; the traced processes go on."""
        self._tracer.close()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        lines = Lines(_STYLE, offset_ns=time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC))
        deadline_s = None if self._duration_s is None else time.monotonic() + self._duration_s
        asked = False
        while (data := self._tracer.read(0.1)) is not None:
            self._queue.put((call for call in lines.feed(data) if call.time_ns >= self._start_ns), lines.root)
            yield self._taken()
            late = deadline_s is not None and time.monotonic() >= deadline_s
            statuses = self._replay.watched.values()
            over = bool(statuses) and None not in statuses  # strace itself would wait for descendants, too
            if not asked and (self._stopped or late or over):
                self._tracer.stop()
                asked = True
        if not lines.lines and not asked:
            raise CannotTraceError("strace ended and wrote nothing: its own message is above")
        self._queue.put(lines.close(), lines.root, last=True)
        self._replay.close()
        if self._watches_command:
            self.status = next(iter(self._replay.watched.values()), None)
        yield self._taken()
        end_ns = max(time.clock_gettime_ns(time.CLOCK_MONOTONIC), self._replay.now_ns)
        yield events.batch_of_rows([events.end_of_trace(end_ns)])

    def _taken(self) -> pa.RecordBatch:
        batch = self._replay.take()
        if self._follow:
            return batch
        # 0: `lost` belongs to no process
        asked_for = events.array(np.array([0, *self._replay.watched]), pa.int32())
        return batch.filter(pc.is_in(batch.column("pid"), asked_for))
