"""What the engine answers: the tables of one trace under one readiness policy, or of several traces as one.

It imports nothing of the engine, which fills it: who draws, compares or counts needs the tables, and no compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sigwindow.probes import signals as sig
from sigwindow.probes.errors import UsageError

from .question import Question
from .totals import Totals, merged


@dataclass
class Analysis:
    """The engine's answer under one readiness policy.

    threads, hits, by_signal, exposure, traffic, known, losses: the tables that `tables.TABLES` declares. leaders: the
    name of a process's first thread, by the trace's number (0 where there is one trace) and pid. question: as asked.
    start_ns, end_ns: the times of the first and the last event. ended: the tracer closed the trace itself. numbering:
    what the signals are called. totals: all of it in numbers.
    """

    threads: pd.DataFrame
    hits: pd.DataFrame
    by_signal: pd.DataFrame
    exposure: pd.DataFrame
    traffic: pd.DataFrame
    known: pd.DataFrame
    losses: pd.DataFrame
    leaders: dict[tuple[int, int], str]
    question: Question
    start_ns: int
    end_ns: int
    events: int
    lost_events: int
    ended: bool
    numbering: sig.Numbering
    totals: Totals


def one_after_the_other(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of the same table of several traces, with a column `trace` (its number) first."""
    joined = pd.concat(tables, ignore_index=True)
    joined.insert(0, "trace", np.repeat(np.arange(len(tables)), [len(table) for table in tables]))
    return joined


def combined(parts: Sequence[Analysis]) -> Analysis:
    """Several analyses as one, the rows of their tables one after the other with a column `trace` (its number) first.

    parts: at least one, all to the same question. Times and pids mean what they meant in each trace.
    Raises UsageError for traces of several systems: one column can't hold the signals of both.
    """
    first = parts[0]
    if systems := " and ".join(sorted({part.numbering.label for part in parts} - {first.numbering.label})):
        raise UsageError(
            f"traces of {first.numbering.label} and {systems} can't be read as one: their signals have different "
            "numbers. Read those of each system by themselves"
        )

    def of_all(name: str) -> pd.DataFrame:
        return one_after_the_other([getattr(part, name) for part in parts])

    totals = merged(first.question, {n: part.totals for n, part in enumerate(parts)})
    traffic = of_all("traffic").drop(columns="trace")
    return Analysis(
        threads=of_all("threads"),
        hits=of_all("hits"),
        by_signal=totals.by_signal,
        exposure=of_all("exposure"),
        traffic=traffic.groupby(["signal", "name", "class"], as_index=False).sum(),
        known=of_all("known"),
        losses=of_all("losses"),
        leaders={(n, pid): name for n, part in enumerate(parts) for (_, pid), name in part.leaders.items()},
        question=first.question,
        start_ns=min(part.start_ns for part in parts),
        end_ns=max(part.end_ns for part in parts),
        events=totals.events,
        lost_events=totals.lost_events,
        ended=totals.ended,
        numbering=first.numbering,
        totals=totals,
    )
