"""Logs of strace that somebody has, as batches of the event table."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from sigwindow.probes import events
from sigwindow.probes.errors import InputError, UsageError
from sigwindow.probes.traceinfo import TraceInfo

from .calls import Call, Lines, Style, UntimedError
from .replay import Queue, Replay

_CHUNK_BYTES = 1 << 20
_FAMILY_CHUNK_BYTES = 1 << 16  # of each file, where a log is one file a thread (-ff)
_SNIFF_BYTES = 1 << 16
_BATCH_ROWS = 1 << 15
_CLOCKS = {"-ttt": "CLOCK_REALTIME", "-tt": "time of day", "-r": "time since the log's first line"}


def recognises(head: bytes) -> bool:
    """Whether a file that begins with `head` is a log of strace, with times or without."""
    try:
        Style(head[:_SNIFF_BYTES].rpartition(b"\n")[0] or head[:_SNIFF_BYTES], "it")
    except UntimedError:
        return True
    except InputError:
        return False
    return True


def family(path: Path) -> list[Path]:
    """The files of a log: `path` itself, or of a log with one file a thread (-ff) all of `NAME.TID`.

    path: the file, one file of several, or their common NAME.
    """
    stem = path.with_suffix("") if path.suffix[1:].isdecimal() else path
    files = [one for one in stem.parent.glob("*") if one.stem == stem.name and one.suffix[1:].isdecimal()]
    if path.exists() and (path not in files or _names_its_threads(path)):
        return [path]
    return sorted(files, key=lambda one: int(one.suffix[1:])) or [path]


def _names_its_threads(path: Path) -> bool:
    """Whether the lines of a log say whose they are; then its name says nothing of it."""
    try:
        with path.open("rb") as file:
            style = Style(file.read(_SNIFF_BYTES), str(path))
    except (OSError, InputError):
        return True  # whatever it is, it is alone
    return style.prefixed or style.bracketed


class Log:
    """A log of strace as batches of the event table.

    files: one file; or, of a log with one file a thread (-ff), all of them, named `NAME.TID` (`family` finds them).
    name: what to call a file without a name in messages. first_mask: the mask that the first program was started
    with, where it is known.

    `info` is what the trace says of itself. After `batches()` is through, `notes` says in plain sentences what the log
    does not tell; `read_bytes` and `size_bytes` tell how far it is.
    Raises InputError for what is no log of strace, or is one without usable times.
    """

    def __init__(self, files: Sequence[Path] | BinaryIO, *, name: str = "", first_mask: int | None = None) -> None:
        self._files = list(files) if isinstance(files, Sequence) else []
        self._stream = None if isinstance(files, Sequence) else files
        self._name = name or (str(self._files[0]) if self._files else "the input")
        self._replay = Replay(first_mask)
        self._lines: list[Lines] = []
        self._detached = False
        self.read_bytes = 0
        try:
            self.size_bytes = sum(path.stat().st_size for path in self._files)
            if self._stream is None:
                with self._files[0].open("rb") as file:
                    self._head = file.read(_SNIFF_BYTES)
            else:
                self._head = self._stream.read(_SNIFF_BYTES)
        except OSError as error:
            raise InputError(f"can't read {self._name}: {error.strerror or error}") from None
        whole = self._head if len(self._head) < _SNIFF_BYTES else self._head.rpartition(b"\n")[0]
        self._style = Style(whole, self._name)
        self._by_thread = (
            not self._style.prefixed
            and not self._style.bracketed
            and bool(self._files)
            and all(path.suffix[1:].isdecimal() for path in self._files)
        )
        if len(self._files) > 1 and not self._by_thread:
            raise UsageError("several files are one log only where strace wrote one a thread (-ff): NAME.TID")
        if len(self._files) > 1 and self._style.stamp == "-r":
            raise InputError(f"{self._name}: files by thread (-ff) with times by -r have no order: record with -ttt")
        self.info = TraceInfo(  # of the machine that was traced the log tells little
            backend="strace",
            os="linux",
            clock=_CLOCKS[self._style.stamp],
            clock_to_wall_ns=0 if self._style.stamp == "-ttt" else None,
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events, batch by batch, in order of time; they are read once."""
        queue = Queue(self._replay)
        if self._by_thread and len(self._files) > 1:
            calls = heapq.merge(*(self._of_thread(path) for path in self._files), key=lambda call: call.time_ns)
            for call in calls:
                queue.put((call,), 1)
                if self._replay.rows >= _BATCH_ROWS:
                    yield self._replay.take()
            queue.put((), 1, last=True)
        else:
            lines = Lines(self._style, int(self._files[0].suffix[1:]) % 10**7 if self._by_thread else 0)
            self._lines.append(lines)
            for data in self._data():
                self._detached = b" <detached ...>" in data[-4096:]
                queue.put(lines.feed(data), lines.root)
                if self._replay.rows >= _BATCH_ROWS:
                    yield self._replay.take()
            queue.put(lines.close(), lines.root, last=True)
        self._replay.close()
        if self._detached or not self._replay.living:
            yield from (self._replay.take(), events.batch_of_rows([events.end_of_trace(self._replay.now_ns)]))
        else:
            yield self._replay.take()

    def _data(self) -> Iterator[bytes]:
        try:
            if self._stream is not None:
                yield self._head
                self.read_bytes += len(self._head)
                while data := self._stream.read(_CHUNK_BYTES):
                    self.read_bytes += len(data)
                    yield data
            else:
                with self._files[0].open("rb") as file:
                    while data := file.read(_CHUNK_BYTES):
                        self.read_bytes += len(data)
                        yield data
        except OSError as error:
            raise InputError(f"can't read {self._name}: {error.strerror or error}") from None

    def _of_thread(self, path: Path) -> Iterator[Call]:
        """The calls in the file of one thread. It is not kept open: there may be more of them than a process may."""
        lines = Lines(self._style, int(path.suffix[1:]) % 10**7)
        self._lines.append(lines)
        offset = 0
        while True:
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(_FAMILY_CHUNK_BYTES)
            except OSError as error:
                raise InputError(f"can't read {path}: {error.strerror or error}") from None
            if not data:
                break
            offset += len(data)
            self.read_bytes += len(data)
            self._detached = b" <detached ...>" in data[-4096:]
            yield from lines.feed(data)
        yield from lines.close()

    @property
    def lines(self) -> int:
        """Lines read."""
        return sum(lines.lines for lines in self._lines)

    @property
    def damaged(self) -> int:
        """Lines that are not strace's, or that are, but can't be read."""
        return self._replay.damaged

    @property
    def notes(self) -> list[str]:
        """What the log does not tell, and what was done about it; empty where it tells all."""
        replay = self._replay
        said = {
            f"{replay.damaged} lines are damaged or not strace's": replay.damaged,
            f"the masks of {replay.unsure} threads at their birth are not in the log: taken for those of a program "
            "started with nothing blocked, and uncertain": replay.unsure,
            f"the births of {replay.unborn} threads are not in the log: taken for threads of its first "
            "process": replay.unborn,
            "the first process is not named in the log: shown as process 1": replay.unnamed,
            f"the clock was set back {replay.steps_back} times while the log was made": replay.steps_back,
        }
        return [sentence for sentence, true in said.items() if true]
