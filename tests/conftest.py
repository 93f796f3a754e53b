"""Fixtures of the whole suite."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def workloads() -> Path:
    """The folder of the built workloads."""
    source = Path(__file__).with_name("workloads")
    subprocess.run(["make", "-s", "-C", source], check=True)
    return source / "build"
