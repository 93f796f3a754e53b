"""Small traces for tests: events that are spelled out, and files of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from sigwindow.collector import tracefile
from sigwindow.probes import events
from sigwindow.probes.signals import number, word_of
from sigwindow.probes.traceinfo import TraceInfo

SYNTHETIC = TraceInfo(backend="synthetic", os="linux")


class Row(NamedTuple):
    """One event, with the columns of the event table that the engine looks at."""

    time_ns: int
    kind: str
    pid: int = 0
    tid: int = 0
    mask: int = 0
    altstack: bool = False
    handled: int = 0
    onstack: int = 0
    signal: int = 0
    disposition: int = 0
    sa_flags: int = 0
    peer: int = 0
    flags: int = 0
    comm: str = ""
    stack: str = ""


def event(time_ns: int, kind: str, tid: int = 101, **columns: Any) -> dict[str, Any]:
    """One event of a thread of process 100, everything not named being 0."""
    return {"time_ns": time_ns, "kind": kind, "pid": 100, "tid": tid, **columns}


def born(
    time_ns: int, mask: int = 0, tid: int = 101, handled: int = word_of([number("PROF")]), **columns: Any
) -> dict[str, Any]:
    """A birth by pthread_create from the first thread of process 100, with a handler for SIGPROF."""
    return event(time_ns, "born", tid, mask=mask, handled=handled, peer=100, flags=events.CLONE_THREAD, **columns)


def batch(*rows: Row | Mapping[str, Any]) -> pa.RecordBatch:
    """Events as a batch of the event table, in the order given."""
    return events.batch_of_rows([row._asdict() if isinstance(row, Row) else row for row in rows])


def write_trace(path: Path, rows: Iterable[Row] | Iterable[Mapping[str, Any]], info: TraceInfo = SYNTHETIC) -> Path:
    """A trace file of events that are in the order of time."""
    with path.open("wb") as file, tracefile.Writer(file, info) as writer:
        writer.write(batch(*rows))
    return path
