"""Several traces read as one: what tells them apart stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from makers import batch

from sigwindow import Trace, read
from sigwindow.collector import tracefile
from sigwindow.probes import events
from sigwindow.probes.signals import word_of
from sigwindow.probes.traceinfo import TraceInfo

HOUR_NS = 3600 * 10**9
PROF = word_of([27])


def written(path: Path, name: str, wall_ns: int) -> Path:
    """A trace of one process, always 100, that is called `name` and bears a thread that is exposed for 10 ns."""
    parent = {"pid": 100, "tid": 100, "comm": name}
    thread = {"pid": 100, "tid": 101, "peer": 100, "handled": PROF, "comm": "worker"}
    rows = [
        {"time_ns": 10, "kind": "snapshot", **parent, "handled": PROF},
        {"time_ns": 20, "kind": "born", **thread, "flags": events.CLONE_THREAD},
        {"time_ns": 30, "kind": "altstack", **thread, "altstack": 1},
        {"time_ns": 40, "kind": "lost", "mask": 35, "flags": 2},
    ]
    with path.open("wb") as file, tracefile.Writer(file, TraceInfo(os="linux", clock_to_wall_ns=wall_ns)) as writer:
        writer.write(batch(*rows))
    return path


@pytest.fixture
def both(tmp_path: Path) -> Trace:
    """Two traces of processes with the same pid."""
    return read(*(written(tmp_path / f"{name}.arrows", name, n * HOUR_NS) for n, name in enumerate(("old", "new"))))


def test_a_process_is_one_of_its_trace(both: Trace) -> None:
    assert both.by("process")[["trace", "pid", "births"]].to_numpy().tolist() == [[0, 100, 1], [1, 100, 1]]
    assert both.by("creator")[["trace", "pid", "creator_comm"]].to_numpy().tolist() == [
        [0, 100, "old"],
        [1, 100, "new"],
    ]
    assert both.by("hour", "name")["hour"].dt.hour.tolist() == [0, 1]


@pytest.mark.parametrize("table", ["threads", "exposure", "known", "losses"])
def test_the_tables_say_of_which_trace_a_row_is(both: Trace, table: str) -> None:
    assert getattr(both.analysis, table)["trace"].tolist() == [0, 1]


def test_events_say_of_which_trace_they_are(both: Trace) -> None:
    assert both.events.columns[0] == "trace"
    assert both.events.groupby("trace")["comm"].first().tolist() == ["old", "new"]
    assert [part.events["comm"].iloc[0] for part in both.parts] == ["old", "new"]


def test_the_worst_threads_are_those_of_all(both: Trace) -> None:
    assert both.analysis.totals.worst[["trace", "tid"]].to_numpy().tolist() == [[0, 101], [1, 101]]
    assert both.summary["by_process"] == []
