"""The summary of a trace: the JSON that `analyze --format json` and `--json` of a capture write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sigwindow.probes.traceinfo import TraceInfo

from .tables import VERDICTS
from .totals import Totals

SCHEMA = "sigwindow.summary/1"
BATCH_SCHEMA = "sigwindow.batch/1"  # of many: files (a summary each), failed, total
_VERDICTS = (*VERDICTS[1:], VERDICTS[0])  # in the order of the JSON


def summarise(totals: Totals, info: TraceInfo) -> dict[str, Any]:
    """The summary of a trace: integers, floats and strings only, the same for the same trace.

    info: where the trace is from, of which `backend`, `os`, `kernel` and `host` are taken.
    """
    return {
        "schema": SCHEMA,
        "trace": {
            **{name: getattr(info, name) for name in ("backend", "os", "kernel", "host")},
            "duration_s": round(totals.duration_ns / 1e9, 6),
            "events": totals.events,
            "lost_events": totals.lost_events,
            "complete": totals.complete,
        },
        "policy": {"ready": totals.question.ready, "signals": totals.question.signals},
        "threads": {
            "born": totals.born,
            **{verdict: totals.verdicts[verdict] for verdict in _VERDICTS},
            "unready": totals.unready,
            "uncertain": totals.uncertain,
        },
        "setup_ns": totals.setup.summary(),
        "exposure_ns": totals.exposure.summary(),
        "quantile_error": max(totals.setup.relative_error, totals.exposure.relative_error),
        "by_signal": [
            {
                "signal": row["name"],
                "class": row["class"],
                **{name: int(row[name]) for name in ("threads", "exposure_ns", "hits", "critical")},
            }
            for row in totals.by_signal.to_dict("records")
        ],
        "by_process": [
            {
                **{name: row[name] for name in ("pid", "comm", "policy")},
                **{name: int(row[name]) for name in (*_VERDICTS, "exposure_ns")},
            }
            for row in totals.by_process.to_dict("records")
        ],
    }


def batch(
    files: Sequence[Mapping[str, Any]], failed: Sequence[tuple[str, str]], total: Mapping[str, Any]
) -> dict[str, Any]:
    """The summary of many traces: of each with the name of its file, of those that failed the error, and of all."""
    errors = [{"file": name, "error": error} for name, error in failed]
    return {"schema": BATCH_SCHEMA, "files": list(files), "failed": errors, "total": total}


def to_json(told: Mapping[str, Any]) -> str:
    """What is told, as the text that every command writes."""
    return json.dumps(told, indent=2) + "\n"
