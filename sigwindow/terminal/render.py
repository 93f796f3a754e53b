"""Results as a person reads them in a terminal: Rich tables, units that fit, hostile names made harmless."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import starmap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

import pandas as pd
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sigwindow.analysis import summary as summaries
from sigwindow.analysis.summary import duration
from sigwindow.analysis.totals import VERDICTS as RISING
from sigwindow.probes import signals
from sigwindow.probes.text import printable

if TYPE_CHECKING:
    from sigwindow.analysis.compare import Comparison
    from sigwindow.collector.procfs import Thread
    from sigwindow.probes.preflight import Check
    from sigwindow.terminal.view import Glance, Process
    from sigwindow.terminal.view import Thread as LiveThread

VERDICTS = tuple(reversed(RISING))  # the worst first
_STYLES = {"critical": "bold red", "hit": "red", "exposed": "yellow", "masked": "green", "unhandled": "dim"}
_STATES = {"fine": "green", "degraded": "yellow", "missing": "red"}
_NAME_WIDTH = 24
_STACK_WIDTH = 160
_TITLE_WIDTH = len("latest exposed")  # the live tables' names are at least as wide: their columns are in line
_GAP = "   "
_GROUPS = 40  # rows of a table by something


def console(file: TextIO | None = None) -> Console:
    """A console that never takes data for markup; colours only on a terminal."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def name(text: str) -> Text:
    """A name from the traced world: printable, on one line, of bounded width."""
    shown = printable(text)
    return Text(shown if len(shown) <= _NAME_WIDTH else shown[: _NAME_WIDTH - 1] + "…")


def _table(*columns: str, right: Iterable[str] = (), title: str | None = None) -> Table:
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
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
    backend, system, kernel = (printable(trace[key]) or "various" for key in ("backend", "os", "kernel"))
    found = f"{trace['events']} events in {trace['duration_s']:.3g} s by {backend} on {system} {kernel}"
    return f"{found}; ready = {ready}; signals = {policy['signals']}"


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


def batch(
    names: Sequence[str], summaries: Sequence[Mapping[str, Any]], total: Mapping[str, Any], width: int
) -> RenderableType:
    """One row a file, and the total, on a console of so many columns."""
    room = max(width - 57, _NAME_WIDTH)  # the numbers need the rest
    shown = VERDICTS[:-1]  # what is left of the born is unhandled
    columns = ("born", *shown, "lost", "p99")
    table = _table("trace", *columns, right=("trace", *columns))
    table.columns[0].justify = "left"
    for label, row in [*zip(names, summaries, strict=True), ("total", total)]:
        threads = row["threads"]
        numbers = (threads["born"], *(threads[v] for v in shown), row["trace"]["lost_events"])
        worst = next((v for v in VERDICTS if threads[v]), "unhandled")
        told = printable(label)
        told = told if len(told) <= room else "…" + told[1 - room :]  # names differ at their ends
        table.add_row(Text(told, _STYLES[worst]), *map(str, numbers), duration(row["exposure_ns"]["p99"]))
    return table


def groups(found: pd.DataFrame, title: str) -> RenderableType:
    """The table of `analysis.statistics.by`, as far as a terminal is wide; the rows with most exposure first."""
    left_out = ("masked", "unhandled", "unready", "uncertain", "_low", "_high", "_p50_ns", "_max_ns", "critical_hits")
    kept = [column for column in found.columns if not column.endswith(left_out)]
    shown = found[sorted(kept, key="creator_stack".__eq__)]  # the stack last, where it may be long
    shown = shown.rename(
        columns=lambda column: column.removeprefix("exposed_").removeprefix("exposure_").removesuffix("_tid")
    )
    rows = shown.sort_values("total_ns", ascending=False, kind="stable").head(_GROUPS)
    title += f", the first {_GROUPS} of {len(shown)}" if len(shown) > _GROUPS else ""
    table = _table(*map(_heading, rows.columns), title=printable(title))
    for of, column in zip(rows.columns, table.columns, strict=True):
        text = pd.api.types.is_string_dtype(rows[of])
        column.overflow, column.no_wrap, column.justify = "fold", not text, "left" if text else "right"
    for row in rows.itertuples(index=False):
        table.add_row(*(_cell(column, value) for column, value in zip(rows.columns, row, strict=True)))
    return table


def _heading(column: str) -> str:
    return column.removesuffix("_ns").replace("_", " ")


def _cell(column: str, value: Any) -> Text:
    if column == "creator_stack":
        return Text(summaries.frames(printable(value), _STACK_WIDTH))
    if isinstance(value, str):
        return name(value)
    if isinstance(value, pd.Timestamp):
        return Text(f"{value:%Y-%m-%d %Hh}")
    if column.endswith("_ns"):
        return Text(duration(None if pd.isna(value) else value))
    return Text(_percent(value) if column == "share" else str(value))


def risks(found: pd.DataFrame, title: str) -> RenderableType:
    """The table of `analysis.risk.risk`: values, with the 95% interval of those that were estimated."""
    births = int(found["births"].iloc[0]) if len(found) else 0
    columns = ("signals/s", "hits/birth", f"P in {births}", "first hit after")
    table = _table("signal", "rate is", *columns, right=("signal", *columns), title=printable(title))
    table.columns[0].justify = "left"
    forms: tuple[tuple[str, Callable[[float], str], str], ...] = (
        ("rate{}_hz", "{:.3g}".format, "<= "),
        ("hits_per_birth{}", "{:.3g}".format, "<= "),
        ("p_in_births{}", "{:.3g}".format, "<= "),
        ("mean_time_to_first_hit{}_s", lambda time_s: duration(time_s * 1e9), ">= "),
    )
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
        table.add_row(row["name"], row["source"], *cells)
    return table


def comparison(found: Comparison) -> RenderableType:
    """The answer of `sigwindow compare`, for a terminal of 80 columns or more."""
    numbers: tuple[str, ...] = ("base", "base share", "new", "new share")
    verdicts = _table("verdict", *numbers, right=numbers)
    for row in found.verdicts.to_dict("records"):
        verdict = Text(row["verdict"], _STYLES[row["verdict"]] if row["new"] else "dim")
        base, new = ((str(row[name]), _percent(row[f"{name}_share"])) for name in ("base", "new"))
        verdicts.add_row(verdict, *base, *new)
    numbers = ("base", "new", "difference", "95% interval", "p")
    shares = _table("share of threads", *numbers, right=numbers)
    for row in found.shares.to_dict("records"):
        level = row["level"] if row["level"] == VERDICTS[0] else f"{row['level']} or worse"
        both = (_percent(row[f"{name}_share"]) for name in ("base", "new"))
        difference, low, high = (_percent(row[f"difference{end}"], "+") for end in ("", "_low", "_high"))
        shares.add_row(level, *both, difference, _interval(low, high), _number(row["p"], ".2g"))
    numbers = ("base", "new", "ratio", "95% interval")
    medians = _table("median", *numbers, right=numbers)
    for row in found.medians.to_dict("records"):
        both = (duration(row[name]) for name in ("base", "new"))
        ratio, low, high = (_number(row[f"ratio{end}"]) for end in ("", "_low", "_high"))
        medians.add_row(_heading(row["measure"]), *both, ratio, _interval(low, high))
    return Group(
        Text(found.sentence, "bold red" if found.regression else "bold"),
        *("", verdicts, "", shares, "", medians),
        Text(f"setup times, log-rank test: p = {_number(found.setup.p, '.2g')}", "dim"),
    )


def _number(value: float, form: str = ".3g") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"


def _percent(share: float, sign: str = "") -> str:
    return _number(share, f"{sign}.1%")


def _interval(low: str, high: str) -> str:
    return "-" if "-" in (low, high) else f"{low} to {high}"


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


def live(glance: Glance, width: int, rows: int) -> RenderableType:
    """The live view, for a screen of that many columns and rows. No number is cut: what has no room is left out."""
    head = [
        Text("sigwindow", "bold").append(f"  {_clock(glance.elapsed_s)}", "not bold"),
        Text(f"ring {glance.fill:.0%} full", "yellow" if glance.fill > 0.5 else ""),
        Text(f"{glance.lost} events lost", "bold red" if glance.lost else ""),
    ]
    counts = [
        Text(f"births {glance.births} ({glance.births_per_s:.0f}/s)"),
        Text(f"open windows {glance.open}"),
        Text(f"events {glance.events} ({glance.events_per_s:.0f}/s)"),
    ]
    verdicts = [
        Text(f"{verdict} {glance.verdicts[verdict]}", _STYLES[verdict] if glance.verdicts[verdict] else "dim")
        for verdict in VERDICTS
    ]
    shown: list[RenderableType] = [line for parts in (head, counts, verdicts) for line in _flowed(parts, width)]
    tables: list[tuple[Callable[[int], Table], int]] = []
    if len(glance.processes) > 1:
        tables.append((lambda count: _live_processes(glance.processes[:count], width), len(glance.processes)))
    if glance.longest:
        tables.append((lambda count: _live_threads("most exposed", glance.longest[:count], width), len(glance.longest)))
        tables.append((lambda count: _live_threads("latest exposed", glance.latest[:count], width), len(glance.latest)))
    for (table, _), count in zip(tables, _shares(rows - len(shown), [needs for _, needs in tables]), strict=True):
        if count:
            shown += ["", table(count)]
    return Group(*shown)


def live_line(glance: Glance) -> str:
    """The live view as one line of a log."""
    bad = "".join(f", {glance.verdicts[verdict]} {verdict}" for verdict in VERDICTS[:3] if glance.verdicts[verdict])
    return (
        f"[sigwindow] {_clock(glance.elapsed_s)}: {glance.births} births{bad}; {glance.events} events "
        f"({glance.events_per_s:.0f}/s), {glance.lost} lost"
    )


def _clock(seconds: float) -> str:
    """A time as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _shares(rows: int, needs: Sequence[int]) -> list[int]:
    """How many rows of data each table gets, below a blank one and its head; the first one is served best."""
    counts = []
    for place, need in enumerate(needs):
        share = rows // (len(needs) - place) if place else max(rows // len(needs), rows // 2)
        if share < 4:  # two rows of data, or none
            share = rows
        counts.append(max(min(need, share - 2), 0))
        rows -= counts[-1] + 2
    return counts


def _flowed(parts: Iterable[Text], width: int) -> list[Text]:
    """Parts side by side, on as many lines as they need: none is cut in two."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + len(_GAP) + part.cell_len <= width:
            lines[-1].append(_GAP).append_text(part)
        else:
            lines.append(Text(no_wrap=True).append_text(part))
    return lines


class _Column(NamedTuple):
    """A column of a live table."""

    heading: str
    cells: Sequence[Text]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.heading, *(cell.plain for cell in self.cells)))) + 2


def _live_table(columns: Sequence[_Column], width: int) -> Table:
    """The columns that have room, the first ones first. That of names, the first, gives way; no other is ever cut."""
    room, shown = width - _TITLE_WIDTH, 1
    while shown < len(columns) and columns[shown].width <= room:
        room -= columns[shown].width
        shown += 1
    table = _table(*(column.heading for column in columns[:shown]))
    for column, drawn in zip(columns, table.columns, strict=False):
        drawn.justify, drawn.no_wrap = column.justify, True
    table.columns[0].width = min(columns[0].width - 2, _TITLE_WIDTH + room)
    for row in zip(*(column.cells for column in columns[:shown]), strict=True):
        table.add_row(*row)
    return table


def _live_processes(processes: Sequence[Process], width: int) -> Table:
    numbers: dict[str, Callable[[Process], object]] = {
        "pid": lambda row: row.pid,
        "exposure": lambda row: duration(row.exposure_ns),
        "critical": lambda row: row.critical,
        "hit": lambda row: row.hit,
        "exposed": lambda row: row.exposed,
        "open": lambda row: row.open,
        "born": lambda row: row.born,
    }
    names = _Column("process".ljust(_TITLE_WIDTH), [name(row.comm) for row in processes], "left")
    columns = [_Column(heading, [Text(str(of(row))) for row in processes]) for heading, of in numbers.items()]
    return _live_table([names, *columns], width)


def _live_threads(title: str, threads: Sequence[LiveThread], width: int) -> Table:
    verdicts = [(row.verdict if row.ready else f"{row.verdict}, not ready", _STYLES[row.verdict]) for row in threads]
    columns = [
        _Column(title.ljust(_TITLE_WIDTH), [name(row.comm) for row in threads], "left"),
        _Column("tid", [Text(str(row.tid)) for row in threads]),
        _Column("exposure", [Text(duration(row.exposure_ns)) for row in threads]),
        _Column("verdict", list(starmap(Text, verdicts)), "left"),
    ]
    room = width - 2 - sum(column.width for column in columns)
    columns.append(_Column("signals", [Text(_signals_within(row.signals, room)) for row in threads], "left"))
    return _live_table(columns, width)


def _signals_within(word: int, width: int) -> str:
    """A set of signals by as many names as there is room for: `HUP, INT and 13 more`; at least `15 signals`."""
    names = [signals.name(signal).removeprefix("SIG") for signal in signals.members(word)]
    for shown in range(len(names), 0, -1):
        more = f" and {len(names) - shown} more" if shown < len(names) else ""
        if len(told := ", ".join(names[:shown]) + more) <= width:
            return told
    return f"{len(names)} signal{'s' * (len(names) != 1)}"
