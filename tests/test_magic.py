"""The IPython magic, in a real kernel."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from test_notebooks import REFUSED, WITHOUT_EBPF, WITHOUT_RIGHTS, execute, text_of

from sigwindow import magic

THREADS = """\
import threading
import time
threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(13)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
# A process that makes a thread every 0.1 s for as long as it lives.
CHILD = """\
import threading
import time
print("ready", flush=True)
while True:
    threading.Thread(target=time.sleep, args=(0.01,)).start()
    time.sleep(0.1)
"""


def run(folder: Path, cells: Sequence[str], launcher: Sequence[str] = (), fails: bool = False) -> list[Any]:
    """Run cells in a kernel with the extension, and return them with their outputs; none may fail but with `fails`."""
    metadata = {"tags": ["raises-exception"]} if fails else {}
    code: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": metadata, "outputs": [], "execution_count": None, "source": source}
        for source in cells
    ]
    folder.mkdir(exist_ok=True)
    notebook = folder / "magic.ipynb"
    load = {**code[0], "metadata": {}, "source": "%load_ext sigwindow"}
    content = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [load, *code]}
    notebook.write_text(json.dumps(content), encoding="utf-8")
    return execute(notebook, launcher)[1:]


def shown(folder: Path, *cells: str, launcher: Sequence[str] = ()) -> list[str]:
    """What each cell shows, as text."""
    return [text_of(cell) for cell in run(folder, cells, launcher)]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


@pytest.mark.live
def test_cell_is_traced(tmp_path: Path) -> None:
    cell, after, empty = shown(tmp_path, f"%%sigwindow\n{THREADS}", "len(threads)", "%%sigwindow --ready mask\n1 + 1")
    assert cell == "<Trace of 13 threads born: none was exposed to a considered signal.>"
    assert after == "13"  # the cell ran in the notebook's own namespace
    assert empty == "2\n<Trace in which no thread was born>"


@pytest.mark.live
def test_result_shows_itself_as_html(tmp_path: Path) -> None:
    (cell,) = run(tmp_path, [f"%%sigwindow -o cell.arrows\n{THREADS}"])
    html = "".join(cell["outputs"][-1]["data"]["text/html"])
    assert "13 threads born" in html
    assert "data:image/png;base64," in html
    assert (tmp_path / "cell.arrows").exists()


@pytest.mark.live
def test_failing_cell_shows_its_error_and_the_trace(tmp_path: Path) -> None:
    (cell,) = run(tmp_path, [f"%%sigwindow\n{THREADS}\nprint('before')\n_ = 1 / 0"], fails=True)
    text = text_of(cell)
    assert "before" in text
    assert "ZeroDivisionError" in text
    assert "<Trace of 13 threads born" in text
    assert "the cell failed" in "".join(cell["outputs"][-1]["text"])
    with pytest.raises(AssertionError, match="ZeroDivisionError"):  # a notebook that is run as a whole stops here
        run(tmp_path / "again", ["%%sigwindow\n_ = 1 / 0"])


@pytest.mark.live
def test_another_process_is_attached_to(tmp_path: Path, child: subprocess.Popen[str]) -> None:
    (line,) = shown(tmp_path, f"%sigwindow attach {child.pid} --duration 1")
    found = re.fullmatch(
        r"<Trace of (\d+) threads? born: (?:it was not|none was) exposed to a considered signal\.>", line
    )
    assert found
    assert 5 <= int(found[1]) <= 11
    assert child.poll() is None


@pytest.mark.live
def test_a_command_is_run(tmp_path: Path, workloads: Path) -> None:
    (line,) = shown(tmp_path, f"%sigwindow run -- {workloads / 'workers'} plain -n 11")
    assert line == "<Trace of 11 threads born: none was exposed to a considered signal.>"


def test_files_are_read(tmp_path: Path) -> None:
    trace = Path(__file__).parent.parent / "notebooks" / "traces" / "newosproc-broken.arrows"
    first, other = shown(tmp_path, f"%sigwindow read {trace}", f"%sigwindow read --signals SIGINT {trace}")
    assert first == "<Trace of 199 threads born, of them 193 critical, 6 exposed.>"
    assert other == "<Trace of 199 threads born: none was exposed to a considered signal.>"


def test_wrong_use_is_told_without_a_traceback(tmp_path: Path) -> None:
    usage = {
        "%%sigwindow --wrong\n1": "no such option '--wrong'",
        "%%sigwindow 17\n1": "got unexpected extra argument (17)",
        "%%sigwindow -o 'open\n1": "no closing quotation",
        "%sigwindow": "missing command",
        "%sigwindow trace": "no such command 'trace'",
        "%sigwindow attach": "missing argument 'PID...'",
        "%sigwindow run": "missing argument 'COMMAND...'",
        "%sigwindow read -o x y": "no such option '-o'",
    }
    others = {
        "%%sigwindow --ready sometimes\n1": "unknown readiness policy 'sometimes'",
        "%sigwindow attach pid": "'pid' is no PID",
        f"%sigwindow attach {os.getpid()} --duration long": "bad duration 'long'",
        "%sigwindow attach 999999999 --duration 1": "no process with PID 999999999",
        "%sigwindow read nowhere.arrows": "can't read nowhere.arrows",
    }
    wrong = usage | others
    for message, text in zip(wrong.values(), shown(tmp_path, *wrong), strict=True):
        assert text.startswith(f"sigwindow: {message}"), text
        assert "Traceback" not in text
        assert (message in usage.values()) == ("%sigwindow attach PID... [--duration 5s]" in text), text


@pytest.mark.live
def test_options_are_those_of_the_command_line(tmp_path: Path) -> None:
    cell = f"%%sigwindow -o cell.arrows --stacks {{}}\n{THREADS}"
    first, refused, again, info = shown(
        tmp_path,
        cell.format(""),
        cell.format(""),
        cell.format("--force --follow --ready steady"),
        "import sigwindow; trace = sigwindow.read('cell.arrows')\n"
        "print(len(trace.threads), trace.info.options['follow'], trace.events['stack'].str.contains(';').any())",
    )
    assert first.startswith("<Trace of 13 threads born")
    assert refused.startswith("sigwindow: cell.arrows exists")
    assert again.startswith("<Trace of 13 threads born")
    assert info == "13 True True\n"


def test_strace_records_where_ebpf_is_not_allowed(tmp_path: Path) -> None:
    needs("strace", shutil.which("strace") is not None, "install strace")
    (cell,) = run(tmp_path, [f"%%sigwindow\n{THREADS}"], launcher=WITHOUT_EBPF)
    assert "no eBPF here: strace traces instead" in "".join(cell["outputs"][0]["text"])
    assert "<Trace of 13 threads born" in text_of(cell)


def test_without_rights_it_says_what_to_do(tmp_path: Path) -> None:
    cell, line = shown(
        tmp_path, "%%sigwindow\nran = True\n1", f"%sigwindow run -- {sys.executable} -c 1", launcher=WITHOUT_RIGHTS
    )
    for text in (cell, line):
        assert text.startswith(f"sigwindow: {REFUSED}")
        assert "run sigwindow as root (sudo)" in text
        assert "Traceback" not in text


def test_an_option_that_means_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert magic.sigwindow("read -o copy.arrows t.arrows") is None
    assert capsys.readouterr().out.startswith("sigwindow: no such option '-o'")
