"""A live session through another tracer, whose script prints the line protocol (docs/lines.md)."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import IO

import pyarrow as pa

from sigwindow.probes import dtrace, events
from sigwindow.probes.errors import CannotTraceError
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo

from . import lines
from .command import Command
from .session import Options, Target

_POLL_S = 0.1
_START_S = 60.0  # a tracer that has not begun by then will not
_LATE_NS = (
    1_000_000_000  # how much later than another CPU's an event may be printed; the scripts switch ten times a second
)


@contextmanager
def opened(target: Target, options: Options) -> Iterator[ExternalSession]:
    """A session by DTrace, on a command or on one process.

    Raises CannotTraceError where the tracer does not begin, InputError for lines that are not ours.
    """
    with ExitStack() as stack:
        command = stack.enter_context(closing(Command(target.argv))) if target.argv else None
        argv = dtrace.command(command.pid if command else target.pids[0])
        tracer = stack.enter_context(Tracer(argv, dtrace.READY))
        yield ExternalSession(tracer, command, options.duration_s)


class Tracer:
    """Another tracer at work; killed at the end of its block, if it is still there.

    argv: its command, which ends by itself when what it watches has ended. ready: how the line begins by which it says
    that its probes are in.
    """

    def __init__(self, argv: Sequence[str], ready: bytes) -> None:
        self._argv = list(argv)
        self._ready = ready

    def __enter__(self) -> Tracer:
        self._messages: IO[bytes] = tempfile.TemporaryFile()
        # Its own session: a Ctrl-C is for us, who then end it in order.
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            start_new_session=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._messages.close()

    def read(self, timeout_s: float) -> bytes | None:
        """What it printed; empty if nothing came in time, None at the end."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return b""
        return os.read(self._process.stdout.fileno(), 1 << 20) or None

    def begin(self) -> bytes:
        """What it prints until its probes are in. Raises CannotTraceError if that does not come."""
        said = b""
        deadline = time.monotonic() + _START_S
        while self._ready not in said:
            data = self.read(max(deadline - time.monotonic(), 0))
            if not data:
                why = printable(self.messages()[:2000].strip()) or "it said nothing"
                raise CannotTraceError(f"{self._argv[0]} did not begin to trace: {why}")
            said += data
        return said

    def messages(self) -> str:
        """What it wrote to its standard error."""
        self._messages.seek(0)
        return self._messages.read().decode(errors="replace")

    def interrupt(self) -> None:
        """Ask it to end; what it has recorded is still printed."""
        self._process.send_signal(signal.SIGINT)


class ExternalSession:
    """One capture by another tracer.

    tracer: has just been started. command: a command to release once the tracer watches it. duration_s: when to stop.
    """

    def __init__(self, tracer: Tracer, command: Command | None, duration_s: float | None) -> None:
        self._tracer = tracer
        self._command = command
        self._duration_s = duration_s
        self._stopped = False
        self._parser, self._order = lines.Parser(), lines.Ordered()
        self._order.add(self._parser.feed(tracer.begin()))
        self.info = self._described()
        self.pid = command.pid if command else None
        if command:
            command.release()

    def _described(self) -> TraceInfo:
        """What the header says, and what only we know."""
        if self._parser.info is None:
            raise CannotTraceError("the tracer printed no header")
        if self._command is None:
            return self._parser.info
        return replace(self._parser.info, command=tuple(self._command.argv), targets=())

    @property
    def status(self) -> int | None:
        """The command's exit status once it has ended, 128 + N where signal N ended it."""
        return self._command.status if self._command else None

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
        parser, order = self._parser, self._order
        deadline = None if self._duration_s is None else time.monotonic() + self._duration_s
        newest_ns, asked = parser.start_ns, False
        while (data := self._tracer.read(_POLL_S)) is not None:
            batch = parser.feed(data)
            if len(batch):
                newest_ns = max(newest_ns, int(events.numbers(batch.column("time_ns")).max()))
                order.add(batch)
            yield order.take(before_ns=newest_ns - _LATE_NS)
            over = self._stopped or (deadline is not None and time.monotonic() >= deadline)
            if over and not asked:
                self._tracer.interrupt()
                asked = True
        parser.hear(self._tracer.messages())
        order.add(parser.finish())
        yield order.take()
        yield lines.closing(parser, order)
        if self._command and asked:
            self._command.poll()
        elif self._command:
            self._command.wait()
