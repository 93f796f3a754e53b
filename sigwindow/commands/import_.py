"""`sigwindow import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .options import AnswerOptions

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question


@click.command("import", short_help="Make a trace of another tool's log.")
@click.option("-o", "--output", type=options.PATH, required=True, help="The trace to write (.arrows).")
@click.option(
    "--stderr", "messages", type=options.PATH, help="What the tracer wrote to its standard error: its losses."
)
@options.question
@options.answering
@click.argument("file", type=options.PATH)
def import_(file: Path, output: Path, messages: Path | None, question: Question, answering: AnswerOptions) -> int:
    """Make a trace of FILE: a log of strace, or lines of the D and bpftrace scripts.

    What FILE is, is told by its content. A log of `strace -ff` is named by one of its files, or by what their names
    have in common.
    """
    from sigwindow.analysis.engine.windows import Windows
    from sigwindow.collector import files, importing, tracefile
    from sigwindow.terminal import progress

    from .answer import Answer

    answer = Answer(answering, output, importing.sources(file, messages))
    with importing.opened(file, messages) as recording, progress.shown(quiet=answering.quiet) as bar:
        windows = Windows(question, recording.info.os)
        task = bar.add_task("import", total=recording.size_bytes)
        with (
            files.replacing(output, force=answering.force) as trace,
            tracefile.Writer(trace, recording.info) as writer,
        ):
            for batch in recording.batches():
                writer.write(batch)
                windows.feed(batch)
                bar.update(task, completed=recording.read_bytes)
    for note in recording.notes:
        answer.streams.hint(note)
    return answer.summary(windows.result(), recording.info)
