"""`sigwindow run`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import options
from .options import AnswerOptions, CaptureOptions

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command(short_help="Launch a command and trace it.", context_settings={"allow_interspersed_args": False})
@options.capturing
@options.question
@options.answering
@click.option("--follow/--no-follow", default=True, show_default=True, help="Trace the command's descendants, too.")
@click.option(
    "--exit-code/--no-exit-code",
    default=None,
    help="End with the command's own exit status, unless the gates' is larger; by default with gates only.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    command: Sequence[str],
    follow: bool,
    exit_code: bool | None,
    capturing: CaptureOptions,
    question: Question,
    answering: AnswerOptions,
) -> int:
    """Launch COMMAND and trace it from its first instruction."""
    from dataclasses import replace

    from .capturing import captured

    request = capturing.request(question, answering, follow=follow)
    return captured(replace(request, argv=command), capturing, answering, exit_code)
