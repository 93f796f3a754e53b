"""Risk: what a rate of signals means for threads that are exposed as the trace's were.

The model: signals reach an exposed thread as a Poisson process of rate lambda while it is exposed, and
independently of anything else. Then the hits of threads with a total exposure T have a Poisson
distribution of mean lambda T, and the total is all that matters. What that leaves out is told in
docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sigwindow.probes import signals as sig
from sigwindow.probes.errors import UsageError

from .notebook import html
from .result import Analysis
from .sheets import risks
from .tables import thread_key

Array = NDArray[Any]

TITLE = "risk of threads that are exposed as these"
ZERO_HITS_BOUND = -math.log(0.05)  # about 3: the rule of three


def parse_rates(texts: Iterable[str], numbering: sig.Numbering = sig.LINUX) -> dict[int, float]:
    """Rates in hertz by signal number from texts such as `SIGPROF=100`; of two for a signal the last counts.

    numbering: what the trace's signals are called (Analysis.numbering). Raises UsageError for another form, an unknown
    signal, and a rate that is not positive and finite.
    """
    rates = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            raise UsageError(f"bad rate {text!r}: give a signal and its signals per second, as in SIGPROF=100")
        rates[sig.number(name, numbering)] = rate
    return rates


def poisson_interval(counts: ArrayLike) -> tuple[Array, Array]:
    """The exact 95% interval of a Poisson mean of which `counts` were observed.

    Half the chi-squared quantiles of 2k and 2k + 2 degrees of freedom (Garwood: Fiducial limits for the
    Poisson distribution, Biometrika 28, 1936), here as those of the gamma distribution.
    """
    k = np.asarray(counts, np.float64)
    low = np.where(k == 0, 0.0, special.gammaincinv(np.maximum(k, 1), 0.025))
    return low, special.gammaincinv(k + 1, 0.975)


class Risk(pd.DataFrame):
    """The table of `risk`, which a notebook shows as the command line does. What is made of it is a plain DataFrame."""

    def _repr_html_(self) -> str:
        return html(TITLE, self.attrs.get("asked", []), [risks(self)])


def risk(analysis: Analysis, rates: Mapping[int, float] | None = None, births: int = 1000) -> Risk:
    """What each signal may do to threads like those of the trace: a row a signal that has a rate or counts.

    rates: signals per second, by number, that a thread receives while it is exposed. For a signal
    without one the rate is estimated from the trace: hits / exposure, the maximum likelihood estimate.
    births: for how many the probability of a hit is given.

    Everything is of ready threads, since only their exposure is known in full. Returns signal, name;
    rate_hz, rate_low_hz, rate_high_hz; source; hits, exposure_ns (of the trace); hits_unready (on other
    threads, not part of the estimate); exposure_per_birth_ns; hits_per_birth (lambda times it); births
    (as asked); p_in_births; mean_time_to_first_hit_s (at the trace's rate of births). The last ones each
    with _low and _high, from the rate's interval. With m expected hits per birth and r births a second:

        p_in_births = 1 - exp(-births m)            mean_time_to_first_hit_s = 1 / (r m)

    (Ross: Introduction to Probability Models, chapter 5: the Poisson process and its waiting time.)

    source is `given`, `estimated` (with Garwood's interval), or `bound`: no hit was seen, and each value
    is the worst that the trace does not contradict at 95% (one-sided): a rate of -ln(0.05) / exposure
    (the rule of three, Hanley, Lippman-Hand: If nothing goes wrong, is everything all right?, JAMA 249,
    1983). A value that can't be told is nan.
    """
    rates = rates or {}
    threads = analysis.threads
    ready = int(threads["ready"].sum())
    duration_s = analysis.totals.duration_ns * 1e-9
    exposures = analysis.by_signal.set_index("signal")["exposure_ns"]
    counts = {
        s for s in exposures.index.tolist() if sig.word_of([s]) & analysis.question.considered(analysis.numbering)
    }
    signals = [*rates, *sorted(counts - set(rates))]  # what was asked is answered first
    exposure_ns = exposures.reindex(signals, fill_value=0).to_numpy(np.int64)
    hits, hits_unready = (
        of.value_counts().reindex(signals, fill_value=0).to_numpy(np.int64) for of in _hit_signals(analysis)
    )

    given_hz = np.array([rates.get(signal, math.nan) for signal in signals], np.float64)
    given, bound = ~np.isnan(given_hz), hits == 0
    low, high = poisson_interval(hits)
    estimates = {
        "": np.where(bound, ZERO_HITS_BOUND, hits),
        "_low": low,
        "_high": np.where(bound, ZERO_HITS_BOUND, high),
    }
    exposure_s = exposure_ns * 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_hz = {
            end: np.where(given, given_hz, np.where(count > 0, count / exposure_s, 0.0))
            for end, count in estimates.items()
        }
        # The hits that the model expects in the trace; all else follows from them.
        expected = {end: np.where(given, given_hz * exposure_s, count) for end, count in estimates.items()}
        per_birth = {end: count / np.float64(ready) for end, count in expected.items()}
        time_s = {end: duration_s / count for end, count in expected.items()}
        exposure_per_birth_ns = exposure_ns / np.float64(ready)
    found = Risk(
        {
            "signal": np.array(signals, np.int64),
            "name": pd.array([sig.name(signal, analysis.numbering) for signal in signals], "str"),
            **{f"rate{end}_hz": values for end, values in rate_hz.items()},
            "source": pd.array(np.select([given, bound], ["given", "bound"], "estimated"), "str"),
            "hits": hits,
            "hits_unready": hits_unready,
            "exposure_ns": exposure_ns,
            "exposure_per_birth_ns": exposure_per_birth_ns,
            **{f"hits_per_birth{end}": values for end, values in per_birth.items()},
            "births": births,
            **{f"p_in_births{end}": -np.expm1(-births * values) for end, values in per_birth.items()},
            "mean_time_to_first_hit_s": time_s[""],
            "mean_time_to_first_hit_low_s": time_s["_high"],  # more hits are less time
            "mean_time_to_first_hit_high_s": time_s["_low"],
        }
    )
    found.attrs["asked"] = [str(analysis.question)]
    return found


def _hit_signals(analysis: Analysis) -> tuple[pd.Series, pd.Series]:
    """The signals of the hits on ready threads, and of those on others."""
    threads = analysis.threads
    key = thread_key(threads)
    hit = analysis.hits.merge(threads.loc[threads["hits"] > 0, [*key, "ready"]], on=key)
    return hit["signal"][hit["ready"]], hit["signal"][~hit["ready"]]
