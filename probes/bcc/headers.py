"""Kernel headers for bcc's compiler.

bcc looks for the running kernel's headers in /lib/modules and for the kheaders module. Where both are missing, those
of any kernel serve: the probes take every offset from BTF (btf.py) and need the headers only to compile at all.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sigwindow.probes.errors import CannotTraceError

VARIABLE = "BCC_KERNEL_SOURCE"  # read by bcc, src/cc/frontends/clang/loader.cc
INSTALL = (
    "apt-get install linux-headers-amd64 (Debian; arm64: linux-headers-arm64), "
    "apt-get install linux-headers-generic (Ubuntu), dnf install kernel-devel (Fedora), pacman -S linux-headers (Arch)"
)

# The kernel's names of the machines that bcc supports (arch/).
_ARCHITECTURES = {
    "x86_64": "x86",
    "aarch64": "arm64",
    "ppc64le": "powerpc",
    "s390x": "s390",
    "riscv64": "riscv",
    "loongarch64": "loongarch",
}
_ELSEWHERE = ("usr/src/linux-headers-*", "usr/src/kernels/*", "lib/modules/*/build")


@dataclass(frozen=True)
class Headers:
    """Kernel headers to compile with: whose they are, and the directories to merge (none: bcc finds them itself)."""

    name: str
    layers: tuple[Path, ...] = ()


def find(root: Path = Path("/")) -> Headers:
    """The headers that bcc will compile with; `root` holds the file system.

    Raises CannotTraceError with what to type where there are none.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if not Path(chosen).is_dir():
            raise CannotTraceError(f"{VARIABLE}={chosen} is no directory: correct it or unset it")
        return Headers(f"{chosen} ({VARIABLE})")
    kernel = os.uname()
    modules = root / "lib/modules" / kernel.release
    if (modules / "build").is_dir():
        return Headers(f"{modules}/build")
    # bcc unpacks these, and loads the module that provides them where it has to.
    if (root / "sys/kernel/kheaders.tar.xz").exists() or any(modules.glob("kernel/kernel/kheaders.ko*")):
        return Headers("the kernel's own (kheaders)")
    found = _newest(root, _ARCHITECTURES.get(kernel.machine, kernel.machine))
    if found is None:
        raise CannotTraceError(f"bcc needs kernel headers, of any version, to compile the probes. Type: {INSTALL}")
    common = _common_part(found, root)
    return Headers(f"{found} (another kernel's; structures come from BTF)", (found, common) if common else (found,))


@contextmanager
def for_bcc(root: Path = Path("/")) -> Iterator[None]:
    """Let bcc find kernel headers for the time of a compilation, which must happen inside.

    Headers that come in two parts are merged in a private directory of links that goes away afterwards. Raises
    CannotTraceError where there are no headers.
    """
    layers = find(root).layers
    if not layers:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="sigwindow-headers-") as directory:
        tree = layers[0]
        if len(layers) > 1:
            tree = Path(directory, "tree")
            _merge(layers, tree)
        os.environ[VARIABLE] = str(tree)  # unset or empty until here: find() prefers it to any layers
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def _newest(root: Path, architecture: str) -> Path | None:
    """The headers of the newest kernel for this architecture, by the release they name themselves."""
    found = []
    for tree in (tree for pattern in _ELSEWHERE for tree in root.glob(pattern)):
        release = tree / "include/generated/utsrelease.h"
        if release.is_file() and (tree / "arch" / architecture / "include/generated").is_dir():
            numbers = [int(digits) for digits in re.findall(r"\d+", release.read_text(errors="replace"))]
            found.append((numbers, tree))
    return max(found)[1] if found else None


def _common_part(tree: Path, root: Path) -> Path | None:
    """What all flavours of a kernel share, which Debian keeps in a second package: the Makefile names it."""
    makefile = tree / "Makefile"
    if not makefile.is_file():
        return None
    named = re.search(r"^include /(\S+)/Makefile$", makefile.read_text(errors="replace"), re.MULTILINE)
    return root / named[1] if named and (root / named[1]).is_dir() else None


def _merge(layers: tuple[Path, ...], target: Path) -> None:
    """Make `target` show all layers at once, the first on top, with as few links as possible.

    Only a directory that several layers have becomes a directory; all else is a link to the topmost.
    """
    target.mkdir()
    for name in {entry.name for layer in layers for entry in layer.iterdir()}:
        having = tuple(layer / name for layer in layers if (layer / name).exists())
        if len(having) > 1 and all(path.is_dir() for path in having):
            _merge(having, target / name)
        elif having:
            (target / name).symlink_to(having[0])
