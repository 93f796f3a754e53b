"""The command line. A command checks its options, calls the parts, and hands the result to a renderer.

Heavy packages (pandas, pyarrow, matplotlib) are imported inside the commands that need them: `--help` is instant.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sigwindow.analysis.question import Question

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sigwindow.analysis.result import Analysis
    from sigwindow.capture import Request
    from sigwindow.fleet import Measured
    from sigwindow.gates import Gates, Outcome
    from sigwindow.probes.traceinfo import TraceInfo

_F = TypeVar("_F", bound=Callable[..., Any])
_VERDICT_GATES = ("exposed", "hit", "critical")
_PATH = click.Path(path_type=Path, dir_okay=False)


class _Bytes(click.ParamType[int]):
    """A size such as 65536, 64K or 16M."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        digits, unit = (value[:-1], value[-1].upper()) if value[-1:].isalpha() else (value, "")
        if not digits.isdigit() or unit not in ("", "K", "M", "G") or not int(digits):
            self.fail(f"{value!r} is not a size: write for example 64K or 16M", param, ctx)
        return int(digits) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def _options(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    def add(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_force = click.option("--force", is_flag=True, help="Overwrite files that exist.")
_judging = _options(
    click.option(
        "--ready",
        default="auto",
        show_default=True,
        metavar="POLICY",
        help="When a thread is ready: auto, altstack, mask, steady or symbol:NAME.",
    ),
    click.option(
        "--signals",
        default="async",
        show_default=True,
        help="Signals that count: async, all, or names separated by commas.",
    ),
)


def _gating(*more: str) -> Callable[[_F], _F]:
    """The options of gates; `more`: what --fail-on takes besides verdicts."""
    return _options(
        click.option(
            "--fail-on",
            type=click.Choice([*_VERDICT_GATES, "lossy", *more]),
            help="Exit with 1 where a thread has this verdict or a worse one, with 4 where losses leave it open.",
        ),
        click.option(
            "--max-exposure",
            metavar="DURATION",
            help="Exit with 1 where a ready thread was exposed for longer, as in 20us.",
        ),
        click.option("--junit", type=_PATH, metavar="FILE", help="Write the gates' outcomes as a JUnit file."),
    )


_rates = click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="SIGNAL=HZ",
    help="Tell the risk at so many signals a second to an exposed thread, as in SIGPROF=100.",
)
_as_json = click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write the answer as JSON to this file (- for standard output).",
)
_reading = _options(_judging, _as_json, _gating(), _force)
_capturing = _options(
    click.option("-o", "--output", type=_PATH, help="Write the trace to this file (.arrows)."),
    click.option(
        "--duration",
        "duration_s",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Stop tracing after this time.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "bcc", "strace", "dtrace"]),
        default="auto",
        show_default=True,
        help="What records the events.",
    ),
    click.option("--live/--no-live", default=True, show_default=True, help="Show what happens meanwhile."),
    click.option("--stacks", is_flag=True, help="Record the creator's user stack at every birth."),
    click.option(
        "--buffer",
        "buffer_bytes",
        type=_Bytes(),
        default="16M",
        show_default=True,
        help="Size of the kernel's ring buffer.",
    ),
    _reading,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sigwindow")
def cli() -> None:
    """Find the threads that a signal can hit before they are ready for it."""


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(as_json: bool) -> int:
    """Say whether tracing works here, with what, and what to do where it does not."""
    from dataclasses import asdict

    from sigwindow.probes import preflight
    from sigwindow.terminal import draw, render

    found = preflight.checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    else:
        draw.console().print(render.checks(found))
    return 0 if preflight.can_trace(found) else 3


@cli.command(context_settings={"allow_interspersed_args": False})
@_capturing
@click.option("--follow/--no-follow", default=True, show_default=True, help="Trace the command's descendants, too.")
@click.option("--exit-code", is_flag=True, help="End with the command's own exit status.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: Sequence[str], exit_code: bool, **options: Any) -> int:
    """Launch COMMAND and trace it from its first instruction."""
    request = _request(options, argv=command)
    status, gate = _capture(request, options, to=sys.stderr)
    return gate or (status or 0 if exit_code else 0)


@cli.command()
@_capturing
@click.option(
    "--follow/--no-follow", default=False, show_default=True, help="Trace the processes' new descendants, too."
)
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends: for programs that start this one.")
@click.option("--all", "everything", is_flag=True, help="Trace every process.")
@click.option("--comm", help="Trace all processes of this name.")
@click.argument("pids", metavar="PID...", nargs=-1, type=click.IntRange(min=1))
def attach(pids: Sequence[int], comm: str | None, everything: bool, **options: Any) -> int:
    """Trace live processes until Ctrl-C, their end, or --duration."""
    if (bool(pids) + (comm is not None) + everything) != 1:
        raise click.UsageError("give one of: PIDs, --comm NAME, --all")
    request = _request(options, pids=pids, comm=comm, everything=everything)
    return _capture(request, options, to=sys.stdout)[1]


def _request(options: dict[str, Any], **what: Any) -> Request:
    from dataclasses import fields

    from sigwindow.capture import Request

    names = {field.name for field in fields(Request)}
    return Request(**{key: value for key, value in options.items() if key in names}, **what)


def _capture(request: Request, options: dict[str, Any], to: Any) -> tuple[int | None, int]:
    """Record, report to the stream `to`, and return the command's status and the gate's exit code."""
    from sigwindow import capture
    from sigwindow.terminal import draw

    gates = _gates(options)
    captured = capture.record(request)
    if captured.status is not None:
        how = (
            f"exited with {captured.status}"
            if captured.status < 128
            else f"was ended by signal {captured.status - 128}"
        )
        draw.console(to).print(f"[sigwindow] {request.argv[0]} {how}", style="dim")
    return captured.status, _report(captured.analysis, captured.info, gates, options, to)


def _report(analysis: Analysis, info: TraceInfo, gates: Gates, options: dict[str, Any], to: Any) -> int:
    """Print the summary, write it as JSON where asked, and answer for the gates."""
    from sigwindow.analysis import summary as summaries
    from sigwindow.terminal import draw, render

    summary = summaries.summarise(analysis.totals, info)
    draw.console(to).print(render.summary(summary, analysis.totals.worst))
    _write(options["json_file"], summaries.to_json(summary), options["force"])
    return _answer(gates.judge("capture", analysis.totals), options)


def _write(path: Path | None, text: str, force: bool) -> None:
    """Write a text to a file, to standard output for `-`, or nowhere."""
    from sigwindow import fleet

    if path is not None:
        with fleet.text_output(None if str(path) == "-" else path, force=force) as file:
            file.write(text)


def _gates(options: dict[str, Any]) -> Gates:
    """The gates that the options ask for; raises UsageError for what is wrong with them or with their files."""
    from sigwindow import gates
    from sigwindow.collector import tracefile

    for file in (options["json_file"], options["junit"]):  # told now, not when the work is done
        if file and str(file) != "-":
            tracefile.refuse_existing(file, force=options["force"])
    longest = options["max_exposure"]
    if options["junit"] and not (options["fail_on"] or longest):
        raise click.UsageError("--junit tells of gates: give --fail-on or --max-exposure, too")
    return gates.Gates(options["fail_on"], None if longest is None else gates.parse_duration(longest))


def _answer(outcomes: list[Outcome], options: dict[str, Any], unreadable: Sequence[tuple[str, str]] = ()) -> int:
    """Tell of gates that are not open, on standard error and in the JUnit file; returns the exit code."""
    from sigwindow import gates
    from sigwindow.probes.text import printable

    for trace, gate, state, message in outcomes:
        if state != "passed":
            what = "failed" if state == "failed" else "can't be answered"
            click.echo(f"sigwindow: {printable(trace)}: gate {gate} {what}: {message}", err=True)
    if options["junit"]:
        _write(options["junit"], gates.junit(outcomes, unreadable), options["force"])
    return gates.exit_code(outcomes)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the threads as JSON.")
@click.argument("pid", type=click.IntRange(min=1))
def inspect(pid: int, as_json: bool) -> None:
    """Show the signal masks of a live process's threads now, from /proc, with no probe."""
    from sigwindow.collector import procfs
    from sigwindow.terminal import draw, render

    threads = procfs.threads(pid)
    if as_json:
        click.echo(json.dumps([thread._asdict() for thread in threads], indent=2))
    else:
        draw.console().print(render.threads_now(threads))


def _scheduler(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address of a Dask scheduler; click would take the first file for one."""
    if value and not re.fullmatch(r"\w+://.+|[^/]+:\d+", value):
        raise click.BadParameter(
            f"{value!r} is no address such as tcp://host:8786. Put --dask behind the files", ctx, param
        )
    return value


@cli.command()
@_reading
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "parquet"]),
    default="table",
    show_default=True,
    help="table and json are the summary, csv and parquet one row a thread.",
)
@click.option("-o", "--output", type=_PATH, help="Write to this file.")
@click.option(
    "--by",
    type=click.Choice(["process", "name", "creator", "hour", "stack"]),
    help="Add a table of the threads by this.",
)
@_rates
@click.option(
    "--dask",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    callback=_scheduler,
    help="Read the files on a Dask cluster: the one at ADDRESS, or one started here.",
)
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
def analyze(traces: Sequence[str], form: str, output: Path | None, **options: Any) -> int:
    """Read TRACE files and say what happened to every thread.

    TRACE is a file, a folder, a pattern in quotes, or a URL of one of them (a folder's ends in /). A file that can't
    be read is told, and the others go on.
    """
    from sigwindow import fleet
    from sigwindow.analysis import sheets
    from sigwindow.analysis import summary as summaries
    from sigwindow.terminal import draw, render

    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE")
    if options["dask"] is not None and (form in ("csv", "parquet") or options["by"] or options["rates"]):
        raise click.UsageError("--dask gives summaries: not csv, parquet, --by or --rate")
    gates = _gates(options)
    names = fleet.expand(traces)
    question = Question.parse(options["ready"], options["signals"])
    extra: list[Any] = []
    if form in ("csv", "parquet"):
        found = fleet.write_threads(names, form, output, question, force=options["force"])
    elif options["by"] or options["rates"]:
        found, extra = _with_tables(names, options["by"], options["rates"], question)
    else:
        found = _measured(names, options["dask"], question)
    readable = [one for one in found if one.totals]
    unreadable = [(one.name, one.error) for one in found if not one.totals]
    for _, error in unreadable:
        click.echo(f"sigwindow: {error}", err=True)

    told = [summaries.summarise(one.totals, one.info) for one in readable if one.totals and one.info]
    everything, common = fleet.total(found, question)
    summary = summaries.summarise(everything, common)
    as_json = summaries.to_json(summary)
    if len(names) > 1:
        files = [{"file": one.name, **summary} for one, summary in zip(readable, told, strict=True)]
        failed = [{"file": name, "error": error} for name, error in unreadable]
        as_json = summaries.to_json(
            {"schema": summaries.BATCH_SCHEMA, "files": files, "failed": failed, "total": summary}
        )
    if readable or len(names) > 1:
        _write(options["json_file"], as_json, options["force"])
    if form == "json" and (readable or len(names) > 1):
        _write(output or Path("-"), as_json, options["force"])
    if form == "table" and readable:
        with fleet.text_output(output, force=options["force"]) as file:
            console = draw.console(file)
            several = [sheets.batch([one.name for one in readable], told, summary)] if len(names) > 1 else []
            console.print(render.summary(summary, everything.worst, several))
            for table in extra:
                console.print("", table)
    outcomes = [outcome for one in readable if one.totals for outcome in gates.judge(one.name, one.totals)]
    code = _answer(outcomes, options, unreadable)
    return code or (4 if unreadable else 0)


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
    names: Sequence[str], by: str | None, rates: Sequence[str], question: Question
) -> tuple[list[Measured], list[Any]]:
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
            groups = statistics.by(analysis.threads, by, info.clock_to_wall_ns)
            tables.append(Drawn(sheets.groups(groups, f"by {by}{of}")))
        if rates:
            given = risk.parse_rates(rates, analysis.numbering)
            tables.append(Drawn(sheets.risks(risk.risk(analysis, given), f"{risk.TITLE}{of}")))
    return found, tables


@cli.command()
@click.option("-o", "--output", type=_PATH, required=True, help="The page to write.")
@_judging
@_rates
@_force
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
def report(traces: Sequence[str], output: Path, ready: str, signals: str, rates: Sequence[str], force: bool) -> None:
    """Write one self-contained HTML page about TRACE files."""
    from sigwindow import fleet
    from sigwindow.analysis import risk
    from sigwindow.analysis.report import page as reports

    question = Question.parse(ready, signals)
    found = [(name, *fleet.analyse(name, question)) for name in fleet.expand(traces)]
    page = reports.report(found, lambda of: risk.risk(of, risk.parse_rates(rates, of.numbering)))
    _write(output, page, force)


@cli.command()
@_judging
@_as_json
@_gating("regression")
@_force
@click.argument("base")
@click.argument("new")
def compare(base: str, new: str, **options: Any) -> int:
    """Say whether the windows of the trace NEW are worse than those of BASE, and whether that is more than chance."""
    from sigwindow import fleet
    from sigwindow.analysis import compare as comparing
    from sigwindow.analysis import summary as summaries
    from sigwindow.terminal import draw, render

    gates = _gates(options)
    question = Question.parse(options["ready"], options["signals"])
    before, after = (fleet.analyse(name, question)[0] for name in (base, new))
    comparison = comparing.compare(before, after)
    draw.console().print(render.comparison(comparison))
    _write(options["json_file"], summaries.to_json(comparison.to_dict()), options["force"])
    return _answer(gates.compare(new, before.totals, after.totals, comparison), options)


@cli.command()
@click.option("-o", "--output", type=_PATH, required=True, help="The figure: .png, .svg or .pdf.")
@_judging
@_force
@click.argument("kind", type=click.Choice(["ecdf", "histogram", "timeline", "signals", "rate", "compare"]))
@click.argument("traces", metavar="TRACE", nargs=-1, required=True)
def plot(kind: str, traces: Sequence[str], output: Path, ready: str, signals: str, force: bool) -> None:
    """Draw KIND from TRACE; `compare` takes two traces, BASE and NEW."""
    from sigwindow import fleet
    from sigwindow.analysis import plots
    from sigwindow.collector import tracefile

    wanted = 2 if kind == "compare" else 1
    if len(traces) != wanted:
        raise click.UsageError(f"plot {kind} takes {'two traces' if wanted == 2 else 'one trace'}")
    form = output.suffix.lower().removeprefix(".")
    if form not in ("png", "svg", "pdf"):
        raise click.UsageError(f"{output}: a figure is a .png, .svg or .pdf file")
    question = Question.parse(ready, signals)
    found = [fleet.analyse(trace, question)[0] for trace in traces]
    if kind == "compare":
        axes = plots.compare(found[0], found[1], labels=(Path(traces[0]).stem, Path(traces[1]).stem))
    else:
        axes = plots.KINDS[kind](found[0])
    figure = axes.get_figure(root=True)
    assert figure is not None
    with tracefile.create(output, force=force) as file:
        figure.savefig(file, format=form, bbox_inches="tight", dpi=150)


@cli.command("import")
@click.option("-o", "--output", type=_PATH, required=True, help="The trace to write (.arrows).")
@click.option("--stderr", "messages", type=_PATH, help="What the tracer wrote to its standard error: its losses.")
@_reading
@click.argument("file", type=_PATH)
def import_(file: Path, output: Path, messages: Path | None, **options: Any) -> int:
    """Make a trace of FILE: a log of strace, or lines of the D and bpftrace scripts.

    What FILE is, is told by its content. A log of `strace -ff` is named by one of its files, or by what their names
    have in common.
    """
    from sigwindow.analysis.engine.windows import Windows
    from sigwindow.collector import importing, tracefile
    from sigwindow.probes.text import printable
    from sigwindow.terminal import render

    gates = _gates(options)
    question = Question.parse(options["ready"], options["signals"])
    with importing.opened(file, messages) as recording, render.progress() as bar:
        windows = Windows(question, recording.info.os)
        task = bar.add_task("import", total=recording.size_bytes)
        with tracefile.Writer(output, recording.info, force=options["force"]) as writer:
            for batch in recording.batches():
                writer.write(batch)
                windows.feed(batch)
                bar.update(task, completed=recording.read_bytes)
    for note in recording.notes:
        click.echo(f"[sigwindow] {printable(note)}", err=True)
    return _report(windows.result(), recording.info, gates, options, sys.stdout)
