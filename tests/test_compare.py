"""Comparisons: published intervals, SciPy's tests, and what counts as a regression."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from sigwindow.analysis.compare import compare, median_ratio, newcombe, two_proportions
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.statistics import Estimate, kaplan_meier, median
from sigwindow.analysis.tables import VERDICTS
from sigwindow.terminal.render import comparison


def analysis(
    masked: int = 0, exposed: int = 0, hit: int = 0, critical: int = 0, scale: int = 1, lost: int = 0,
    uncertain: int = 0, policy: str = "altstack", ended: bool = True,
) -> Analysis:  # fmt: skip
    """So many threads of each verdict, with setup times of 1, 2, 3... times `scale` ns."""
    count = masked + exposed + hit + critical
    verdicts = np.repeat(["masked", "exposed", "hit", "critical"], [masked, exposed, hit, critical])
    bad = verdicts != "masked"
    number = np.arange(1, count + 1)
    threads = pd.DataFrame(
        {
            "setup_ns": number * scale,
            "exposure_ns": np.where(bad, number * scale, 0),
            "teardown_exposure_ns": 0 * number,
            "verdict": verdicts.astype(object),
            "ready": np.ones(count, bool),
            "uncertain": number <= uncertain,
            "policy": np.repeat(policy, count).astype(object),
        }
    )
    return replace(Windows().result(), threads=threads, lost_events=lost, ended=ended)


def of_counts(counts: tuple[int, ...]) -> Analysis:
    """An analysis from how many threads are masked, exposed, hit, critical."""
    masked, exposed, hit, critical = (*counts, 0, 0, 0, 0)[:4]
    return analysis(masked, exposed, hit, critical)


@pytest.mark.parametrize(
    ("new", "base", "low", "high"),  # Newcombe 1998, "independent proportions", Table II, method 10
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_is_as_published(new: tuple[int, int], base: tuple[int, int], low: float, high: float) -> None:
    found = newcombe(*base, *new)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == pytest.approx(new[0] / new[1] - base[0] / base[1])


@pytest.mark.parametrize(
    ("base", "new", "test"),
    [
        ((10, 100), (40, 100), "chi2"),
        ((1, 10), (2, 12), "chi2"),
        ((0, 10), (1, 10), "fisher"),
        ((0, 1000), (1, 10), "fisher"),
        ((0, 10), (0, 20), "fisher"),
        ((300_000, 2_000_000), (301_000, 2_000_000), "chi2"),
    ],
)
def test_two_proportions_are_those_of_scipy(base: tuple[int, int], new: tuple[int, int], test: str) -> None:
    rows = [[count, trials - count] for count, trials in (base, new)]
    total = base[1] + new[1]
    if test == "chi2":
        expected = stats.chi2.sf(stats.chi2_contingency(rows, correction=False).statistic * (total - 1) / total, 1)
    else:
        expected = stats.fisher_exact(rows).pvalue
    p, used = two_proportions(*base, *new)
    assert p == pytest.approx(expected)
    assert used == test


def test_the_choice_of_the_test_is_by_the_least_expected_count() -> None:
    for base, new in (((0, 9), (9, 81)), ((0, 10), (9, 80)), ((9, 9), (72, 81)), ((8, 30), (30, 31))):
        rows = [[count, trials - count] for count, trials in (base, new)]
        expected = stats.contingency.expected_freq(rows).min()
        assert two_proportions(*base, *new)[1] == ("chi2" if expected >= 1 else "fisher")


def test_two_proportions_without_a_trial() -> None:
    p, used = two_proportions(0, 0, 1, 2)
    assert math.isnan(p)
    assert used == "none"


def test_the_ratio_of_medians_covers_the_truth() -> None:
    # Two log-normal samples, a tenth of the times censored; the true ratio is 2.
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        medians = []
        for true_median in (1e6, 2e6):
            times = random.lognormal(np.log(true_median), 0.8, 80)
            limits = random.exponential(8 * true_median, 80)
            medians.append(median(kaplan_meier(np.minimum(times, limits), times <= limits)))
        ratio = median_ratio(*medians)
        covered += ratio.low <= 2 <= ratio.high
    assert 0.93 <= covered / 300 <= 0.99


@pytest.mark.parametrize("bad", [Estimate(0, 0, 5), Estimate(math.nan, 3, math.inf)])
def test_no_ratio_to_nothing(bad: Estimate) -> None:
    for pair in ((bad, Estimate(5, 4, 6)), (Estimate(5, 4, 6), bad)):
        assert math.isnan(median_ratio(*pair).value)


def test_an_open_interval_stays_open() -> None:
    ratio = median_ratio(Estimate(5, 0, 6), Estimate(10, 9, math.inf))
    assert ratio.value == pytest.approx(2)
    assert ratio.high == math.inf


VERDICTS_ARE = {
    "the same trace": ((90, 10), (90, 10), False, "No significant change: 10 of 100 threads were exposed or worse"),
    "a little more": ((90, 10), (88, 12), False, "No significant change"),
    "much more": ((90, 10), (60, 40), True, "Worse: 40 of 100 threads were exposed or worse (40.0%), before 10 of"),
    "much less": ((60, 40), (90, 10), False, "Better: 10 of 100 threads were exposed or worse"),
    "one of many": (
        (50_000, 0),
        (49_999, 0, 1),
        True,
        "Worse: 1 of 50,000 threads were hit (<0.1%), before 0 of 50,000",
    ),
    "a first hit": ((90, 10), (90, 9, 1), True, "Worse: 1 of 100 threads were hit (1.0%), before 0 of 100"),
    "a first critical hit": ((90, 9, 1), (90, 9, 0, 1), True, "Worse: 1 of 100 threads were hit critically"),
    "a hit as before": ((90, 9, 1), (90, 9, 1), False, "No significant change"),
    "many more hits": ((50, 49, 1), (50, 30, 20), True, "Worse: 20 of 100 threads were hit"),
    "nothing at all": ((), (), False, "No thread was born in either trace: there is nothing to compare."),
    "nothing before": ((), (5,), False, "No thread was born in the base trace: there is nothing to compare."),
    "nothing after": ((5, 5), (), False, "No thread was born in the new trace: there is nothing to compare."),
    "hits after nothing": ((), (5, 0, 1), True, "Worse: 1 of 6 threads were hit (16.7%), before 0 of 0."),
}


@pytest.mark.parametrize(("base", "new", "regression", "sentence"), VERDICTS_ARE.values(), ids=VERDICTS_ARE.keys())
def test_regressions(base: tuple[int, ...], new: tuple[int, ...], regression: bool, sentence: str) -> None:
    found = compare(of_counts(base), of_counts(new))
    assert found.sentence.startswith(sentence)
    assert found.sentence.endswith(".")
    assert found.regression is regression
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert written["schema"] == "sigwindow.compare/1"
    assert (written["regression"], written["sentence"]) == (regression, found.sentence)


def test_the_tables_side_by_side() -> None:
    found = compare(analysis(masked=3, exposed=1), analysis(masked=1, hit=1))
    assert found.verdicts["verdict"].tolist() == list(reversed(VERDICTS))
    assert found.verdicts[["base", "new"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [3, 1], [0, 0]]
    assert found.verdicts["base_share"].tolist() == [0, 0, 0.25, 0.75, 0]
    levels = found.shares.set_index("level")
    assert levels[["base", "new"]].to_numpy().tolist() == [[1, 1], [0, 1], [0, 0]]
    assert list(levels.loc["hit", ["base_share", "new_share", "difference"]]) == [0, 0.5, 0.5]
    sides = found.windows.set_index(["measure", "statistic"]).T.to_dict("list")
    assert sides["setup_ns", "max"] == [4, 2]
    assert sides["exposure_ns", "count"] == [1, 1]
    assert found.medians["measure"].tolist() == ["setup_ns", "exposure_ns"]
    assert found.medians[["base", "new"]].to_numpy().tolist() == [[2, 1], [4, 2]]


def test_longer_windows_are_told_but_no_regression() -> None:
    found = compare(analysis(masked=80, exposed=20), analysis(masked=80, exposed=20, scale=3))
    assert not found.regression
    assert found.setup.p < 1e-6
    assert "the median setup window is 3 times as long as before (" in found.sentence
    assert "the median exposure of exposed threads is 3 times as long as before (" in found.sentence
    same = compare(analysis(masked=80), analysis(masked=80))
    assert same.setup.p == pytest.approx(1)
    assert "as long" not in same.sentence


def test_one_clause_for_threads_that_were_all_hit_critically() -> None:
    found = compare(analysis(masked=90), analysis(masked=50, critical=40))
    assert found.sentence.startswith("Worse: 40 of 90 threads were hit critically (44.4%), before 0 of 90 (0.0%), p =")
    assert len(found.reasons) == 1


def test_reservations_are_part_of_the_sentence() -> None:
    found = compare(analysis(masked=9, lost=1000, uncertain=2), analysis(masked=9, policy="steady", ended=False))
    assert found.notes == (
        "of the base trace 1,000 events were lost, and 2 threads are uncertain",
        "the new trace has no end mark: its tracer was killed, or the file is cut",
        "ready means altstack in the base trace, but steady in the new one",
    )
    assert found.sentence.endswith("; ".join(found.notes) + ".")
    assert found.to_dict()["traces"]["base"] == {
        "born": 9, "unready": 0, "uncertain": 2, "lost_events": 1000, "complete": False, "policies": "altstack",
    }  # fmt: skip


def test_two_traces_of_nothing() -> None:
    nothing = Windows().result()
    found = compare(nothing, nothing)
    assert not found.regression
    assert found.sentence.startswith("No thread was born in either trace")
    json.dumps(found.to_dict(), allow_nan=False)


def printed(base: Analysis, new: Analysis) -> list[str]:
    """The answer in a terminal of 80 columns."""
    console = Console(width=80, force_terminal=False)
    with console.capture() as told:
        console.print(comparison(compare(base, new)))
    return told.get().splitlines()


def test_the_answer_fits_a_terminal_of_80_columns() -> None:
    million = 1_000_000
    lines = printed(analysis(masked=million), analysis(masked=million // 2, critical=million // 2, scale=1000))
    assert max(map(len, lines)) <= 80
    told = [line.split() for line in lines]
    assert ["critical", "0", "0.0%", "500,000", "50.0%"] in told
    [share] = [row for row in told if row[:3] == ["exposed", "or", "worse"]]
    assert share[3:6] == ["0.0%", "50.0%", "+50.0%"]
    assert ["setup", "500", "µs", "500", "ms", "1e+03"] in [row[:6] for row in told]
    assert any(row[:2] == ["exposure", "-"] for row in told)


def test_the_answer_on_nothing() -> None:
    nothing = Windows().result()
    told = [line.split() for line in printed(nothing, nothing)]
    assert ["critical", "0", "-", "0", "-"] in told
    assert ["setup", "-", "-", "-", "-"] in told
