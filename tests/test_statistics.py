"""Statistics against published values, SciPy's log-rank test, and computations by hand."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from sigwindow.analysis import statistics
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.sheets import groups
from sigwindow.analysis.tables import VERDICTS
from sigwindow.analysis.words import frames
from sigwindow.probes.errors import UsageError
from sigwindow.probes.signals import number, word_of
from sigwindow.terminal.draw import Drawn

HOUR_NS = 3600 * 10**9

# Acute myelogenous leukaemia: weeks of remission, 1 = relapse (`aml` of R's survival package, from
# Miller: Survival Analysis, 1981).
MAINTAINED = ([9, 13, 13, 18, 23, 28, 31, 34, 45, 48, 161], [1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0])
NONMAINTAINED = ([5, 5, 8, 8, 12, 16, 23, 27, 30, 33, 43, 45], [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1])


def threads(setup_ns: Any = (), ready: Any = True, **columns: Any) -> pd.DataFrame:
    """A table of threads with the columns that statistics look at; by default unexposed ones of one process."""
    setup = np.asarray(setup_ns, np.int64)
    zeros = np.zeros(len(setup), np.int64)
    default: dict[str, Any] = {
        "pid": zeros, "tid": np.arange(len(setup)), "comm": "worker", "born_ns": zeros, "setup_ns": setup,
        "exposure_ns": zeros, "hits": zeros, "critical_hits": zeros, "teardown_exposure_ns": zeros,
        "creator_tid": zeros, "creator_stack": "", "policy": "altstack", "verdict": "masked",
        "ready": np.broadcast_to(np.asarray(ready, bool), len(setup)), "uncertain": zeros.astype(bool),
    }  # fmt: skip
    return pd.DataFrame(default | columns, index=range(len(setup)))


def test_survival_is_that_of_r() -> None:
    # summary(survfit(Surv(time, status) ~ x, aml)), whose rows are the times of events; the log(-log) band as
    # computed with lifelines 0.30.
    curve = statistics.survival(threads(*MAINTAINED)).set_index("time_ns")
    assert curve["at_risk"].tolist() == [11, 10, 8, 7, 6, 5, 4, 3, 2, 1]
    assert curve["ready"].tolist() == [1, 1, 1, 1, 0, 1, 1, 0, 1, 0]
    assert curve["censored"].tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 1]
    expected = {
        9: (0.909091, 0.508080, 0.986674),
        13: (0.818182, 0.447429, 0.951162),
        18: (0.715909, 0.350190, 0.899024),
        23: (0.613636, 0.265752, 0.835299),
        31: (0.490909, 0.167331, 0.753400),
        34: (0.368182, 0.092830, 0.657041),
        48: (0.184091, 0.011738, 0.525015),
        161: (0.184091, 0.011738, 0.525015),
    }
    for time, values in expected.items():
        assert list(curve.loc[time, ["survival", "lower", "upper"]]) == pytest.approx(values, abs=1e-6)


def test_the_median_is_that_of_r() -> None:
    # print(survfit(Surv(time, status) ~ x, aml)); the intervals as computed with lifelines.
    medians = [statistics.median(statistics.survival(threads(*group))) for group in (MAINTAINED, NONMAINTAINED)]
    assert medians == [statistics.Estimate(31, 13, np.inf), statistics.Estimate(23, 5, 33)]


def test_logrank_is_that_of_r() -> None:
    # survdiff(Surv(time, status) ~ x, aml): Chisq = 3.4 on 1 degree of freedom, p = 0.0653
    found = statistics.logrank(threads(*MAINTAINED), threads(*NONMAINTAINED))
    assert (found.statistic, found.p) == pytest.approx((3.396389, 0.065339), abs=1e-6)


LIVES = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=30)


def censored(lives: list[tuple[int, bool]]) -> stats.CensoredData:
    return stats.CensoredData(
        uncensored=[time for time, ready in lives if ready], right=[time for time, ready in lives if not ready]
    )


def table(lives: list[tuple[int, bool]]) -> pd.DataFrame:
    return threads([time for time, _ in lives], [ready for _, ready in lives])


@given(LIVES.filter(bool))
@settings(deadline=None)
def test_survival_is_that_by_hand(lives: list[tuple[int, bool]]) -> None:
    curve = statistics.survival(table(lives))
    times = sorted({time for time, _ in lives})
    share, greenwood = Fraction(1), Fraction(0)
    for time, row in zip(times, curve.to_dict("records"), strict=True):
        at_risk, ready = sum(end >= time for end, _ in lives), lives.count((time, True))
        found = row["time_ns"], row["at_risk"], row["ready"], row["censored"]
        assert found == (time, at_risk, ready, lives.count((time, False)))
        share *= 1 - Fraction(ready, at_risk)
        assert row["survival"] == pytest.approx(float(share), abs=1e-12)
        if 0 < share < 1:
            greenwood += Fraction(ready, at_risk * (at_risk - ready))
            wide = stats.norm.ppf(0.975) * math.sqrt(greenwood) / -math.log(share)
            band = [share ** math.exp(wide), share ** math.exp(-wide)]
            assert [row["lower"], row["upper"]] == pytest.approx(band)
    assert (curve["lower"] <= curve["survival"]).all()
    assert (curve["survival"] <= curve["upper"]).all()


@given(LIVES.filter(bool), LIVES.filter(bool))
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero):RuntimeWarning")
def test_logrank_is_that_of_scipy(a: list[tuple[int, bool]], b: list[tuple[int, bool]]) -> None:
    found = statistics.logrank(table(a), table(b))
    expected = stats.logrank(censored(a), censored(b))
    if np.isnan(found.p):
        assert not np.isfinite(expected.statistic)
    else:
        assert (found.statistic, found.p) == pytest.approx((expected.statistic**2, expected.pvalue), abs=1e-9)


def test_logrank_of_many_equal_threads() -> None:
    # 2 million threads that are ready at one of two times: SciPy's integers overflow here.
    million = 10**6
    early = {"a": 500_000, "b": 501_000}
    of = {name: threads(np.repeat([10, 20], [count, million - count])) for name, count in early.items()}
    both, first = 2 * million, sum(early.values())
    expected = Fraction(first, 2)
    variance = Fraction(first * million * million * (both - first), both**2 * (both - 1))
    later = both - first
    share = Fraction(million - early["a"], later)
    surplus = early["a"] - expected + (million - early["a"]) - later * share
    found = statistics.logrank(of["a"], of["b"])
    assert found.statistic == pytest.approx(float(surplus**2 / variance), rel=1e-9)


def test_edges_of_the_curve() -> None:
    columns = ["time_ns", "at_risk", "ready", "censored", "survival", "lower", "upper"]
    none = statistics.survival(threads())
    assert list(none.columns) == columns
    assert none.empty
    assert statistics.survival(threads([7])).iloc[0].tolist() == [7, 1, 1, 0, 0, 0, 1]
    assert statistics.survival(threads([7], ready=False)).iloc[0].tolist() == [7, 1, 0, 1, 1, 1, 1]
    assert statistics.survival(threads([7, 9], ready=False))["survival"].tolist() == [1, 1]
    complete = statistics.survival(threads([7, 8, 8, 9]))
    assert complete["survival"].tolist() == [0.75, 0.25, 0]
    assert complete["upper"].iloc[-1] == complete["upper"].iloc[-2]


def test_edges_of_the_tests() -> None:
    for a, b in (([], []), ([5], []), ([5], [5])):
        found = statistics.logrank(threads(a), threads(b))
        assert np.isnan([found.statistic, found.p]).all()
    for curve in (threads(), threads([7], ready=False)):
        assert np.isnan(statistics.median(statistics.survival(curve)).value)


@pytest.mark.parametrize(
    ("count", "trials", "expected"),  # Newcombe 1998, "single proportion", Table I, method 3
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_is_as_published(count: int, trials: int, expected: tuple[float, float]) -> None:
    assert tuple(map(float, statistics.wilson(count, trials))) == pytest.approx(expected, abs=5e-5)


def test_wilson_of_no_trial() -> None:
    assert np.isnan(statistics.wilson(0, 0)).all()


def test_quantiles() -> None:
    found = statistics.quantiles(
        threads(
            [40, 10, 30, 20, 99],
            ready=[1, 1, 1, 1, 0],
            exposure_ns=[0, 5, 0, 7, 99],
            teardown_exposure_ns=[0, 0, 0, 0, 3],
        )
    )
    assert list(found.columns) == ["count", "min", "p50", "p90", "p99", "p999", "max", "mean"]
    assert list(found.loc["setup_ns"]) == [4, 10, 20, 40, 40, 40, 40, 25]
    assert list(found.loc["exposure_ns"]) == [2, 5, 5, 7, 7, 7, 7, 6]
    assert list(found.loc["teardown_exposure_ns"]) == [1, 3, 3, 3, 3, 3, 3, 3]


def test_quantiles_of_nothing() -> None:
    found = statistics.quantiles(threads())
    assert found["count"].tolist() == [0, 0, 0]
    assert found.drop(columns="count").isna().all(axis=None)


def test_by_process() -> None:
    found = statistics.by(
        threads(
            [1] * 5,
            pid=[9, 3, 3, 3, 3],
            verdict=["unhandled", "critical", "hit", "exposed", "masked"],
            exposure_ns=[0, 10, 20, 30, 0],
            ready=[True, True, True, False, True],
            uncertain=[False, True, False, False, False],
            hits=[0, 3, 2, 0, 0],
            critical_hits=[0, 1, 0, 0, 0],
        ),
        "process",
    )
    low, high = (float(bound) for bound in statistics.wilson(3, 4))
    first = {
        "pid": 3, "births": 4, "critical": 1, "hit": 1, "exposed": 1, "masked": 1, "unhandled": 0, "unready": 1,
        "uncertain": 1, "exposed_share": 0.75, "exposed_low": low, "exposed_high": high, "exposure_p50_ns": 10,
        "exposure_p99_ns": 20, "exposure_max_ns": 20, "exposure_total_ns": 30, "hits": 5, "critical_hits": 1,
    }  # fmt: skip
    assert found.iloc[0].to_dict() == first
    assert list(found.loc[1, ["pid", "births", "unhandled", "exposure_total_ns"]]) == [9, 1, 1, 0]
    assert found.loc[1, ["exposure_p50_ns", "exposure_p99_ns", "exposure_max_ns"]].isna().all()


def test_by_the_other_keys() -> None:
    of = threads(
        [1, 1, 1],
        comm=["b", "a", "b"],
        pid=[1, 2, 1],
        creator_tid=[10, 10, 10],
        creator_stack=["main;go", "", "main;go"],
        born_ns=[0, HOUR_NS - 1, HOUR_NS],
    )
    assert statistics.by(of, "name")[["comm", "births"]].to_numpy().tolist() == [["a", 1], ["b", 2]]
    assert statistics.by(of, "creator")[["pid", "creator_tid", "births"]].to_numpy().tolist() == [
        [1, 10, 2],
        [2, 10, 1],
    ]
    assert statistics.by(of, "stack")["births"].tolist() == [1, 2]
    hours = statistics.by(of, "hour", clocks=[1_700_000_000 * 10**9])
    assert hours["hour"].astype(str).tolist() == ["2023-11-14 22:00:00+00:00", "2023-11-14 23:00:00+00:00"]
    assert hours["births"].tolist() == [1, 2]  # the clock starts at 22:13:20


def test_by_several_keys_counts_by_all_of_them() -> None:
    of = threads([1, 1, 1, 1], pid=[1, 1, 2, 1], comm=["a", "b", "a", "a"])
    found = statistics.by(of, ["process", "name"])
    assert found[["pid", "comm", "births"]].to_numpy().tolist() == [[1, "a", 2], [1, "b", 1], [2, "a", 1]]


def test_creators_have_their_names() -> None:
    of = threads([1, 1, 1, 1], pid=[1, 1, 1, 2], tid=[11, 12, 13, 21], creator_tid=[1, 11, 9, 2], comm=list("abcd"))
    known = pd.DataFrame({"pid": [1, 2], "tid": [11, 2], "comm": ["earlier", "before"]})
    found = statistics.by(of, "creator", leaders={(0, 1): "main"}, known=known)
    named = {(1, 1): "main", (1, 9): "", (1, 11): "a", (2, 2): "before"}
    assert {(row.pid, row.creator_tid): row.creator_comm for row in found.itertuples()} == named


def test_the_same_pid_in_two_traces_is_two_processes() -> None:
    of = threads([1, 1, 1], pid=[7, 7, 7], creator_tid=[7, 7, 7], born_ns=[0, 0, HOUR_NS], comm=list("aba"))
    of.insert(0, "trace", [0, 1, 1])
    leaders = {(0, 7): "old", (1, 7): "new"}
    assert statistics.by(of, "process")[["trace", "pid", "births"]].to_numpy().tolist() == [[0, 7, 1], [1, 7, 2]]
    assert statistics.by(of, "creator", leaders=leaders)["creator_comm"].tolist() == ["old", "new"]
    assert statistics.by(of, "name")[["comm", "births"]].to_numpy().tolist() == [["a", 2], ["b", 1]]
    hours = statistics.by(of, "hour", clocks=[0, 5 * HOUR_NS])
    assert hours["hour"].dt.hour.tolist() == [0, 5, 6]
    with pytest.raises(UsageError, match="a trace does not say"):
        statistics.by(of, "hour", clocks=[0, None])


@pytest.mark.parametrize("key", statistics.KEYS)
def test_by_fits_a_terminal_of_80_columns(key: str) -> None:
    of = threads(
        [1, 1, 1],
        comm=["b" * 15, "a", "b" * 15],
        pid=[4_194_304, 2, 4_194_304],
        creator_tid=[4_194_304, 2, 4_194_304],
        creator_stack=[";".join(["main", *["[unknown]"] * 126, "clone3"]), "", "main;" * 60 + "clone3"],
        exposure_ns=123_456_789,
        verdict="exposed",
    )
    found = statistics.by(of, key, clocks=[1_700_000_000 * 10**9])
    console = Console(width=80, force_terminal=False)
    with console.capture() as told:
        console.print(Drawn(groups(found, f"by {key}")))
    lines = told.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in told.get()
    words = " ".join(lines).split()
    assert words.count("123") >= len(found)  # ms
    if key == "stack":
        assert "[unknown] x126; clone3" in " ".join(words)
        assert "main x60; clone3" in " ".join(words)


def test_groups_without_any_exposure_have_a_dash() -> None:
    found = groups(statistics.by(threads([1, 1], comm=["a", "b"]), "name"), "by name")
    place = [column.heading for column in found.columns].index("p99")
    assert [row[place] for row in found.rows] == ["-", "-"]


def test_groups_beyond_forty_are_told_in_a_line() -> None:
    names = [*(f"Thread-{n}" for n in range(3187)), "main", *(f"GC#{n}" for n in range(9))]
    verdicts = ["masked"] * 3000 + ["exposed"] * 197
    of = threads([1] * len(names), comm=names, verdict=verdicts, exposure_ns=np.arange(len(names)))
    found = groups(statistics.by(of, "name"), "by name")
    assert len(found.rows) == 40
    assert found.rest == "3,157 more: 157 exposed, 3,000 masked"


def test_the_frames_of_a_stack() -> None:
    assert frames("", 9) == ""
    assert frames("main;create;clone3", 20) == "main; create; clone3"
    assert frames("main;create;clone3", 19) == "…in; create; clone3"
    assert frames("f;f;g;f", 20) == "f x2; g; f"


def test_by_no_key() -> None:
    with pytest.raises(UsageError, match="unknown key"):
        statistics.by(threads(), "colour")
    with pytest.raises(UsageError, match="wall time"):
        statistics.by(threads(), "hour")


@pytest.mark.parametrize("key", statistics.KEYS)
def test_by_of_no_thread(key: str) -> None:
    assert statistics.by(threads(), key, clocks=[0]).empty


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(VERDICTS), st.integers(0, 9)), max_size=300))
@settings(deadline=None, max_examples=50)
def test_groups_add_up(rows: list[tuple[str, str, int]]) -> None:
    names, verdicts, exposures = ([row[column] for row in rows] for column in range(3))
    of = threads([1] * len(rows), comm=names, verdict=verdicts, exposure_ns=np.array(exposures, np.int64))
    found = statistics.by(of, "name")
    assert found["births"].sum() == len(rows)
    assert (found[list(VERDICTS)].sum(axis=1) == found["births"]).all()
    for name, group in of.groupby("comm"):
        row = found[found["comm"] == name].iloc[0]
        expected = statistics.quantiles(group).loc["exposure_ns"]
        assert row["exposure_total_ns"] == group["exposure_ns"].sum()
        for rank in ("p50", "p99", "max"):
            assert row[f"exposure_{rank}_ns"] is expected[rank] or row[f"exposure_{rank}_ns"] == expected[rank]


def test_births_per_second() -> None:
    found = statistics.births_per_second(
        threads(
            [1, 1, 1, 1],
            born_ns=[10**9, 10**9, 2 * 10**9, 5 * 10**9],
            exposure_ns=[5, 0, 7, 9],
            verdict=["exposed", "masked", "hit", "exposed"],
            ready=[True, True, True, False],
        ),
        start_ns=10**9,
        end_ns=5 * 10**9,
        bins=2,
    )
    assert found["time_s"].tolist() == [0, 2]
    assert found["births"].tolist() == [3, 1]
    assert found["births_per_s"].tolist() == [1.5, 0.5]
    assert found["exposed"].tolist() == [2, 1]
    assert found["exposure_ns"].tolist() == [12, 0]


def test_births_a_second_are_of_one_trace() -> None:
    of = threads([1])
    of.insert(0, "trace", 0)
    with pytest.raises(UsageError, match="those of one trace"):
        statistics.births_per_second(of, 0, 1)


def test_births_of_no_time() -> None:
    assert statistics.births_per_second(threads(), 0, 0)["births"].sum() == 0
    assert statistics.births_per_second(threads([1]), 0, 0)["births"].sum() == 1


def test_by_signal_and_process() -> None:
    prof, usr1 = number("PROF"), number("USR1")
    analysis = Windows().result()
    analysis.exposure = pd.DataFrame(
        {
            "pid": [7, 5, 5],
            "signals": np.array([word_of([prof]), word_of([prof, usr1]), word_of([usr1, 64])], np.uint64),
            "exposure_ns": [1, 20, 300],
        }
    )
    found = statistics.by_signal_and_process(analysis)
    assert found.index.tolist() == ["SIGUSR1", "SIGPROF", "SIGRTMIN+30"]
    assert found.to_dict() == {
        5: {"SIGUSR1": 320, "SIGPROF": 20, "SIGRTMIN+30": 300},
        7: {"SIGUSR1": 0, "SIGPROF": 1, "SIGRTMIN+30": 0},
    }
    analysis.exposure.insert(0, "trace", [0, 1, 0])
    found = statistics.by_signal_and_process(analysis)
    assert found.loc["SIGUSR1"].to_dict() == {(0, 5): 300, (0, 7): 0, (1, 5): 20}
    analysis.exposure = analysis.exposure.iloc[:0]
    assert statistics.by_signal_and_process(analysis).empty
