"""A live session through another tracer, whose script prints the line protocol (docs/lines.md)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.probes.errors import CannotTraceError
from sigwindow.probes.text import decoded
from sigwindow.probes.traceinfo import TraceInfo

from . import lines
from .command import Command

_POLL_S = 0.1
_START_S = 60.0  # a tracer that has not begun by then will not
_LATE_NS = (
    1_000_000_000  # how much later than another CPU's an event may be printed; the scripts switch ten times a second
)


class ExternalSession:
    """One capture by another tracer. Iterate over it for the batches; `stop()` from a signal handler ends it.

    argv: the tracer's command, which ends by itself when what it watches has ended. ready: how the line begins by which
    it says that its probes are in. command: a command to release then. duration_s: when to stop at the latest.
    info: what the lines say of the trace, from the first batch on.
    """

    def __init__(
        self, argv: Sequence[str], ready: bytes, *, command: Command | None = None, duration_s: float | None = None
    ) -> None:
        self._argv = list(argv)
        self._ready = ready
        self._command = command
        self._duration_s = duration_s
        self._stopped = False
        self.info: TraceInfo | None = None

    def fill(self) -> float:
        """How full a buffer of ours is: there is none."""
        return 0.0

    def lost(self) -> int:
        """How many events were lost: known at the end only."""
        return 0

    def stop(self) -> None:
        """End the session; what the tracer has recorded is still read."""
        self._stopped = True

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        with tempfile.TemporaryFile() as messages:
            # Its own session: a Ctrl-C is for us, who then end it in order.
            tracer = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, start_new_session=True
            )
            try:
                yield from self._batches(tracer, messages)
            finally:
                if tracer.poll() is None:
                    tracer.kill()
                tracer.wait()
                if tracer.stdout:
                    tracer.stdout.close()
        if self._command:
            self._command.wait()

    def _batches(self, tracer: subprocess.Popen[bytes], messages: IO[bytes]) -> Iterator[pa.RecordBatch]:
        assert tracer.stdout
        parser, order = lines.Parser(), lines.Ordered()
        order.add(parser.feed(self._begin(tracer, messages)))
        self.info = parser.info
        if self._command:
            self._command.release()
        deadline = None if self._duration_s is None else time.monotonic() + self._duration_s
        newest_ns, asked = parser.start_ns, False
        while True:
            over = self._stopped or (deadline is not None and time.monotonic() >= deadline)
            if over and not asked:
                tracer.send_signal(signal.SIGINT)
                asked = True
            if select.select([tracer.stdout], [], [], _POLL_S)[0]:
                data = os.read(tracer.stdout.fileno(), 1 << 20)
                if not data:
                    break
                batch = parser.feed(data)
                if len(batch):
                    newest_ns = max(newest_ns, pc.max(batch.column("time_ns")).as_py())
                    order.add(batch)
            yield order.take(before_ns=newest_ns - _LATE_NS)
        messages.seek(0)
        parser.hear(messages.read().decode(errors="replace"))
        order.add(parser.finish())
        yield order.take()
        yield lines.closing(parser, order)

    def _begin(self, tracer: subprocess.Popen[bytes], messages: IO[bytes]) -> bytes:
        """What the tracer prints until its probes are in."""
        assert tracer.stdout
        said = b""
        deadline = time.monotonic() + _START_S
        while self._ready not in said:
            waiting = select.select([tracer.stdout], [], [], max(deadline - time.monotonic(), 0))[0]
            data = os.read(tracer.stdout.fileno(), 1 << 16) if waiting else b""
            if not data:
                messages.seek(0)
                why = decoded(messages.read(2000)).strip() or "it said nothing"
                raise CannotTraceError(f"{self._argv[0]} did not begin to trace: {why}")
            said += data
        return said
