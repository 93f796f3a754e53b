"""Signal numbers, names and classes of each system, and sets of signals as words of 64 bits.

A set is held as Linux holds it: bit n-1 is signal n. FreeBSD has 128 signals in two words, of which 34 to 64 are none:
here its real-time signals 65 to 95 are numbered 34 to 64, and those beyond, which no known program uses, are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SignalClass = Literal["synchronous", "internal", "async"]

# The event table has these bits on every system (asm-generic/signal-defs.h); FreeBSD numbers them otherwise.
SA_ONSTACK = 0x0800_0000
SA_NODEFER = 0x4000_0000
SA_RESETHAND = 0x8000_0000
LINUX_COUNT = 64
ALL = (1 << LINUX_COUNT) - 1


def word_of(signals: Iterable[int]) -> int:
    """The set of `signals` (numbers 1 to 64) as one 64-bit word."""
    word = 0
    for signal in signals:
        word |= 1 << (signal - 1)
    return word


def members(word: int) -> list[int]:
    """The signal numbers in a set word of any width, ascending."""
    return [bit + 1 for bit in range(word.bit_length()) if word >> bit & 1]


@dataclass(frozen=True)
class Numbering:
    """The signals of one system.

    label: the system's name in a sentence. standard: names of the classic signals, by number. internal: those of the C
    library. unblockable: the set of KILL and STOP. kept_back: the set of what a mask that blocks everything may leave
    out.
    """

    system: str
    label: str
    standard: dict[int, str]
    internal: dict[int, str]
    unblockable: int
    kept_back: int

    @property
    def wide(self) -> bool:
        """The kernel's sets have two words, and its numbers are not ours: `fold` and `numbers` are for these."""
        return self.system == "freebsd"

    def fold(self, low: NDArray[np.uint64], high: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Sets as the kernel has them, in two words, as sets of our numbers."""
        import numpy as np

        folded: NDArray[np.uint64] = low & np.uint64((1 << 33) - 1) | (high & np.uint64((1 << 31) - 1)) << np.uint64(33)
        return folded

    def numbers(self, signal: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The kernel's signal numbers as ours; 0 for what has none."""
        import numpy as np

        ours: NDArray[np.uint8] = np.select([signal <= 33, (signal >= 65) & (signal <= 95)], [signal, signal - 31], 0)
        return ours.astype(np.uint8)


def _numbered(names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), start=1))


# signal(7), "Standard signals", x86/ARM column, from 1 on. nptl(7): NPTL's own two; musl adds 34 for membarrier().
LINUX = Numbering(
    "linux",
    "Linux",
    _numbered(
        "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
        "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
    ),
    {32: "CANCEL", 33: "SETXID"},
    word_of((9, 19)),
    word_of((9, 19, 32, 33, 34)),
)
# sys/signal.h of FreeBSD; 32 and 33 belong to libthr and librt.
FREEBSD = Numbering(
    "freebsd",
    "FreeBSD",
    _numbered(
        "HUP INT QUIT ILL TRAP ABRT EMT FPE KILL BUS SEGV SYS PIPE ALRM TERM URG STOP TSTP CONT CHLD "
        "TTIN TTOU IO XCPU XFSZ VTALRM PROF WINCH INFO USR1 USR2"
    ),
    {32: "THR", 33: "LIBRT"},
    word_of((9, 17)),
    word_of((9, 17, 32, 33)),
)
NUMBERINGS = (LINUX, FREEBSD)
LINUX_NAMES = LINUX.standard
SYNCHRONOUS_NAMES = frozenset({"ILL", "TRAP", "EMT", "BUS", "FPE", "SEGV", "SYS"})
UNBLOCKABLE = LINUX.unblockable


def numbering(system: str) -> Numbering:
    """The numbering of the system that a trace names as its `os`."""
    return FREEBSD if system == "freebsd" else LINUX


def name(signal: int, of: Numbering = LINUX) -> str:
    """The name of a signal as users write it: SIGPROF, SIGSETXID, SIGRTMIN+3.

    32 and 33 carry the names of the C library that owns them; the real-time range that programs see starts at 34.
    """
    known = of.standard.get(signal) or of.internal.get(signal)
    if known:
        return f"SIG{known}"
    if 34 <= signal <= LINUX_COUNT:
        return "SIGRTMIN" if signal == 34 else f"SIGRTMIN+{signal - 34}"
    return f"SIG{signal}"


def signal_class(signal: int, of: Numbering = LINUX) -> SignalClass:
    """The class of a handled signal: the thread's own fault, the C library's own, or the rest.

    34 is internal to musl only, and an ordinary real-time signal elsewhere: it counts as async,
    so that no real exposure is hidden.
    """
    if of.standard.get(signal) in SYNCHRONOUS_NAMES:
        return "synchronous"
    return "internal" if signal in of.internal else "async"


def number(text: str, of: Numbering = LINUX) -> int:
    """The number of a signal given as `PROF`, `SIGPROF`, `SIGRTMIN+3` or `27`.

    Raises UsageError for anything else, and for the name of a signal that only another system has.
    """
    wanted = text.strip().upper()
    if wanted.isascii() and wanted.isdigit():
        if 1 <= int(wanted) <= LINUX_COUNT:
            return int(wanted)
    else:
        wanted = wanted if wanted.startswith("SIG") else f"SIG{wanted}"
        for signal in range(1, LINUX_COUNT + 1):
            if name(signal, of) == wanted:
                return signal
        if any(wanted == name(signal, other) for other in NUMBERINGS for signal in other.standard | other.internal):
            raise UsageError(f"{of.label} has no {wanted}")
    raise UsageError(f"unknown signal {text!r}: give a name such as SIGPROF or a number from 1 to {LINUX_COUNT}")


def considered(selection: str, of: Numbering = LINUX) -> int:
    """The signals that decide a verdict, as a set word, from the value of `--signals`.

    `async`, `all`, or a list of names and numbers separated by commas. KILL and STOP can't have
    a handler and are dropped. Raises UsageError for an unknown name.
    """
    match selection.strip().lower():
        case "async":
            chosen = word_of(s for s in range(1, LINUX_COUNT + 1) if signal_class(s, of) == "async")
        case "all":
            chosen = ALL
        case _:
            chosen = word_of(number(part, of) for part in selection.split(","))
    return chosen & ~of.unblockable


def blocks_everything(mask: int, of: Numbering = LINUX) -> bool:
    """Whether `mask` leaves only what can't be blocked, or what the C library keeps for itself."""
    return mask | of.kept_back == ALL


def listed(word: int, of: Numbering = LINUX) -> str:
    """A set by the names of its signals, of many only the first; `signals` if it is empty."""
    names = [name(signal, of) for signal in members(word)] or ["signals"]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def describe(mask: int, of: Numbering = LINUX) -> str:
    """A set as strace writes it: `[INT PROF]`, or `~[KILL STOP]` where more is in it than out."""
    inverted = mask.bit_count() > LINUX_COUNT // 2
    names = " ".join(name(s, of).removeprefix("SIG") for s in members(~mask & ALL if inverted else mask & ALL))
    return f"{'~' if inverted else ''}[{names}]"
