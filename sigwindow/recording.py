"""Traces made from Python: a collector in a process of its own, which writes a trace that can be read all the while.

A collector inside this process would be seen by itself, and would need its rights: a process of its own can be root
where sudo asks for no password, and the program that is watched, the notebook's kernel for example, stays what it is.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from markupsafe import Markup

from sigwindow.analysis.question import Question
from sigwindow.collector.backends import BACKENDS
from sigwindow.collector.command import Command
from sigwindow.control import error_of, heard
from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError
from sigwindow.probes.text import printable
from sigwindow.trace import Trace


def attach(
    *pids: int,
    output: str | Path | None = None,
    force: bool = False,
    ready: str = "auto",
    signals: str = "async",
    follow: bool = False,
    stacks: bool = False,
) -> Recording:
    """Trace live processes for as long as a `with` block runs, or until they end.

    pids: their ids, at least one. output: where the trace goes; by default a temporary file that is gone with the
    recording. force: the output may exist. The other options are those of the command line. Raises, in `with`,
    CannotTraceError where tracing is not allowed and sudo would ask for a password, UsageError for a process that does
    not exist.

        with sigwindow.attach(pid) as recording:
            time.sleep(5)
        recording.trace.threads
    """
    if not pids:
        raise UsageError("attach needs the PID of a process")
    return Recording(pids=pids, output=output, force=force, ready=ready, signals=signals, follow=follow, stacks=stacks)


def run(
    argv: Sequence[str],
    *,
    output: str | Path | None = None,
    force: bool = False,
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
    return Recording(argv=argv, output=output, force=force, ready=ready, signals=signals, follow=follow, stacks=stacks)


class Recording:
    """A trace while it is made: `trace` is what was recorded up to now, `stop()` or the end of `with` ends it."""

    def __init__(
        self,
        *,
        argv: Sequence[str] = (),
        pids: Sequence[int] = (),
        output: str | Path | None,
        force: bool,
        ready: str,
        signals: str,
        follow: bool,
        stacks: bool,
    ) -> None:
        self._argv = list(argv)
        self._pids = list(pids)
        self._question = Question.parse(ready, signals)
        self._options = ["--ready", ready, "--signals", signals]
        self._options += ["--follow" if follow else "--no-follow", *["--stacks"] * stacks, *["--force"] * force]
        self._folder = None if output else tempfile.TemporaryDirectory(prefix="sigwindow-")
        self.path = Path(output) if output else Path(self._folder.name if self._folder else "") / "trace.arrows"
        self._command: Command | None = None
        self._collector: subprocess.Popen[str] | None = None
        self._listeners: list[threading.Thread] = []
        self._told: dict[str, Any] = {}  # the last line of its status
        self._said = ""  # its standard error

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
        state = "running" if self._collector else self._told.get("status", "not begun")
        return f"<Recording of {printable(what)}: {state}>"

    def _repr_html_(self) -> str:
        """What is recorded, whether it still is, and what the trace says so far."""
        head = Markup("<p>{}</p>").format(repr(self)[1:-1])
        if not self._told:  # a file that is there is not ours
            return head
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
        if self._collector:
            self._end_collector()
            if error := self._error():
                raise error

    def __enter__(self) -> Recording:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and self._command:
            self._end_collector()  # the block failed: do not wait for the command's end
        else:
            self.stop()

    def _start_collector(self) -> None:
        """Start it as we are, or as root by a sudo that asks for nothing; the best back end before any other."""
        best = next((name for name, backend in BACKENDS.items() if platform.system() in backend.systems), "auto")
        for backend, sudo in ((best, []), (best, ["sudo", "-n"]), ("auto", [])):
            if sudo and (os.geteuid() == 0 or not _sudo_asks_for_nothing()):
                continue
            error = self._refusal(backend, sudo)
            if not isinstance(error, CannotTraceError):
                break
        if isinstance(error, CannotTraceError) and os.geteuid():
            error = CannotTraceError(f"{error}\nOr let sudo ask for no password: the collector alone would be root.")
        if error:
            raise error
        if self._told["backend"] != best:
            used = BACKENDS[self._told["backend"]]
            warnings.warn(f"no {BACKENDS[best].what} here: {used.what} traces instead. {used.cost}", stacklevel=4)

    def _refusal(self, backend: str, sudo: list[str]) -> SigwindowError | None:
        """Start a collector and listen until it traces; the error if it does not come to that."""
        argv = [*sudo, sys.executable, "-m", "sigwindow", "attach", *map(str, self._pids), "-o", str(self.path)]
        argv += [*self._options, "--until-eof", "--backend", backend, "--status-fd", "1"]
        # Its own session: Ctrl-C in a terminal or a notebook's interrupt is for us, who then end it in order.
        self._collector = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        # The listeners are there before the collector looks: watching ourselves, they would count as our threads.
        self._told, self._said = {}, ""
        begun = threading.Event()
        self._listeners = [
            threading.Thread(target=self._listen, args=(self._collector.stdout, begun), daemon=True),
            threading.Thread(target=self._overhear, args=(self._collector.stderr,), daemon=True),
        ]
        for listener in self._listeners:
            listener.start()
        begun.wait()
        if self._told.get("status") == "started":
            return None
        self._end_collector()
        return self._error()

    def _listen(self, stdout: IO[str], begun: threading.Event) -> None:
        """Keep the last thing that the collector told, and tell when it traces or has ended."""
        for told in heard(stdout):
            self._told = told
            begun.set()
        begun.set()

    def _overhear(self, stderr: IO[str]) -> None:
        self._said = stderr.read()

    def _end_collector(self) -> None:
        """Close the collector's standard input, which ends it, and wait."""
        collector, self._collector = self._collector, None
        if collector is None:
            return
        assert collector.stdin
        collector.stdin.close()
        collector.wait()
        for listener in self._listeners:
            listener.join()
        for stream in (collector.stdout, collector.stderr):
            assert stream
            stream.close()

    def _error(self) -> SigwindowError | None:
        """What went wrong in a collector that has ended."""
        if self._told.get("status") not in ("refused", "ended"):  # it had no time to say
            return SigwindowError(self._said.strip() or "the collector died")
        return error_of(self._told) if self._told["code"] else None


def _sudo_asks_for_nothing() -> bool:
    if not shutil.which("sudo"):
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
