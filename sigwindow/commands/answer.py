"""What commands answer beside what they show: files of text, the JSON of a summary, and gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sigwindow import gates as gating
from sigwindow.collector import files
from sigwindow.probes.text import printable
from sigwindow.terminal import streams
from sigwindow.terminal.streams import Streams

from .options import AnswerOptions

if TYPE_CHECKING:
    from sigwindow.analysis.result import Analysis
    from sigwindow.gates import Outcome
    from sigwindow.probes.traceinfo import TraceInfo


class Answer:
    """What a command answers, and where: in words, as JSON, by gates. Made before the work, to tell what is wrong.

    wanted: the options. output: the file that the command writes besides. inputs: those that it reads. taken: standard
    output is a program's already, or the traced command's. of_command: beside gates a command's own status is told of.
    Raises UsageError for gates that make no sense, and for files that can't be written, or must not be.
    """

    def __init__(
        self,
        wanted: AnswerOptions,
        output: Path | None = None,
        inputs: Iterable[str | Path] = (),
        *,
        taken: bool = False,
        of_command: bool = False,
    ) -> None:
        self._wanted = wanted
        self._json_file = None if wanted.json_to_stdout else wanted.json_file
        written = (output, self._json_file, wanted.junit)
        files.check(filter(None, written), inputs, force=wanted.force)
        least = 1 if wanted.min_threads is None else wanted.min_threads
        self.gates = gating.Gates(wanted.fail_on, wanted.max_exposure_ns, least)
        self.judges_command = of_command and (self.gates.asked or wanted.junit is not None)
        if not self.gates.asked and wanted.min_threads is not None:
            raise click.UsageError("--min-threads is about gates: give --fail-on or --max-exposure, too")
        if wanted.junit and not (self.gates.asked or of_command):
            raise click.UsageError("--junit tells of gates: give --fail-on or --max-exposure, too")
        self.streams = Streams(taken or wanted.json_to_stdout, wanted.quiet)

    def summary(self, analysis: Analysis, info: TraceInfo, command: Outcome | None = None) -> int:
        """Tell the summary of a capture, in words and where asked as JSON, and return the gates' exit code.

        command: what is told of the command besides.
        """
        from sigwindow.analysis import summary as summaries
        from sigwindow.analysis.findings.check import check
        from sigwindow.terminal import render

        totals = analysis.totals
        found = summaries.summarise(totals, info)
        self.streams.show(render.summary(found, totals, findings=check(totals, info)))
        self.json(found)
        return self.code(self.gates.judge("capture", totals), command=command)

    def json(self, told: Mapping[str, Any]) -> None:
        """Write what `--json` asks for."""
        from sigwindow.analysis import summary as summaries

        if self._wanted.json_file:
            write(self._json_file, summaries.to_json(told), force=self._wanted.force)

    def code(
        self,
        outcomes: Sequence[Outcome],
        unreadable: Sequence[tuple[str, str]] = (),
        command: Outcome | None = None,
    ) -> int:
        """Tell of gates that are not open, on standard error and in the JUnit file; returns their exit code.

        unreadable: names of traces that could not be judged at all, each with the reason. command: as of `summary`.
        """
        told = [*outcomes, *([command] if command else [])]
        for trace, gate, state, message in told:
            if state != "passed":
                what = "failed" if state == "failed" else "can't be answered"
                streams.error(f"{printable(trace)}: gate {gate} {what}: {message}")
        if self._wanted.junit:
            write(self._wanted.junit, gating.junit(told, unreadable), force=self._wanted.force)
        return gating.exit_code(outcomes)


def write(path: Path | None, text: str, *, force: bool) -> None:
    """Write a text to a file, or to standard output."""
    if path is None:
        streams.write(text)
    else:
        with files.text(path, force=force) as file:
            file.write(text)
