"""Gates for CI: conditions on a trace that decide the exit code, and the JUnit file that tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple
from xml.etree import ElementTree

from sigwindow.analysis.tables import BAD, VERDICTS
from sigwindow.analysis.words import counted, cut_off, duration
from sigwindow.probes.errors import InputError
from sigwindow.probes.text import printable

if TYPE_CHECKING:
    from sigwindow.analysis.compare import Comparison
    from sigwindow.analysis.totals import Totals

FAILED = 1  # exit codes
BLIND = InputError.exit_code


class Outcome(NamedTuple):
    """What one gate says of one trace; `blind`: it saw nothing bad, and too little to be sure."""

    trace: str
    gate: str
    state: Literal["passed", "failed", "blind"]
    message: str


@dataclass(frozen=True)
class Gates:
    """The gates that were asked for: by verdict (or `lossy`, or `regression`), and by the longest exposure.

    min_threads: with fewer births in a trace, none of them can be answered.
    """

    fail_on: str | None = None
    max_exposure_ns: int | None = None
    min_threads: int = 1

    @property
    def asked(self) -> bool:
        """Whether there is any."""
        return self.fail_on is not None or self.max_exposure_ns is not None

    def judge(self, trace: str, totals: Totals) -> list[Outcome]:
        """What each gate on a single trace says; `regression` is none."""
        return [
            self._outcome(trace, gate, bad, totals)
            for gate, bad in (
                (self.fail_on, self._bad_verdicts(totals)),
                (None if self.max_exposure_ns is None else "max-exposure", self._too_long(totals)),
            )
            if gate and gate != "regression"
        ]

    def compare(self, trace: str, base: Totals, new: Totals, comparison: Comparison) -> list[Outcome]:
        """What each gate says of a new trace beside a base."""
        found = self.judge(trace, new)
        if self.fail_on == "regression":
            bad = "; ".join(comparison.reasons)
            outcome = self._outcome(trace, "regression", bad, new)
            if outcome.state == "passed" and (missing := self._missing(base)):
                outcome = outcome._replace(state="blind", message=f"of the base: {missing}")
            found.append(outcome)
        return found

    def _bad_verdicts(self, totals: Totals) -> str:
        if self.fail_on not in BAD:
            return ""
        bad = sum(totals.verdicts[verdict] for verdict in VERDICTS[VERDICTS.index(self.fail_on) :])
        return (
            f"{bad} of {totals.born} threads are {self.fail_on}{' or worse' * (self.fail_on != 'critical')}"
            if bad
            else ""
        )

    def _too_long(self, totals: Totals) -> str:
        longest_ns = totals.longest_exposure_ns
        if self.max_exposure_ns is None or longest_ns <= self.max_exposure_ns:
            return ""
        return f"a thread was exposed for {duration(longest_ns)}, and {duration(self.max_exposure_ns)} are allowed"

    def _outcome(self, trace: str, gate: str, bad: str, totals: Totals) -> Outcome:
        if bad:
            return Outcome(trace, gate, "failed", bad)
        missing = self._missing(totals)
        return Outcome(trace, gate, "blind" if missing else "passed", missing)

    def _missing(self, totals: Totals) -> str:
        """Why a clean answer can't be trusted; empty if it can."""
        if totals.lost_events:
            return f"{totals.lost_events} events were lost, and nobody knows what they told"
        if not totals.ended:
            return cut_off()
        if totals.born >= self.min_threads:
            return ""
        if totals.born:
            return f"only {counted(totals.born, 'thread')} born, and --min-threads asks for {self.min_threads}"
        return "no thread was born: there is nothing to judge. Where that is right, give --min-threads 0"


def of_command(ending: str, status: int) -> Outcome:
    """What is told of the command that was traced, beside the gates. ending: how it ended, in words."""
    return Outcome("capture", "command", "failed" if status else "passed", ending if status else "")


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """1 where a gate failed, 4 where one is blind, 0 where all are open."""
    states = {outcome.state for outcome in outcomes}
    return FAILED if "failed" in states else BLIND if "blind" in states else 0


def junit(outcomes: Sequence[Outcome], unreadable: Sequence[tuple[str, str]] = ()) -> str:
    """The outcomes as a JUnit file: a test case for each gate and trace.

    unreadable: names of traces that could not be judged at all, each with the reason.
    """
    states = [outcome.state for outcome in outcomes]
    counts = {"tests": len(outcomes) + len(unreadable), "failures": states.count("failed")}
    counts["errors"] = states.count("blind") + len(unreadable)
    suites = ElementTree.Element("testsuites", {name: str(count) for name, count in counts.items()})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "sigwindow", **suites.attrib})
    for trace, gate, state, message in outcomes:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(trace), "name": gate})
        if state != "passed":
            ElementTree.SubElement(case, "failure" if state == "failed" else "error", {"message": _xml(message)})
    for trace, message in unreadable:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(trace), "name": "readable"})
        ElementTree.SubElement(case, "error", {"message": _xml(message)})
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, "unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Text that XML 1.0 can hold: control characters, which it can't, are escaped as we do everywhere."""
    return printable(text)
