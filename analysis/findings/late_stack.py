"""late-stack: threads unblock signals before they install their alternate stack.

What it finds: threads that were born with their signals blocked, in a process that uses alternate stacks, and had
handled signals unblocked before they called sigaltstack.

Why it matters: between the two calls a handler that asks for the alternate stack finds none. The order is right almost
everywhere else, so that this one is rarely suspected: the window is a few microseconds, on every thread.

What to do: call sigaltstack first and unblock after. Where pthread_create unblocks, by giving the new thread the mask
of its creator, block the signals in the creator around pthread_create.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from .finding import PROTOCOL, Finding, about_threads


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Exposed threads that installed their stack in the end."""
    exposed = totals.exposed
    late = (exposed["opened"] == "later") & (exposed["policy"] == "altstack") & exposed["ready"].astype(bool)
    return about_threads(
        "late-stack",
        exposed[late],
        totals,
        title="Install the alternate stack before unblocking",
        message="{threads} had {signals} unblocked first and called sigaltstack after.",
        advice="Turn that around. Where it is pthread_create that unblocks, by giving back the creator's mask, block "
        "the signals in the creator.",
        code=PROTOCOL,
    )
