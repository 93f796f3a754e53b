"""What watching costs the watched: newosproc bare, under sigwindow, bpftrace, perf record and strace, in turn.

Each round runs every tool once, so that a machine whose speed drifts treats them alike; each figure is a ratio to the
bare run of the same round. The time is the workload's own, from its first clone to its last alternate stack: starting a
tracer does not count. Run as root:  python benchmarks/cost.py [ROUNDS] [THREADS] [SPIN_US]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
WORKLOADS = HERE.parent / "tests" / "workloads"
sys.path.insert(0, str(HERE.parent / "tests"))
from truth import read_truth  # noqa: E402  the tests' reader, from beside this folder

from sigwindow.collector.tracefile import Reader  # noqa: E402

SYSCALLS = ("rt_sigprocmask", "sigaltstack", "rt_sigaction")
TRACEPOINTS = [
    "task:task_newtask",
    "task:task_rename",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "signal:signal_generate",
    "signal:signal_deliver",
    *(f"syscalls:sys_exit_{name}" for name in SYSCALLS),
    "syscalls:sys_enter_rt_sigreturn",
]
# Every event that sigwindow records, with the fields that a bpftrace script can print of it.
BPFTRACE = "".join(
    f'tracepoint:{point} /comm == "newosproc"/ {{ printf("%llu %d %d {point}\\n", nsecs, pid, tid); }}\n'
    for point in TRACEPOINTS
)


def tools(folder: Path) -> dict[str, list[str]]:
    """The command line that goes before the workload's, for each tool."""
    script = folder / "events.bt"
    script.write_text(BPFTRACE)
    trace = ["-o", str(folder / "trace.arrows"), "--force", "--json", str(folder / "summary.json")]
    perf = [word for point in TRACEPOINTS for word in ("-e", point)]
    return {
        "bare": [],
        "sigwindow run": [sys.executable, "-m", "sigwindow", "run", *trace, "--"],
        "bpftrace": ["bpftrace", "-o", str(folder / "events.txt"), str(script), "-c"],
        "perf record": ["perf", "record", "-q", "-o", str(folder / "perf.data"), *perf, "--"],
        "strace -f": ["strace", "-f", "-o", str(folder / "log"), "-e", f"trace=clone,{','.join(SYSCALLS)}"],
    }


def main() -> None:
    """Run the rounds and print one table."""
    rounds, threads, spin_us = (int(a) for a in (*sys.argv[1:], *("7", "20000", "50")[len(sys.argv) - 1 :]))
    subprocess.run(["make", "-s", "-C", WORKLOADS], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth_file = folder / "truth"
        workload = [str(WORKLOADS / "build/newosproc"), "broken", "-n", str(threads), "-s", str(spin_us)]
        workload += ["-o", str(truth_file)]
        seconds: dict[str, list[float]] = {tool: [] for tool in tools(folder)}
        for _ in range(rounds):
            for tool, prefix in tools(folder).items():
                command = [*prefix, " ".join(workload)] if tool == "bpftrace" else [*prefix, *workload]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                truth = read_truth(truth_file).threads
                span = truth["after_altstack_ns"].iloc[-1] - truth["before_clone_ns"].iloc[0]
                seconds[tool].append(span / 1e9)
    print(f"{rounds} rounds of {threads} threads, each spinning {spin_us} us; ratio to the bare run of the same round")
    print(f"{'':16}{'min':>8}{'median':>8}{'max':>8}")
    for tool, spans in seconds.items():
        ratios = [span / bare for span, bare in zip(spans, seconds["bare"], strict=True)]
        print(f"{tool:16}{min(ratios):8.2f}{statistics.median(ratios):8.2f}{max(ratios):8.2f}")
    collector_cost(workload[0])


def collector_cost(newosproc: str) -> None:
    """Print the CPU time that an attached collector needs for one event, once its probes are in."""
    with (
        tempfile.TemporaryDirectory() as name,
        subprocess.Popen([newosproc, "broken", "-r", "30", "-s", "0"]) as target,
    ):
        trace = Path(name) / "trace.arrows"
        attach = [sys.executable, "-m", "sigwindow", "attach", str(target.pid), "--duration", "10", "-o", str(trace)]
        with subprocess.Popen(attach, stdout=subprocess.DEVNULL) as collector:
            while not (trace.exists() and trace.stat().st_size > 10_000):
                time.sleep(0.1)
            start, start_ns = _cpu_s(collector.pid), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            time.sleep(7)
            end, end_ns = _cpu_s(collector.pid), time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        target.terminate()
        times = np.concatenate([batch.column("time_ns").to_numpy() for batch in Reader(trace).batches()])
    events = int(np.count_nonzero((times > start_ns) & (times < end_ns)))
    print(f"collector: {(end - start) / events * 1e6:.2f} us of CPU an event, {events / 7:,.0f} events a second")


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far: fields 14 and 15 of proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
