"""Traces made from Python: a collector in a process of its own, which writes a trace that can be read all the while.

A collector inside this process would be seen by itself, and would need its rights: a process of its own can be root
where sudo asks for no password, and the program that is watched, the notebook's kernel for example, stays what it is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from markupsafe import Markup

from sigwindow.analysis.question import Question
from sigwindow.capture import BEGUN
from sigwindow.collector.command import Command
from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError
from sigwindow.probes.text import printable
from sigwindow.trace import Trace


def attach(
    *pids: int,
    output: str | Path | None = None,
    ready: str = "auto",
    signals: str = "async",
    follow: bool = False,
    stacks: bool = False,
) -> Recording:
    """Trace live processes for as long as a `with` block runs, or until they end.

    pids: their ids, at least one. output: where the trace goes; by default a temporary file that is gone with the
    recording. The other options are those of the command line. Raises, in `with`, CannotTraceError where tracing is not
    allowed and sudo would ask for a password, UsageError for a process that does not exist.

        with sigwindow.attach(pid) as recording:
            time.sleep(5)
        recording.trace.threads
    """
    if not pids:
        raise UsageError("attach needs the PID of a process")
    return Recording(pids=pids, output=output, ready=ready, signals=signals, follow=follow, stacks=stacks)


def run(
    argv: Sequence[str],
    *,
    output: str | Path | None = None,
    ready: str = "auto",
    signals: str = "async",
    follow: bool = True,
    stacks: bool = False,
) -> Recording:
    """Launch a command and trace it from its first instruction; it runs with this process's rights and streams.

    argv: the command and its arguments. The other parameters are those of `attach`. At the end of a `with` block the
    command's end is waited for; `status` is then its exit status.

        with sigwindow.run(["./server", "--once"]) as recording:
            pass
        recording.trace.summary
    """
    return Recording(argv=argv, output=output, ready=ready, signals=signals, follow=follow, stacks=stacks)


class Recording:
    """A trace while it is made: `trace` is what was recorded up to now, `stop()` or the end of `with` ends it."""

    def __init__(
        self,
        *,
        argv: Sequence[str] = (),
        pids: Sequence[int] = (),
        output: str | Path | None,
        ready: str,
        signals: str,
        follow: bool,
        stacks: bool,
    ) -> None:
        self._argv = list(argv)
        self._pids = list(pids)
        self._question = Question.parse(ready, signals)
        self._options = ["--ready", ready, "--signals", signals]
        self._options += ["--follow" if follow else "--no-follow", *(["--stacks"] if stacks else [])]
        self._folder = None if output else tempfile.TemporaryDirectory(prefix="sigwindow-")
        self.path = Path(output) if output else Path(self._folder.name if self._folder else "") / "trace.arrows"
        self._command: Command | None = None
        self._collector: subprocess.Popen[str] | None = None
        self._said: list[str] = []
        self._listener: threading.Thread | None = None
        self._has_begun = False

    @property
    def status(self) -> int | None:
        """The exit status of the command of `run`, 128 + N where signal N ended it; None while it runs."""
        return self._command.status if self._command else None

    @property
    def trace(self) -> Trace:
        """What was recorded up to half a second ago; after the end all of it."""
        return Trace([self.path], self._question, keep=[self._folder])

    def __repr__(self) -> str:
        what = shlex.join(self._argv) or f"process {', '.join(map(str, self._pids))}"
        state = "running" if self._collector else "ended" if self.path.exists() else "not begun"
        return f"<Recording of {printable(what)}: {state}>"

    def _repr_html_(self) -> str:
        """What is recorded, whether it still is, and what the trace says so far."""
        head = Markup("<p>{}</p>").format(repr(self)[1:-1])
        with suppress(InputError):  # nothing was written yet
            return head + Markup(self.trace._repr_html_())
        return head

    def start(self) -> Recording:
        """Begin; returns once nothing is missed any more."""
        if self._argv:
            self._command = Command(self._argv)
            self._pids = [self._command.pid]
        try:
            self._start_collector()
            if self._command:
                self._command.release()
        except BaseException:
            self._end_collector()
            if self._command:
                self._command.close()
            raise
        return self

    def stop(self) -> None:
        """Wait for the command of `run` to end, or leave the processes of `attach` alone, and finish the trace."""
        if self._command:
            self._command.wait()
        code = self._end_collector()
        if code:
            raise SigwindowError(self._error() or f"the collector ended with {code}")

    def __enter__(self) -> Recording:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and self._command:
            self._end_collector()  # the block failed: do not wait for the command's end
        else:
            self.stop()

    def _start_collector(self) -> None:
        """Start it as we are; where that is not allowed, as root by a sudo that asks for nothing."""
        attach = [sys.executable, "-m", "sigwindow", "attach", *map(str, self._pids), "-o", str(self.path)]
        attach += [*self._options, "--until-eof", "--no-live", "--backend", "bcc"]
        if self._begins(attach):
            return
        refused = self._error()
        code = self._end_collector()
        if code != CannotTraceError.exit_code:
            raise (UsageError if code == UsageError.exit_code else SigwindowError)(refused)
        if os.geteuid() == 0 or not _sudo_asks_for_nothing():
            hint = "\nOr let sudo ask for no password: the collector alone would be root." if os.geteuid() else ""
            raise CannotTraceError(refused + hint)
        if not self._begins(["sudo", "-n", *attach]):
            refused = self._error()
            self._end_collector()
            raise CannotTraceError(refused)

    def _begins(self, argv: list[str]) -> bool:
        """Start a collector and listen until it traces; False if it ends before."""
        self._said = []
        # Its own session: Ctrl-C in a terminal or a notebook's interrupt is for us, who then end it in order.
        self._collector = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        # The listener is there before the collector looks: watching ourselves, it would count as one of our threads.
        told = threading.Event()
        self._has_begun = False
        self._listener = threading.Thread(target=self._listen, args=(self._collector.stderr, told), daemon=True)
        self._listener.start()
        told.wait()
        return self._has_begun

    def _listen(self, stderr: IO[str], told: threading.Event) -> None:
        """Keep what the collector says, and tell when it traces or has ended."""
        for line in stderr:
            if line.startswith(BEGUN):
                self._has_begun = True
                told.set()
            else:
                self._said.append(line)
        told.set()

    def _end_collector(self) -> int:
        """Close the collector's standard input, which ends it, and wait. Returns its exit code."""
        collector, self._collector = self._collector, None
        if collector is None:
            return 0
        if collector.stdin:
            collector.stdin.close()
        code = collector.wait()
        if self._listener:
            self._listener.join()
        if collector.stderr:
            collector.stderr.close()
        return code

    def _error(self) -> str:
        return "".join(self._said).strip().removeprefix("sigwindow: ")


def _sudo_asks_for_nothing() -> bool:
    if not shutil.which("sudo"):
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
