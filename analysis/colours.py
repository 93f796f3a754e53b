"""The colours of the verdicts: one meaning has one colour on paper, on a dark page and in a terminal.

The worse one is, the darker is its colour on paper: who can't tell red from green sees that, too. On its own ground
each can be read as text (a contrast of at least 4.5, as WCAG 2.2 wants it).
"""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """A colour. paper: on white, as #rrggbb; dark: on a dark page; terminal: the style that Rich knows."""

    paper: str
    dark: str
    terminal: str


VERDICT_COLOURS = {
    "critical": Colour("#6a040f", "#ff8a96", "bold red"),
    "hit": Colour("#c1121f", "#ff9d7a", "red"),
    "exposed": Colour("#c45100", "#ffc46b", "yellow"),
    "masked": Colour("#00604a", "#5fd3ae", "green"),
    "unhandled": Colour("#5b636b", "#a0a8b0", "dim"),
}
