"""From a trace file to its analysis, its tables and its figures."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pandas as pd

from sigwindow.analysis.windows import Analysis, Windows
from sigwindow.collector import tracefile
from sigwindow.probes.errors import UsageError


def analyse(path: Path, *, ready: str = "auto", signals: str = "async") -> tuple[Analysis, dict[str, str]]:
    """Read a trace of any size through the window engine.

    Returns the analysis and what the trace says of itself. Raises InputError for what can't be read as a trace.
    """
    reader = tracefile.Reader(path)
    windows = Windows(signals)
    for batch in reader.batches():
        windows.feed(batch)
    return windows.result(ready), reader.info


@contextmanager
def text_output(path: Path | None, *, force: bool) -> Iterator[TextIO]:
    """Standard output, or a new text file in UTF-8."""
    if path is None:
        yield sys.stdout
    else:
        with io.TextIOWrapper(tracefile.create(path, force=force), encoding="utf-8", newline="") as file:
            yield file


def write_threads(tables: Mapping[str, pd.DataFrame], form: str, output: Path | None, *, force: bool) -> None:
    """Write the thread tables of one trace, or of several with a leading column `trace`, as csv or parquet.

    output: the file, or None for standard output (csv only).
    """
    if len(tables) == 1:
        table = next(iter(tables.values()))
    else:
        table = pd.concat([t.assign(trace=trace) for trace, t in tables.items()], ignore_index=True)
        table.insert(0, "trace", table.pop("trace"))
    if form == "parquet":
        assert output is not None
        with tracefile.create(output, force=force) as file:
            table.to_parquet(file, index=False)
    else:
        with text_output(output, force=force) as text:
            table.to_csv(text, index=False, lineterminator="\n")


def draw(kind: str, path: Path, output: Path, *, ready: str, signals: str, force: bool) -> None:
    """Draw one kind of figure from a trace into a .png, .svg or .pdf file."""
    from sigwindow.analysis import plots

    form = output.suffix.lower().removeprefix(".")
    if form not in ("png", "svg", "pdf"):
        raise UsageError(f"{output}: a figure is a .png, .svg or .pdf file")
    analysis, _ = analyse(path, ready=ready, signals=signals)
    axes = getattr(plots, kind)(analysis)
    with tracefile.create(output, force=force) as file:
        axes.figure.savefig(file, format=form, bbox_inches="tight", dpi=150)
