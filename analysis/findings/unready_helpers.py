"""unready-helpers: threads without an alternate stack live open to signals, in a process whose others install one.

What it finds: threads of a process that uses alternate stacks, that never installed one themselves and had handled
signals unblocked, but not yet at birth.

Why it matters: a signal that is sent to the process may be taken by any thread that does not block it. Handlers of a
runtime that needs its alternate stack then run on threads that it does not know, such as a library's helpers.

What to do: create such threads with all signals blocked, and leave them so.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from .finding import PROTOCOL, Finding, about_threads


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Exposed threads that are not ready for lack of a stack."""
    exposed = totals.exposed
    never = (exposed["opened"] == "later") & (exposed["policy"] == "altstack") & ~exposed["ready"].astype(bool)
    return about_threads(
        "unready-helpers",
        exposed[never],
        totals,
        title="Block signals on helper threads",
        message="{threads} never installed an alternate stack, as others of the process do, with {signals} unblocked.",
        advice="Such threads are often a library's helpers: create them with all signals blocked, and leave them so.",
        code=PROTOCOL,
    )
