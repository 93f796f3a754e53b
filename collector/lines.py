"""The line protocol: the event table as text, written by the D and bpftrace scripts in probes/ (docs/lines.md).

Read in bulk: a chunk of lines is matched against one regular expression, and what matches is read as a table by Arrow.
Python sees only the header, the end, the tracer's own messages and each distinct thread name. Names are hexadecimal in
the lines, so nothing that the traced world chose can look like a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from sigwindow.probes import events
from sigwindow.probes.errors import InputError
from sigwindow.probes.text import decoded
from sigwindow.probes.traceinfo import TraceInfo

PROTOCOL_VERSION = 1
CHUNK_BYTES = 1 << 23
REORDER_ROWS = 1 << 18  # events that are held back: buffers of several CPUs are printed one after the other
_LONGEST_LINE = 1 << 10  # more bytes without a newline are no line of ours

_SET = "(?:0|0x[0-9a-f]{1,16})"
_FLAGS = "(?:0|0x[0-9a-f]{1,8})"
_ID = "[0-9]{1,9}"
# Names: words of 8 bytes, the first byte lowest (D), or byte by byte (bpftrace's %rx).
_NAME = r"(?:0|0x[0-9a-f]{1,16}(?::0x[0-9a-f]{1,16}){1,2}|(?:\\x[0-9a-f]{2}){1,20})"
_SHAPE = {  # the columns that a line has, in its order
    "time_ns": "[0-9]{1,18}",
    "kind": f"(?:{'|'.join(events.KIND_NAMES)})",
    "pid": _ID,
    "tid": _ID,
    "mask": _SET,
    "mask_hi": _SET,
    "altstack": "[01]",
    "handled": _SET,
    "handled_hi": _SET,
    "onstack": _SET,
    "onstack_hi": _SET,
    "signal": "(?:[0-9]{1,2}|1[01][0-9]|12[0-8])",
    "disposition": "[012]",
    "sa_flags": _FLAGS,
    "peer": _ID,
    "flags": _FLAGS,
    "comm": _NAME,
}
COLUMNS = tuple(_SHAPE)
_EVENT = rf"^E {' '.join(_SHAPE.values())} \.\n$"
# What else a tracer prints. The rest is damage.
_HEADER = rb"^sigwindow-lines (\d+) (.*)\n$"
_END = rb"^sigwindow-end time_ns=(\d{1,18})\n$"
_COUNT = rb"^@lines: (\d{1,18})\n$"
_DROPS = rb"^(?:dtrace: (?:\[DTRACEDROP_\w+\] )?(\d{1,18}) (?:[a-z]+ )*drops?\b|Lost (\d{1,18}) events\b)"
_OURS = rf"{_HEADER.decode()}|{_END.decode()}|{_COUNT.decode()}|{_DROPS.decode()}"
_MESSAGE = r"^(?:\s*$|sigwindow-ready\n|Attach(?:ing|ed) \d+ probe|dtrace: |WARNING: |ERROR: )"

_ARROW = {name: events.SCHEMA.field(name).type for name in COLUMNS} | {
    "line": pa.string(),
    "kind": pa.dictionary(pa.int32(), pa.string()),
    "altstack": pa.uint8(),
    "comm": pa.dictionary(pa.int32(), pa.string()),
    "end": pa.string(),
}


def is_lines(head: bytes) -> bool:
    """Whether a file that begins with `head` (some KiB of it) is in the line protocol, of any version."""
    return re.search(rb"^(?:sigwindow-lines \d|E \d+ [a-z]+ \d+ \d+ (?:0|0x))", head, re.MULTILINE) is not None


class Parser:
    """Lines to events, piece by piece as they come: from a file, or from a running tracer.

    info: what the trace says of itself; None until the header was read.
    start_ns, end_ns: the times of the header and of the end line. events, damaged: lines that were events, and that
    were nothing known. dropped: records that the tracer's own messages give as lost. expected: how many events the
    tracer says it recorded, if it does.
    """

    def __init__(self) -> None:
        self.info: TraceInfo | None = None
        self.start_ns = 0
        self.end_ns: int | None = None
        self.expected: int | None = None
        self.events = self.damaged = self.dropped = 0
        self._rest = b""

    def feed(self, data: bytes) -> pa.RecordBatch:
        """The events of the lines that `data` completes, in the order of the lines.

        Raises InputError for a header of another version, and for a second header: two traces are not one.
        """
        data = self._rest + data
        whole = data.rfind(b"\n") + 1
        data, self._rest = data[:whole], data[whole:]
        if len(self._rest) > _LONGEST_LINE:
            self._rest = b"?"  # whatever follows up to the next newline is damaged, too
        return self._parse(data)

    def finish(self) -> pa.RecordBatch:
        """The event of a last line that lacks its newline."""
        rest, self._rest = self._rest, b""
        return self._parse(rest + b"\n" if rest else b"")

    def hear(self, messages: str) -> None:
        """Take in what the tracer wrote to its standard error: messages of drops, line by line."""
        for line in messages.encode().splitlines(keepends=True):
            self._take_note(line)

    def lost(self) -> int:
        """How many records did not become events, by the best account there is."""
        if self.expected is not None:
            return max(self.expected - self.events, self.dropped)
        return self.dropped + self.damaged

    def _parse(self, data: bytes) -> pa.RecordBatch:
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        lines = pa.Array.from_buffers(pa.binary(), len(ends), buffers)
        good = pc.match_substring_regex(lines, _EVENT)
        count = pc.sum(good).as_py() or 0
        if count < len(lines):
            self._take_others(lines.filter(pc.invert(good)))
            lines = lines.filter(good)
            data = b"" if not count else lines.buffers()[2].to_pybytes()
        self.events += count
        return _read(data) if count else events.batch_of_rows([])

    def _take_others(self, lines: pa.Array) -> None:
        ours = pc.match_substring_regex(lines, _OURS)
        known = pc.or_(ours, pc.match_substring_regex(lines, _MESSAGE))
        self.damaged += len(lines) - pc.sum(known).as_py()
        for line in lines.filter(ours).to_pylist():
            self._take_note(line)

    def _take_note(self, line: bytes) -> None:
        if match := re.search(_DROPS, line):
            self.dropped += int(match[1] or match[2])
        elif match := re.search(_END, line):
            self.end_ns = int(match[1])
        elif match := re.search(_COUNT, line):
            self.expected = max(int(match[1]), self.expected or 0)
        elif match := re.search(_HEADER, line):
            self._take_header(int(match[1]), match[2])

    def _take_header(self, version: int, told: bytes) -> None:
        if version != PROTOCOL_VERSION:
            raise InputError(f"the lines are of protocol version {version}, and this version reads {PROTOCOL_VERSION}")
        if self.info:
            raise InputError("there are two headers: two traces in one file")
        told, _, host = told.partition(b" host=")
        values = {k: v for k, _, v in (field.partition("=") for field in decoded(told).split())}
        try:
            self.start_ns = _number(values["time_ns"])
            wall_ns = _number(values["wall_ns"]) if "wall_ns" in values else _number(values["wall_us"]) * 1000
            target = _number(values["target"])
            self.info = TraceInfo(
                backend=values["tracer"],
                os=values["os"],
                signals=values["signals"],
                kernel=values.get("kernel", ""),
                arch=values.get("arch", ""),
                host=decoded(host),
                clock=values["clock"],
                clock_to_wall_ns=wall_ns - self.start_ns,
                targets=(target,),
                options={"follow": values.get("follow") == "1"},
            )
        except KeyError as error:
            raise InputError(f"the header lacks {error}") from None
        except ValueError as error:
            raise InputError(f"in the header: {error}") from None


def _number(text: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 1 << 63:
        raise ValueError(f"{text!r} is no number of ours")
    return int(text)


def _read(data: bytes) -> pa.RecordBatch:
    """A batch from lines that all match _EVENT: nothing in here can fail."""
    names = ["line", *COLUMNS, "end"]
    table = pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=names, block_size=max(len(data), 1)),
        parse_options=pa_csv.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pa_csv.ConvertOptions(
            column_types=_ARROW, include_columns=list(COLUMNS), strings_can_be_null=False
        ),
    ).combine_chunks()
    columns = {name: table[name].chunk(0) for name in COLUMNS}
    kind, altstack, comm = (columns[name] for name in ("kind", "altstack", "comm"))
    codes = np.array([events.CODE[name] for name in kind.dictionary.to_pylist()], np.int8)
    names = events.texts(_name(encoded) for encoded in comm.dictionary.to_pylist())
    columns |= {"kind": codes[events.numbers(kind.indices)], "altstack": altstack.cast(pa.bool_())}
    return events.batch_of(columns | {"comm": names.take(comm.indices)})


def _name(encoded: str) -> str:
    """A thread's name from its hexadecimal form; what lies behind its first NUL is not part of it."""
    if encoded.startswith("\\"):
        raw = bytes.fromhex(encoded.replace("\\x", ""))
    else:
        raw = b"".join(int(word, 16).to_bytes(8, "little") for word in encoded.split(":"))
    return decoded(raw.split(b"\0", 1)[0])


class Ordered:
    """Events that come nearly in order of time, put in order.

    rows: how many wait; given_ns: the time of the last that was given out; late: events that came with an earlier time
    after that, and are left out.
    """

    def __init__(self) -> None:
        self.rows = self.late = 0
        self._waiting: list[pa.RecordBatch] = []
        self.given_ns = np.iinfo(np.int64).min

    def add(self, batch: pa.RecordBatch) -> None:
        """Take events in any order."""
        timely = events.numbers(batch.column("time_ns")) >= self.given_ns
        if not timely.all():
            kept = batch.filter(events.array(timely, pa.bool_()))
            self.late += len(batch) - len(kept)
            batch = kept
        if len(batch):
            self._waiting.append(batch)
            self.rows += len(batch)

    def take(self, keep_rows: int = 0, before_ns: int | None = None) -> pa.RecordBatch:
        """All that waits but the latest `keep_rows`, or what is earlier than `before_ns`, in order of time."""
        batch = events.merged(self._waiting)
        times = events.numbers(batch.column("time_ns"))
        count = max(len(batch) - keep_rows, 0) if before_ns is None else int(np.searchsorted(times, before_ns))
        given, kept = batch.slice(0, count), batch.slice(count)
        if count:
            self.given_ns = int(times[count - 1])
        self._waiting, self.rows = [kept] if len(kept) else [], len(kept)
        return given


class Reader:
    """A file in the line protocol, like `tracefile.Reader`: `.info`, and `batches()` in the order of time.

    file: the lines, opened in binary; stderr: what the tracer wrote to its standard error, where it was kept apart.
    Raises InputError for what is not in the protocol. After `batches()` is through, `cut` says that there was no end
    line, `damaged` how many lines were unreadable, `late` how many came too far out of order; all records that are
    missing for any reason are one `lost` event over the whole time, since nothing says when they were lost.
    """

    def __init__(self, file: BinaryIO, stderr: str = "") -> None:
        self._file = file
        self.size_bytes = _size(file)
        self._parser = Parser()
        self._parser.hear(stderr)
        head = file.read(CHUNK_BYTES)
        self._first = self._parser.feed(head)
        if self._parser.info is None:
            line = decoded(head.split(b"\n", 1)[0][:200])
            raise InputError(f"no header of the line protocol; the first line is {line!r}")
        self.info = self._parser.info
        self.cut = False
        self.late = 0

    @property
    def read_bytes(self) -> int:
        """How far the file is read."""
        return self._file.tell()

    @property
    def notes(self) -> list[str]:
        """What is missing, in plain sentences."""
        said = {
            f"{self.damaged} lines are damaged": self.damaged,
            f"{self.late} events came too late to be put in order": self.late,
            f"the tracer dropped {self._parser.dropped} records": self._parser.dropped,
            "there is no end line: the tracer was killed, or the file is cut": self.cut,
        }
        return [sentence for sentence, true in said.items() if true]

    @property
    def damaged(self) -> int:
        """Lines that were neither an event nor a known message of the tracer."""
        return self._parser.damaged

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events, batch by batch, in the order of time; can be called once."""
        order = Ordered()
        order.add(self._first)
        while data := self._file.read(CHUNK_BYTES):
            order.add(self._parser.feed(data))
            if order.rows >= 4 * REORDER_ROWS:
                yield order.take(keep_rows=REORDER_ROWS)
        order.add(self._parser.finish())
        yield order.take()
        self.cut = self._parser.end_ns is None
        self.late = order.late
        yield closing(self._parser, order)


def _size(file: BinaryIO) -> int:
    try:
        return os.fstat(file.fileno()).st_size
    except OSError:  # not a file of the system's
        return 0


def closing(parser: Parser, order: Ordered) -> pa.RecordBatch:
    """The `lost` event, if there is one, and the tracer's end mark, if it wrote its end line."""
    lost = parser.lost() + order.late
    last_ns = max(order.given_ns, parser.start_ns, parser.end_ns or 0)
    rows = [events.lost(lost, parser.start_ns, last_ns)] if lost else []
    if parser.end_ns is not None:
        rows.append(events.end_of_trace(last_ns))
    return events.batch_of_rows(rows)
