"""The back ends: the one table that `--backend`, `doctor`, refusals and the documents read.

What a back end needs is imported when it is opened.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sigwindow.probes import dtrace, preflight, strace
from sigwindow.probes.errors import UsageError
from sigwindow.probes.preflight import Check

from .session import Ability, Options, Session, Target, wanted

Opened = AbstractContextManager[Session]


@dataclass(frozen=True)
class Backend:
    """One way to record.

    what: in a few words. beginning: what it is doing until a session has begun. cost: what to keep in mind of what it
    records. systems: where it can be, by platform.system(). abilities: what it can do here. checks: what it needs here,
    at least one; with a true argument it is tried out as well, which takes longer. open: begins a session.
    """

    name: str
    what: str
    beginning: str
    cost: str
    systems: tuple[str, ...]
    abilities: Callable[[], frozenset[Ability]]
    checks: Callable[[bool], list[Check]]
    open: Callable[[Target, Options], Opened]


def _bcc(target: Target, options: Options) -> Opened:
    from . import ring_session

    return ring_session.opened(target, options)


def _strace(target: Target, options: Options) -> Opened:
    from .strace import live

    return live.opened(target, options)


def _dtrace(target: Target, options: Options) -> Opened:
    from . import external

    return external.opened(target, options)


_TABLE = (  # the best first
    Backend(
        "bcc",
        what="eBPF",
        beginning="loading the probes",
        cost="",
        systems=("Linux",),
        abilities=lambda: frozenset(Ability),
        checks=lambda trial: preflight.checks(trial=trial),
        open=_bcc,
    ),
    Backend(
        "strace",
        what="strace",
        beginning="starting strace",
        cost="It stops threads at every call, which stretches the windows.",
        systems=("Linux",),
        abilities=lambda: frozenset({Ability.ATTACH, Ability.SEVERAL}),
        checks=lambda _: strace.checks(),
        open=_strace,
    ),
    Backend(
        "dtrace",
        what="DTrace",
        beginning="starting DTrace",
        cost="It does not follow descendants.",
        systems=("Linux", "FreeBSD"),
        abilities=lambda: frozenset({Ability.ATTACH} if dtrace.attaches() else ()),
        checks=lambda _: dtrace.checks(),
        open=_dtrace,
    ),
)
BACKENDS = {backend.name: backend for backend in _TABLE}


def choose(name: str, target: Target, options: Options) -> tuple[Backend, str]:
    """The back end for a target: the one named, or for `auto` the best that can do it and works here.

    Returns it, and what is to be said where a better one does not work here. Raises UsageError where what is asked for
    is not among its abilities, CannotTraceError with what is missing here.
    """
    asked = wanted(target, options)
    if name != "auto":
        backend = BACKENDS[name]
        lacking = [ability.value for ability in Ability if ability in asked - backend.abilities()]
        if lacking:
            others = ", ".join(other.name for other in _TABLE if asked <= other.abilities())
            raise UsageError(f"--backend {name} can't do {' or '.join(lacking)} here. What can: {others or 'none'}")
        preflight.require(backend.checks(False))
        return backend, ""
    refused: list[tuple[Backend, list[Check]]] = []
    for backend in (one for one in _TABLE if platform.system() in one.systems and asked <= one.abilities()):
        found = backend.checks(False)
        if preflight.can_trace(found):
            return backend, _instead_of(*refused[0], backend) if refused else ""
        refused.append((backend, found))
    if not refused:
        raise UsageError(f"no back end can do that on {platform.system()}: `sigwindow doctor` says what they can")
    raise preflight.refusal(refused[0][1])


def _instead_of(better: Backend, found: list[Check], backend: Backend) -> str:
    lacking = next(check for check in found if check.state == "missing")
    return (
        f"no {better.what} here ({lacking.name}: {lacking.detail}): {backend.what} traces instead. {backend.cost} "
        f"`sigwindow doctor` says what {better.what} needs."
    )


def survey() -> list[tuple[Backend, list[Check]]]:
    """Every back end with what it needs here, each tried out where nothing is missing."""
    return [(backend, backend.checks(True)) for backend in _TABLE]
