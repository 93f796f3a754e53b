"""The command line: which commands there are, and in which file each of them is.

A command checks its options, calls the parts, and hands what they found to a renderer. Its file is loaded when it is
needed, and what is heavy (pandas, pyarrow, matplotlib) within its function: `--help` is instant.
"""

from __future__ import annotations

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


class _Commands(click.Group):
    """A group whose commands are loaded one by one, when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        file = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"{__name__}.{file}"), file)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sigwindow")
def cli() -> None:
    """Find the threads that a signal can hit before they are ready for it."""
