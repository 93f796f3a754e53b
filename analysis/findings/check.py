"""The table of rules, and the search for all that they find."""

from __future__ import annotations

from sigwindow.analysis.totals import Totals
from sigwindow.probes.traceinfo import TraceInfo

from . import (
    internal_signals,
    late_stack,
    let_through,
    lossy,
    no_alternate_stack,
    unmasked_birth,
    unready_helpers,
)
from .finding import SEVERITIES, Finding, Rule

# In the order in which findings of one severity are told. A rule is named as its file, with hyphens.
RULES: tuple[Rule, ...] = (
    no_alternate_stack,
    unmasked_birth,
    unready_helpers,
    late_stack,
    let_through,
    lossy,
    internal_signals,
)


def check(totals: Totals, info: TraceInfo) -> list[Finding]:
    """What is wrong with the threads of a trace, or of several together, the worst first.

    totals: the threads in numbers; they suffice, so that it takes no memory however many threads there are. info: what
    the traces say of themselves alike.
    """
    found = [finding for rule in RULES if (finding := rule.find(totals, info))]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
