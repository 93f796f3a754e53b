"""The command line. A command checks its options, calls the parts, and hands the result to a renderer.

Heavy packages (pandas, pyarrow, matplotlib) are imported inside the commands that need them: `--help` is instant.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sigwindow.analysis.windows import Analysis
    from sigwindow.capture import Request

_F = TypeVar("_F", bound=Callable[..., Any])
_GATES = {"exposed": ("critical", "hit", "exposed"), "hit": ("critical", "hit"), "critical": ("critical",)}
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
_reading = _options(
    _judging,
    click.option(
        "--json",
        "json_file",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Write the summary as JSON to this file (- for standard output).",
    ),
    click.option(
        "--fail-on", type=click.Choice(list(_GATES)), help="Exit with 1 where a thread has this verdict or a worse one."
    ),
    _force,
)
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
        type=click.Choice(["auto", "bcc"]),
        default="auto",
        show_default=True,
        help="What records the events.",
    ),
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

    from sigwindow import render
    from sigwindow.probes import preflight

    found = preflight.checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    else:
        render.console().print(render.checks(found))
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
    from sigwindow import capture, render

    captured = capture.record(request)
    if captured.status is not None:
        how = (
            f"exited with {captured.status}"
            if captured.status < 128
            else f"was ended by signal {captured.status - 128}"
        )
        render.console(to).print(f"[sigwindow] {request.argv[0]} {how}", style="dim")
    gate = _report(captured.analysis, captured.info, options, to)
    return captured.status, gate


def _report(analysis: Analysis, info: dict[str, str], options: dict[str, Any], to: Any) -> int:
    """Print the summary, write it as JSON where asked, and answer for the gate."""
    from sigwindow import render
    from sigwindow.analysis import summary as summaries

    summary = summaries.summarise(analysis, info)
    render.console(to).print(render.summary(summary, analysis.threads))
    _write_json(options["json_file"], summaries.to_json(summary), options["force"])
    return _gate(summary, options["fail_on"])


def _write_json(path: Path | None, text: str, force: bool) -> None:
    from sigwindow import offline

    if path is not None:
        with offline.text_output(None if str(path) == "-" else path, force=force) as file:
            file.write(text)


def _gate(summary: dict[str, Any], fail_on: str | None) -> int:
    """0 where the gate is open, 1 where a thread fails it; raises InputError where losses make it blind."""
    from sigwindow.probes.errors import InputError

    if fail_on is None:
        return 0
    failed = sum(summary["threads"][verdict] for verdict in _GATES[fail_on])
    if failed:
        click.echo(f"sigwindow: gate failed: {failed} threads are {fail_on} or worse", err=True)
        return 1
    if summary["trace"]["lost_events"]:
        raise InputError("the gate can't be answered: events were lost. Try again with a larger --buffer")
    return 0


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the threads as JSON.")
@click.argument("pid", type=click.IntRange(min=1))
def inspect(pid: int, as_json: bool) -> None:
    """Show the signal masks of a live process's threads now, from /proc, with no probe."""
    from sigwindow import render
    from sigwindow.collector import procfs

    threads = procfs.threads(pid)
    if as_json:
        click.echo(json.dumps([thread._asdict() for thread in threads], indent=2))
    else:
        render.console().print(render.threads_now(threads))


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
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True, type=_PATH)
def analyze(traces: Sequence[Path], form: str, output: Path | None, **options: Any) -> int:
    """Read TRACE files and say what happened to every thread."""
    from sigwindow import offline, render
    from sigwindow.analysis import summary as summaries
    from sigwindow.probes.events import printable

    if form == "parquet" and output is None:
        raise click.UsageError("--format parquet needs -o FILE")
    gates = []
    found = []
    for trace in traces:
        analysis, info = offline.analyse(trace, ready=options["ready"], signals=options["signals"])
        summary = summaries.summarise(analysis, info)
        found.append((trace, analysis, summary))
        gates.append(_gate(summary, options["fail_on"]))
    told = [summary for _, _, summary in found]
    as_json = summaries.to_json(told[0] if len(told) == 1 else told)
    _write_json(options["json_file"], as_json, options["force"])
    if form in ("csv", "parquet"):
        offline.write_threads({str(t): a.threads for t, a, _ in found}, form, output, force=options["force"])
    elif form == "json":
        _write_json(output or Path("-"), as_json, options["force"])
    else:
        with offline.text_output(output, force=options["force"]) as file:
            console = render.console(file)
            for trace, analysis, summary in found:
                if len(found) > 1:
                    console.rule(printable(str(trace)), align="left")
                console.print(render.summary(summary, analysis.threads))
    return max(gates)


@cli.command()
@click.option("-o", "--output", type=_PATH, required=True, help="The figure: .png, .svg or .pdf.")
@_judging
@_force
@click.argument("kind", type=click.Choice(["ecdf", "timeline"]))
@click.argument("trace", type=_PATH)
def plot(kind: str, trace: Path, output: Path, ready: str, signals: str, force: bool) -> None:
    """Draw KIND from TRACE."""
    from sigwindow import offline

    offline.draw(kind, trace, output, ready=ready, signals=signals, force=force)
