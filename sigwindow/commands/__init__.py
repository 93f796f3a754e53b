"""The command line: which commands there are, and in which file each of them is.

A command checks its options, calls the parts, and hands what they found to a renderer. Its file is loaded when it is
needed, and what is heavy (pandas, pyarrow, matplotlib) within its function: `--help` is instant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

import click

COMMANDS = {  # by name, in the order of the help: the file, and the function in it
    "doctor": "doctor",
    "run": "run",
    "attach": "attach",
    "inspect": "inspect",
    "analyze": "analyze",
    "report": "report",
    "compare": "compare",
    "plot": "plot",
    "import": "import_",
}


class _Lazily(Mapping[str, click.Command]):
    """The commands by name, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        file = COMMANDS[name]
        command: click.Command = getattr(import_module(f"{__name__}.{file}"), file)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Commands(click.Group):
    """A group that lists its commands in their own order."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(self.commands)


@click.group(
    cls=_Commands,
    commands=_Lazily(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="sigwindow")
def cli() -> None:
    """Find the threads that a signal can hit before they are ready for it."""


def sentence(error: click.ClickException) -> str:
    """What click says of a wrong command line, as we say such things."""
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]
