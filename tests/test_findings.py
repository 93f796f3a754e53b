"""What rules find: of each a trace that has the fault, and the same one without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commandline import Run
from makers import batch, born, event

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.findings import finding
from sigwindow.analysis.findings.check import RULES, check
from sigwindow.analysis.question import Question
from sigwindow.analysis.sheets import findings
from sigwindow.analysis.totals import Totals, merged
from sigwindow.probes import events
from sigwindow.probes.signals import ALL, FREEBSD, SA_ONSTACK, UNBLOCKABLE, number, word_of
from sigwindow.probes.traceinfo import TraceInfo

TRACES = Path(__file__).parent.parent / "notebooks" / "traces"
EVERYTHING = ALL & ~UNBLOCKABLE
PROF, SETXID = number("PROF"), number("SETXID")
PROF_AND_SETXID = word_of([PROF, SETXID])
STACK = {"altstack": 1}
HERE = TraceInfo(backend="bcc", os="linux")


def deliver(time_ns: int, sa_flags: int = SA_ONSTACK, signal: int = PROF) -> dict[str, Any]:
    handler = events.DISPOSITION_HANDLER
    return event(time_ns, "deliver", signal=signal, disposition=handler, sa_flags=sa_flags)


def totals(*rows: dict[str, Any], system: str = "linux", signals: str = "all") -> Totals:
    windows = Windows(Question("auto", signals), system)
    if rows:
        windows.feed(batch(*rows))
    return windows.totals()


def lost(count: int, time_ns: int, since_ns: int) -> dict[str, Any]:
    return event(time_ns, "lost", 0, mask=since_ns, flags=count) | {"pid": 0}


# By rule: a trace with the fault, the sentence about it and its severity, and a trace that differs in the fault only.
RAW_CLONE = [born(1000), event(1030, "altstack", **STACK)]
CAREFUL = [born(1000, EVERYTHING), event(1030, "altstack", mask=EVERYTHING, **STACK), event(1040, "mask", **STACK)]
RUBY = [born(1000, EVERYTHING), event(1159, "mask"), event(1162, "altstack", **STACK)]
CASES = {
    "no-alternate-stack": (
        [*RAW_CLONE, deliver(1010)],
        "1 handler of SIGPROF asked for the alternate stack (SA_ONSTACK) on a thread that had none",
        "error",
        [*RAW_CLONE, deliver(1035)],
    ),
    "unmasked-birth": (RAW_CLONE, "At birth 1 thread had SIGPROF unblocked.", "warning", CAREFUL),
    "unready-helpers": (
        [*CAREFUL, born(1100, EVERYTHING, 102), event(1110, "mask", 102), event(1900, "exit", 102)],
        "1 thread never installed an alternate stack, as others of the process do, with SIGPROF unblocked.",
        "warning",
        [*CAREFUL, born(1100, EVERYTHING, 102), event(1900, "exit", 102)],
    ),
    "late-stack": (RUBY, "1 thread had SIGPROF unblocked first and called sigaltstack after.", "warning", CAREFUL),
    "let-through": (
        [born(1000, EVERYTHING), event(1040, "mask"), event(1055, "mask", mask=word_of([PROF])), event(1500, "exit")],
        "1 thread began with everything blocked, then had SIGPROF unblocked before the state they live with",
        "warning",
        [born(1000, EVERYTHING), event(1055, "mask", mask=word_of([PROF])), event(1500, "exit")],
    ),
    "lossy": (
        [*CAREFUL, lost(7, 2500, 1020)],
        "7 events were lost, and 1 thread is uncertain.",
        "warning",
        CAREFUL,
    ),
    "internal-signals": (
        [
            born(1000, EVERYTHING & ~word_of([SETXID]), handled=PROF_AND_SETXID),
            event(1030, "altstack", mask=EVERYTHING, **STACK),
        ],
        "1 thread could be reached by SIGSETXID alone",
        "note",
        [born(1000, EVERYTHING, handled=PROF_AND_SETXID), event(1030, "altstack", mask=EVERYTHING, **STACK)],
    ),
}


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_finds_its_fault_and_nothing_else(rule: str) -> None:
    faulty, message, severity, sound = CASES[rule]
    found = {one.rule: one for one in check(totals(*faulty), HERE)}
    assert found.keys() == {rule} | ({"unmasked-birth"} if rule == "no-alternate-stack" else set())
    assert found[rule].message.startswith(message)
    assert found[rule].severity == severity
    assert rule not in {one.rule for one in check(totals(*sound), HERE)}


def name_of(rule: object) -> str:
    return str(getattr(rule, "__name__", "")).rpartition(".")[2].replace("_", "-")


def test_every_rule_is_in_the_table_is_named_as_its_file_and_says_what_it_finds() -> None:
    files = {path.stem.replace("_", "-") for path in Path(finding.__file__).parent.glob("*.py")}
    assert files - {"--init--", "check", "finding"} == {name_of(rule) for rule in RULES} == set(CASES)
    for rule in RULES:
        page = rule.__doc__ or ""
        assert page.startswith(f"{name_of(rule)}: ")
        assert all(f"\n{part}: " in page for part in ("What it finds", "Why it matters", "What to do"))


def test_a_protected_program_has_no_finding() -> None:
    assert check(totals(*CAREFUL), HERE) == []
    assert check(totals(), HERE) == []


def test_every_exposed_thread_has_one_cause_and_the_worst_comes_first() -> None:
    late = [row | {"tid": 102} for row in RUBY]
    internal = [row | {"tid": 103} for row in CASES["internal-signals"][0]]
    internal[0]["handled"] = PROF_AND_SETXID
    found = check(totals(*RAW_CLONE, deliver(1010), *late, *internal), HERE)
    assert [(one.rule, one.severity, one.threads) for one in found] == [
        ("no-alternate-stack", "error", 1),
        ("unmasked-birth", "error", 1),
        ("late-stack", "warning", 1),
        ("internal-signals", "note", 1),
    ]


def test_several_traces_are_told_together() -> None:
    both = merged(Question(), dict(enumerate([totals(*RUBY), totals(*RUBY), totals(*CAREFUL)])))
    (found,) = check(both, HERE)
    assert found.threads == 2
    assert found.message.startswith("2 threads had SIGPROF unblocked first")


def test_only_considered_signals_are_accused() -> None:
    handled = word_of([PROF, number("TERM")])
    rows = [born(1000, handled=handled), event(1030, "altstack", **STACK)]
    (found,) = check(totals(*rows, signals="SIGTERM"), HERE)
    assert found.signals == ("SIGTERM",)
    assert check(totals(*rows, signals="SIGHUP"), HERE) == []


def test_of_many_signals_the_first_are_told() -> None:
    (found,) = check(totals(born(1000, handled=0xFFF), event(1030, "altstack", **STACK), signals="async"), HERE)
    assert "SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2 unblocked" in found.message
    assert len(found.signals) == 6


def test_signals_of_freebsd_have_their_names() -> None:
    usr1, thr = number("USR1", FREEBSD), number("THR", FREEBSD)
    rows = [born(1000, handled=word_of([usr1])), event(1030, "altstack", **STACK)]
    (found,) = check(totals(*rows, system="freebsd"), TraceInfo(backend="dtrace", os="freebsd"))
    assert found.signals == ("SIGUSR1",)
    rows[0]["handled"] = word_of([thr])
    (found,) = check(totals(*rows, system="freebsd"), TraceInfo(backend="dtrace", os="freebsd"))
    assert (found.rule, found.signals) == ("internal-signals", ("SIGTHR",))


@pytest.mark.parametrize(("backend", "larger"), [("bcc", True), ("strace", False), ("dtrace", False), ("", False)])
def test_a_larger_buffer_helps_only_where_there_is_one(backend: str, larger: bool) -> None:
    (found,) = check(totals(*CAREFUL, lost(7, 2500, 1020)), TraceInfo(backend=backend))
    assert ("--buffer" in found.advice) is larger
    assert ("buffer" in found.title) is larger


def test_a_loss_outside_every_window_is_a_note() -> None:
    (found,) = check(totals(*CAREFUL, lost(1, 2500, 2400)), HERE)
    assert found.severity == "note"
    assert found.message == "1 event was lost while no thread was in its window."


def test_the_list_has_a_title_and_a_sentence_each() -> None:
    (sheet,) = findings(check(totals(*RUBY), HERE))
    ((severity, told),) = sheet.rows
    assert told == (
        "Install the alternate stack before unblocking.\n"
        "1 thread had SIGPROF unblocked first and called sigaltstack after."
    )
    assert getattr(severity, "text", "") == "warning"
    assert findings([]) == []


def test_analyze_tells_the_findings_before_the_numbers(sigwindow: Run) -> None:
    of_one = sigwindow("analyze", TRACES / "ruby.arrows").out
    assert of_one.index("warning  Install the alternate stack before unblocking.") < of_one.index("verdict")
    assert "sigaltstack(&stack" not in of_one
    of_all = sigwindow("analyze", TRACES).out
    assert "error    Block all signals around the creation of a thread." in of_all
    assert "194 threads had SIGHUP" in of_all  # of Ruby and of Rust
