"""From the records of lives to tables, under the policy that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sigwindow.analysis.durations import counted
from sigwindow.analysis.question import POLICIES, Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.tables import (
    BY_PROCESS,
    BY_SIGNAL,
    EXPOSED,
    EXPOSURE,
    HITS,
    KNOWN,
    LOSSES,
    THREADS,
    TRAFFIC,
    VERDICTS,
    framed,
    verdict_type,
)
from sigwindow.analysis.totals import WORST, Totals
from sigwindow.probes import signals as sig

from .judged import Judged, policy_of
from .records import LOSS, Array
from .snapshot import Snapshot
from .store import Part, joined


def _strings(words: Sequence[str], codes: Array) -> pd.Series:
    """`words[code]` for every code, without a Python object each."""
    taken = pa.array(words, pa.large_string()).take(pa.array(codes))
    return pd.Series(pd.array(taken, dtype="str"))


def _optional(values: Array) -> pd.Series:
    """Integers of which the negative ones are missing (Int64)."""
    return pd.Series(pd.arrays.IntegerArray(values, values < 0))


class Answer:
    """What a snapshot says under one policy.

    Raises UsageError for an unknown policy, and ValueError for one that no windows were kept under.
    """

    def __init__(self, snapshot: Snapshot, question: Question) -> None:
        policies = question.policies
        if not set(policies) <= set(snapshot.policies):
            raise ValueError(f"windows under {question.ready} were not kept")
        self._snapshot = snapshot
        self._question = question
        self._comms, self._processes, self._considered = snapshot.comms, snapshot.processes, snapshot.considered
        self._policy = chosen = policy_of(self._processes, policies)
        self._losses = np.concatenate([np.empty(0, LOSS), *snapshot.losses])
        self._lost = np.sort(self._losses["from_ns"]), np.sort(self._losses["to_ns"])
        hits, sums = np.concatenate(snapshot.hits), snapshot.sums
        self._hits = hits[hits["within"] >> chosen[hits["process"]] & 1 != 0]
        self._sums = {
            "process": sums["process"],
            "signals": sums["exposed"],
            "exposure_ns": np.take_along_axis(sums["ns"], chosen[sums["process"]][:, None], axis=1)[:, 0],
        }

    def _parts(self) -> Iterator[Judged]:
        """All lives, part by part, judged."""
        return map(self._judged, self._snapshot.lives())

    def _judged(self, part: Part) -> Judged:
        return Judged(part, self._policy[part.lives["process"]], self._considered, self._lost)

    def tables(self) -> Iterator[pd.DataFrame]:
        """The thread table part by part; within a part in order of birth."""
        for part in self._parts():
            yield self._table(part).take(np.argsort(part.lives["number"])).reset_index(drop=True)

    def analysis(self) -> Analysis:
        """All tables."""
        snapshot, totals = self._snapshot, self.totals()
        hits = framed(HITS, self._hits)
        named = self._processes[self._processes["comm"] >= 0]
        leaders = zip(named["pid"].tolist(), named["comm"].tolist(), strict=True)
        return Analysis(
            threads=self._threads(),
            hits=hits.sort_values(["time_ns", "pid", "tid"], kind="stable", ignore_index=True),
            by_signal=totals.by_signal,
            exposure=self._exposure(),
            traffic=self._traffic(),
            known=totals.known,
            losses=framed(LOSSES, self._losses),
            leaders={(0, pid): self._comms[code] for pid, code in leaders},
            question=self._question,
            start_ns=snapshot.start_ns,
            end_ns=snapshot.end_ns,
            events=snapshot.events,
            lost_events=totals.lost_events,
            ended=snapshot.ended,
            numbering=snapshot.numbering,
            totals=totals,
        )

    def _threads(self) -> pd.DataFrame:
        """The whole thread table, in the order of birth whatever the order of the events of one moment."""
        table = pd.concat([self._table(part).assign(number=part.lives["number"]) for part in self._parts()])
        numbers = table.pop("number").to_numpy()
        order = np.empty(len(numbers), np.int64)
        order[numbers] = np.arange(len(numbers))
        born_ns = table["born_ns"].to_numpy()[order]
        if (born_ns[1:] == born_ns[:-1]).any():
            pid, tid = (table[name].to_numpy()[order] for name in ("pid", "tid"))
            order = order[np.lexsort((tid, pid, born_ns))]
        return table.take(order).reset_index(drop=True)

    def _table(self, part: Judged) -> pd.DataFrame:
        """The rows of the thread table for the lives of a part."""
        lives = part.lives
        return framed(
            THREADS,
            {
                "pid": lives["pid"],
                "tid": lives["tid"],
                "comm": _strings(self._comms, lives["comm"]),
                "born_ns": lives["born_ns"],
                "ready_ns": _optional(part.ready_ns),
                "end_ns": lives["end_ns"],
                "ended_by": _strings(("trace", "exit", "ready"), np.where(part.ready, 2, lives["exited"])),
                "birth_mask": lives["birth_mask"],
                "setup_ns": part.setup_ns,
                "exposure_ns": part.exposure_ns,
                "exposed_signals": part.exposed & self._considered,
                "first_exposed_ns": _optional(part.first_exposed_ns),
                "hits": part.hits,
                "critical_hits": part.critical,
                "deferred": part.deferred,
                "teardown_exposure_ns": lives["teardown_ns"],
                "creator_tid": lives["creator"],
                "creator_stack": _strings(self._snapshot.stacks, lives["stack"]),
                "policy": _strings(POLICIES, part.policy),
                "verdict": pd.Categorical.from_codes(part.verdict, dtype=verdict_type()),
                "ready": part.ready,
                "uncertain": part.uncertain,
            },
        )

    def totals(self) -> Totals:
        """The threads in numbers."""
        snapshot = self._snapshot
        total = Totals(
            self._question,
            duration_ns=snapshot.end_ns - snapshot.start_ns,
            events=snapshot.events,
            lost_events=int(self._losses["count"].sum()),
            ended=snapshot.ended,
            known=self._known(),
        )
        processes = len(self._processes)
        verdicts = np.zeros((processes, len(VERDICTS)), np.int64)
        exposure_ns = np.zeros(processes, np.int64)
        nameless: Counter[tuple[int, int]] = Counter()  # threads by process and name, where the first thread has none
        exposed_to = np.zeros(65, np.int64)
        handled = np.bitwise_or.reduce(_bit(self._hits["signal"]))
        worst = []  # of every part, as parts
        exposed: Counter[tuple[str, str, bool, str, int]] = Counter()
        internal = np.uint64(sig.word_of(snapshot.numbering.internal))
        for part in self._parts():
            process = part.lives["process"]
            place = process * len(VERDICTS) + part.verdict
            verdicts += np.bincount(place, minlength=verdicts.size).reshape(verdicts.shape)
            np.add.at(exposure_ns, process[part.ready], part.exposure_ns[part.ready])
            total.unready += int(np.count_nonzero(~part.ready))
            total.uncertain += int(np.count_nonzero(part.uncertain))
            total.setup.add(part.setup_ns[part.ready])
            total.exposure.add(part.exposure_ns[part.ready & (part.exposure_ns > 0)])
            handled |= np.bitwise_or.reduce(part.handled)
            sets, threads = counted(part.exposed)
            for signal in sig.members(int(np.bitwise_or.reduce(sets))):
                exposed_to[signal] += threads[sets & _bit(signal) != 0].sum()
            without = np.flatnonzero(self._processes["comm"][process] <= 0)
            names, threads = counted(process[without].astype(np.int64) << 32 | part.lives["comm"][without])
            nameless.update(
                {divmod(name, 1 << 32): n for name, n in zip(names.tolist(), threads.tolist(), strict=True)}
            )
            worst.append(part.part.take(part.worst(WORST)))
            exposed.update(part.exposed_under(internal))
        counts = verdicts.sum(axis=0).tolist()
        total.verdicts.update(dict(zip(VERDICTS, counts, strict=True)))
        total.by_signal = self._by_signal(int(handled), exposed_to)
        total.by_process = self._by_process(verdicts, exposure_ns, nameless)
        rows = [
            (*circumstances, " ".join(sig.name(signal, snapshot.numbering) for signal in sig.members(signals)), threads)
            for (*circumstances, signals), threads in sorted(exposed.items())
        ]
        total.exposed = framed(EXPOSED, rows)
        among = self._judged(joined(worst))
        total.worst = self._table(self._judged(among.part.take(among.worst(WORST))))
        return total

    def _by_signal(self, handled: int, exposed_to: Array) -> pd.DataFrame:
        """One row a signal that was handled in the window of a thread, or hit one."""
        rows = []
        for signal in sig.members(handled):
            of_signal = self._hits["signal"] == signal
            open_to = self._sums["signals"] & _bit(signal) != 0
            exposure_ns = int(self._sums["exposure_ns"][open_to].sum())
            hits, critical = int(of_signal.sum()), int(self._hits["critical"][of_signal].sum())
            named = self._named(signal)
            rows.append((*named, int(exposed_to[signal]), exposure_ns, hits, critical))
        return framed(BY_SIGNAL, rows)

    def _by_process(self, verdicts: Array, exposure_ns: Array, nameless: Counter[tuple[int, int]]) -> pd.DataFrame:
        """One row a process in which threads were born; one whose first thread is not known has its threads' name."""
        commonest: dict[int, str] = {}
        for (process, code), _ in sorted(nameless.items(), key=lambda item: (-item[1], self._comms[item[0][1]])):
            commonest.setdefault(process, self._comms[code])
        found = np.flatnonzero(verdicts.sum(axis=1))
        found = found[np.argsort(self._processes["pid"][found])]
        comms = self._processes["comm"][found].tolist()
        names = [
            self._comms[code] if code > 0 else commonest.get(place, "")
            for place, code in zip(found.tolist(), comms, strict=True)
        ]
        return framed(
            BY_PROCESS,
            {
                "pid": self._processes["pid"][found],
                "comm": names,
                "policy": _strings(POLICIES, self._policy[found]),
                **{verdict: verdicts[found, place] for place, verdict in enumerate(VERDICTS)},
                "exposure_ns": exposure_ns[found],
            },
        )

    def _named(self, signal: int) -> tuple[int, str, str]:
        numbering = self._snapshot.numbering
        return signal, sig.name(signal, numbering), sig.signal_class(signal, numbering)

    def _exposure(self) -> pd.DataFrame:
        """The exposure of ready threads by process and by the set of signals exposed at once."""
        table = framed(EXPOSURE, {"pid": self._processes["pid"][self._sums["process"]], **self._sums})
        table = table[table["exposure_ns"] > 0]
        return table.sort_values(["pid", "signals"], ignore_index=True)

    def _known(self) -> pd.DataFrame:
        """One row a thread from before."""
        known = np.sort(self._snapshot.known, order=["pid", "tid"])
        columns = {name: known[name] for name in ("pid", "tid", "mask", "handled")}
        return framed(KNOWN, columns | {"comm": _strings(self._comms, known["comm"])})

    def _traffic(self) -> pd.DataFrame:
        """One row a signal that was sent, or taken by a handler."""
        rows = [
            (*self._named(signal), *self._snapshot.counts[signal].tolist())
            for signal in np.flatnonzero(self._snapshot.counts.any(axis=1)).tolist()
        ]
        return framed(TRAFFIC, rows)


def _bit(signal: Any) -> Any:
    """The set word of a signal, or of each; none for what is not a signal."""
    number = np.asarray(signal, np.int64)
    word = np.uint64(1) << (np.clip(number, 1, 64) - 1).astype(np.uint64)
    return np.where((number >= 1) & (number <= 64), word, np.uint64(0))
