"""How the D scripts are run: which script serves this system, and the command that runs it.

DTrace is never told to follow a process itself (`-p`, `-c`): it would ptrace it, and stretch what is measured.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from pathlib import Path

from .preflight import Check

READY = b"sigwindow-ready"  # the scripts' first line once their probes are in (docs/lines.md)
_SCRIPTS = Path(__file__).resolve().parent / "scripts"


def checks() -> list[Check]:
    """What DTrace needs here."""
    system = platform.system()
    if system in ("SunOS", "Darwin"):
        kernel = "illumos" if system == "SunOS" else "macOS"
        detail = f"there is no D script for {kernel}, whose kernel creates threads by other functions"
        return [Check("operating system", "missing", detail, "docs/freebsd.md says what a script would need")]
    hint = "kldload dtraceall, as root" if system == "FreeBSD" else "install DTrace 2 (dtrace, of Debian sid)"
    found = shutil.which(_dtrace()[0])
    return [
        Check("dtrace", "fine", found) if found else Check("dtrace", "missing", "no dtrace was found", hint),
        Check("privileges", "fine", "root")
        if os.geteuid() == 0
        else Check("privileges", "missing", "DTrace needs root", "try again with sudo"),
    ]


def attaches() -> bool:
    """Whether a process that runs already can be watched: on Linux its handlers can't be read."""
    return platform.system() == "FreeBSD"


def command(pid: int) -> list[str]:
    """The command that watches process `pid` and its descendants and prints lines."""
    if platform.system() == "FreeBSD":
        return [*_dtrace(), "-q", "-Z", "-s", str(_SCRIPTS / "window.d"), str(pid)]
    return [*_dtrace(), "-q", "-s", str(_SCRIPTS / "window-linux.d"), str(pid)]


def _dtrace() -> list[str]:
    """The command of DTrace; SIGWINDOW_DTRACE names another one than that in PATH."""
    return shlex.split(os.environ.get("SIGWINDOW_DTRACE", "dtrace"))
