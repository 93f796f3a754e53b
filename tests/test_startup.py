"""What a capture loads before its first event, seen in a fresh interpreter: none of the packages that take long."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("program", [RECORDS, LINES], ids=["records", "lines"])
def test_events_are_made_without_heavy_packages(program: str, tmp_path: object) -> None:
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
