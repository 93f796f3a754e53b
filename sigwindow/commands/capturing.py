"""What `run` and `attach` do alike: a capture that tells how it goes, to a person or to the program that started it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from sigwindow import capture, control
from sigwindow.probes.text import printable

from .answer import Answer
from .options import AnswerOptions, CaptureOptions

if TYPE_CHECKING:
    from sigwindow.probes.traceinfo import TraceInfo


def captured(
    request: capture.Request, options: CaptureOptions, answering: AnswerOptions, to: TextIO
) -> tuple[capture.Capture, int]:
    """Record what is requested, and answer on the stream `to`. Returns the capture and the gates' exit code."""
    with control.telling(options.status_fd) as status:
        answer = Answer(answering, request.output)

        def say(text: str) -> None:
            if options.status_fd is None:
                click.secho(f"[sigwindow] {printable(text)}", err=True, dim=True)

        def begun(info: TraceInfo, trace: Path | None) -> None:
            status.started(info, trace)
            if not request.argv:
                pids = info.targets
                say(f"tracing process {pids[0]}" if len(pids) == 1 else f"tracing {len(pids) or 'all'} processes")

        is_watched = options.live and options.status_fd is None
        view = _view_of(of_command=bool(request.argv)) if is_watched else None
        found = capture.record(request, say=say, begun=begun, view=view)
        out = sys.stderr if options.status_fd == 1 else to
        if found.status is not None:
            how = f"exited with {found.status}" if found.status < 128 else f"was ended by signal {found.status - 128}"
            say(f"{request.argv[0]} {how}")
        code = answer.summary(found.analysis, found.info, out)
        if found.trace and not request.output:
            click.echo(f"[sigwindow] the trace is {found.trace}", err=True)
        status.ended(code)
    return found, code


def _view_of(*, of_command: bool) -> Callable[[], AbstractContextManager[capture.View]]:
    """What opens the live view, which is loaded then."""

    @contextmanager
    def opened() -> Iterator[capture.View]:
        from sigwindow.terminal import view

        with view.view(of_command=of_command) as shown:
            yield shown

    return opened
