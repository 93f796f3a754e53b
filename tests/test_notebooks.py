"""The notebooks run anywhere, show what their text says, and are stored clean."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sigwindow

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZE_LIMIT = 400_000
EXECUTE = "from nbclient.cli import main; main()"

# A kernel that may not trace by eBPF, although the tests run as root: without any capability, and with none to be had
# by exec; and one that can't trace at all, since it finds no strace.
WITHOUT_EBPF = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
WITHOUT_RIGHTS = (*WITHOUT_EBPF, "/usr/bin/env", "PATH=/nonexistent")
REFUSED = "tracing is not possible here"

# What the text of a notebook says, as its results show it. Verdicts and counts of the traces beside it, no times.
SHOWN = {
    "01-first-look": [
        r"<Trace of 97 threads born, of them 97 exposed\.>",
        r"exposed +97\n",
        r"<Trace of 97 threads born: none was exposed to a considered signal\.>",
    ],
    "02-the-freebsd-bug": [
        r"masked +0 +199\n",
        r"exposed +6 +0\n",
        r"critical +193 +0\n",
        r"not ready +239 +0\n",
        r"^Worse: 199 of 199 threads were exposed or worse",
    ],
    "03-runtimes": [
        # born, unhandled, masked, exposed, hit, critical
        r"\ngo +altstack +101 +0 +101 +0 +0 +0 ",
        r"\ncgo +altstack +101 +0 +101 +0 +0 +0 ",
        r"\nrust +altstack +97 +0 +0 +97 +0 +0 ",
        r"\nruby +altstack +97 +0 +0 +97 +0 +0 ",
        r"\njava +steady +116 +1 +113 +2 +0 +0 ",
        r"\nnode +steady +17 +0 +17 +0 +0 +0 ",
        r"\npython +steady +97 +0 +97 +0 +0 +0 ",
        r"\nglibc +steady +97 +0 +97 +0 +0 +0 ",
        r"\nmusl +steady +97 +0 +97 +0 +0 +0 ",
        r"\nglibc-self +steady +97 +0 +0 +97 +0 +0 ",
        r"go +born, 62 blocked > STACK IN > nothing blocked",
        r"ruby +born, 62 blocked > nothing blocked > STACK IN",
        r"<Trace of 101 threads born, of them 101 exposed\.>",
        r"SIGSETXID +internal +101 ",
    ],
    "04-risk": [
        r"source +estimated\nhits +239\n",
        r"the model says 70% of the threads are hit, the trace has 97%",
        r"source +bound\nhits +0\n",
        r"exit +19\.0 ",
        r"ready +78\.0 ",
    ],
    "05-fleet": [
        r"21 answers, 1 of them an error",
        r"the same: True",
        r"born +2466 +2466\n",
        r"critical +193 +193\n",
        r"host19 <Trace of 199 threads born, of them 193 critical, 6 exposed\.>",
    ],
}


def execute(notebook: Path, launcher: Sequence[str] = ()) -> list[Any]:
    """Run the notebook, in its folder, in a kernel that `launcher` starts; none of its cells may fail.

    nbclient runs in a process of its own: it leaves sockets open, and a later test would fail by the warning.
    Returns the code cells with their outputs.
    """
    folder = notebook.parent
    kernel = folder / "kernels" / "here"
    kernel.mkdir(parents=True)
    argv = [*launcher, sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "here", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    # Nothing of the user's: no settings, no history, no other kernels.
    own = {name: str(folder) for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, "--inplace", "--timeout=120", "--kernel_name=here", notebook],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return code_cells(notebook)


def code_cells(notebook: Path) -> list[Any]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def text_of(cell: Any) -> str:
    """What a cell shows, as text."""
    texts = []
    for output in cell["outputs"]:
        kind = output["output_type"]
        shown = {"stream": output.get("text"), "error": output.get("traceback")}.get(kind)
        texts.append("".join(shown or output.get("data", {}).get("text/plain", [])))
    return "\n".join(texts)


def live_cells(cells: list[Any]) -> list[Any]:
    return [cell for cell in cells if "live" in cell["metadata"].get("tags", ())]


@pytest.fixture
def copy(tmp_path: Path, workloads: Path) -> Path:
    """The folder of the notebooks, with the workloads where they expect them."""
    folder = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "workloads").symlink_to(workloads.parent)
    return folder


def test_all_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


def test_every_trace_is_small_and_has_its_recipe() -> None:
    recipes = runpy.run_path(str(ROOT / "notebooks" / "record.py"))["RECIPES"]
    traces = {path.stem: path for path in (ROOT / "notebooks" / "traces").iterdir()}
    assert set(traces) == {*recipes, "newosproc-broken", "newosproc-fixed"}
    for name, recipe in recipes.items():
        assert traces[name].stat().st_size < 60_000
        assert list(sigwindow.read(traces[name]).info.command) == recipe.command


@pytest.mark.parametrize("name", SHOWN)
def test_runs_without_rights(copy: Path, name: str) -> None:
    cells = execute(copy / f"{name}.ipynb", WITHOUT_RIGHTS)
    shown = "\n".join(map(text_of, cells)) + "\n"
    for pattern in SHOWN[name]:
        assert re.search(pattern, shown, re.MULTILINE), f"{pattern} is not in:\n{shown}"
    for cell in live_cells(cells):
        assert REFUSED in text_of(cell)


def test_a_figure_shows_itself_once(copy: Path) -> None:
    """As the last line of a cell, with and without `%matplotlib inline`, and drawn on pyplot's axes, too."""
    cells = [
        "import sigwindow\ntrace = sigwindow.read('traces/ruby.arrows')",
        "trace.plot.ecdf()",
        "trace.plot.rate().figure",
        "ax = trace.plot.ecdf()",
        "import matplotlib.pyplot as plt\n_, ax = plt.subplots()\ntrace.plot.timeline(ax)",
        "%matplotlib inline",
        "trace.plot.timeline()",
        "trace.plot.signals().figure",
        "trace.plot.histogram();",
    ]
    empty: dict[str, Any] = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    notebook = copy / "figures.ipynb"
    sources = [empty | {"source": cell} for cell in cells]
    notebook.write_text(json.dumps({"cells": sources, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    executed = execute(notebook)
    shown = [sum("image/png" in output.get("data", {}) for output in cell["outputs"]) for cell in executed]
    assert shown == [0, 1, 1, 0, 1, 0, 1, 1, 0]


@pytest.mark.live
def test_live_cell_of_the_first_look(copy: Path) -> None:
    (cell,) = live_cells(execute(copy / "01-first-look.ipynb"))
    assert text_of(cell) == "<Trace of 5 threads born: none was exposed to a considered signal.>"


@pytest.mark.live
def test_live_cell_of_the_freebsd_bug(copy: Path) -> None:
    (cell,) = live_cells(execute(copy / "02-the-freebsd-bug.ipynb"))
    counts = {name: list(map(int, both)) for name, *both in map(str.split, text_of(cell).splitlines()[1:])}
    assert counts["born"] == [199, 199]
    assert counts["masked"] == [0, 199]
    assert counts["critical"][0] > 100


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_with_clean_outputs(path: Path) -> None:
    assert path.stat().st_size < SIZE_LIMIT
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any("%matplotlib" in "".join(cell["source"]) for cell in cells)  # a figure shows itself
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]
    # Pictures are noise here: base64 may spell anything.
    text = re.sub(r"[A-Za-z0-9+/=]{200,}", "", path.read_text(encoding="utf-8"))
    # A recording's temporary folder is nobody's.
    private = r"/(?:root|home|work|Users|opt|var)/|/tmp/(?!sigwindow-)|0x[0-9a-f]{9}|(?i:token|password|secret)"
    found = re.search(private, text)
    assert not found, found
    for cell in live_cells(cells):
        assert REFUSED not in text_of(cell)
