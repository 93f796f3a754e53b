"""let-through: threads block signals themselves, after pthread_create has let them through.

What it finds: threads that were born with everything blocked, then had handled signals unblocked, and only later
reached the mask that they live with.

Why it matters: pthread_create blocks everything while it makes the thread, but then gives it the mask of its creator.
A thread that blocks signals as its first act is open to them until it does: on a busy machine that may be long.

What to do: block the signals in the creator before pthread_create, and let the thread unblock what it wants when it is
ready.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from .finding import PROTOCOL, Finding, about_threads


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Exposed threads that are ready by their mask, not by a stack."""
    exposed = totals.exposed
    return about_threads(
        "let-through",
        exposed[(exposed["opened"] == "later") & (exposed["policy"] != "altstack")],
        totals,
        title="Block in the creator, not in the new thread",
        message="{threads} began with everything blocked, then had {signals} unblocked before the state they live "
        "with was reached: pthread_create gives a thread its creator's mask.",
        advice="Block the signals before pthread_create, and let the thread unblock what it wants when it is ready.",
        code=PROTOCOL,
    )
