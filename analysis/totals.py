"""What is said of all threads together: it adds up, part by part and over traces, and does not grow with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from .durations import Durations
from .question import Question
from .tables import BY_PROCESS, BY_SIGNAL, EXPOSED, KNOWN, THREADS, framed, names, worst_first

WORST = 5  # threads that are kept, of the worst
OPENED = ("at birth", "later", "internal")  # what an exposed thread was open to, and since when


@dataclass
class Totals:
    """The threads of a trace, or of several, in numbers.

    question: as asked. verdicts: births by verdict. setup: of ready threads. exposure: of those of them that were
    exposed. by_signal: one row a handled signal (BY_SIGNAL). by_process: one row a process with born threads
    (BY_PROCESS); of one trace only, since pids mean nothing beyond it. exposed: one row a circumstance under which
    threads were exposed (EXPOSED; opened: `at birth` to a signal that a program can block, `later`, or `internal` where
    only the C library's own were open). worst: the rows of the thread table of the worst threads, of several traces
    with a first column `trace`. known: the threads from before (KNOWN), of one trace only.
    """

    question: Question
    duration_ns: int = 0
    events: int = 0
    lost_events: int = 0
    ended: bool = True
    verdicts: Counter[str] = field(default_factory=Counter)
    unready: int = 0
    uncertain: int = 0
    setup: Durations = field(default_factory=Durations)
    exposure: Durations = field(default_factory=Durations)
    by_signal: pd.DataFrame = field(default_factory=partial(framed, BY_SIGNAL))
    by_process: pd.DataFrame = field(default_factory=partial(framed, BY_PROCESS))
    exposed: pd.DataFrame = field(default_factory=partial(framed, EXPOSED))
    worst: pd.DataFrame = field(default_factory=partial(framed, THREADS))
    known: pd.DataFrame = field(default_factory=partial(framed, KNOWN))

    @property
    def born(self) -> int:
        """How many threads were born."""
        return self.verdicts.total()

    @property
    def complete(self) -> bool:
        """The tracer closed the trace itself, and no event was lost."""
        return self.ended and self.lost_events == 0

    @property
    def longest_exposure_ns(self) -> int:
        """The longest exposure of a ready thread."""
        return self.exposure.summary()["max"] or 0


def merged(question: Question, parts: Mapping[Any, Totals]) -> Totals:
    """The totals of several traces together; in what order they are given changes nothing.

    question: what all of them were asked. parts: by what the worst threads call their trace.
    """
    total = Totals(question)
    for part in parts.values():
        total.duration_ns += part.duration_ns
        total.events += part.events
        total.lost_events += part.lost_events
        total.ended &= part.ended
        total.verdicts.update(part.verdicts)
        total.unready += part.unready
        total.uncertain += part.uncertain
        total.setup.merge(part.setup)
        total.exposure.merge(part.exposure)
    if parts:
        for table, keys in (("by_signal", names(BY_SIGNAL)[:3]), ("exposed", names(EXPOSED)[:-1])):
            tables = pd.concat([getattr(part, table) for part in parts.values()])
            setattr(total, table, tables.groupby(keys, as_index=False).sum())
        worst = pd.concat(dict(enumerate(part.worst for part in parts.values())), names=["trace"])
        worst = worst_first(worst.reset_index(level="trace")).head(WORST)
        called = list(parts)  # objects: a file's name may be no text
        total.worst = worst.assign(trace=pd.Series([called[n] for n in worst["trace"]], worst.index, object))
    return total
