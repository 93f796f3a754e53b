"""iovisor's bcc binding, found wherever the distribution keeps it.

bcc is no Python package of PyPI: it comes with the distribution (`python3-bpfcc`, `python3-bcc`), for the
distribution's own Python. It is pure Python over libbcc.so, so any Python 3 can load it. The `bcc` that PyPI has
is an unrelated crystallography package and is looked past.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from sigwindow.probes.errors import CannotTraceError

INSTALL = (
    "apt-get install python3-bpfcc (Debian, Ubuntu), dnf install python3-bcc (Fedora), pacman -S python-bcc (Arch)"
)

_DISTRIBUTION_DIRECTORIES = (
    "usr/lib/python3/dist-packages",
    "usr/lib/python3.*/site-packages",
    "usr/lib64/python3.*/site-packages",
    "usr/local/lib/python3*/dist-packages",
    "usr/local/lib/python3*/site-packages",
)


def search_path(root: Path = Path("/")) -> list[str]:
    """Where bcc may be: this Python's own path first, then the distribution's directories under `root`."""
    return sys.path + [str(found) for pattern in _DISTRIBUTION_DIRECTORIES for found in sorted(root.glob(pattern))]


def find(path: Iterable[str]) -> ModuleSpec:
    """The first of the packages named `bcc` along `path` that is iovisor's; nothing is executed.

    Raises CannotTraceError with what to type where there is none.
    """
    unrelated = None
    for entry in path:
        spec = PathFinder.find_spec("bcc", [entry])
        if spec is None or spec.origin is None:  # no origin: a mere directory of that name
            continue
        origin = Path(spec.origin)
        if origin.with_name("libbcc.py").exists():
            return spec
        unrelated = unrelated or origin
    message = f"iovisor's bcc, which loads the probes, is not installed. Type: {INSTALL}"
    if unrelated:
        message += (
            f"\nThe bcc in {unrelated.parent} is another package: PyPI's bcc is about crystallography. "
            "If nothing needs it: pip uninstall bcc"
        )
    raise CannotTraceError(message)


def load(path: Iterable[str] | None = None) -> ModuleType:
    """Import iovisor's bcc from the first place along `path` (default: `search_path()`) that has it.

    sys.path stays as it is, so that no other package of the distribution can shadow one of this environment.
    Raises CannotTraceError with what to type where bcc is missing or can't be loaded.
    """
    loaded = sys.modules.get("bcc")
    if loaded is not None and hasattr(loaded, "BPF"):
        return loaded
    spec = find(search_path() if path is None else path)
    assert spec.loader is not None  # find() takes packages with a file only
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module  # bcc's own modules import each other through their package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bcc is written for older Pythons as well
            spec.loader.exec_module(module)
    except Exception as error:  # OSError without libbcc.so, AttributeError with another version's, ...
        for name in [name for name in sys.modules if name.partition(".")[0] == "bcc"]:
            del sys.modules[name]
        if loaded is not None:
            sys.modules["bcc"] = loaded
        raise CannotTraceError(f"bcc in {spec.origin} can't be loaded ({error}). Type: {INSTALL}") from error
    return module


@contextmanager
def compiler_messages() -> Iterator[Path]:
    """Keep what clang, libbpf and bcc write to standard error in a file, which is gone afterwards.

    They write to the file descriptor itself, out of Python's reach.
    """
    with tempfile.NamedTemporaryFile(prefix="sigwindow-bcc-") as log:
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield Path(log.name)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
