"""From a request to a recorded and analysed session: what `run` and `attach` have in common.

What takes long to import is imported once somebody was told that it begins.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from sigwindow.analysis.question import Question
from sigwindow.collector import backends, files, procfs
from sigwindow.collector.pump import Sink, pump
from sigwindow.collector.session import DEFAULT_BUFFER_BYTES, Options, Session, Target
from sigwindow.probes.errors import UsageError
from sigwindow.probes.signals import LINUX_COUNT, name, numbering

if TYPE_CHECKING:
    from sigwindow.analysis.engine.glance import LiveWindows
    from sigwindow.analysis.result import Analysis
    from sigwindow.probes.traceinfo import TraceInfo


@dataclass(frozen=True)
class Request:
    """What to capture and how to read it; the fields are the options of the command line.

    One of argv (a command to run), pids (as they are typed), comm (all processes of that name) or everything says what
    to trace. output: the trace; without it keep says whether there is one all the same, under its own name, in the
    working directory.
    """

    argv: Sequence[str] = ()
    pids: Sequence[str] = ()
    comm: str | None = None
    everything: bool = False
    output: Path | None = None
    keep: bool = True
    force: bool = False
    duration_s: float | None = None
    until_eof: bool = False
    backend: str = "auto"
    question: Question = Question()
    follow: bool = True
    stacks: bool = False
    buffer_bytes: int = DEFAULT_BUFFER_BYTES


class View(Protocol):
    """Something that shows a capture while it runs."""

    def show(self, windows: LiveWindows, source: Session) -> None:
        """Draw, if it is time to."""


@dataclass(frozen=True)
class Capture:
    """A finished capture: its analysis, and what the trace says of itself.

    status: how the command ended; None for attach. trace: where it is; None where it was not kept.
    """

    analysis: Analysis
    info: TraceInfo
    status: int | None
    trace: Path | None

    @property
    def ending(self) -> str:
        """How the command ended, in words; empty where there was none, or it goes on."""
        if self.status is None:
            return ""
        if 0 < self.status - 128 <= LINUX_COUNT:
            return f"ended by {name(self.status - 128, numbering(platform.system().lower()))}"
        return f"exited with {self.status}"


def record(
    request: Request,
    *,
    say: Callable[[str], object] = lambda _: None,
    begun: Callable[[TraceInfo, Path | None], object] = lambda *_: None,
    view: Callable[[], AbstractContextManager[View]] | None = None,
) -> Capture:
    """Trace what the request names until it ends, is stopped, or its time is over.

    say: told in a sentence what happens until the capture has begun. begun: called once nothing is missed any more,
    with what the trace says of itself, and where it is. view: opens something that shows what happens from then on.
    Raises UsageError for a request that can't be met, CannotTraceError where tracing is not possible.
    """
    question = request.question
    question.considered(numbering(platform.system().lower()))  # may be a signal of another system
    target = _target(request)
    options = _options(request)
    backend, remark = backends.choose(request.backend, target, options)
    if request.keep and not request.output and not os.access(".", os.W_OK | os.X_OK):
        raise UsageError("the working directory, where the trace would go, can't be written to: give -o, or --no-trace")
    if remark:
        say(remark)
    say(backend.beginning)

    from sigwindow.analysis.engine.glance import LiveWindows
    from sigwindow.collector import tracefile

    LiveWindows(question)  # the first one loads what is compiled: now, and not while events wait for it
    with ExitStack() as stack:
        session = stack.enter_context(backend.open(target, options))
        how = {"ready": question.ready, "signals": question.signals}
        info = replace(session.info, options={**how, **session.info.options})
        windows = LiveWindows(question, info.numbering.system)
        sinks: list[Sink] = [lambda batch: windows.feed(batch) if batch.num_rows else None]
        trace = request.output or (_own_name(target, session) if request.keep else None)
        if trace:
            file = stack.enter_context(files.growing(trace, force=request.force))
            sinks.append(stack.enter_context(tracefile.Writer(file, info)).write)
        begun(info, trace)
        if request.until_eof:
            threading.Thread(target=_stop_at_eof, args=(session,), daemon=True).start()
        stack.enter_context(_ended_by_signals(session))
        if view:
            shown = stack.enter_context(view())
            sinks.append(lambda _: shown.show(windows, session))
        pump(session, sinks)
    return Capture(windows.result(), info, session.status, trace)


def _target(request: Request) -> Target:
    pids = tuple(dict.fromkeys(map(procfs.pid_of, request.pids)))
    if request.comm is not None:
        pids = tuple(pid for pid, name in procfs.processes() if name == request.comm and pid != os.getpid())
        if not pids:
            raise UsageError(f"no process is named {request.comm!r}")
    return Target(tuple(request.argv), pids, request.everything)


def _options(request: Request) -> Options:
    policy, _, mark = request.question.ready.partition(":")
    if policy == "symbol" and not mark:
        raise UsageError("--ready symbol:NAME needs the name of a function")
    return Options(request.follow, request.stacks, mark, request.buffer_bytes, request.duration_s)


def _own_name(target: Target, session: Session) -> Path:
    """What the trace is called where it was not named."""
    pid = session.pid or (target.pids[0] if target.pids else os.getpid())
    name = "all" if target.everything else os.path.basename(target.argv[0]) if target.argv else procfs.name_of(pid)
    return files.kept_name(name, pid)


@contextmanager
def _ended_by_signals(session: Session) -> Iterator[None]:
    """Ctrl-C and SIGTERM end an attach; a command gets them itself, and the capture ends with it."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if session.pid is None:
            session.stop()
        elif number == signal.SIGTERM:
            os.kill(session.pid, signal.SIGTERM)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop_at_eof(session: Session) -> None:
    """Wait until whoever holds the other end of our standard input lets go of it."""
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    session.stop()
