"""Sheets on a terminal: what gives way where there is little room, and that nothing is left out silently."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Run
from makers import batch
from rich.console import Console, RenderableType

from sigwindow import fleet
from sigwindow.analysis import sheets, statistics
from sigwindow.analysis.compare import compare
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.findings.check import check
from sigwindow.analysis.question import Question
from sigwindow.analysis.risk import risk
from sigwindow.analysis.sheets import Cell, Column, Sheet
from sigwindow.analysis.summary import summarise
from sigwindow.analysis.tables import VERDICTS
from sigwindow.collector import procfs
from sigwindow.collector.backends import BACKENDS
from sigwindow.probes import signals
from sigwindow.probes.traceinfo import TraceInfo
from sigwindow.terminal import render
from sigwindow.terminal.draw import Drawn

ROOT = Path(__file__).parent.parent
RUBY = ROOT / "notebooks" / "traces" / "ruby.arrows"


def printed(answer: RenderableType, width: int) -> list[str]:
    """The lines of an answer on a terminal of that width."""
    console = Console(width=width, force_terminal=False)
    with console.capture() as told:
        console.print(answer)
    lines = told.get().splitlines()
    assert max(map(len, lines)) <= width
    return [line.rstrip() for line in lines]


def drawn(sheet: Sheet, width: int, *, tells: bool = True) -> list[str]:
    """The lines of a sheet on a terminal of that width."""
    return printed(Drawn(sheet, tells=tells), width)


WORKERS = Sheet(
    [
        Column("process", "name"),
        Column("pid"),
        Column("exposure"),
        Column("verdict", "word"),
        Column("signals", "list"),
    ],
    [
        ("a-worker-with-a-name", "4194304", "7.12 µs", Cell("critical", "critical"), "HUP, INT, QUIT, TERM"),
        ("b", "7", "1 s", "exposed", "TERM"),
    ],
    title="by process",
    rest="30 more: 30 masked",
)


def test_a_sheet_with_room_for_all() -> None:
    assert drawn(WORKERS, 80) == [
        "by process",
        "process                   pid  exposure  verdict   signals",
        "a-worker-with-a-name  4194304   7.12 µs  critical  HUP, INT, QUIT, TERM",
        "b                           7       1 s  exposed   TERM",
        "30 more: 30 masked",
    ]


def test_lists_give_way_first_and_then_names() -> None:
    name, numbers = "a-worker-with-a-name", "  4194304   7.12 µs  critical  "
    assert drawn(WORKERS, 66)[2] == f"{name}{numbers}HUP and 3 more"
    assert drawn(WORKERS, 64)[2] == f"{name}{numbers}4 signals"
    assert drawn(WORKERS, 55)[2] == f"a-worker-with-…{numbers}4 signals"


@pytest.mark.parametrize(
    ("width", "left_out"), [(45, "signals"), (30, "verdict, signals"), (20, "exposure, verdict, signals")]
)
def test_what_has_no_room_is_named(width: int, left_out: str) -> None:
    lines = drawn(WORKERS, width)
    assert f"no room for: {left_out}" in " ".join(lines)
    assert "4194304" in lines[2]
    assert not any("no room" in line for line in drawn(WORKERS, width, tells=False))


def test_a_path_is_cut_at_its_begin_and_a_text_goes_on() -> None:
    sheet = Sheet(
        [Column("trace", "path"), Column("born"), Column("stack", "text")], [("/var/" + "a" * 39, "7", "main " * 9)]
    )
    first, *rest = drawn(sheet, 60)[1:]
    assert first.startswith("…" + "a" * 31 + "     7  main")
    assert " ".join([first, *rest]).split().count("main") == 9


@pytest.mark.parametrize(
    ("encoding", "told"), [("utf-8", "782 ns  1.14 µs"), ("latin-1", "782 ns  1.14 µs"), ("ascii", "782 ns  1.14 us")]
)
def test_what_a_stream_cannot_show_is_spelled_otherwise(tmp_path: Path, encoding: str, told: str) -> None:
    trace = tmp_path / f"{'名' * 60}.arrows"  # no name for these streams, and too long for the table
    trace.symlink_to(RUBY)
    done = subprocess.run(
        [sys.executable, "-m", "sigwindow", "analyze", RUBY, trace],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode(encoding)
    assert told in out
    assert {"utf-8": "…名", "latin-1": r"~\u540d", "ascii": r"~\u540d"}[encoding] in out


def test_every_heading_is_explained() -> None:
    analysis, info = fleet.analyse(str(RUBY), Question())
    summary = summarise(analysis.totals, info)
    summary["by_process"] *= 2
    shown = [
        *sheets.summary(summary, analysis.totals.worst, analysis.totals.known),
        *sheets.findings(check(analysis.totals, info)),
        sheets.batch(["a"], [summary], summary),
        *(sheets.groups(statistics.by(analysis.threads, key, [0]), key) for key in statistics.KEYS),
        sheets.risks(risk(analysis)),
        *compare(analysis, analysis).sheets,
    ]
    shown.append(sheets.summary({**summary, "threads": {"born": 0}}, analysis.totals.worst, analysis.known)[0])
    headings = {column.heading for sheet in shown for column in sheet.columns}
    section = (ROOT / "docs" / "tables.md").read_text().partition("## On the screen")[2]
    explained = {word for row in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE) for word in row.split(", ")}
    assert headings - {""} <= explained
    assert explained - headings == {"heading", "latest exposed", "open"}  # the last two are the live view's


def test_the_verdict_comes_first_and_then_what_to_do(sigwindow: Run) -> None:
    out = sigwindow("analyze", RUBY).out
    parts = [part.split()[0] for part in out.split("\n\n")]
    assert parts == ["97", "finding", "verdict", "threads", "signals", "worst"]


def test_inspect_tells_threads_that_are_alike_in_one_row_and_what_is_pending() -> None:
    term, usr1 = (signals.word_of([signals.number(name)]) for name in ("TERM", "USR1"))
    of_process = {"pid": 7, "handled": term | usr1, "ignored": 0, "pending_process": term}
    threads = [
        procfs.Thread(tid=7, comm="java", mask=0, pending=0, **of_process),
        *(procfs.Thread(tid=8 + n, comm=f"Thread-{n}", mask=usr1, pending=0, **of_process) for n in range(3187)),
        procfs.Thread(tid=9000, comm="Thread-9", mask=usr1, pending=usr1, **of_process),
    ]
    lines = printed(render.threads_now(threads), 80)
    assert lines == [
        "3,189 threads of process 7",
        "handled: [USR1 TERM]; ignored: []",
        "pending for any thread that does not block it: [TERM]",
        "",
        "threads  name      tids                            blocked  open to      pending",
        "      1  java      7                               []       [USR1 TERM]  []",
        "  3,187  Thread-*  8, 9, 10, 11, 12 and 3182 more  [USR1]   [TERM]       []",
        "      1  Thread-*  9000                            [USR1]   [TERM]       [USR1]",
    ]


def test_doctor_says_of_every_back_end_what_it_can_do_here(sigwindow: Run) -> None:
    out = sigwindow("doctor").out
    table = out.split("\n\n")[0]
    assert [line.split()[0] for line in table.splitlines() if line[0] != " "] == ["back", *BACKENDS]
    assert set(re.findall(r"^.{9} (\w+) needs", out, re.MULTILINE)) <= set(BACKENDS)
    assert "planned" not in out


def test_where_nothing_was_born_the_threads_that_were_there_are_told() -> None:
    handled = signals.word_of(map(signals.number, ("TERM", "SEGV")))
    before = {"kind": "snapshot", "pid": 7, "handled": handled}
    windows = Windows(Question())
    old = [batch({**before, "tid": 7 + n, "comm": f"pool-{n}"}) for n in range(3)]
    masked = batch({**before, "tid": 99, "comm": "main", "mask": handled})
    for rows in (*old, masked):
        windows.feed(rows)
    totals = windows.result().totals
    (known,) = sheets.summary(summarise(totals, TraceInfo(os="linux")), totals.worst, totals.known)
    assert drawn(known, 80) == [
        "4 threads lived before: 3 open to a considered signal",
        "threads  name    pid  blocked      open to",
        "      3  pool-*    7  []           [SEGV TERM]",
        "      1  main      7  [SEGV TERM]  []",
    ]


def test_what_differs_between_traces_is_various() -> None:
    summary = summarise(Windows(Question()).result().totals, TraceInfo(backend="bcc", os="", kernel=""))
    assert sheets.circumstances(summary)[1].endswith("by bcc on various systems, various kernels")


@pytest.mark.parametrize(
    ("changed", "style"), [({}, "bold green"), ({"uncertain": 1}, "bold yellow"), ({"hit": 1}, "red")]
)
def test_only_a_clean_verdict_that_can_be_trusted_is_green(changed: dict[str, int], style: str) -> None:
    counts = {**dict.fromkeys(VERDICTS, 0), "born": 3, "masked": 3, "unready": 0, "uncertain": 0, **changed}
    assert render.sentence(counts).style == style
