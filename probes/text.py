"""Text from the traced world, which is hostile: thread names, paths, and what files say of themselves."""

from __future__ import annotations

import codecs

ENCODABLE = "sigwindow"  # an error handler for streams: what they can't show is spelled otherwise
_SPELLED = {"µ": "u", "…": "~"}  # as wide as it was: columns stay in line


def printable(text: str) -> str:
    """The text with what a terminal would act on escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def decoded(raw: bytes) -> str:
    """Bytes as printable text."""
    return printable(raw.decode("utf-8", "backslashreplace"))


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have: others that are as good, or their number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end


codecs.register_error(ENCODABLE, _spelled)
