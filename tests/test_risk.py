"""Risk against published tables, and against the model computed thread by thread."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.result import Analysis, combined
from sigwindow.analysis.risk import ZERO_HITS_BOUND, parse_rates, poisson_interval, risk
from sigwindow.analysis.sheets import risks
from sigwindow.probes.errors import UsageError
from sigwindow.probes.signals import name, number, signal_class

PROF, USR1, SEGV = number("PROF"), number("USR1"), number("SEGV")
MS = 10**6


def analysis(
    exposures_ns: dict[int, int], hits: list[tuple[int, int]], ready: list[bool], duration_s: float = 2
) -> Analysis:
    """Threads 0, 1, ... of which some are ready; exposure by signal; hits as (tid, signal)."""
    tid = np.arange(len(ready))
    empty = Windows().result()
    by_signal = pd.DataFrame(
        {
            "signal": list(exposures_ns),
            "name": [name(signal) for signal in exposures_ns],
            "class": [signal_class(signal) for signal in exposures_ns],
            "exposure_ns": np.array(list(exposures_ns.values()), np.int64),
        }
    )
    return replace(
        empty,
        threads=pd.DataFrame(
            {
                "pid": 1,
                "tid": tid,
                "born_ns": 0,
                "ready": np.array(ready, bool),
                "hits": np.bincount([thread for thread, _ in hits], minlength=len(ready)),
            },
            index=tid,
        ),
        hits=pd.DataFrame(
            [(1, thread, 0, 5, signal, False) for thread, signal in hits],
            columns=["pid", "tid", "born_ns", "time_ns", "signal", "critical"],
        ).astype({"pid": int, "tid": int, "born_ns": int, "signal": int}),
        by_signal=by_signal,
        totals=replace(empty.totals, duration_ns=round(duration_s * 1e9), by_signal=by_signal),
    )


def only(table: pd.DataFrame, *columns: str) -> list[Any]:
    """The named columns of the one row."""
    assert len(table) == 1
    return [table[column].tolist()[0] for column in columns]


RATE = ("rate_hz", "rate_low_hz", "rate_high_hz")
PER_BIRTH = ("hits_per_birth", "hits_per_birth_low", "hits_per_birth_high")
IN_BIRTHS = ("p_in_births", "p_in_births_low", "p_in_births_high")
TIME = ("mean_time_to_first_hit_s", "mean_time_to_first_hit_low_s", "mean_time_to_first_hit_high_s")


@pytest.mark.parametrize(
    ("count", "low", "high"),  # Garwood 1936, as in every table of exact Poisson limits
    [(0, 0, 3.689), (1, 0.0253, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390), (100, 81.364, 121.627)],
)
def test_poisson_interval_is_as_published(count: int, low: float, high: float) -> None:
    assert tuple(map(float, poisson_interval(count))) == pytest.approx((low, high), abs=6e-4)


def test_poisson_interval_is_that_of_chi_squared() -> None:
    counts = np.arange(1, 2000, 7)
    low, high = poisson_interval(counts)
    assert low == pytest.approx(stats.chi2.ppf(0.025, 2 * counts) / 2)
    assert high == pytest.approx(stats.chi2.ppf(0.975, 2 * counts + 2) / 2)


def test_a_given_rate() -> None:
    # 4 births in 2 s, half a millisecond of exposure each: at 100 Hz 0.05 hits a birth, one in 10 s.
    found = risk(analysis({PROF: 2 * MS}, [], [True] * 4), {PROF: 100.0}, births=10)
    assert only(found, "name", "source", "births", "exposure_per_birth_ns") == ["SIGPROF", "given", 10, 0.5 * MS]
    assert only(found, *RATE) == [100] * 3
    assert only(found, *PER_BIRTH) == pytest.approx([0.05] * 3)
    assert only(found, *IN_BIRTHS) == pytest.approx([1 - math.exp(-0.5)] * 3)
    assert only(found, *TIME) == pytest.approx([10] * 3)


def test_a_given_rate_is_the_model_thread_by_thread() -> None:
    exposures_s = np.random.default_rng(1).exponential(1e-4, 50)
    found = risk(analysis({PROF: round(exposures_s.sum() * 1e9)}, [], [True] * 50), {PROF: 200.0}, births=50)
    none_is_hit = np.prod(stats.poisson.pmf(0, 200 * exposures_s))
    assert only(found, "p_in_births") == pytest.approx([1 - none_is_hit], rel=1e-6)


def test_an_estimated_rate() -> None:
    # 5 hits in a second of exposure of 10 threads: 5 Hz, by Garwood 1.623 to 11.668.
    hits = [(thread, PROF) for thread in (0, 0, 1, 2, 3)]
    found = risk(analysis({PROF: 1000 * MS}, hits, [True] * 10), births=2)
    assert only(found, "source", "hits") == ["estimated", 5]
    assert only(found, *RATE) == pytest.approx([5, 1.623, 11.668], abs=1e-3)
    assert only(found, *PER_BIRTH) == pytest.approx([0.5, 0.1623, 1.1668], abs=1e-4)
    assert only(found, *IN_BIRTHS) == pytest.approx([1 - math.exp(-2 * m) for m in (0.5, 0.1623, 1.1668)], abs=1e-4)
    assert only(found, *TIME) == pytest.approx([2 / 5, 2 / 11.668, 2 / 1.623], abs=1e-3)


def test_no_hit_is_a_bound_and_not_no_risk() -> None:
    found = risk(analysis({PROF: 500 * MS}, [], [True] * 100))
    assert math.exp(-ZERO_HITS_BOUND) == pytest.approx(0.05)  # no hit would be seen one time in twenty
    assert only(found, "source", "hits") == ["bound", 0]
    assert only(found, *RATE) == pytest.approx([ZERO_HITS_BOUND / 0.5, 0, ZERO_HITS_BOUND / 0.5])
    assert only(found, *PER_BIRTH) == pytest.approx([ZERO_HITS_BOUND / 100, 0, ZERO_HITS_BOUND / 100])
    assert only(found, *TIME) == pytest.approx([2 / ZERO_HITS_BOUND, 2 / ZERO_HITS_BOUND, math.inf])


def test_a_signal_that_was_never_exposed_has_no_rate_but_a_bound() -> None:
    found = risk(analysis({PROF: 0}, [], [True] * 100))
    assert only(found, *RATE) == [math.inf, 0, math.inf]
    assert only(found, "source", "hits_per_birth") == ["bound", pytest.approx(0.029957, abs=1e-6)]


def test_hits_on_unready_threads_are_told_apart() -> None:
    found = risk(analysis({PROF: 1000 * MS}, [(0, PROF), (1, PROF), (1, PROF)], [True, False]))
    assert only(found, "hits", "hits_unready", "rate_hz") == [1, 2, 1]


def test_two_traces_are_twice_the_births_and_the_hits_in_twice_the_time() -> None:
    """Ids of threads mean nothing beyond one trace, and the time between two traces is no time of either."""
    one = analysis({PROF: 1000 * MS}, [(0, PROF)], [True] * 10)
    later = replace(one, start_ns=10**18, end_ns=10**18 + 2 * 10**9)
    columns = ("hits", "hits_unready", "rate_hz", "hits_per_birth", "mean_time_to_first_hit_s")
    assert only(risk(combined([one, later])), *columns) == pytest.approx([2, *only(risk(one), *columns)[1:]])


def test_only_signals_that_count_or_have_a_rate() -> None:
    of = analysis({SEGV: MS, PROF: MS}, [], [True])
    assert risk(of)["name"].tolist() == ["SIGPROF"]
    found = risk(of, {SEGV: 1.0, USR1: 1.0})
    assert found["name"].tolist() == ["SIGSEGV", "SIGUSR1", "SIGPROF"]
    assert found["source"].tolist() == ["given", "given", "bound"]
    assert found["hits_per_birth"].tolist()[1] == 0  # nobody handled it


def test_signals_that_were_never_open_are_told_in_a_line() -> None:
    sheet = risks(risk(analysis({SEGV: 0, USR1: 0, PROF: MS}, [], [True]), {SEGV: 1.0}))
    assert [row[0] for row in sheet.rows] == ["SIGSEGV", "SIGPROF"]
    assert sheet.rest == "1 more: SIGUSR1, to which no ready thread was exposed"


def test_no_thread() -> None:
    of = Windows().result()
    assert risk(of).empty
    found = risk(of, {PROF: 100.0})
    assert np.isnan(only(found, "exposure_per_birth_ns", *PER_BIRTH, *IN_BIRTHS)).all()


def test_rates_from_text() -> None:
    assert parse_rates(["SIGPROF=100", "usr1=0.5", "PROF=1e3"]) == {PROF: 1000, USR1: 0.5}
    assert parse_rates([]) == {}


@pytest.mark.parametrize("text", ["", "SIGPROF", "SIGPROF=", "SIGPROF=x", "PROF=-1", "PROF=0", "PROF=inf", "PROF=nan"])
def test_bad_rates(text: str) -> None:
    with pytest.raises(UsageError, match="bad rate"):
        parse_rates([text])


def test_a_rate_of_no_signal() -> None:
    with pytest.raises(UsageError, match="unknown signal"):
        parse_rates(["SIGFOO=1"])
