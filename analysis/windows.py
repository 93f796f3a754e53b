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
_KEPT_BACK = np.uint64(sig.UNBLOCKABLE | sig.word_of(sig.INTERNAL))
_UNKNOWN = _EVERYTHING  # as a settled mask: a settled mask never blocks everything
_NEVER = np.iinfo(np.int64).max


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
        return np.array(codes, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]

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
    return (mask | _KEPT_BACK) == _EVERYTHING


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
    return np.minimum(np.append(where, _NEVER)[index], ends)


def _last(where: Array, heads: Array, ends: Array) -> Array:
    """For every run of rows [head, end): the last of the rows `where` (ascending), or -1 if none."""
    found = np.append(where, -1)[np.searchsorted(where, ends) - 1]  # index -1 takes the -1
    return np.where(found >= heads, found, -1)


def _union(words: Array, heads: Array, stops: Array) -> Array:
    """For every run of rows [head, stop): the union of its sets."""
    pairs = np.stack([heads, stops], axis=1).ravel()
    union = np.bitwise_or.reduceat(np.append(words, np.uint64(0)), pairs)[::2]
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
        self.ends = np.append(self.heads[1:], len(kind))
        self.measured = kind[self.heads] == _BORN
        # Runs that another run of the same thread id follows.
        self.followed = np.append(rows["tid"][self.heads[1:]] == rows["tid"][self.heads[:-1]], False)
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
        self._open = _empty(_ROW_TYPES)
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
        if self._pending_rows >= max(_CHUNK_ROWS, len(self._open["seq"])):
            self._digest_pending()

    def result(self, ready: str = "auto") -> Analysis:
        """The tables as of the last event fed, under a readiness policy; changes nothing.

        ready: auto, altstack, mask, steady, symbol or symbol:NAME. Raises UsageError for anything else.
        """
        policy = "symbol" if ready.startswith("symbol:") else ready
        if policy not in (*POLICIES, "auto"):
            raise UsageError(f"unknown readiness policy {ready!r}: give auto, altstack, mask, steady or symbol:NAME")
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
            self._ended |= "end" in batch.column("comm").filter(pa.array(tracers_own)).to_pylist()

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
        return _take(read, np.flatnonzero((~_NOT_OWN[kind] & ~tracers_own) | held_back))

    def _digest_pending(self) -> None:
        if self._pending:
            fresh = _concat(self._pending)
            self._pending, self._pending_rows = [], 0
            if len(fresh["seq"]):
                self._digest(fresh)

    def _digest(self, fresh: Columns) -> None:
        """Join new rows to those of living threads, and measure the threads that ended."""
        own = _take(fresh, np.flatnonzero(~fresh["held_back"]))
        handled_after, changes, handled = _handled_history(own, self._handled)
        known = len(self._open["seq"])
        own["slot"] = 4 * (known + np.arange(len(own["seq"])))  # leaves room for added rows
        table = _sort(self._open, own, handled_after)
        added = _changes_in_threads(table, own, changes)
        if added is None:  # too many at once
            for half in np.array_split(np.arange(len(fresh["seq"])), 2):
                self._digest(_take(fresh, half))
            return
        if len(added["seq"]):
            table = _insert(table, added)
        self._handled = handled
        _finish_rows(table, own)
        self._number_births(table, own)
        self._note_names(table, own)
        self._note_signals(table, own, fresh)
        self._part(table)
