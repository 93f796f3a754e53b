"""The live view: what it shows of given totals, when it draws, and what it leaves behind on a terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.cells import cell_len

from sigwindow.analysis.engine.glance import Glance, LiveWindows, Process, Thread
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.probes import events
from sigwindow.probes.signals import FREEBSD, LINUX, number, word_of
from sigwindow.terminal.frame import frame
from sigwindow.terminal.view import Lines, Terminal, view

HANDLED = word_of([number("PROF"), number("TERM")])


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Ring:
    """A session whose buffer is as full as told."""

    def __init__(self, fill: float = 0.03, lost: int = 0) -> None:
        self._fill, self._lost = fill, lost

    def fill(self) -> float:
        return self._fill

    def lost(self) -> int:
        return self._lost


def births(count: int, first_ns: int, *, pid: int = 100, open_last: bool = False, stack: bool = True) -> pa.RecordBatch:
    """Threads 1 us apart that are born, install a stack 500 ns later, and exit; the last one may stay in its window."""
    kinds = np.tile(np.array([events.CODE[kind] for kind in ("born", "altstack", "exit")], np.uint8), count)
    if not stack:
        kinds[1::3] = events.CODE["name"]
    columns = {
        "time_ns": first_ns + np.repeat(np.arange(count) * 1000, 3) + np.tile([0, 500, 900], count),
        "kind": kinds,
        "pid": np.full(3 * count, pid),
        "tid": np.repeat(1000 + np.arange(count), 3),
        "peer": np.full(3 * count, pid),
        "altstack": kinds == events.CODE["altstack"],
        "handled": np.where(kinds == events.CODE["born"], HANDLED, 0).astype(np.uint64),
        "flags": np.where(kinds == events.CODE["born"], events.CLONE_THREAD, 0).astype(np.uint32),
    }
    if open_last:
        columns = {name: values[:-2] for name, values in columns.items()}
    return events.batch_of(columns)


def glance(**changed: Any) -> Glance:
    """One process with 1234 threads, as the view gets it."""
    verdicts = {"unhandled": 0, "masked": 1000, "exposed": 200, "hit": 30, "critical": 4}
    threads = [Thread(f"worker-{n}", 4000 + n, "exposed", 5000 * (50 - n), HANDLED, n != 3) for n in range(40)]
    whole = Glance(
        elapsed_s=75.4,
        events=5000,
        events_per_s=812.5,
        births_per_s=203.4,
        lost=0,
        fill=0.031,
        verdicts=verdicts,
        open=2,
        processes=[Process("server", 100, 1234, 2, 200, 30, 4, 7_000_000)],
        process_count=1,
        longest=[Thread("bad", 4321, "critical", 20_500_000, HANDLED, True), *threads],
        latest=threads,
        numbering=LINUX,
    )
    return whole._replace(**changed)


def shown(lines: list[str]) -> list[str]:
    """The lines without the blanks that fill them."""
    return [line.rstrip() for line in lines]


def test_a_frame_of_24_lines() -> None:
    lines = frame(glance(), 80, 24)
    assert shown(lines)[:8] == [
        "sigwindow  0:01:15   ring 3% full   0 events lost",
        "births 1234 (203/s)   open windows 2   events 5000 (812/s)",
        "critical 4   hit 30   exposed 200   masked 1000   unhandled 0",
        "",
        "worst threads    tid  exposure  verdict             signals",
        "bad             4321   20.5 ms  critical            TERM, PROF",
        "worker-0        4000    250 µs  exposed             TERM, PROF",
        "worker-1        4001    245 µs  exposed             TERM, PROF",
    ]
    assert shown(lines)[14:16] == [
        "latest exposed   tid  exposure  verdict             signals",
        "worker-0        4000    250 µs  exposed             TERM, PROF",
    ]
    assert "worker-3        4003    235 µs  exposed, not ready  TERM, PROF" in shown(lines)


def test_a_frame_of_60_lines_ranks_processes() -> None:
    processes = [Process(f"p{n}", 100 + n, 10, n % 2, 9, 1, 0, 10**6 * (900 - n)) for n in range(100)]
    lines = shown(frame(glance(processes=processes, process_count=171, lost=7), 200, 60))
    assert lines[0].endswith("7 events lost")
    assert lines[1].startswith("births 1234 (203/s) in 171 processes")
    assert lines[4:7] == [
        "process         pid  exposure  critical  hit  exposed  open  born",
        "p0              100    900 ms         0    1        9     0    10",
        "p1              101    899 ms         0    1        9     1    10",
    ]
    assert len([line for line in lines if re.match(r"p\d", line)]) == 26
    assert sum("worker" in line for line in lines) > 20


def test_few_rows_go_to_the_most_exposed() -> None:
    lines = shown(frame(glance(), 80, 8))
    firsts = [line.split()[0] for line in lines if line]
    assert firsts == ["sigwindow", "births", "critical", "worst", "bad", "worker-0", "worker-1"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (60, "HUP and 14 more"),
        (80, "HUP, INT, QUIT, ILL and 11 more"),
        (120, "HUP, INT, QUIT, ILL, BUS, USR1, SEGV, USR2, PIPE, ALRM, TERM and 4 more"),
        (200, "HUP, INT, QUIT, ILL, BUS, USR1, SEGV, USR2, PIPE, ALRM, TERM, CHLD, VTALRM, SYS, SETXID"),
    ],
)
def test_signals_give_way_before_a_number_is_cut(columns: int, told: str) -> None:
    ruby = ["HUP", "INT", "QUIT", "ILL", "BUS", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "CHLD", "VTALRM", "SYS"]
    handled = word_of([*map(number, ruby), 33])
    threads = [Thread("threads.rb:2", 4_194_304 - n, "critical", 5_123 * n, handled, True) for n in range(1, 9)]
    processes = [Process("ruby", 4_194_304 - n, 1_234_567, 2, 200_001, 30, 4, 7_120 * 10**9) for n in range(9)]
    lines = shown(frame(glance(processes=processes, longest=threads, latest=threads, lost=2**60), columns, 24))
    assert f"threads.rb:2    4194303   5.12 µs  critical  {told}" in lines
    process = "ruby            4194304    1.98 h         4   30   200001"
    assert process + ("" if columns == 60 else "     2  1234567") in lines
    text = "\n".join(lines)
    assert f"{2**60} events lost" in text  # on a line of its own where there is no room beside the others
    assert "…" not in text


def test_signals_have_the_names_of_the_traced_system() -> None:
    threads = [Thread("a", 1, "exposed", 1, word_of([7, 29]), True)]
    told = ["\n".join(frame(glance(longest=threads, latest=threads, numbering=of), 80, 24)) for of in (LINUX, FREEBSD)]
    assert ["BUS, IO" in text for text in told] == [True, False]
    assert ["EMT, INFO" in text for text in told] == [False, True]


def test_names_give_way_where_nothing_else_can() -> None:
    threads = [Thread("a" * 24, 4_194_304, "exposed", 999_000, HANDLED, False)]
    lines = shown(frame(glance(longest=threads, latest=threads), 56, 24))
    assert "aaaaaaaaaaaaaaaa…  4194304    999 µs  exposed, not ready" in lines


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (120, 8), (40, 12), (20, 3), (1, 1)])
@pytest.mark.parametrize("many", [0, 2, 500])
def test_a_frame_has_the_size_of_the_screen(size: tuple[int, int], many: int) -> None:
    processes = [Process("名前" * 20, 2**22 - n, 10**9, 10**6, 10**9, 10**9, 10**9, 10**18) for n in range(many)]
    threads = [Thread("名" * 16, 2**22, "critical", 10**15, 2**64 - 2, False)] * 40
    lines = frame(
        glance(processes=processes, longest=threads, latest=threads, events=10**15, events_per_s=1e9, lost=10**12),
        *size,
    )
    assert [cell_len(line) for line in lines] == [size[0]] * size[1]


def test_nothing_has_happened_yet() -> None:
    windows = LiveWindows(Question())
    lines = shown(frame(windows.glance(1.0, Ring()), 80, 24))
    assert lines[1] == "births 0 (0/s)   open windows 0   events 0 (0/s)"
    assert not any(lines[3:])


def test_hostile_names_are_escaped() -> None:
    name = "\x1b[2J\x07\u202eevil[bold]:x:\n"
    threads = [Thread(name, 1, "exposed", 5, HANDLED, True)]
    processes = [Process(name, 1, 1, 0, 1, 0, 0, 5), Process("b", 2, 1, 0, 1, 0, 0, 5)]
    lines = frame(glance(processes=processes, longest=threads, latest=threads), 80, 24)
    assert len(lines) == 24
    assert not set("\x1b\x07\u202e\n") & set("".join(lines))
    assert sum(r"\x1b[2J\x07\u202eevil" in line for line in lines) == 3


@pytest.mark.parametrize("ready", ["auto", "altstack", "mask", "steady", "symbol:f"])
def test_the_counts_are_those_of_the_batch(ready: str) -> None:
    live, batch = LiveWindows(Question(ready)), Windows(Question(ready))
    for round_, rows in enumerate((1000, 70_000, 1, 70_000)):  # more lives than a part of the engine's store has
        for windows in (live, batch):
            # The first round shows only steady threads: `auto` finds out later that the process installs stacks.
            windows.feed(births(rows, (round_ + 1) * 10**9, stack=round_ > 0))
            windows.feed(births(3, (round_ + 1) * 10**9 + 5 * 10**8, pid=7, stack=False))
    for windows in (live, batch):
        windows.feed(births(5, 10**12, open_last=True))
        windows.feed(births(1, 10**12 + 10**6, pid=7, stack=False))  # time passes
    totals, seen = batch.totals(ready), live.glance(1.0, Ring())
    assert seen.verdicts == dict(totals.verdicts)
    assert seen.events == totals.events
    by_process = totals.by_process.set_index("pid")
    assert {process.pid: process.exposure_ns for process in seen.processes} == by_process["exposure_ns"].to_dict()
    assert seen.open == (0 if ready == "steady" else 1)  # without a blocked signal it is steady from birth
    if ready == "altstack":
        assert [thread.tid for thread in seen.longest[:5]] == totals.worst["tid"].tolist()
        assert [thread.tid for thread in seen.latest[:3]] == [1000, 1004, 1003]
    assert live.totals(ready).verdicts == totals.verdicts


def test_the_process_with_a_hit_comes_before_those_with_more_exposure() -> None:
    windows = LiveWindows(Question("altstack"))
    for pid in (5, 6):
        windows.feed(births(100, pid * 10**9, pid=pid))
    times = {"time_ns": 10**11 + np.arange(4) * 100, "pid": np.full(4, 7), "tid": np.full(4, 8), "peer": np.full(4, 7)}
    kinds = ("born", "deliver", "altstack", "exit")
    told = {"kind": np.array([events.CODE[kind] for kind in kinds], np.uint8), "disposition": np.array([0, 2, 0, 0])}
    prof = {"signal": np.array([0, number("PROF"), 0, 0]), "altstack": np.array([False, False, True, False])}
    born = {"handled": np.array([HANDLED, 0, 0, 0], np.uint64), "flags": np.array([events.CLONE_THREAD, 0, 0, 0])}
    windows.feed(events.batch_of({**times, **told, **prof, **born}))
    seen = windows.glance(1.0, Ring())
    assert [(process.pid, process.hit) for process in seen.processes] == [(7, 1), (5, 0), (6, 0)]
    assert seen.process_count == 3


def test_rates_are_of_the_last_seconds() -> None:
    windows = LiveWindows(Question())
    for second in range(1, 21):
        windows.feed(births(100 if second <= 10 else 10, second * 10**9))
        last = windows.glance(float(second), Ring())
    assert last.births == 1100
    assert last.births_per_s == pytest.approx(10)
    assert last.events_per_s == pytest.approx(30)


class Screen:
    """A pseudo terminal of which all output is kept."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.stream = os.fdopen(os.dup(self.slave), "w")
        self._kept = bytearray()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _listen(self) -> None:
        try:
            while got := os.read(self.master, 1 << 16):
                self._kept += got
        except OSError:  # EIO: nobody holds the other end
            pass

    def close(self) -> str:
        """All that was written, once nobody writes any more."""
        self.stream.close()
        os.close(self.slave)
        self._listener.join()
        os.close(self.master)
        return self._kept.decode()


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    yield made
    if not made.stream.closed:
        made.close()


def frames(text: str) -> int:
    """How many frames were drawn."""
    return text.count("\x1b[?7l")


def test_a_terminal_is_drawn_at_most_every_quarter_second(screen: Screen) -> None:
    clock, windows = Clock(), LiveWindows(Question())
    terminal = Terminal(screen.stream, shared=False, clock=clock)
    for _ in range(1001):  # ten seconds
        terminal.show(windows, Ring())
        clock.now_s += 0.01
    terminal.close()
    text = screen.close()
    assert 34 <= frames(text) <= 38
    assert text.startswith("\x1b[?1049h\x1b[?25l")
    assert text.endswith("\x1b[?25h\x1b[?1049l")
    assert text.count("\x1b[?1049") == 2


def test_drawing_takes_a_tenth_of_the_time(screen: Screen) -> None:
    clock = Clock()

    class Slow(LiveWindows):
        def glance(self, elapsed_s: float, source: Any) -> Glance:
            clock.now_s += 0.4
            return super().glance(elapsed_s, source)

    windows = Slow(Question())
    terminal = Terminal(screen.stream, shared=False, clock=clock)
    while clock.now_s < 40:
        terminal.show(windows, Ring())
        clock.now_s += 0.05
    terminal.close()
    assert frames(screen.close()) == 10


def test_recording_goes_first(screen: Screen) -> None:
    clock = Clock()
    terminal = Terminal(screen.stream, shared=False, clock=clock)
    clock.now_s = 10.0
    terminal.show(LiveWindows(Question()), Ring(fill=0.5))
    terminal.close()
    assert screen.close() == ""


def test_what_is_over_at_once_is_not_shown(screen: Screen) -> None:
    clock = Clock()
    terminal = Terminal(screen.stream, shared=True, clock=clock)
    clock.now_s = 0.5
    terminal.show(LiveWindows(Question()), Ring())
    terminal.close()
    assert screen.close() == ""


def test_a_frame_follows_the_size_of_the_terminal(screen: Screen) -> None:
    clock, windows = Clock(), LiveWindows(Question())
    terminal = Terminal(screen.stream, shared=False, clock=clock)
    for columns, lines in ((80, 24), (200, 60), (30, 5)):
        screen.resize(columns, lines)
        clock.now_s += 1
        terminal.show(windows, Ring())
    terminal.close()
    text = screen.close()
    assert [part.count(";1H") for part in text.split("\x1b[?7l")[1:]] == [24, 60, 5]


def test_a_terminal_that_goes_away_does_not_end_the_recording(screen: Screen) -> None:
    clock, windows = Clock(), LiveWindows(Question())
    terminal = Terminal(screen.stream, shared=False, clock=clock)
    for closes in (True, False):
        clock.now_s += 1
        terminal.show(windows, Ring())
        if closes:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, screen.stream.fileno())
            os.close(null)
    terminal.close()
    assert frames(screen.close()) == 1


def test_a_shared_terminal_keeps_its_upper_rows(screen: Screen) -> None:
    clock, windows = Clock(), LiveWindows(Question())
    terminal = Terminal(screen.stream, shared=True, clock=clock)
    for _ in range(2):
        clock.now_s += 1
        terminal.show(windows, Ring())
    terminal.close()
    text = screen.close()
    # The terminal driver makes "\r\n" of "\n".
    assert text.startswith("\r\n" * 8 + "\x1b[8A\x1b7\x1b[1;16r\x1b8")
    assert re.findall(r"\x1b\[(\d+);1H", text) == [str(row) for row in range(17, 25)] * 2
    assert text.endswith("\x1b7\x1b[r\x1b8\x1b[J")
    assert "?1049" not in text
    assert "?25l" not in text


def test_a_command_that_reads_single_keys_has_the_screen_for_itself(screen: Screen) -> None:
    clock, windows = Clock(), LiveWindows(Question())
    terminal = Terminal(screen.stream, shared=True, clock=clock)
    cooked = termios.tcgetattr(screen.slave)
    raw = cooked.copy()
    raw[3] &= ~termios.ICANON
    for mode in (cooked, raw, raw, cooked):
        termios.tcsetattr(screen.slave, termios.TCSANOW, mode)
        clock.now_s += 1
        terminal.show(windows, Ring())
    terminal.close()
    text = screen.close()
    assert frames(text) == 2
    assert "\x1b7\x1b[r\x1b8\r\n" in text  # the whole screen scrolls for the command, and then our rows are made anew


@pytest.mark.parametrize(
    ("out", "err", "expected"), [(1, 1, Terminal), (0, 1, Terminal), (1, 0, Terminal), (0, 0, Lines)]
)
def test_the_view_fits_the_streams(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, out: int, err: int, expected: type
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, is_terminal in (("stdout", out), ("stderr", err)):
        monkeypatch.setattr(sys, name, screen.stream if is_terminal else io.StringIO())
    with view(of_command=False) as chosen:
        assert type(chosen) is expected
    with view(of_command=True) as chosen:  # the command's standard output is not ours
        assert type(chosen) is (Terminal if err else Lines)
    monkeypatch.setenv("TERM", "dumb")
    with view(of_command=False) as chosen:
        assert type(chosen) is Lines


def test_an_error_leaves_the_terminal_as_it_was(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen.stream)
    stops = signal.getsignal(signal.SIGTSTP)

    def fails() -> None:
        with view(of_command=False) as chosen:
            time.sleep(0.8)
            chosen.show(LiveWindows(Question()), Ring())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert signal.getsignal(signal.SIGTSTP) == stops
    text = screen.close()
    assert frames(text) == 1
    assert text.endswith("\x1b[?25h\x1b[?1049l")


def test_a_log_gets_a_line_every_half_minute() -> None:
    clock, stream = Clock(), io.StringIO()
    windows, lines = LiveWindows(Question("altstack")), Lines(stream, clock)
    for second in range(1, 95):
        windows.feed(births(10, second * 10**9))
        clock.now_s = float(second)
        lines.show(windows, Ring(lost=5))
    assert stream.getvalue().splitlines() == [
        "[sigwindow] 0:00:30: 300 births, 300 exposed; 900 events (30/s), 5 lost",
        "[sigwindow] 0:01:00: 600 births, 600 exposed; 1800 events (30/s), 5 lost",
        "[sigwindow] 0:01:30: 900 births, 900 exposed; 2700 events (30/s), 5 lost",
    ]


@pytest.mark.live
def test_attach_gives_the_terminal_back(workloads: Path, screen: Screen) -> None:
    target = subprocess.Popen([workloads / "newosproc", "broken", "-r", "60", "-s", "0"], stdout=subprocess.DEVNULL)
    environment = {**os.environ, "TERM": "xterm-256color"}
    try:
        before = termios.tcgetattr(screen.slave)
        attach = [sys.executable, "-m", "sigwindow", "attach", "--no-trace", str(target.pid), "--duration", "2"]
        done = subprocess.run(
            attach,
            stdin=screen.slave,
            stdout=screen.slave,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert termios.tcgetattr(screen.slave) == before
    finally:
        target.terminate()
        target.wait(timeout=30)
    time.sleep(0.1)
    text = screen.close()
    view, _, after = text.partition("\x1b[?25h\x1b[?1049l")
    assert 2 <= frames(view) <= 9
    assert "0 events lost" in view
    assert len(re.findall(r"threads born, of them", after)) == 1
    assert after.count("worst threads") == 1
    assert "\x1b[?" not in after
