"""The story on real probes: a runtime that creates threads wrongly, and the same runtime corrected.

Traces tests/workloads/newosproc in both forms, prints both summaries side by side and draws build/demo.png. Where
eBPF is not allowed it says why, and reads the traces that come with the project.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from sigwindow import fleet
from sigwindow.analysis import plots
from sigwindow.analysis.summary import summarise
from sigwindow.terminal import render

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
WORKLOAD = ROOT / "tests" / "workloads" / "build" / "newosproc"
SHIPPED = ROOT / "notebooks" / "traces"
MODES = ("broken", "fixed")
CANNOT_TRACE = 3
WIDTH = 164  # of two summaries side by side, where the output is no terminal


def record(mode: str) -> Path | None:
    """Trace the workload with SIGPROF ticking; None where tracing is not possible here (the tool has said why)."""
    trace = BUILD / f"demo-{mode}.arrows"
    workload = [str(WORKLOAD), mode, "-t", "-s", "5000", "-n", "199"]
    command = [sys.executable, "-m", "sigwindow", "run", "-o", str(trace), "--force", "--", *workload]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode == CANNOT_TRACE:
        print(done.stderr, file=sys.stderr)
        return None
    if done.returncode:
        sys.exit(done.stderr)
    return trace


def main() -> None:
    """Record or take the shipped traces, and show both forms side by side."""
    BUILD.mkdir(exist_ok=True)
    traces = []
    for mode in MODES:
        if (trace := record(mode)) is None:
            print("These traces were recorded elsewhere:")
            traces = [SHIPPED / f"newosproc-{mode}.arrows" for mode in MODES]
            break
        traces.append(trace)

    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, highlight=False)
    figure = Figure(figsize=(15, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    panels = []
    for column, (mode, trace) in enumerate(zip(MODES, traces, strict=True)):
        analysis, info = fleet.analyse(trace)
        panels.append(Panel(render.summary(summarise(analysis.totals, info), analysis.totals.worst), title=mode))
        plots.timeline(analysis, ax=axes[0][column])
        plots.ecdf(analysis, ax=axes[1][column])
        for ax in axes[:, column]:
            ax.set_title(f"{mode}: {ax.get_title()}", fontsize="medium")
    side_by_side = Table.grid(expand=True)
    for _ in panels:
        side_by_side.add_column(ratio=1)
    side_by_side.add_row(*panels)
    console.print(side_by_side)
    figure.savefig(BUILD / "demo.png", dpi=120)
    console.print(
        "Figure: build/demo.png   Traces:", *(str(trace.relative_to(ROOT)) for trace in traces), soft_wrap=True
    )


if __name__ == "__main__":
    main()
