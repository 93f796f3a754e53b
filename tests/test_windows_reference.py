"""The engine against a slow second opinion (tests/reference.py), on random traces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import Row, batch
from reference import BLOCK_ALL, MASKS, SIGNALS, reference, traces

from sigwindow.analysis import question
from sigwindow.analysis.engine import lives, store
from sigwindow.analysis.engine.answer import Answer
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.tables import TABLES
from sigwindow.probes.events import BORN_KERNEL_WORKER, CLONE_THREAD, KIND_NAMES
from sigwindow.probes.signals import LINUX_COUNT, SA_ONSTACK, blocks_everything

POLICIES = (*question.POLICIES, "auto")
DECIDED_BY_WHAT_CAME_BEFORE = ("altstack", "mask", "symbol")
SELECTIONS = ("async", "all", "SIGPROF,SETXID")

settings.register_profile(
    "reference",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("reference")


def measured(
    rows: list[Row],
    signals: str = "async",
    sizes: Iterable[int] = (),
    seed: int | None = None,
    ready: str | None = None,
) -> Windows:
    """The engine, fed in batches of the given sizes and one of the rest, each shuffled where a seed is given."""
    windows = Windows(Question(ready or "auto", signals), every_policy=ready is None)
    random = Random(seed)
    for size in [*sizes, len(rows)]:
        if not rows:
            break
        part, rows = rows[:size], rows[size:]
        windows.feed(batch(*(part if seed is None else random.sample(part, len(part)))))
    return windows


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as dicts of plain Python values, None for what is missing."""
    columns = [[None if value is pd.NA else value for value in table[name].tolist()] for name in table.columns]
    return [dict(zip(table.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def assert_as_reference(analysis: Analysis, rows: list[Row], signals: str, policy: str) -> None:
    expected = reference(rows, signals, policy)
    assert records(analysis.threads) == expected.threads
    assert sorted(records(analysis.hits), key=lambda hit: hit["time_ns"]) == sorted(
        expected.hits, key=lambda hit: hit["time_ns"]
    )
    assert records(analysis.by_signal) == expected.by_signal


@contextmanager
def small_chunks() -> Iterator[None]:
    """Put lives aside one by one, and into a file, and grow all pools from the least, as in a trace of millions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lives, "_PART_LIVES", 1)
        patch.setattr(store, "_MEMORY_BYTES", 0)
        patch.setattr(lives, "_STEP_ROWS", 1)
        patch.setattr(lives, "_FIRST_ROOM", 1)
        yield


@settings(max_examples=200)
@given(traces(), st.sampled_from(SELECTIONS))
def test_agrees_with_the_reference(rows: list[Row], signals: str) -> None:
    windows = measured(rows, signals)
    for policy in POLICIES:
        assert_as_reference(windows.result(policy), rows, signals, policy)


@settings(max_examples=200)
@given(
    traces() | traces(living=True),
    st.sampled_from(POLICIES),
    st.sampled_from(([1] * 200, [7] * 30)) | st.lists(st.integers(1, 40), max_size=8),
    st.integers(0, 1000),
)
def test_batches_and_the_order_within_them_do_not_matter(
    rows: list[Row], policy: str, sizes: list[int], seed: int
) -> None:
    with small_chunks():
        analysis = measured(rows, "async", sizes, seed, ready=policy).result(policy)
        assert_as_reference(analysis, rows, "async", policy)


@given(traces() | traces(living=True), st.integers(0, 60), st.sampled_from(POLICIES))
def test_a_snapshot_stays_as_it_is(rows: list[Row], cut: int, policy: str) -> None:
    question = Question(policy)
    with small_chunks():
        windows = measured(rows[:cut], ready=policy)
        snapshot = windows.snapshot()
        before = Answer(snapshot, question).analysis()
        for row in rows[cut:]:
            windows.feed(batch(row))
        after = Answer(snapshot, question).analysis()
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name))
    assert before.leaders == after.leaders
    assert before.totals.verdicts == after.totals.verdicts


def test_a_long_life_that_returns_to_its_state_at_birth() -> None:
    """Found by the above, and too rarely: the merged rows must keep the first return, which is where it is steady."""
    rows = [
        Row(1, "born", pid=1, tid=2, mask=BLOCK_ALL, handled=1, peer=1, flags=CLONE_THREAD),
        Row(2, "altstack", pid=1, tid=2, mask=BLOCK_ALL),
        Row(3, "altstack", pid=1, tid=2, mask=BLOCK_ALL, altstack=True),
        Row(4, "altstack", pid=1, tid=2, mask=BLOCK_ALL),
        Row(5, "mask", pid=1, tid=2),
        Row(6, "mask", pid=1, tid=2, mask=BLOCK_ALL),
    ]
    with small_chunks():
        assert_as_reference(measured(rows).result("steady"), rows, "async", "steady")


def test_a_trace_that_begins_with_a_signal_to_an_unknown_thread() -> None:
    rows = [Row(1, "generate", pid=1, tid=1, mask=1, signal=1), Row(2, "born", pid=1, tid=2, flags=CLONE_THREAD)]
    with small_chunks():
        assert_as_reference(measured(rows, sizes=[1]).result(), rows, "async", "auto")


@given(traces(), st.integers(1, 60), st.sampled_from(POLICIES))
def test_an_answer_in_between_changes_nothing(rows: list[Row], cut: int, policy: str) -> None:
    windows = measured(rows[:cut])
    if rows:
        assert_as_reference(windows.result(policy), rows[:cut], "async", policy)
    windows.feed(batch(*rows[cut:]))
    assert_as_reference(windows.result(policy), rows, "async", policy)


@given(traces(), st.integers(1, LINUX_COUNT), st.sampled_from(("altstack", "symbol")))
def test_masking_more_never_exposes_more(rows: list[Row], signal: int, policy: str) -> None:
    tighter = [row._replace(mask=row.mask | 1 << signal - 1) if row.kind != "lost" else row for row in rows]
    before, after = (measured(version).result(policy).threads for version in (rows, tighter))
    assert (after["exposure_ns"] <= before["exposure_ns"]).all()
    assert (after["setup_ns"] == before["setup_ns"]).all()


@given(traces(), st.integers(0, 60), st.sampled_from(DECIDED_BY_WHAT_CAME_BEFORE))
def test_cutting_the_end_never_adds_hits(rows: list[Row], cut: int, policy: str) -> None:
    whole, part = ([*measured(r).result(policy).hits.itertuples(index=False)] for r in (rows, rows[:cut]))
    assert part == whole[: len(part)]


@given(traces(), st.sampled_from(POLICIES))
def test_every_birth_has_one_verdict(rows: list[Row], policy: str) -> None:
    births = sum(
        row.kind == "born" and bool(row.flags & CLONE_THREAD) and not row.flags & BORN_KERNEL_WORKER for row in rows
    )
    counts = measured(rows).result(policy).threads["verdict"].value_counts()
    assert counts.sum() == births
    assert set(counts.index) <= {"critical", "hit", "exposed", "masked", "unhandled"}


def test_random_traces_reach_every_verdict_and_way_to_end() -> None:
    """The strategy is worth what it reaches: collect what the reference says over one fixed run."""
    seen: set[object] = set()

    @settings(max_examples=150, derandomize=True, database=None)
    @given(traces())
    def collect(rows: list[Row]) -> None:
        seen.update(row.kind for row in rows)
        seen.update("onstack" for row in rows if row.kind == "deliver" and row.sa_flags & SA_ONSTACK)
        for policy in POLICIES:
            for thread in reference(rows, "async", policy).threads:
                seen.update((thread["verdict"], f"by {thread['ended_by']}", f"{policy} ready {thread['ready']}"))
                seen.update(name for name in ("deferred", "teardown_exposure_ns", "uncertain") if thread[name])
                seen.update(["born blocked"] if blocks_everything(thread["birth_mask"]) else [])

    collect()
    wanted = "critical hit exposed masked unhandled|by ready|by exit|by trace|deferred|teardown_exposure_ns|uncertain"
    ready = [f"{policy} ready {ready}" for policy in POLICIES for ready in (True, False)]
    missing = {
        *wanted.partition("|")[0].split(),
        *wanted.split("|")[1:],
        *ready,
        *KIND_NAMES,
        "onstack",
        "born blocked",
    } - seen
    assert not missing
    assert len(SIGNALS) < len(MASKS)
