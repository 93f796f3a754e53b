"""How fast `analyze` is, and in how much memory: synthetic traces, beside DuckDB's SQL for the same table.

Every process is timed whole, from its start to its end, and the two take turns; the ratio is DuckDB's time to ours,
pair by pair. DuckDB is not a dependency: `pip install duckdb`. Run as:  python benchmarks/engine.py [MILLIONS ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from sigwindow.collector import tracefile
from sigwindow.probes import events
from sigwindow.probes.signals import ALL, UNBLOCKABLE
from sigwindow.probes.traceinfo import TraceInfo

HERE = Path(__file__).resolve().parent
EVENTS_A_THREAD = 5
BATCH_THREADS = 1 << 16
PID_MAX = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h
PROCESSES = 16
ROUNDS = 5


def write_trace(path: Path, threads: int) -> None:
    """A trace of threads that are born blocked, unblock, install a stack, set a mask and exit.

    Births are 1 us apart on average; a thread lives some 50 us, so that some 50 live at a time. Times are a thread's
    own, so that events of different threads interleave as they do in a recorded trace.
    """
    random = np.random.default_rng(3017)
    blocked, handled = np.uint64(ALL & ~UNBLOCKABLE), np.uint64(1 << 26)
    info = TraceInfo.here("synthetic")
    left: dict[str, np.ndarray] | None = None
    clock_ns, number = 1_000_000_000, 0
    with path.open("wb") as file, tracefile.Writer(file, info) as writer:
        while number < threads:
            count = min(BATCH_THREADS, threads - number)
            born = clock_ns + np.cumsum(random.exponential(1_000, count)).astype(np.int64)
            steps = np.cumsum(random.lognormal(9, 0.5, (count, EVENTS_A_THREAD - 1)), axis=1).astype(np.int64)
            times = np.column_stack([born, born[:, None] + steps])
            who = number + np.arange(count)
            tid = (PROCESSES + 300 + who % (PID_MAX - 1000)).astype(np.int32)
            pid = (300 + who % PROCESSES).astype(np.int32)
            kinds = np.array([events.CODE[k] for k in ("born", "mask", "altstack", "mask", "exit")], np.uint8)
            columns = {
                "time_ns": times.ravel(),
                "kind": np.tile(kinds, count),
                "pid": np.repeat(pid, EVENTS_A_THREAD),
                "tid": np.repeat(tid, EVENTS_A_THREAD),
                "mask": np.tile(np.array([blocked, 0, 0, 1 << 9, 1 << 9], np.uint64), count),
                "altstack": np.tile(np.array([0, 0, 1, 1, 1], bool), count),
                "handled": np.tile(np.array([handled, 0, 0, 0, 0], np.uint64), count),
                "peer": np.repeat(pid, EVENTS_A_THREAD),
                "flags": np.tile(np.array([events.CLONE_THREAD, 0, 0, 0, 0], np.uint32), count),
            }
            if left is not None:
                columns = {name: np.concatenate([left[name], column]) for name, column in columns.items()}
            order = np.argsort(columns["time_ns"], kind="stable")
            columns = {name: column[order] for name, column in columns.items()}
            number, clock_ns = number + count, int(born[-1])
            ready = len(order) if number == threads else int(np.searchsorted(columns["time_ns"], clock_ns))
            left = {name: column[ready:] for name, column in columns.items()}
            batch = {name: column[:ready] for name, column in columns.items()}
            names = np.where(batch["kind"] == events.CODE["born"], 1, 0)
            comm = pa.array(["", "worker"]).take(pa.array(names))
            writer.write(events.batch_of({**batch, "comm": comm}))


DUCKDB = """
import sys, duckdb, pyarrow as pa
con = duckdb.connect()
con.execute("set enable_progress_bar = false")
events = pa.ipc.open_stream(sys.argv[1])
con.register("source", events)
print(con.execute(open(sys.argv[2]).read()).fetchall())
"""


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak resident GiB and output of a process."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} failed with {process.returncode}")
    return time.monotonic() - start, usage.ru_maxrss / (1 << 20), told


def main() -> None:
    """Print the table for so many million events as are named, or for 1, 10 and 100."""
    sizes = [float(word) for word in sys.argv[1:]] or [1, 10, 100]
    print(f"{'events':>8} {'':10} {'s min':>7} {'median':>7} {'max':>7} {'GiB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "with_duckdb.py"
        script.write_text(DUCKDB)
        for millions in sizes:
            trace = Path(folder) / "trace.arrows"
            trace.unlink(missing_ok=True)
            write_trace(trace, int(millions * 1_000_000) // EVENTS_A_THREAD)
            commands = {"sigwindow": [sys.executable, "-m", "sigwindow", "analyze", str(trace)]}
            if millions <= 10:
                commands["duckdb"] = [sys.executable, str(script), str(trace), str(HERE / "windows.sql")]
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
            for _ in range(ROUNDS):
                for name, command in commands.items():
                    seconds, gib, _ = timed(command)
                    runs[name].append((seconds, gib))
            for name, figures in runs.items():
                seconds = sorted(s for s, _ in figures)
                print(
                    f"{millions:>7g}M {name:10} {seconds[0]:7.2f} {seconds[len(seconds) // 2]:7.2f} {seconds[-1]:7.2f} "
                    f"{max(gib for _, gib in figures):6.2f}",
                    flush=True,
                )
            if "duckdb" in runs:
                pairs = zip(runs["duckdb"], runs["sigwindow"], strict=True)
                ratios = sorted(theirs / ours for (theirs, _), (ours, _) in pairs)
                print(f"{'':9} {'ratio':10}" + "".join(f" {ratios[at]:7.2f}" for at in (0, len(ratios) // 2, -1)))


if __name__ == "__main__":
    main()
