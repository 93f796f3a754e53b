"""`sigwindow plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sigwindow.analysis.captions import CAPTIONS

from . import completion, options

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


_FIGURES = tuple(CAPTIONS)
_HELP = f"""Draw KIND from TRACE.

KIND is {", ".join(_FIGURES[:-1])} or {_FIGURES[-1]}; or compare, which takes two traces, BASE and NEW. The latter may
be --last.
"""


@click.command(short_help="Draw a figure.", help=_HELP)
@click.option("-o", "--output", type=options.PATH, required=True, help="The figure: .png, .svg or .pdf.")
@options.question
@options.force
@options.quiet
@click.argument("kind", metavar="KIND", type=click.Choice([*_FIGURES, "compare"]))
@options.last
@click.argument("traces", metavar="TRACE", nargs=-1, shell_complete=completion.files)
def plot(
    kind: str, traces: Sequence[str], output: Path, last: bool, force: bool, quiet: bool, question: Question
) -> None:
    """Draw one trace, or two beside each other."""
    from sigwindow import fleet
    from sigwindow.analysis import plots
    from sigwindow.collector import files
    from sigwindow.terminal import progress

    traces = options.named(traces, last, two=kind == "compare")
    if kind != "compare" and len(traces) > 1:
        raise click.UsageError(f"plot {kind} takes one trace")
    form = output.suffix.lower().removeprefix(".")
    if form not in ("png", "svg", "pdf"):
        raise click.UsageError(f"{output}: a figure is a .png, .svg or .pdf file")
    files.check([output], traces, force=force)
    with progress.shown(quiet=quiet) as bar:
        read = [fleet.analyse(trace, question, told) for trace, told in progress.each(bar, traces)]
    found, infos = zip(*read, strict=True)
    if kind == "compare":
        axes = plots.compare(found[0], found[1], labels=(Path(traces[0]).stem, Path(traces[1]).stem), infos=infos)
    else:
        axes = plots.KINDS[kind](found[0], info=infos[0])
    figure = axes.get_figure(root=True)
    assert figure is not None
    with files.replacing(output, force=force) as file:
        figure.savefig(file, format=form, bbox_inches="tight", dpi=150)
