"""Answers as a person reads them in a terminal: what is told, in which order, in the colours of the verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from sigwindow.analysis import sheets
from sigwindow.analysis.sheets import Cell, Column, Sheet
from sigwindow.analysis.tables import BAD, worst_of
from sigwindow.analysis.words import counted, first_few, name_kinds
from sigwindow.analysis.words import sentence as sentence_of
from sigwindow.collector.session import Ability
from sigwindow.probes import signals
from sigwindow.probes.text import printable
from sigwindow.terminal.draw import STYLES, Drawn

if TYPE_CHECKING:
    from sigwindow.analysis.compare import Comparison
    from sigwindow.analysis.findings.finding import Finding
    from sigwindow.analysis.totals import Totals
    from sigwindow.collector.backends import Backend
    from sigwindow.collector.procfs import Thread
    from sigwindow.probes.preflight import Check

_STATES = ("fine", "degraded", "missing")  # of what a back end needs, in rising order


def sentence(counts: Mapping[str, int]) -> Text:
    """The verdict on a whole trace in one sentence, in the colour of the worst; green is what can be trusted only."""
    worst = worst_of(counts)
    clean = "bold yellow" if counts["uncertain"] else "bold green" if counts["born"] else "bold"
    return Text(sentence_of(counts), STYLES[worst] if worst in BAD else clean)


def summary(
    summary: Mapping[str, Any], totals: Totals, traces: Iterable[Sheet] = (), findings: Sequence[Finding] = ()
) -> RenderableType:
    """The summary of docs/tables.md, and of which totals it is; traces: a table of them, if there are several."""
    return Group(
        sentence(summary["threads"]),
        *(Text(line, "dim") for line in sheets.circumstances(summary)),
        *_apart([*sheets.findings(findings), *traces, *sheets.summary(summary, totals.worst, totals.known)]),
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


def backends(found: Sequence[tuple[Backend, Sequence[Check]]]) -> RenderableType:
    """The answer of `sigwindow doctor`: what every back end can do here, and what it needs for that."""
    rows = []
    for backend, needed in found:
        worst = max(needed, key=lambda check: _STATES.index(check.state))
        can = [ability.value for ability in Ability if ability in backend.abilities()]
        cannot = [ability.value for ability in Ability if ability not in backend.abilities()]
        told = ", ".join(["run", *can]) + f". {backend.cost}" * bool(backend.cost)
        if worst.state == "missing":
            told, cannot = f"nothing: {printable(worst.detail)}", []
        rows.append((backend.name, Cell(worst.state, worst.state), told, ", ".join(cannot)))
    words = (Column("back end", "word"), Column("here", "word"), Column("can", "text"), Column("can't", "text"))
    return Group(Drawn(Sheet(words, rows)), *_apart(_checks(backend.name, needed) for backend, needed in found))


def _checks(name: str, found: Iterable[Check]) -> Sheet:
    """What a back end needs; things in a row of which the same is to be said share a row."""
    rows = []
    for (state, detail, help_), alike in groupby(found, lambda check: (check.state, check.detail, check.help)):
        what = printable(detail) + f"\n-> {help_}" * bool(help_)
        rows.append((Cell(state, state), first_few([check.name for check in alike], 1), what))
    return Sheet([Column("", "word"), Column(f"{name} needs", "word"), Column("found", "text")], rows)


def threads_now(found: Sequence[Thread]) -> RenderableType:
    """The answer of `sigwindow inspect`: which handled signals can reach which thread.

    found: all threads of one process; those that are alike share a row.
    """
    if not found:
        return Text("the process ended meanwhile")
    first = found[0]
    kinds = name_kinds(thread.comm for thread in found)
    alike: dict[tuple[str, int, int], list[Thread]] = {}
    for thread in found:
        alike.setdefault((kinds[thread.comm], thread.mask, thread.pending), []).append(thread)
    rows = [
        (
            f"{len(threads):,}",
            printable(kind),
            ", ".join(str(thread.tid) for thread in threads),
            *map(signals.describe, (mask, first.handled & ~mask, pending)),
        )
        for (kind, mask, pending), threads in alike.items()
    ]
    numbers = (Column("threads"), Column("name", "name"), Column("tids", "list"))
    texts = (Column("blocked", "text"), Column("open to", "text"), Column("pending", "text"))
    of_process = [f"handled: {signals.describe(first.handled)}; ignored: {signals.describe(first.ignored)}"]
    if first.pending_process:
        of_process.append(f"pending for any thread that does not block it: {signals.describe(first.pending_process)}")
    head = f"{counted(len(found), 'thread')} of process {first.pid}"
    return Group(Text(head, "bold"), *map(Text, of_process), "", Drawn(Sheet([*numbers, *texts], rows)))
