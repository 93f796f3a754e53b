"""The engine: from events to one row a born thread, its setup window and what happened in it.

A batch goes through `intake`, which makes columns of it; `lives` walks along those and gives one record a life, with
its window under every policy; `answer` makes tables of a snapshot of the records, under the policy that is asked for.
How the stream is cut changes nothing.
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
from sigwindow.probes import signals as sig

from .answer import Answer
from .intake import Intake
from .lives import Lives
from .records import Array, Columns
from .snapshot import Snapshot
from .store import Part, Store


class Windows:
    """Measures the setup windows of a stream of events.

    question: what is asked of them. system: the one whose numbers the signals have (TraceInfo.numbering). every_policy:
    the answer may be asked for under other policies, too, which takes more memory.
    Raises UsageError for an unknown policy, and for a signal that the system does not have.
    """

    def __init__(self, question: Question = Question(), system: str = "linux", *, every_policy: bool = False) -> None:
        numbering = sig.numbering(system)
        self.question = question
        self.policies = tuple(range(len(POLICIES))) if every_policy else question.policies
        self.considered = np.uint64(question.considered(numbering))
        self._intake = Intake(numbering)
        self._lives = Lives(int(self.considered), numbering.kept_back, self.policies)
        self._past = Store()
        self._hits: list[Array] = []  # HIT

    @property
    def columns(self) -> list[str]:
        """The columns of the event table that are looked at."""
        return self._intake.columns

    def feed(self, batch: pa.RecordBatch) -> None:
        """Take in the next events, in any order within the batch.

        Raises OrderError for an event earlier than the last one of an earlier batch.
        """
        self.walk(self.take_in(batch))

    def take_in(self, batch: pa.RecordBatch) -> Columns:
        """The first half of `feed`, which may run ahead of the second one in another thread.

        It counts the events, and keeps what the stream says of itself. Raises OrderError as `feed` does.
        """
        return self._intake.take(batch)

    def walk(self, columns: Columns) -> None:
        """The second half of `feed`, for what was taken in, in that order."""
        self._lives.feed(columns)
        parts, hits = self._lives.taken()
        if len(hits):
            self._hits.append(hits)
        for part in parts:
            self._keep(part)

    def snapshot(self) -> Snapshot:
        """What is known as of the last event fed; changes nothing."""
        intake, now = self._intake, self._lives.at(self._intake.end_ns)
        living, hits = now.taken()
        return Snapshot(
            policies=self.policies,
            considered=self.considered,
            past=self._past.parts(),
            living=living,
            processes=now.processes,
            hits=(*self._hits, hits),
            sums=now.sums,
            known=now.known,
            counts=now.counts,
            losses=tuple(intake.losses),
            comms=intake.comms.words(),
            stacks=intake.stacks.words(),
            start_ns=intake.start_ns,
            end_ns=intake.end_ns,
            events=intake.events,
            ended=intake.ended,
            numbering=intake.numbering,
        )

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
        question = self.question if ready is None else replace(self.question, ready=ready)
        return Answer(self.snapshot(), question)

    def _keep(self, part: Part) -> None:
        """Put a part of lives that ended aside."""
        self._past.add(part)
