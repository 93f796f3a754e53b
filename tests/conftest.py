"""Fixtures of the whole suite."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from commandline import Run, runner
from needs import needs_ebpf


@pytest.fixture(scope="session")
def workloads() -> Path:
    """The folder of the built workloads."""
    source = Path(__file__).with_name("workloads")
    subprocess.run(["make", "-s", "-C", source], check=True)
    return source / "build"


@pytest.fixture
def sigwindow(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process."""
    return runner(capsys)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `live` runs where live tracing works."""
    if item.get_closest_marker("live"):
        needs_ebpf()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what did not run, and why, in one line each."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, tests in reasons.items():
        terminalreporter.write_line(f"not run: {tests} tests: {reason}")
