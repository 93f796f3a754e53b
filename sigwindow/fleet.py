"""From trace files to their analysis and their tables: one file, or many, here or on a Dask cluster."""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.totals import Totals, merged
from sigwindow.collector import files, remote, tracefile
from sigwindow.probes.errors import InputError, OrderError, SigwindowError, UsageError
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo, common

TRACE_SUFFIXES = (".arrows", ".parquet")  # of the files that count in a folder
_T = TypeVar("_T")
_FORMULA = "^[=+@\\-\t\r]"  # what a spreadsheet takes for a formula


def expand(names: Sequence[str]) -> list[str]:
    """The trace files that `names` stand for: files, patterns, and folders with what traces they hold.

    A URL is a pattern if there is a * in it, and a folder if it ends in /.
    Raises UsageError for a pattern or a folder without any.
    """
    found: list[str] = []
    for name in names:
        if remote.is_url(name):
            found += _some(name, remote.listed(name, TRACE_SUFFIXES))
        elif Path(name).is_dir():
            found += _some(name, filter(_is_trace, map(str, Path(name).iterdir())))
        elif glob.has_magic(name) and not Path(name).exists():
            found += _some(name, glob.iglob(name, recursive=True))
        else:
            found.append(name)
    return list(dict.fromkeys(found))


def _is_trace(name: str) -> bool:
    return name.endswith(TRACE_SUFFIXES)


def _some(name: str, paths: Iterable[str]) -> list[str]:
    found = sorted(paths)
    if not found:
        raise UsageError(f"no trace file ({' or '.join(TRACE_SUFFIXES)}) in {name}")
    return found


def read(
    name: str | Path,
    question: Question = Question(),
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Windows, TraceInfo]:
    """Run a trace of any size through the window engine, to be asked one question.

    progress: called now and then with the bytes read so far and the bytes in all. Returns the engine and what the
    trace says of itself. Raises InputError for what can't be read as a trace.
    """
    reader = tracefile.Reader(name)
    try:
        windows = Windows(question, reader.info.os)
    except UsageError as error:  # right elsewhere: it was parsed
        raise InputError(f"{printable(str(name))}: {error}") from None
    try:
        for columns in _ahead(map(windows.take_in, reader.batches(windows.columns))):
            windows.walk(columns)
            if progress:
                progress(reader.bytes_read, reader.bytes)
    except OrderError:
        windows = Windows(question, reader.info.os)
        windows.feed(reader.in_order(windows.columns))
    return windows, reader.info


def _ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The same items, the next one being made in another thread while one is looked at."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


def analyse(name: str | Path, question: Question = Question()) -> tuple[Analysis, TraceInfo]:
    """The whole analysis of a trace, with its table of threads in memory, and what the trace says of itself.

    Raises InputError for what can't be read as a trace.
    """
    windows, info = read(name, question)
    return windows.result(), info


@dataclass(frozen=True)
class Measured:
    """A trace file and its totals; or, where it could not be read, the error."""

    name: str
    totals: Totals | None = None
    info: TraceInfo | None = None
    error: str = ""


def measure(name: str, question: Question, progress: Callable[[int, int], object] | None = None) -> Measured:
    """The totals of one trace file. A file that can't be read is an answer, too."""
    try:
        windows, info = read(name, question, progress)
        return Measured(name, windows.totals(), info)
    except InputError as error:
        return Measured(name, error=str(error))


def measure_with_dask(
    names: Sequence[str], question: Question, address: str | None, done: Callable[[], object] | None = None
) -> list[Measured]:
    """The totals of many trace files, each read by a worker of a Dask cluster, in the order of `names`.

    The files must be where every worker finds them: on a shared disk, or URLs. A worker that is lost costs time only:
    Dask gives its files to others.
    address: of a scheduler; without one a cluster of this machine's processors is started for this call. done: called
    after each file.
    """
    try:
        from dask.distributed import Client, as_completed
    except ImportError as error:
        raise UsageError(f"--dask needs dask.distributed ({error}). Try pip install 'sigwindow[fleet]'") from None
    try:
        client = (
            Client(address, timeout=10)
            if address
            else Client(processes=True, threads_per_worker=1, dashboard_address=":0")
        )
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {address}: {error}") from None
    with client:
        futures = [client.submit(measure, name, question, pure=False) for name in names]
        for _ in as_completed(futures):
            if done:
                done()
        found = []
        for name, future in zip(names, futures, strict=True):
            failure = future.exception()  # of a worker that was lost too often, or of us
            if isinstance(failure, SigwindowError):
                raise failure
            found.append(Measured(name, error=f"{name}: {failure}") if failure else future.result())
        return found


def total(found: Sequence[Measured], question: Question) -> tuple[Totals, TraceInfo]:
    """The totals of all files that could be read, and what they all say of themselves alike; of one file its own."""
    if len(found) == 1 and found[0].totals:
        return found[0].totals, found[0].info or TraceInfo()
    alike = common([one.info for one in found if one.info])
    return merged([Totals(question), *(one.totals for one in found if one.totals)]), alike


def write_threads(
    names: Sequence[str], form: str, output: Path | None, question: Question, *, force: bool
) -> list[Measured]:
    """Write the thread tables of traces one after the other, of several with a leading column `trace`.

    form: csv or parquet. output: the file, or None for standard output (csv only). However many threads there are, they
    take little memory: rows come in parts of some ten thousand threads that ended one after the other, in the order of
    birth within a part.
    """
    found = []
    with _table_output(form, output, force=force) as write:
        for name in names:
            try:
                windows, info = read(name, question)
            except InputError as error:
                found.append(Measured(name, error=str(error)))
                continue
            for table in windows.tables():
                if len(names) > 1:
                    table.insert(0, "trace", name)
                write(pa.Table.from_pandas(table, preserve_index=False))
            found.append(Measured(name, windows.totals(), info))
    return found


@contextmanager
def _table_output(form: str, output: Path | None, *, force: bool) -> Iterator[Callable[[pa.Table], None]]:
    """Something to write tables of one schema to, which become one file."""
    writer: Any = None

    def write(table: pa.Table) -> None:
        nonlocal writer
        if form == "csv":
            table = _without_formulas(table)
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema) if form == "parquet" else pa.csv.CSVWriter(file, table.schema)
        (writer.write_table if form == "parquet" else writer.write)(
            table.cast(writer.schema) if form == "parquet" else table
        )

    with files.replacing(output, force=force) if output else nullcontext(sys.stdout.buffer) as file:
        try:
            yield write
        finally:
            if writer is not None:
                writer.close()


def _without_formulas(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text that a spreadsheet would run as a formula."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = table.column(place).combine_chunks().dictionary_encode()
            texts = pa.array(map(printable, column.dictionary.to_pylist()), pa.string())
            escaped = pc.replace_substring_regex(texts, _FORMULA, r"'\0").take(column.indices)
            table = table.set_column(place, field.name, escaped)
    return table
