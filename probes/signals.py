"""Signal numbers, names and classes, and sets of signals as words of 64 bits.

A set is held as the kernel holds it: bit n-1 is signal n. Linux has 64 signals (one word),
FreeBSD 128 (two words).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .errors import UsageError

SignalClass = Literal["synchronous", "internal", "async"]

SA_ONSTACK = 0x0800_0000  # asm-generic/signal-defs.h
SA_NODEFER = 0x4000_0000
SA_RESETHAND = 0x8000_0000

# signal(7), "Standard signals", x86/ARM column, from 1 on.
_STANDARD = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
LINUX_NAMES: dict[int, str] = dict(enumerate(_STANDARD.split(), start=1))
# nptl(7): NPTL's own two; musl adds a third (34) for membarrier().
INTERNAL = frozenset({32, 33, 34})
SYNCHRONOUS_NAMES = frozenset({"ILL", "TRAP", "BUS", "FPE", "SEGV", "SYS"})
LINUX_COUNT = 64


def word_of(signals: Iterable[int]) -> int:
    """The set of `signals` (numbers 1 to 64) as one 64-bit word."""
    word = 0
    for signal in signals:
        word |= 1 << (signal - 1)
    return word


def members(word: int) -> list[int]:
    """The signal numbers in a set word of any width, ascending."""
    return [bit + 1 for bit in range(word.bit_length()) if word >> bit & 1]


def name(signal: int) -> str:
    """The name of a Linux signal as users write it: SIGPROF, SIGSETXID, SIGRTMIN+3.

    32 and 33 carry the names of the C library that owns them (nptl(7)); the real-time range
    that programs see starts at 34.
    """
    if signal in LINUX_NAMES:
        return f"SIG{LINUX_NAMES[signal]}"
    if signal in (32, 33):
        return "SIGCANCEL" if signal == 32 else "SIGSETXID"
    if 34 <= signal <= LINUX_COUNT:
        return "SIGRTMIN" if signal == 34 else f"SIGRTMIN+{signal - 34}"
    return f"SIG{signal}"


def signal_class(signal: int) -> SignalClass:
    """The class of a handled signal: the thread's own fault, the C library's own, or the rest.

    34 is internal to musl only, and an ordinary real-time signal elsewhere: it counts as async,
    so that no real exposure is hidden.
    """
    if LINUX_NAMES.get(signal) in SYNCHRONOUS_NAMES:
        return "synchronous"
    return "internal" if signal in (32, 33) else "async"


ALL = (1 << LINUX_COUNT) - 1
UNBLOCKABLE = word_of((9, 19))  # KILL and STOP: never handled, never blocked
ASYNC = word_of(s for s in range(1, LINUX_COUNT + 1) if signal_class(s) == "async") & ~UNBLOCKABLE


def number(text: str) -> int:
    """The number of a signal given as `PROF`, `SIGPROF`, `SIGRTMIN+3` or `27`.

    Raises UsageError for anything else.
    """
    wanted = text.strip().upper()
    if wanted.isascii() and wanted.isdigit():
        if 1 <= int(wanted) <= LINUX_COUNT:
            return int(wanted)
    else:
        wanted = wanted if wanted.startswith("SIG") else f"SIG{wanted}"
        for signal in range(1, LINUX_COUNT + 1):
            if name(signal) == wanted:
                return signal
    raise UsageError(f"unknown signal {text!r}: give a name such as SIGPROF or a number from 1 to {LINUX_COUNT}")


def considered(selection: str) -> int:
    """The signals that decide a verdict, as a set word, from the value of `--signals`.

    `async`, `all`, or a list of names and numbers separated by commas. KILL and STOP can't have
    a handler and are dropped. Raises UsageError for an unknown name.
    """
    match selection.strip().lower():
        case "async":
            return ASYNC
        case "all":
            return ALL & ~UNBLOCKABLE
        case _:
            return word_of(number(part) for part in selection.split(",")) & ~UNBLOCKABLE


KEPT_BACK = UNBLOCKABLE | word_of(INTERNAL)


def blocks_everything(mask: int) -> bool:
    """Whether `mask` leaves only what can't be blocked, or what the C library keeps for itself."""
    return mask | KEPT_BACK == ALL


def describe(mask: int) -> str:
    """A set as strace writes it: `[INT PROF]`, or `~[KILL STOP]` where more is in it than out."""
    inverted = mask.bit_count() > LINUX_COUNT // 2
    names = " ".join(name(s).removeprefix("SIG") for s in members(~mask & ALL if inverted else mask & ALL))
    return f"{'~' if inverted else ''}[{names}]"
