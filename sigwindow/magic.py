"""The IPython magic: `%load_ext sigwindow`, then `%%sigwindow` before a cell, or `%sigwindow attach PID`."""

from __future__ import annotations

import os
import shlex
import time
from typing import Any

import click

from sigwindow.commands import sentence
from sigwindow.commands.options import DURATION
from sigwindow.probes.errors import SigwindowError, UsageError
from sigwindow.recording import Recording, attach, run
from sigwindow.trace import Trace, read

_USAGE = """\
%%sigwindow [--ready POLICY] [--signals SIGNALS] [-o FILE]     trace this process while the cell runs
%sigwindow attach PID... [--duration TIME] [options]        trace other processes
%sigwindow run [options] -- COMMAND...                         trace a command
%sigwindow read FILE...                                        show traces
"""


def _question(function: Any) -> Any:
    """The options of what is asked."""
    return click.option("--ready", default="auto")(click.option("--signals", default="async")(function))


def _options(function: Any) -> Any:
    """The options of what records."""
    return click.option("-o", "--output")(_question(function))


@click.group(add_help_option=False, no_args_is_help=False)
def _line() -> None:
    """What `%sigwindow` does."""


@_line.command("attach", add_help_option=False)
@_options
@click.option("--duration", "duration_ns", type=DURATION, default="5")
@click.argument("pids", nargs=-1, type=int, required=True)
def _attach(pids: tuple[int, ...], duration_ns: int, **options: Any) -> Trace:
    with attach(*pids, **options) as recording:
        time.sleep(duration_ns / 1e9)
    return recording.trace


@_line.command("run", add_help_option=False, context_settings={"allow_interspersed_args": False})
@_options
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, required=True)
def _run(argv: tuple[str, ...], **options: Any) -> Trace:
    with run(argv, **options) as recording:
        pass
    return recording.trace


@_line.command("read", add_help_option=False)
@_question
@click.argument("sources", nargs=-1, required=True)
def _read(sources: tuple[str, ...], ready: str, signals: str) -> Trace:
    return read(*sources, ready=ready, signals=signals)


@click.command(add_help_option=False)
@_options
def _cell(**options: Any) -> Recording:
    return attach(os.getpid(), **options)


def _parsed(command: click.Command, words: list[str]) -> Any:
    """What a command gives for some words; wrong words are a UsageError that shows how it is used."""
    try:
        return command.main(words, prog_name="%sigwindow", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(f"{sentence(error)}\n\n{_USAGE}") from None


def sigwindow(line: str, cell: str | None = None) -> Trace | None:
    """Trace the cell, or do what the line says, and show the result."""
    from IPython import get_ipython

    try:
        words = shlex.split(line)
        if cell is None:
            found: Trace = _parsed(_line, words)
            return found
        recording: Recording = _parsed(_cell, words)
        shell = get_ipython()
        with recording:
            result = shell.run_cell(cell)
    except (SigwindowError, ValueError) as error:  # ValueError: an open quotation mark
        print(f"sigwindow: {error}")
        return None
    if not result.success:  # it has shown its error; a notebook that is run as a whole must stop here, too
        from IPython.core.error import UsageError as CellError
        from IPython.display import display

        display(recording.trace)
        raise CellError("the cell failed; what was traced is above")
    return recording.trace


def load_ipython_extension(shell: Any) -> None:
    """Register the magic; IPython calls this for `%load_ext sigwindow`."""
    shell.register_magic_function(sigwindow, magic_kind="line_cell", magic_name="sigwindow")
