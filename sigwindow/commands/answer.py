"""What commands answer beside what they show: files of text, the JSON of a summary, and gates."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from sigwindow import gates as gating
from sigwindow.analysis.words import parse_duration
from sigwindow.collector import files
from sigwindow.probes.text import printable

from .options import AnswerOptions

if TYPE_CHECKING:
    from sigwindow.analysis.result import Analysis
    from sigwindow.gates import Outcome
    from sigwindow.probes.traceinfo import TraceInfo


class Answer:
    """What was asked for with `--json` and the options of gates; made before the work, to tell what is wrong with it.

    output: the file that the command writes besides. inputs: those that it reads. Raises UsageError for gates that make
    no sense, and for files that can't be written, or must not be.
    """

    def __init__(self, wanted: AnswerOptions, output: Path | None = None, inputs: Iterable[str | Path] = ()) -> None:
        self._wanted = wanted
        written = [path for path in (output, wanted.json_file, wanted.junit) if path and not is_standard_output(path)]
        files.check(written, inputs, force=wanted.force)
        longest = wanted.max_exposure
        if wanted.junit and not (wanted.fail_on or longest):
            raise click.UsageError("--junit tells of gates: give --fail-on or --max-exposure, too")
        self.gates = gating.Gates(wanted.fail_on, None if longest is None else parse_duration(longest))

    def summary(self, analysis: Analysis, info: TraceInfo, to: TextIO | None = None) -> int:
        """Show the summary of a capture on the stream `to`, write it where asked, and return the gates' exit code."""
        from sigwindow.analysis import summary as summaries
        from sigwindow.analysis.findings.check import check
        from sigwindow.terminal import draw, render

        totals = analysis.totals
        found = summaries.summarise(totals, info)
        draw.console(to or sys.stdout).print(render.summary(found, totals.worst, findings=check(totals, info)))
        self.json(found)
        return self.code(self.gates.judge("capture", totals))

    def json(self, told: Mapping[str, Any]) -> None:
        """Write what `--json` asks for."""
        from sigwindow.analysis import summary as summaries

        if self._wanted.json_file:
            write(self._wanted.json_file, summaries.to_json(told), force=self._wanted.force)

    def code(self, outcomes: Sequence[Outcome], unreadable: Sequence[tuple[str, str]] = ()) -> int:
        """Tell of gates that are not open, on standard error and in the JUnit file; returns the exit code.

        unreadable: names of traces that could not be judged at all, each with the reason.
        """
        for trace, gate, state, message in outcomes:
            if state != "passed":
                what = "failed" if state == "failed" else "can't be answered"
                click.echo(f"sigwindow: {printable(trace)}: gate {gate} {what}: {message}", err=True)
        if self._wanted.junit:
            write(self._wanted.junit, gating.junit(outcomes, unreadable), force=self._wanted.force)
        return gating.exit_code(outcomes)


def is_standard_output(path: Path) -> bool:
    """Whether a file that an option names is `-`."""
    return str(path) == "-"


def opened(path: Path | None, *, force: bool) -> AbstractContextManager[TextIO]:
    """A text file to write; standard output without a path, and for `-`."""
    if path is None or is_standard_output(path):
        return nullcontext(sys.stdout)
    return files.text(path, force=force)


def write(path: Path | None, text: str, *, force: bool) -> None:
    """Write a text to a file, or to standard output."""
    with opened(path, force=force) as file:
        file.write(text)
