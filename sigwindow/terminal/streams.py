"""Which stream says what, and in which characters.

Standard output has the answer: what a person reads; or what a program does, JSON and CSV, and then nothing else.
Standard error has all the rest: hints, progress, errors, and the answer in words where standard output is taken.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from sigwindow.probes.text import ENCODABLE, printable

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Streams:
    """The two streams of one command.

    taken: a program reads standard output, or the command that is traced writes there. quiet: standard error has
    errors only.
    """

    taken: bool = False
    quiet: bool = False

    def show(self, told: RenderableType) -> None:
        """Tell the answer in words."""
        if not self.taken:
            write(_drawn(told, sys.stdout))
        elif not self.quiet:
            with suppress(OSError):
                sys.stderr.write(_drawn(told, sys.stderr))

    def hint(self, text: str) -> None:
        """Say something beside the answer, in a sentence."""
        if not self.quiet:
            _say(f"[sigwindow] {printable(text)}")


def _drawn(told: RenderableType, stream: TextIO) -> str:
    """What a stream is told, drawn for it. Rich would end the process where the stream's reader has left."""
    from sigwindow.terminal import draw

    console = draw.console(stream)
    with console.capture() as drawn:
        console.print(told)
    return drawn.get()


def error(text: str) -> None:
    """Say what is wrong: the one style of all errors."""
    _say(f"sigwindow: {text}")


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be there to hear it; what is done is done all the same
        print(text, file=sys.stderr, flush=True)


@contextmanager
def answering() -> Iterator[None]:
    """Write to standard output within the block; where its reader has seen enough, the rest goes nowhere."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _leave()


def write(text: str) -> None:
    """Write a text to standard output."""
    with answering():
        sys.stdout.write(text)


def binary() -> BinaryIO:
    """Standard output for bytes that a program reads."""
    return io.BufferedWriter(_Bytes())


class _Bytes(io.RawIOBase):
    """Standard output, below its encoding."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Pass bytes on."""
        with answering():
            sys.stdout.buffer.write(data)
        return len(data)


def _leave() -> None:
    """Write nothing more to standard output, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def kept_clear() -> Iterator[None]:
    """Within the block, what children write to standard output goes to standard error."""
    sys.stdout.flush()
    ours = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


def prepare() -> None:
    """Make the streams of this process take any text: what their encoding lacks is spelled otherwise.

    A stream that was closed leads nowhere. Under the locale C, chosen by LC_ALL, text is ASCII: Python would write
    UTF-8.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process lives
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="ascii" if _only_ascii() else None, errors=ENCODABLE)


def _only_ascii() -> bool:
    asked = any(os.environ.get(name) for name in ("PYTHONIOENCODING", "PYTHONUTF8"))
    return os.environ.get("LC_ALL") in ("C", "POSIX") and not asked
