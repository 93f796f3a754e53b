"""`sigwindow compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from . import completion, options
from .options import ComparisonOptions

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command(short_help="Say whether one trace is worse than another.")
@options.question
@options.answering_comparison
@options.last
@click.argument("base", shell_complete=completion.files)
@click.argument("new", required=False, shell_complete=completion.files)
def compare(base: str, new: str | None, last: bool, question: Question, answering: ComparisonOptions) -> int:
    """Say whether the windows of the trace NEW are worse than those of BASE, and whether that is more than chance."""
    from sigwindow import fleet
    from sigwindow.analysis import compare as comparing
    from sigwindow.terminal import progress, render

    from .answer import Answer

    base, new = options.named([base, *([new] if new else [])], last, two=True)
    answer = Answer(answering, inputs=(base, new))
    with progress.shown(quiet=answering.quiet) as bar:
        before, after = (fleet.analyse(name, question, told)[0] for name, told in progress.each(bar, (base, new)))
    comparison = comparing.compare(before, after)
    answer.streams.show(render.comparison(comparison))
    answer.json(comparison.to_dict())
    return answer.code(answer.gates.compare(new, before.totals, after.totals, comparison))
