"""The engine: from events to one row a born thread, its setup window and what happened in it.

The state of a thread is a run of rows, one an event of its own, each with the mask, the alternate
stack and the process's handled set *after* the event, as the kernel had them. A row holds until the
next. A window is the rows from birth to the row that a readiness policy calls ready, so everything
asked of a window is a sum or a union over a run of rows, and all policies share the rows.

Batches are taken in as they come. Threads that ended are measured at once, under every policy; the
rows of those that live are carried to the next batch. How the stream is cut changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import InputError, UsageError

POLICIES = ("altstack", "mask", "steady", "symbol")
VERDICTS = ("unhandled", "masked", "exposed", "hit", "critical")  # in rising order

Array = NDArray[Any]
Columns = dict[str, Array]  # a table: arrays of one length

_CHUNK_ROWS = 1 << 16  # smaller batches are gathered up to this many rows and digested together
_LONG_THREAD_ROWS = 512  # the rows of a living thread are merged when there are more
_ADDED_ROWS_LIMIT = 1 << 22  # rows added for changes of handled sets in one go

_CODE = events.CODE
_BORN, _MASK, _ALTSTACK, _EXIT = (_CODE[name] for name in ("born", "mask", "altstack", "exit"))
_MARK, _DELIVER, _EXEC, _NAME = (_CODE[name] for name in ("mark", "deliver", "exec", "name"))
# Kinds that exist only in here:
_BORN_UNMEASURED = 100  # a process's first thread or a kernel worker: no verdict
_EXIT_GROUP = 101  # the whole process was ending
_ALTSTACK_OFF = 102  # an altstack row that took a stack away
_HANDLED = 103  # added where another thread changed the handled set
_REPLACED = 104  # added where an exec ended the thread


def _kinds(*codes: int) -> NDArray[np.bool_]:
    """A table to look kinds up in: true for `codes`."""
    table = np.zeros(256, bool)
    table[list(codes)] = True
    return table


_ENDS = _kinds(_EXIT, _EXIT_GROUP, _REPLACED)
_SETS_STACK = _kinds(_ALTSTACK, _ALTSTACK_OFF)
_SETS_STATE = _kinds(_BORN, _MASK, _ALTSTACK, _ALTSTACK_OFF)
_SAYS_HANDLED = _kinds(_CODE["snapshot"], _BORN, _BORN_UNMEASURED, _CODE["action"], _EXEC)
_SAYS_COMM = _kinds(_CODE["snapshot"], _BORN, _BORN_UNMEASURED, _NAME, _EXEC)
_NOT_OWN = _kinds(_CODE["generate"], _CODE["lost"], 255)

_EVERYTHING = np.uint64(sig.ALL)
_KEPT_BACK = np.uint64(sig.KEPT_BACK)
_UNKNOWN = _EVERYTHING  # as a settled mask: a settled mask never blocks everything
_NEVER = np.iinfo(np.int64).max
_SLOTS = 1 << 32  # places in the stream that a key has room for
_TEARDOWN_ROWS = 3  # a thread's last rows that may be teardown: block all, remove the stack, block all


@dataclass
class Analysis:
    """The engine's answer under one readiness policy.

    threads: one row a born thread, with the columns of docs/tables.md. hits: one row a hit (pid, tid,
    born_ns, time_ns, signal, critical). by_signal: one row a handled signal (signal, name, class,
    threads, exposure_ns, hits, critical). leaders: the name of a process's first thread, by pid. ready,
    signals: as asked. start_ns, end_ns: the times of the first and the last event. ended: the tracer
    closed the trace itself.
    """

    threads: pd.DataFrame
    hits: pd.DataFrame
    by_signal: pd.DataFrame
    leaders: dict[int, str]
    ready: str
    signals: str
    start_ns: int
    end_ns: int
    events: int
    lost_events: int
    ended: bool


class _Names:
    """Strings by number, so that rows hold numbers."""

    def __init__(self) -> None:
        self._codes = {"": 0}

    def encode(self, column: pa.Array) -> Array:
        """The numbers of a column of strings; Python touches each distinct string once."""
        encoded = column.dictionary_encode()
        codes = [self._codes.setdefault(text, len(self._codes)) for text in encoded.dictionary.to_pylist()]
        coded: Array = np.array(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]
        return coded

    def words(self) -> list[str]:
        """The string of every number."""
        return list(self._codes)


def _strings(words: list[str] | tuple[str, ...], codes: Array) -> pd.Series:
    """`words[code]` for every code, without a Python object each."""
    taken = pa.array(words, pa.large_string()).take(pa.array(codes))
    return pd.Series(pd.array(taken, dtype="str"))


def _optional(values: Array, present: Array) -> pd.Series:
    """Integers of which some are missing (Int64)."""
    return pd.Series(pd.arrays.IntegerArray(values, ~present))


def _concat(tables: list[Columns]) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _take(table: Columns, index: Array) -> Columns:
    return {name: column[index] for name, column in table.items()}


def _blocks_everything(mask: Array) -> Array:
    """sig.blocks_everything for an array of masks."""
    blocks: Array = (mask | _KEPT_BACK) == _EVERYTHING
    return blocks


def _bit(signal: Array) -> Array:
    """The set word of each signal number; 0 (no signal) is treated as 1."""
    return np.uint64(1) << (np.maximum(signal, 1) - 1).astype(np.uint64)


def _key(ident: Array, slot: Array) -> Array:
    """One sortable number from a pid or tid and a place in the stream (below 2**32)."""
    return ident.astype(np.int64) << 32 | slot


def _forward(valid: Array) -> Array:
    """For every row the last valid one up to it (0 where there is none)."""
    return np.maximum.accumulate(np.where(valid, np.arange(len(valid)), 0))


def _starts(*columns: Array) -> Array:
    """Where a run of equal values begins, over all of `columns`."""
    starts = np.ones(len(columns[0]), bool)
    starts[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return starts


def _nth(where: Array, heads: Array, ends: Array, skip: Array | int = 0) -> Array:
    """For every run of rows [head, end): the first of the rows `where` (ascending), or `end` if none.

    `skip`: how many to pass over first.
    """
    index = np.minimum(np.searchsorted(where, heads) + skip, len(where))
    nth: Array = np.minimum(np.append(where, _NEVER)[index], ends)
    return nth


def _last(where: Array, heads: Array, ends: Array) -> Array:
    """For every run of rows [head, end): the last of the rows `where` (ascending), or -1 if none."""
    found = np.append(where, -1)[np.searchsorted(where, ends) - 1]  # index -1 takes the -1
    return np.where(found >= heads, found, -1)


def _union(words: Array, heads: Array, stops: Array) -> Array:
    """For every run of rows [head, stop): the union of its sets. `words` has one more, for stops at the end."""
    pairs = np.stack([heads, stops], axis=1).ravel()
    union = np.bitwise_or.reduceat(words, pairs)[::2]
    return np.where(stops > heads, union, np.uint64(0))


def _expand(starts: Array, stops: Array) -> tuple[Array, Array]:
    """Every integer of every range [start, stop), and the range it is of."""
    counts = stops - starts
    owner = np.repeat(np.arange(len(starts)), counts)
    return np.arange(len(owner)) + np.repeat(starts - np.cumsum(counts) + counts, counts), owner


_ROW_TYPES = {
    "seq": np.int64,  # place in the whole stream
    "time_ns": np.int64,
    "tid": np.int32,
    "pid": np.int32,
    "kind": np.uint8,
    "mask": np.uint64,
    "altstack": np.bool_,
    "handled": np.uint64,
    "dur_ns": np.int64,  # how long the row holds; -1: until the next row
    "settled": np.uint64,  # the thread's last mask that did not block everything, or what it inherited
    "thread": np.int64,  # first row of a measured thread: its number; else -1
}
_SIGNAL_TYPES = {
    "thread": np.int64,
    "seq": np.int64,
    "time_ns": np.int64,
    "signal": np.uint8,
    "delivers": np.bool_,  # a delivery to a handler; else a sending that the mask held back
    "critical": np.bool_,
}
_BIRTH_TYPES = {
    "pid": np.int32,
    "tid": np.int32,
    "time_ns": np.int64,
    "mask": np.uint64,
    "peer": np.int32,
    "comm": np.int32,
    "stack": np.int32,
}
_LOST_TYPES = {"from_ns": np.int64, "to_ns": np.int64, "count": np.uint32}
_CHANGE_TYPES = {"pid": np.int32, "handled": np.uint64}


def _empty(types: dict[str, Any]) -> Columns:
    return {name: np.empty(0, dtype) for name, dtype in types.items()}


class _Sorted:
    """Rows sorted by thread and time, in runs of one thread's life each."""

    def __init__(self, rows: Columns, slot: Array) -> None:
        self.rows = rows
        self.slot = slot
        kind = rows["kind"]
        starts = _starts(rows["tid"], rows["pid"]) | (kind == _BORN) | (kind == _BORN_UNMEASURED)
        starts[1:] |= _ENDS[kind[:-1]]
        self.starts = starts
        self.heads = np.flatnonzero(starts)
        self.ends = np.append(self.heads, len(kind))[1:]
        self.measured = kind[self.heads] == _BORN
        # Runs that another run of the same thread id follows.
        self.followed = np.append(rows["tid"], -1)[self.ends] == rows["tid"][self.heads]
        self._keys = _key(rows["tid"], slot)

    def at(self, tid: Array, slot: Array) -> tuple[Array, Array]:
        """The last row of thread `tid` not after `slot`, and whether there is one of a living thread."""
        index = np.searchsorted(self._keys, _key(tid, slot), side="right") - 1
        return index, (index >= 0) & (self.rows["tid"][index] == tid) & ~_ENDS[self.rows["kind"][index]]

    def thread_at(self, tid: Array, pid: Array, slot: Array) -> Array:
        """The number of the measured thread that `tid` of `pid` is at `slot`, or -1."""
        index, found = self.at(tid, slot)
        head = self.heads[np.searchsorted(self.heads, index, side="right") - 1]
        return np.where(found & (self.rows["pid"][index] == pid), self.rows["thread"][head], -1)


def policy_of(ready: str) -> str:
    """The policy that a value of `--ready` names: one of POLICIES, or auto.

    Raises UsageError for anything else.
    """
    policy = "symbol" if ready.startswith("symbol:") else ready
    if policy not in (*POLICIES, "auto"):
        raise UsageError(f"unknown readiness policy {ready!r}: give auto, altstack, mask, steady or symbol:NAME")
    return policy


class Windows:
    """Measures the setup windows of a stream of events.

    signals: which signals count, a value of `--signals`. Raises UsageError for an unknown signal.
    """

    def __init__(self, signals: str = "async") -> None:
        self._signals = signals
        self._considered = np.uint64(sig.considered(signals))
        self._comms = _Names()
        self._stacks = _Names()
        self._pending: list[Columns] = []
        self._pending_rows = 0
        self._open = _empty(_ROW_TYPES)  # of measured threads that live
        self._known = _empty(_ROW_TYPES)  # the last row of every other thread that lives
        self._handled = _empty(_CHANGE_TYPES)  # the handled set of every process
        self._signal_rows = _empty(_SIGNAL_TYPES)  # of living threads
        self._births: list[Columns] = []
        self._renames: list[Columns] = []
        self._leaders: dict[int, int] = {}
        self._measures: list[_Measures] = []  # of threads that ended
        self._lost: list[Columns] = []
        self._threads = 0
        self._events = 0
        self._start_ns = 0
        self._end_ns = 0
        self._ended = False

    def feed(self, batch: pa.RecordBatch) -> None:
        """Take in the next events, in any order within the batch.

        Raises InputError for an event earlier than the last one of an earlier batch.
        """
        if batch.num_rows == 0:
            return
        time_ns = batch.column("time_ns").to_numpy()
        if np.any(time_ns[1:] < time_ns[:-1]):
            batch = batch.take(pa.array(np.argsort(time_ns, kind="stable")))
            time_ns = batch.column("time_ns").to_numpy()
        if self._events and time_ns[0] < self._end_ns:
            raise InputError(f"events are out of order: one at {time_ns[0]} ns follows one at {self._end_ns} ns")
        if not self._events:
            self._start_ns = int(time_ns[0])
        self._end_ns = int(time_ns[-1])
        self._pending.append(self._read(batch))
        self._events += batch.num_rows
        self._pending_rows += batch.num_rows
        if self._pending_rows >= max(_CHUNK_ROWS, len(self._open["seq"]) + len(self._known["seq"])):
            self._digest_pending()

    def result(self, ready: str = "auto") -> Analysis:
        """The tables as of the last event fed, under a readiness policy; changes nothing.

        ready: auto, altstack, mask, steady, symbol or symbol:NAME. Raises UsageError for anything else.
        """
        policy = policy_of(ready)
        self._digest_pending()
        return self._tables(policy, ready)

    def _read(self, batch: pa.RecordBatch) -> Columns:
        """The rows and columns of a batch that the engine works on; notes losses and the trace's end."""
        given = {
            column.name: batch.column(column.name).to_numpy(zero_copy_only=False)
            for column in events.COLUMNS
            if column.name != "kind" and column.arrow != pa.string()
        }
        flags = given["flags"]
        kind = events.kind_codes(batch).copy()
        lost = kind == _CODE["lost"]
        if lost.any():
            columns = {"from_ns": given["mask"].astype(np.int64), "to_ns": given["time_ns"], "count": flags}
            self._lost.append(_take(columns, np.flatnonzero(lost)))
        tracers_own = (kind == _MARK) & (given["pid"] == 0)
        if tracers_own.any():
            self._ended |= events.TRACE_END in batch.column("comm").filter(pa.array(tracers_own)).to_pylist()

        counts = (flags & events.CLONE_THREAD != 0) & (flags & events.BORN_KERNEL_WORKER == 0)
        kind[(kind == _BORN) & ~counts] = _BORN_UNMEASURED
        kind[(kind == _EXIT) & (flags & events.EXIT_GROUP != 0)] = _EXIT_GROUP

        comm = np.zeros(len(kind), np.int32)
        named = _SAYS_COMM[kind]
        comm[named] = self._comms.encode(batch.column("comm").filter(pa.array(named)))
        stack = np.zeros(len(kind), np.int32)
        born = kind == _BORN
        stack[born] = self._stacks.encode(batch.column("stack").filter(pa.array(born)))

        bit = _bit(given["signal"])
        considered = bit & self._considered != 0
        handler = (kind == _DELIVER) & (given["disposition"] == events.DISPOSITION_HANDLER)
        directed = flags & (events.GENERATE_PROCESS | events.GENERATE_RESULT) == 0
        held_back = (kind == _CODE["generate"]) & directed & considered & (bit & given["mask"] != 0)
        wants_stack = given["sa_flags"] & sig.SA_ONSTACK != 0
        read = {name: given[name] for name in ("time_ns", "tid", "pid", "mask", "altstack", "handled")} | {
            "seq": self._events + np.arange(len(kind)),
            "kind": kind,
            "peer": given["peer"],
            "signal": given["signal"],
            "delivers": handler & considered,
            "resets": handler & (given["sa_flags"] & sig.SA_RESETHAND != 0),
            "critical": wants_stack & ~given["altstack"],
            "held_back": held_back,
            "comm": comm,
            "stack": stack,
        }
        kept = (~_NOT_OWN[kind] & ~tracers_own) | held_back
        return read if kept.all() else _take(read, np.flatnonzero(kept))

    def _digest_pending(self) -> None:
        if self._pending:
            fresh = _concat(self._pending) if len(self._pending) > 1 else self._pending[0]
            self._pending, self._pending_rows = [], 0
            if len(fresh["seq"]):
                self._digest(fresh)

    def _digest(self, fresh: Columns) -> None:
        """Join new rows to those of living threads, and measure the threads that ended."""
        own = _take(fresh, np.flatnonzero(~fresh["held_back"])) if fresh["held_back"].any() else dict(fresh)
        handled_after, changes, handled = _handled_history(own, self._handled)
        carried = _concat([self._open, self._known])
        own["slot"] = 4 * (len(carried["seq"]) + np.arange(len(own["seq"])))  # leaves room for added rows
        table = _sort(carried, own, handled_after)
        if not len(table.rows["seq"]):
            return  # signals sent to threads of which nothing is known
        added = _changes_in_threads(table, own, changes)
        if added is None:  # too many at once
            for half in np.array_split(np.arange(len(fresh["seq"])), 2):
                self._digest(_take(fresh, half))
            return
        if len(added[1]):
            table = _insert(table, *added)
        self._handled = handled
        _finish_rows(table, own)
        self._number_births(table, own)
        self._note_names(table, own)
        self._note_signals(table, own, fresh, len(carried["seq"]))
        self._part(table)

    def _number_births(self, table: _Sorted, own: Columns) -> None:
        """Give every new measured thread its number and keep what its birth said."""
        rows = table.rows
        new = table.heads[table.measured & (rows["thread"][table.heads] < 0)]
        rows["thread"][new] = self._threads + np.arange(len(new))
        self._threads += len(new)
        births = np.searchsorted(own["seq"], rows["seq"][new])
        self._births.append({name: own[name][births] for name in _BIRTH_TYPES})

    def _note_names(self, table: _Sorted, own: Columns) -> None:
        """Keep the new names of measured threads and of processes."""
        renamed = _take(own, np.flatnonzero(own["kind"] == _NAME))
        thread = table.thread_at(renamed["tid"], renamed["pid"], renamed["slot"])
        self._renames.append(_take({"thread": thread, "comm": renamed["comm"]}, np.flatnonzero(thread >= 0)))
        leading = np.flatnonzero((own["tid"] == own["pid"]) & _SAYS_COMM[own["kind"]])
        self._leaders.update(zip(own["pid"][leading].tolist(), own["comm"][leading].tolist(), strict=True))

    def _note_signals(self, table: _Sorted, own: Columns, fresh: Columns, carried: int) -> None:
        """Keep the deliveries to measured threads, and the signals sent that their masks held back."""
        sent = _take(fresh, np.flatnonzero(fresh["held_back"]))
        following = np.searchsorted(own["seq"], sent["seq"])
        sent["slot"] = 4 * (carried + following) - 2
        delivered = _take(own, np.flatnonzero(own["delivers"]))
        both = _concat([{name: part[name] for name in sent} for part in (delivered, sent)])
        both["thread"] = table.thread_at(both["tid"], both["pid"], both["slot"])
        kept = _take({name: both[name] for name in _SIGNAL_TYPES}, np.flatnonzero(both["thread"] >= 0))
        self._signal_rows = _concat([self._signal_rows, kept])

    def _part(self, table: _Sorted) -> None:
        """Measure the threads that ended; carry all rows of the living, and one row of unmeasured threads."""
        rows = table.rows
        over = _ENDS[rows["kind"][table.ends - 1]] | table.followed
        ended, living = table.measured & over, table.measured & ~over
        if ended.any():
            index, _ = _expand(table.heads[ended], table.ends[ended])
            gone = np.isin(self._signal_rows["thread"], rows["thread"][table.heads[ended]])
            ended_signals = _take(self._signal_rows, np.flatnonzero(gone))
            self._signal_rows = _take(self._signal_rows, np.flatnonzero(~gone))
            lives = _take(rows, index)
            self._measures.append(_measure(lives, ended_signals, table.followed[ended], self._end_ns, self._considered))
        index, _ = _expand(table.heads[living], table.ends[living])
        others = ~table.measured & ~over
        last = _last(np.flatnonzero(rows["kind"] != _HANDLED), table.heads[others], table.ends[others])
        self._open = _merge_long(_take(rows, index))
        self._known = _take(rows, last[last >= 0])

    def _tables(self, policy: str, ready: str) -> Analysis:
        """The tables of Analysis from what was measured, with the living threads as if the trace ended now."""
        living = np.zeros(np.count_nonzero(self._open["thread"] >= 0), bool)
        measures = [*self._measures, _measure(self._open, self._signal_rows, living, self._end_ns, self._considered)]
        hits = _concat([part.hits for part in measures])
        sums = _concat([part.sums for part in measures])
        births = _concat([*self._births, _empty(_BIRTH_TYPES)])
        renames = _concat([*self._renames, _empty({"thread": np.int64, "comm": np.int32})])
        births["comm"][renames["thread"]] = renames["comm"]  # the last one wins

        numbers = [part.threads["thread"] for part in measures]
        installs = [part.threads["ready_ns"][:, POLICIES.index("altstack")] >= 0 for part in measures]
        choice = _Choice(policy, births["pid"][np.concatenate(numbers)[np.concatenate(installs)]])
        column = choice.of_process(births["pid"])
        chosen = [
            {name: _chosen(values, column[number]) for name, values in part.threads.items()}
            for part, number in zip(measures, numbers, strict=True)
        ]
        fact = _take(_concat(chosen), np.argsort(np.concatenate(numbers)))
        is_ready = fact["ready_ns"] >= 0
        stop_ns = np.where(is_ready, fact["ready_ns"], fact["end_ns"])
        verdict = np.select(
            [fact["critical"] > 0, fact["hits"] > 0, fact["exposure_ns"] > 0, fact["handled"] & self._considered != 0],
            [4, 3, 2, 1],
            0,
        )
        threads = pd.DataFrame(
            {
                "pid": births["pid"],
                "tid": births["tid"],
                "comm": _strings(self._comms.words(), births["comm"]),
                "born_ns": births["time_ns"],
                "ready_ns": _optional(fact["ready_ns"], is_ready),
                "end_ns": fact["end_ns"],
                "ended_by": _strings(("trace", "exit", "ready"), np.where(is_ready, 2, fact["exited"])),
                "birth_mask": births["mask"],
                "setup_ns": stop_ns - births["time_ns"],
                "exposure_ns": fact["exposure_ns"],
                "exposed_signals": fact["exposed"] & self._considered,
                "first_exposed_ns": _optional(fact["first_exposed_ns"], fact["first_exposed_ns"] >= 0),
                "hits": fact["hits"],
                "critical_hits": fact["critical"],
                "deferred": fact["deferred"],
                "teardown_exposure_ns": fact["teardown_ns"],
                "creator_tid": births["peer"],
                "creator_stack": _strings(self._stacks.words(), births["stack"]),
                "policy": _strings(POLICIES, column),
                "verdict": _strings(VERDICTS, verdict),
                "ready": is_ready,
                # What is steady is decided by the last state: a loss in all of a life can change it.
                "uncertain": self._lost_within(
                    births["time_ns"], np.where(column == POLICIES.index("steady"), fact["end_ns"], stop_ns)
                ),
            }
        )

        hits = _take(hits, np.flatnonzero(_chosen(hits["within"], column[hits["thread"]])))
        hit_table = pd.DataFrame(
            {name: births[name][hits["thread"]] for name in ("pid", "tid")}
            | {"born_ns": births["time_ns"][hits["thread"]]}
            | {name: hits[name] for name in ("time_ns", "signal", "critical")}
        )
        exposure = pd.Series(_chosen(sums["exposure_ns"], choice.of_process(sums["pid"])))
        by_signal = _by_signal(fact["handled"], fact["exposed"], exposure.groupby(sums["exposed"]).sum(), hit_table)
        by_birth = np.lexsort((births["tid"], births["pid"], births["time_ns"]))
        words = self._comms.words()
        return Analysis(
            threads=threads.take(by_birth).reset_index(drop=True),
            hits=hit_table.sort_values(["time_ns", "pid", "tid"], kind="stable", ignore_index=True),
            by_signal=by_signal,
            leaders={pid: words[code] for pid, code in self._leaders.items()},
            ready=ready,
            signals=self._signals,
            start_ns=self._start_ns,
            end_ns=self._end_ns,
            events=self._events,
            lost_events=sum(int(part["count"].sum()) for part in self._lost),
            ended=self._ended,
        )

    def _lost_within(self, born_ns: Array, stop_ns: Array) -> Array:
        """Whether events were lost within [born, stop], both included."""
        lost = _concat([*self._lost, _empty(_LOST_TYPES)])
        begun = np.searchsorted(np.sort(lost["from_ns"]), stop_ns, side="right")
        over = np.searchsorted(np.sort(lost["to_ns"]), born_ns, side="left")
        return begun > over


class _Choice:
    """Which column of POLICIES counts for a process."""

    def __init__(self, policy: str, with_stack: Array) -> None:
        self._policy = policy
        self._with_stack = np.unique(with_stack)

    def of_process(self, pid: Array) -> Array:
        """The column for every pid: as asked, or for `auto` by whether a thread of it installs a stack."""
        if self._policy != "auto":
            return np.full(len(pid), POLICIES.index(self._policy))
        stack, steady = POLICIES.index("altstack"), POLICIES.index("steady")
        return np.where(np.isin(pid, self._with_stack), stack, steady)


def _chosen(values: Array, column: Array) -> Array:
    """Of values kept under every policy those of the policy that counts; others as they are."""
    return values if values.ndim == 1 else np.take_along_axis(values, column[:, None], axis=1)[:, 0]


def _by_signal(handled: Array, exposed: Array, exposure_ns: pd.Series, hits: pd.DataFrame) -> pd.DataFrame:
    """One row a signal that was handled in the window of a thread.

    handled, exposed: a set a thread. exposure_ns: by exposed set.
    """
    threads = pd.Series(exposed).value_counts()
    listed = np.bitwise_or.reduce(np.append(handled, _bit(hits["signal"].to_numpy())))
    rows = []
    for signal in sig.members(int(listed)):
        bit = np.uint64(1 << signal - 1)
        of_signal = hits["signal"] == signal
        rows.append(
            {
                "signal": signal,
                "name": sig.name(signal),
                "class": sig.signal_class(signal),
                "threads": int(threads[threads.index.to_numpy() & bit != 0].sum()),
                "exposure_ns": int(exposure_ns[exposure_ns.index.to_numpy() & bit != 0].sum()),
                "hits": int(of_signal.sum()),
                "critical": int(hits["critical"][of_signal].sum()),
            }
        )
    return pd.DataFrame(rows, columns=["signal", "name", "class", "threads", "exposure_ns", "hits", "critical"])


def _handled_history(own: Columns, known: Columns) -> tuple[Array, Columns, Columns]:
    """How the handled sets of the processes went over the rows `own`, which are in stream order.

    known: the set of every process before. Returns the set after each row; the changes and execs, by
    process and time (pid, row, handled, execs); the set of every process at the end.
    """
    said = np.flatnonzero(_SAYS_HANDLED[own["kind"]] | own["resets"])
    pid = np.concatenate([known["pid"], own["pid"][said]])
    row = np.concatenate([np.full(len(known["pid"]), -1), said])
    order = np.argsort(_key(pid, row + 1), kind="stable")
    pid, row = pid[order], row[order]
    before_all = len(known["pid"])
    resets = np.append(np.zeros(before_all, bool), own["resets"][said])[order]
    execs = np.append(np.zeros(before_all, bool), own["kind"][said] == _EXEC)[order]
    signal = np.append(np.zeros(before_all, np.uint8), own["signal"][said])[order]
    handled = np.append(known["handled"], own["handled"][said])[order]
    first = _starts(pid)
    base = _forward(~resets | first)
    after = np.where(resets[base], np.uint64(0), handled[base])
    # SA_RESETHAND: a delivery takes its signal out of the set (sigaction(2)); no row says so.
    for number in np.unique(signal[resets]):
        taken = _forward(resets & (signal == number))
        after &= ~np.where(taken > base, _bit(number), np.uint64(0))
    before = np.where(first, np.uint64(0), np.roll(after, 1))

    steps = np.flatnonzero((after != before) | first)
    index = np.searchsorted(
        _key(pid[steps], row[steps] + 1), _key(own["pid"], np.arange(1, len(own["pid"]) + 1)), "right"
    )
    # Before the first step: pid -1, the empty set.
    after_row = np.append(after[steps], np.uint64(0))[index - 1]
    after_row[np.append(pid[steps], -1)[index - 1] != own["pid"]] = 0

    change = np.flatnonzero((row >= 0) & ((after != before) | execs))
    changes = {"pid": pid[change], "row": row[change], "handled": after[change], "execs": execs[change]}
    last = np.append(np.flatnonzero(first), len(pid))[1:] - 1
    return after_row, changes, {"pid": pid[last], "handled": after[last]}


def _sort(carried: Columns, own: Columns, handled: Array) -> _Sorted:
    """The rows of living threads and the new ones, as runs."""
    count = len(own["seq"])
    fresh = {name: own[name] for name in ("seq", "time_ns", "tid", "pid", "kind", "mask", "altstack")} | {
        "handled": handled,
        "dur_ns": np.full(count, -1),
        "settled": np.where(_blocks_everything(own["mask"]), _UNKNOWN, own["mask"]),
        "thread": np.full(count, -1),
    }
    rows = _concat([carried, fresh])
    # The keys are unique, so numpy's fast sort of values serves; the row is in the key.
    keys = np.sort(_key(rows["tid"], 4 * np.arange(len(rows["seq"]))))
    slot = keys & 0xFFFF_FFFF
    return _Sorted(_take(rows, slot >> 2), slot)


def _changes_in_threads(table: _Sorted, own: Columns, changes: Columns) -> tuple[Columns, Array] | None:
    """The rows to add to measured threads, and their slots, for what other threads did to the process.

    None if they are too many to add at once.
    """
    rows, execs = table.rows, changes["execs"]
    # An exec ends threads before its own row; a change of the handled set shows after its row.
    slot = own["slot"][changes["row"]] + np.where(execs, -1, 1)
    keys = _key(changes["pid"], slot)
    heads, ends = table.heads[table.measured], table.ends[table.measured]
    pid = rows["pid"][heads]
    born = _key(pid, table.slot[heads])
    end_slot = np.where(table.followed[table.measured], np.append(table.slot, 0)[ends], _SLOTS - 1)
    end_slot = np.where(_ENDS[rows["kind"][ends - 1]], table.slot[ends - 1], end_slot)
    first_exec = np.append(keys[execs], _NEVER - 1)[np.searchsorted(keys[execs], born, side="right")]
    over = np.minimum(_key(pid, end_slot), first_exec + 1)
    start = np.searchsorted(keys, born, side="right")
    stop = np.maximum(np.searchsorted(keys, over), start)
    if (stop - start).sum() > _ADDED_ROWS_LIMIT and len(own["seq"]) > 1:
        return None

    change, owner = _expand(start, stop)
    by_other = execs[change] | (own["tid"][changes["row"][change]] != rows["tid"][heads[owner]])
    change, owner = change[by_other], owner[by_other]
    head, row = heads[owner], changes["row"][change]
    added = {
        "seq": own["seq"][row],
        "time_ns": own["time_ns"][row],
        "tid": rows["tid"][head],
        "pid": rows["pid"][head],
        "kind": np.where(execs[change], _REPLACED, _HANDLED).astype(np.uint8),
        "mask": np.zeros(len(row), np.uint64),
        "altstack": np.zeros(len(row), np.bool_),
        "handled": changes["handled"][change],
        "dur_ns": np.full(len(row), -1),
        "settled": np.full(len(row), _UNKNOWN),
        "thread": np.full(len(row), -1),
    }
    return added, slot[change]


def _insert(table: _Sorted, added: Columns, slot: Array) -> _Sorted:
    """The table with rows added to its threads, which keep their masks and stacks there."""
    rows, slots = _concat([table.rows, added]), np.concatenate([table.slot, slot])
    order = np.argsort(_key(rows["tid"], slots), kind="stable")
    rows = _take(rows, order)
    before = _forward(order < len(table.slot))
    rows["mask"], rows["altstack"] = rows["mask"][before], rows["altstack"][before]
    return _Sorted(rows, slots[order])


def _finish_rows(table: _Sorted, own: Columns) -> None:
    """Fill in what follows from a row's neighbours: its duration, stacks taken away, settled masks."""
    rows, starts = table.rows, table.starts
    kind, dur_ns, altstack = rows["kind"], rows["dur_ns"], rows["altstack"]
    open_ended = np.flatnonzero((dur_ns[:-1] < 0) & ~starts[1:])
    dur_ns[open_ended] = rows["time_ns"][open_ended + 1] - rows["time_ns"][open_ended]

    fresh = rows["seq"] >= own["seq"][0] if len(own["seq"]) else np.zeros(len(kind), bool)
    set_stack = np.flatnonzero(fresh & (kind == _ALTSTACK) & ~altstack & ~starts)
    kind[set_stack[altstack[set_stack - 1]]] = _ALTSTACK_OFF

    # A thread born with everything blocked settles with what its creator had settled with, and so on up:
    # every row points to where its settled mask is, and pointers to pointers are followed to the end.
    settled = rows["settled"]
    known = ~fresh | (settled != _UNKNOWN)
    source = _forward(known | starts)
    births = table.heads[~known[table.heads]]
    births = births[(kind[births] == _BORN) | (kind[births] == _BORN_UNMEASURED)]
    peer = own["peer"][np.searchsorted(own["seq"], rows["seq"][births])]
    creator, found = table.at(peer, table.slot[births])
    found &= (rows["pid"][creator] == rows["pid"][births]) | (kind[births] == _BORN_UNMEASURED)
    source[births[found]] = source[creator[found]]
    # An exec that ended the thread of its own id goes on where that thread had settled.
    execs = table.heads[(kind[table.heads] == _EXEC) & ~known[table.heads]]
    execs = execs[(kind[execs - 1] == _REPLACED) & (rows["tid"][execs - 1] == rows["tid"][execs])]
    source[execs] = source[execs - 1]
    while not np.array_equal(further := source[source], source):
        source = further
    rows["settled"] = settled[source]


def _merge_long(rows: Columns) -> Columns:
    """Rows of living threads, with the rows of long lives merged where no window can begin or end.

    What stays: the rows that a policy may call ready, and those that the thread's end may ask for.
    Between them rows with the same handled and exposed sets become one that holds as long as they did together.
    """
    starts = _is_start(rows)
    heads = np.flatnonzero(starts)
    ends = np.append(heads, len(starts))[1:]
    long = np.repeat(ends - heads > _LONG_THREAD_ROWS, ends - heads)
    if not long.any():
        return rows
    short, rows = _take(rows, np.flatnonzero(~long)), _take(rows, np.flatnonzero(long))

    starts = _is_start(rows)
    heads = np.flatnonzero(starts)
    ends = np.append(heads, len(starts))[1:]
    kind, mask, altstack = rows["kind"], rows["mask"], rows["altstack"]
    masks, states = np.flatnonzero(kind == _MASK), np.flatnonzero(_SETS_STATE[kind])
    stay = np.zeros(len(kind) + 1, bool)  # one more, for the rows that are not there
    stay[heads] = stay[ends - 1] = True
    stay[_last(np.flatnonzero(kind != _HANDLED), heads, ends)] = True
    stay[_last(np.flatnonzero(kind == _ALTSTACK_OFF), heads, ends)] = True
    stay[_nth(np.flatnonzero((kind == _ALTSTACK) & altstack), heads, ends)] = True
    stay[_nth(np.flatnonzero(kind == _MARK), heads, ends)] = True
    for skip in (0, 1):  # the first mask may be the C library's
        stay[_nth(masks, heads, ends, skip)] = True
    final = np.searchsorted(states, ends)
    for back in range(1, _TEARDOWN_ROWS + 2):
        stay[states[np.maximum(final - back, 0)]] = True
    # The first row of every state; birth counts apart, since steady passes over one with everything blocked.
    keys = [column[states] for column in (altstack, mask, starts, np.cumsum(starts))]
    order = np.lexsort(keys)
    stay[states[order][_starts(*(key[order] for key in keys))]] = True

    stretch = np.cumsum(stay[:-1])
    exposed = rows["handled"] & ~mask
    held = rows["dur_ns"] != 0
    keys = [held, exposed, rows["handled"], stretch]
    order = np.lexsort(keys)  # stable: the first row of each group comes first
    groups = np.flatnonzero(_starts(*(key[order] for key in keys)))
    rows["dur_ns"][order[groups]] = np.add.reduceat(rows["dur_ns"][order], groups)
    return _concat([short, _take(rows, np.sort(order[groups]))])


def _is_start(rows: Columns) -> Array:
    """Where a life begins, in rows of living threads."""
    return _starts(rows["tid"])


@dataclass
class _Measures:
    """What is known of threads at their end, under every policy: arrays of (thread, policy).

    threads: one row a thread; hits: one row a hit within a window of any policy; sums: the exposure of
    ready threads by process and exposed set.
    """

    threads: Columns
    hits: Columns
    sums: Columns


def _measure(rows: Columns, sent: Columns, followed: Array, trace_end_ns: int, considered: np.uint64) -> _Measures:
    """Measure whole lives.

    rows: of measured threads, thread by thread; sent: the signal rows of these threads; followed: where
    another life with the same thread id came after; trace_end_ns: the end of those that go on.
    """
    heads = np.flatnonzero(rows["thread"] >= 0)
    ends = np.append(heads, len(rows["seq"]))[1:]
    time_ns, kind, pid = rows["time_ns"], rows["kind"], rows["pid"][heads]
    exited = _ENDS[kind[ends - 1]]
    # Where the exit was lost, the thread's last own event is the last that is known of it.
    last_own = _last(np.flatnonzero(kind != _HANDLED), heads, ends)
    end_row = np.where(followed & ~exited, last_own, ends - 1)
    end_ns = np.where(exited | followed, time_ns[end_row], trace_end_ns)
    dur_ns = rows["dur_ns"].copy()
    dur_ns[ends - 1] = end_ns - time_ns[ends - 1]
    dur_ns[_expand(end_row[followed], ends[followed])[0]] = 0

    stops = _ready_rows(rows, heads, ends)
    ready = stops < ends[:, None]
    ready_ns = np.where(ready, np.append(time_ns, 0)[stops], -1)
    exposed = rows["handled"] & ~rows["mask"]
    counts = (exposed & considered) != 0
    held = dur_ns > 0
    sum_ns = np.append(0, np.cumsum(np.where(counts, dur_ns, 0)))
    first = _nth(np.flatnonzero(counts & held), heads, ends)[:, None]
    first_ns = np.where(first < stops, np.append(time_ns, 0)[first], -1)
    born_ns = time_ns[heads][:, None]
    instant = np.where(ready, ready_ns, end_ns[:, None]) == born_ns
    held_exposed, held_handled = (
        np.append(np.where(held, words, np.uint64(0)), np.uint64(0)) for words in (exposed, rows["handled"])
    )
    handled = np.stack([_union(held_handled, heads, stop) for stop in stops.T], axis=1)
    removed = _last(np.flatnonzero(kind == _ALTSTACK_OFF), heads, ends)
    threads = {
        "thread": rows["thread"][heads],
        "end_ns": end_ns,
        "exited": exited.astype(np.int8),
        "teardown_ns": np.where(removed >= 0, sum_ns[ends] - sum_ns[removed], 0),
        "ready_ns": ready_ns,
        "exposure_ns": sum_ns[stops] - sum_ns[heads][:, None],
        "first_exposed_ns": first_ns,
        "exposed": np.stack([_union(held_exposed, heads, stop) for stop in stops.T], axis=1),
        "handled": np.where(instant, rows["handled"][heads][:, None], handled),
    }
    ready_seq = np.where(ready, np.append(rows["seq"], 0)[stops], _NEVER)
    signal_counts, hits = _measure_signals(sent, threads["thread"], ready_seq)
    sums = _exposure_by_set(exposed, dur_ns, pid, heads, stops, ready)
    return _Measures(threads | signal_counts, hits, sums)


def _ready_rows(rows: Columns, heads: Array, ends: Array) -> Array:
    """For every thread and policy the row at which it is ready, or the end of its rows if it never is."""
    kind, altstack = rows["kind"], rows["altstack"]
    blocked = _blocks_everything(rows["mask"][heads])
    masks = np.flatnonzero(kind == _MASK)
    first = _nth(masks, heads, ends)
    inherited = rows["settled"][heads]
    restores = blocked & ((np.append(rows["mask"], _EVERYTHING)[first] == inherited) | (inherited == _UNKNOWN))
    ready = {
        "altstack": _nth(np.flatnonzero((kind == _ALTSTACK) & altstack), heads, ends),
        "mask": _nth(masks, heads, ends, restores.astype(np.int64)),
        "steady": _steady_rows(rows, heads, ends, blocked, first < ends),
        "symbol": _nth(np.flatnonzero(kind == _MARK), heads, ends),
    }
    return np.stack([ready[policy] for policy in POLICIES], axis=1)


def _steady_rows(rows: Columns, heads: Array, ends: Array, blocked: Array, sets_mask: Array) -> Array:
    """The first row of each thread with the state that it then lives with, or the end of its rows."""
    kind, mask, altstack = rows["kind"], rows["mask"], rows["altstack"]
    sets_stack = _nth(np.flatnonzero(_SETS_STACK[kind]), heads, ends) < ends
    settles = _SETS_STATE[kind]
    settles[heads] = ~blocked | (~sets_mask & sets_stack)
    states = np.flatnonzero(settles)
    if not len(states):
        return ends
    kind, mask, altstack = kind[states], mask[states], altstack[states]
    start, stop = np.searchsorted(states, heads), np.searchsorted(states, ends)
    last = stop - 1
    # What a thread that ends by itself does last is teardown: block all signals, remove the stack.
    blocks = (kind == _MASK) & _blocks_everything(mask)
    removes = _SETS_STACK[kind] & ~altstack
    alone = rows["kind"][ends - 1] == _EXIT
    last = last - (alone & (last >= start) & blocks[last])
    removed = alone & (last >= start) & removes[last]
    last = last - removed
    last = last - (removed & (last >= start) & blocks[last])

    final = np.repeat(last, stop - start)
    same = (mask == mask[final]) & (altstack == altstack[final])
    return np.where(last >= start, _nth(states[same], heads, ends), ends)


def _measure_signals(sent: Columns, thread: Array, ready_seq: Array) -> tuple[Columns, Columns]:
    """Count hits, critical hits and deferred signals per thread and policy; the hits themselves.

    sent: signal rows of `thread`s; ready_seq: (thread, policy), where in the stream the window ends.
    """
    by_number = np.argsort(thread)
    owner = by_number[np.searchsorted(thread, sent["thread"], sorter=by_number)]
    within = sent["seq"][:, None] < ready_seq[owner]
    hit = sent["delivers"][:, None] & within
    shape = (len(thread), len(POLICIES))
    counts = {name: np.zeros(shape, np.int64) for name in ("hits", "critical", "deferred")}
    np.add.at(counts["hits"], owner, hit)
    np.add.at(counts["critical"], owner, hit & sent["critical"][:, None])
    if not sent["delivers"].all():
        pairs, pair = np.unique(owner * 256 + sent["signal"], return_inverse=True)
        held_back, before, after = (np.zeros((len(pairs), len(POLICIES)), np.int64) for _ in range(3))
        np.add.at(held_back, pair, ~sent["delivers"][:, None] & within)
        np.add.at(before, pair, hit)
        np.add.at(after, pair, sent["delivers"][:, None] & ~within)
        np.add.at(counts["deferred"], pairs // 256, np.minimum(np.maximum(held_back - before, 0), after))
    hits = {name: sent[name] for name in ("thread", "time_ns", "signal", "critical")} | {"within": hit}
    return counts, _take(hits, np.flatnonzero(hit.any(axis=1)))


def _exposure_by_set(exposed: Array, dur_ns: Array, pid: Array, heads: Array, stops: Array, ready: Array) -> Columns:
    """The exposure of ready threads summed by process and exposed set, under every policy."""
    rows = np.flatnonzero((exposed != 0) & (dur_ns > 0))
    owner = np.searchsorted(heads, rows, side="right") - 1
    sets, of_set = np.unique(exposed[rows], return_inverse=True)
    pids, of_pid = np.unique(pid, return_inverse=True)
    groups, group = np.unique(of_pid[owner] * len(sets) + of_set, return_inverse=True)
    exposure_ns = np.zeros((len(groups), len(POLICIES)), np.int64)
    for column in range(len(POLICIES)):
        within = ready[owner, column] & (rows < stops[owner, column])
        np.add.at(exposure_ns[:, column], group[within], dur_ns[rows[within]])
    return {
        "pid": pids[groups // max(len(sets), 1)],
        "exposed": sets[groups % max(len(sets), 1)],
        "exposure_ns": exposure_ns,
    }
