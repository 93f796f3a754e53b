"""The event table: one schema for every source of events.

Every backend writes these columns and every analysis reads them. The kernel's record (bpf/event.h, written by
`make generate`), its NumPy dtype and the Arrow schema are made of the declarations below; the tables in docs/events.md
are tested against them.

pa.array() and pa.scalar() are not used here, nor anywhere before a trace's first event: they import pandas, which takes
longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .text import decoded

FORMAT_VERSION = 1  # one more for every version with new columns or kinds; what it means is in docs/events.md
COMM_BYTES = 16  # TASK_COMM_LEN, include/linux/sched.h
_NUMPY = {"u64": "<u8", "u32": "<u4", "s32": "<i4", "u8": "u1", f"char[{COMM_BYTES}]": f"S{COMM_BYTES}"}  # of c_type


class Kind(NamedTuple):
    """One kind of event and what it stands for."""

    name: str
    meaning: str


class Column(NamedTuple):
    """One column of the event table: its type in Arrow, its type in the kernel's record, and its meaning."""

    name: str
    arrow: pa.DataType
    c_type: str | None  # None: not part of the kernel's record
    meaning: str
    since: int = 1  # the first trace format that has it

    @property
    def alignment(self) -> int:
        """In C, in bytes."""
        return np.dtype(_NUMPY[self.c_type]).alignment if self.c_type else 0


KINDS = (
    Kind("snapshot", "a thread that lived before the trace, as found in /proc"),
    Kind("born", "the kernel made the thread a member of its process; mask, altstack and handled set are the child's"),
    Kind("start", "the thread's first own instruction, where a backend sees it"),
    Kind("mask", "the thread set its signal mask (rt_sigprocmask)"),
    Kind("altstack", "the thread set or removed its alternate signal stack (sigaltstack)"),
    Kind("action", "the thread set a signal's disposition (rt_sigaction)"),
    Kind("generate", "a signal was sent; tid and mask are those of the thread it was sent to"),
    Kind("deliver", "a signal was taken by the thread; mask is the one its handler runs with"),
    Kind("return", "a handler returned (rt_sigreturn) and put the mask back"),
    Kind("mark", "the function named by --ready symbol:NAME returned; with pid 0: the tracer's own `end`"),
    Kind("name", "the thread's name changed"),
    Kind("exec", "the process runs a new program; handlers are reset. peer is the tid that called exec"),
    Kind("exit", "the thread ended"),
    Kind("lost", "flags records were lost between mask (ns) and time_ns"),
)
KIND_NAMES = tuple(kind.name for kind in KINDS)
CODE = {name: code for code, name in enumerate(KIND_NAMES)}

# flags of `born` are the low half of clone(2)'s; bit 0 belongs to no clone flag and says that the
# kernel made the thread for itself (io_uring, vhost): it never runs user code.
CLONE_THREAD = 0x0001_0000
BORN_KERNEL_WORKER = 0x1
# flags of `generate`: the result (enum in include/trace/events/signal.h) and who it was sent to.
GENERATE_RESULT = 0xFF
GENERATE_PROCESS = 0x100
# flags of `exit`: the whole process was ending; the thread did not end by itself.
EXIT_GROUP = 0x1

TRACE_END = "end"  # comm of the tracer's own last `mark`

DISPOSITION_DEFAULT, DISPOSITION_IGNORE, DISPOSITION_HANDLER = range(3)

_KIND_TYPE = pa.dictionary(pa.int8(), pa.string())

COLUMNS = (
    Column("time_ns", pa.int64(), "u64", "CLOCK_MONOTONIC (Linux) or nanoseconds since boot (DTrace)"),
    Column("kind", _KIND_TYPE, "u8", "what happened"),
    Column("pid", pa.int32(), "s32", "process (thread group) id, as the tracing host sees it"),
    Column("tid", pa.int32(), "s32", "thread id, as the tracing host sees it"),
    Column("mask", pa.uint64(), "u64", "signals blocked for the thread after the event: bit n-1 is signal n"),
    Column("mask_hi", pa.uint64(), None, "signals 65 to 128 of mask (FreeBSD)"),
    Column("altstack", pa.bool_(), "u8", "the thread has an alternate stack after the event"),
    Column("handled", pa.uint64(), "u64", "signals with a user handler after the event (snapshot, born, action, exec)"),
    Column("handled_hi", pa.uint64(), None, "signals 65 to 128 of handled (FreeBSD)"),
    Column("onstack", pa.uint64(), "u64", "those of handled that ask for the alternate stack (SA_ONSTACK)"),
    Column("onstack_hi", pa.uint64(), None, "signals 65 to 128 of onstack (FreeBSD)"),
    Column("signal", pa.uint8(), "u8", "signal number (generate, deliver, action)"),
    Column("disposition", pa.uint8(), "u8", "0 default, 1 ignore, 2 handler (deliver, action)"),
    Column("sa_flags", pa.uint32(), "u32", "flags of the disposition, numbered as on Linux (deliver, action)"),
    Column("peer", pa.int32(), "s32", "creator's tid (born), sender's tid (generate), caller's tid (exec)"),
    Column(
        "flags",
        pa.uint32(),
        "u32",
        "clone flags (born), result and target (generate), 1 = group exit (exit), count (lost)",
    ),
    Column("comm", pa.string(), f"char[{COMM_BYTES}]", "thread name (snapshot, born, name, exec)"),
    # The record has the key of the stack in a table of the kernel's, or a negative number.
    Column("stack", pa.string(), "s32", "folded user stack of the creator (born), when asked for"),
)

SCHEMA = pa.schema([pa.field(c.name, c.arrow, nullable=False) for c in COLUMNS])

# The kernel's record: wide members first, so that there are no holes. At its end it is padded as C would do it.
_MEMBERS = sorted((column for column in COLUMNS if column.c_type), key=lambda column: -column.alignment)
RECORD = np.dtype([(member.name, _NUMPY[str(member.c_type)]) for member in _MEMBERS], align=True)

_SHARED = ("BORN_KERNEL_WORKER", "GENERATE_RESULT", "GENERATE_PROCESS", "EXIT_GROUP")


def c_header() -> str:
    """The text of bpf/event.h: the record, and the numbers that the BPF program shares."""

    def declared(column: Column) -> str:
        kind, _, length = str(column.c_type).partition("[")
        return f"\t{kind} {column.name}{'[' if length else ''}{length};"

    return "\n".join(
        [
            "/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */",
            "/* Made from the declarations in probes/events.py by `make generate`. */",
            "",
            "struct event {",
            *map(declared, _MEMBERS),
            "};",
            "",
            *(f"#define KIND_{name} {code}" for name, code in CODE.items()),
            "",
            *(f"#define {name} {globals()[name]:#x}" for name in _SHARED),
            "",
        ]
    )


def array(values: np.ndarray, arrow: pa.DataType) -> pa.Array:
    """Numbers or truths as an Arrow array; without a copy where NumPy has the same type.

    Raises OverflowError for a number that is none of the type.
    """
    if arrow == pa.bool_():
        packed = np.packbits(values.astype(bool), bitorder="little")
        return pa.Array.from_buffers(arrow, len(values), [None, pa.py_buffer(packed)])
    cast = np.ascontiguousarray(values, arrow.to_pandas_dtype())
    if cast.dtype != values.dtype and not np.array_equal(cast, values):
        raise OverflowError(f"a number is no {arrow}")
    return pa.Array.from_buffers(arrow, len(values), [None, pa.py_buffer(cast)])


def texts(values: Iterable[str]) -> pa.StringArray:
    """Texts as an Arrow array."""
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def numbers(column: pa.Array) -> np.ndarray:
    """A column of numbers without nulls as NumPy sees it, without a copy."""
    whole = np.frombuffer(column.buffers()[1], column.type.to_pandas_dtype())
    return whole[column.offset : column.offset + len(column)]


_KIND_DICTIONARY = texts(KIND_NAMES)


def kind_array(codes: np.ndarray) -> pa.DictionaryArray:
    """Event kinds from their codes (positions in KINDS), always over the same dictionary.

    An unchanging dictionary lets a stream carry it once.
    """
    return pa.DictionaryArray.from_arrays(array(codes, pa.int8()), _KIND_DICTIONARY)


def kind_codes(batch: pa.RecordBatch) -> np.ndarray:
    """The kinds of a batch as codes (uint8), whatever order its own dictionary has.

    Kinds that this version does not know become 255, which no analysis looks at.
    """
    column = batch.column("kind")
    table = np.array([CODE.get(name, 255) for name in column.dictionary.to_pylist()], np.uint8)
    return table[column.indices.to_numpy(zero_copy_only=False)] if len(table) else np.empty(0, np.uint8)


def _names(raw: np.ndarray) -> pa.Array:
    """Names as the kernel holds them; Python touches each distinct one once."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(raw))]
    encoded = pa.Array.from_buffers(pa.binary(COMM_BYTES), len(raw), buffers).dictionary_encode()
    distinct = texts(decoded(name.partition(b"\0")[0]) for name in encoded.dictionary.to_pylist())
    return distinct.take(encoded.indices)


def batch_of(columns: Mapping[str, np.ndarray | pa.Array]) -> pa.RecordBatch:
    """An event batch from the columns that a source has; the rest is zero, false or empty.

    `kind` may be codes. Columns must be of one length.
    """
    unknown = columns.keys() - set(SCHEMA.names)
    if unknown:
        raise ValueError(f"no columns of the event table: {unknown}")
    length = len(columns["time_ns"])
    arrays = []
    for column in COLUMNS:
        given = columns.get(column.name)
        if isinstance(given, pa.Array):
            made = given
        elif given is None:
            made = empty(column.arrow, length)
        else:
            made = kind_array(given) if column.name == "kind" else array(given, column.arrow)
        arrays.append(made)
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def empty(arrow: pa.DataType, length: int) -> pa.Array:
    """A column of a type that says nothing about any event: zeros, false, or empty texts."""
    if arrow == _KIND_TYPE:
        return kind_array(np.zeros(length, np.int8))
    if arrow == pa.string():
        return texts([""]).take(array(np.zeros(length), pa.int32()))
    return array(np.zeros(length, arrow.to_pandas_dtype()), arrow)


def batch_of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """An event batch from rows by their columns' names, `kind` by its own; what a row does not name is empty."""
    unknown = {name for row in rows for name in row} - set(SCHEMA.names)
    if unknown:
        raise ValueError(f"no columns of the event table: {unknown}")
    columns: dict[str, np.ndarray | pa.Array] = {}
    for column in COLUMNS:
        if column.name == "kind":
            columns["kind"] = np.array([CODE[row["kind"]] for row in rows], np.int8)
        elif column.arrow == pa.string():
            columns[column.name] = texts(row.get(column.name, "") for row in rows)
        else:
            given = (row.get(column.name, 0) for row in rows)
            columns[column.name] = np.fromiter(given, column.arrow.to_pandas_dtype(), len(rows))
    return batch_of(columns)


def batch_of_records(records: np.ndarray, stacks: pa.Array | None = None) -> pa.RecordBatch:
    """An event batch from kernel records (dtype RECORD), sorted by time.

    `stacks`: the folded creator's stacks, one a record, when they were asked for.
    """
    columns: dict[str, np.ndarray | pa.Array] = {name: records[name] for name in RECORD.names or () if name != "stack"}
    columns["comm"] = _names(records["comm"])
    if stacks is not None:
        columns["stack"] = stacks
    return batch_of(columns)


def lost(count: int, since_ns: int, until_ns: int) -> dict[str, Any]:
    """The row that says how many records were lost between two times."""
    return {"kind": "lost", "time_ns": until_ns, "mask": max(since_ns, 0), "flags": min(count, 0xFFFF_FFFF)}


def end_of_trace(time_ns: int) -> dict[str, Any]:
    """The row that says that the tracer closed the trace itself."""
    return {"kind": "mark", "time_ns": time_ns, "comm": TRACE_END}


def merged(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Several batches of the same columns as one, in order of time; events of equal time keep their order."""
    names = batches[0].schema.names if batches else SCHEMA.names
    table = pa.Table.from_batches(batches, pa.schema([SCHEMA.field(name) for name in names]))
    table = table.take(pc.sort_indices(table["time_ns"]))
    return table.combine_chunks().to_batches()[0] if len(table) else batch_of_rows([])
