"""`python -m sigwindow`, and the `sigwindow` command."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from sigwindow.commands import cli
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


def _end(number: int, frame: FrameType | None) -> None:
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
        streams.error(_told(error))
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:  # a full disk, a file system that is gone
        streams.error(f"{error.filename}: {error.strerror}" if error.filename else f"can't go on: {error.strerror}")
        return SigwindowError.exit_code
    return code if isinstance(code, int) else 0


def _told(error: click.ClickException) -> str:
    """A wrong command line in our own style: click's sentence, and what to type."""
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"\nTry '{context.command_path} --help'" if context else ""
    return message[:1].lower() + message[1:] + hint


if __name__ == "__main__":
    main()
