"""What is asked of a trace, whatever system it is from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commandline import Run
from rows import batch

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
    with pytest.raises(UsageError, match="SIGINFO"):
        question.considered(sig.LINUX)


def test_traces_of_several_systems_are_asked_together(tmp_path: Path, sigwindow: Run) -> None:
    for system in ("linux", "freebsd"):
        info = replace(TraceInfo.here(backend="test"), os=system)
        with (tmp_path / f"{system}.arrows").open("wb") as file, tracefile.Writer(file, info) as writer:
            writer.write(batch({"time_ns": 1, "kind": "exit"}))
    done = sigwindow("analyze", tmp_path, "--signals", "SIGINFO")
    assert done.code == 4
    assert "linux.arrows" in done.err
    assert "SIGINFO" in done.err
    assert "freebsd.arrows" in done.out


def test_traces_that_are_asked_different_questions_are_not_added() -> None:
    one = package.read("notebooks/traces/go.arrows")
    with pytest.raises(UsageError, match="give both the same"):
        _ = one + one.under(signals="all")
