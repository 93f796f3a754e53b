"""unmasked-birth: threads are born open to handled signals.

What it finds: threads that were exposed, and had a considered signal unblocked at their birth already. The C library's
own signals are not counted: a program can't block them through it.

Why it matters: from its birth on the kernel may choose the thread for a signal, before it has run one instruction of
its own. Its handler then runs without what the thread was about to set up: its alternate stack, its thread-local data,
the runtime's notion of the current thread.

What to do: block everything before the call that creates the thread, and put the mask back after it. The thread
inherits the full mask, sets itself up, and unblocks last. C libraries do so inside pthread_create; whoever calls clone
or thr_new must do it.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from .finding import PROTOCOL, Finding, about_threads


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Threads that were open to a signal of the program's from their birth on."""
    exposed = totals.exposed
    return about_threads(
        "unmasked-birth",
        exposed[exposed["opened"] == "at birth"],
        totals,
        title="Block all signals around the creation of a thread",
        message="At birth {threads} had {signals} unblocked.",
        advice="Block everything before the call that creates the thread, and put the mask back after it: the thread "
        "inherits the full mask, sets itself up, and unblocks last.",
        code=PROTOCOL,
    )
