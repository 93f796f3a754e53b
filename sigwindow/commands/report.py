"""`sigwindow report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command()
@click.option("-o", "--output", type=options.PATH, required=True, help="The page to write.")
@options.question
@options.rates
@options.force
@options.last
@click.argument("traces", metavar="TRACE...", nargs=-1)
def report(
    traces: Sequence[str], output: Path, rates: Sequence[str], last: bool, force: bool, question: Question
) -> None:
    """Write one self-contained HTML page about TRACE files."""
    from sigwindow import fleet
    from sigwindow.analysis import risk
    from sigwindow.analysis.report import page as reports
    from sigwindow.collector import files

    from . import answer

    names = fleet.expand(options.named(traces, last))
    files.check([output], names, force=force)
    found = [(name, *fleet.analyse(name, question)) for name in names]
    page = reports.report(found, lambda of: risk.risk(of, risk.parse_rates(rates, of.numbering)))
    answer.write(output, page, force=force)
