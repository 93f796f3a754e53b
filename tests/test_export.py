"""Tables of threads as files for other programs."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from commandline import Run
from makers import Row, batch

from sigwindow import fleet
from sigwindow.analysis.export import BINARY, FORMATS
from sigwindow.analysis.tables import THREADS, VERDICTS
from sigwindow.collector.tracefile import Writer
from sigwindow.probes.traceinfo import TraceInfo

ROOT = Path(__file__).parent.parent
TRACE = ROOT / "notebooks" / "traces" / "late.arrows"
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {"csv": pd.read_csv, "parquet": pd.read_parquet}


def test_every_format_is_offered(sigwindow: Run) -> None:
    assert "|".join(FORMATS) in sigwindow("analyze", "--help").out
    assert f"`analyze --format {'|'.join(FORMATS)}`" in (ROOT / "docs" / "tables.md").read_text()


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_has_all_threads_of_all_traces(form: str, sigwindow: Run, tmp_path: Path) -> None:
    path, traces = tmp_path / f"threads.{form}", (TRACE, TRACE.with_name("go.arrows"))
    assert sigwindow("analyze", *traces, "--format", form, "-o", path).code == 0
    told = READERS[form](path)
    assert told.columns.tolist() == ["trace", *(column.name for column in THREADS)]
    threads = pd.concat([fleet.analyse(trace)[0].threads for trace in traces])
    for name in ("tid", "setup_ns", "verdict"):
        assert told[name].tolist() == threads[name].tolist()


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_no_text_goes_to_a_file_only(form: str, sigwindow: Run) -> None:
    done = sigwindow("analyze", TRACE, "--format", form)
    assert (done.code, bool(done.out)) == ((2, False) if form in BINARY else (0, True))


def test_parquet_says_what_its_columns_mean(sigwindow: Run, tmp_path: Path) -> None:
    path = tmp_path / "threads.parquet"
    assert sigwindow("analyze", TRACE, "--format", "parquet", "-o", path).code == 0
    schema = pq.read_schema(path)
    told = {field.name: tuple(field.metadata[key].decode() for key in (b"unit", b"meaning")) for field in schema}
    assert told == {column.name: (column.type.unit, column.meaning) for column in THREADS}
    frame = pd.read_parquet(path)
    assert frame["verdict"].cat.categories.tolist() == list(VERDICTS)
    assert frame["verdict"].cat.ordered
    assert frame["ready_ns"].dtype == pd.Int64Dtype()  # a float would not hold every nanosecond
    pd.testing.assert_series_equal(frame["ready_ns"], fleet.analyse(TRACE)[0].threads["ready_ns"])


@pytest.mark.parametrize("names", [["none.arrows"], ["none.arrows", "broken.arrows"]])
def test_without_a_thread_there_are_columns_all_the_same(sigwindow: Run, tmp_path: Path, names: list[str]) -> None:
    with (tmp_path / "none.arrows").open("wb") as file, Writer(file, TraceInfo(os="linux")) as writer:
        writer.write(batch(Row(1, "exit"), Row(2, "mark", comm="end")))
    (tmp_path / "broken.arrows").write_bytes(b"no trace")
    traces = [tmp_path / name for name in names]
    columns = ["trace"] * (len(names) > 1) + [column.name for column in THREADS]
    assert next(csv.reader(sigwindow("analyze", *traces, "--format", "csv").out.splitlines())) == columns
    path = tmp_path / "threads.parquet"
    sigwindow("analyze", *traces, "--format", "parquet", "-o", path)
    assert pq.read_table(path).column_names == columns
    assert pq.read_table(path).num_rows == 0


def test_nothing_readable_is_an_empty_table(sigwindow: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.arrows").write_bytes(b"no trace")
    path = tmp_path / "threads.parquet"
    assert sigwindow("analyze", tmp_path / "broken.arrows", "--format", "parquet", "-o", path).code == 4
    assert pq.read_table(path).column_names == [column.name for column in THREADS]
