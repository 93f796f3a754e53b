"""Files that are named by URLs, as far as fsspec and the packages for it know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sigwindow.probes.errors import UsageError
from sigwindow.probes.text import printable

_LOCAL = ("file://", "local://")  # URLs of this machine's files


def is_url(name: str | Path) -> bool:
    """Whether a name is a URL and no path."""
    return "://" in str(name)


def local(name: str | Path) -> Path | None:
    """The file of this machine that a name means; None for a URL of elsewhere."""
    if not is_url(name):
        return Path(name)
    return Path(file_system(str(name))[1]) if str(name).startswith(_LOCAL) else None


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the URL's path in it.

    Raises UsageError where fsspec does not know it, or a package is missing.
    """
    try:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(url)
    except ImportError as error:  # fsspec itself, or the package for this kind of URL
        raise UsageError(f"{printable(url)} needs a package: {error}. Try pip install 'sigwindow[fleet]'") from None
    except ValueError as error:
        raise UsageError(printable(f"{url}: {error}")) from None
    return files, path


def listed(url: str, suffixes: tuple[str, ...]) -> list[str]:
    """The URLs that one stands for: a pattern, with a *, or a folder, which ends in /; or else itself.

    suffixes: of the files that count in a folder. It is not asked whether a URL is a folder: HTTP can't tell. Raises
    UsageError where the URL's package can't list it.
    """
    if "*" not in url and not url.endswith("/"):
        return [url]
    files, path = file_system(url)
    try:
        names = files.glob(path) if "*" in url else [n for n in files.ls(path, detail=False) if n.endswith(suffixes)]
        return [files.unstrip_protocol(name) for name in names]
    except Exception as error:  # each package for URLs has its own
        raise UsageError(printable(f"can't list {url}: {error}")) from None


def opened(url: str) -> Any:
    """The file of a URL, opened to be read in binary; whatever its package raises then is an OSError."""
    files, path = file_system(url)
    with _os_errors():
        return _Remote(files.open(path, "rb"))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Make an OSError of whatever a package for URLs raises: each has its own (botocore's, where credentials lack)."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(str(error)) from None


class _Remote:
    """A file that a package for URLs opened, with every call under `_os_errors`."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        return _os_errors()(found) if callable(found) else found
