"""The command line as a whole: which commands there are, and what loading them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Run

from sigwindow import commands
from sigwindow.commands import COMMANDS

HEAVY = {"numba", "numpy", "pandas", "pyarrow", "rich", "matplotlib", "scipy", "jinja2"}
LOADED = """
import sys
from sigwindow.__main__ import run
code = run(sys.argv[1:])
print(code, *sys.modules, file=sys.stderr)
"""


def loaded_by(*arguments: str) -> tuple[str, set[str]]:
    """The exit code of a command line in a fresh interpreter, and the modules that it loads."""
    done = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    code, *names = done.stderr.split()
    return code, set(names)


def test_help_loads_nothing_heavy() -> None:
    code, names = loaded_by("--help")
    assert code == "0"
    assert not HEAVY & names


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_loads_its_own_file_only(name: str) -> None:
    code, names = loaded_by(name, "--help")
    assert code == "0"
    assert not HEAVY & names
    ours = {module.rpartition(".")[2] for module in names if module.startswith("sigwindow.commands.")}
    assert ours - {"options"} == {COMMANDS[name]}


def test_every_file_is_a_command() -> None:
    folder = Path(commands.__file__).parent
    shared = {"__init__", "options", "answer", "capturing"}
    assert {path.stem for path in folder.glob("*.py")} == {*COMMANDS.values(), *shared}


def test_the_help_lists_every_command(sigwindow: Run) -> None:
    done = sigwindow("--help")
    listed = done.out.split("Commands:\n")[1]
    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)
