"""Which stream says what: the answer is alone on standard output; and no stream's encoding or end is a traceback."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import Run

from sigwindow.commands import COMMANDS
from sigwindow.terminal.streams import Streams

ROOT = Path(__file__).parent.parent
TRACES = ROOT / "notebooks" / "traces"
TRACE, OTHER = TRACES / "newosproc-broken.arrows", TRACES / "newosproc-fixed.arrows"
RUBY = TRACES / "ruby.arrows"
LOG = ROOT / "tests" / "strace" / "attached.log"
SIGWINDOW = (sys.executable, "-m", "sigwindow")


def is_json(text: str) -> bool:
    return isinstance(json.loads(text), dict | list)


def is_csv(text: str) -> bool:
    header, *rows = csv.reader(text.splitlines())
    return "exposure_ns" in header and {len(row) for row in rows} == {len(header)}


def is_words(text: str) -> bool:
    return re.match(r"\s*(\[sigwindow\] )?\w.* \w", text) is not None


def is_nothing(text: str) -> bool:
    return text == ""


Kind = Callable[[str], bool]
FORMS: dict[str, tuple[list[str], Kind, Kind]] = {  # command line, what is on standard output, and on standard error
    "doctor": (["doctor"], is_words, is_nothing),
    "doctor json": (["doctor", "--json"], is_json, is_nothing),
    "inspect": (["inspect", str(os.getpid())], is_words, is_nothing),
    "inspect json": (["inspect", str(os.getpid()), "--json"], is_json, is_nothing),
    "analyze": (["analyze", "{trace}"], is_words, is_nothing),
    "analyze --json": (["analyze", "{trace}", "--json", "-"], is_json, is_words),
    "analyze two --json": (["analyze", "{trace}", "{other}", "--json", "-"], is_json, is_words),
    "analyze by --json": (["analyze", "{trace}", "--by", "name", "--json", "-"], is_json, is_words),
    "analyze rate --json": (["analyze", "{trace}", "--rate", "SIGPROF=9", "--json", "-"], is_json, is_words),
    "analyze words in a file": (["analyze", "{trace}", "-o", "{new}", "--json", "-"], is_json, is_nothing),
    "analyze json": (["analyze", "{trace}", "--format", "json"], is_json, is_nothing),
    "analyze json in a file": (["analyze", "{trace}", "--format", "json", "-o", "{new}"], is_nothing, is_nothing),
    "analyze csv": (["analyze", "{trace}", "--format", "csv"], is_csv, is_nothing),
    "analyze csv in a file": (
        ["analyze", "{trace}", "--format", "csv", "-o", "{new}", "--json", "-"],
        is_json,
        is_nothing,
    ),
    "analyze gate": (["analyze", "{trace}", "--json", "-", "--fail-on", "hit"], is_json, is_words),
    "analyze csv gate": (["analyze", "{trace}", "--format", "csv", "--fail-on", "hit"], is_csv, is_words),
    "compare": (["compare", "{trace}", "{other}"], is_words, is_nothing),
    "compare --json": (["compare", "{trace}", "{other}", "--json", "-"], is_json, is_words),
    "import": (["import", "{log}", "-o", "{new}"], is_words, is_words),
    "import --json": (["import", "{log}", "-o", "{new}", "--json", "-"], is_json, is_words),
    "plot": (["plot", "ecdf", "{trace}", "-o", "{new}.svg"], is_nothing, is_nothing),
    "report": (["report", "{trace}", "-o", "{new}.html"], is_nothing, is_nothing),
}


def filled(arguments: list[str], tmp_path: Path) -> list[str]:
    return [word.format(trace=TRACE, other=OTHER, log=LOG, new=tmp_path / "new") for word in arguments]


@pytest.mark.parametrize(("arguments", "out", "err"), FORMS.values(), ids=FORMS)
def test_the_answer_is_alone_on_its_stream(
    sigwindow: Run, tmp_path: Path, arguments: list[str], out: Kind, err: Kind
) -> None:
    done = sigwindow(*filled(arguments, tmp_path))
    assert out(done.out)
    assert err(done.err)


@pytest.mark.parametrize(
    ("arguments", "out"),
    [(arguments, out) for arguments, out, _ in FORMS.values() if arguments[0] not in ("doctor", "inspect")],
    ids=[form for form, (arguments, *_) in FORMS.items() if arguments[0] not in ("doctor", "inspect")],
)
def test_quiet_leaves_errors_only(sigwindow: Run, tmp_path: Path, arguments: list[str], out: Kind) -> None:
    done = sigwindow(*filled(arguments, tmp_path), "-q")
    assert out(done.out)
    assert all(line.startswith("sigwindow: ") for line in done.err.splitlines())
    assert bool(done.err) == ("--fail-on" in arguments)


@pytest.mark.parametrize("form", ["json", "csv"])
def test_two_on_one_stream_are_refused(sigwindow: Run, tmp_path: Path, form: str) -> None:
    done = sigwindow("analyze", TRACE, "--format", form, "--json", "-")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"sigwindow: --json - and --format {form} would both go to standard output: ")
    assert sigwindow("analyze", TRACE, "--format", form, "--json", "-", "-o", tmp_path / "t").code == 0


def test_the_status_and_json_are_two_on_one_stream(sigwindow: Run) -> None:
    done = sigwindow("run", "--no-trace", "--json", "-", "--status-fd", 1, "--", "true")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("sigwindow: --json - and --status-fd 1 would both go to standard output: ")


@pytest.mark.live
@pytest.mark.parametrize("quiet", [("--no-trace",), ("--no-trace", "-q")], ids=["", "quiet"])
def test_a_command_keeps_standard_output(quiet: tuple[str, ...]) -> None:
    talks = ("--", "sh", "-c", "echo from the command; exit 3")
    plain = subprocess.run([*SIGWINDOW, "run", *quiet, *talks], capture_output=True, text=True)
    assert (plain.returncode, plain.stdout) == (0, "from the command\n")
    assert ("No thread was born" in plain.stderr) == ("-q" not in quiet)
    with_json = subprocess.run([*SIGWINDOW, "run", *quiet, "--json", "-", *talks], capture_output=True, text=True)
    assert json.loads(with_json.stdout)["threads"]["born"] == 0
    assert "from the command\n" in with_json.stderr


@pytest.mark.live
def test_an_attach_answers_on_standard_output(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        attach = [*SIGWINDOW, "attach", str(sleeper.pid), "--duration", "0.2", "-o", str(tmp_path / "t.arrows")]
        plain = subprocess.run(attach, capture_output=True, text=True, check=True)
        assert is_words(plain.stdout)
        quiet = subprocess.run([*attach, "--force", "-q", "--json", "-"], capture_output=True, text=True, check=True)
        assert (is_json(quiet.stdout), quiet.stderr) == (True, "")
    finally:
        sleeper.kill()
        sleeper.wait()


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, with nothing but this in its environment to choose an encoding."""
    chosen = ("LANG", "LANGUAGE", "PYTHONIOENCODING", "PYTHONUTF8", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if name not in chosen and not name.startswith("LC_")}
    return subprocess.run([*SIGWINDOW, *map(str, arguments)], capture_output=True, env=kept | environment)


ASCII = [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "TERM": "dumb"}]
ENVIRONMENTS = [
    *ASCII,
    {},
    {"LC_ALL": "C.UTF-8"},
    {"LC_ALL": "de_DE"},
    {"LC_ALL": "de_DE.UTF-8"},
    {"LC_ALL": "no such locale"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "utf-16"},
    {"TERM": "dumb"},
    {"NO_COLOR": "1", "TERM": "xterm-256color"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=str)
def test_no_environment_is_a_traceback(environment: dict[str, str]) -> None:
    for words, code in ((("analyze", RUBY, "--by", "name"), 0), (("analyze", RUBY, "no such file \xe9\u2026"), 4)):
        done = command(*words, **environment, COLUMNS="80")
        assert b"Traceback" not in done.stderr
        assert done.returncode == code
        assert len(done.stdout) > 500
        if environment in ASCII:
            assert (done.stdout + done.stderr).isascii()
            assert b" us" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_is_ascii(sigwindow: Run, name: str) -> None:
    assert sigwindow(name, "--help").out.isascii()


def test_microseconds_where_they_can_be_shown() -> None:
    for environment, micro in (({"LC_ALL": "C.UTF-8"}, "µs".encode()), ({"PYTHONIOENCODING": "latin-1"}, b"\xb5s")):
        assert b" " + micro in command("analyze", RUBY, **environment).stdout


@pytest.mark.parametrize("close", ["1>&-", "2>&-", "0<&-", "1>/dev/full", "2>/dev/full"])
@pytest.mark.parametrize("words", ["analyze {} --fail-on hit", "analyze {} --json -", "analyze nowhere"])
def test_a_stream_that_is_closed_or_full(close: str, words: str) -> None:
    line = f"{sys.executable} -m sigwindow {words.format(TRACE)} {close}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if close == "1>/dev/full" and str(TRACE) in line:
        assert done.returncode == 1
        assert "No space left" in done.stderr
    else:
        codes = {"analyze {} --fail-on hit": 1, "analyze {} --json -": 0, "analyze nowhere": 4}
        assert done.returncode == codes[words]


def test_a_reader_that_leaves_does_not_open_a_gate() -> None:
    for form in ("table", "json", "csv"):
        words = f"analyze {RUBY} --fail-on exposed --format {form}"
        script = f"set -o pipefail; {sys.executable} -m sigwindow {words} | true"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert (done.returncode, "gate exposed failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def on_a_terminal(*arguments: object, term: str) -> str:
    """What a command shows where standard error is a terminal."""
    ours, theirs = pty.openpty()
    words = [*SIGWINDOW, *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=theirs, env={**os.environ, "TERM": term}) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 1 << 16)
            except OSError:  # EIO: the other side is closed
                break
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", TRACE, OTHER],
        ["analyze", TRACE, OTHER, "--by", "name"],
        ["compare", TRACE, OTHER],
        ["report", TRACE, OTHER, "-o", "{new}.html"],
        ["import", LOG, "-o", "{new}.arrows"],
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:1])),
)
def test_progress_is_shown_on_a_terminal_only(tmp_path: Path, arguments: list[object]) -> None:
    words = [str(word).format(new=tmp_path / "new") for word in arguments]
    told = "import" if "import" in words else "trace 2 of 2"
    assert told in on_a_terminal(*words, term="xterm")
    force = ["--force"] if words[0] in ("report", "import") else []
    assert told not in on_a_terminal(*words, *force, "-q", term="xterm")
    assert told not in on_a_terminal(*words, *force, term="dumb")


def test_words_go_where_standard_output_is_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    for taken, quiet, expected in (
        (False, False, ("told\n", "[sigwindow] beside\n")),
        (False, True, ("told\n", "")),
        (True, False, ("", "told\n[sigwindow] beside\n")),
        (True, True, ("", "")),
    ):
        streams = Streams(taken=taken, quiet=quiet)
        streams.show("told")
        streams.hint("beside")
        assert capsys.readouterr() == expected
