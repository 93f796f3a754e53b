"""`python -m sigwindow`, and the `sigwindow` command."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence

import click

from sigwindow.commands import cli
from sigwindow.probes.errors import SigwindowError
from sigwindow.probes.text import ENCODABLE

_GC_THRESHOLD = 200_000  # imports make many objects and no garbage


def main() -> None:
    """Be the process of the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the descriptor was closed
            stream.reconfigure(errors=ENCODABLE)
    gc.set_threshold(_GC_THRESHOLD)
    code = run(sys.argv[1:])
    gc.freeze()  # else the interpreter looks through all objects before it ends
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; every error that we raise on purpose ends here, as one message and its exit code."""
    try:
        code = cli.main(list(arguments), prog_name="sigwindow", standalone_mode=False)
    except SigwindowError as error:
        click.echo(f"sigwindow: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # the reader of our output has seen enough; nothing more may be written, not even at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
