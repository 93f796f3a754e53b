"""lossy: records got lost, so that the trace does not tell everything.

What it finds: traces whose source says that it could not keep up, or lines that could not be read.

Why it matters: what was seen is true, but more may have happened. Threads that were in their window while records got
lost are uncertain: a clean verdict on them can't be trusted, and gates say so.

What to do: measure again with a larger `--buffer`, where the source has such a buffer. An imported log, or one of
strace or DTrace, has none.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.analysis.words import WITH_A_BUFFER, lost, stated
from sigwindow.probes.traceinfo import TraceInfo

from .finding import Finding


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Losses, and how many threads they leave open."""
    if not totals.lost_events:
        return None
    uncertain = totals.uncertain
    larger = info.backend in WITH_A_BUFFER
    return Finding(
        "lossy",
        "warning" if uncertain else "note",
        "Measure again with a larger buffer" if larger else "Don't take a clean verdict for certain",
        stated(lost(totals.lost_events, uncertain)),
        "What was seen is true, but more may have happened." + " Double the size that --buffer gives." * larger,
        threads=uncertain,
    )
