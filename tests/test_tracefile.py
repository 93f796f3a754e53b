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
    assert info.format == events.FORMAT_VERSION
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
    refuse(
        events.SCHEMA.with_metadata({"sigwindow.format": "99"}),
        rf"format 99.*up to {events.FORMAT_VERSION}\b.*--upgrade",
    )
    for unsaid in ("", "-1", "0", "one"):
        refuse(events.SCHEMA.with_metadata({"sigwindow.format": unsaid, "sigwindow.os": "linux"}), "does not say")
    own = {"sigwindow.format": "1"}
    refuse(pa.schema([f for f in events.SCHEMA if f.name != "mask"], own), "mask")
    refuse(pa.schema([*events.SCHEMA, events.SCHEMA.field("mask")], own), "mask")
    refuse(pa.schema([f.with_type(pa.int64()) if f.name == "mask" else f for f in events.SCHEMA], own), "mask")


FROZEN = Path(__file__).with_name("traces") / "format-1.arrows"
LATER = events.Column("worth", pa.uint64(), None, "what a later version records", since=2)


def as_a_later_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this version had a column more than the traces of format 1."""
    monkeypatch.setattr(events, "FORMAT_VERSION", 2)
    monkeypatch.setattr(events, "COLUMNS", (*events.COLUMNS, LATER))
    monkeypatch.setattr(events, "SCHEMA", events.SCHEMA.append(pa.field(LATER.name, LATER.arrow, nullable=False)))


def test_the_first_format_is_read() -> None:
    """A trace of format 1, which never changes: a version that can't read it must not be released."""
    columns = "time_ns kind pid tid mask mask_hi altstack handled handled_hi onstack onstack_hi signal disposition"
    columns += " sa_flags peer flags comm stack"
    names = columns.split()
    assert [column.name for column in events.COLUMNS if column.since == 1] == names
    table = pa.Table.from_batches(list(Reader(FROZEN).batches(names)))
    assert table.equals(pa.ipc.open_stream(FROZEN.read_bytes()).read_all().select(names))
    assert table.num_rows == 671
    assert Reader(FROZEN).info.format == 1
    totals = read(FROZEN)[0].totals()
    assert (totals.events, totals.born, totals.ended) == (671, 97, True)


@pytest.mark.parametrize("parquet", [False, True])
def test_an_older_format_lacks_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parquet: bool) -> None:
    path, before = FROZEN, read(FROZEN)[0].result().threads
    if parquet:
        path = tmp_path / "t.parquet"
        pq.write_table(pa.ipc.open_stream(FROZEN.read_bytes()).read_all(), path)
    as_a_later_version(monkeypatch)
    for names in (["tid", "worth"], ["worth", "tid"], ["worth"]):
        table = pa.Table.from_batches(list(Reader(path).batches(names)))
        assert table.column_names == names
        assert table["worth"].to_pylist() == [0] * 671
    whole = Reader(path).in_order(events.SCHEMA.names)
    assert whole.schema.equals(events.SCHEMA)
    assert whole.num_rows == 671
    assert read(path)[0].result().threads.equals(before)


def test_a_column_of_its_own_format_may_not_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.arrows"
    with pa.OSFile(str(path), "wb") as sink:
        pa.ipc.new_stream(sink, events.SCHEMA.with_metadata({"sigwindow.format": "2"})).close()
    as_a_later_version(monkeypatch)
    with pytest.raises(InputError, match="worth"):
        Reader(path)


def test_unknown_columns_and_kinds_are_not_looked_at(tmp_path: Path) -> None:
    before, whole = read(FROZEN)[0], pa.ipc.open_stream(FROZEN.read_bytes()).read_all()
    path = tmp_path / "t.arrows"
    table = pa.concat_tables([whole, whole.slice(whole.num_rows - 1)])
    kinds = pa.array([*whole["kind"].to_pylist(), "dance"]).dictionary_encode()
    kind = pa.DictionaryArray.from_arrays(kinds.indices.cast(pa.int8()), kinds.dictionary)
    table = table.set_column(1, whole.schema.field("kind"), kind)
    table = table.add_column(0, "worth", pa.array([2.5] * len(table))).append_column("mass", kinds)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    found = read(path)[0]
    assert found.totals().events == before.totals().events + 1
    assert found.result().threads.equals(before.result().threads)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="can't read"):
            Reader(path)
