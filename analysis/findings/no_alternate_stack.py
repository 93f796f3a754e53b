"""no-alternate-stack: a handler that asked for the alternate stack ran on a thread that had none.

What it finds: handlers installed with SA_ONSTACK that were delivered on a thread in its setup window, before it had
called sigaltstack.

Why it matters: the kernel then runs the handler on the stack that is there. A runtime asks for the alternate stack
because that one may be small, or not yet the thread's own: the handler writes beyond it, and the process dies of a
fault that no handler can take. Go on FreeBSD crashed so, until its newosproc blocked all signals around thr_new.

What to do: keep these signals blocked on a new thread until it has called sigaltstack.
"""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.analysis.words import counted, first_few
from sigwindow.probes.traceinfo import TraceInfo

from .finding import Finding


def find(totals: Totals, info: TraceInfo, /) -> Finding | None:
    """Critical hits, whatever opened the thread to them."""
    critical = totals.by_signal[totals.by_signal["critical"] > 0]
    if critical.empty:
        return None
    signals = tuple(critical["name"])
    return Finding(
        "no-alternate-stack",
        "error",
        "Keep handlers off threads that lack their alternate stack",
        f"{counted(int(critical['critical'].sum()), 'handler')} of {first_few(signals)} asked for the alternate stack "
        "(SA_ONSTACK) on a thread that had none, and ran on the stack that was there.",
        "Where that one is small or not yet the thread's own, the process dies. Keep these signals blocked until the "
        "thread has called sigaltstack.",
        threads=totals.verdicts["critical"],
        signals=signals,
    )
