"""The engine: from events to one row a born thread, its setup window and what happened in it.

`lives` runs the events and gives one record a life, with its window under every policy. Here batches become what it
takes, and records become tables, under the policy that is asked for. How the stream is cut changes nothing.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sigwindow.analysis.durations import counted
from sigwindow.analysis.question import POLICIES, Question
from sigwindow.analysis.totals import BY_SIGNAL, VERDICTS, WORST, Totals, merged
from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import OrderError

from .lives import (
    CRITICAL,
    DEFERRED,
    EXPOSED,
    EXPOSURE_NS,
    HANDLED,
    HITS,
    READY_NS,
    SAYS_COMM,
    Columns,
    Lives,
    Part,
    joined,
)

Array = NDArray[Any]

_MEMORY_BYTES = 3 << 28  # lives beyond this are kept in a file

_CODE = events.CODE
_SETS = ("mask", "handled")  # of signals


@dataclass
class Analysis:
    """The engine's answer under one readiness policy.

    threads: one row a born thread, with the columns of docs/tables.md. hits: one row a hit (pid, tid,
    born_ns, time_ns, signal, critical). by_signal: one row a handled signal (signal, name, class,
    threads, exposure_ns, hits, critical). exposure: the exposure of ready threads by process and by the
    set of signals exposed at once (pid, signals, exposure_ns). traffic: one row a signal that was sent, or
    taken by a handler, in the whole trace (signal, name, class, generated, held_back, delivered). losses: one
    row a loss (from_ns, to_ns, count). leaders: the name of a process's first thread, by pid. question: as
    asked. start_ns, end_ns: the times of the first and the last event. ended: the tracer
    closed the trace itself. numbering: what the signals are called. totals: all of it in numbers.
    """

    threads: pd.DataFrame
    hits: pd.DataFrame
    by_signal: pd.DataFrame
    exposure: pd.DataFrame
    traffic: pd.DataFrame
    losses: pd.DataFrame
    leaders: dict[int, str]
    question: Question
    start_ns: int
    end_ns: int
    events: int
    lost_events: int
    ended: bool
    numbering: sig.Numbering
    totals: Totals


def combined(parts: Sequence[Analysis]) -> Analysis:
    """Several analyses as one, the threads one after the other with a column `trace` (its number) first.

    parts: at least one, all to the same question. Times and pids mean what they meant in each trace.
    """
    first = parts[0]

    def one_after_the_other(name: str) -> pd.DataFrame:
        tables: list[pd.DataFrame] = [getattr(part, name).assign(trace=n) for n, part in enumerate(parts)]
        return pd.concat(tables, ignore_index=True)

    totals = merged([part.totals for part in parts])
    threads, hits = one_after_the_other("threads"), one_after_the_other("hits")
    for table in (threads, hits):
        table.insert(0, "trace", table.pop("trace"))
    traffic = one_after_the_other("traffic").drop(columns="trace")
    return Analysis(
        threads=threads,
        hits=hits,
        by_signal=totals.by_signal,
        exposure=one_after_the_other("exposure").drop(columns="trace"),
        traffic=traffic.groupby(["signal", "name", "class"], as_index=False).sum(),
        losses=one_after_the_other("losses").drop(columns="trace"),
        leaders={pid: name for part in reversed(parts) for pid, name in part.leaders.items()},
        question=first.question,
        start_ns=min(part.start_ns for part in parts),
        end_ns=max(part.end_ns for part in parts),
        events=totals.events,
        lost_events=totals.lost_events,
        ended=totals.ended,
        numbering=first.numbering,
        totals=totals,
    )


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


class Store:
    """Parts of lives: in memory, and in a file that is gone with this once they are many."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._filed: list[list[tuple[np.dtype[Any], tuple[int, ...]]]] = []  # types and shapes of each part

    def add(self, part: Part) -> None:
        """Put a part aside."""
        self._parts.append(part)
        self._bytes += part.nbytes
        if self._bytes > _MEMORY_BYTES:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="sigwindow-")  # noqa: SIM115  lives as long as this
                weakref.finalize(self, self._file.close)
            self._file.seek(0, 2)
            for waiting in self._parts:
                self._filed.append([(array.dtype, array.shape) for array in waiting])
                for array in waiting:
                    array.tofile(self._file)
            self._parts, self._bytes = [], 0

    def __iter__(self) -> Iterator[Part]:
        if self._file:
            self._file.seek(0)
            for arrays in self._filed:
                yield Part(*(np.fromfile(self._file, dtype, prod(shape)).reshape(shape) for dtype, shape in arrays))
        yield from self._parts


def _has_text(column: pa.Array) -> bool:
    """Whether any of a column's strings is not empty; looks at the column's size only."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return bool(offsets[0] != offsets[-1])


def _strings(words: list[str] | tuple[str, ...], codes: Array) -> pd.Series:
    """`words[code]` for every code, without a Python object each."""
    taken = pa.array(words, pa.large_string()).take(pa.array(codes))
    return pd.Series(pd.array(taken, dtype="str"))


def _optional(values: Array) -> pd.Series:
    """Integers of which the negative ones are missing (Int64)."""
    return pd.Series(pd.arrays.IntegerArray(values, values < 0))


def policy_of(processes: Array, policies: tuple[int, ...]) -> Array:
    """The policy that counts for each process (PROCESS): of two the first where it installs alternate stacks."""
    return np.where(processes["installs"], policies[0], policies[-1])


class Judged:
    """Some lives under the policy that counts for each: the columns of the thread table, as arrays.

    policy: the place in POLICIES, a life. considered: a set word. losses: (from_ns, to_ns) sorted each by itself.
    """

    def __init__(self, part: Part, policy: Array, considered: np.uint64, losses: tuple[Array, Array]) -> None:
        self.part, self.lives, self.policy = part, part.lives, policy
        lives = part.lives
        kept = (part.policies[:, None] == policy).argmax(axis=0)  # where its policy is among the kept ones
        uniform = len(kept) > 0 and bool((kept == kept[0]).all())

        def chosen(values: Array, which: int) -> Array:
            found: Array = values[kept[0], which] if uniform else values[kept, which, np.arange(len(kept))]
            return found

        def tallied(which: int) -> Array:
            counts = np.zeros(len(policy), np.int64)
            if len(part.tallies):
                having = np.flatnonzero(lives["tally"] >= 0)
                counts[having] = part.tallies[lives["tally"][having], policy[having], which]
            return counts

        self.ready_ns = chosen(part.spans, READY_NS)
        self.exposure_ns = chosen(part.spans, EXPOSURE_NS)
        self.first_exposed_ns = np.where(self.exposure_ns > 0, lives["first_exposed_ns"], -1)
        self.exposed, self.handled = chosen(part.sets, EXPOSED), chosen(part.sets, HANDLED)
        self.hits, self.critical, self.deferred = (tallied(which) for which in (HITS, CRITICAL, DEFERRED))
        self.ready = self.ready_ns >= 0
        stop_ns = np.where(self.ready, self.ready_ns, lives["end_ns"])
        self.setup_ns = stop_ns - lives["born_ns"]
        self.verdict = np.maximum.reduce(
            [
                (self.handled & considered != 0).astype(np.int8),
                2 * (self.exposure_ns > 0).astype(np.int8),
                3 * (self.hits > 0).astype(np.int8),
                4 * (self.critical > 0).astype(np.int8),
            ]
        )
        self.uncertain = np.zeros(len(policy), bool)
        if len(losses[0]):
            # What is steady is decided by the last state: a loss in all of a life can change it.
            judged_until_ns = np.where(policy == POLICIES.index("steady"), lives["end_ns"], stop_ns)
            begun = np.searchsorted(losses[0], judged_until_ns, side="right")
            self.uncertain = begun > np.searchsorted(losses[1], lives["born_ns"], side="left")

    def worst(self, count: int) -> Array:
        """Places of the `count` most exposed lives: by critical hits, hits, exposure, and the earlier birth."""
        bad = np.flatnonzero(self.verdict >= VERDICTS.index("exposed"))
        hit = bad[self.hits[bad] > 0]
        if len(hit) >= count:
            bad = hit
        elif len(bad) > count:  # those that were hit, and of the others no more than can be among the worst
            exposure_ns = self.exposure_ns[bad]
            enough_ns = np.partition(exposure_ns, -count)[-count]
            bad = bad[(exposure_ns >= enough_ns) | (self.hits[bad] > 0)]
        lives = self.lives[bad]
        birth = (lives["tid"], lives["pid"], lives["born_ns"])
        order = np.lexsort((*birth, -self.exposure_ns[bad], -self.hits[bad], -self.critical[bad]))
        return bad[order[:count]]


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

    def _answer(self, ready: str | None) -> _Answer:
        return _Answer(self, self._question if ready is None else replace(self._question, ready=ready))

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


class _Answer:
    """What Windows knows now, under one policy, with the living threads as if the trace ended here."""

    def __init__(self, windows: Windows, question: Question) -> None:
        policies = question.policies
        if not set(policies) <= set(windows.policies):
            raise ValueError(f"windows under {question.ready} were not kept")
        self._windows = windows
        self._question = question
        ended = windows._lives.at(windows._end_ns)
        self._living, hits = ended.taken()
        self._processes = ended.processes
        self._policy = chosen = policy_of(self._processes, policies)
        self._comms = windows._comms.words()
        self._losses = pd.concat(
            [pd.DataFrame({"from_ns": [], "to_ns": [], "count": []}, dtype=np.int64), *windows._losses],
            ignore_index=True,
        )
        self._lost = np.sort(self._losses["from_ns"].to_numpy()), np.sort(self._losses["to_ns"].to_numpy())
        hits = np.concatenate([*windows._hits, hits])
        self._hits = hits[hits["within"] >> chosen[hits["process"]] & 1 != 0]
        sums = ended.sums
        self._sums = {
            "process": sums["process"],
            "signals": sums["exposed"],
            "exposure_ns": np.take_along_axis(sums["ns"], chosen[sums["process"]][:, None], axis=1)[:, 0],
        }
        self._counts = ended.counts

    def _parts(self) -> Iterator[Judged]:
        """All lives, part by part, judged."""
        for parts in (self._windows._ended_lives, self._living):
            for part in parts:
                yield self._judged(part)

    def _judged(self, part: Part) -> Judged:
        return Judged(part, self._policy[part.lives["process"]], self._windows._considered, self._lost)

    def tables(self) -> Iterator[pd.DataFrame]:
        for part in self._parts():
            yield self._table(part).take(np.argsort(part.lives["number"])).reset_index(drop=True)

    def analysis(self) -> Analysis:
        windows, totals = self._windows, self.totals()
        hits = pd.DataFrame(
            {name: self._hits[name] for name in ("pid", "tid", "born_ns", "time_ns", "signal", "critical")}
        )
        named = self._processes[self._processes["comm"] >= 0]
        leaders = zip(named["pid"].tolist(), named["comm"].tolist(), strict=True)
        return Analysis(
            threads=self._threads(),
            hits=hits.sort_values(["time_ns", "pid", "tid"], kind="stable", ignore_index=True),
            by_signal=totals.by_signal,
            exposure=self._exposure(),
            traffic=self._traffic(),
            losses=self._losses,
            leaders={pid: self._comms[code] for pid, code in leaders},
            question=self._question,
            start_ns=windows._start_ns,
            end_ns=windows._end_ns,
            events=windows._events,
            lost_events=totals.lost_events,
            ended=windows._ended,
            numbering=windows._numbering,
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
        return pd.DataFrame(
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
                "exposed_signals": part.exposed & self._windows._considered,
                "first_exposed_ns": _optional(part.first_exposed_ns),
                "hits": part.hits,
                "critical_hits": part.critical,
                "deferred": part.deferred,
                "teardown_exposure_ns": lives["teardown_ns"],
                "creator_tid": lives["creator"],
                "creator_stack": _strings(self._windows._stacks.words(), lives["stack"]),
                "policy": _strings(POLICIES, part.policy),
                "verdict": _strings(VERDICTS, part.verdict),
                "ready": part.ready,
                "uncertain": part.uncertain,
            }
        )

    def totals(self) -> Totals:
        windows = self._windows
        total = Totals(
            self._question,
            duration_ns=windows._end_ns - windows._start_ns,
            events=windows._events,
            lost_events=int(self._losses["count"].sum()),
            ended=windows._ended,
        )
        processes = len(self._processes)
        verdicts = np.zeros((processes, len(VERDICTS)), np.int64)
        exposure_ns = np.zeros(processes, np.int64)
        nameless: Counter[tuple[int, int]] = Counter()  # threads by process and name, where the first thread has none
        exposed_to = np.zeros(65, np.int64)
        handled = np.bitwise_or.reduce(_bit(self._hits["signal"]))
        worst = []  # of every part, as parts
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
        counts = verdicts.sum(axis=0).tolist()
        total.verdicts.update(dict(zip(VERDICTS, counts, strict=True)))
        total.by_signal = self._by_signal(int(handled), exposed_to)
        total.by_process = self._by_process(verdicts, exposure_ns, nameless)
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
        return pd.DataFrame(rows, columns=list(BY_SIGNAL))

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
        return pd.DataFrame(
            {
                "pid": self._processes["pid"][found],
                "comm": pd.Series(names, dtype="str"),
                "policy": _strings(POLICIES, self._policy[found]),
                **{verdict: verdicts[found, place] for place, verdict in enumerate(VERDICTS)},
                "exposure_ns": exposure_ns[found],
            }
        )

    def _named(self, signal: int) -> tuple[int, str, str]:
        numbering = self._windows._numbering
        return signal, sig.name(signal, numbering), sig.signal_class(signal, numbering)

    def _exposure(self) -> pd.DataFrame:
        """The exposure of ready threads by process and by the set of signals exposed at once."""
        table = pd.DataFrame({"pid": self._processes["pid"][self._sums["process"]], **self._sums}).drop(
            columns="process"
        )
        table = table[table["exposure_ns"] > 0]
        return table.sort_values(["pid", "signals"], ignore_index=True)

    def _traffic(self) -> pd.DataFrame:
        """One row a signal that was sent, or taken by a handler."""
        rows = [
            (*self._named(signal), *self._counts[signal].tolist())
            for signal in np.flatnonzero(self._counts.any(axis=1)).tolist()
        ]
        return pd.DataFrame(rows, columns=["signal", "name", "class", "generated", "held_back", "delivered"])


def _bit(signal: Any) -> Any:
    """The set word of a signal, or of each; none for what is not a signal."""
    number = np.asarray(signal, np.int64)
    word = np.uint64(1) << (np.clip(number, 1, 64) - 1).astype(np.uint64)
    return np.where((number >= 1) & (number <= 64), word, np.uint64(0))
