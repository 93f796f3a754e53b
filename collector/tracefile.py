"""The trace file: an Arrow IPC stream of the event table, with a description of itself in the schema's metadata.

A stream, not a file with a footer: whatever was flushed can be read, even if the tracer was killed. The same table in
Parquet is read, too. A file is recognised by its content.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sigwindow.probes import events
from sigwindow.probes.errors import InputError
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo

from . import remote

FLUSH_S = 0.5  # at least every second is promised
_FLUSH_ROWS = 1 << 16
_PARQUET_MAGIC = b"PAR1"


class Writer:
    """Writes a trace, batch by batch, in the order of time.

    file: where it goes, which stays open; info: what the trace says of itself.
    """

    def __init__(self, file: BinaryIO, info: TraceInfo) -> None:
        self._file = file
        schema = events.SCHEMA.with_metadata(info.to_metadata())
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        self._stream = pa.ipc.new_stream(self._file, schema, options=options)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._file.flush()
        self._flushed_s = time.monotonic()

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch; it is in the file at the latest half a second later, at the next call."""
        if batch.num_rows:
            self._waiting.append(batch)
            self._rows += batch.num_rows
        if self._rows >= _FLUSH_ROWS or time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._stream.write_batch(pa.concat_batches(self._waiting))
            self._waiting, self._rows = [], 0
        self._file.flush()
        self._flushed_s = time.monotonic()

    def close(self) -> None:
        """Write what waits and the stream's end."""
        self.flush()
        self._stream.close()
        self._file.flush()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Reader:
    """A trace file: `.info` is what it says of itself, `batches()` its events in the order of time.

    path: a file, or a URL that fsspec knows (`s3://...`, with the package for it installed).
    Raises InputError for what is not a trace of ours, or is of a newer format than this version knows. A trace that is
    cut reads up to there: what its writer says at its end is missing then.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        shown = printable(str(path))
        self._at = 0
        try:
            with self._opened() as file:
                self.bytes = file.size()
                self._parquet = file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
            with self._opened() as file:
                schema = pq.read_schema(file) if self._parquet else pa.ipc.open_stream(file).schema
        except (pa.ArrowException, EOFError) as error:
            raise InputError(f"{shown} is not a trace, or ends before its header does: {error}") from None
        except OSError as error:
            number = error.errno or (errno.ENOENT if isinstance(error, FileNotFoundError) else 0)  # fsspec gives none
            reason = os.strerror(number) if number else str(error)
            raise InputError(f"can't read {shown}: {printable(reason)}") from None
        info = TraceInfo.from_metadata(schema.metadata)
        if info is None:
            raise InputError(f"{shown} is an Arrow file, but not a trace of sigwindow")
        if info.format < 1:
            raise InputError(f"{shown} does not say of which trace format it is")
        if info.format > events.FORMAT_VERSION:
            raise InputError(
                f"{shown} has trace format {info.format}, and this version of sigwindow reads up to "
                f"{events.FORMAT_VERSION}. Try pip install --upgrade sigwindow"
            )
        self.info = info
        declared = [column for column in events.COLUMNS if column.since <= info.format]
        wrong = [
            column.name
            for column in declared
            if schema.names.count(column.name) != 1 or schema.field(column.name).type != column.arrow
        ]
        if wrong:
            raise InputError(
                f"{shown} lacks columns of the event table, or has them in another type: {', '.join(wrong)}"
            )
        self._stored = {column.name: schema.names.index(column.name) for column in declared}  # with their places

    @property
    def bytes_read(self) -> int:
        """How far into the file `batches()` is."""
        return self._at

    def _opened(self) -> pa.NativeFile:
        if remote.is_url(self.path):
            return pa.PythonFile(remote.opened(str(self.path)), "r")
        return pa.OSFile(os.fsencode(self.path))

    def batches(self, columns: Sequence[str] = events.SCHEMA.names) -> Iterator[pa.RecordBatch]:
        """The events, batch by batch, as they lie in the file: in the order of time, if our own collector wrote it.

        Within a batch they may be in any order. columns: those of the event table that are wanted; one that the
        trace's format did not have yet says nothing, and what the file has besides is not looked at.
        """
        stored = [name for name in columns if name in self._stored]
        with self._opened() as file:
            if self._parquet:
                source = pq.ParquetFile(file, read_dictionary=["kind"]).iter_batches(columns=stored)
            else:
                options = pa.ipc.IpcReadOptions(included_fields=[self._stored[name] for name in stored])
                source = iter(pa.ipc.open_stream(file, options=options))
            while True:
                try:
                    batch = next(source, None)
                    if batch is None:
                        return
                    batch = batch.select(stored)
                    batch.validate()
                    self._at = file.tell()  # here, not when asked: that may be another thread, after the file is closed
                except (pa.ArrowException, OSError, EOFError):
                    return
                yield self._completed(batch, columns)

    def _completed(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """A batch with empty columns for those that the trace's format did not have yet."""
        if len(columns) == batch.num_columns:
            return batch
        schema = pa.schema(map(events.SCHEMA.field, columns))
        arrays = [
            batch.column(of.name) if of.name in self._stored else events.empty(of.type, batch.num_rows) for of in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def in_order(self, columns: Sequence[str] = events.SCHEMA.names) -> pa.RecordBatch:
        """All events, for a file from elsewhere that is not in the order of time: read whole, and sorted."""
        return events.merged(list(self.batches(columns)))
