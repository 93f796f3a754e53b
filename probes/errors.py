"""The exceptions of sigwindow; each class carries the exit code that the command line ends with.

    SigwindowError            1
     ├── UsageError           2   the request makes no sense: a name, an option, a missing PID
     ├── CannotTraceError     3   tracing is not possible here; the message says what to type
     └── InputError           4   a trace that is unreadable, or too lossy to answer from

A failed gate (``--fail-on``) is a result, not an exception: the command ends with exit code 1.
"""


class SigwindowError(Exception):
    """Base of every error that sigwindow raises on purpose: what happened, and what to do next."""

    exit_code = 1


class UsageError(SigwindowError):
    """The request itself is wrong: an unknown signal, a process that does not exist."""

    exit_code = 2


class CannotTraceError(SigwindowError):
    """The machine, or the user's rights on it, do not allow tracing."""

    exit_code = 3


class InputError(SigwindowError):
    """A trace can't be read, is not a trace, or lost too much to be trusted."""

    exit_code = 4


class OrderError(InputError):
    """Events came in another order than that of time."""
