"""A command that waits behind a pipe until the probes are in, and only then becomes what was asked for.

No ptrace: the command keeps its mask, environment, standard streams and process group as they would be without us.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from sigwindow.probes.errors import UsageError


class Command:
    """A child process behind the gate.

    argv: the command and its arguments, found by PATH as a shell would.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.status: int | None = None
        gate_read, self._gate = os.pipe()
        self._failure, failure_write = os.pipe()  # close-on-exec: end of file says that exec went well
        with warnings.catch_warnings():
            # Python 3.12 warns of fork in a process with threads; the child below calls nothing but the kernel.
            warnings.simplefilter("ignore", DeprecationWarning)
            sys.stdout.flush()
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)  # or the gate would never close when the parent dies
            self._become(gate_read, failure_write)
        os.close(gate_read)
        os.close(failure_write)

    def _become(self, gate: int, failure: int) -> NoReturn:
        try:
            for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and ignoring survives exec
                signal.signal(getattr(signal, name), signal.SIG_DFL)
            if os.read(gate, 1):
                os.execvp(self.argv[0], self.argv)
        except OSError as error:
            os.write(failure, str(error.errno).encode())
        finally:
            os._exit(127)

    def release(self) -> None:
        """Open the gate and wait for the exec.

        Raises UsageError where the command can't be executed.
        """
        os.write(self._gate, b"\n")
        os.close(self._gate)
        self._gate = -1
        failure = os.read(self._failure, 16)
        os.close(self._failure)
        if failure:
            self.wait()
            reason = os.strerror(int(failure)) if int(failure) != errno.ENOENT else "no such command"
            raise UsageError(f"can't run {self.argv[0]!r}: {reason}")

    def poll(self) -> bool:
        """Whether the command has ended; `status` is then its exit status, 128 + N where signal N ended it."""
        if self.status is None:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._take(raw)
        return self.status is not None

    def wait(self) -> None:
        """Wait for the command's end."""
        if self.status is None:
            self._take(os.waitpid(self.pid, 0)[1])

    def _take(self, raw: int) -> None:
        code = os.waitstatus_to_exitcode(raw)
        self.status = code if code >= 0 else 128 - code

    def close(self) -> None:
        """Give up a command that was not released: it ends without having run."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1
            self.wait()
