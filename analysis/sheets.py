"""Answers as small tables of text, in the order and the words in which a terminal and a notebook both draw them.

A sheet says what is told; how it looks is the business of who draws it. Texts of the traced world are printable in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sigwindow.probes.text import printable

from .summary import duration, frames
from .totals import VERDICTS

if TYPE_CHECKING:
    import pandas as pd

WORST_FIRST = tuple(reversed(VERDICTS))
_BAD = WORST_FIRST[:3]
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


def summary(summary: Mapping[str, Any], worst: pd.DataFrame) -> list[Sheet]:
    """The tables of a summary (docs/tables.md); worst: the most exposed threads, as Totals has them."""
    found = [_verdicts(summary["threads"]), _lengths(summary)]
    if open_to := [row for row in summary["by_signal"] if row["threads"] or row["hits"]]:
        found.append(_signals(open_to))
    if len(summary["by_process"]) > 1:
        found.append(_processes(summary["by_process"]))
    if len(worst):
        found.append(_worst(worst.to_dict("records")))
    return found


def _verdicts(counts: Mapping[str, int]) -> Sheet:
    rows = []
    for verdict in WORST_FIRST:
        share = f"{counts[verdict] / counts['born']:.1%}" if counts["born"] else "-"
        rows.append((Cell(verdict, verdict if counts[verdict] else "dim"), str(counts[verdict]), share))
    return Sheet([Column("verdict", "word"), *_numbers("threads", "share")], rows)


def _lengths(summary: Mapping[str, Any]) -> Sheet:
    numbers = ("min", "p50", "p90", "p99", "max", "total")
    rows = [
        (label, str(summary[key]["count"]), *(duration(summary[key][of]) for of in numbers))
        for label, key in (("setup", "setup_ns"), ("exposure", "exposure_ns"))
    ]
    return Sheet([Column("", "word"), *_numbers("threads", *numbers)], rows)


def _signals(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    ranked = sorted(rows, key=lambda row: (-row["critical"], -row["hits"], -row["exposure_ns"]))
    cells = [
        (
            row["signal"],
            row["class"],
            *map(str, (row["threads"], duration(row["exposure_ns"]), row["hits"], row["critical"])),
        )
        for row in ranked[:_SIGNALS]
    ]
    columns = [Column("signal", "word"), Column("class", "word"), *_numbers("threads", "exposure", "hits", "critical")]
    more = len(rows) - _SIGNALS
    return Sheet(columns, cells, rest=f"and {more} more signals: --format json lists them" if more > 0 else "")


def _processes(rows: Sequence[Mapping[str, Any]]) -> Sheet:
    cells = []
    for row in sorted(rows, key=lambda row: -row["exposure_ns"])[:_PROCESSES]:
        born = sum(row[verdict] for verdict in WORST_FIRST)
        counts = (str(row[verdict]) for verdict in _BAD)
        told = (str(row["pid"]), str(born), *counts, duration(row["exposure_ns"]))
        cells.append((printable(row["comm"]), *told, row["policy"]))
    columns = [Column("process", "name"), *_numbers("pid", "born", *_BAD, "exposure"), Column("policy", "word")]
    return Sheet(columns, cells)


def _worst(rows: Iterable[Mapping[Hashable, Any]]) -> Sheet:
    cells = [
        (
            printable(row["comm"]),
            str(row["tid"]),
            duration(row["exposure_ns"]),
            duration(row["setup_ns"]),
            str(row["hits"]),
            str(row["critical_hits"]),
            Cell(row["verdict"] + ("" if row["ready"] else " (never ready)"), row["verdict"]),
        )
        for row in rows
    ]
    columns = _numbers("tid", "exposure", "setup", "hits", "critical")
    return Sheet([Column("most exposed", "name"), *columns, Column("verdict", "word")], cells)


def batch(names: Sequence[str], summaries: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Sheet:
    """One row a trace, and the total."""
    cells: list[Row] = []
    for label, row in [*zip(names, summaries, strict=True), ("total", total)]:
        threads = row["threads"]
        worst = next((verdict for verdict in WORST_FIRST if threads[verdict]), "unhandled")
        numbers = (threads["born"], *(threads[verdict] for verdict in _SHOWN), row["trace"]["lost_events"])
        cells.append((Cell(printable(label), worst), *map(str, numbers), duration(row["exposure_ns"]["p99"])))
    return Sheet([Column("trace", "path"), *_numbers("born", *_SHOWN, "lost", "p99")], cells)


def groups(found: pd.DataFrame, title: str) -> Sheet:
    """The table of `statistics.by`; the rows with most exposure first."""
    import pandas as pd

    left_out = ("masked", "unhandled", "unready", "uncertain", "_low", "_high", "_p50_ns", "_max_ns", "critical_hits")
    kept = [column for column in found.columns if not column.endswith(left_out)]
    shown = found[sorted(kept, key="creator_stack".__eq__)]  # the stack last, where it may be long
    shown = shown.sort_values("exposure_total_ns", ascending=False, kind="stable").head(_GROUPS)
    title += f", the first {_GROUPS} of {len(found)}" if len(found) > _GROUPS else ""
    columns = []
    for column in shown.columns:
        heading = column.removeprefix("exposed_").removeprefix("exposure_").removesuffix("_tid").removesuffix("_ns")
        text = pd.api.types.is_string_dtype(shown[column])
        kind: Any = "text" if column == "creator_stack" else "name" if text else "number"
        columns.append(Column(heading.replace("_", " "), kind))
    rows = [
        [_cell(column, value) for column, value in zip(shown.columns, row, strict=True)]
        for row in shown.astype(object).where(shown.notna(), None).itertuples(index=False)
    ]
    return Sheet(columns, rows, printable(title))


def _cell(column: str, value: Any) -> str:
    if column == "creator_stack":
        return frames(printable(value), _STACK_WIDTH)
    if isinstance(value, str):
        return printable(value)
    if column == "hour":
        return f"{value:%Y-%m-%d %Hh}"
    if column.endswith("_ns"):
        return duration(value)
    return _percent(value) if column.endswith("share") else str(value)


def risks(found: pd.DataFrame, title: str) -> Sheet:
    """The table of `risk.risk`: values, with the 95% interval of those that were estimated."""
    births = int(found["births"].iloc[0]) if len(found) else 0
    forms: tuple[tuple[str, Callable[[float], str], str], ...] = (
        ("rate{}_hz", "{:.3g}".format, "<= "),
        ("hits_per_birth{}", "{:.3g}".format, "<= "),
        ("p_in_births{}", "{:.3g}".format, "<= "),
        ("mean_time_to_first_hit{}_s", lambda time_s: duration(time_s * 1e9), ">= "),
    )
    rows = []
    for row in found.to_dict("records"):
        cells = []
        for column, form, bound in forms:
            value, low, high = (row[column.format(end)] for end in ("", "_low", "_high"))
            text = form(value) if math.isfinite(value) else "-"
            if row["source"] == "bound" and text != "-":
                text = bound + text
            elif row["source"] == "estimated":
                text += f"\n({form(low)}, {form(high)})"
            cells.append(text)
        rows.append((row["name"], row["source"], *cells))
    columns = _numbers("signals/s", "hits/birth", f"P in {births}", "first hit after")
    return Sheet([Column("signal", "word"), Column("rate is", "word"), *columns], rows, printable(title))


def comparison(verdicts: pd.DataFrame, shares: pd.DataFrame, medians: pd.DataFrame) -> list[Sheet]:
    """The tables of a Comparison (analysis.compare)."""
    found = []
    rows: list[Row] = []
    for row in verdicts.to_dict("records"):
        verdict = Cell(row["verdict"], row["verdict"] if row["new"] else "dim")
        base, new = ((str(row[name]), _percent(row[f"{name}_share"])) for name in ("base", "new"))
        rows.append((verdict, *base, *new))
    found.append(Sheet([Column("verdict", "word"), *_numbers("base", "base share", "new", "new share")], rows))
    rows = []
    for row in shares.to_dict("records"):
        level = row["level"] if row["level"] == WORST_FIRST[0] else f"{row['level']} or worse"
        both = (_percent(row[f"{name}_share"]) for name in ("base", "new"))
        difference, low, high = (_percent(row[f"difference{end}"], "+") for end in ("", "_low", "_high"))
        rows.append((level, *both, difference, _interval(low, high), _number(row["p"], ".2g")))
    columns = _numbers("base", "new", "difference", "95% interval", "p")
    found.append(Sheet([Column("share of threads", "word"), *columns], rows))
    rows = []
    for row in medians.to_dict("records"):
        both = (duration(row[name]) for name in ("base", "new"))
        ratio, low, high = (_number(row[f"ratio{end}"]) for end in ("", "_low", "_high"))
        rows.append((row["measure"].removesuffix("_ns"), *both, ratio, _interval(low, high)))
    columns = _numbers("base", "new", "ratio", "95% interval")
    found.append(Sheet([Column("median", "word"), *columns], rows))
    return found


def _number(value: float, form: str = ".3g") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _percent(share: float, sign: str = "") -> str:
    return _number(share, f"{sign}.1%")


def _interval(low: str, high: str) -> str:
    return "-" if "-" in (low, high) else f"{low} to {high}"
