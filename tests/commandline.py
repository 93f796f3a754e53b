"""The command line, run in the tests' own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from sigwindow import __main__ as process


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Something that runs `sigwindow` with the given arguments."""

    def run(*arguments: object) -> Done:
        return Done(process.run([str(argument) for argument in arguments]), *capsys.readouterr())

    return run
