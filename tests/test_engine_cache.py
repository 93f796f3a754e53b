"""What Numba keeps of the engine's machine: found again while its sources are as they were, and only then."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_layout import ROOT, imports

from sigwindow.analysis.engine import compiled, walk

SCRIPT = """
import json
import numpy as np
from sigwindow.analysis.engine.pools import entry_of
from sigwindow.analysis.engine.records import ENTRY
from sigwindow.analysis.engine.walk import rehash
old, new = (np.zeros(size, ENTRY) for size in (4, 64))
old["value"] = new["value"] = -1
old[1] = 5, 0, 7
rehash(old, new)
print(json.dumps([np.flatnonzero(new["value"] >= 0).tolist(), rehash.stats.cache_hits.total()]))
"""


def rehashed(tree: Path) -> tuple[list[int], bool]:
    """Where the engine of a tree puts key 5 in a map of 64 entries, and whether it was compiled before."""
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(tree / "cache")},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    places, found = json.loads(told)
    return places, bool(found)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_change_in_another_file_is_noticed(tmp_path: Path) -> None:
    for name in ("sigwindow", "analysis", "probes"):
        shutil.copytree(
            ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "notebooks")
        )
    assert rehashed(tmp_path) == ([5], False)
    assert rehashed(tmp_path) == ([5], True)
    edit(tmp_path / "analysis/engine/pools.py", "mixed >> np.uint64(32))) &", "mixed >> np.uint64(32)) + ONE) &")
    edit(tmp_path / "analysis/engine/pools.py", "_GOLDEN =", "ONE = np.uint64(1)\n_GOLDEN =")
    assert rehashed(tmp_path) == ([6], False)
    assert rehashed(tmp_path) == ([6], True)
    edit(tmp_path / "analysis/engine/pools.py", "ONE = np.uint64(1)", "ONE = np.uint64(3)")
    assert rehashed(tmp_path) == ([8], False)
    edit(tmp_path / "probes/events.py", "GENERATE_PROCESS = 0x100", "GENERATE_PROCESS = 0x200")  # a constant in it
    assert rehashed(tmp_path) == ([8], False)


def test_every_source_of_the_machine_counts() -> None:
    """What the machine's modules import of ours is in the number, too, but for what the ground is made of."""
    counted = {module.__name__ for module in walk.SOURCES}
    for module in (walk, *walk.SOURCES):
        if module.__name__.startswith("sigwindow.analysis.engine"):
            path = inspect.getsourcefile(module)
            assert path
            names = imports(Path(path), "sigwindow.analysis.engine")
            ours = {name for name in names if name.startswith("sigwindow")}
            missing = {name for name in ours if not {name, name.rpartition(".")[0]} & counted}
            assert not missing, f"{module.__name__} imports {missing}"


def test_only_what_python_calls_is_kept() -> None:
    """An inner function that is kept by itself would be found again by its own file alone."""
    for module in walk.SOURCES:
        if module.__name__.startswith("sigwindow.analysis.engine") and module is not compiled:
            assert not re.search(r"@kept|cache=", inspect.getsource(module))


def test_without_a_folder_to_keep_it_in_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_folder(*given: object, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr("sigwindow.analysis.engine.compiled.numba.njit", no_folder)

    def function() -> int:
        return 3

    assert compiled.kept(function) is function
