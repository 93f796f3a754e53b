"""Outputs: a file is there whole or not at all, and none of them is something that is read.

A file is written beside its target, under a name of its own, and takes the target's place when it is complete: what
fails, or is stopped, leaves the old file as it was. A trace of something live grows at its place instead, since it can
be read all the while. Devices, pipes and our own streams (`/dev/stdout`, `/dev/fd/63`) are written as they are.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from sigwindow.probes.errors import UsageError
from sigwindow.probes.text import printable

from . import remote

_OWN_STREAM = re.compile(r"/dev/(?P<name>stdout|stderr)|(?:/dev|/proc/self)/fd/(?P<number>[0-9]+)")
_KEPT = "sigwindow-{}-{}-{}.arrows"  # the command or process, its PID, the time


def kept_name(comm: str, pid: int) -> Path:
    """What a trace is called that nobody named, in the working directory.

    comm: the name of what is traced. It is the traced world's: nothing stays of it that a shell or a terminal would
    act on. pid: its process.
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]+", "_", comm)[:32].strip("_.-") or "process"
    return Path(_KEPT.format(plain, pid, time.strftime("%Y%m%d-%H%M%S")))


def last_kept() -> Path:
    """The newest of the traces that nobody named. Raises UsageError where there is none."""
    found = [path for path in Path().glob(_KEPT.format("*", "*", "*")) if path.is_file()]
    if not found:
        shape = _KEPT.format("NAME", "PID", "TIME")
        raise UsageError(f"no trace of an earlier run or attach ({shape}) is in the working directory: name one")
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def check(outputs: Iterable[Path], inputs: Iterable[str | Path] = (), *, force: bool) -> None:
    """Refuse, before any work, outputs that can't be written or must not be.

    outputs: the files that one command writes. inputs: the files and URLs that it reads. force: whether a file that
    exists may be replaced. Raises UsageError for an output that is one of the inputs or another output, by whatever
    name or link; that exists; or that can't be made where it is wanted.
    """
    taken = {_identity(name): f"the input {_shown(name)}" for name in inputs}
    for path in outputs:
        identity = _identity(path)
        if identity and identity in taken:
            raise UsageError(f"the output {_shown(path)} is the same file as {taken[identity]}: choose another name")
        taken[identity] = f"the output {_shown(path)}"
        if _is_stream(path):
            continue
        _refuse_existing(path, force)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            why = "can't be written to" if path.parent.is_dir() else "is no folder"
            raise UsageError(f"can't write {_shown(path)}: {_shown(path.parent)} {why}")


@contextmanager
def replacing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` at the end of the block; not if the block fails.

    force: whether it may replace a file that exists, or appears meanwhile. It belongs to the user who asked for it,
    also under sudo. A link that somebody left at `path` is not followed. Raises UsageError where it can't be written.
    """
    if _is_stream(path):
        with _stream(path) as file:
            yield file
        return
    _refuse_existing(path, force)
    beside = _beside(path)
    try:
        with _created(beside, path) as file:
            yield file
        _take_place(beside, path, force=force)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def text(path: Path, *, force: bool = False) -> Iterator[TextIO]:
    """The same for text, in UTF-8."""
    with replacing(path, force=force) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as wrapped:
        yield wrapped


def growing(path: Path, *, force: bool = False) -> BinaryIO:
    """A new file that is at its place at once, and grows there; else as `replacing`."""
    if _is_stream(path):
        return _stream(path)
    _refuse_existing(path, force)
    beside = _beside(path)
    try:
        file = _created(beside, path)
        try:
            _take_place(beside, path, force=force)
        except BaseException:
            file.close()
            raise
        return file
    finally:
        beside.unlink(missing_ok=True)


class _File(io.FileIO):
    """A file by its descriptor, whose errors say which output can't be written."""

    def __init__(self, fd: int, path: Path) -> None:
        super().__init__(fd, "wb")
        self._path = path

    def write(self, data: Any) -> int:
        with _told(self._path):
            try:
                return super().write(data)
            except BrokenPipeError:  # its reader has seen enough: the rest goes nowhere
                return memoryview(data).nbytes

    def close(self) -> None:
        with _told(self._path):
            super().close()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Make our error of the system's."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"can't write {_shown(path)}: {error.strerror}") from None


def _refuse_existing(path: Path, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise UsageError(f"{_shown(path)} exists: choose another name, or overwrite it with --force")


def _shown(path: str | Path) -> str:
    return printable(str(path))


def _identity(path: str | Path) -> tuple[int | str, ...]:
    """What a path leads to, by whatever links: the same for all names of a file, nothing for what is no file."""
    file = remote.local(path)
    if file is None:
        return ()
    try:
        found = os.stat(file)
    except OSError:
        return (os.path.realpath(file),)
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else ()


def _is_stream(path: Path) -> bool:
    """Whether it is written as it is. Raises UsageError for what can't be written at all, such as a folder."""
    if _OWN_STREAM.fullmatch(str(path)):
        return True
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    raise UsageError(f"can't write {_shown(path)}: it is a {'folder' if stat.S_ISDIR(mode) else 'device or socket'}")


def _stream(path: Path) -> BinaryIO:
    own = _OWN_STREAM.fullmatch(str(path))
    with _told(path):
        if own:  # not opened again: it may be a file, which we would write from its beginning
            fd = os.dup(int(own["number"] or {"stdout": 1, "stderr": 2}[own["name"]]))
        else:  # where everybody may write, the kernel refuses O_CREAT of a pipe that somebody else left there
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    return io.BufferedWriter(_File(fd, path))


def _beside(path: Path) -> Path:
    """A name in the folder of `path` that nobody has, and that is no trace's."""
    return path.with_name(f".sigwindow-{secrets.token_hex(8)}.part")


def _created(new: Path, path: Path) -> BinaryIO:
    """A new file, in place of or on its way to `path`."""
    with _told(path):
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        with suppress(PermissionError):  # a file system without owners
            os.fchown(fd, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", -1)))
    return io.BufferedWriter(_File(fd, path))


def _take_place(new: Path, path: Path, *, force: bool) -> None:
    with _told(path):
        if force:
            os.replace(new, path)
            return
        try:
            os.link(new, path)  # a rename would replace what has appeared there meanwhile
        except OSError:  # that, or a file system without hard links
            _refuse_existing(path, force)
            os.replace(new, path)
