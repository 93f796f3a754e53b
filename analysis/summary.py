"""The summary of an analysis: one JSON document with stable names, the same bytes for the same events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .windows import Analysis

SCHEMA = "sigwindow.summary/1"
_VERDICT_ORDER = ("masked", "exposed", "hit", "critical", "unhandled")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def summarise(analysis: Analysis, info: Mapping[str, str]) -> dict[str, Any]:
    """What an analysis found, in numbers.

    info: what the trace says of itself; backend, os, kernel and host are passed on. Returns plain dicts, lists, ints,
    floats and strings, as docs/tables.md describes them. Durations are in nanoseconds; quantiles are order statistics
    (values that occurred), so that they are exact integers.
    """
    threads = analysis.threads
    ready = threads[threads["ready"]]
    exposed = ready[ready["exposure_ns"] > 0]
    return {
        "schema": SCHEMA,
        "trace": {
            **{key: info.get(key, "") for key in ("backend", "os", "kernel", "host")},
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
        "exposure_ns": _distribution(exposed["exposure_ns"]),
        "by_signal": [
            {
                "signal": row["name"],
                "class": row["class"],
                **{key: int(row[key]) for key in ("threads", "exposure_ns", "hits", "critical")},
            }
            for row in analysis.by_signal.to_dict("records")
        ],
        "by_process": [_process(analysis, pid, part) for pid, part in threads.groupby("pid")],
    }


def to_json(summary: Any) -> str:
    """A summary, or several, as the text of a JSON file."""
    return json.dumps(summary, indent=2) + "\n"


def _verdicts(threads: pd.DataFrame) -> dict[str, int]:
    counts = threads["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in _VERDICT_ORDER}


def _distribution(values: pd.Series) -> dict[str, int | None]:
    """Count, order statistics and total of durations; None where there are none."""
    numbers = values.to_numpy(np.int64)
    if not len(numbers):
        return {"count": 0, "min": None, **dict.fromkeys(_QUANTILES), "max": None, "total": 0}
    quantiles = np.quantile(numbers, list(_QUANTILES.values()), method="inverted_cdf")
    return {
        "count": len(numbers),
        "min": int(numbers.min()),
        **{name: int(value) for name, value in zip(_QUANTILES, quantiles, strict=True)},
        "max": int(numbers.max()),
        "total": int(numbers.sum()),
    }


def _process(analysis: Analysis, pid: Any, threads: pd.DataFrame) -> dict[str, Any]:
    return {
        "pid": int(pid),
        "comm": analysis.leaders.get(pid) or str(threads["comm"].mode().iloc[0]),
        "policy": str(threads["policy"].iloc[0]),
        **_verdicts(threads),
        "exposure_ns": int(threads.loc[threads["ready"], "exposure_ns"].sum()),
    }
