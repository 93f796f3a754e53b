"""Answers in a notebook: the sheets of a terminal, as HTML that needs no style sheet and no script."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from .sheets import Cell, Column, Sheet

_LOOKS = {  # of a cell, by its tone; to be read on white and on black
    "critical": "color:#d55e00;font-weight:bold",
    "hit": "color:#d55e00;font-weight:bold",
    "exposed": "font-weight:bold",
    "unhandled": "opacity:.6",
    "dim": "opacity:.6",
    "error": "color:#d55e00;font-weight:bold",
    "warning": "font-weight:bold",
    "note": "opacity:.6",
}
_NOTHING = Markup("")


def html(said: str, notes: Iterable[str], sheets: Iterable[Sheet], below: Markup = _NOTHING) -> str:
    """A sentence, in small print what is to know about it, and tables side by side; below: what comes after them."""
    small = _NOTHING.join(Markup("<br><small>{}</small>").format(note) for note in notes)
    tables = _NOTHING.join(map(_table, sheets))
    side_by_side = Markup("<div style='display:flex;flex-wrap:wrap;gap:1em 3em;align-items:flex-start'>{}</div>")
    answer = Markup("<p><strong>{}</strong>{}</p>{}{}").format(said, small, side_by_side.format(tables), below)
    return f"<div>{answer}</div>"


def _table(sheet: Sheet) -> Markup:
    title = Markup("<strong>{}</strong>").format(sheet.title) if sheet.title else _NOTHING
    head = _row("th", sheet.columns, [column.heading for column in sheet.columns])
    body = _NOTHING.join(_row("td", sheet.columns, row) for row in sheet.rows)
    rest = Markup("<p><small>{}</small></p>").format(sheet.rest) if sheet.rest else _NOTHING
    table = Markup("<div>{}<table><thead>{}</thead><tbody>{}</tbody></table>{}</div>")
    return table.format(title, head, body, rest)


def _row(tag: str, columns: Iterable[Column], cells: Iterable[str | Cell]) -> Markup:
    told = []
    for column, cell in zip(columns, cells, strict=True):
        text, tone = (cell, "") if isinstance(cell, str) else (cell.text, cell.tone)
        look = f"text-align:{'right' if column.kind == 'number' else 'left'};{_LOOKS.get(tone, '')}"
        lines = Markup("<br>").join(text.split("\n"))
        told.append(Markup("<{0} style='{1}'>{2}</{0}>").format(tag, look, lines))
    return Markup("<tr>{}</tr>").format(_NOTHING.join(told))
