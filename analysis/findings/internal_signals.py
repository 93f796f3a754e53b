"""internal-signals: threads are open to the C library's own signals alone.

What it finds: threads whose only exposure was to the signals that the C library keeps for itself (Linux: SIGCANCEL and
SIGSETXID, 32 and 33; FreeBSD: SIGTHR and SIGLIBRT). They count only where `--signals` asks for them.

Why it matters: a program can't block them through the C library, so that every thread is open to them from its birth
on. Plain C threads bear that. A runtime whose threads need an alternate stack may not: golang/go#53374 was such a case.

What to do: have the alternate stack installed before the process calls setuid and its like, or cancels threads.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from .finding import Finding, about_threads


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Threads that were exposed to nothing that a program could have blocked."""
    exposed = totals.exposed
    return about_threads(
        "internal-signals",
        exposed[exposed["opened"] == "internal"],
        totals,
        title="Judge whether the C library's own signals matter to you",
        message="{threads} could be reached by {signals} alone, which are the C library's own and can't be blocked "
        "through it.",
        advice="Plain C threads bear them. A runtime whose threads need an alternate stack must have it installed "
        "before its process calls setuid and its like, or cancels threads.",
        severities=("warning", "note"),
    )
