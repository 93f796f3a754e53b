"""The summary of an analysis: the JSON that `analyze --format json` and `--json` of a capture write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .windows import Analysis

SCHEMA = "sigwindow.summary/1"
_VERDICTS = ("masked", "exposed", "hit", "critical", "unhandled")


def summarise(analysis: Analysis, info: Mapping[str, str]) -> dict[str, Any]:
    """The summary of an analysis: integers, floats and strings only, the same for the same trace.

    info: where the trace is from, of which `backend`, `os`, `kernel` and `host` are taken.
    """
    threads = analysis.threads
    ready = threads[threads["ready"]]
    return {
        "schema": SCHEMA,
        "trace": {
            **{name: info.get(name, "") for name in ("backend", "os", "kernel", "host")},
            "duration_s": round((analysis.end_ns - analysis.start_ns) / 1e9, 6),
            "events": analysis.events,
            "lost_events": analysis.lost_events,
            "complete": analysis.ended and analysis.lost_events == 0,
        },
        "policy": {"ready": analysis.ready, "signals": analysis.signals},
        "threads": {
            "born": len(threads),
            **_verdicts(threads),
            "unready": len(threads) - len(ready),
            "uncertain": int(threads["uncertain"].sum()),
        },
        "setup_ns": _distribution(ready["setup_ns"]),
        "exposure_ns": _distribution(ready["exposure_ns"][ready["exposure_ns"] > 0]),
        "by_signal": [
            {
                "signal": row["name"],
                "class": row["class"],
                **{name: int(row[name]) for name in ("threads", "exposure_ns", "hits", "critical")},
            }
            for row in analysis.by_signal.to_dict("records")
        ],
        "by_process": [_process(analysis, of_process) for _, of_process in threads.groupby("pid", sort=True)],
    }


def to_json(summary: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """A summary, or several, as the text that every command writes."""
    return json.dumps(summary, indent=2) + "\n"


def _verdicts(threads: pd.DataFrame) -> dict[str, int]:
    counts = threads["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in _VERDICTS}


def _distribution(values: pd.Series) -> dict[str, int | None]:
    """Count, order statistics (values that occur, never between two) and total of durations in ns."""
    ranks = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    statistics: dict[str, int | None] = dict.fromkeys(ranks)
    if len(values):
        quantiles = np.quantile(values.to_numpy(), list(ranks.values()), method="inverted_cdf")
        statistics = dict(zip(ranks, quantiles.tolist(), strict=True))
    return {"count": len(values), **statistics, "total": int(values.sum())}


def _commonest(names: pd.Series) -> str:
    """The most frequent name, the first in the alphabet of equally frequent ones."""
    return str(names.mode().iloc[0])


def _process(analysis: Analysis, threads: pd.DataFrame) -> dict[str, Any]:
    """The row of one process, from its threads."""
    pid = int(threads["pid"].iloc[0])
    return {
        "pid": pid,
        "comm": analysis.leaders.get(pid) or _commonest(threads["comm"]),
        "policy": threads["policy"].iloc[0],
        **_verdicts(threads),
        "exposure_ns": int(threads["exposure_ns"][threads["ready"]].sum()),
    }
