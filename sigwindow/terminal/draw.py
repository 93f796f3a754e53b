"""Sheets drawn on a terminal: which columns have room, and what gives way where they have not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from sigwindow.analysis.colours import VERDICT_COLOURS
from sigwindow.analysis.sheets import Cell, Column, Sheet

STYLES = {  # by the tone of a cell
    **{verdict: colour.terminal for verdict, colour in VERDICT_COLOURS.items()},
    "dim": "dim",
    "fine": "green",
    "degraded": "yellow",
    "missing": "red",
    "error": "bold red",
    "warning": "yellow",
    "note": "dim",
}
_GAP = 2  # cells between two columns
_NAME_WIDTH = 24
_LEAST = {"name": 8, "path": 24, "text": 20}  # columns narrower than that tell nothing


def console(file: TextIO | None = None) -> Console:
    """A console that never takes data for markup; colours only on a terminal."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


class Drawn:
    """A sheet as Rich draws it. No number is cut: what has no room is left out, and `tells` says so below it."""

    def __init__(self, sheet: Sheet, *, tells: bool = True) -> None:
        self._sheet = sheet
        self._tells = tells
        self._cells = [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in sheet.rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = self._sheet.columns
        widths = self._widths(options.max_width)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        if self._sheet.title:
            yield Text(self._sheet.title, "bold")
        for place, width in widths.items():
            heading, kind = columns[place]
            table.add_column(heading, width=width, no_wrap=kind != "text", overflow="ellipsis")
            table.columns[-1].justify = "right" if kind == "number" else "left"
        for row in self._cells:
            table.add_row(*(_shown(columns[place], row[place], width) for place, width in widths.items()))
        yield table
        left_out = [column.heading for place, column in enumerate(columns) if place not in widths]
        if left_out and self._tells:
            yield Text(f"no room for: {', '.join(left_out)}", "dim")
        if self._sheet.rest:
            yield Text(self._sheet.rest, "dim")

    def _widths(self, room: int) -> dict[int, int]:
        """The columns that are shown, by place, and how wide."""
        columns = self._sheet.columns
        wanted = [self._wanted(place) for place in range(len(columns))]
        least = [self._least(place, width) for place, width in enumerate(wanted)]
        shown = list(range(len(columns)))
        while len(shown) > 1 and sum(least[place] + _GAP for place in shown) - _GAP > room:
            # Rather a list than a number, and the last number rather than a text.
            lists = [place for place in shown[1:] if columns[place].kind == "list"]
            others = [place for place in shown[1:] if columns[place].kind != "text"]
            shown.remove((lists or others or shown)[-1])
        left = room - sum(least[place] + _GAP for place in shown) + _GAP
        widths = {place: least[place] for place in shown}
        for kinds in (("name", "path"), ("list",), ("text",)):
            for place in shown:
                if columns[place].kind in kinds:
                    more = max(min(left, wanted[place] - least[place]), 0)
                    widths[place] += more
                    left -= more
        return widths

    def _wanted(self, place: int) -> int:
        heading, kind = self._sheet.columns[place]
        texts = [line for row in self._cells for line in row[place].text.split("\n")]
        width = max((cell_len(text) for text in texts), default=0)
        return max(min(width, _NAME_WIDTH) if kind == "name" else width, cell_len(heading))

    def _least(self, place: int, wanted: int) -> int:
        heading, kind = self._sheet.columns[place]
        if kind == "list":
            return max(
                cell_len(text) for text in (heading, *(_listed(row[place].text, heading, 0) for row in self._cells))
            )
        return max(min(wanted, _LEAST.get(kind, wanted)), cell_len(heading))


def _shown(column: Column, cell: Cell, width: int) -> Text:
    text = cell.text
    if column.kind == "list":
        text = _listed(text, column.heading, width)
    elif column.kind == "path" and cell_len(text) > width:
        text = "…" + text[1 - width :]  # names differ at their ends
    return Text(text, STYLES.get(cell.tone, ""))


def _listed(text: str, noun: str, width: int) -> str:
    """A list by as many of its names as there is room for: `HUP, INT and 13 more`; at least `15 signals`."""
    names = text.split(", ")
    for shown in range(len(names), 0, -1):
        told = ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if shown < len(names) else "")
        if cell_len(told) <= width:
            return told
    return f"{len(names)} {noun}" if len(names) > 1 else text
