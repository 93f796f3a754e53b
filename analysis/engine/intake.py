"""The engine's entrance: batches of events in their order, what the stream says of itself, and the walk's columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import OrderError

from .records import BORN, LOSS, LOST, MARK, SAYS_COMM, Array, Columns

_SETS = ("mask", "handled")  # of signals


class Names:
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


class Intake:
    """Takes batches in, and keeps what the stream says of itself.

    numbering: what the signals are called where the events are from. start_ns, end_ns: the times of the first and the
    last event so far. events: how many there were. ended: the tracer closed the trace itself. comms, stacks: the
    strings that the columns name by number. losses: LOSS.
    """

    def __init__(self, numbering: sig.Numbering) -> None:
        self.numbering = numbering
        self.comms = Names()
        self.stacks = Names()
        self.events = 0
        self.start_ns = 0
        self.end_ns = 0
        self.ended = False
        self.losses: list[Array] = []

    @property
    def columns(self) -> list[str]:
        """The columns of the event table that are looked at."""
        high = [f"{name}_hi" for name in _SETS] if self.numbering.wide else []
        return [*Columns._fields, *high]

    def take(self, batch: pa.RecordBatch) -> Columns:
        """The next events, in any order within the batch, as the walk takes them.

        Raises OrderError for an event earlier than the last one of an earlier batch.
        """
        time_ns = batch.column("time_ns").to_numpy()
        if np.any(time_ns[1:] < time_ns[:-1]):
            batch = batch.take(pa.array(np.argsort(time_ns, kind="stable")))
            time_ns = batch.column("time_ns").to_numpy()
        if len(time_ns):
            if self.events and time_ns[0] < self.end_ns:
                raise OrderError(f"events are out of order: one at {time_ns[0]} ns follows one at {self.end_ns} ns")
            if not self.events:
                self.start_ns = int(time_ns[0])
            self.end_ns = int(time_ns[-1])
            self.events += len(time_ns)
        kind = events.kind_codes(batch)
        given = {
            name: batch.column(name).to_numpy(zero_copy_only=False)
            for name in Columns._fields
            if name not in ("kind", "comm", "stack")
        }
        self._note_losses(kind, given)
        self._note_end(kind, given["pid"], batch)
        if self.numbering.wide:
            given["signal"] = self.numbering.numbers(given["signal"])
            for name in _SETS:  # a loss has a time as its mask: folded, it is looked at no more
                given[name] = self.numbering.fold(given[name], batch.column(f"{name}_hi").to_numpy())
        comm = np.zeros(len(kind), np.int32)
        named = SAYS_COMM[kind]
        comm[named] = self.comms.encode(batch.column("comm").filter(pa.array(named)))
        stack = np.zeros(len(kind), np.int32)
        if _has_text(batch.column("stack")):
            born = kind == BORN
            stack[born] = self.stacks.encode(batch.column("stack").filter(pa.array(born)))
        return Columns(kind=kind, comm=comm, stack=stack, **given)

    def _note_losses(self, kind: Array, given: dict[str, Array]) -> None:
        lost = np.flatnonzero(kind == LOST)
        if len(lost):
            losses = np.empty(len(lost), LOSS)
            losses["from_ns"], losses["to_ns"] = given["mask"][lost].astype(np.int64), given["time_ns"][lost]
            losses["count"] = given["flags"][lost]
            self.losses.append(losses)

    def _note_end(self, kind: Array, pid: Array, batch: pa.RecordBatch) -> None:
        tracers_own = (kind == MARK) & (pid == 0)
        if tracers_own.any():
            self.ended |= events.TRACE_END in batch.column("comm").filter(pa.array(tracers_own)).to_pylist()
