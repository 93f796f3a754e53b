"""What is asked of a trace, whatever system it is from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import Run
from makers import batch

import sigwindow as package
from sigwindow.analysis.question import POLICIES, Question
from sigwindow.collector import tracefile
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import UsageError
from sigwindow.probes.traceinfo import TraceInfo


def test_of_auto_two_policies_may_count() -> None:
    assert [POLICIES[place] for place in Question().policies] == ["altstack", "steady"]
    assert [POLICIES[place] for place in Question("symbol:minit").policies] == ["symbol"]


def test_what_is_wrong_is_told_when_it_is_asked() -> None:
    with pytest.raises(UsageError, match="unknown readiness policy 'never'"):
        Question.parse("never", "async")
    with pytest.raises(UsageError, match="unknown signal 'NONSENSE'"):
        Question.parse("auto", "PROF,NONSENSE")


def test_a_signal_of_one_system_is_right_for_its_traces_only() -> None:
    question = Question.parse("auto", "SIGINFO")
    assert question.considered(sig.FREEBSD) == sig.word_of([29])
    with pytest.raises(UsageError, match=r"^Linux has no SIGINFO$"):
        question.considered(sig.LINUX)
    with pytest.raises(UsageError, match=r"^FreeBSD has no SIGPWR$"):
        Question.parse("auto", "SIGPWR").considered(sig.FREEBSD)


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A folder of a trace of each system."""
    for system in ("linux", "freebsd"):
        info = replace(TraceInfo.here(backend="test"), os=system)
        with (tmp_path / f"{system}.arrows").open("wb") as file, tracefile.Writer(file, info) as writer:
            writer.write(batch({"time_ns": 1, "kind": "exit"}))
    return tmp_path


def test_traces_of_several_systems_are_asked_together(both: Path, sigwindow: Run) -> None:
    done = sigwindow("analyze", both, "--signals", "SIGINFO")
    assert done.code == 4
    assert done.err.endswith("linux.arrows: Linux has no SIGINFO\n")
    assert "freebsd.arrows" in done.out


def test_a_trace_says_whose_numbers_its_signals_have(tmp_path: Path) -> None:
    info = TraceInfo(os="darwin", signals="freebsd")
    with (tmp_path / "lines.arrows").open("wb") as file, tracefile.Writer(file, info) as writer:
        writer.write(batch({"time_ns": 1, "kind": "exit"}))
    assert package.read(tmp_path / "lines.arrows").signal_names(sig.word_of([30])) == ["SIGUSR1"]


def test_a_set_is_named_by_the_numbers_of_its_system(both: Path) -> None:
    mask = sig.word_of([2, 30])
    linux, freebsd = (package.read(both / f"{system}.arrows") for system in ("linux", "freebsd"))
    assert linux.signal_names(mask) == ["SIGINT", "SIGPWR"]
    assert freebsd.signal_names(mask) == ["SIGINT", "SIGUSR1"]
    with pytest.raises(UsageError, match="traces of Linux and FreeBSD can't be read as one"):
        _ = (linux + freebsd).threads


def test_traces_that_are_asked_different_questions_are_not_put_together() -> None:
    one = package.read("notebooks/traces/go.arrows")
    with pytest.raises(UsageError, match="give both the same"):
        _ = one + one.under(signals="all")
    with pytest.raises(UsageError, match="one trace is asked signals = async; ready = auto, the other"):
        one.compare(one.under(ready="mask"))
