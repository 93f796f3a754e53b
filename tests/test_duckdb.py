"""The engine against DuckDB's SQL for the same table (benchmarks/windows.sql), on synthetic traces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from sigwindow.analysis.durations import Durations
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.tables import VERDICTS
from sigwindow.probes import events
from sigwindow.probes.signals import ALL, SA_ONSTACK, UNBLOCKABLE, number, word_of

SQL = (Path(__file__).parents[1] / "benchmarks" / "windows.sql").read_text()
BIRTHS = 2003
TIDS = 401  # each used some five times
EVERYTHING = ALL & ~UNBLOCKABLE
SIGNALS = [number(name) for name in ("PROF", "USR1", "SEGV", "SETXID", "SIGRTMIN+3")]
SETS = np.array([0, EVERYTHING, word_of(SIGNALS[:1]), word_of(SIGNALS[1:]), word_of(SIGNALS)], np.uint64)
MASKS = np.append(SETS, np.uint64(EVERYTHING & ~word_of([32, 33])))
NOT_COMPARED = ["creator_stack", "uncertain"]
TEARDOWNS = ["", "B", "R", "RB", "BR", "BRB", "BB"]  # a mask that blocks everything, the stack's removal
QUANTILES = ("min", "p50", "p90", "p99", "max")


def life(random: np.random.Generator, stacks: bool) -> Iterator[dict[str, Any]]:
    """What a thread does: set masks, take signals, install a stack or not, end or not; without times."""
    mask, altstack = (0 if random.random() < 0.3 else int(MASKS[random.choice([1, 5])])), False
    worker = events.BORN_KERNEL_WORKER if random.random() < 0.03 else 0
    yield {"kind": "born", "mask": mask, "flags": events.CLONE_THREAD | worker, "comm": "born"}
    held_back = {"signal": int(random.choice(SIGNALS))} if random.random() < 0.3 else {}
    if held_back:
        yield {"kind": "generate", "mask": mask, **held_back}
    verbs = ["mask", "altstack", "deliver", "deliver", "generate", "generate", "action", "name", "return"]
    for kind in random.choice(verbs, random.integers(12)):
        if kind == "mask":
            mask = int(random.choice(MASKS))
        elif kind == "altstack":
            altstack = stacks and random.random() < 0.7
        row = {"kind": kind, "mask": mask, "altstack": altstack}
        if kind in ("deliver", "generate"):
            row |= {"signal": int(random.choice(SIGNALS))}
        if kind == "deliver":
            disposition = int(random.choice([0, 1, 2, 2]))
            row |= {"disposition": disposition, "sa_flags": int(random.choice([0, SA_ONSTACK]))}
        elif kind == "generate":
            row |= {"flags": int(random.choice([0, 0, 1, events.GENERATE_PROCESS]))}
        elif kind == "name":
            row |= {"comm": f"name{random.integers(100)}"}
        yield row
    if held_back:
        taken = {"disposition": 2, "sa_flags": SA_ONSTACK, **held_back}
        yield {"kind": "deliver", "mask": mask, "altstack": altstack, **taken}
    if random.random() < 0.9:  # else its exit was lost, or the trace ended before
        for step in random.choice(TEARDOWNS):
            mask, altstack = (EVERYTHING, altstack) if step == "B" else (mask, False)
            yield {"kind": "mask" if step == "B" else "altstack", "mask": mask, "altstack": altstack}
        flags = events.EXIT_GROUP if random.random() < 0.2 else 0
        yield {"kind": "exit", "mask": mask, "altstack": altstack, "flags": flags}


def trace(seed: int, processes: int) -> pa.RecordBatch:
    """Threads of several processes, many living at one time, whose ids and handled sets change hands.

    In processes of an odd number no thread installs a stack.
    """
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    free_ns = np.zeros(TIDS, np.int64)
    for _ in range(BIRTHS):
        place, pid = int(random.integers(TIDS)), 1 + int(random.integers(processes))
        for row in life(random, stacks=pid % 2 == 0):
            free_ns[place] += int(random.lognormal(9, 2)) + 1
            rows.append({"time_ns": free_ns[place], "pid": pid, "tid": 1000 + place, "peer": pid, **row})
    rows.sort(key=lambda row: row["time_ns"])
    rows.append({"time_ns": rows[-1]["time_ns"] + 1000, "kind": "mark", "pid": 0, "tid": 0, "comm": events.TRACE_END})
    handled = [int(random.choice(SETS)) for _ in range(processes + 1)]
    for place, row in enumerate(rows):
        row["time_ns"] += place  # no two at one time
        if row["kind"] == "action":
            handled[row["pid"]] = int(random.choice(SETS))
        if row["kind"] in ("born", "action"):
            row["handled"] = handled[row["pid"]]
        row["kind"] = events.CODE[row["kind"]]
    kinds = np.array([row["kind"] for row in rows], np.uint8)
    numbers = {
        field.name: np.array([row.get(field.name, 0) for row in rows], field.type.to_pandas_dtype())
        for field in events.SCHEMA
        if field.name not in ("kind", "comm", "stack")
    }
    return events.batch_of({"kind": kinds, "comm": pa.array([row.get("comm", "") for row in rows]), **numbers})


def measured(batch: pa.RecordBatch) -> Analysis:
    windows = Windows()
    windows.feed(batch)
    return windows.result()


def durations(name: str, durations: Durations) -> dict[str, Any]:
    summary = durations.summary()
    quantiles = {f"{name}_quantiles_ns": [summary[quantile] for quantile in QUANTILES]}
    return {f"{name}_count": summary["count"], f"{name}_ns": summary["total"], **quantiles}


@pytest.mark.parametrize(("seed", "processes"), [(1, 1), (2, 4), (3, 16)])
def test_agrees_with_sql(seed: int, processes: int) -> None:
    batch = trace(seed, processes)
    analysis = measured(batch)
    expected = analysis.threads.drop(columns=NOT_COMPARED)
    with duckdb.connect() as database:
        database.register("source", pa.Table.from_batches([batch]))
        [row] = database.execute(SQL).fetchall()
        summary = dict(zip((column[0] for column in database.description or []), row, strict=True))
        columns = ", ".join(expected.columns)
        threads = database.sql(f"SELECT {columns} FROM threads ORDER BY born_ns").to_arrow_table().to_pylist()

    assert threads == pa.Table.from_pandas(expected, preserve_index=False).to_pylist()
    totals = analysis.totals
    assert summary == {
        "born": totals.born,
        **{verdict: totals.verdicts[verdict] for verdict in VERDICTS},
        "unready": totals.unready,
        **durations("setup", totals.setup),
        **durations("exposure", totals.exposure),
        "by_signal": totals.by_signal.drop(columns=["name", "class"]).to_dict("records"),
        "by_process": totals.by_process.drop(columns="comm").to_dict("records"),
    }


def test_the_traces_reach_what_they_are_to_compare() -> None:
    batch = trace(2, 4)
    threads = measured(batch).threads
    assert 1900 < len(threads) < BIRTHS  # the kernel's own are none
    for policy, of_policy in threads.groupby("policy"):
        assert of_policy["verdict"].value_counts().min() > 10, policy
        assert of_policy["verdict"].nunique() == 5
        assert of_policy["ready"].value_counts().min() > 50
        assert set(of_policy["ended_by"]) == {"ready", "exit", "trace"}
        assert of_policy["deferred"].gt(0).sum() > 20
        assert of_policy["first_exposed_ns"].notna().sum() > 100
        assert of_policy[of_policy["ready"]]["setup_ns"].eq(0).any() == (policy == "steady")
    assert set(threads["policy"]) == {"altstack", "steady"}
    assert threads["teardown_exposure_ns"].gt(0).sum() > 20
    assert threads["comm"].nunique() > 50
    assert threads["tid"].value_counts().max() > 5
    assert threads.groupby("tid")["pid"].nunique().max() > 2
    assert pa.compute.sum(pa.compute.equal(batch.column("kind").cast(pa.string()), "action")).as_py() > 500
