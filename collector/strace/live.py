"""A live session through strace."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.collector import procfs
from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes import strace as tracer
from sigwindow.probes.errors import CannotTraceError

from .calls import Lines, Style
from .replay import Queue, Replay


class Live:
    """One capture by strace. Iterate over it for the batches; `stop()` from a signal handler ends it.

    argv: a command to run and trace from its first instruction; or pids: the processes to attach to. follow: whether
    the children of these processes count. duration_s: when to stop at the latest; a command then goes on untraced.

    `status` is the command's exit status once it has ended, 128 + N where signal N ended it.
    Raises CannotTraceError where strace is missing or may not trace, UsageError for a command that can't be run.
    """

    def __init__(
        self,
        *,
        argv: Sequence[str] = (),
        pids: Sequence[int] = (),
        follow: bool = True,
        duration_s: float | None = None,
    ) -> None:
        self._pids = list(pids)
        self._follow = follow
        self._duration_s = duration_s
        self._stopped = False
        self.status: int | None = None
        own_mask = sig.word_of(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self._replay = Replay(own_mask if argv else None)
        self._queue = Queue(self._replay)
        self._tracer = tracer.Tracer(argv=argv, pids=pids)

    def stop(self) -> None:
        """End the capture at its next poll; what strace has written is still read."""
        self._stopped = True

    def fill(self) -> float:
        """How full a buffer of ours is: there is none, strace waits."""
        return 0.0

    def lost(self) -> int:
        """How many events were lost: strace loses none."""
        return 0

    def close(self) -> None:
        """End strace; the traced processes go on."""
        self._tracer.close()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        lines = Lines(Style(b"1 1000000000.000000 execve(0) = 0", "strace"), offset_ns=offset_ns)
        # As in Session: from here on nothing is missed, and what was logged before is left out. What /proc tells may
        # be later than that; the calls in between then set the same state once more.
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if self._pids else 0
        deadline_s = None if self._duration_s is None else time.monotonic() + self._duration_s
        asked = False
        try:
            self._replay.adopt((thread for pid in self._pids for thread in procfs.threads(pid)), start_ns)
            while (data := self._tracer.read(0.1)) is not None:
                self._queue.put((call for call in lines.feed(data) if call.time_ns >= start_ns), lines.root)
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
            yield self._taken()
            end_ns = max(time.clock_gettime_ns(time.CLOCK_MONOTONIC), self._replay.now_ns)
            yield events.batch_of_rows([events.end_of_trace(end_ns)])
            if not self._pids:
                self.status = next(iter(self._replay.watched.values()), None)
        finally:
            self._tracer.close()

    def _taken(self) -> pa.RecordBatch:
        batch = self._replay.take()
        if self._follow:
            return batch
        # 0: `lost` belongs to no process
        asked_for = events.array(np.array([0, *self._replay.watched]), pa.int32())
        return batch.filter(pc.is_in(batch.column("pid"), asked_for))
