"""What the page says of a trace: what to do, tables, how it was measured, and what was lost."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sigwindow.analysis.findings.finding import Finding
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.sheets import worth_telling
from sigwindow.analysis.statistics import by, name_groups
from sigwindow.analysis.tables import (
    BAD,
    WORST_FIRST,
    badness,
    badness_of_signal,
    groups_worst_first,
    worst_first,
    worst_of,
)
from sigwindow.analysis.words import (
    ALMOST_CERTAIN,
    by_verdict,
    counted,
    cut_off,
    duration,
    frames,
    lost,
    more,
    probability,
    ready_by,
    share,
    stated,
    unready,
)
from sigwindow.probes import signals
from sigwindow.probes.traceinfo import TraceInfo

from . import glossary

_TEXT_CHARACTERS = 300  # of one name or command
_QUANTILES = ("min", "p50", "p90", "p99", "max", "total")


class Advice(NamedTuple):
    """What to do about one finding; code: lines that show how."""

    title: str
    text: str
    code: tuple[str, ...] = ()
    severity: str = ""


class Cell(NamedTuple):
    """A cell of a table. value: what numbers are sorted by; style: a CSS class; link: an anchor of the page."""

    text: str
    value: float | None = None
    style: str = ""
    link: str = ""


_NOTHING = Cell("-", -1)


class Table(NamedTuple):
    """A table of the page.

    total: its last row, which stays last when the others are sorted. rest: what the rows amount to that are left out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] = ()
    rest: str = ""
    note: str = ""


def advice(findings: Sequence[Finding], counts: Mapping[str, int], question: Question) -> list[Advice]:
    """What to do about what was found, the worst first; code that was shown is not shown again."""
    if not counts["born"]:
        return [
            Advice(
                "Trace something that makes threads",
                "Start the program under sigwindow run, or attach to it while it makes threads.",
            )
        ]
    told: list[Advice] = []
    for finding in findings:
        shown = finding.code and any(other.code == finding.code for other in told)
        text = f"{finding.message} {finding.advice}" + " The order above shows how." * bool(shown)
        told.append(Advice(finding.title, text, () if shown else finding.code, finding.severity))
    if not any(counts[verdict] for verdict in BAD):
        usual = Question()
        asked = f" --ready {shlex.quote(question.ready)}" * (question.ready != usual.ready)
        asked += f" --signals {shlex.quote(question.signals)}" * (question.signals != usual.signals)
        command = f"sigwindow run --fail-on exposed{asked} -- COMMAND"
        told.append(Advice("Keep it so", "Let your tests fail as soon as a thread is exposed:", (command,)))
    return told


def state(counts: Mapping[str, int]) -> str:
    """The worst verdict; of a clean trace, whether that is certain."""
    worst = worst_of(counts)
    return "uncertain" if counts["uncertain"] and worst not in BAD else worst


def overview(parts: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """A row a trace. parts: of each its name, anchor and summary; total: the summary of all."""
    columns = ("born", *WORST_FIRST, "unready", "uncertain")

    def numbers(summary: Mapping[str, Any]) -> list[Cell]:
        counts = summary["threads"]
        return [
            _verdict(state(counts)),
            *(_count(counts[column]) for column in columns),
            _count(summary["trace"]["lost_events"]),
            _duration(summary["exposure_ns"]["max"]),
        ]

    rows = [[Cell(part["name"], link=part["anchor"]), *numbers(part["summary"])] for part in parts]
    headings = ("trace", "worst", *columns, "lost", "longest")
    return Table("All traces: threads by verdict", headings, rows, [Cell("total"), *numbers(total)])


def tables(analysis: Analysis, summary: Mapping[str, Any], limit: int) -> list[Table]:
    """The tables of a trace that have any row; limit: the rows of those that grow with it."""
    counts = summary["threads"]
    if not counts["born"]:
        return []
    found = (
        _verdicts(counts),
        _worst(analysis.threads, analysis.numbering, limit),
        _by_signal(summary, analysis.question),
        _by_process(summary["by_process"], limit),
        _by_name(analysis.threads, limit),
        _durations(summary),
        _traffic(analysis),
    )
    return [table for table in found if table.rows]


def _verdicts(counts: Mapping[str, int]) -> Table:
    rows = [
        [
            _verdict(verdict),
            _count(counts[verdict]),
            Cell(share(counts[verdict], counts["born"]), counts[verdict]),
            Cell(glossary.VERDICTS[verdict]),
        ]
        for verdict in WORST_FIRST
    ]
    return Table("Threads by verdict", ("verdict", "threads", "share", "meaning"), rows)


def _durations(summary: Mapping[str, Any]) -> Table:
    rows = [
        [_word(label), _count(summary[key]["count"]), *(_duration(summary[key][quantile]) for quantile in _QUANTILES)]
        for label, key in (("setup window", "setup_ns"), ("exposure", "exposure_ns"))
    ]
    note = "Setup windows of ready threads; exposure of those of them that were exposed."
    return Table("Durations", ("duration", "threads", *_QUANTILES), rows, note=note)


def _by_signal(summary: Mapping[str, Any], question: Question) -> Table:
    considered = question.names(summary["trace"]["os"])
    rows = [
        [
            Cell(row["signal"]),
            _word(row["class"]),
            Cell("yes" if row["signal"] in considered else "no"),
            _count(row["threads"]),
            _duration(row["exposure_ns"]),
            _count(row["hits"]),
            _count(row["critical"]),
        ]
        for row in sorted(
            summary["by_signal"], key=lambda row: (row["signal"] not in considered, badness_of_signal(row))
        )
    ]
    columns = ("signal", "class", "considered", "threads exposed", "exposure", "hits", "critical hits")
    return Table("By signal, of all that had a handler", columns, rows)


def _traffic(analysis: Analysis) -> Table:
    """What was sent in the whole trace, and what became of it."""
    columns = ("generated", "held_back", "delivered")
    rows = [
        [Cell(row["name"]), _word(row["class"]), *(_count(row[column]) for column in columns)]
        for row in analysis.traffic.sort_values("generated", ascending=False, kind="stable").to_dict("records")
    ]
    deferred = counted(int(analysis.threads["deferred"].sum()), "signal")
    note = f"Held back: sent to a thread that blocked it; of these, {deferred} until the end of a setup window."
    return Table("Signals sent", ("signal", "class", "sent", "held back", "handled"), rows, note=note)


def _by_process(processes: Sequence[Mapping[str, Any]], limit: int) -> Table:
    ordered = sorted(processes, key=badness)
    rows = [
        [
            Cell(shorten(row["comm"])),
            Cell(str(row["pid"]), row["pid"]),
            _word(row["policy"]),
            *(_count(row[verdict]) for verdict in WORST_FIRST),
            _duration(row["exposure_ns"]),
        ]
        for row in ordered[:limit]
    ]
    columns = ("process", "pid", "ready by", *WORST_FIRST, "exposure")
    rest = more(len(processes) - limit, by_verdict(ordered[limit:]))
    return Table("By process", columns, rows, rest=rest)


def _by_name(threads: pd.DataFrame, limit: int) -> Table:
    """Names that differ in their numbers only are one: Thread-*."""
    found = by(threads.assign(comm=name_groups(threads["comm"])), "name")
    ordered = groups_worst_first(found).to_dict("records")
    rows = [
        [
            Cell(shorten(row["comm"])),
            _count(row["births"]),
            *(_count(row[verdict]) for verdict in WORST_FIRST),
            _duration(row["exposure_total_ns"]),
            _duration(None if pd.isna(row["exposure_max_ns"]) else row["exposure_max_ns"]),
        ]
        for row in ordered[:limit]
    ]
    columns = ("name", "born", *WORST_FIRST, "exposure", "longest")
    rest = more(len(ordered) - limit, by_verdict(ordered[limit:]))
    return Table("By name of the thread", columns, rows, rest=rest)


def _worst(threads: pd.DataFrame, numbering: signals.Numbering, limit: int) -> Table:
    exposed = threads[threads["verdict"].isin(BAD)]
    worst = worst_first(exposed)
    left_out = worst["verdict"].iloc[limit:].value_counts().to_dict()
    worst = worst.head(limit)
    with_stack = bool((worst["creator_stack"] != "").any())
    rows = []
    for row in worst.to_dict("records"):
        first_ns = None if pd.isna(row["first_exposed_ns"]) else row["first_exposed_ns"] - row["born_ns"]
        cells = [
            Cell(shorten(row["comm"])),
            Cell(str(row["tid"]), row["tid"]),
            Cell(str(row["pid"]), row["pid"]),
            _verdict(row["verdict"]),
            _duration(row["exposure_ns"]),
            _duration(row["setup_ns"]),
            Cell("at birth", 0) if first_ns == 0 else _duration(first_ns),
            _count(row["hits"]),
            _count(row["critical_hits"]),
            Cell("yes" if row["ready"] else "never"),
            Cell(signals.listed(int(row["exposed_signals"]), numbering)),
        ]
        rows.append([*cells, Cell(frames(row["creator_stack"], _TEXT_CHARACTERS))] if with_stack else cells)
    columns = [
        "thread", "tid", "pid", "verdict", "exposure", "setup", "open after", "hits", "critical hits", "ready",
        "open to",
    ]  # fmt: skip
    columns += ["created in"] if with_stack else []
    rest = more(len(exposed) - limit, by_verdict([left_out]))
    return Table("The worst threads", columns, rows, rest=rest)


def risks(found: pd.DataFrame) -> Table:
    """The table of `risk`: estimates with their intervals, and bounds where no hit was seen."""
    told, rest = worth_telling(found)
    births = ", ".join(f"{count:,}" for count in found["births"].unique())
    rows = [
        [
            Cell(row["name"]),
            Cell(row["source"]),
            _estimate(row, "rate{}_hz"),
            _estimate(row, "hits_per_birth{}"),
            _estimate(row, "p_in_births{}", probability),
            _estimate(row, "mean_time_to_first_hit{}_s", lambda time_s: _duration(time_s * 1e9).text, "≥"),
        ]
        for row in told.to_dict("records")
    ]
    columns = ("signal", "rate", "per exposed second", "hits per birth", "chance", "first hit after")
    note = (
        f"Of ready threads; the chance is that of {births} births. In brackets the 95% interval of what was estimated "
        "from the hits. A bound is the worst that the trace, in which no hit was seen, does not contradict at 95%: "
        "zero hits are not no risk."
    )
    return Table("Expected hits", columns, rows, rest=rest, note=note)


def _estimate(
    row: Mapping[Hashable, Any], column: str, form: Callable[[float], str] = "{:.3g}".format, bound: str = "≤"
) -> Cell:
    """One value of a risk and its interval; column: with {} where _low and _high go."""
    value, low, high = (row[column.format(end)] for end in ("", "_low", "_high"))
    if not np.isfinite(value):
        return _NOTHING
    if row["source"] == "bound":
        return Cell(f"{bound} {form(value).replace(ALMOST_CERTAIN, '1')}", value)  # rounded up
    return Cell(f"{form(value)} ({form(low)} to {form(high)})" if row["source"] == "estimated" else form(value), value)


def measured(analysis: Analysis, summary: Mapping[str, Any], info: TraceInfo) -> list[tuple[str, str]]:
    """How the trace was made: what it is called and what it was, for what is known."""
    trace = summary["trace"]
    told = (
        ("Command", shlex.join(info.command)),
        ("Targets", " ".join(map(str, info.targets))),
        ("Ready by", ready_by(analysis.question.ready, [row["policy"] for row in summary["by_process"]])),
        ("Signals considered", analysis.question.signals),
        ("Began", _wall_time(analysis, info)),
        ("Duration", f"{trace['duration_s']:,.3g} s"),
        ("Events", f"{analysis.events:,}"),
        ("Backend", info.backend),
        ("System", " ".join((info.os, info.kernel, info.arch)).strip()),
        ("Host", info.host),
        ("Options", json.dumps(dict(info.options)) if info.options else ""),
        ("Trace format", str(info.format)),
        ("sigwindow", info.tool),
    )
    return [(name, shorten(value)) for name, value in told if value]


def losses(analysis: Analysis, counts: Mapping[str, int]) -> list[str]:
    """What the trace does not tell."""
    told = []
    if analysis.lost_events:
        told.append(
            f"{stated(lost(analysis.lost_events, counts['uncertain']))} What was seen is true, a clean verdict on an "
            "uncertain thread is not certain."
        )
    else:
        told.append("No event was lost.")
    if not analysis.ended:
        told.append(f"{stated(cut_off())} What came after is unknown.")
    if counts["unready"]:
        told.append(
            f"{stated(unready(counts['unready']))} They are not part of the durations above; verdicts and hits count."
        )
    return told


def shorten(text: str) -> str:
    """A name or a command, cut where it is very long."""
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"


def _word(text: str) -> Cell:
    """A word with a link to what it means."""
    return Cell(text, link=glossary.anchor(text))


def _verdict(text: str) -> Cell:
    """A verdict in its colour, or `uncertain`, with a link to what it means."""
    return Cell(text, style=text, link=glossary.anchor(text))


def _count(count: int) -> Cell:
    return Cell(f"{count:,}", count)


def _duration(ns: float | None) -> Cell:
    """Nanoseconds in the unit that reads best."""
    return _NOTHING if ns is None else Cell(duration(ns), ns)


def _wall_time(analysis: Analysis, info: TraceInfo) -> str:
    """When the trace began; empty if it does not say."""
    if info.clock_to_wall_ns is None:
        return ""
    try:
        wall_s = (analysis.start_ns + info.clock_to_wall_ns) / 1e9
        return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a date beyond the calendar
        return ""
