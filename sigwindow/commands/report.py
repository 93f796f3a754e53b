"""`sigwindow report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import completion, options

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command(short_help="Write one self-contained HTML page.")
@click.option(
    "-o", "--output", type=options.PATH, callback=options.file_or_none, required=True, help="The page to write."
)
@options.question
@options.rates
@options.force
@options.quiet
@options.last
@click.argument("traces", metavar="TRACE...", nargs=-1, shell_complete=completion.files)
def report(
    traces: Sequence[str],
    output: Path | None,
    rates: Sequence[str],
    last: bool,
    force: bool,
    quiet: bool,
    question: Question,
) -> None:
    """Write one self-contained HTML page about TRACE files."""
    from sigwindow import fleet
    from sigwindow.analysis import risk
    from sigwindow.analysis.report import page as reports
    from sigwindow.collector import files
    from sigwindow.terminal import progress

    from . import answer

    names = fleet.expand(options.named(traces, last))
    files.check(filter(None, [output]), names, force=force)
    with progress.shown(quiet=quiet) as bar:
        found = ((name, *fleet.analyse(name, question, told)) for name, told in progress.each(bar, names))
        page = reports.report(found, lambda of: risk.risk(of, risk.parse_rates(rates, of.numbering)))
    answer.write(output, page, force=force)
