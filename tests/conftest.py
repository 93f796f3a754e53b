"""Fixtures of the whole suite."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commandline import Run, runner
from live import require_live


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
        require_live()
