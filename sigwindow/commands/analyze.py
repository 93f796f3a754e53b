"""`sigwindow analyze`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sigwindow.analysis.export import FORMATS

from . import options
from .options import AnswerOptions

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sigwindow.analysis.question import Question
    from sigwindow.analysis.totals import Totals
    from sigwindow.fleet import Measured
    from sigwindow.probes.traceinfo import TraceInfo
    from sigwindow.terminal.draw import Drawn


def _scheduler(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address of a Dask scheduler; click would take the first file for one."""
    if value and not re.fullmatch(r"\w+://.+|[^/]+:\d+", value):
        raise click.BadParameter(
            f"{value!r} is no address such as tcp://host:8786. Put --dask behind the files", ctx, param
        )
    return value


@click.command()
@options.question
@options.answering
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", *FORMATS]),
    default="table",
    show_default=True,
    help="table and json are the summary, csv and parquet one row a thread.",
)
@click.option("-o", "--output", type=options.PATH, help="Write to this file.")
@click.option(
    "--by",
    type=click.Choice(["process", "name", "creator", "hour", "stack"]),
    multiple=True,
    help="Add a table of the threads by this; given twice, by both.",
)
@options.rates
@click.option(
    "--dask",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    callback=_scheduler,
    help="Read the files on a Dask cluster: the one at ADDRESS, or one started here.",
)
@options.last
@click.argument("traces", metavar="TRACE...", nargs=-1)
def analyze(
    traces: Sequence[str],
    form: str,
    output: Path | None,
    by: tuple[str, ...],
    rates: Sequence[str],
    dask: str | None,
    last: bool,
    question: Question,
    answering: AnswerOptions,
) -> int:
    """Read TRACE files and say what happened to every thread.

    TRACE is a file, a folder, a pattern in quotes, or a URL of one of them (a folder's ends in /). A file that can't
    be read is told, and the others go on.
    """
    from sigwindow import fleet
    from sigwindow.analysis import summary as summaries

    from . import answer as answers

    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE")
    if dask is not None and (form in FORMATS or by or rates):
        raise click.UsageError("--dask gives summaries: not csv, parquet, --by or --rate")
    names = fleet.expand(options.named(traces, last))
    answer = answers.Answer(answering, output, names)
    tables: list[Drawn] = []
    if form in FORMATS:
        found = _exported(names, form, output, question, force=answering.force)
    elif by or rates:
        found, tables = _with_tables(names, by, rates, question)
    else:
        found = _measured(names, dask, question)
    unreadable = [(one.name, one.error) for one in found if not one.totals]
    for _, error in unreadable:
        click.echo(f"sigwindow: {error}", err=True)

    everything, common = fleet.total(found, question)
    summary = summaries.summarise(everything, common)
    files = [
        {"file": one.name, **summaries.summarise(one.totals, one.info)} for one in found if one.totals and one.info
    ]
    told = summary if len(names) == 1 else summaries.batch(files, unreadable, summary)
    if files or len(names) > 1:
        answer.json(told)
        if form == "json":
            answers.write(output, summaries.to_json(told), force=answering.force)
    if form == "table" and files:
        with answers.opened(output, force=answering.force) as file:
            _show(summary, everything, common, files if len(names) > 1 else [], tables, file)
    outcomes = [outcome for one in found if one.totals for outcome in answer.gates.judge(one.name, one.totals)]
    return answer.code(outcomes, unreadable) or (4 if unreadable else 0)


def _exported(
    names: Sequence[str], form: str, output: Path | None, question: Question, *, force: bool
) -> list[Measured]:
    """The totals of every file, whose threads are written on the way."""
    from sigwindow import fleet
    from sigwindow.analysis.export import Threads
    from sigwindow.collector import files

    with (
        files.replacing(output, force=force) if output else nullcontext(sys.stdout.buffer) as file,
        Threads(form, file, several=len(names) > 1) as threads,
    ):
        return [fleet.write_threads(name, question, threads) for name in names]


def _measured(names: Sequence[str], dask: str | None, question: Question) -> list[Measured]:
    """The totals of every file, with a progress bar on a terminal."""
    from sigwindow import fleet
    from sigwindow.terminal import render

    with render.progress() as bar:
        if dask is not None:
            task = bar.add_task("files", total=len(names))
            return fleet.measure_with_dask(names, question, address=dask or None, done=lambda: bar.advance(task))
        found = []
        for number, name in enumerate(names, 1):
            task = bar.add_task(f"file {number} of {len(names)}", total=None)
            found.append(fleet.measure(name, question, progress=partial(_advance, bar, task)))
            bar.remove_task(task)
        return found


def _advance(bar: Progress, task: TaskID, done: int, size: int) -> None:
    bar.update(task, completed=done, total=size)


def _with_tables(
    names: Sequence[str], by: Sequence[str], rates: Sequence[str], question: Question
) -> tuple[list[Measured], list[Drawn]]:
    """The totals of every file, and the tables that need its threads in memory."""
    from sigwindow import fleet
    from sigwindow.analysis import risk, sheets, statistics
    from sigwindow.probes.errors import InputError
    from sigwindow.terminal.draw import Drawn

    found, tables = [], []
    for name in names:
        try:
            analysis, info = fleet.analyse(name, question)
        except InputError as error:
            found.append(fleet.Measured(name, error=str(error)))
            continue
        found.append(fleet.Measured(name, analysis.totals, info))
        of = f" of {name}" if len(names) > 1 else ""
        if by:
            groups = statistics.by(analysis.threads, by, [info.clock_to_wall_ns], analysis.leaders)
            tables.append(Drawn(sheets.groups(groups, f"by {' and '.join(by)}{of}")))
        if rates:
            given = risk.parse_rates(rates, analysis.numbering)
            tables.append(Drawn(sheets.risks(risk.risk(analysis, given), f"{risk.TITLE}{of}")))
    return found, tables


def _show(
    summary: dict[str, Any],
    totals: Totals,
    info: TraceInfo,
    files: list[dict[str, Any]],
    tables: Sequence[Drawn],
    to: Any,
) -> None:
    """The summary of all files, below a table of the files and above the tables that were asked for."""
    from sigwindow.analysis import sheets
    from sigwindow.analysis.findings.check import check
    from sigwindow.terminal import draw, render

    console = draw.console(to)
    several = [sheets.batch([one["file"] for one in files], files, summary)] if files else []
    console.print(render.summary(summary, totals.worst, several, check(totals, info)))
    for table in tables:
        console.print("", table)
