"""The engine: from events to one row a born thread, its setup window and what happened in it.

`lives` runs the events and gives one record a life, with its window under every policy. Here batches become what it
takes, and `answer` makes tables of records, under the policy that is asked for. How the stream is cut changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa

from sigwindow.analysis.question import POLICIES, Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.totals import Totals
from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import OrderError

from .answer import Answer
from .lives import Lives
from .records import SAYS_COMM, Array, Columns
from .store import Store

_CODE = events.CODE
_SETS = ("mask", "handled")  # of signals


class _Names:
    """Strings by number, so that records hold numbers."""

    def __init__(self) -> None:
        self._codes = {"": 0}

    def encode(self, column: pa.Array) -> Array:
        """The numbers of a column of strings; Python touches each distinct string of it once."""
        encoded = column.dictionary_encode()
        distinct = encoded.dictionary.cast(pa.binary()).to_pylist()  # a hostile file may hold what is no UTF-8
        texts = [raw.decode("utf-8", "backslashreplace") for raw in distinct]
        codes = [self._codes.setdefault(text, len(self._codes)) for text in texts]
        coded: Array = np.array(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        return coded

    def words(self) -> list[str]:
        """The string of every number."""
        return list(self._codes)


def _has_text(column: pa.Array) -> bool:
    """Whether any of a column's strings is not empty; looks at the column's size only."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return bool(offsets[0] != offsets[-1])


class Windows:
    """Measures the setup windows of a stream of events.

    question: what is asked of them. system: where the events are from, the `os` of a trace; it decides what signals are
    called. every_policy: the answer may be asked for under other policies, too, which takes more memory.
    Raises UsageError for an unknown policy, and for a signal that the system does not have.
    """

    def __init__(self, question: Question = Question(), system: str = "linux", *, every_policy: bool = False) -> None:
        self._question = question
        self.policies = tuple(range(len(POLICIES))) if every_policy else question.policies
        self._numbering = sig.numbering(system)
        self._considered = np.uint64(question.considered(self._numbering))
        self._comms = _Names()
        self._stacks = _Names()
        self._lives = Lives(int(self._considered), self._numbering.kept_back, self.policies)
        self._ended_lives = Store()
        self._hits: list[Array] = []  # HIT
        self._losses: list[pd.DataFrame] = []
        self._events = 0
        self._start_ns = 0
        self._end_ns = 0
        self._ended = False

    @property
    def columns(self) -> list[str]:
        """The columns of the event table that are looked at."""
        high = [f"{name}_hi" for name in _SETS] if self._numbering.wide else []
        return [*Columns._fields, *high]

    def feed(self, batch: pa.RecordBatch) -> None:
        """Take in the next events, in any order within the batch.

        Raises OrderError for an event earlier than the last one of an earlier batch.
        """
        self.take(self.prepared(batch))

    def prepared(self, batch: pa.RecordBatch) -> Columns:
        """The next events as `take` wants them: half of `feed`, which may run ahead in another thread.

        Raises OrderError for an event earlier than the last one of an earlier batch.
        """
        time_ns = batch.column("time_ns").to_numpy()
        if np.any(time_ns[1:] < time_ns[:-1]):
            batch = batch.take(pa.array(np.argsort(time_ns, kind="stable")))
            time_ns = batch.column("time_ns").to_numpy()
        if len(time_ns):
            if self._events and time_ns[0] < self._end_ns:
                raise OrderError(f"events are out of order: one at {time_ns[0]} ns follows one at {self._end_ns} ns")
            if not self._events:
                self._start_ns = int(time_ns[0])
            self._end_ns = int(time_ns[-1])
            self._events += len(time_ns)
        return self._columns(batch)

    def take(self, columns: Columns) -> None:
        """Take in events that were prepared, in the order in which they were."""
        self._lives.feed(columns)
        parts, hits = self._lives.taken()
        if len(hits):
            self._hits.append(hits)
        for part in parts:
            self._ended_lives.add(part)

    def totals(self, ready: str | None = None) -> Totals:
        """The threads in numbers, as of the last event fed; changes nothing.

        Takes no more memory for more threads. ready: as for `result`.
        """
        return self._answer(ready).totals()

    def result(self, ready: str | None = None) -> Analysis:
        """The tables as of the last event fed; changes nothing.

        ready: another policy than the question's. Raises UsageError for an unknown one, and ValueError for one whose
        windows were not kept.
        """
        return self._answer(ready).analysis()

    def tables(self) -> Iterator[pd.DataFrame]:
        """The thread table part by part, for threads too many for one; within a part in order of birth."""
        return self._answer(None).tables()

    def _answer(self, ready: str | None) -> Answer:
        return Answer(self, self._question if ready is None else replace(self._question, ready=ready))

    def _columns(self, batch: pa.RecordBatch) -> Columns:
        """What the state machine takes of a batch; notes losses and the trace's end."""
        kind = events.kind_codes(batch)
        given = {
            name: batch.column(name).to_numpy(zero_copy_only=False)
            for name in Columns._fields
            if name not in ("kind", "comm", "stack")
        }
        lost = np.flatnonzero(kind == _CODE["lost"])
        if len(lost):
            columns = {"from_ns": given["mask"].astype(np.int64), "to_ns": given["time_ns"], "count": given["flags"]}
            self._losses.append(pd.DataFrame({name: values[lost] for name, values in columns.items()}))
        if self._numbering.wide:
            given["signal"] = self._numbering.numbers(given["signal"])
            for name in _SETS:  # a loss has a time as its mask: folded, it is looked at no more
                given[name] = self._numbering.fold(given[name], batch.column(f"{name}_hi").to_numpy())
        tracers_own = (kind == _CODE["mark"]) & (given["pid"] == 0)
        if tracers_own.any():
            self._ended |= events.TRACE_END in batch.column("comm").filter(pa.array(tracers_own)).to_pylist()
        comm = np.zeros(len(kind), np.int32)
        named = SAYS_COMM[kind]
        comm[named] = self._comms.encode(batch.column("comm").filter(pa.array(named)))
        stack = np.zeros(len(kind), np.int32)
        if _has_text(batch.column("stack")):
            born = kind == _CODE["born"]
            stack[born] = self._stacks.encode(batch.column("stack").filter(pa.array(born)))
        return Columns(kind=kind, comm=comm, stack=stack, **given)
