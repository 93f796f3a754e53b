"""The trace file: what was written is read, a cut file reads up to the cut, anything else is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sigwindow.collector.tracefile import Reader, Writer
from sigwindow.fleet import read
from sigwindow.probes import events
from sigwindow.probes.errors import InputError
from sigwindow.probes.traceinfo import TraceInfo


def batch(times: list[int]) -> pa.RecordBatch:
    """Mask events at the given times."""
    return events.batch_of(
        {
            "time_ns": np.array(times, np.int64),
            "kind": np.full(len(times), events.CODE["mask"]),
            "tid": np.full(len(times), 7, np.int32),
        }
    )


def write(path: Path, batches: list[pa.RecordBatch]) -> Path:
    """A trace whose batches lie in the file as given."""
    with path.open("wb") as file, Writer(file, TraceInfo.here("test")) as writer:
        for part in batches:
            writer.write(part)
            writer.flush()
    return path


def times(path: Path) -> list[int]:
    """The times of all events that can be read."""
    return [time for part in Reader(path).batches() for time in part.column("time_ns").to_pylist()]


def test_a_trace_describes_itself(tmp_path: Path) -> None:
    info = Reader(write(tmp_path / "t.arrows", [batch([1])])).info
    assert info.backend == "test"
    assert info.format == 1
    for key in ("tool", "os", "kernel", "arch", "host", "boot_id", "clock", "clock_to_wall_ns"):
        assert getattr(info, key), key


def test_a_trace_cut_at_any_byte_reads_up_to_there_or_is_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "t.arrows", [batch(list(range(n, n + 5))) for n in (0, 5)]).read_bytes()
    cut = tmp_path / "cut.arrows"
    counts: list[int] = []
    refusals: list[InputError] = []
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            read = times(cut)
        except InputError as error:
            refusals.append(error)
            assert not counts, "a longer piece was refused after a shorter one was read"
            continue
        assert read == list(range(len(read)))
        assert len(read) % 5 == 0
        counts.append(len(read))
    assert counts == sorted(counts)
    assert all(error.exit_code == 4 and str(cut) in str(error) for error in refusals)
    assert set(counts) == {0, 5, 10}


def test_events_out_of_order_are_sorted(tmp_path: Path) -> None:
    path = write(tmp_path / "t.arrows", [batch([7, 9]), batch([1, 8])])
    assert Reader(path).in_order().column("time_ns").to_pylist() == [1, 7, 8, 9]
    totals = read(path)[0].totals()
    assert (totals.events, totals.duration_ns) == (4, 8)


def test_parquet_is_recognised_by_its_content(tmp_path: Path) -> None:
    trace, parquet = write(tmp_path / "t.arrows", [batch([1, 2]), batch([3])]), tmp_path / "other.arrows"
    with pa.OSFile(str(trace)) as source:
        pq.write_table(pa.ipc.open_stream(source).read_all(), parquet)
    assert times(parquet) == [1, 2, 3]
    assert Reader(parquet).info == Reader(trace).info
    for path in (trace, parquet):
        for part in Reader(path).batches(["tid", "kind"]):
            assert part.schema.names == ["tid", "kind"]
            assert part.column("tid").to_pylist() == [7] * part.num_rows
            assert set(part.column("kind").to_pylist()) == {"mask"}


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"PAR1", b"\xff" * 4096, os.urandom(64)])
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.arrows"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.arrows"):
        Reader(path)


def test_other_arrow_files_and_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.arrows"

    def refuse(schema: pa.Schema, reason: str) -> None:
        with pa.OSFile(str(path), "wb") as sink:
            pa.ipc.new_stream(sink, schema).close()
        with pytest.raises(InputError, match=reason):
            Reader(path)

    refuse(events.SCHEMA, "not a trace of sigwindow")
    refuse(events.SCHEMA.with_metadata({"sigwindow.format": "99"}), "format 99")
    without_mask = pa.schema([f for f in events.SCHEMA if f.name != "mask"], {"sigwindow.format": "1"})
    refuse(without_mask, "mask")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="can't read"):
            Reader(path)
