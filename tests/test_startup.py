"""What is loaded before a capture's first event, and by commands that need no table: no package that takes long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOADED = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
HEAVY = {"pandas", "numba", "rich", "matplotlib", "scipy"}

RECORDS = """
import pathlib, sys
import numpy as np
from sigwindow.collector import external, files, ring_session, tracefile
from sigwindow.collector.strace import live
from sigwindow.probes import events
from sigwindow.probes.bcc import loader
from sigwindow.probes.traceinfo import TraceInfo

records = events.batch_of_records(np.zeros(3, events.RECORD), events.texts(["a", "b", "a"]))
rows = events.batch_of_rows([events.lost(1, 2, 3), events.end_of_trace(4)])
trace = pathlib.Path(sys.argv[1], "t.arrows")
with files.growing(trace) as file, tracefile.Writer(file, TraceInfo.here("bcc")) as writer:
    writer.write(events.merged([records, rows]))
"""
LINES = """
from sigwindow.collector import lines
parser, order = lines.Parser(), lines.Ordered()
order.add(parser.feed(b"E 5 exit 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 .\\n"))
assert len(order.take(before_ns=9)) == 1
"""


def loaded(program: str, *arguments: object) -> set[str]:
    """The packages that are loaded at the end of a program."""
    command = [sys.executable, "-c", program + LOADED, *map(str, arguments)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())


@pytest.mark.parametrize("program", [RECORDS, LINES], ids=["records", "lines"])
def test_events_are_made_without_heavy_packages(program: str, tmp_path: Path) -> None:
    assert not HEAVY & loaded(program, tmp_path)


@pytest.mark.parametrize("command", [["doctor"], ["inspect", "1"], ["run", "--help"]], ids=" ".join)
def test_commands_without_tables_need_none_of_them(command: list[str]) -> None:
    run = f"from sigwindow.__main__ import run\nrun({command})"
    assert not (HEAVY | {"numpy", "pyarrow"}) - {"rich"} & loaded(run)
    as_json = f"from sigwindow.__main__ import run\nrun({[*command, '--json']})"
    assert command[0] == "run" or "rich" not in loaded(as_json)
