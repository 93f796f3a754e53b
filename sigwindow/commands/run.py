"""`sigwindow run`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import options
from .options import AnswerOptions, CaptureOptions

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command(context_settings={"allow_interspersed_args": False})
@options.capturing
@options.question
@options.answering
@click.option("--follow/--no-follow", default=True, show_default=True, help="Trace the command's descendants, too.")
@click.option("--exit-code", is_flag=True, help="End with the command's own exit status.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: Sequence[str],
    follow: bool,
    exit_code: bool,
    capturing: CaptureOptions,
    question: Question,
    answering: AnswerOptions,
) -> int:
    """Launch COMMAND and trace it from its first instruction."""
    from dataclasses import replace

    from sigwindow import capture
    from sigwindow.terminal import draw

    from .answer import Answer

    answer = Answer(answering, capturing.output)
    request = capturing.request(question, follow=follow, force=answering.force)
    captured = capture.record(replace(request, argv=command))
    if captured.status is not None:
        how = (
            f"exited with {captured.status}"
            if captured.status < 128
            else f"was ended by signal {captured.status - 128}"
        )
        draw.console(sys.stderr).print(f"[sigwindow] {command[0]} {how}", style="dim")
    code = answer.summary(captured.analysis, captured.info, to=sys.stderr)
    return code or (captured.status or 0 if exit_code else 0)
