"""Results as a person reads them in a terminal: Rich tables, units that fit, hostile names made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sigwindow.analysis import summary as summaries
from sigwindow.analysis.summary import duration
from sigwindow.analysis.totals import VERDICTS as RISING
from sigwindow.probes import signals
from sigwindow.probes.events import printable

if TYPE_CHECKING:
    from sigwindow.analysis.compare import Comparison
    from sigwindow.collector.procfs import Thread
    from sigwindow.probes.preflight import Check

VERDICTS = tuple(reversed(RISING))  # the worst first
_STYLES = {"critical": "bold red", "hit": "red", "exposed": "yellow", "masked": "green", "unhandled": "dim"}
_STATES = {"fine": "green", "degraded": "yellow", "missing": "red"}
_NAME_WIDTH = 24


def console(file: TextIO | None = None) -> Console:
    """A console that never takes data for markup; colours only on a terminal."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def name(text: str) -> Text:
    """A name from the traced world: printable, on one line, of bounded width."""
    shown = printable(text)
    return Text(shown if len(shown) <= _NAME_WIDTH else shown[: _NAME_WIDTH - 1] + "…")


def _table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    table = Table(
        box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold", header_style="dim"
    )
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return table


def sentence(counts: Mapping[str, int]) -> Text:
    """The verdict on a whole trace in one sentence, in the colour of the worst."""
    worst = next((verdict for verdict in VERDICTS[:3] if counts[verdict]), None)
    style = _STYLES[worst] if worst else "bold green" if counts["born"] else "bold"
    return Text(summaries.sentence(counts), style)


def progress() -> Progress:
    """A progress bar on standard error that is gone when it is over; nothing where that is no terminal."""
    shown = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


def summary(summary: Mapping[str, Any], worst: pd.DataFrame) -> RenderableType:
    """The summary of docs/tables.md, for a terminal of 80 columns or more; worst: the most exposed threads."""
    counts = summary["threads"]
    verdicts = _table("verdict", "threads", "share", right=("threads", "share"))
    for verdict in VERDICTS:
        share = f"{counts[verdict] / counts['born']:.1%}" if counts["born"] else "-"
        verdicts.add_row(Text(verdict, _STYLES[verdict] if counts[verdict] else "dim"), str(counts[verdict]), share)
    numbers = ("threads", "min", "p50", "p90", "p99", "max", "total")
    durations = _table("", *numbers, right=numbers)
    for label, key in (("setup", "setup_ns"), ("exposure", "exposure_ns")):
        row = summary[key]
        durations.add_row(label, str(row["count"]), *(duration(row[k]) for k in numbers[1:]))
    parts: list[RenderableType] = [sentence(counts), Text(_circumstances(summary), "dim"), "", verdicts, "", durations]
    exposed_signals = [row for row in summary["by_signal"] if row["threads"] or row["hits"]]
    if exposed_signals:
        columns = ("threads", "exposure", "hits", "critical")
        table = _table("signal", "class", *columns, right=columns)
        for row in sorted(exposed_signals, key=lambda r: (-r["critical"], -r["hits"], -r["exposure_ns"]))[:12]:
            cells = (row["threads"], duration(row["exposure_ns"]), row["hits"], row["critical"])
            table.add_row(row["signal"], row["class"], *map(str, cells))
        parts += ["", table]
        if len(exposed_signals) > 12:
            parts.append(Text(f"and {len(exposed_signals) - 12} more signals: --format json lists them", "dim"))
    if len(summary["by_process"]) > 1:
        parts += ["", _processes(summary["by_process"])]
    if len(worst):
        parts += ["", _worst(worst)]
    return Group(*parts, *_warnings(summary))


def _circumstances(summary: Mapping[str, Any]) -> str:
    trace, policy = summary["trace"], summary["policy"]
    used = sorted({row["policy"] for row in summary["by_process"]})
    ready = policy["ready"] if used in ([], [policy["ready"]]) else f"{policy['ready']} ({', '.join(used)})"
    return (
        f"{trace['events']} events in {trace['duration_s']:.3g} s by {trace['backend']} on {printable(trace['os'])} "
        f"{printable(trace['kernel'])}; ready = {ready}; signals = {policy['signals']}"
    )


def _processes(rows: list[Mapping[str, Any]]) -> Table:
    columns = ("pid", "born", *VERDICTS[:3], "exposure")
    table = _table("process", *columns, "policy", right=columns)
    for row in sorted(rows, key=lambda r: -r["exposure_ns"])[:10]:
        born = sum(row[v] for v in VERDICTS)
        cells = (row["pid"], born, *(row[v] for v in VERDICTS[:3]), duration(row["exposure_ns"]))
        table.add_row(name(row["comm"]), *map(str, cells), row["policy"])
    return table


def _worst(threads: pd.DataFrame) -> Table:
    columns = ("tid", "exposure", "setup", "hits", "critical")
    table = _table("most exposed", *columns, "verdict", right=columns)
    for row in threads.to_dict("records"):
        cells = (row["tid"], duration(row["exposure_ns"]), duration(row["setup_ns"]), row["hits"], row["critical_hits"])
        verdict = Text(row["verdict"], _STYLES[row["verdict"]])
        if not row["ready"]:
            verdict.append(" (never ready)", "dim")
        table.add_row(name(row["comm"]), *map(str, cells), verdict)
    return table


def _warnings(summary: Mapping[str, Any]) -> list[Text]:
    trace, threads = summary["trace"], summary["threads"]
    told = []
    if threads["unready"]:
        told.append(
            f"{threads['unready']} threads ended, or the trace did, before they were ready: their windows are cut."
        )
    if trace["lost_events"]:
        told.append(
            f"{trace['lost_events']} events were lost; {threads['uncertain']} threads are uncertain. "
            "A larger --buffer loses less."
        )
    elif not trace["complete"]:
        told.append("The trace has no end mark: its tracer was killed, or the file is cut.")
    return [Text("! " + line, "yellow") for line in told]


def batch(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> RenderableType:
    """One row a file, and the total."""
    columns = ("born", *VERDICTS, "lost", "p99 exposure")
    table = _table("trace", *columns, right=columns)
    for label, row in [*zip(names, summaries, strict=True), ("total", total)]:
        threads, trace = row["threads"], row["trace"]
        cells = (
            threads["born"],
            *(threads[v] for v in VERDICTS),
            trace["lost_events"],
            duration(row["exposure_ns"]["p99"]),
        )
        worst = next((v for v in VERDICTS if threads[v]), "unhandled")
        table.add_row(Text(printable(label), _STYLES[worst]), *map(str, cells))
    return table


def frame(table: pd.DataFrame, title: str) -> RenderableType:
    """A table of statistics; durations in the unit that fits, by the unit in the column's name."""
    shown = _table(*(_heading(column) for column in table.columns), title=printable(title))
    for column, of in zip(table.columns, shown.columns, strict=True):
        of.justify = (
            "left" if table[column].dtype == object or isinstance(table[column].dtype, pd.StringDtype) else "right"
        )
    for row in table.itertuples(index=False):
        shown.add_row(*(_cell(column, value) for column, value in zip(table.columns, row, strict=True)))
    return shown


def _heading(column: str) -> str:
    return column.removesuffix("_ns").removesuffix("_s").replace("_", " ")


def _cell(column: str, value: Any) -> Text:
    if isinstance(value, str):
        return name(value)
    if pd.isna(value):
        return Text("-")
    if column.endswith("_ns"):
        return Text(duration(value))
    if column.endswith("_s"):
        return Text(duration(value * 1e9))
    if "share" in column or column.startswith("p_"):
        return Text(f"{value:.2%}")
    return Text(f"{value:.3g}" if isinstance(value, float) else str(value))


def comparison(found: Comparison) -> RenderableType:
    """The answer of `sigwindow compare`."""
    style = "bold red" if found.regression else "bold"
    return Group(
        Text(found.sentence, style),
        "",
        frame(found.verdicts, "threads by verdict"),
        "",
        frame(found.shares.drop(columns=["base", "new"]), "shares"),
        "",
        frame(found.medians, "medians"),
        Text(f"setup times, log-rank test: p = {found.setup.p:.2g}", "dim"),
    )


def checks(found: Iterable[Check]) -> RenderableType:
    """The answer of `sigwindow doctor`."""
    table = _table("", "check", "found")
    for check in found:
        what = Text(printable(check.detail))
        if check.help:
            what.append(f"\n-> {check.help}", "bold")
        table.add_row(Text(check.state, _STATES[check.state]), check.name, what)
    return table


def threads_now(found: list[Thread]) -> RenderableType:
    """The answer of `sigwindow inspect`: which handled signals can reach which thread."""
    table = _table("tid", "name", "blocked", "handled signals let through", right=("tid",))
    for thread in found:
        open_to = thread.handled & ~thread.mask
        table.add_row(str(thread.tid), name(thread.comm), signals.describe(thread.mask), signals.describe(open_to))
    return table
