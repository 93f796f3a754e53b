"""What `run` and `attach` do alike: a capture that tells how it goes, to a person or to the program that started it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sigwindow import capture, control, gates
from sigwindow.terminal import streams

from .answer import Answer
from .options import AnswerOptions, CaptureOptions

if TYPE_CHECKING:
    from sigwindow.probes.traceinfo import TraceInfo


def captured(
    request: capture.Request, options: CaptureOptions, answering: AnswerOptions, exit_code: bool | None = None
) -> int:
    """Record what is requested, answer, and return the exit code.

    A command that is run keeps standard output to itself, as under `time` or `strace`: whoever pipes what it writes
    gets that and nothing else. But for JSON that is asked for there, the answer goes to standard error.
    exit_code: whether its own status counts; None: where there are gates, since nobody wants to see a suite that
    crashed pass for its threads' sake.
    """
    if options.status_fd == 1 and answering.json_to_stdout:
        raise click.UsageError("--json - and --status-fd 1 would both go to standard output: give one another way")
    with control.telling(options.status_fd) as status:
        runs = bool(request.argv)
        taken = runs or options.status_fd == 1
        answer = Answer(answering, request.output, taken=taken, of_command=runs and exit_code is not False)

        def say(text: str) -> None:
            if options.status_fd is None:
                answer.streams.hint(text)

        def begun(info: TraceInfo, trace: Path | None) -> None:
            status.started(info, trace)
            if not runs:
                pids = info.targets
                say(f"tracing process {pids[0]}" if len(pids) == 1 else f"tracing {len(pids) or 'all'} processes")

        is_watched = options.live and not answering.quiet and options.status_fd is None
        view = _view_of(of_command=runs) if is_watched else None
        with streams.kept_clear() if answering.json_to_stdout else nullcontext():
            found = capture.record(request, say=say, begun=begun, view=view)
        command = None
        if found.status is not None:
            ending = f"{request.argv[0]} {found.ending}"
            say(ending)
            command = gates.of_command(ending, found.status) if answer.judges_command else None
        code = answer.summary(found.analysis, found.info, command)
        if command or exit_code:
            code = max(code, found.status or 0)
        if found.trace and not request.output:
            say(f"the trace is {found.trace}; a page of it: sigwindow report --last -o report.html")
        status.ended(code)
    return code


def _view_of(*, of_command: bool) -> Callable[[], AbstractContextManager[capture.View]]:
    """What opens the live view, which is loaded then."""

    @contextmanager
    def opened() -> Iterator[capture.View]:
        from sigwindow.terminal import view

        with view.view(of_command=of_command) as shown:
            yield shown

    return opened
