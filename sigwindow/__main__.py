"""`python -m sigwindow`, and the `sigwindow` command."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from sigwindow.commands import COMMANDS, cli, sentence
from sigwindow.probes.errors import SigwindowError, UsageError
from sigwindow.terminal import streams

_GC_THRESHOLD = 200_000  # imports make many objects and no garbage


def main() -> None:
    """Be the process of the command line."""
    streams.prepare()
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # a command that is run would inherit that it is ignored
        signal.signal(signal.SIGTERM, _end)
    gc.set_threshold(_GC_THRESHOLD)
    code = run(sys.argv[1:])
    gc.freeze()  # else the interpreter looks through all objects before it ends
    sys.exit(code)


def _end(number: int, _frame: FrameType | None) -> None:
    """End by an exception, which leaves no file half written, and no command that was to be traced."""
    sys.exit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; every error that we raise on purpose ends here, as one message and its exit code."""
    code: object = 0
    try:
        with streams.answering():
            code = cli.main(list(arguments), prog_name="sigwindow", standalone_mode=False)
    except SigwindowError as error:
        streams.error(str(error))
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except click.ClickException as error:
        streams.error(f"{sentence(error)}\nTry '{_command(error, arguments)} --help'")
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:  # a full disk, a file system that is gone
        streams.error(f"{error.filename}: {error.strerror}" if error.filename else f"can't go on: {error.strerror}")
        return SigwindowError.exit_code
    return code if isinstance(code, int) else 0


def _command(error: click.ClickException, arguments: Sequence[str]) -> str:
    """The command that was meant; click does not always say it."""
    if isinstance(error, click.UsageError) and error.ctx:
        return error.ctx.command_path
    return f"sigwindow {arguments[0]}" if arguments and arguments[0] in COMMANDS else "sigwindow"


if __name__ == "__main__":
    main()
