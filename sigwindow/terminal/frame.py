"""What the live view shows at one moment: a frame of a screen, or a line of a log."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.screen import Screen
from rich.text import Text

from sigwindow.analysis.engine.glance import Glance, Process, Thread
from sigwindow.analysis.sheets import Cell, Column, Sheet
from sigwindow.analysis.tables import BAD, WORST_FIRST
from sigwindow.analysis.words import duration
from sigwindow.probes import signals
from sigwindow.probes.text import printable
from sigwindow.terminal.draw import STYLES, Drawn

_TITLE_WIDTH = len("latest exposed")  # all tables' names are at least as wide: their columns are in line
_GAP = "   "


def frame(glance: Glance, columns: int, rows: int, colours: Any = None) -> list[str]:
    """What is shown, as exactly `rows` lines of exactly `columns` cells. colours: a color_system of Rich."""
    console = Console(
        file=io.StringIO(),
        width=columns,
        height=rows,
        force_terminal=True,
        color_system=colours,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(Screen(_screen(glance, columns, rows)), end="")
    return capture.get().split("\n")


def line(glance: Glance) -> str:
    """What there is to show, as one line of a log."""
    bad = "".join(f", {glance.verdicts[verdict]} {verdict}" for verdict in BAD if glance.verdicts[verdict])
    return (
        f"[sigwindow] {_clock(glance.elapsed_s)}: {glance.births} births{bad}; {glance.events} events "
        f"({glance.events_per_s:.0f}/s), {glance.lost} lost"
    )


def _screen(glance: Glance, width: int, rows: int) -> RenderableType:
    """What there is to show on that many columns and rows. No number is cut: what has no room is left out."""
    head = [
        Text("sigwindow", "bold").append(f"  {_clock(glance.elapsed_s)}", "not bold"),
        Text(f"ring {glance.fill:.0%} full", "yellow" if glance.fill > 0.5 else ""),
        Text(f"{glance.lost} events lost", "bold red" if glance.lost else ""),
    ]
    where = f" in {glance.process_count} processes" if glance.process_count > 1 else ""
    counts = [
        Text(f"births {glance.births} ({glance.births_per_s:.0f}/s){where}"),
        Text(f"open windows {glance.open}"),
        Text(f"events {glance.events} ({glance.events_per_s:.0f}/s)"),
    ]
    verdicts = [
        Text(f"{verdict} {glance.verdicts[verdict]}", STYLES[verdict] if glance.verdicts[verdict] else "dim")
        for verdict in WORST_FIRST
    ]
    shown: list[RenderableType] = [text for parts in (head, counts, verdicts) for text in _flowed(parts, width)]
    tables: list[tuple[Callable[[int], Drawn], int]] = []
    if len(glance.processes) > 1:
        tables.append((lambda count: _processes(glance.processes[:count]), len(glance.processes)))
    if glance.longest:
        of, worst, latest = glance.numbering, glance.longest, glance.latest
        tables.append((lambda count: _threads("worst threads", worst[:count], of), len(worst)))
        tables.append((lambda count: _threads("latest exposed", latest[:count], of), len(latest)))
    for (table, _), count in zip(tables, _shares(rows - len(shown), [needs for _, needs in tables]), strict=True):
        if count:
            shown += ["", table(count)]
    return Group(*shown)


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


def _processes(processes: Sequence[Process]) -> Drawn:
    rows = []
    for row in processes:
        told = (row.pid, duration(row.exposure_ns), row.critical, row.hit, row.exposed, row.open, row.born)
        rows.append((printable(row.comm), *map(str, told)))
    numbers = map(Column, ("pid", "exposure", *BAD, "open", "born"))
    return Drawn(Sheet([Column("process".ljust(_TITLE_WIDTH), "name"), *numbers], rows), tells=False)


def _threads(title: str, threads: Sequence[Thread], of: signals.Numbering) -> Drawn:
    rows = [
        (
            printable(row.comm),
            str(row.tid),
            duration(row.exposure_ns),
            Cell(row.verdict + ("" if row.ready else ", not ready"), row.verdict),
            ", ".join(signals.name(signal, of).removeprefix("SIG") for signal in signals.members(row.signals)),
        )
        for row in threads
    ]
    columns = [Column(title.ljust(_TITLE_WIDTH), "name"), Column("tid"), Column("exposure"), Column("verdict", "word")]
    return Drawn(Sheet([*columns, Column("signals", "list")], rows), tells=False)
