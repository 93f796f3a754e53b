"""The command line as a whole: which commands there are, and what loading them costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from commandline import Run

from sigwindow import commands
from sigwindow.commands import COMMANDS, cli

ROOT = Path(__file__).parent.parent

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
    assert ours - {"options", "completion"} == {COMMANDS[name]}


def test_every_file_is_a_command() -> None:
    folder = Path(commands.__file__).parent
    shared = {"__init__", "options", "answer", "capturing", "completion"}
    assert {path.stem for path in folder.glob("*.py")} == {*COMMANDS.values(), *shared}


def test_the_help_lists_every_command(sigwindow: Run) -> None:
    done = sigwindow("--help")
    listed = done.out.split("Commands:\n")[1]
    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)


@pytest.mark.parametrize(
    ("words", "near"),
    [(["analyse", "x"], "'analyze'"), (["analyze", "--redy", "auto"], "'--ready'"), (["plott"], "'plot'")],
)
def test_what_was_likely_meant_is_said(sigwindow: Run, words: list[str], near: str) -> None:
    done = sigwindow(*words)
    assert (done.code, done.out) == (2, "")
    assert "id you mean" in done.err
    assert near in done.err


WRONG = [
    ["no-such-command"],
    ["--no-such-option"],
    ["analyze", "t", "--no-such-option"],
    ["analyze", "t", "--json"],
    ["analyze", "t", "--by", "x"],
    ["analyze", "t", "--ready", "x"],
    ["analyze", "t", "--signals", "x"],
    ["analyze", "t", "--rate", "x"],
    ["analyze", "t", "--format", "parquet"],
    ["analyze", "t", "--dask", "x"],
    ["analyze", "t", "--dask", "--by", "name"],
    ["analyze", "t", "--by", "name", "--format", "csv"],
    ["analyze", "t", "--rate", "SIGPROF=9", "--format", "json"],
    ["analyze", "t", "--max-exposure", "20"],
    ["analyze"],
    ["run"],
    ["run", "--buffer", "3X", "--", "true"],
    ["run", "--duration", "x", "--", "true"],
    ["run", "--duration", "0", "--", "true"],
    ["attach"],
    ["attach", "x"],
    ["attach", "1", "--all"],
    ["inspect", "x"],
    ["plot", "x", "t", "-o", "t.png"],
    ["plot", "ecdf", "t"],
    ["plot", "ecdf", "t", "-o", "t.txt"],
    ["report", "t"],
    ["report", "t", "-o", "/"],
    ["compare", "t"],
    ["compare", "t", "t", "t"],
    ["doctor", "x"],
]


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_use_has_one_style_and_one_code(sigwindow: Run, words: list[str]) -> None:
    done = sigwindow(*words)
    assert (done.code, done.out) == (2, "")
    first, *more = done.err.splitlines()
    assert re.fullmatch(r"sigwindow: [^A-Z].*[^.]", first)
    command = ["sigwindow", *words[:1]] if words[0] in COMMANDS else ["sigwindow"]
    assert more in ([], [f"Try '{' '.join(command)} --help'"])


def test_durations_have_one_type(sigwindow: Run) -> None:
    for text in ("5m", "20us", "20 µs", "1.5ms", "1,200 s", "2 h", "3 d", "0.5"):
        assert "duration" not in sigwindow("attach", "no-pid", "--duration", text).err
    trace = ROOT / "notebooks" / "traces" / "newosproc-broken.arrows"
    assert sigwindow("analyze", trace, "--max-exposure", "5m").code == 0
    assert sigwindow("analyze", trace, "--max-exposure", "20 µs").code == 1


@pytest.mark.parametrize(
    ("arguments", "incomplete", "expected"),
    [
        ([], "an", ["analyze"]),
        (["analyze"], "--fo", ["--format", "--force"]),
        (["analyze", "--format"], "p", ["parquet"]),
        (["analyze", "--ready"], "s", ["steady", "symbol:"]),
        (["analyze", "--signals"], "a", ["async", "all"]),
        (["analyze", "--signals"], "SIGPROF,SIGUS", ["SIGPROF,SIGUSR1", "SIGPROF,SIGUSR2"]),
        (["analyze", "--rate"], "SIGPR", ["SIGPROF="]),
        (["attach"], str(os.getpid()), [str(os.getpid())]),
        (["inspect"], str(os.getpid()), [str(os.getpid())]),
        (["plot"], "ti", ["timeline"]),
    ],
)
def test_a_shell_completes(arguments: list[str], incomplete: str, expected: list[str]) -> None:
    complete = ShellComplete(cli, {}, "sigwindow", "_SIGWINDOW_COMPLETE")
    found = [item.value for item in complete.get_completions(arguments, incomplete)]
    assert set(expected) <= set(found)
    assert all(value.startswith(incomplete) for value in found)


@pytest.mark.parametrize("command", ["analyze", "report", "plot ecdf", "compare"])
def test_a_shell_completes_the_files_itself(command: str) -> None:
    complete = ShellComplete(cli, {}, "sigwindow", "_SIGWINDOW_COMPLETE")
    assert [item.type for item in complete.get_completions(command.split(), "t")] == ["file"]


def test_the_script_of_a_shell(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_SIGWINDOW_COMPLETE": "bash_complete",
        "COMP_WORDS": "sigwindow do",
        "COMP_CWORD": "1",
    }
    run = [sys.executable, "-m", "sigwindow"]
    assert subprocess.run(run, env=environment, capture_output=True, text=True).stdout == "plain,doctor\n"
    script = subprocess.run(
        run, env={**environment, "_SIGWINDOW_COMPLETE": "zsh_source"}, capture_output=True, text=True
    )
    assert script.stdout.startswith("#compdef sigwindow")


def test_the_version(sigwindow: Run) -> None:
    import sigwindow as package

    assert sigwindow("--version").out == f"sigwindow, version {package.__version__}\n"
    assert package.__version__ == metadata.version("sigwindow")


def test_every_command_has_a_man_page(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "man.py", tmp_path], check=True)
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(pages) == {"sigwindow.1", *(f"sigwindow-{name}.1" for name in COMMANDS)}
    for name in COMMANDS:
        assert f"\\fBsigwindow-{name}(1)\\fP" in pages["sigwindow.1"]
        short = cli.commands[name].short_help
        assert short
        assert len(short) <= 45  # else click-man and the help cut it
        assert f"sigwindow\\-{name} \\- {short}" in pages[f"sigwindow-{name}.1"]
        for option in cli.commands[name].params:
            if option.param_type_name == "option":
                assert max(option.opts, key=len).replace("-", "\\-") in pages[f"sigwindow-{name}.1"]
