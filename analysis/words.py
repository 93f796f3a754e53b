"""Numbers and facts in words: each is put one way, wherever it is told."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sigwindow.probes.errors import UsageError

from .tables import BAD, WORST_FIRST

ALMOST_CERTAIN = ">0.999"  # a probability
WITH_A_BUFFER = ("bcc",)  # back ends whose buffer --buffer sizes
_UNITS_NS = {"d": 86_400e9, "h": 3_600e9, "min": 60e9, "s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}  # the longest first
_SPELLINGS = {"us": "µs", "μs": "µs", "m": "min"}  # of units as people type them; the second has a Greek mu
_LEAST, _MOST = 0.0005, 0.9995  # what is rounded to 0.0% and to 100.0%


def sentence(counts: Mapping[str, int]) -> str:
    """The verdict on a whole trace in one short sentence, from the thread counts of a summary."""
    born = counts["born"]
    if not born:
        return "No thread was born while the trace ran: there is nothing to judge."
    if bad := ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in BAD if counts[verdict]):
        return f"{counted(born, 'thread')} born, of them {bad}."
    seen, but = "", ""
    if uncertain := counts["uncertain"]:
        seen = "seen to be "
        but = f"; records were lost, and {counted(uncertain, 'thread')} {'is' if uncertain == 1 else 'are'} uncertain"
    none = "it was not" if born == 1 else "none was"
    return f"{counted(born, 'thread')} born: {none} {seen}exposed to a considered signal{but}."


def lost(events: int, uncertain: int) -> str:
    """What it means that so many events were lost, with so many threads that are uncertain for it."""
    were = f"{counted(events, 'event')} {'was' if events == 1 else 'were'} lost"
    if not uncertain:
        return f"{were} while no thread was in its window"
    return f"{were}, and {counted(uncertain, 'thread')} {'is' if uncertain == 1 else 'are'} uncertain"


def cut_off(which: str = "the trace") -> str:
    """What is missing of a trace that nobody closed."""
    return f"{which} has no end mark: its tracer was killed, or the file is cut"


def unready(threads: int) -> str:
    """What it means that so many threads were never ready."""
    ready, windows = ("it was", "its window is") if threads == 1 else ("they were", "their windows are")
    return f"{counted(threads, 'thread')} ended, or the trace did, before {ready} ready: {windows} cut"


def stated(clause: str) -> str:
    """A clause as a sentence."""
    return f"{clause[:1].upper()}{clause[1:]}."


def ready_by(asked: str, used: Collection[str]) -> str:
    """A readiness policy, with those that it meant where these have other names, as in `auto (altstack)`."""
    return asked if set(used) <= {asked} else f"{asked} ({', '.join(sorted(set(used)))})"


def share(count: int, of: int) -> str:
    """How much of a whole, as in `13.7%`; 0.0% and 100.0% are nothing but none and all."""
    if not of:
        return "-"
    part = count / of
    return "<0.1%" if 0 < part < _LEAST else ">99.9%" if _MOST <= part < 1 else f"{part:.1%}"


def probability(p: float) -> str:
    """A probability to three digits; 1 is nothing but certain."""
    text = f"{p:.3g}"
    return ALMOST_CERTAIN if text == "1" and p < 1 else text


def counted(number: int, noun: str) -> str:
    """A number of things, as in `1 thread` and `1,412 threads`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def more(rows: int, what: str) -> str:
    """What a table that was cut says below it: how many rows more there are, and what they amount to."""
    return f"{rows:,} more: {what}" if rows > 0 else ""


def by_verdict(rows: Sequence[Mapping[Any, Any]]) -> str:
    """The threads of some rows, which have their counts by verdict, as in `3 critical, 40 masked`."""
    counts = {verdict: sum(row.get(verdict, 0) for row in rows) for verdict in WORST_FIRST}
    return ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in WORST_FIRST if counts[verdict])


def first_few(names: Sequence[str], most: int = 6) -> str:
    """A list of names, of many only the first, as in `SIGHUP, SIGINT and 13 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def name_kinds(names: Iterable[str]) -> dict[str, str]:
    """The group of each thread name: those that differ in their digits only are one, as `Thread-*`.

    A name that has no such others is its own group, digits and all.
    """
    stems = {name: re.sub("[0-9]+", "*", name) for name in names}
    sizes = Counter(stems.values())
    return {name: stem if sizes[stem] > 1 else name for name, stem in stems.items()}


def duration(ns: float | None) -> str:
    """Nanoseconds in the unit that reads best, to three digits; a dash for what is no number."""
    if ns is None or not math.isfinite(ns):
        return "-"
    for unit, size in _UNITS_NS.items():
        if unit in ("min", "ns"):  # minutes are not decimal, and nanoseconds are whole
            continue
        text = f"{ns / size:.3g}"  # rounded: 999.9 µs are a millisecond
        if abs(float(text)) >= 1:
            return f"{text if abs(ns) / size < 999.5 else f'{ns / size:,.0f}'} {unit}"
    return f"{ns:.0f} ns"


def parse_duration(text: str) -> int:
    """A duration such as 20us, 1.5 ms, 5m or 0 in nanoseconds: whatever `duration` says, and more spellings.

    Raises UsageError for anything else.
    """
    found = re.fullmatch(r"(\d[\d,]*(?:\.\d+)?)\s*([a-zµμ]+)|0()", text.strip())
    unit = _SPELLINGS.get(found[2], found[2]) if found and found[2] else "ns"
    if not found or unit not in _UNITS_NS:
        raise UsageError(f"bad duration {text!r}: give a number and ns, us, ms, s, m, h or d, as in 20us")
    return round(float((found[1] or "0").replace(",", "")) * _UNITS_NS[unit])


def frames(stack: str, characters: int) -> str:
    """A folded stack in so many characters: equal frames in a row counted, the outer ones left out where it is long."""
    runs = ((frame, len(list(run))) for frame, run in groupby(stack.split(";")))
    told = "; ".join(f"{frame} x{count}" if count > 1 else frame for frame, count in runs)
    return told if len(told) <= characters else "…" + told[len(told) - characters + 1 :]
