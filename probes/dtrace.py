"""How the D scripts are run: which script serves this system, and the command that runs it.

DTrace is never told to follow a process itself (`-p`, `-c`): it would ptrace it, and stretch what is measured.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from pathlib import Path

from .errors import CannotTraceError, UsageError

READY = b"sigwindow-ready"  # the scripts' first line once their probes are in (docs/lines.md)
_SCRIPTS = Path(__file__).resolve().parent / "scripts"


def command(pid: int, *, attaches: bool) -> list[str]:
    """The command that watches process `pid` and its descendants and prints lines.

    attaches: the process runs already, instead of waiting behind our gate. SIGWINDOW_DTRACE names another dtrace than
    the one in PATH. Raises CannotTraceError where DTrace can't serve, with what can be done.
    """
    system = platform.system()
    if system in ("SunOS", "Darwin"):
        raise CannotTraceError(
            f"there is no D script for {'illumos' if system == 'SunOS' else 'macOS'}, whose kernel creates threads by "
            "other functions and has other structures: docs/freebsd.md says what a script would need"
        )
    dtrace = shlex.split(os.environ.get("SIGWINDOW_DTRACE", "dtrace"))
    if not shutil.which(dtrace[0]):
        hint = "kldload dtraceall, as root" if system == "FreeBSD" else "install DTrace 2 (dtrace, of Debian sid)"
        raise CannotTraceError(f"no dtrace was found: {hint}")
    if os.geteuid() != 0:
        raise CannotTraceError("DTrace needs root: try again with sudo")
    if system == "FreeBSD":
        return [*dtrace, "-q", "-Z", "-s", str(_SCRIPTS / "window.d"), str(pid)]
    if attaches:
        raise UsageError("DTrace on Linux can't read which handlers a running process has: use `run`, or --backend bcc")
    return [*dtrace, "-q", "-s", str(_SCRIPTS / "window-linux.d"), str(pid)]
