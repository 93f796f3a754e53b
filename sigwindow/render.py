"""Results as a person reads them in a terminal: Rich tables, units that fit, hostile names made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sigwindow.analysis import windows
from sigwindow.collector.procfs import Thread
from sigwindow.probes import signals
from sigwindow.probes.events import printable
from sigwindow.probes.preflight import Check

VERDICTS = tuple(reversed(windows.VERDICTS))  # the worst first
_STYLES = {"critical": "bold red", "hit": "red", "exposed": "yellow", "masked": "green", "unhandled": "dim"}
_STATES = {"fine": "green", "degraded": "yellow", "missing": "red"}
_NAME_WIDTH = 24


def console(file: TextIO | None = None) -> Console:
    """A console that never takes data for markup; colours only on a terminal."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def duration(ns: float | None) -> str:
    """Nanoseconds in the unit that reads best."""
    if ns is None or pd.isna(ns):
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size:
            return f"{ns / size:.3g} {unit}" if ns / size < 1000 else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"


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


def sentence(summary: Mapping[str, Any]) -> Text:
    """The verdict on a whole trace in one sentence."""
    threads = summary["threads"]
    born = threads["born"]
    if not born:
        return Text("No thread was born while the trace ran: there is nothing to judge.", "bold")
    bad = [f"{threads[v]} {v}" for v in VERDICTS[:3] if threads[v]]
    if not bad:
        words = "was never exposed" if born == 1 else "were never exposed"
        text = Text(f"{born} thread{'s' * (born > 1)} born; {'it' if born == 1 else 'they'} {words}.", "bold green")
    else:
        worst = next(v for v in VERDICTS if threads[v])
        text = Text(f"{born} thread{'s' * (born > 1)} born, of them {', '.join(bad)}.", _STYLES[worst])
    return text


def summary(summary: Mapping[str, Any], threads: pd.DataFrame) -> RenderableType:
    """The summary of docs/tables.md, for a terminal of 80 columns or more."""
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
    parts: list[RenderableType] = [sentence(summary), Text(_circumstances(summary), "dim"), "", verdicts, "", durations]
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
    worst = threads[threads["verdict"].isin(VERDICTS[:3])]
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
    order = threads.sort_values(["critical_hits", "hits", "exposure_ns"], ascending=False).head(5)
    for row in order.to_dict("records"):
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
