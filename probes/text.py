"""Text from the traced world, which is hostile: thread names, paths, and what files say of themselves."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what a terminal would act on escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def decoded(raw: bytes) -> str:
    """Bytes as printable text."""
    return printable(raw.decode("utf-8", "backslashreplace"))
