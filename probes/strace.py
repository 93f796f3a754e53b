"""strace as a tracer: how it is started, and the text that it writes.

It needs no root for one's own processes, and it stops a thread at each system call that it records: it stretches the
windows that it measures.
"""

from __future__ import annotations

import fcntl
import os
import platform
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import CannotTraceError, UsageError
from .preflight import Check
from .text import decoded

CALLS = (
    "rt_sigprocmask",
    "sigaltstack",
    "rt_sigaction",
    "rt_sigreturn",
    "clone",
    "clone3",
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "prctl",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
)
# `?` lets a call pass that the architecture does not have (arm64 has no fork). docs/strace.md tells users the same
# line; a test compares the two.
OPTIONS = ("-f", "-ttt", "-T", "-e", "trace=" + ",".join(f"?{name}" for name in CALLS), "-e", "signal=all")

_PIPE_BYTES = 1 << 20  # F_SETPIPE_SZ; an ordinary user may have this much (pipe(7))
_READ_BYTES = 1 << 18
_ATTACH_S = 5.0
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def checks() -> list[Check]:
    """What strace needs here, and what it costs."""
    if platform.system() != "Linux":
        return [Check("operating system", "missing", f"strace is Linux's, and this is {platform.system()}")]
    found = shutil.which("strace")
    return [
        Check("strace", "fine", found)
        if found
        else Check("strace", "missing", "not installed", "install the package `strace`"),
        _ptrace(),
        Check("windows", "degraded", "strace stops a thread at each call, which stretches what is measured"),
    ]


def _ptrace() -> Check:
    """Whom the kernel lets us trace (Documentation/admin-guide/LSM/Yama.rst)."""
    scope = _YAMA.read_text().strip() if _YAMA.exists() else "0"
    if scope == "3":
        return Check("ptrace", "missing", f"{_YAMA} is 3: nobody may, until the next boot", "boot without that setting")
    if os.geteuid() == 0:
        return Check("ptrace", "fine", "every process")
    if scope == "2":
        return Check("ptrace", "missing", f"{_YAMA} is 2: only root may", "try again with sudo")
    if scope == "1":
        return Check("ptrace", "degraded", f"commands that it runs; {_YAMA} is 1: only root may attach")
    return Check("ptrace", "fine", "one's own processes")


class Tracer:
    """Strace at work on a command or on processes.

    Its log comes through a named pipe, so that the command gets nothing of it: no file descriptor, no standard stream.

    argv: a command to run; or pids: the processes to attach to.
    Raises CannotTraceError where there is no strace, or where it may not trace; UsageError for what can't be run.
    """

    def __init__(self, *, argv: Sequence[str] = (), pids: Sequence[int] = ()) -> None:
        strace = shutil.which("strace")
        if strace is None:
            raise CannotTraceError("strace is not installed: install the package `strace`")
        if argv and shutil.which(argv[0]) is None:
            raise UsageError(f"can't run {argv[0]!r}: no such command")
        self._folder = tempfile.TemporaryDirectory(prefix="sigwindow-")
        self._over = False
        fifo = Path(self._folder.name) / "log"
        os.mkfifo(fifo, 0o600)
        self._log = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # Held until strace has opened its own end, or the log would look finished before it begins.
        self._keeper = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._log, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        target = ["--", *argv] if argv else [word for pid in pids for word in ("-p", str(pid))]
        self._attached = not argv
        self._process = subprocess.Popen(
            ["strace", *OPTIONS, "-q", "-o", str(fifo), *target],
            executable=strace,
            stdin=subprocess.DEVNULL if self._attached else None,
            stdout=subprocess.DEVNULL if self._attached else None,
            stderr=subprocess.PIPE if self._attached else None,
        )
        if self._attached:
            try:
                self._wait_until_attached(pids)
            except CannotTraceError:
                self.close()
                raise

    def _wait_until_attached(self, pids: Sequence[int]) -> None:
        deadline_s = time.monotonic() + _ATTACH_S
        while not all(_is_traced(pid) for pid in pids):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise CannotTraceError(
                    f"strace can't attach: {self._complaint()}. Other users' processes need root; where "
                    "/proc/sys/kernel/yama/ptrace_scope is 1, only `run` is possible without it"
                )
            time.sleep(0.01)

    def _complaint(self) -> str:
        """What strace says on its standard error."""
        self._process.terminate()
        said = self._process.communicate()[1] or b""
        return decoded(said.strip().removeprefix(b"strace: ")) or "it says nothing"

    def read(self, timeout_s: float) -> bytes | None:
        """What strace wrote, empty if nothing came in `timeout_s`, None at the log's end."""
        if self._keeper >= 0 and self._process.poll() is not None:
            self._release()
        ready, _, _ = select.select([self._log], [], [], timeout_s)
        if not ready:
            return b""
        try:
            data = os.read(self._log, _READ_BYTES)
        except BlockingIOError:
            return b""
        if data:
            self._release()
        return data or None

    def _release(self) -> None:
        if self._keeper >= 0:
            os.close(self._keeper)
            self._keeper = -1

    def stop(self) -> None:
        """Let go of all processes; they go on. What strace has written can still be read."""
        if self._process.poll() is None:
            # strace kills the command that it started when it is asked to end, so it isn't asked.
            self._process.send_signal(signal.SIGTERM if self._attached else signal.SIGKILL)

    def close(self) -> None:
        """End strace, if it is still there, and remove the pipe."""
        self.stop()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._release()
        if not self._over:
            os.close(self._log)
            self._over = True
        self._folder.cleanup()


def _is_traced(pid: int) -> bool:
    """Whether a tracer has every thread of a process; a process that has gone waits for nobody."""
    try:
        tasks = [(entry / "status").read_bytes() for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return True
    return not any(b"TracerPid:\t0\n" in status for status in tasks)
