"""Statistics of an analysis: distributions, the survival curve of the setup time, tables by a key.

They take and return DataFrames and print nothing. What each number means, with the formulas and their
sources, is in docs/statistics.md. Quantiles are values that occurred, never between two.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sigwindow.probes import signals as sig
from sigwindow.probes.errors import UsageError

from . import words
from .result import Analysis
from .tables import BAD, WORST_FIRST, process_key

Array = NDArray[Any]

KEYS = {
    "process": ["pid"],
    "name": ["comm"],
    "creator": ["pid", "creator_tid", "creator_comm"],
    "hour": ["hour"],
    "stack": ["creator_stack"],
}

_QUANTILES = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_Z = float(special.ndtri(0.975))  # of a two-sided 95% interval
_HOUR_NS = 3600 * 10**9
_ROUNDING = 1e-9  # a product of millions of factors is exact to about this


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; nan where it can't be told, inf where it has no bound."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LogRank:
    """A log-rank test: chi-squared of one degree of freedom, and p; both nan where nothing can be tested."""

    statistic: float
    p: float


def quantiles(threads: pd.DataFrame) -> pd.DataFrame:
    """Count, quantiles and mean (ns) of the setup window, the exposure and the teardown exposure.

    Setup: of ready threads. Exposure: of ready threads that were exposed. Teardown exposure: of the
    threads that had any. A row each, named as the column of `threads`; no quantiles where the count is 0.
    """
    ready = threads["ready"]
    samples = {
        "setup_ns": threads["setup_ns"][ready],
        "exposure_ns": threads["exposure_ns"][ready & (threads["exposure_ns"] > 0)],
        "teardown_exposure_ns": threads["teardown_exposure_ns"][threads["teardown_exposure_ns"] > 0],
    }
    ranked = [_ranked(values.to_numpy(np.int64)) for values in samples.values()]
    return pd.DataFrame(
        {
            "count": [len(values) for values in samples.values()],
            **{name: pd.array([ranks[i] for ranks in ranked], "Int64") for i, name in enumerate(_QUANTILES)},
            "mean": [float(values.mean()) for values in samples.values()],
        },
        index=list(samples),
    )


def _ranked(values: Array) -> list[int | None]:
    if not len(values):
        return [None] * len(_QUANTILES)
    found: list[int | None] = np.quantile(values, list(_QUANTILES.values()), method="inverted_cdf").tolist()
    return found


def survival(threads: pd.DataFrame) -> pd.DataFrame:
    """The share of threads that are not ready yet so long after birth: kaplan_meier of the setup time.

    Unready threads are censored where they ended, or the trace did.
    """
    curve = kaplan_meier(threads["setup_ns"], threads["ready"])
    return curve.rename(columns={"complete": "ready"})


def kaplan_meier(durations_ns: ArrayLike, complete: ArrayLike) -> pd.DataFrame:
    """The Kaplan-Meier estimate of the share of durations that are longer than a time, with a 95% band.

    durations_ns: one a subject. complete: whether it is the whole duration; else it is censored there.
    Returns a row for every time that occurs: time_ns, at_risk (subjects whose duration is not shorter),
    complete and censored (that end there), survival, lower, upper.

    S(t) is the product of 1 - d/n over the times up to t (Kaplan, Meier: Nonparametric estimation from
    incomplete observations, JASA 53, 1958). The band is the log(-log) one from Greenwood's variance
    (Kalbfleisch, Prentice: The Statistical Analysis of Failure Time Data, 2nd edition, 1.4). It is not
    defined where S is 1 or 0: there it is 1, or from 0 to where it was before. Both are SciPy's.
    """
    from scipy import stats  # loading it takes most of a second, and most tables do without

    estimate = stats.ecdf(stats.CensoredData.right_censored(durations_ns, ~np.asarray(complete, bool))).sf
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = estimate.confidence_interval(method="log-log")
    share, lower, upper = (of.probabilities for of in (estimate, band.low, band.high))
    whole, nothing = share == 1, share == 0  # nothing is left at the last time only
    before = np.append(1.0, np.where(whole, 1.0, upper))[:-1]
    return _life_table(durations_ns, complete).assign(
        survival=share,
        lower=np.select([nothing, whole], [0.0, 1.0], lower),
        upper=np.select([nothing, whole], [before, 1.0], upper),
    )


def _life_table(durations_ns: ArrayLike, complete: ArrayLike) -> pd.DataFrame:
    """For every time that occurs: the subjects at risk, those whose duration ends there, those censored."""
    durations, ends = np.asarray(durations_ns, np.int64), np.asarray(complete, bool)
    times, index = np.unique(durations, return_inverse=True)
    ended = np.bincount(index[ends], minlength=len(times))
    censored = np.bincount(index[~ends], minlength=len(times))
    at_risk = np.cumsum((ended + censored)[::-1])[::-1]
    return pd.DataFrame({"time_ns": times, "at_risk": at_risk, "complete": ended, "censored": censored})


def median(curve: pd.DataFrame) -> Estimate:
    """The median of a curve of kaplan_meier or survival, and its interval, in nanoseconds.

    The first time at which the curve, and its bounds, are at most one half (Brookmeyer, Crowley:
    A confidence interval for the median survival time, Biometrics 38, 1982).
    """
    times = np.append(curve["time_ns"].to_numpy(np.float64), np.inf)
    value, low, high = (
        float(times[np.argmax(np.append(curve[column].to_numpy() <= 0.5 + _ROUNDING, True))])
        for column in ("survival", "lower", "upper")
    )
    return Estimate(value if math.isfinite(value) else math.nan, low if math.isfinite(low) else math.nan, high)


def logrank(a: pd.DataFrame, b: pd.DataFrame) -> LogRank:
    """Whether the setup times of two tables of threads differ, unready threads censored.

    (O - E)**2 / V, where E and V add up the mean and the variance of the hypergeometric number of
    threads of `a` among those that became ready at each time (Mantel: Evaluation of survival data and
    two new rank order statistics arising in its consideration, Cancer Chemotherapy Reports 50, 1966).
    SciPy's logrank computes V in 64-bit integers, which overflow where many of a million threads are equal.
    """
    both = _life_table(*(np.concatenate([a[column], b[column]]) for column in ("setup_ns", "ready")))
    of_a = _life_table(a["setup_ns"], a["ready"])
    at_risk, ended = both["at_risk"].to_numpy(np.float64), both["complete"].to_numpy(np.float64)
    first_not_before = np.searchsorted(of_a["time_ns"].to_numpy(), both["time_ns"].to_numpy())
    share = np.append(of_a["at_risk"].to_numpy(), 0)[first_not_before] / at_risk
    surplus = float(a["ready"].sum() - (ended * share).sum())
    variance = float((ended * share * (1 - share) * (at_risk - ended) / np.maximum(at_risk - 1, 1)).sum())
    if variance == 0:
        return LogRank(math.nan, math.nan)
    statistic = surplus**2 / variance
    return LogRank(statistic, float(special.chdtrc(1, statistic)))


def wilson(successes: ArrayLike, trials: ArrayLike) -> tuple[Array, Array]:
    """Wilson's 95% score interval of a share; nan where there was no trial. SciPy's takes one share at a time.

    (Wilson: Probable inference, the law of succession, and statistical inference, JASA 22, 1927;
    method 3 of Newcombe: Two-sided confidence intervals for the single proportion, Statistics in
    Medicine 17, 1998.)
    """
    count, n = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = count / n
        centre = 2 * n * share + _Z**2
        half = _Z * np.sqrt(_Z**2 + 4 * n * share * (1 - share))
        # The bounds of 0 and 1 are exact; rounding must not move them.
        low = np.where(count == 0, 0.0, (centre - half) / (2 * (n + _Z**2)))
        high = np.where(count == n, 1.0, (centre + half) / (2 * (n + _Z**2)))
    nothing = n == 0
    return np.where(nothing, np.nan, low), np.where(nothing, np.nan, high)


def by(
    threads: pd.DataFrame,
    keys: str | Sequence[str],
    clocks: Sequence[int | None] = (None,),
    leaders: Mapping[tuple[int, int], str] | None = None,
    known: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Births, verdicts, exposure and hits of the threads by process, name, creator, hour or stack.

    keys: names in KEYS, of several the threads are counted by all of them together. clocks: of each trace its wall time
    less its clock, for `hour`. leaders: names of first threads by trace and pid (Analysis.leaders), known:
    threads from before (Analysis.known), both for `creator`.
    Returns a row for every value, in their order: the columns of KEYS (hour: its start, UTC; of several traces `trace`
    before what has a pid), births, the five verdict counts, unready, uncertain, exposed_share (of births, exposed or
    worse) with its Wilson interval exposed_low and exposed_high, exposure_p50_ns, exposure_p99_ns, exposure_max_ns and
    exposure_total_ns (of ready threads that were exposed), hits, critical_hits.
    Raises UsageError for another key, and for `hour` where a wall time is not known.
    """
    asked = [keys] if isinstance(keys, str) else keys
    for key in asked:
        if key not in KEYS:
            raise UsageError(f"unknown key {key!r}: give {', '.join(KEYS)}")
    if "hour" in asked:
        threads = threads.assign(hour=_hours(threads, clocks))
    if "creator" in asked:
        threads = threads.assign(creator_comm=_creators(threads, leaders or {}, known))
    process = process_key(threads)
    named = (column for key in asked for column in KEYS[key])
    columns = list(dict.fromkeys(part for column in named for part in (process if column == "pid" else [column])))
    number = threads.groupby(columns, sort=True).ngroup().to_numpy()
    table = threads[columns].drop_duplicates().sort_values(columns, ignore_index=True)

    def count(of: pd.Series) -> Array:
        counted: Array = np.bincount(number[of.to_numpy(bool)], minlength=len(table))
        return counted

    table["births"] = np.bincount(number, minlength=len(table))
    for verdict in WORST_FIRST:
        table[verdict] = count(threads["verdict"] == verdict)
    table["unready"] = count(~threads["ready"])
    table["uncertain"] = count(threads["uncertain"])
    exposed = table[list(BAD)].sum(axis=1)
    table["exposed_share"] = exposed / table["births"]
    table["exposed_low"], table["exposed_high"] = wilson(exposed, table["births"])
    measured = (threads["ready"] & (threads["exposure_ns"] > 0)).to_numpy()
    exposure_ns = threads["exposure_ns"].to_numpy()[measured]
    for name, values in _quantiles_by(number[measured], exposure_ns, len(table)).items():
        table[f"exposure_{name}_ns"] = values
    for column in ("hits", "critical_hits"):
        table[column] = np.bincount(number, threads[column], minlength=len(table)).astype(np.int64)
    return table


def _trace_of(threads: pd.DataFrame) -> pd.Series:
    """The number of the trace that each thread is of."""
    return threads["trace"] if "trace" in threads else pd.Series(0, threads.index)


def _hours(threads: pd.DataFrame, clocks: Sequence[int | None]) -> pd.Series:
    """The hour in which each thread was born, by the wall clock of its trace."""
    if None in clocks:
        which = "a trace" if len(clocks) > 1 else "the trace"
        raise UsageError(f"{which} does not say what its clock is in wall time, so births have no hour")
    wall_ns = threads["born_ns"] + np.array(clocks, np.int64)[_trace_of(threads)]
    return pd.to_datetime(wall_ns // _HOUR_NS * _HOUR_NS, unit="ns", utc=True)


def _creators(threads: pd.DataFrame, leaders: Mapping[tuple[int, int], str], known: pd.DataFrame | None) -> pd.Series:
    """The last name of the thread that created each; empty where it was not seen."""
    key = ["trace", "pid", "tid"]
    first = pd.DataFrame([(of, pid, pid, name) for (of, pid), name in leaders.items()], columns=[*key, "comm"])
    others = (of.assign(trace=_trace_of(of))[[*key, "comm"]] for of in (known, threads) if of is not None)
    named = pd.concat([first.astype(dict.fromkeys(key, "int64") | {"comm": "str"}), *others])
    named = named[named["comm"] != ""].drop_duplicates(key, keep="last")
    creators = threads[["pid", "creator_tid"]].set_axis(key[1:], axis=1).assign(trace=_trace_of(threads))
    found = creators.merge(named, "left", on=key)["comm"].fillna("")
    return found.set_axis(threads.index)


def _quantiles_by(number: Array, values: Array, groups: int) -> dict[str, Any]:
    """Quantiles and total of each group's values; group i has those with number i."""
    ordered = values[np.lexsort((values, number))]
    counts = np.bincount(number, minlength=groups)
    ends = np.cumsum(counts)
    empty = counts == 0

    def at(rank: float) -> pd.arrays.IntegerArray:
        place = ends - counts + np.ceil(rank * counts).astype(np.int64) - 1
        return pd.arrays.IntegerArray(np.append(ordered, 0)[np.where(empty, -1, place)], empty)

    running = np.append(0, np.cumsum(ordered))
    total = running[ends] - running[ends - counts]
    return {name: at(_QUANTILES[name]) for name in ("p50", "p99", "max")} | {"total": total}


def births_per_second(threads: pd.DataFrame, start_ns: int, end_ns: int, bins: int = 100) -> pd.DataFrame:
    """Births and exposure over the time of a trace, in bins of equal length.

    start_ns, end_ns: the trace's first and last event. bins: how many.
    Returns time_s (start of the bin since start_ns), births, births_per_s, exposed (births of threads
    that were exposed or worse), exposure_ns (of the ready threads born in the bin, whenever it was).
    Raises UsageError for several traces, whose clocks have nothing to do with each other.
    """
    if "trace" in threads:
        raise UsageError("births a second are those of one trace: take each of `trace.parts`")
    width_ns = max(end_ns - start_ns, 1) / bins
    place = ((threads["born_ns"].to_numpy() - start_ns) / width_ns).astype(np.int64).clip(0, bins - 1)
    births = np.bincount(place, minlength=bins)
    exposed = threads["verdict"].isin(BAD).to_numpy()
    exposure_ns = threads["exposure_ns"].where(threads["ready"], 0).to_numpy()
    return pd.DataFrame(
        {
            "time_s": np.arange(bins) * width_ns * 1e-9,
            "births": births,
            "births_per_s": births / (width_ns * 1e-9),
            "exposed": np.bincount(place[exposed], minlength=bins),
            "exposure_ns": np.bincount(place, exposure_ns, minlength=bins).astype(np.int64),
        }
    )


def by_signal_and_process(analysis: Analysis) -> pd.DataFrame:
    """How long the ready threads of each process were exposed to each signal, in nanoseconds.

    A row for each signal that was open in a window, by number, named; a column for each process: its pid, of several
    traces the trace's number and the pid.
    """
    exposure, key = analysis.exposure, process_key(analysis.exposure)
    table = per_signal(exposure["signals"], exposure["exposure_ns"], exposure.groupby(key).ngroup()).T
    names = pd.Index([sig.name(signal, analysis.numbering) for signal in table.index], name="signal", dtype="str")
    processes = pd.MultiIndex.from_frame(exposure[key].drop_duplicates().sort_values(key))
    return table.set_axis(names).set_axis(processes if len(key) > 1 else processes.get_level_values(0), axis=1)


def per_signal(sets: pd.Series, values: pd.Series, groups: pd.Series) -> pd.DataFrame:
    """The values summed by group and by each signal of the set that each belongs to.

    sets: set words (uint64). Returns a row for each group and a column for each signal (its number), in their order.
    """
    words = sets.to_numpy(np.uint64)
    table = {
        signal: values.where(words & np.uint64(sig.word_of([signal])) != 0, 0).groupby(groups).sum()
        for signal in sig.members(int(np.bitwise_or.reduce(words)))
    }
    return pd.DataFrame(table, index=pd.Index(np.unique(groups), name=groups.name))


def name_groups(names: pd.Series) -> pd.Series:
    """The group of each thread name, as words.name_kinds tells it: `Thread-*` for names that differ in digits only."""
    return names.map(words.name_kinds(names.unique()))
