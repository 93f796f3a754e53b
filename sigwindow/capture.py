"""From a request to a recorded and analysed session: what `run` and `attach` have in common."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from sigwindow.analysis.engine.glance import LiveWindows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.collector import files, procfs, tracefile
from sigwindow.collector.command import Command
from sigwindow.collector.external import ExternalSession
from sigwindow.collector.session import Session
from sigwindow.collector.strace import live as strace
from sigwindow.probes import dtrace, preflight
from sigwindow.probes.bcc import loader as bcc
from sigwindow.probes.errors import CannotTraceError, UsageError
from sigwindow.probes.traceinfo import TraceInfo
from sigwindow.terminal import view as live

BEGUN = "[sigwindow] tracing"  # told on standard error by an attach, once nothing is missed any more


@dataclass(frozen=True)
class Request:
    """What to capture and how to read it; the fields are the options of the command line.

    One of argv (a command to run), pids, comm (all processes of that name) or everything says what to trace.
    """

    argv: Sequence[str] = ()
    pids: Sequence[int] = ()
    comm: str | None = None
    everything: bool = False
    output: Path | None = None
    force: bool = False
    duration_s: float | None = None
    until_eof: bool = False
    backend: str = "auto"
    ready: str = "auto"
    signals: str = "async"
    follow: bool = True
    stacks: bool = False
    buffer_bytes: int = bcc.DEFAULT_BUFFER_BYTES
    live: bool = True  # show what happens meanwhile


class _Stoppable(Protocol):
    """A session of any backend, as far as ending it goes."""

    def stop(self) -> None:
        """End it at its next poll."""


@dataclass(frozen=True)
class Capture:
    """A finished capture: its analysis, what the trace says of itself, and how the command ended (None for attach)."""

    analysis: Analysis
    info: TraceInfo
    status: int | None


def _targets(request: Request) -> list[int]:
    if request.comm is not None:
        pids = [pid for pid, name in procfs.processes() if name == request.comm and pid != os.getpid()]
        if not pids:
            raise UsageError(f"no process is named {request.comm!r}")
        return pids
    for pid in request.pids:
        if not procfs.is_alive(pid):
            raise UsageError(f"no process with PID {pid}")
    return list(dict.fromkeys(request.pids))


def _mark(request: Request, pids: Sequence[int]) -> tuple[str, str] | None:
    """The binary and the function whose return means ready, under `--ready symbol:NAME`."""
    policy, _, symbol = request.ready.partition(":")
    if policy != "symbol":
        return None
    if not symbol:
        raise UsageError("--ready symbol:NAME needs the name of a function")
    binary = shutil.which(request.argv[0]) if request.argv else f"/proc/{pids[0]}/exe" if pids else None
    if binary is None:
        raise UsageError("--ready symbol:NAME needs a command or a PID, to know in which program the function is")
    return os.path.realpath(binary), symbol


@contextmanager
def _ended_by_signals(session: _Stoppable, command: Command | None) -> Iterator[None]:
    """Ctrl-C and SIGTERM end an attach; a command gets them itself, and the capture ends with it."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if command is None:
            session.stop()
        elif number == signal.SIGTERM:
            os.kill(command.pid, signal.SIGTERM)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop_at_eof(session: _Stoppable) -> None:
    """Wait until whoever holds the other end of our standard input lets go of it."""
    while os.read(sys.stdin.fileno(), 1 << 12):
        pass
    session.stop()


def _backend(request: Request) -> str:
    """What records the events: as asked, or the best that works here; says so where that is not eBPF."""
    if request.backend != "auto":
        return request.backend
    if platform.system() != "Linux":
        return "dtrace"
    try:
        preflight.require()
    except CannotTraceError as error:
        only_bcc = request.everything or request.comm or request.stacks or request.ready.startswith("symbol")
        if only_bcc or not shutil.which("strace"):
            raise
        why = str(error).partition("\n")[2].strip().partition("\n")[0]
        print(
            f"[sigwindow] no eBPF here ({why}): strace traces instead. It stops threads at every call, which stretches "
            "the windows. `sigwindow doctor` says what eBPF needs.",
            file=sys.stderr,
        )
        return "strace"
    return "bcc"


def _with_bcc(request: Request, pids: Sequence[int], command: Command | None, stack: ExitStack) -> Session:
    options = bcc.Options(
        everything=request.everything,
        follow=request.follow,
        stacks=request.stacks,
        buffer_bytes=request.buffer_bytes,
        mark=_mark(request, pids),
    )
    probes = bcc.Probes(options)
    stack.callback(probes.close)
    return Session(probes, pids=pids, command=command, duration_s=request.duration_s)


def _with_dtrace(request: Request, pids: Sequence[int], command: Command | None) -> ExternalSession:
    if command is None and len(pids) != 1:
        raise UsageError("--backend dtrace watches one process: give a command or one PID")
    watched = command.pid if command else pids[0]
    argv = dtrace.command(watched, attaches=command is None)
    return ExternalSession(argv, dtrace.READY, command=command, duration_s=request.duration_s)


def _with_strace(request: Request, pids: Sequence[int], stack: ExitStack) -> strace.Live:
    if request.everything:
        raise UsageError("--backend strace can't trace every process: give a command or PIDs")
    session = strace.Live(argv=request.argv, pids=pids, follow=request.follow, duration_s=request.duration_s)
    stack.callback(session.close)
    return session


def record(request: Request) -> Capture:
    """Trace what the request names until it ends, is stopped, or its time is over.

    Raises UsageError for a request that can't be met, CannotTraceError where tracing is not possible.
    """
    question = Question.parse(request.ready, request.signals)  # what is wrong is told before anything is started
    windows = LiveWindows(question)
    backend = _backend(request)
    if backend != "bcc" and (request.stacks or request.ready.startswith("symbol")):
        raise UsageError(f"--stacks and --ready symbol:NAME need eBPF: --backend {backend} has neither")
    with ExitStack() as stack:
        pids = _targets(request)
        command = Command(request.argv) if request.argv and backend != "strace" else None
        if command:
            stack.callback(command.close)
        session: Session | ExternalSession | strace.Live
        if backend == "bcc":
            session = _with_bcc(request, pids, command, stack)
        elif backend == "dtrace":
            session = _with_dtrace(request, pids, command)
        else:
            session = _with_strace(request, pids, stack)
        info = TraceInfo.here(
            backend,
            command=request.argv,
            targets=pids,
            options={"ready": request.ready, "signals": request.signals, "follow": request.follow},
        )
        writer = None
        if request.output:
            file = stack.enter_context(files.growing(request.output, force=request.force))
            writer = stack.enter_context(tracefile.Writer(file, info))
        if request.until_eof:
            threading.Thread(target=_stop_at_eof, args=(session,), daemon=True).start()
        begun = bool(request.argv)
        with (
            _ended_by_signals(session, command),
            live.view(of_command=bool(request.argv)) if request.live else nullcontext() as view,
        ):
            for batch in session:
                if not begun:
                    which = f"process {pids[0]}" if len(pids) == 1 else f"{len(pids) or 'all'} processes"
                    print(f"{BEGUN} {which}", file=sys.stderr, flush=True)
                    begun = True
                if writer:
                    writer.write(batch)
                if batch.num_rows:
                    windows.feed(batch)
                if view:
                    view.show(windows, session)
        status = command.status if command else session.status if isinstance(session, strace.Live) else None
        return Capture(windows.result(), info, status)
