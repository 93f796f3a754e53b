"""`sigwindow attach`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import completion, options
from .options import AnswerOptions, CaptureOptions

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command(short_help="Trace live processes.")
@options.capturing
@options.question
@options.answering
@click.option(
    "--follow/--no-follow", default=False, show_default=True, help="Trace the processes' new descendants, too."
)
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends: for programs that start this one.")
@click.option("--all", "everything", is_flag=True, help="Trace every process.")
@click.option("--comm", shell_complete=completion.names, help="Trace all processes of this name.")
@click.argument("pids", metavar="PID...", nargs=-1, shell_complete=completion.processes)
def attach(
    pids: Sequence[str],
    comm: str | None,
    everything: bool,
    until_eof: bool,
    follow: bool,
    capturing: CaptureOptions,
    question: Question,
    answering: AnswerOptions,
) -> int:
    """Trace live processes until Ctrl-C, their end, or --duration."""
    from dataclasses import replace

    from .capturing import captured

    if (bool(pids) + (comm is not None) + everything) != 1:
        raise click.UsageError("give one of: PIDs, --comm NAME, --all")
    request = capturing.request(question, answering, follow=follow)
    request = replace(request, pids=pids, comm=comm, everything=everything, until_eof=until_eof)
    return captured(request, capturing, answering)
