"""sigwindow: how long is a new thread exposed to signals before it is ready for them?

    >>> import sigwindow
    >>> trace = sigwindow.read("notebooks/traces/newosproc-broken.arrows")
    >>> trace
    <Trace of 199 threads born, of them 193 critical, 6 exposed.>
    >>> bool(trace.threads["setup_ns"].median() > 5_000_000)
    True

`read` opens trace files, `run` and `attach` make them, and a `Trace` has the tables, statistics and figures.
Names are loaded when they are first used: a program that only wants one pays for no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError

if TYPE_CHECKING:
    from sigwindow.magic import load_ipython_extension
    from sigwindow.recording import Recording, attach, run
    from sigwindow.trace import Trace, read

__all__ = [
    "CannotTraceError",
    "InputError",
    "Recording",
    "SigwindowError",
    "Trace",
    "UsageError",
    "attach",
    "load_ipython_extension",
    "read",
    "run",
]

_HOMES = {
    "Recording": "recording",
    "attach": "recording",
    "run": "recording",
    "Trace": "trace",
    "read": "trace",
    "load_ipython_extension": "magic",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("sigwindow")
    if name in _HOMES:
        return getattr(import_module(f"sigwindow.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sigwindow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
