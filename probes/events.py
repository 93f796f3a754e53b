"""The event table: one schema for every source of events.

Every backend writes these columns and every analysis reads them. The C struct of the BPF program,
the Arrow schema and the table in docs/events.md come from the declarations below, or are tested
against them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .text import decoded

FORMAT_VERSION = 1
COMM_BYTES = 16  # TASK_COMM_LEN, include/linux/sched.h


class Kind(NamedTuple):
    """One kind of event and what it stands for."""

    name: str
    meaning: str


class Column(NamedTuple):
    """One column of the event table: its type in Arrow, in the kernel's record, and its meaning."""

    name: str
    arrow: pa.DataType
    c_type: str | None  # None: not part of the kernel's record
    meaning: str


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
    Column("comm", pa.string(), "char[16]", "thread name (snapshot, born, name, exec)"),
    Column("stack", pa.string(), None, "folded user stack of the creator (born), when asked for"),
)

SCHEMA = pa.schema([pa.field(c.name, c.arrow, nullable=False) for c in COLUMNS])

# One record of the ring buffer, in the order of `struct event` in window.bpf.c (a test compares
# the two): wide members first, so that the compiler has no reason to pad.
RECORD = np.dtype(
    [
        ("time_ns", "<u8"),
        ("mask", "<u8"),
        ("handled", "<u8"),
        ("onstack", "<u8"),
        ("pid", "<i4"),
        ("tid", "<i4"),
        ("peer", "<i4"),
        ("sa_flags", "<u4"),
        ("flags", "<u4"),
        ("stack_id", "<i4"),
        ("kind", "u1"),
        ("altstack", "u1"),
        ("signal", "u1"),
        ("disposition", "u1"),
        ("comm", f"S{COMM_BYTES}"),
        ("reserved", "<u4"),
    ]
)

_KIND_DICTIONARY = pa.array(KIND_NAMES, pa.string())


def kind_array(codes: np.ndarray) -> pa.DictionaryArray:
    """Event kinds from their codes (positions in KINDS), always over the same dictionary.

    An unchanging dictionary lets a stream carry it once.
    """
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int8)), _KIND_DICTIONARY)


def kind_codes(batch: pa.RecordBatch) -> np.ndarray:
    """The kinds of a batch as codes (uint8), whatever order its own dictionary has.

    Kinds that this version does not know become 255, which no analysis looks at.
    """
    column = batch.column("kind")
    table = np.array([CODE.get(name, 255) for name in column.dictionary.to_pylist()], np.uint8)
    return table[column.indices.to_numpy(zero_copy_only=False)] if len(table) else np.empty(0, np.uint8)


def _texts(raw: np.ndarray) -> pa.Array:
    """A fixed-width byte column as strings; Python touches each distinct value once."""
    encoded = pa.array(raw, pa.binary()).dictionary_encode()
    distinct = [decoded(value) for value in encoded.dictionary.to_pylist()]
    return pa.array(distinct, pa.string()).take(encoded.indices)


def batch_of(columns: dict[str, np.ndarray | pa.Array]) -> pa.RecordBatch:
    """An event batch from the columns that a source has; the rest is zero, false or empty.

    `kind` may be codes. Columns must be of one length.
    """
    length = len(columns["time_ns"])
    arrays = []
    for column in COLUMNS:
        given = columns.get(column.name)
        if given is None:
            if column.arrow == pa.string():
                array = pa.array([""], pa.string()).take(pa.array(np.zeros(length, np.int32)))
            else:
                zeros = np.zeros(length, column.arrow.to_pandas_dtype() if column.name != "kind" else np.int8)
                array = pa.array(zeros, column.arrow) if column.name != "kind" else kind_array(zeros)
        elif isinstance(given, pa.Array):
            array = given
        elif column.name == "kind":
            array = kind_array(given)
        else:
            array = pa.array(given).cast(column.arrow)
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def batch_of_records(records: np.ndarray, stacks: pa.Array | None = None) -> pa.RecordBatch:
    """An event batch from kernel records (dtype RECORD), sorted by time.

    `stacks`: the folded creator's stacks, one a record, when they were asked for.
    """
    columns: dict[str, np.ndarray | pa.Array] = {
        name: np.ascontiguousarray(records[name])
        for name in RECORD.names or ()
        if name not in ("comm", "altstack", "reserved", "stack_id", "time_ns")
    }
    columns["time_ns"] = records["time_ns"].astype(np.int64)
    columns["altstack"] = records["altstack"].astype(bool)
    columns["comm"] = _texts(records["comm"])
    if stacks is not None:
        columns["stack"] = stacks
    return batch_of(columns)


def end_of_trace(time_ns: int) -> pa.RecordBatch:
    """The tracer's own last event: that it closed the trace itself."""
    return batch_of(
        {
            "time_ns": np.array([time_ns]),
            "kind": np.array([CODE["mark"]]),
            "comm": pa.array([TRACE_END]),
        }
    )


def merged(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Several batches of the same columns as one, in order of time; events of equal time keep their order."""
    names = batches[0].schema.names if batches else SCHEMA.names
    table = pa.Table.from_batches(batches, pa.schema([SCHEMA.field(name) for name in names]))
    table = table.take(pc.sort_indices(table["time_ns"]))
    return table.combine_chunks().to_batches()[0] if len(table) else batch_of({"time_ns": np.empty(0, np.int64)})
