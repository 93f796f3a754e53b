"""Compare two traces: did the windows change, by how much, and is it more than chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from .notebook import html
from .question import Question
from .result import Analysis
from .sheets import Sheet, comparison
from .statistics import Estimate, LogRank, kaplan_meier, logrank, median, quantiles, survival, wilson
from .tables import BAD, WORST_FIRST
from .words import cut_off, lost, share

SCHEMA = "sigwindow.compare/1"
SIGNIFICANT = 0.05

_WORDS = {"exposed": "exposed or worse", "hit": "hit", "critical": "hit critically"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What changed from one trace (base) to another (new).

    traces: a row each, base and new: born, unready, uncertain, lost_events, complete, policies. verdicts: verdict,
    base, new, base_share, new_share. shares: for `exposed`, `hit` and `critical` the threads with that
    verdict or a worse one: level, base, new, base_share, new_share, difference of the shares with its
    interval (difference_low, difference_high), p, test. windows: the quantiles side by side: measure,
    statistic, base, new (ns; of `count` threads). medians: of the setup time with unready threads
    censored, and of the exposure of ready exposed threads: measure, base, new (ns), ratio, ratio_low,
    ratio_high. setup: the log-rank test of the setup times. reasons: why it is a regression; empty if it
    is none. notes: what the reader must know before trusting it. sentence: the answer. question: what was
    asked of both.
    """

    traces: pd.DataFrame
    verdicts: pd.DataFrame
    shares: pd.DataFrame
    windows: pd.DataFrame
    medians: pd.DataFrame
    setup: LogRank
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    sentence: str
    question: Question

    @property
    def regression(self) -> bool:
        """Whether the new trace is worse: see docs/statistics.md for the rule."""
        return bool(self.reasons)

    @property
    def sheets(self) -> list[Sheet]:
        """The answer's tables, as a terminal and a notebook show them."""
        return comparison(self.traces, self.verdicts, self.shares, self.medians)

    @property
    def setup_test(self) -> str:
        """What the log-rank test of the setup times says, in words."""
        p = "-" if math.isnan(self.setup.p) else f"{self.setup.p:.2g}"
        return f"setup times, log-rank test: p = {p}"

    def _repr_html_(self) -> str:
        return html(self.sentence, [str(self.question), self.setup_test], self.sheets)

    def to_dict(self) -> dict[str, Any]:
        """The comparison for JSON, with stable names; what can't be told is None."""
        return {
            "schema": SCHEMA,
            "regression": self.regression,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "traces": {str(name): row for name, row in zip(self.traces.index, _records(self.traces), strict=True)},
            "verdicts": _records(self.verdicts),
            "shares": _records(self.shares),
            "setup_logrank": {"statistic": _plain(self.setup.statistic), "p": _plain(self.setup.p)},
            "medians": _records(self.medians),
            "windows": _records(self.windows),
        }


def compare(base: Analysis, new: Analysis) -> Comparison:
    """Compare two analyses. Raises UsageError where they were made under other readiness policies or signals."""
    base.question.same_as(new.question)
    traces = pd.DataFrame([_trace(base), _trace(new)], index=["base", "new"])
    verdicts = _verdicts(base.threads, new.threads)
    shares = _shares(verdicts, len(base.threads), len(new.threads))
    medians = _medians(base.threads, new.threads)
    setup = logrank(base.threads, new.threads)
    reasons, notes = _reasons(shares, traces), _notes(traces)
    return Comparison(
        traces=traces,
        verdicts=verdicts,
        shares=shares,
        windows=_windows(base.threads, new.threads),
        medians=medians,
        setup=setup,
        reasons=reasons,
        notes=notes,
        sentence=_sentence(traces, shares, medians, reasons, notes),
        question=new.question,
    )


def newcombe(base: int, base_trials: int, new: int, new_trials: int) -> Estimate:
    """The difference of two shares, new less base, with its 95% interval; nan where one had no trial.

    Method 10 of Newcombe: Interval estimation for the difference between independent proportions,
    Statistics in Medicine 17, 1998: Wilson's intervals of the two, joined by `_difference`.
    """
    low, high = wilson([base, new], [base_trials, new_trials])
    share = [count / trials if trials else math.nan for count, trials in ((base, base_trials), (new, new_trials))]
    return _difference(*(Estimate(share[i], float(low[i]), float(high[i])) for i in (0, 1)))


def two_proportions(base: int, base_trials: int, new: int, new_trials: int) -> tuple[float, str]:
    """Whether two shares differ: the two-sided p, and the name of the test.

    The N-1 chi-squared test, and Fisher's exact test where a count of less than 1 is expected (Campbell:
    Chi-squared and Fisher-Irwin tests of two-by-two tables with small sample recommendations, Statistics
    in Medicine 26, 2007). p is nan where there was no trial.
    """
    trials, successes = base_trials + new_trials, base + new
    if not (base_trials and new_trials):
        return math.nan, "none"
    if min(base_trials, new_trials) * min(successes, trials - successes) < trials:
        from scipy.stats import fisher_exact  # loading it takes most of a second

        table = [[base, base_trials - base], [new, new_trials - new]]
        return float(fisher_exact(table).pvalue), "fisher"
    surplus = base * (new_trials - new) - new * (base_trials - base)
    statistic = (trials - 1) * surplus**2 / (base_trials * new_trials * successes * (trials - successes))
    return float(special.chdtrc(1, statistic)), "chi2"


def median_ratio(base: Estimate, new: Estimate) -> Estimate:
    """The ratio of two medians, new to base, with its 95% interval: `_difference` of their logarithms.

    nan where a median is 0 or can't be told.
    """
    if not (base.value > 0 and new.value > 0):
        return Estimate(math.nan, math.nan, math.nan)
    with np.errstate(divide="ignore"):
        logs = [Estimate(*np.log([of.value, of.low, of.high]).tolist()) for of in (base, new)]
    ratio = _difference(*logs)
    return Estimate(math.exp(ratio.value), math.exp(ratio.low), math.exp(ratio.high))


def _difference(base: Estimate, new: Estimate) -> Estimate:
    """The difference of two independent estimates with intervals of their own.

    MOVER (Zou, Donner: Construction of confidence limits about effect measures: a general approach,
    Statistics in Medicine 27, 2008).
    """
    value = new.value - base.value
    low = value - math.hypot(new.value - new.low, base.high - base.value)
    high = value + math.hypot(new.high - new.value, base.value - base.low)
    return Estimate(value, low, high)


def _trace(of: Analysis) -> dict[str, Any]:
    threads = of.threads
    return {
        "born": len(threads),
        "unready": int((~threads["ready"]).sum()),
        "uncertain": int(threads["uncertain"].sum()),
        "lost_events": of.lost_events,
        "complete": of.ended and of.lost_events == 0,
        "policies": ",".join(sorted(threads["policy"].unique())),
    }


def _verdicts(base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Threads of each verdict and their share of the births, the worst first."""
    columns: dict[str, Any] = {"verdict": list(WORST_FIRST)}
    counts = [
        threads["verdict"].value_counts().reindex(WORST_FIRST, fill_value=0).to_numpy() for threads in (base, new)
    ]
    columns |= dict(zip(("base", "new"), counts, strict=True))
    for name, threads in (("base", base), ("new", new)):
        columns[f"{name}_share"] = columns[name] / len(threads) if len(threads) else math.nan
    return pd.DataFrame(columns)


def _shares(verdicts: pd.DataFrame, base_births: int, new_births: int) -> pd.DataFrame:
    counts = verdicts.set_index("verdict")[["base", "new"]].cumsum()
    rows = []
    for level in reversed(BAD):
        base, new = (int(counts[name][level]) for name in ("base", "new"))
        difference = newcombe(base, base_births, new, new_births)
        p, test = two_proportions(base, base_births, new, new_births)
        rows.append(
            {
                "level": level,
                "base": base,
                "new": new,
                "base_share": base / base_births if base_births else math.nan,
                "new_share": new / new_births if new_births else math.nan,
                "difference": difference.value,
                "difference_low": difference.low,
                "difference_high": difference.high,
                "p": p,
                "test": test,
            }
        )
    return pd.DataFrame(rows)


def _windows(base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The quantiles of both, a row each."""
    tables = {
        name: quantiles(threads).drop(columns="mean").astype("Int64").stack(future_stack=True)
        for name, threads in (("base", base), ("new", new))
    }
    return pd.DataFrame(tables).rename_axis(["measure", "statistic"]).reset_index()


def _medians(base: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for measure in ("setup_ns", "exposure_ns"):
        medians = [median(_curve(threads, measure)) for threads in (base, new)]
        ratio = median_ratio(*medians)
        rows.append(
            {
                "measure": measure,
                "base": medians[0].value,
                "new": medians[1].value,
                "ratio": ratio.value,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
            }
        )
    return pd.DataFrame(rows)


def _curve(threads: pd.DataFrame, measure: str) -> pd.DataFrame:
    if measure == "setup_ns":
        return survival(threads)
    exposure_ns = threads["exposure_ns"][threads["ready"] & (threads["exposure_ns"] > 0)]
    return kaplan_meier(exposure_ns, np.ones(len(exposure_ns), bool))


def _reasons(shares: pd.DataFrame, traces: pd.DataFrame) -> tuple[str, ...]:
    return tuple(_told(row, traces) for row in _distinct(shares) if _is_worse(row))


def _distinct(shares: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """The levels, only the worst of those with the same threads."""
    return shares.drop_duplicates(["base", "new"], keep="last").to_dict("records")


def _is_worse(row: Mapping[Hashable, Any]) -> bool:
    """Whether a level makes a regression: its share is significantly higher, or there are hits for the first time."""
    first = row["level"] != "exposed" and row["new"] > row["base"] == 0
    return first or (_significant(row) and row["difference"] > 0)


def _significant(row: Mapping[Hashable, Any]) -> bool:
    return bool(row["p"] < SIGNIFICANT)


def _told(row: Mapping[Hashable, Any], traces: pd.DataFrame) -> str:
    """One level in words: 4 of 100 threads were hit (4.0%), before 0 of 50 (0.0%), p = 0.3."""
    born = traces["born"]
    (base, base_share), (new, new_share) = (
        (f"{row[name]:,} of {born[name]:,}", f" ({share(row[name], born[name])})" if born[name] else "")
        for name in ("base", "new")
    )
    p = "" if math.isnan(row["p"]) else f", p = {row['p']:.2g}"
    return f"{new} threads were {_WORDS[row['level']]}{new_share}, before {base}{base_share}{p}"


def _notes(traces: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    for name, row in zip(traces.index, traces.to_dict("records"), strict=True):
        if row["lost_events"] or row["uncertain"]:
            notes.append(f"of the {name} trace {lost(row['lost_events'], row['uncertain'])}")
        elif not row["complete"]:
            notes.append(cut_off(f"the {name} trace"))
    policies = traces["policies"]
    if traces["born"].all() and policies["base"] != policies["new"]:
        notes.append(f"ready means {policies['base']} in the base trace, but {policies['new']} in the new one")
    return tuple(notes)


def _sentence(
    traces: pd.DataFrame,
    shares: pd.DataFrame,
    medians: pd.DataFrame,
    reasons: tuple[str, ...],
    notes: tuple[str, ...],
) -> str:
    """The answer in one sentence: what changed, how much longer it takes, and the reservations."""
    empty = [name for name, born in traces["born"].items() if not born]
    fewer = [_told(row, traces) for row in _distinct(shares) if _significant(row)]
    if reasons:
        said = [f"Worse: {reasons[0]}", *reasons[1:]]
    elif empty:
        where = "either trace" if len(empty) == 2 else f"the {empty[0]} trace"
        said = [f"No thread was born in {where}: there is nothing to compare"]
    elif fewer:
        said = [f"Better: {fewer[0]}", *fewer[1:]]
    else:
        said = [f"No significant change: {_told(shares.iloc[0].to_dict(), traces)}"]
    for row in medians.to_dict("records"):
        if row["ratio_low"] > 1 or row["ratio_high"] < 1:
            what = {"setup_ns": "setup window", "exposure_ns": "exposure of exposed threads"}[row["measure"]]
            interval = f"{row['ratio_low']:.3g} to {row['ratio_high']:.3g}"
            said.append(f"the median {what} is {row['ratio']:.3g} times as long as before ({interval})")
    return "; ".join([*said, *notes]) + "."


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A value as JSON knows it: None for what can't be told or has no bound."""
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
