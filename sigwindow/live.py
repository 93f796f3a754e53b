"""What `run` and `attach` show while they record: the engine's own counts, drawn when the recording leaves time for it.

On a terminal `attach` takes the whole screen, the alternate one, and gives it back. `run` shares the terminal with its
command, so it keeps to the lowest rows and lets what the command writes scroll above them, and where the command's
standard output is that terminal it shows nothing unless asked. Into a file or a pipe goes a line every half minute.

Nothing here reads the keyboard or changes the terminal's mode. Drawing waits while the ring buffer fills, and takes a
tenth of the time at most.
"""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.screen import Screen

from sigwindow import render
from sigwindow.analysis.lives import POLICIES, Part
from sigwindow.analysis.totals import VERDICTS
from sigwindow.analysis.windows import Windows, _Judged, _Store, policy_of

Array = NDArray[Any]

INTERVAL_S = 0.25  # between two drawings, at least
LINE_INTERVAL_S = 30.0
_SHARE = 0.1  # of the time, at most, goes into drawing
_FULL = 0.1  # of the ring: beyond it recording goes first
_KEPT = 40  # threads kept for either list: more than a screen has rows
_RATE_GLANCES = 8  # rates are over so many glances
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


class _CountingStore(_Store):
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

    def __init__(self, signals: str, ready: str) -> None:
        super().__init__(signals)
        self._ended_lives = _CountingStore(self._count)
        policy = policy_of(ready)
        self._policies = [POLICIES.index(p) for p in (("altstack", "steady") if policy == "auto" else (policy,))]
        self._counts = {policy: _no_counts(0) for policy in self._policies}
        self._longest: list[_Row] = []
        self._latest: list[_Row] = []
        self._start_s: float | None = None
        self._past: deque[tuple[float, int, int]] = deque(maxlen=_RATE_GLANCES)  # time, events, births

    def glance(self, now_s: float, source: Source) -> Glance:
        """What there is to show now, by the clock of whoever draws it; the first glance starts the count of time."""
        now = self._lives.at(self._end_ns)
        processes, living = now.processes, now.taken()[0]
        policies = self._policy(processes)
        counts = np.select(
            [policies[:, None] == policy for policy in self._policies],
            [_grown(self._counts[policy], len(processes)) for policy in self._policies],
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
        self._past.append((now_s, self._events, births))
        then_s, events_then, births_then = self._past[0]
        over_s = max(now_s - then_s, 1e-9)
        if self._start_s is None:
            self._start_s = now_s
        return Glance(
            now_s - self._start_s,
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

    def _policy(self, processes: Array) -> Array:
        """The policy that counts for each process by what is known now."""
        if len(self._policies) == 1:
            return np.full(len(processes), self._policies[0])
        return np.where(processes["installs"], *self._policies)

    def _judged(self, part: Part, policy: Array) -> _Judged:
        return _Judged(part, policy, self._considered, _NO_LOSSES)

    def _count(self, part: Part) -> None:
        """Count lives that have ended."""
        process = part.lives["process"]
        for policy in self._policies:
            counts = self._counts[policy] = _grown(self._counts[policy], int(process.max()) + 1)
            _count_into(counts, self._judged(part, np.full(len(process), policy)))
        judged = self._judged(part, self._policy(self._lives.processes)[process])
        self._longest, self._latest = self._ranked(judged, self._longest, self._latest)

    def _ranked(self, judged: _Judged, longest: list[_Row], latest: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Both lists of exposed threads with those of some more lives."""
        exposed = np.flatnonzero(judged.verdict >= VERDICTS.index("exposed"))
        last = exposed[np.argsort(judged.lives["born_ns"][exposed], kind="stable")[-_KEPT:]]
        longest = sorted([*longest, *self._rows(judged, judged.worst(_KEPT))])[:_KEPT]
        latest = sorted([*latest, *self._rows(judged, last)], key=lambda row: -row.born_ns)[:_KEPT]
        return longest, latest

    def _rows(self, judged: _Judged, places: Array) -> Iterator[_Row]:
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


def _count_into(counts: Array, judged: _Judged) -> None:
    process = judged.lives["process"]
    np.add.at(counts, (process, judged.verdict), 1)
    np.add.at(counts, (process[judged.ready], -1), judged.exposure_ns[judged.ready])


def _processes(processes: Array, counts: Array, opened: Array, words: Sequence[str]) -> list[Process]:
    """The processes in which threads were born, the most exposed first."""
    found = np.flatnonzero(counts[:, :-1].any(axis=1))
    found = found[np.argsort(-counts[found, -1], kind="stable")]
    return [
        Process(
            words[comm] if comm > 0 else "?",
            pid,
            int(numbers[:-1].sum()),
            still_open,
            *(int(numbers[VERDICTS.index(verdict)]) for verdict in ("exposed", "hit", "critical")),
            exposure_ns=int(numbers[-1]),
        )
        for comm, pid, numbers, still_open in zip(
            processes["comm"][found].tolist(),
            processes["pid"][found].tolist(),
            counts[found],
            opened[found].tolist(),
            strict=True,
        )
    ]


def _thread(row: _Row, words: Sequence[str]) -> Thread:
    return Thread(words[row.comm], row.tid, VERDICTS[row.verdict], -row.exposure_ns, row.signals, row.ready)


class View(Protocol):
    """Something that shows glances."""

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Called after every batch; draws when it is time to, and not while the ring fills."""


class _Budget:
    """When to draw again: not before `interval_s`, and so late that drawing takes a tenth of the time at most."""

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._next_s = clock()

    @contextmanager
    def spend(self) -> Iterator[float]:
        """Draw within; yields the time."""
        start_s = self._clock()
        yield start_s
        self._next_s = start_s + max(self._interval_s, (self._clock() - start_s) / _SHARE)

    def allows(self, source: Source) -> bool:
        """Whether it is time, and nothing more urgent waits."""
        return self._clock() >= self._next_s and source.fill() <= _FULL


class Lines:
    """A line now and then, for a log.

    stream: where to; clock: seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._budget = _Budget(LINE_INTERVAL_S, clock)
        self._begun = False

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Write a line when half a minute has gone by."""
        if self._budget.allows(source):
            with self._budget.spend() as now_s:
                glance = windows.glance(now_s, source)
                if self._begun:  # nothing is to be told of the first moment
                    print(render.live_line(glance), file=self._stream, flush=True)
                self._begun = True


class Terminal:
    """A table on a terminal, which is as it was once `close` was called.

    stream: the terminal; pinned: keep to the lowest rows, for a command writes to it, too; clock: seconds.
    """

    def __init__(self, stream: TextIO, *, pinned: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd = stream.fileno()
        self._pinned = pinned
        self._colours = Console(file=stream).color_system
        self._budget = _Budget(INTERVAL_S, clock)
        self._size: os.terminal_size | None = None  # for which the screen is set up; None: it is as it was
        self._stops = False

    def show(self, windows: LiveWindows, source: Source) -> None:
        """Draw when it is time to."""
        if self._stops:
            self._stops = False
            self.close()
            signal.raise_signal(signal.SIGSTOP)  # the next drawing takes the terminal again
        if self._budget.allows(source) and self._takes_output():
            with self._budget.spend() as now_s:
                self._draw(windows.glance(now_s, source))

    def close(self) -> None:
        """Give the terminal back."""
        if self._size:
            self._write(_unpin() if self._pinned else "\x1b[?25h\x1b[?1049l")
            self._size = None

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: stop, once the terminal is as it was."""
        self._stops = True

    def _draw(self, glance: Glance) -> None:
        """One frame in one write: the kernel lets no other writer's text in between."""
        size = os.get_terminal_size(self._fd)
        rows = min(max(size.lines // 3, 8), size.lines // 2) if self._pinned else size.lines
        begin = ""
        if size != self._size:
            if self._pinned:
                begin = (_unpin() if self._size else "") + _pin(size.lines, rows)
            elif not self._size:
                begin = "\x1b[?1049h\x1b[?25l"
            self._size = size
        top = size.lines - rows + 1
        lines = frame(glance, size.columns, rows, self._colours)
        drawn = "".join(f"\x1b[{top + row};1H{line}" for row, line in enumerate(lines))
        self._write(f"{begin}\x1b7{drawn}\x1b8")

    def _takes_output(self) -> bool:
        """Whether a write would not wait (as it does after Ctrl-S), and we are in the foreground."""
        _, writable, _ = select.select([], [self._fd], [], 0)
        try:
            return bool(writable) and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # it is not the terminal that controls us: nobody else is in its foreground
            return bool(writable)

    def _write(self, text: str) -> None:
        left = text.encode(errors="backslashreplace")
        while left:
            left = left[os.write(self._fd, left) :]


def _pin(lines: int, rows: int) -> str:
    """Make room for `rows` below what is there, and let only the rest scroll (DECSTBM, which moves the cursor)."""
    return "\n" * rows + f"\x1b[{rows}A\x1b7\x1b[1;{lines - rows}r\x1b8"


def _unpin() -> str:
    """Let the whole screen scroll, and clear what is below the cursor: the table."""
    return "\x1b7\x1b[r\x1b8\x1b[J"


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
        console.print(Screen(render.live(glance, rows)), end="")
    return capture.get().split("\n")


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def view(*, of_command: bool, wanted: bool | None = None) -> Iterator[View | None]:
    """What fits the streams of this process, until the end of the block; None for nothing.

    of_command: a command runs that shares our streams. wanted: show it on any terminal, or (False) nowhere.
    """
    streams = (sys.stderr,) if of_command else (sys.stdout, sys.stderr)
    terminal = next((stream for stream in streams if _is_terminal(stream)), None)
    if wanted is False or (terminal and of_command and sys.stdout.isatty() and not wanted):
        yield None
    elif terminal is None:
        yield Lines(sys.stderr)
    else:
        shown = Terminal(terminal, pinned=of_command)
        previous = signal.signal(signal.SIGTSTP, shown.on_stop)
        try:
            yield shown
        finally:
            signal.signal(signal.SIGTSTP, previous)
            shown.close()
