"""Numbers and facts in words: each is put one way, wherever it is told."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST, _MOST = 0.0005, 0.9995  # what is rounded to 0.0% and to 100.0%


def share(count: int, of: int) -> str:
    """How much of a whole, as in `13.7%`; 0.0% and 100.0% are nothing but none and all."""
    if not of:
        return "-"
    part = count / of
    return "<0.1%" if 0 < part < _LEAST else ">99.9%" if _MOST <= part < 1 else f"{part:.1%}"


def counted(number: int, noun: str) -> str:
    """A number of things, as in `1 thread` and `1,412 threads`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_few(names: Sequence[str], most: int = 6) -> str:
    """A list of names, of many only the first, as in `SIGHUP, SIGINT and 13 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
