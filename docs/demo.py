"""The story on real probes: a runtime that creates threads wrongly, and the same runtime corrected.

Traces tests/workloads/newosproc in both forms, prints both summaries side by side and draws build/demo.png. Where
eBPF is not allowed it says why, and reads the traces that come with the project. README's picture is drawn again, too,
of those traces: it is the same wherever it is drawn.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
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
README_PICTURE = ROOT / "docs" / "demo.png"
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


def draw(traces: Sequence[Path], picture: Path) -> None:
    """Every thread of both forms above, and how long its window and its exposure are below."""
    figure = Figure(figsize=(13, 8.4), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(3, 2))
    for (above, below), mode, trace in zip(axes.T, MODES, traces, strict=True):
        analysis, info = fleet.analyse(trace)
        plots.timeline(analysis, above, info)
        plots.ecdf(analysis, below, info)
        above.set_title(f"{mode}\n{above.get_title()}", fontsize="medium", fontweight="bold")
        below.set_title("")
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Record or take the shipped traces, and show both forms side by side."""
    BUILD.mkdir(exist_ok=True)
    shipped = [SHIPPED / f"newosproc-{mode}.arrows" for mode in MODES]
    traces = []
    for mode in MODES:
        if (trace := record(mode)) is None:
            print("These traces were recorded elsewhere:")
            traces = shipped
            break
        traces.append(trace)

    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, highlight=False)
    side_by_side = Table.grid(expand=True)
    for _ in traces:
        side_by_side.add_column(ratio=1)
    told = []
    for mode, trace in zip(MODES, traces, strict=True):
        analysis, info = fleet.analyse(trace)
        told.append(Panel(render.summary(summarise(analysis.totals, info), analysis.totals), title=mode))
    side_by_side.add_row(*told)
    console.print(side_by_side)
    draw(traces, BUILD / "demo.png")
    draw(shipped, README_PICTURE)
    console.print(
        "Figure: build/demo.png   Traces:", *(str(trace.relative_to(ROOT)) for trace in traces), soft_wrap=True
    )


if __name__ == "__main__":
    main()
