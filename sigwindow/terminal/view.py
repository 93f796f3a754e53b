"""What `run` and `attach` show while they record: the engine's own counts, drawn when the recording leaves time for it.

On a terminal `attach` takes the whole screen, the alternate one, and gives it back. `run` shares the terminal with its
command: it keeps to the lowest rows, what the command writes scrolls above them, and while the command reads single
keys, as editors and pagers do, nothing is drawn. Into a file or a pipe goes a line every half minute.

Nothing here reads the keyboard or changes the terminal's mode. Drawing waits while the ring buffer fills, and takes a
tenth of the time at most.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol, TextIO

from rich.console import Console

from sigwindow.analysis.engine.glance import Glance, LiveWindows, Source
from sigwindow.probes.text import ENCODABLE
from sigwindow.terminal.frame import frame, line

INTERVAL_S = 0.25  # between two drawings, at least
LINE_INTERVAL_S = 30.0
_SHARE = 0.1  # of the time, at most, goes into drawing
_FULL = 0.1  # of the ring: beyond it recording goes first
_SCROLL_ALL = "\x1b7\x1b[r\x1b8"  # DECSTBM moves the cursor
_PATIENCE_S = 0.75  # what ends sooner is not shown


class View(Protocol):
    """Something that shows glances."""

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Called after every batch; draws when it is time to, and not while the ring fills."""


class _Budget:
    """When to draw: every `interval_s`, or so rarely that it takes a tenth of the time at most."""

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._begin_s = clock()
        self._next_s = self._begin_s + max(interval_s, _PATIENCE_S)

    def allows(self, source: Source) -> bool:
        """Whether it is time, and nothing more urgent waits."""
        return self._clock() >= self._next_s and source.fill() <= _FULL

    @contextmanager
    def spend(self) -> Iterator[float]:
        """Draw within the block; yields the time since the begin, in seconds."""
        start_s = self._clock()
        yield start_s - self._begin_s
        self._next_s = start_s + max(self._interval_s, (self._clock() - start_s) / _SHARE)


class Lines:
    """A line now and then, for a log.

    stream: where to; clock: seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._budget = _Budget(LINE_INTERVAL_S, clock)

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Write a line when half a minute has gone by."""
        if self._budget.allows(source):
            with self._budget.spend() as elapsed_s, suppress(OSError):  # the reader may be gone; the recording goes on
                print(line(windows.glance(elapsed_s, source)), file=self._stream, flush=True)


class Terminal:
    """A table on a terminal, which is as it was once `close` was called.

    stream: the terminal; shared: a command writes to it, too; clock: seconds.
    """

    def __init__(self, stream: TextIO, *, shared: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd, self._encoding = stream.fileno(), stream.encoding
        self._shared = shared
        self._colours = Console(file=stream).color_system
        self._budget = _Budget(INTERVAL_S, clock)
        self._size: os.terminal_size | None = None  # for which the screen is set up; None: it is as it was
        self._stops = False
        self._gone = False

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Draw when it is time to; never again once the terminal is gone."""
        if self._gone:
            return
        try:
            if self._stops:
                self._stop()
            if not termios.tcgetattr(self._fd)[3] & termios.ICANON:
                self._make_way()
            elif self._budget.allows(source) and self._takes_output():
                with self._budget.spend() as elapsed_s:
                    self._draw(windows.glance(elapsed_s, source))
        except (OSError, termios.error):  # the recording goes on
            self._gone = True

    def close(self) -> None:
        """Give the terminal back."""
        if self._size and not self._gone:
            with suppress(OSError):
                self._write(_unpin() if self._shared else "\x1b[?25h\x1b[?1049l")
        self._size = None

    def on_stop(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of SIGTSTP (Ctrl-Z): the next `show` stops this process."""
        self._stops = True

    def _stop(self) -> None:
        """Stop with the terminal as it was; the first drawing afterwards takes it again."""
        self._stops = False
        self.close()
        ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, ours)

    def _make_way(self) -> None:
        """Somebody reads single keys, our command or what our output goes to: the whole screen is theirs."""
        if self._shared and self._size:
            self._write(_SCROLL_ALL)
            self._size = None

    def _draw(self, glance: Glance) -> None:
        """One frame in one write: the kernel lets no other writer's text in between."""
        size = os.get_terminal_size(self._fd)
        if not all(size):  # a serial line does not know
            size = os.terminal_size((80, 24))
        rows = _shared_rows(size.lines) if self._shared else size.lines
        begin = ""
        if size != self._size:
            if self._shared:
                begin = (_unpin() if self._size else "") + _pin(size.lines, rows)
            elif not self._size:
                begin = "\x1b[?1049h\x1b[?25l"
            self._size = size
        top = size.lines - rows + 1
        lines = frame(glance, size.columns, rows, self._colours)
        drawn = "".join(f"\x1b[{top + row};1H{line}" for row, line in enumerate(lines))
        # Without wrapping (DECAWM): the terminal may be narrower already than the kernel tells.
        self._write(f"{begin}\x1b7\x1b[?7l{drawn}\x1b[?7h\x1b8")

    def _takes_output(self) -> bool:
        """Whether a write would not wait (as it does after Ctrl-S), and we are in the foreground."""
        _, writable, _ = select.select([], [self._fd], [], 0)
        try:
            return bool(writable) and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # it is not the terminal that controls us: nobody else is in its foreground
            return bool(writable)

    def _write(self, text: str) -> None:
        left = text.encode(self._encoding, ENCODABLE)
        while left:
            left = left[os.write(self._fd, left) :]


def _shared_rows(lines: int) -> int:
    """How many rows of a terminal that is shared are ours: a third, or what is worth it, but at most half."""
    return min(max(lines // 3, 8), lines // 2)


def _pin(lines: int, rows: int) -> str:
    """Make room for `rows` below what is there, and let only the rest scroll (DECSTBM, which moves the cursor)."""
    return "\n" * rows + f"\x1b[{rows}A\x1b7\x1b[1;{lines - rows}r\x1b8"


def _unpin() -> str:
    """Let the whole screen scroll, and clear what is below the cursor: the table."""
    return _SCROLL_ALL + "\x1b[J"


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def view(*, of_command: bool) -> Iterator[View]:
    """What fits the streams of this process, until the end of the block.

    of_command: a command runs that shares our streams: its standard output is not ours to write to.
    """
    streams = (sys.stderr,) if of_command else (sys.stdout, sys.stderr)
    terminal = next((stream for stream in streams if _is_terminal(stream)), None)
    if terminal is None:
        yield Lines(sys.stderr)
        return
    shown = Terminal(terminal, shared=of_command)
    previous = signal.getsignal(signal.SIGTSTP)
    if previous != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, shown.on_stop)
    try:
        yield shown
    finally:
        signal.signal(signal.SIGTSTP, previous)
        shown.close()
