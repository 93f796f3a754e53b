"""What `run` and `attach` show while they record: the engine's own counts, drawn when the recording leaves time for it.

On a terminal `attach` takes the whole screen, the alternate one, and gives it back. `run` shares the terminal with its
command: it keeps to the lowest rows, what the command writes scrolls above them, and while the command reads single
keys, as editors and pagers do, nothing is drawn. Into a file or a pipe goes a line every half minute.

Nothing here reads the keyboard or changes the terminal's mode. Drawing waits while the ring buffer fills, and takes a
tenth of the time at most.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np
from rich.console import Console
from rich.screen import Screen

from sigwindow.analysis.engine.judged import Judged, policy_of
from sigwindow.analysis.engine.records import Array
from sigwindow.analysis.engine.store import Part, Store
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.tables import VERDICTS
from sigwindow.probes.text import ENCODABLE
from sigwindow.terminal import render

INTERVAL_S = 0.25  # between two drawings, at least
LINE_INTERVAL_S = 30.0
_SHARE = 0.1  # of the time, at most, goes into drawing
_FULL = 0.1  # of the ring: beyond it recording goes first
_KEPT = 40  # threads kept for either list
_MOST_ROWS = 200  # processes in a glance
_RATE_GLANCES = 8  # rates are over so many glances
_SCROLL_ALL = "\x1b7\x1b[r\x1b8"  # DECSTBM moves the cursor
_PATIENCE_S = 0.75  # what ends sooner is not shown
_NO_LOSSES = (np.empty(0, np.int64), np.empty(0, np.int64))


class Process(NamedTuple):
    """A process in which threads were born, in numbers of threads."""

    comm: str
    pid: int
    born: int
    open: int  # living and not ready
    exposed: int
    hit: int
    critical: int
    exposure_ns: int


class Thread(NamedTuple):
    """A thread that was exposed, up to now."""

    comm: str
    tid: int
    verdict: str
    exposure_ns: int
    signals: int  # set word
    ready: bool


class Glance(NamedTuple):
    """Everything that is shown at one moment. fill: of the ring, from 0 to 1; lost: events."""

    elapsed_s: float
    events: int
    events_per_s: float
    births_per_s: float
    lost: int
    fill: float
    verdicts: dict[str, int]
    open: int
    processes: list[Process]  # the most exposed first
    longest: list[Thread]  # as the summary ranks them
    latest: list[Thread]  # the last born first

    @property
    def births(self) -> int:
        """How many threads were born so far."""
        return sum(self.verdicts.values())


class Source(Protocol):
    """What a view needs of a session."""

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""

    def lost(self) -> int:
        """How many events were lost so far."""


class _Row(NamedTuple):
    """An exposed thread as it was counted; sorts as the summary ranks threads."""

    critical: int  # negative, as the next two
    hits: int
    exposure_ns: int
    born_ns: int
    pid: int
    tid: int
    process: int
    comm: int
    policy: int
    verdict: int
    signals: int
    ready: bool


class _CountingStore(Store):
    """A store that shows each part once to whoever counts."""

    def __init__(self, count: Callable[[Part], None]) -> None:
        super().__init__()
        self._count = count

    def add(self, part: Part) -> None:
        """Put a part aside."""
        self._count(part)
        super().add(part)


class LiveWindows(Windows):
    """Windows with counts that are always at hand: a life is counted when it ends, the living at every glance.

    So a glance takes the same time however many threads have ended. Which policy `auto` means for a process may change
    while it runs: ended lives are counted under both. Uncertainty is left to the summary.
    """

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self._ended_lives = _CountingStore(self._count)
        self._counts = {policy: _no_counts(0) for policy in self.policies}
        self._longest: list[_Row] = []
        self._latest: list[_Row] = []
        self._past = deque([(0.0, 0, 0)], _RATE_GLANCES)  # time, events, births

    def glance(self, elapsed_s: float, source: Source) -> Glance:
        """What there is to show now, so long after the begin."""
        now = self._lives.at(self._end_ns)
        processes, living = now.processes, now.taken()[0]
        policies = policy_of(processes, self.policies)
        counts = np.select(
            [policies[:, None] == policy for policy in self.policies],
            [_grown(self._counts[policy], len(processes)) for policy in self.policies],
        )
        opened = np.zeros(len(processes), np.int64)
        longest, latest = self._longest, self._latest
        for part in living:
            judged = self._judged(part, policies[part.lives["process"]])
            _count_into(counts, judged)
            unready = ~judged.ready & ~part.lives["exited"] & (part.lives["end_ns"] == self._end_ns)
            opened += np.bincount(part.lives["process"][unready], minlength=len(opened))
            longest, latest = self._ranked(judged, longest, latest)
        words = self._comms.words()
        births = int(counts[:, :-1].sum())
        self._past.append((elapsed_s, self._events, births))
        then_s, events_then, births_then = self._past[0]
        over_s = max(elapsed_s - then_s, 1e-9)
        return Glance(
            elapsed_s,
            self._events,
            (self._events - events_then) / over_s,
            (births - births_then) / over_s,
            source.lost(),
            source.fill(),
            dict(zip(VERDICTS, counts[:, :-1].sum(axis=0).tolist(), strict=True)),
            int(opened.sum()),
            _processes(processes, counts, opened, words),
            [_thread(row, words) for row in longest if row.policy == policies[row.process]],
            [_thread(row, words) for row in latest if row.policy == policies[row.process]],
        )

    def _judged(self, part: Part, policy: Array) -> Judged:
        return Judged(part, policy, self._considered, _NO_LOSSES)

    def _count(self, part: Part) -> None:
        """Count lives that have ended."""
        process = part.lives["process"]
        for policy in self.policies:
            counts = self._counts[policy] = _grown(self._counts[policy], int(process.max()) + 1)
            _count_into(counts, self._judged(part, np.full(len(process), policy)))
        judged = self._judged(part, policy_of(self._lives.processes, self.policies)[process])
        self._longest, self._latest = self._ranked(judged, self._longest, self._latest)

    def _ranked(self, judged: Judged, longest: list[_Row], latest: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Both lists of exposed threads with those of some more lives."""
        exposed = np.flatnonzero(judged.verdict >= VERDICTS.index("exposed"))
        last = exposed[np.argsort(judged.lives["born_ns"][exposed], kind="stable")[-_KEPT:]]
        longest = sorted([*longest, *self._rows(judged, judged.worst(_KEPT))])[:_KEPT]
        latest = sorted([*latest, *self._rows(judged, last)], key=lambda row: -row.born_ns)[:_KEPT]
        return longest, latest

    def _rows(self, judged: Judged, places: Array) -> Iterator[_Row]:
        lives = judged.lives[places]
        return map(
            _Row._make,
            zip(
                (-judged.critical[places]).tolist(),
                (-judged.hits[places]).tolist(),
                (-judged.exposure_ns[places]).tolist(),
                *(lives[name].tolist() for name in ("born_ns", "pid", "tid", "process", "comm")),
                judged.policy[places].tolist(),
                judged.verdict[places].tolist(),
                (judged.exposed[places] & self._considered).tolist(),
                judged.ready[places].tolist(),
                strict=True,
            ),
        )


def _no_counts(processes: int) -> Array:
    """A row a process: its threads by verdict, then the exposure of those that were ready, in ns."""
    return np.zeros((processes, len(VERDICTS) + 1), np.int64)


def _grown(counts: Array, processes: int) -> Array:
    return np.concatenate([counts, _no_counts(max(processes - len(counts), 0))])


def _count_into(counts: Array, judged: Judged) -> None:
    process = judged.lives["process"]
    np.add.at(counts, (process, judged.verdict), 1)
    np.add.at(counts[:, -1], process[judged.ready], judged.exposure_ns[judged.ready])


def _processes(processes: Array, counts: Array, opened: Array, words: Sequence[str]) -> list[Process]:
    """The processes in which threads were born, the most exposed first."""
    found = np.flatnonzero(counts[:, :-1].any(axis=1))
    found = found[np.argsort(-counts[found, -1], kind="stable")[:_MOST_ROWS]]
    shown = []
    for place in found.tolist():
        comm, (*verdicts, exposure_ns) = int(processes["comm"][place]), counts[place].tolist()
        named = {verdict: verdicts[VERDICTS.index(verdict)] for verdict in ("exposed", "hit", "critical")}
        shown.append(
            Process(
                comm=words[comm] if comm > 0 else "?",
                pid=int(processes["pid"][place]),
                born=sum(verdicts),
                open=int(opened[place]),
                exposure_ns=exposure_ns,
                **named,
            )
        )
    return shown


def _thread(row: _Row, words: Sequence[str]) -> Thread:
    return Thread(words[row.comm], row.tid, VERDICTS[row.verdict], -row.exposure_ns, row.signals, row.ready)


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
                print(render.live_line(windows.glance(elapsed_s, source)), file=self._stream, flush=True)


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

    def on_stop(self, number: int, frame: FrameType | None) -> None:
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


def frame(glance: Glance, columns: int, rows: int, colours: Any = None) -> list[str]:
    """What is shown, as exactly `rows` lines of exactly `columns` cells. colours: a color_system of Rich."""
    console = Console(
        file=io.StringIO(),
        width=columns,
        height=rows,
        force_terminal=True,
        color_system=colours,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(Screen(render.live(glance, columns, rows)), end="")
    return capture.get().split("\n")


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
