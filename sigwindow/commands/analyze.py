"""`sigwindow analyze`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sigwindow.analysis.export import BINARY, FORMATS

from . import completion, options
from .options import AnswerOptions

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

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


@click.command(short_help="Say what happened to every thread.")
@options.question
@options.answering
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", *FORMATS]),
    default="table",
    show_default=True,
    help=f"table and json are the summary, {' and '.join(FORMATS)} one row a thread.",
)
@click.option("-o", "--output", type=options.PATH, callback=options.file_or_none, help="Write to this file.")
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
@click.argument("traces", metavar="TRACE...", nargs=-1, shell_complete=completion.files)
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
    from sigwindow.probes.errors import InputError
    from sigwindow.terminal import progress, streams

    from . import answer as answers

    _refuse_contradictions(form, output, by or rates, dask, answering)
    names = fleet.expand(options.named(traces, last))
    answer = answers.Answer(answering, output, names, taken=form != "table" and output is None)
    tables: list[Drawn] = []
    with progress.shown(quiet=answering.quiet) as bar:
        if form in FORMATS:
            found = _exported(names, form, output, question, bar, force=answering.force)
        elif by or rates:
            found, tables = _with_tables(names, by, rates, question, bar)
        else:
            found = _measured(names, dask, question, bar)
    unreadable = [(one.name, one.error) for one in found if not one.totals]
    for _, error in unreadable:
        streams.error(error)

    total, info = fleet.total(found, question)
    summary = summaries.summarise(total, info)
    files = [
        {"file": one.name, **summaries.summarise(one.totals, one.info)} for one in found if one.totals and one.info
    ]
    several = len(names) > 1
    told = summaries.batch(files, unreadable, summary) if several else summary
    if files or several:
        answer.json(told)
    if form == "json" and (files or several):
        answers.write(output, summaries.to_json(told), force=answering.force)
    if form == "table" and files:
        shown = _shown(summary, total, info, files if several else [], tables)
        if output is None:
            answer.streams.show(shown)
        else:
            _draw(shown, output, force=answering.force)
    outcomes = [outcome for one in found if one.totals for outcome in answer.gates.judge(one.name, one.totals)]
    return answer.code(outcomes, unreadable) or (InputError.exit_code if unreadable else 0)


def _refuse_contradictions(
    form: str, output: Path | None, asks_tables: object, dask: str | None, answering: AnswerOptions
) -> None:
    """Raise UsageError for options that would not have what they ask for."""
    if form in BINARY and output is None:
        raise click.UsageError(f"--format {form} needs -o FILE")
    if form != "table" and asks_tables:
        raise click.UsageError(f"--by and --rate add tables to the answer in words: --format {form} has none")
    if dask is not None and (form in FORMATS or asks_tables):
        raise click.UsageError(f"--dask gives summaries: not {', '.join(FORMATS)}, --by or --rate")
    if form != "table" and output is None and answering.json_to_stdout:
        raise click.UsageError(f"--json - and --format {form} would both go to standard output: give one a file")


def _exported(
    names: Sequence[str], form: str, output: Path | None, question: Question, bar: Progress, *, force: bool
) -> list[Measured]:
    """The totals of every file, whose threads are written on the way."""
    from sigwindow import fleet
    from sigwindow.analysis.export import Threads
    from sigwindow.collector import files
    from sigwindow.terminal import progress, streams

    with (
        files.replacing(output, force=force) if output else streams.binary() as file,
        Threads(form, file, several=len(names) > 1) as threads,
    ):
        return [fleet.write_threads(name, question, threads, told) for name, told in progress.each(bar, names)]


def _measured(names: Sequence[str], dask: str | None, question: Question, bar: Progress) -> list[Measured]:
    """The totals of every file."""
    from sigwindow import fleet
    from sigwindow.terminal import progress

    if dask is not None:
        task = bar.add_task("files", total=len(names))
        return fleet.measure_with_dask(names, question, address=dask or None, done=lambda: bar.advance(task))
    return [fleet.measure(name, question, told) for name, told in progress.each(bar, names)]


def _with_tables(
    names: Sequence[str], by: Sequence[str], rates: Sequence[str], question: Question, bar: Progress
) -> tuple[list[Measured], list[Drawn]]:
    """The totals of every file, and the tables that need its threads in memory."""
    from sigwindow import fleet
    from sigwindow.analysis import risk, sheets, statistics
    from sigwindow.probes.errors import InputError
    from sigwindow.terminal import progress
    from sigwindow.terminal.draw import Drawn

    found, tables = [], []
    for name, told in progress.each(bar, names):
        try:
            analysis, info = fleet.analyse(name, question, told)
        except InputError as error:
            found.append(fleet.Measured(name, error=str(error)))
            continue
        found.append(fleet.Measured(name, analysis.totals, info))
        of = f" of {name}" if len(names) > 1 else ""
        if by and len(analysis.threads):
            threads = analysis.threads
            if "name" in by:  # for the eye: the names of a pool are one row
                threads = threads.assign(comm=statistics.name_groups(threads["comm"]))
            groups = statistics.by(threads, by, [info.clock_to_wall_ns], analysis.leaders, analysis.known)
            tables.append(Drawn(sheets.groups(groups, f"by {' and '.join(by)}{of}")))
        if rates:
            given = risk.parse_rates(rates, analysis.numbering)
            tables.append(Drawn(sheets.risks(risk.risk(analysis, given), f"{risk.TITLE}{of}")))
    return found, tables


def _shown(
    summary: dict[str, Any], totals: Totals, info: TraceInfo, files: list[dict[str, Any]], tables: Sequence[Drawn]
) -> RenderableType:
    """The summary of all files, below a table of the files and above the tables that were asked for."""
    from rich.console import Group

    from sigwindow.analysis import sheets
    from sigwindow.analysis.findings.check import check
    from sigwindow.terminal import render

    several = [sheets.batch([one["file"] for one in files], files, summary)] if files else []
    below = [part for table in tables for part in ("", table)]
    return Group(render.summary(summary, totals, several, check(totals, info)), *below)


def _draw(shown: RenderableType, output: Path, *, force: bool) -> None:
    """Write an answer in words to a file."""
    from sigwindow.collector import files
    from sigwindow.terminal import draw

    with files.text(output, force=force) as file:
        draw.console(file).print(shown)
