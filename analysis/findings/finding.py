"""What a rule finds, and what a rule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from sigwindow.analysis.totals import Totals
from sigwindow.analysis.words import counted, first_few
from sigwindow.probes.traceinfo import TraceInfo

if TYPE_CHECKING:
    import pandas as pd

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first

PROTOCOL = (
    "/* creator */",
    "sigfillset(&all);",
    "pthread_sigmask(SIG_SETMASK, &all, &old);",
    "pthread_create(...); /* clone, thr_new */",
    "pthread_sigmask(SIG_SETMASK, &old, NULL);",
    "",
    "/* new thread */",
    "sigaltstack(&stack, NULL); /* SA_ONSTACK */",
    "/* ... the rest of its setup */",
    "pthread_sigmask(SIG_SETMASK, &wanted, NULL);",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was found, and what to do about it.

    rule: the name of the rule. severity: error for what happened, warning for what could have, note for what should be
    known. title: what to do, in a few words. message: what was seen, in a sentence. advice: why that matters and what
    to do, in some sentences. code: lines that show how. threads: how many it is about. signals: the names of those it
    is about.
    """

    rule: str
    severity: Severity
    title: str
    message: str
    advice: str
    code: tuple[str, ...] = ()
    threads: int = 0
    signals: tuple[str, ...] = ()


class Rule(Protocol):
    """A module of this folder; its docstring is the rule's page of documentation."""

    __name__: str
    __doc__: str | None

    def find(self, totals: Totals, info: TraceInfo, /) -> Finding | None:
        """What the rule finds in a trace, or in several together; info: what they say of themselves alike."""


def about_threads(
    rule: str,
    threads: pd.DataFrame,
    totals: Totals,
    *,
    title: str,
    message: str,
    advice: str,
    code: tuple[str, ...] = (),
    severities: tuple[Severity, Severity] = ("error", "warning"),
) -> Finding | None:
    """A finding about exposed threads; None where there are none.

    threads: rows of `totals.exposed`. message: with {threads} and {signals} where their number and names go.
    severities: where a handler ran on one of them, and where none did.
    """
    if threads.empty:
        return None
    number = int(threads["threads"].sum())
    open_to = set(" ".join(threads["signals"]).split())
    signals = tuple(name for name in totals.by_signal["name"] if name in open_to)
    return Finding(
        rule,
        severities[not threads["verdict"].isin(("hit", "critical")).any()],
        title,
        message.format(threads=counted(number, "thread"), signals=first_few(signals) or "signals"),
        advice,
        code,
        number,
        signals,
    )
