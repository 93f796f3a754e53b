"""Answers as a person reads them in a terminal: what is told, in which order, in the colours of the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from sigwindow.analysis import sheets
from sigwindow.analysis.sheets import Cell, Column, Sheet
from sigwindow.analysis.tables import BAD, WORST_FIRST, worst_of
from sigwindow.analysis.words import duration
from sigwindow.analysis.words import sentence as sentence_of
from sigwindow.collector.session import Ability
from sigwindow.probes import signals
from sigwindow.probes.preflight import can_trace
from sigwindow.probes.text import printable
from sigwindow.terminal.draw import STYLES, Drawn

if TYPE_CHECKING:
    import pandas as pd

    from sigwindow.analysis.compare import Comparison
    from sigwindow.analysis.engine.glance import Glance, Process
    from sigwindow.analysis.engine.glance import Thread as LiveThread
    from sigwindow.analysis.findings.finding import Finding
    from sigwindow.collector.backends import Backend
    from sigwindow.collector.procfs import Thread
    from sigwindow.probes.preflight import Check

_TITLE_WIDTH = len("latest exposed")  # the live tables' names are at least as wide: their columns are in line
_GAP = "   "


def sentence(counts: Mapping[str, int]) -> Text:
    """The verdict on a whole trace in one sentence, in the colour of the worst."""
    worst = worst_of(counts)
    style = STYLES[worst] if worst in BAD else "bold green" if counts["born"] else "bold"
    return Text(sentence_of(counts), style)


def summary(
    summary: Mapping[str, Any], worst: pd.DataFrame, traces: Iterable[Sheet] = (), findings: Sequence[Finding] = ()
) -> RenderableType:
    """The summary of docs/tables.md; worst: its worst threads; traces: a table of them, if there are several."""
    return Group(
        sentence(summary["threads"]),
        *(Text(line, "dim") for line in sheets.circumstances(summary)),
        *_apart([*sheets.findings(findings), *traces, *sheets.summary(summary, worst)]),
        *(Text(f"! {line}", "yellow") for line in sheets.reservations(summary)),
    )


def comparison(found: Comparison) -> RenderableType:
    """The answer of `sigwindow compare`, for a terminal of 80 columns or more."""
    said = Text(found.sentence, "bold red" if found.regression else "bold")
    return Group(said, *_apart(found.sheets), Text(found.setup_test, "dim"))


def _apart(tables: Iterable[Sheet]) -> Iterator[RenderableType]:
    """Each below a blank line."""
    for table in tables:
        yield from ("", Drawn(table))


def backends(found: Iterable[tuple[Backend, Sequence[Check]]]) -> RenderableType:
    """The answer of `sigwindow doctor`: every back end, what it can do here, and what it needs for that."""
    parts: list[RenderableType] = []
    for backend, needed in found:
        works = can_trace(needed)
        can = ", ".join(["run", *(ability.value for ability in Ability if ability in backend.abilities())])
        told = f"{can}. {backend.cost}".strip() if works else "does not work here"
        parts += [Text(f"{backend.name}: {told}", "bold" if works else "bold dim"), _checks(needed), ""]
    return Group(*parts[:-1])


def _checks(found: Iterable[Check]) -> RenderableType:
    rows = [
        (Cell(check.state, check.state), check.name, printable(check.detail) + f"\n-> {check.help}" * bool(check.help))
        for check in found
    ]
    return Drawn(Sheet([Column("", "word"), Column("check", "word"), Column("found", "text")], rows))


def threads_now(found: list[Thread]) -> RenderableType:
    """The answer of `sigwindow inspect`: which handled signals can reach which thread, and which wait."""
    columns = [Column("tid"), Column("name", "name"), Column("blocked", "text")]
    columns += [Column("handled signals let through", "text"), Column("pending", "text")]
    rows = []
    for of in found:
        sets = (of.mask, of.handled & ~of.mask, of.pending)
        rows.append((str(of.tid), printable(of.comm), *map(signals.describe, sets)))
    waiting = found[0].pending_process if found else 0
    rest = f"pending for the whole process, until a thread lets it through: {signals.describe(waiting)}"
    return Drawn(Sheet(columns, rows, rest=rest if waiting else ""))


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
        Text(f"{verdict} {glance.verdicts[verdict]}", STYLES[verdict] if glance.verdicts[verdict] else "dim")
        for verdict in WORST_FIRST
    ]
    shown: list[RenderableType] = [line for parts in (head, counts, verdicts) for line in _flowed(parts, width)]
    tables: list[tuple[Callable[[int], Drawn], int]] = []
    if len(glance.processes) > 1:
        tables.append((lambda count: _live_processes(glance.processes[:count]), len(glance.processes)))
    if glance.longest:
        tables.append((lambda count: _live_threads("worst threads", glance.longest[:count]), len(glance.longest)))
        tables.append((lambda count: _live_threads("latest exposed", glance.latest[:count]), len(glance.latest)))
    for (table, _), count in zip(tables, _shares(rows - len(shown), [needs for _, needs in tables]), strict=True):
        if count:
            shown += ["", table(count)]
    return Group(*shown)


def live_line(glance: Glance) -> str:
    """The live view as one line of a log."""
    bad = "".join(f", {glance.verdicts[verdict]} {verdict}" for verdict in BAD if glance.verdicts[verdict])
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


def _live_processes(processes: Sequence[Process]) -> Drawn:
    rows = []
    for row in processes:
        told = (row.pid, duration(row.exposure_ns), row.critical, row.hit, row.exposed, row.open, row.born)
        rows.append((printable(row.comm), *map(str, told)))
    numbers = map(Column, ("pid", "exposure", *BAD, "open", "born"))
    return Drawn(Sheet([Column("process".ljust(_TITLE_WIDTH), "name"), *numbers], rows), tells=False)


def _live_threads(title: str, threads: Sequence[LiveThread]) -> Drawn:
    rows = [
        (
            printable(row.comm),
            str(row.tid),
            duration(row.exposure_ns),
            Cell(row.verdict + ("" if row.ready else ", not ready"), row.verdict),
            ", ".join(signals.name(signal).removeprefix("SIG") for signal in signals.members(row.signals)),
        )
        for row in threads
    ]
    columns = [Column(title.ljust(_TITLE_WIDTH), "name"), Column("tid"), Column("exposure"), Column("verdict", "word")]
    return Drawn(Sheet([*columns, Column("signals", "list")], rows), tells=False)
