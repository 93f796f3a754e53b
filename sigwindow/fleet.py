"""From trace files to their analysis and their tables: one file, or many, here or on a Dask cluster.

    >>> from sigwindow import fleet
    >>> found = [fleet.measure(name) for name in fleet.expand(["notebooks/traces/newosproc-*.arrows"])]
    >>> fleet.total(found)[0].born
    398

`expand` says which files a folder or a pattern stands for, `analyse` reads one of them whole, `measure` only adds up,
`measure_with_dask` does so on a cluster, and `total` adds the sums. Nothing here prints.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.export import Threads
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.totals import Totals, merged
from sigwindow.collector import remote, tracefile
from sigwindow.probes.errors import InputError, OrderError, SigwindowError, UsageError
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo, common

TRACE_SUFFIXES = (".arrows", ".parquet")  # of the files that count in a folder
Progress = Callable[[int, int], object]  # called with how many bytes of a file are read, and how many there are
_T = TypeVar("_T")


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
        raise UsageError(f"no trace file ({' or '.join(TRACE_SUFFIXES)}) in {printable(name)}")
    return found


def read(
    name: str | Path,
    question: Question = Question(),
    progress: Progress | None = None,
) -> tuple[Windows, TraceInfo]:
    """Run a trace of any size through the window engine, to be asked one question.

    progress: called now and then. Returns the engine and what the trace says of itself. Raises InputError for what
    can't be read as a trace.
    """
    reader = tracefile.Reader(name)
    try:
        windows = Windows(question, reader.info.numbering.system)
    except UsageError as error:  # right elsewhere: it was parsed
        raise InputError(f"{printable(str(name))}: {error}") from None
    try:
        for columns in _ahead(map(windows.take_in, reader.batches(windows.columns))):
            windows.walk(columns)
            if progress:
                progress(reader.bytes_read, reader.bytes)
    except OrderError:
        windows = Windows(question, reader.info.numbering.system)
        windows.feed(reader.in_order(windows.columns))
    return windows, reader.info


def _ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The same items, the next one being made in another thread while one is looked at."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = thread.submit(next, items, None)
            yield item


def analyse(
    name: str | Path, question: Question = Question(), progress: Progress | None = None
) -> tuple[Analysis, TraceInfo]:
    """The whole analysis of a trace, with its table of threads in memory, and what the trace says of itself.

    progress: as of `read`. Raises InputError for what can't be read as a trace.
    """
    windows, info = read(name, question, progress)
    return windows.result(), info


@dataclass(frozen=True)
class Measured:
    """A trace file and its totals; or, where it could not be read, the error."""

    name: str
    totals: Totals | None = None
    info: TraceInfo | None = None
    error: str = ""


def measure(name: str, question: Question = Question(), progress: Progress | None = None) -> Measured:
    """The totals of one trace file. A file that can't be read is an answer, too.

    progress: as of `read`.
    """
    try:
        windows, info = read(name, question, progress)
        return Measured(name, windows.totals(), info)
    except InputError as error:
        return Measured(name, error=str(error))


def measure_with_dask(
    names: Sequence[str],
    question: Question = Question(),
    address: str | None = None,
    done: Callable[[], object] | None = None,
) -> list[Measured]:
    """The totals of many trace files, each read by a worker of a Dask cluster, in the order of `names`.

    The files must be where every worker finds them: on a shared disk, or URLs. A worker that is lost costs time only:
    Dask gives its files to others.
    address: of a scheduler; without one a cluster of this machine's processors is started for this call. done: called
    after each file. Raises UsageError without Dask, or where no scheduler answers.
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
            found.append(Measured(name, error=printable(f"{name}: {failure}")) if failure else future.result())
        return found


def total(found: Sequence[Measured], question: Question = Question()) -> tuple[Totals, TraceInfo]:
    """The totals of all files that could be read, and what they all say of themselves alike; of one file its own."""
    if len(found) == 1 and found[0].totals:
        return found[0].totals, found[0].info or TraceInfo()
    alike = common([one.info for one in found if one.info])
    return merged(question, {one.name: one.totals for one in found if one.totals}), alike


def write_threads(name: str, question: Question, to: Threads, progress: Progress | None = None) -> Measured:
    """Write the table of threads of one trace file, and return its totals as `measure` does.

    However many threads there are, they take little memory: rows come in parts of some ten thousand threads that ended
    one after the other, in the order of birth within a part. progress: as of `read`.
    """
    try:
        windows, info = read(name, question, progress)
    except InputError as error:
        return Measured(name, error=str(error))
    for table in windows.tables():
        to.write(table, name)
    return Measured(name, windows.totals(), info)
