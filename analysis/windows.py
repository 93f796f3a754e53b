"""The engine: from events to one row a born thread, its setup window and what happened in it.

The state of a thread is a list of rows, one an event of its own, each with the mask, the alternate
stack and the process's handled set *after* the event, as the kernel had them. A row holds until the
next. A window is a run of rows from birth to the row that a readiness policy calls ready, so
everything asked of a window is a sum or a union over a run of rows, and all policies share the rows.

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

from sigwindow.probes import events, signals
from sigwindow.probes.errors import InputError, UsageError

POLICIES = ("altstack", "mask", "steady", "symbol")
VERDICTS = ("unhandled", "masked", "exposed", "hit", "critical")  # in rising order

Array = NDArray[Any]
Columns = dict[str, Array]  # a table: arrays of one length

_CHUNK_ROWS = 1 << 16  # small batches are gathered up to this many rows, then digested together
_LONG_THREAD_ROWS = 512  # a living thread with more rows than this is compacted
_SYNTHETIC_LIMIT = 1 << 22  # rows added for changes of the handled set, in one go

_CODE = events.CODE
_BORN, _MASK, _ALTSTACK, _EXIT = (_CODE[name] for name in ("born", "mask", "altstack", "exit"))
_MARK, _DELIVER, _EXEC, _NAME = (_CODE[name] for name in ("mark", "deliver", "exec", "name"))
# Kinds that exist only in here.
_BORN_OTHER = 100  # a birth that gets no verdict: a process's first thread, a kernel worker
_EXIT_GROUP = 101  # an exit because the whole process ended
_ALTSTACK_OFF = 102  # an altstack row that took a stack away
_HANDLED = 103  # added: another thread changed the handled set
_REPLACED = 104  # added: the process's exec ended the thread


def _kinds(*codes: int) -> NDArray[np.bool_]:
    """A table to look kinds up in: true for `codes`."""
    table = np.zeros(256, bool)
    table[list(codes)] = True
    return table


_ENDS = _kinds(_EXIT, _EXIT_GROUP, _REPLACED)
_SETS_STATE = _kinds(_BORN, _MASK, _ALTSTACK, _ALTSTACK_OFF)
_SETS_STACK = _kinds(_ALTSTACK, _ALTSTACK_OFF)
_SAYS_HANDLED = _kinds(_CODE["snapshot"], _BORN, _BORN_OTHER, _CODE["action"], _EXEC)
_SAYS_COMM = _kinds(_CODE["snapshot"], _BORN, _BORN_OTHER, _NAME, _EXEC)
_NOT_OWN = _kinds(_CODE["generate"], _CODE["lost"], 255)

_UNKNOWN = np.uint64(signals.ALL)  # as a settled mask: none was ever seen
_KEPT_BACK = np.uint64(signals.UNBLOCKABLE | signals.word_of(signals.INTERNAL))
_EVERYTHING = np.uint64(signals.ALL)
_NEVER = np.iinfo(np.int64).max


@dataclass
class Analysis:
    """The answer of the engine for one readiness policy.

    threads: one row a born thread (docs/tables.md); hits: one row a hit (pid, tid, born_ns, time_ns,
    signal, critical); by_signal: one row a handled signal; leaders: the name of a process's first
    thread by pid; ready, signals: as asked; start_ns, end_ns: times of the first and the last event;
    ended: the tracer closed the trace itself.
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

    def decode(self, codes: Array) -> pd.Series:
        """The strings of `codes`."""
        return _strings(list(self._codes), codes)

    def __getitem__(self, code: int) -> str:
        return list(self._codes)[code]


def _strings(words: list[str], codes: Array) -> pd.Series:
    """`words[code]` for every code, without a Python object each."""
    return pd.Series(pd.array(pa.array(words, pa.large_string()).take(pa.array(codes)), dtype="str"))


def _concat(tables: list[Columns]) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _take(table: Columns, index: Array) -> Columns:
    return {name: column[index] for name, column in table.items()}


def _blocks_everything(mask: Array) -> Array:
    """signals.blocks_everything for an array of masks."""
    return (mask | _KEPT_BACK) == _EVERYTHING


def _nth(where: Array, heads: Array, ends: Array, skip: Array | int = 0) -> Array:
    """For every run of rows [head, end): the first of the rows `where` (ascending), or `end` if none.

    `skip`: how many to pass over first.
    """
    index = np.searchsorted(where, heads) + skip
    padded = np.append(where, _NEVER)
    return np.minimum(padded[np.minimum(index, len(where))], ends)


def _last(where: Array, heads: Array, ends: Array) -> Array:
    """For every run of rows [head, end): the last of the rows `where` (ascending), or -1 if none."""
    index = np.searchsorted(where, ends) - 1
    found = np.append(where, -1)[index]  # index -1 takes the -1
    return np.where(found >= heads, found, -1)


def _union(words: Array, heads: Array, stops: Array) -> Array:
    """For every run of rows [head, stop): the union of its sets."""
    if not len(heads):
        return np.empty(0, np.uint64)
    pairs = np.stack([heads, stops], axis=1).ravel()
    union = np.bitwise_or.reduceat(np.append(words, np.uint64(0)), pairs)[::2]
    return np.where(stops > heads, union, np.uint64(0))


def _expand(starts: Array, stops: Array) -> tuple[Array, Array]:
    """Every integer of every [start, stop), and which pair it came from."""
    counts = np.maximum(stops - starts, 0)
    owner = np.repeat(np.arange(len(starts)), counts)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return starts[owner] + offset, owner


class _Order:
    """Rows sorted by thread id, then by their place in the stream, and looked up by the same."""

    def __init__(self, tid: Array, slot: Array) -> None:
        self._bits = max(int(slot.max()).bit_length(), 1) if len(slot) else 1
        keys = self._key(tid, slot)
        # The keys are unique, so the fast unstable sort of the keys themselves replaces a stable argsort.
        self.keys = np.sort(keys)
        self.slot = self.keys & ((1 << self._bits) - 1)

    def _key(self, tid: Array, slot: Array) -> Array:
        return tid.astype(np.int64) << self._bits | slot

    def at(self, tid: Array, slot: Array) -> Array:
        """The last row of thread `tid` not after `slot`; where it has none, a row of another thread or -1."""
        return np.searchsorted(self.keys, self._key(tid, slot), side="right") - 1


class Windows:
    """Measures the setup windows of a stream of events.

    signals: which signals count, the value of --signals. Raises UsageError for an unknown signal.
    """

    def __init__(self, signals: str = "async") -> None:
        self._signals = signals
        self._considered = np.uint64(_considered(signals))
        self._names = _Names()
        self._stacks = _Names()
        self._pending: list[Columns] = []
        self._pending_rows = 0
        self._open = _empty_rows()
        self._handled: dict[str, Array] = {"pid": np.empty(0, np.int32), "handled": np.empty(0, np.uint64)}
        self._signal_events = _empty_signal_events()  # of living threads
        self._births: list[Columns] = []
        self._renames: list[Columns] = []
        self._leaders: dict[int, int] = {}
        self._closed: list[_Facts] = []
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
            raise InputError(f"events are out of order: {time_ns[0]} ns comes after {self._end_ns} ns in the stream")
        self._start_ns = self._start_ns if self._events else int(time_ns[0])
        self._end_ns = int(time_ns[-1])
        self._pending.append(self._read(batch))
        self._events += batch.num_rows
        self._pending_rows += batch.num_rows
        if self._pending_rows >= max(_CHUNK_ROWS, len(self._open["seq"])):
            self._digest()

    def result(self, ready: str = "auto") -> Analysis:
        """The tables as of the last event fed, under a readiness policy; changes nothing.

        ready: auto, altstack, mask, steady, symbol or symbol:NAME. Raises UsageError for anything else.
        """
        asked = ready.partition(":")[0] if ready.startswith("symbol:") else ready
        if asked not in (*POLICIES, "auto"):
            raise UsageError(f"unknown readiness policy {ready!r}: give auto, altstack, mask, steady or symbol:NAME")
        self._digest()
        living = self._measure_living()
        return _tabulate(self, [*self._closed, living], asked, ready)
