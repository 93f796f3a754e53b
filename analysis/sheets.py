"""Answers as small tables of text, in the order and the words in which a terminal and a notebook both draw them.

A sheet says what is told; how it looks is the business of who draws it. Texts of the traced world are printable in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sigwindow.probes import signals
from sigwindow.probes.text import printable

from .question import Question
from .tables import BAD, VERDICTS, WORST_FIRST, badness, badness_of_signal, groups_worst_first, worst_of
from .words import (
    ALMOST_CERTAIN,
    by_verdict,
    counted,
    cut_off,
    duration,
    first_few,
    frames,
    more,
    name_kinds,
    probability,
    ready_by,
    share,
    stated,
    unready,
)

if TYPE_CHECKING:
    import pandas as pd

    from .findings.finding import Finding

_SHOWN = WORST_FIRST[:-1]  # what is left of the born is unhandled
_STACK_WIDTH = 160
_GROUPS = 40  # rows of a table by something
_SIGNALS = 12
_PROCESSES = 10


class Column(NamedTuple):
    """A column of a sheet.

    kind: what may be done where there is little room. A number or a word is never cut; of a name the end gives way, of
    a path the begin; a list, of names separated by ", ", is told as far as it fits; a text goes on in the next line.
    """

    heading: str
    kind: Literal["number", "word", "name", "path", "list", "text"] = "number"


@dataclass(frozen=True)
class Cell:
    """A text in a colour: the one of a verdict, or `dim`."""

    text: str
    tone: str = ""


Row = Sequence[str | Cell]


@dataclass(frozen=True)
class Sheet:
    """A table to be drawn; rest: how many rows more there are, in words."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    rest: str = ""


def _numbers(*headings: str) -> list[Column]:
    return [Column(heading) for heading in headings]


def circumstances(summary: Mapping[str, Any]) -> list[str]:
    """How a trace was made and what was asked of it: signals, and which others were open; policy; source."""
    trace, policy = summary["trace"], summary["policy"]
    ready = ready_by(policy["ready"], [row["policy"] for row in summary["by_process"]])
    others = [row["signal"] for row in _open_signals(summary) if row["signal"] not in _considered(summary)]
    open_too = f"; open, too, but not considered: {first_few(others)}" if others else ""
    backend, system = printable(trace["backend"]) or "various back ends", printable(trace["os"]) or "various systems"
    kernel = f" {printable(trace['kernel'])}" if trace["kernel"] else ", various kernels"
    return [
        f"signals = {policy['signals']}{open_too}",
        f"ready = {ready}; {trace['events']:,} events in {trace['duration_s']:.3g} s by {backend} on {system}{kernel}",
    ]


def reservations(summary: Mapping[str, Any]) -> list[str]:
    """What keeps the answer from being whole, but for losses, which are a finding; empty if nothing does."""
    trace, threads = summary["trace"], summary["threads"]
    told = []
    if threads["unready"]:
        told.append(stated(unready(threads["unready"])))
    if not trace["complete"] and not trace["lost_events"]:
        told.append(stated(cut_off()))
    return told


def summary(summary: Mapping[str, Any], worst: pd.DataFrame, known: pd.DataFrame) -> list[Sheet]:
    """The tables of a summary (docs/tables.md); worst, known: as Totals has them."""
    if not summary["threads"]["born"]:
        return [_known(summary, known)] if len(known) else []
    found = [_verdicts(summary["threads"]), _lengths(summary)]
    if open_signals := _open_signals(summary):
        found.append(_signals(open_signals, _considered(summary)))
    if len(summary["by_process"]) > 1:
        found.append(_processes(summary["by_process"]))
    if len(worst):
        found.append(_worst(worst.to_dict("records"), summary["threads"]))
    return found


def _known(summary: Mapping[str, Any], threads: pd.DataFrame) -> Sheet:
    """The threads from before, where none was born; those that are alike share a row, the most open ones first."""
    of = signals.numbering(summary["trace"]["os"])
    considered = Question(**summary["policy"]).considered(of)
    kinds = name_kinds(threads["comm"])
    alike: Counter[tuple[int, str, int, int]] = Counter()
    for pid, comm, mask, handled in threads[["pid", "comm", "mask", "handled"]].itertuples(index=False):
        alike[pid, kinds[comm], mask, handled & ~mask] += 1
    ranked = sorted(alike.items(), key=lambda row: (-(row[0][3] & considered).bit_count(), -row[1], row[0]))
    rows = [
        (f"{count:,}", printable(kind), str(pid), signals.describe(mask, of), signals.describe(open_to, of))
        for (pid, kind, mask, open_to), count in ranked[:_PROCESSES]
    ]
    is_open = sum(count for (*_, open_to), count in alike.items() if open_to & considered)
    told = f"{is_open:,}" if is_open else "none"
    numbers = (Column("threads"), Column("name", "name"), Column("pid"))
    return Sheet(
        [*numbers, Column("blocked", "text"), Column("open to", "text")],
        rows,
        f"{counted(len(threads), 'thread')} lived before: {told} open to a considered signal",
        more(len(ranked) - _PROCESSES, counted(sum(count for _, count in ranked[_PROCESSES:]), "thread")),
    )


def findings(found: Sequence[Finding]) -> list[Sheet]:
    """What is wrong and what to do, in short; none where nothing is wrong."""
    rows = [(Cell(one.severity, one.severity), f"{one.title}.\n{one.message}") for one in found]
    return [Sheet([Column("finding", "word"), Column("what to do", "text")], rows)] if rows else []


def _verdicts(counts: Mapping[str, int]) -> Sheet:
    rows = [
        (
            Cell(verdict, verdict if counts[verdict] else "dim"),
            f"{counts[verdict]:,}",
            share(counts[verdict], counts["born"]),
        )
        for verdict in WORST_FIRST
    ]
    return Sheet([Column("verdict", "word"), *_numbers("threads", "share")], rows)


def _lengths(summary: Mapping[str, Any]) -> Sheet:
    numbers = ("min", "p50", "p90", "p99", "max", "total")
    rows = [
        (label, f"{summary[key]['count']:,}", *(duration(summary[key][of]) for of in numbers))
        for label, key in (("setup", "setup_ns"), ("exposure", "exposure_ns"))
    ]
    return Sheet([Column("", "word"), *_numbers("threads", *numbers)], rows)


def _open_signals(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The signals that some thread was open to in its window, those that count first, and the worst of them."""
    open_to = (row for row in summary["by_signal"] if row["threads"] or row["hits"])
    considered = _considered(summary)
    return sorted(open_to, key=lambda row: (row["signal"] not in considered, *badness_of_signal(row), row["class"]))


def _considered(summary: Mapping[str, Any]) -> set[str]:
    """The names of the signals that count."""
    return Question(**summary["policy"]).names(summary["trace"]["os"])


def _signals(rows: Sequence[Mapping[str, Any]], considered: set[str]) -> Sheet:
    """A row for signals of one class that were open to the same threads for the same time: mostly all of a runtime."""
    cells: list[Row] = []
    groups = [list(of) for _, of in groupby(rows, lambda row: (row["class"], badness_of_signal(row)))]
    for group in groups[:_SIGNALS]:
        row, names = group[0], ", ".join(row["signal"] for row in group)
        counts = row["signal"] in considered
        threads, hits, critical = (f"{row[name]:,}" for name in ("threads", "hits", "critical"))
        numbers = (threads, duration(row["exposure_ns"]), hits, critical)
        told = (names, row["class"], "yes" if counts else "no", *numbers)
        cells.append(told if counts else [Cell(text, "dim") for text in told])
    left = [row["signal"] for group in groups[_SIGNALS:] for row in group]
    words = (Column("signals", "text"), Column("class", "word"), Column("considered", "word"))
    return Sheet(
        [*words, *_numbers("threads", "exposure", "hits", "critical")], cells, rest=more(len(left), ", ".join(left))
    )


def _processes(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    rows = sorted(rows, key=badness)
    cells = []
    for row in rows[:_PROCESSES]:
        born = sum(row[verdict] for verdict in WORST_FIRST)
        counts = (f"{row[verdict]:,}" for verdict in BAD)
        told = (str(row["pid"]), f"{born:,}", *counts, duration(row["exposure_ns"]))
        cells.append((printable(row["comm"]), *told, row["policy"]))
    columns = [Column("process", "name"), *_numbers("pid", "born", *BAD, "exposure"), Column("policy", "word")]
    return Sheet(columns, cells, rest=more(len(rows) - _PROCESSES, by_verdict(rows[_PROCESSES:])))


def _worst(rows: Sequence[Mapping[Hashable, Any]], counts: Mapping[str, int]) -> Sheet:
    several = "trace" in rows[0]  # whose names need the room of two numbers
    cells: list[Row] = [
        (
            printable(row["comm"]),
            str(row["tid"]),
            duration(row["exposure_ns"]),
            *(() if several else (duration(row["setup_ns"]),)),
            f"{row['hits']:,}",
            *(() if several else (f"{row['critical_hits']:,}",)),
            Cell(row["verdict"] + ("" if row["ready"] else " (never ready)"), row["verdict"]),
            *((printable(str(row["trace"])),) if several else ()),
        )
        for row in rows
    ]
    numbers = ("tid", "exposure", "hits") if several else ("tid", "exposure", "setup", "hits", "critical")
    columns = [Column("worst threads", "name"), *_numbers(*numbers), Column("verdict", "word")]
    left = {verdict: counts[verdict] - sum(row["verdict"] == verdict for row in rows) for verdict in BAD}
    rest = more(sum(left.values()), by_verdict([left]))
    return Sheet([*columns, Column("trace", "path")] if several else columns, cells, rest=rest)


def batch(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Sheet:
    """One row a trace, and the total."""
    cells: list[Row] = []
    for label, row in [*zip(names, summaries, strict=True), ("total", total)]:
        threads = row["threads"]
        worst = worst_of(threads)
        numbers = (threads["born"], *(threads[verdict] for verdict in _SHOWN), row["trace"]["lost_events"])
        cells.append((Cell(printable(label), worst), *map("{:,}".format, numbers), duration(row["exposure_ns"]["p99"])))
    return Sheet([Column("trace", "path"), *_numbers("born", *_SHOWN, "lost", "p99")], cells)


def groups(found: pd.DataFrame, title: str) -> Sheet:
    """The table of `statistics.by`, the worst rows first, as processes are ranked."""
    import pandas as pd

    left_out = (
        "unready",
        "uncertain",
        "_low",
        "_high",
        "_p50_ns",
        "_max_ns",
        "critical_hits",
        *set(VERDICTS) - set(BAD),
    )
    kept = [column for column in found.columns if not column.endswith(left_out)]
    found = groups_worst_first(found)
    exposed = found[list(BAD)].sum(axis=1)
    found = found.assign(exposed_share=list(map(share, exposed, found["births"])))
    shown = found[sorted(kept, key="creator_stack".__eq__)].head(_GROUPS)  # the stack last, where it may be long
    columns = []
    for column in shown.columns:
        heading = column.removeprefix("exposed_").removeprefix("exposure_").removesuffix("_tid").removesuffix("_ns")
        heading = {"births": "born", "creator_comm": "creator name"}.get(column, heading)
        text = pd.api.types.is_string_dtype(shown[column]) and column != "exposed_share"
        kind: Any = "text" if column == "creator_stack" else "name" if text else "number"
        columns.append(Column(heading.replace("_", " "), kind))
    rows = [
        [_cell(column, value) for column, value in zip(shown.columns, row, strict=True)]
        for row in shown.astype(object).where(shown.notna(), None).itertuples(index=False)
    ]
    rest = found.iloc[_GROUPS:]
    return Sheet(columns, rows, printable(title), more(len(rest), by_verdict(rest.to_dict("records"))))


def _cell(column: str, value: Any) -> str:
    if column == "creator_stack":
        return frames(printable(value), _STACK_WIDTH)
    if isinstance(value, str):
        return printable(value)
    if column == "hour":
        return f"{value:%Y-%m-%d %Hh}"
    if column.endswith("_ns"):
        return duration(value)
    return f"{value:,}" if column in (*VERDICTS, "births", "hits") else str(value)


def worth_telling(found: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of `risk.risk` whose signal has a rate, was open or hit, and a line about the others.

    Of those the trace says nothing but how few births it saw.
    """
    told = (found["source"] == "given") | (found[["exposure_ns", "hits", "hits_unready"]] > 0).any(axis=1)
    others = found.loc[~told, "name"].tolist()
    return found[told], more(len(others), f"{first_few(others)}, to which no ready thread was exposed")


def risks(found: pd.DataFrame, title: str = "") -> Sheet:
    """The table of `risk.risk`: values, with the 95% interval of those that were estimated."""
    told, rest = worth_telling(found)
    births = int(found["births"].iloc[0]) if len(found) else 0
    forms: tuple[tuple[str, Callable[[float], str], str], ...] = (
        ("rate{}_hz", "{:.3g}".format, "<= "),
        ("hits_per_birth{}", "{:.3g}".format, "<= "),
        ("p_in_births{}", probability, "<= "),
        ("mean_time_to_first_hit{}_s", lambda time_s: duration(time_s * 1e9), ">= "),
    )
    rows = []
    for row in told.to_dict("records"):
        cells = []
        for column, form, bound in forms:
            value, low, high = (row[column.format(end)] for end in ("", "_low", "_high"))
            text = form(value) if math.isfinite(value) else "-"
            if row["source"] == "bound" and text != "-":
                text = bound + text.replace(ALMOST_CERTAIN, "1")  # a bound is rounded up
            elif row["source"] == "estimated":
                text += f"\n({form(low)}, {form(high)})"
            cells.append(text)
        rows.append((row["name"], row["source"], *cells))
    columns = _numbers("signals/s", "hits/birth", f"P in {births}", "first hit after")
    return Sheet([Column("signal", "word"), Column("rate is", "word"), *columns], rows, printable(title), rest)


def comparison(
    traces: pd.DataFrame, verdicts: pd.DataFrame, shares: pd.DataFrame, medians: pd.DataFrame
) -> list[Sheet]:
    """The tables of a Comparison (analysis.compare)."""
    born = traces["born"].to_dict()
    rows: list[Row] = []
    for row in verdicts.to_dict("records"):
        verdict = Cell(row["verdict"], row["verdict"] if row["new"] else "dim")
        base, new = ((f"{row[name]:,}", share(row[name], born[name])) for name in ("base", "new"))
        rows.append((verdict, *base, *new))
    columns = _numbers("base", "base share", "new", "new share")
    found = [Sheet([Column("verdict", "word"), *columns], rows)]
    rows = []
    for row in shares.to_dict("records"):
        level = row["level"] if row["level"] == WORST_FIRST[0] else f"{row['level']} or worse"
        both = (share(row[name], born[name]) for name in ("base", "new"))
        difference, low, high = (_difference(row[f"difference{end}"]) for end in ("", "_low", "_high"))
        rows.append((level, *both, difference, _interval(low, high), _number(row["p"], ".2g")))
    columns = _numbers("base", "new", "difference", "95% interval", "p")
    found.append(Sheet([Column("share of threads", "word"), *columns], rows))
    rows = []
    for row in medians.to_dict("records"):
        both = (duration(row[name]) for name in ("base", "new"))
        ratio, low, high = (_number(row[f"ratio{end}"]) for end in ("", "_low", "_high"))
        rows.append((row["measure"].removesuffix("_ns"), *both, ratio, _interval(low, high)))
    columns = _numbers("base", "new", "ratio", "95% interval")
    return [*found, Sheet([Column("median", "word"), *columns], rows)]


def _number(value: float, form: str = ".3g") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _difference(shares: float) -> str:
    """A difference of shares; what is not 0 is not rounded to it."""
    return _number(100 * shares, "+.1g" if 0 < abs(shares) < 0.0005 else "+.1f") + "%" * (not math.isnan(shares))


def _interval(low: str, high: str) -> str:
    return "-" if "-" in (low, high) else f"{low} to {high}"
