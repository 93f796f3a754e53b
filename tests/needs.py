"""What a test needs of the machine. Where everything was promised to run, what is missing is a failure, not a skip."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sigwindow.probes import preflight
from sigwindow.probes.errors import CannotTraceError

_PROMISED = os.environ.get("SIGWINDOW_REQUIRE_LIVE") == "1"
_MAY_LACK = os.environ.get("SIGWINDOW_MAY_LACK", "").split()
_UNPACKED = Path(__file__).parent / "dtrace" / "build" / "dtrace"  # by `make dtrace`


def needs(what: str, present: bool, hint: str) -> None:
    """Skip the test where `what` is not there; fail it where SIGWINDOW_REQUIRE_LIVE is 1 and nobody allowed for that.

    what: one word; SIGWINDOW_MAY_LACK lists those that may be missing all the same. hint: what is wrong, or what to do.
    """
    __tracebackhide__ = True
    if present:
        return
    if _PROMISED and what not in _MAY_LACK:
        pytest.fail(f"SIGWINDOW_REQUIRE_LIVE is set, and there is no {what}: {hint}", pytrace=False)
    pytest.skip(f"{what}: {hint}")


def needs_root() -> None:
    """Skip the test where this user may not do what root may."""
    needs("root", os.geteuid() == 0, "this test does what only root may")


def needs_ebpf() -> None:
    """Skip the test where live tracing with eBPF is not possible."""
    try:
        preflight.require(preflight.checks(trial=False))
    except CannotTraceError as error:
        needs("eBPF", False, str(error))


def dtrace_command() -> list[str]:
    """The command of DTrace: the one that SIGWINDOW_DTRACE names, `make dtrace` unpacked, or is in PATH; or nothing."""
    named = os.environ.get("SIGWINDOW_DTRACE")
    command = shlex.split(named) if named else [str(_UNPACKED) if _UNPACKED.exists() else "dtrace"]
    if not shutil.which(command[0]):
        return []
    version = subprocess.run([*command, "-V"], capture_output=True, text=True, check=False).stdout
    return command if re.search(r"\bD \d", version) else []  # systemtap, too, has a `dtrace`
