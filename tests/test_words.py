"""What is said of numbers: no rounding that lies, and durations that can be typed as they are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigwindow.analysis.tables import WORST_FIRST
from sigwindow.analysis.words import (
    counted,
    cut_off,
    duration,
    lost,
    name_kinds,
    parse_duration,
    probability,
    ready_by,
    sentence,
    share,
    stated,
    unready,
)
from sigwindow.probes.errors import UsageError

SENTENCES = {
    "nothing": ({}, "No thread was born while the trace ran: there is nothing to judge."),
    "clean": ({"born": 3, "masked": 3}, "3 threads born: none was exposed to a considered signal."),
    "one": ({"born": 1, "masked": 1}, "1 thread born: it was not exposed to a considered signal."),
    "exposed": ({"born": 1, "exposed": 1}, "1 thread born, of them 1 exposed."),
    "all": (
        {"born": 1000, "critical": 2, "hit": 1, "exposed": 5},
        "1,000 threads born, of them 2 critical, 1 hit, 5 exposed.",
    ),
    "uncertain": (
        {"born": 2, "masked": 2, "uncertain": 1},
        "2 threads born: none was seen to be exposed to a considered signal; records were lost, and 1 thread is "
        "uncertain.",
    ),
}


@pytest.mark.parametrize(("counts", "expected"), SENTENCES.values(), ids=SENTENCES.keys())
def test_sentence(counts: dict[str, int], expected: str) -> None:
    assert sentence(dict.fromkeys(("born", *WORST_FIRST, "unready", "uncertain"), 0) | counts) == expected


def test_a_share_is_rounded_to_none_or_all_only_where_it_is() -> None:
    told = [share(count, 20_000) for count in (0, 4, 10, 10_000, 19_989, 19_996, 20_000)]
    assert told == ["0.0%", "<0.1%", "0.1%", "50.0%", "99.9%", ">99.9%", "100.0%"]
    assert share(0, 0) == "-"


def test_a_probability_is_rounded_to_one_only_where_it_is() -> None:
    assert [probability(p) for p in (0, 1e-9, 0.5, 0.9994, 0.9996, 1)] == ["0", "1e-09", "0.5", "0.999", ">0.999", "1"]


def test_numbers_of_things() -> None:
    assert [counted(number, "thread") for number in (0, 1, 1412)] == ["0 threads", "1 thread", "1,412 threads"]


def test_losses_and_cut_windows() -> None:
    assert lost(1, 0) == "1 event was lost while no thread was in its window"
    assert lost(7_000, 1) == "7,000 events were lost, and 1 thread is uncertain"
    assert unready(1) == "1 thread ended, or the trace did, before it was ready: its window is cut"
    assert stated(unready(2)) == "2 threads ended, or the trace did, before they were ready: their windows are cut."
    assert cut_off("the new trace").startswith("the new trace has no end mark")


def test_a_policy_says_what_it_meant() -> None:
    assert [ready_by("auto", used) for used in ([], ["mask", "altstack", "mask"])] == ["auto", "auto (altstack, mask)"]
    assert ready_by("mask", ["mask"]) == "mask"


@pytest.mark.parametrize(
    ("ns", "told"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (999_900, "1 ms"),
        (20_500, "20.5 µs"),
        (1_234_000_000_000, "1,234 s"),
        (7_200_000_000_000, "2 h"),
        (200_000_000_000_000, "2.31 d"),
    ],
)
def test_a_duration_has_the_unit_that_reads_best(ns: float | None, told: str) -> None:
    assert duration(ns) == told


@given(st.integers(0, 10**18))
def test_a_duration_can_be_typed_as_it_is_told(ns: int) -> None:
    told = duration(ns)
    assert duration(parse_duration(told)) == told


@pytest.mark.parametrize(
    ("text", "ns"),
    [("0", 0), ("20us", 20_000), ("20 µs", 20_000), ("1.5ms", 1_500_000), ("5m", 300 * 10**9), ("2h", 7200 * 10**9)],
)
def test_durations_that_people_type(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "20", "us", "-1ms", "1e3s", "3 weeks", "1 s 2"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="as in 20us"):
        parse_duration(text)


def test_names_that_differ_in_their_digits_are_one_group() -> None:
    names = ["Thread-1", "Thread-22", "pool-1-thread-3", "pool-2-thread-3", "python3", "x86"]
    assert list(name_kinds(names).values()) == [
        *["Thread-*"] * 2,
        *["pool-*-thread-*"] * 2,
        "python3",
        "x86",
    ]
    assert name_kinds([]) == {}
