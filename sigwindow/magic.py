"""The IPython magic: `%load_ext sigwindow`, then `%%sigwindow` before a cell, or `%sigwindow attach PID`."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sigwindow.collector import procfs
from sigwindow.commands import options, sentence
from sigwindow.probes.errors import SigwindowError, UsageError
from sigwindow.recording import Recording, attach, run
from sigwindow.trace import Trace, read

if TYPE_CHECKING:
    from sigwindow.analysis.question import Question

_F = TypeVar("_F", bound=Callable[..., Any])
_USAGE = """\
%%sigwindow [options]                                  trace this process while the cell runs
%sigwindow attach PID... [--duration 5s] [options]     trace other processes
%sigwindow run [options] -- COMMAND...                 trace a command
%sigwindow read FILE... [--ready ...] [--signals ...]  show traces

Options, as on the command line: --ready POLICY, --signals SIGNALS, -o FILE, --force, --[no-]follow, --stacks
"""


def _recording(*, follow: bool) -> Callable[[_F], _F]:
    """The decorator that gives a command the options of `run` and `attach`, as on the command line.

    follow: the default of `--follow`.
    """

    def decorate(command: _F) -> _F:
        for option in (
            click.option("--follow/--no-follow", default=follow),
            click.option("--stacks", is_flag=True),
            click.option("-o", "--output", type=options.PATH),
            options.force,
            options.question,
        ):
            command = option(command)
        return command

    return decorate


def _asked(question: Question, how: dict[str, Any]) -> dict[str, Any]:
    return {**how, "ready": question.ready, "signals": question.signals}


@click.group(add_help_option=False, no_args_is_help=False)
def _line() -> None:
    """What `%sigwindow` does."""


@_line.command("attach", add_help_option=False)
@_recording(follow=False)
@click.option("--duration", "duration_ns", type=options.DURATION, default="5s")
@click.argument("pids", metavar="PID...", nargs=-1, required=True)
def _attach(pids: tuple[str, ...], duration_ns: int, question: Question, **how: Any) -> Trace:
    with attach(*map(procfs.pid_of, pids), **_asked(question, how)) as recording:
        time.sleep(duration_ns / 1e9)
    return recording.trace


@_line.command("run", add_help_option=False, context_settings={"allow_interspersed_args": False})
@_recording(follow=True)
@click.argument("argv", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
def _run(argv: tuple[str, ...], question: Question, **how: Any) -> Trace:
    with run(argv, **_asked(question, how)) as recording:
        pass
    return recording.trace


@_line.command("read", add_help_option=False)
@options.question
@click.argument("sources", metavar="FILE...", nargs=-1, required=True)
def _read(sources: tuple[str, ...], question: Question) -> Trace:
    return read(*sources, ready=question.ready, signals=question.signals)


@click.command(add_help_option=False)
@_recording(follow=False)
def _cell(question: Question, **how: Any) -> Recording:
    return attach(os.getpid(), **_asked(question, how))


def _parsed(command: click.Command, line: str) -> Any:
    """What a command gives for the words of a line; wrong words are a UsageError that shows how it is used."""
    try:
        return command.main(shlex.split(line), prog_name="%sigwindow", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(f"{sentence(error)}\n\n{_USAGE}") from None
    except ValueError as error:  # of shlex: an open quotation mark
        raise UsageError(f"{str(error).lower()}\n\n{_USAGE}") from None


def sigwindow(line: str, cell: str | None = None) -> Trace | None:
    """Trace the cell, or do what the line says, and show the result."""
    from IPython import get_ipython

    try:
        if cell is None:
            found: Trace = _parsed(_line, line)
            return found
        recording: Recording = _parsed(_cell, line)
        shell = get_ipython()
        with recording:
            result = shell.run_cell(cell)
    except SigwindowError as error:
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
