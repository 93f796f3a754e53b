"""Many traces in one call: files, folders, patterns, URLs, broken ones; and a Dask cluster that loses a worker."""

# Dask's client is not annotated.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commandline import Run
from dask.distributed import Client, LocalCluster
from fsspec.implementations.memory import MemoryFileSystem
from makers import Row, write_trace
from reference import BLOCK_ALL

from sigwindow import fleet, read
from sigwindow.probes.events import CLONE_THREAD
from sigwindow.probes.signals import number, word_of

FILES = 5
HANDLED = word_of([number("PROF")])
VERDICTS = ("masked", "exposed", "hit", "critical", "unhandled")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is broken."""
    monkeypatch.setenv("COLUMNS", "400")


def write(path: Path, seed: int, births: int = 101, lost: int = 0, comm: str = "worker") -> Path:
    """A trace of threads that are exposed, or not, for a random time before they install a stack."""
    random = np.random.default_rng(seed)
    rows = [Row(1, "snapshot", 100 + seed, 100 + seed, comm=f"server-{seed}", handled=HANDLED)]
    born_ns = 0
    for place in range(births):
        born_ns = 1_000_000 * (place + 1)
        exposed_ns = born_ns + 1 + int(random.integers(100_000))
        ready_ns = exposed_ns + int(random.integers(0, 100_000) * (place % 3 > 0))
        mask = 0 if ready_ns > exposed_ns else BLOCK_ALL
        row = Row(born_ns, "born", 100 + seed, 1000 + place, mask=BLOCK_ALL, handled=HANDLED, flags=CLONE_THREAD)
        rows += [row._replace(comm=comm.format(place)), row._replace(time_ns=exposed_ns, kind="mask", mask=mask)]
        rows += [row._replace(time_ns=ready_ns + 1, kind="altstack", mask=0, altstack=True)]
        rows += [row._replace(time_ns=ready_ns + 2, kind="exit", mask=0, altstack=True)]
    if lost:
        rows.append(Row(born_ns + 500_000, "lost", mask=born_ns + 499_999, flags=lost))
    rows.append(Row(born_ns + 10**9, "mark", comm="end"))
    return write_trace(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a few traces, one of them Parquet, and of something else."""
    folder = tmp_path_factory.mktemp("traces")
    for seed in range(FILES):
        write(folder / f"{seed}.arrows", seed, lost=7 * (seed == 2))
    with pa.OSFile(str(folder / "4.arrows")) as file:
        pq.write_table(pa.ipc.open_stream(file).read_all(), folder / "4.parquet")
    (folder / "4.arrows").unlink()
    (folder / "notes.txt").write_text("no trace")
    return folder


@pytest.fixture(scope="module")
def traces(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != ".txt")


def threads_of(traces: list[Path]) -> pd.DataFrame:
    """The thread tables of traces, one after the other, with the file."""
    tables = [fleet.analyse(path)[0].threads.assign(trace=str(path)) for path in traces]
    table = pd.concat(tables, ignore_index=True)
    return table[["trace", *table.columns.drop("trace")]]


def quantiles(ns: pd.Series) -> dict[str, int]:
    """The summary of durations, by NumPy."""
    values = ns.to_numpy(np.int64)
    found = {name: np.quantile(values, share, method="inverted_cdf") for name, share in QUANTILES.items()}
    return {"count": len(values), **{name: int(value) for name, value in found.items()}, "total": int(values.sum())}


QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def test_the_total_is_that_of_all_threads(sigwindow: Run, traces: list[Path]) -> None:
    done = sigwindow("analyze", *traces, "--format", "json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert list(told) == ["schema", "files", "failed", "total"]
    assert (told["schema"], told["failed"]) == ("sigwindow.batch/1", [])
    assert [one.pop("file") for one in told["files"]] == [str(path) for path in traces]
    for one, path in zip(told["files"], traces, strict=True):
        assert one == json.loads(sigwindow("analyze", path, "--format", "json").out)

    threads, total = threads_of(traces), told["total"]
    verdicts = threads["verdict"].value_counts()
    assert set(verdicts.index[verdicts > 0]) == {"masked", "exposed"}
    counts = {verdict: int(verdicts.get(verdict, 0)) for verdict in VERDICTS}
    unsure = int(threads["uncertain"].sum())
    assert total["threads"] == {"born": FILES * 101, **counts, "unready": 0, "uncertain": unsure}
    assert total["setup_ns"] == quantiles(threads["setup_ns"])
    assert total["exposure_ns"] == quantiles(threads["exposure_ns"][threads["exposure_ns"] > 0])
    traced = total["trace"]
    assert (traced["lost_events"], traced["complete"]) == (7, False)
    assert traced["events"] == sum(one["trace"]["events"] for one in told["files"])
    exposure = {"threads": counts["exposed"], "exposure_ns": int(threads["exposure_ns"].sum())}
    assert total["by_signal"] == [{"signal": "SIGPROF", "class": "async", **exposure, "hits": 0, "critical": 0}]
    assert total["by_process"] == []


def test_folder_pattern_and_files_are_one(sigwindow: Run, folder: Path, traces: list[Path]) -> None:
    expected = sigwindow("analyze", *traces, "--format", "json").out
    for names in ([folder], [f"{folder}/*.arrows", f"{folder}/*.parquet"], [f"{folder}/?.*"], [folder, *traces]):
        assert sigwindow("analyze", *names, "--format", "json") == (0, expected, "")


def test_a_file_may_have_the_name_of_a_pattern(sigwindow: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "a[b]*.arrows", 1)
    assert json.loads(sigwindow("analyze", path, "--format", "json").out)["threads"]["born"] == 101


@pytest.mark.parametrize("name", ["{}", "{}/*.arrows"])
def test_nothing_found_is_a_usage_error(sigwindow: Run, tmp_path: Path, name: str) -> None:
    name = name.format(tmp_path)
    done = sigwindow("analyze", name)
    assert done == (2, "", f"sigwindow: no trace file (.arrows or .parquet) in {name}\n")


def test_the_table_has_a_row_a_file(sigwindow: Run, traces: list[Path]) -> None:
    done = sigwindow("analyze", *traces)
    assert (done.code, done.err) == (0, "")  # no progress bar where no terminal is
    assert done.out.startswith(f"{FILES * 101} threads born")
    [table] = (part.splitlines() for part in done.out.split("\n\n") if part.startswith("trace "))
    assert [line.split()[:2] for line in table[1:]] == [
        *([str(path), "101"] for path in traces),
        ["total", str(FILES * 101)],
    ]


def test_the_worst_threads_of_many_are_those_of_all_with_their_trace(sigwindow: Run, traces: list[Path]) -> None:
    [table] = (
        part.splitlines()
        for part in sigwindow("analyze", *traces).out.split("\n\n")
        if part.startswith("worst threads")
    )
    worst = threads_of(traces).sort_values("exposure_ns", ascending=False).head(5)
    told = [(line.split()[1], line.split()[-1]) for line in table[1:6]]
    assert told == list(zip(worst["tid"].astype(str), worst["trace"], strict=True))


@pytest.fixture
def broken(tmp_path: Path, traces: list[Path]) -> dict[str, Path]:
    """Files that are no traces, each in its own way."""
    whole = traces[0].read_bytes()
    files = {"garbage": b"\x00\xff" * 100, "empty": b"", "header": whole[:200], "parquet": b"PAR1" + whole}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pa.OSFile(str(tmp_path / "foreign"), "wb") as file:
        pa.ipc.new_stream(file, pa.schema([("a", pa.int64())])).close()
    return {name: tmp_path / name for name in (*files, "foreign", "missing")}


def test_broken_files_are_told_and_the_others_go_on(
    sigwindow: Run, traces: list[Path], broken: dict[str, Path]
) -> None:
    names = [traces[0], *broken.values(), *traces[1:]]
    done = sigwindow("analyze", *names, "--format", "json")
    told = json.loads(done.out)
    assert done.code == 4
    assert [one["file"] for one in told["files"]] == [str(path) for path in traces]
    assert [one["file"] for one in told["failed"]] == [str(path) for path in broken.values()]
    assert all(one["file"] in one["error"] for one in told["failed"])
    assert done.err.splitlines() == [f"sigwindow: {one['error']}" for one in told["failed"]]
    assert told["total"] == json.loads(sigwindow("analyze", *traces, "--format", "json").out)["total"]

    for options in ([], ["--by", "process"], ["--format", "csv"]):
        done = sigwindow("analyze", *names, *options)
        assert done.code == 4
        assert [line.split(": ")[0] for line in done.err.splitlines()] == ["sigwindow"] * len(broken)
        assert all(str(path) in done.out for path in traces)


def test_nothing_readable(sigwindow: Run, broken: dict[str, Path]) -> None:
    done = sigwindow("analyze", *broken.values(), "--format", "json")
    told = json.loads(done.out)
    assert (done.code, told["files"], told["total"]["threads"]["born"]) == (4, [], 0)
    assert len(told["failed"]) == len(broken)
    alone = sigwindow("analyze", broken["garbage"], "--format", "json")
    assert (alone.code, alone.out) == (4, "")


def sorted_like(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["trace", "born_ns"], ignore_index=True)


def test_parquet_of_many(sigwindow: Run, traces: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "threads.parquet"
    assert sigwindow("analyze", *traces, "--format", "parquet", "-o", path).code == 0
    found, expected = pq.read_table(path), threads_of(traces)
    assert found.column_names == list(expected.columns)
    pd.testing.assert_frame_equal(
        sorted_like(found.to_pandas()), sorted_like(expected), check_dtype=False, check_column_type=False
    )


def as_text(value: Any) -> str:
    return "" if value is pd.NA else str(value).lower() if isinstance(value, bool) else str(value)


def test_csv_of_many(sigwindow: Run, traces: list[Path]) -> None:
    done = sigwindow("analyze", *traces, "--format", "csv")
    header, *rows = csv.reader(done.out.splitlines())
    expected = threads_of(traces)
    columns = [expected[name].tolist() for name in header]
    assert header == list(expected.columns)
    assert sorted(rows) == sorted([as_text(value) for value in values] for values in zip(*columns, strict=True))


def test_csv_of_one_has_no_trace_column(sigwindow: Run, traces: list[Path]) -> None:
    header, *rows = csv.reader(sigwindow("analyze", traces[0], "--format", "csv").out.splitlines())
    assert (header[0], len(rows)) == ("pid", 101)


def test_a_table_by_process_for_each_file(sigwindow: Run, traces: list[Path]) -> None:
    lines = sigwindow("analyze", *traces[:2], "--by", "process").out.splitlines()
    for path, pid in zip(traces[:2], ("100", "101"), strict=True):
        [title] = [place for place, line in enumerate(lines) if line.strip() == f"by process of {path}"]
        assert lines[title + 1].split()[:2] == ["pid", "born"]
        assert lines[title + 2].split()[:2] == [pid, "101"]
    assert "by process" not in sigwindow("analyze", *traces[:2]).out


def test_names_of_a_pool_are_one_row(sigwindow: Run, tmp_path: Path) -> None:
    """3187 threads `Thread-N` were 3187 rows."""
    pool = str(write(tmp_path / "pool.arrows", 3, births=997, comm="Thread-{}"))
    lines = sigwindow("analyze", pool, "--by", "name").out.splitlines()
    [title] = [place for place, line in enumerate(lines) if line.strip() == "by name"]
    assert [line.split()[:2] for line in lines[title + 2 : title + 4] if line] == [["Thread-*", "997"]]
    assert len(read(pool).by("name")) == 997


def test_a_trace_without_births_has_no_table_by_anything(sigwindow: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "quiet.arrows", 3, births=0)
    done = sigwindow("analyze", path, "--by", "name")
    assert done.code == 0
    assert "by name" not in done.out
    assert "lived before" in done.out


def test_risk_at_a_given_rate(sigwindow: Run, traces: list[Path]) -> None:
    lines = sigwindow("analyze", traces[0], "--rate", "SIGPROF=1000").out.splitlines()
    [row] = [line.split() for line in lines if line.startswith("SIGPROF") and "given" in line]
    exposure_s = threads_of(traces[:1])["exposure_ns"].sum() * 1e-9
    per_birth = 1000 * exposure_s / 101
    assert any(cell == f"{per_birth:.3g}" for cell in row)
    assert sigwindow("analyze", traces[0], "--rate", "SIGPROF").code == 2


class SlowFile(pa.OSFile):  # type: ignore[misc]
    """A file that is closed by one thread just after another has seen it open."""

    @property
    def closed(self) -> bool:
        closed = bool(super().closed)
        time.sleep(0.1 if threading.current_thread() is threading.main_thread() else 0.03)
        return closed


def test_progress_is_told_while_the_file_is_closed(traces: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "OSFile", SlowFile)
    told: list[tuple[int, int]] = []
    fleet.read(traces[0], progress=lambda *at: told.append(at))
    assert told
    assert all(0 <= done <= size == traces[0].stat().st_size for done, size in told)


@pytest.fixture
def in_memory(traces: list[Path]) -> Iterator[list[str]]:
    """The traces in a file system that only fsspec knows."""
    files = fsspec.filesystem("memory")
    for path in traces:
        files.pipe(f"/batch/{path.name}", path.read_bytes())
    yield [f"memory://batch/{path.name}" for path in traces]
    files.rm("/batch", recursive=True)


def test_urls(sigwindow: Run, traces: list[Path], in_memory: list[str]) -> None:
    expected = json.loads(sigwindow("analyze", *traces, "--format", "json").out)
    for urls in (in_memory, [path.as_uri() for path in traces]):
        told = json.loads(sigwindow("analyze", *urls, "--format", "json").out)
        assert told["total"] == expected["total"]
        assert [one.pop("file") for one in told["files"]] == urls
        assert told["files"] == [{k: v for k, v in one.items() if k != "file"} for one in expected["files"]]


def test_patterns_and_folders_of_urls(traces: list[Path], in_memory: list[str]) -> None:
    fsspec.filesystem("memory").pipe("/batch/notes.txt", b"no trace")
    found = fleet.expand(["memory://batch/"])
    assert [fleet.read(url)[0].totals().born for url in found] == [101] * len(traces)
    assert [url.rpartition("/")[2] for url in found] == [path.name for path in traces]
    assert fleet.expand(["memory://batch/*.arrows", *found]) == found
    streams = [path.as_uri() for path in traces if path.suffix == ".arrows"]
    assert fleet.expand([f"{traces[0].parent.as_uri()}/*.arrows"]) == streams
    assert fleet.expand(["https://host/t.arrows?key=1"]) == ["https://host/t.arrows?key=1"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("memory://nowhere/t.arrows", 4),
        ("file:///nowhere/t.arrows", 4),
        ("nosuch://t.arrows", 2),
        ("nosuch://folder/", 2),
        ("memory://nowhere/", 2),
        ("memory://nowhere/*.arrows", 2),
    ],
)
def test_a_bad_url(sigwindow: Run, url: str, code: int) -> None:
    done = sigwindow("analyze", url)
    assert (done.code, done.out) == (code, "")
    assert url in done.err


class BadFile(io.BytesIO):
    """A file that can be opened, but not read."""

    def read(self, *_: object) -> bytes:
        """Never."""
        raise LookupError("no credentials any more")


class Locked(MemoryFileSystem):  # type: ignore[misc]
    """A file system whose package has errors of its own."""

    def _open(self, path: str, *_: object, **__: object) -> BadFile:
        if "later" in path:
            return BadFile(b"PAR1")
        raise LookupError(f"no credentials for {path}")

    def ls(self, path: str, *_: object, **__: object) -> None:
        """As `_open`."""
        self._open(path)

    find = ls


@pytest.mark.parametrize(
    ("url", "code"),
    [("locked://t.arrows", 4), ("locked://later", 4), ("locked://folder/", 2), ("locked://*.arrows", 2)],
)
def test_an_error_of_a_url_s_package(sigwindow: Run, url: str, code: int) -> None:
    fsspec.register_implementation("locked", Locked, clobber=True)
    done = sigwindow("analyze", url)
    assert (done.code, done.out) == (code, "")
    assert url in done.err
    assert "no credentials" in done.err


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fifty small traces, and a broken one in the middle."""
    folder = tmp_path_factory.mktemp("fifty")
    paths = [write(folder / f"{seed:02}.arrows", seed, births=211) for seed in range(50)]
    (folder / "24-broken.arrows").write_bytes(b"no trace")
    return sorted([*paths, folder / "24-broken.arrows"])


@pytest.fixture
def cluster() -> Iterator[Client]:
    """A cluster of two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def address(client: Client) -> str:
    return str(client.scheduler_info()["address"])


def test_dask_gives_the_same(sigwindow: Run, fifty: list[Path], cluster: Client) -> None:
    local = sigwindow("analyze", *fifty, "--format", "json")
    assert sigwindow("analyze", *fifty, "--format", "json", "--dask", address(cluster)) == local
    told = json.loads(local.out)
    assert (local.code, len(told["files"]), len(told["failed"])) == (4, 50, 1)
    assert told["total"]["threads"]["born"] == 50 * 211


def kill_a_busy_worker(client: Client, killed: list[int]) -> None:
    """Stop a worker that has files to read, see that they stay unread, and kill it."""
    pids: dict[str, int] = client.run(os.getpid)
    ends_s = time.monotonic() + 30
    while not killed and time.monotonic() < ends_s:
        for worker, tasks in client.processing().items():
            if tasks and worker in pids and not killed:
                os.kill(pids[worker], signal.SIGSTOP)
                time.sleep(0.3)  # for what was on its way
                if client.processing()[worker]:
                    killed.append(pids[worker])
                    os.kill(pids[worker], signal.SIGKILL)
                else:
                    os.kill(pids[worker], signal.SIGCONT)


def test_dask_goes_on_when_a_worker_is_killed(sigwindow: Run, fifty: list[Path], cluster: Client) -> None:
    local = sigwindow("analyze", *fifty, "--format", "json")
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_busy_worker, args=(cluster, killed))
    killer.start()
    done = sigwindow("analyze", *fifty, "--format", "json", "--dask", address(cluster))
    killer.join()
    assert len(killed) == 1
    assert killed[0] not in cluster.run(os.getpid).values()
    assert done == local
