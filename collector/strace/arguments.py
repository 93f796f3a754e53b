"""What stands between the brackets of a call in strace's text: masks, actions, flags, signals, strings."""

from __future__ import annotations

import re
from functools import lru_cache

from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.text import decoded

_SET = rb"(NULL|~?\[[^\]]*\])"
_MASK_ARGS = re.compile(rb"(SIG_[A-Z]+), " + _SET + rb", *(?:" + _SET + rb"|0x[0-9a-f]+)")
_ACTION_ARGS = re.compile(
    rb"(SIG\w+|\d+), (?:NULL|0x|\{(?:sa_(?:handler|sigaction)=)?([^,]+), (?:sa_mask=)?(~?\[[^\]]*\]),"
    rb" (?:sa_flags=)?([^,}]*))"
)
STACK_ARGS = re.compile(rb"(?:NULL|0x|\{ss_sp=[^,]*, ss_flags=([A-Z_0-9x|]+), ss_size=(\d+)\})")
RETURN_MASK = re.compile(rb"\{mask=(~?\[[^\]]*\])")
CLONE_FLAGS = re.compile(rb"flags=([A-Za-z_0-9|]+)")
SENT_TO = re.compile(rb"(\d{1,7})(?:<[^>]*>)?, (?:(\d{1,7})(?:<[^>]*>)?, )?(SIG\w+)")
_FIRST_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)")

_SA_FLAGS = {  # include/uapi/asm-generic/signal-defs.h, asm/signal.h
    b"SA_NOCLDSTOP": 0x1,
    b"SA_NOCLDWAIT": 0x2,
    b"SA_SIGINFO": 0x4,
    b"SA_RESTORER": 0x0400_0000,
    b"SA_ONSTACK": sig.SA_ONSTACK,
    b"SA_RESTART": 0x1000_0000,
    b"SA_INTERRUPT": 0x2000_0000,
    b"SA_NODEFER": sig.SA_NODEFER,
    b"SA_RESETHAND": sig.SA_RESETHAND,
}
CLONE_VM, CLONE_SIGHAND, CLONE_VFORK, CLONE_CLEAR_SIGHAND = 0x100, 0x800, 0x4000, 1 << 32
_CLONE = {  # include/uapi/linux/sched.h
    name.encode(): value
    for name, value in {
        "CLONE_VM": CLONE_VM,
        "CLONE_FS": 0x200,
        "CLONE_FILES": 0x400,
        "CLONE_SIGHAND": CLONE_SIGHAND,
        "CLONE_PIDFD": 0x1000,
        "CLONE_PTRACE": 0x2000,
        "CLONE_VFORK": CLONE_VFORK,
        "CLONE_PARENT": 0x8000,
        "CLONE_THREAD": events.CLONE_THREAD,
        "CLONE_NEWNS": 0x2_0000,
        "CLONE_SYSVSEM": 0x4_0000,
        "CLONE_SETTLS": 0x8_0000,
        "CLONE_PARENT_SETTID": 0x10_0000,
        "CLONE_CHILD_CLEARTID": 0x20_0000,
        "CLONE_DETACHED": 0x40_0000,
        "CLONE_UNTRACED": 0x80_0000,
        "CLONE_CHILD_SETTID": 0x100_0000,
        "CLONE_NEWCGROUP": 0x200_0000,
        "CLONE_NEWUTS": 0x400_0000,
        "CLONE_NEWIPC": 0x800_0000,
        "CLONE_NEWUSER": 0x1000_0000,
        "CLONE_NEWPID": 0x2000_0000,
        "CLONE_NEWNET": 0x4000_0000,
        "CLONE_IO": 0x8000_0000,
        "CLONE_CLEAR_SIGHAND": CLONE_CLEAR_SIGHAND,
    }.items()
}
_NUMBERS = {name.encode(): number for number, name in sig.LINUX_NAMES.items()}
# strace counts real-time signals from the kernel's first one, 32; programs count from 34.
_NUMBERS |= {b"RTMIN": 32, b"RTMAX": sig.LINUX_COUNT} | {b"RT_%d" % n: 32 + n for n in range(sig.LINUX_COUNT - 31)}
_NUMBERS |= {b"%d" % n: n for n in range(1, sig.LINUX_COUNT + 1)}
_NUMBERS |= {b"IOT": 6, b"CLD": 17, b"POLL": 29, b"UNUSED": 31}


def signal_number(name: bytes) -> int | None:
    """The number of a signal by its name, with SIG or without; None for what is none."""
    return _NUMBERS.get(name.removeprefix(b"SIG"))


@lru_cache(4096)
def set_word(text: bytes) -> int | None:
    """A set as strace writes it: `[INT CHLD]`, `~[KILL STOP]`, `[HUP RT_1]`, `[]`."""
    numbers = [signal_number(name) for name in text.lstrip(b"~")[1:-1].replace(b",", b" ").split()]
    if None in numbers:
        return None
    word = sig.word_of(number for number in numbers if number)
    return sig.ALL & ~word if text.startswith(b"~") else word


@lru_cache(4096)
def mask_args(args: bytes) -> tuple[bytes, int | None, int | None] | None:
    """How, which set (None: only asked) and the mask before (None: not shown) of a call of rt_sigprocmask."""
    match = _MASK_ARGS.match(args)
    if not match:
        return None
    words = [None if text in (None, b"NULL") else set_word(text) for text in match.group(2, 3)]
    if match[2] != b"NULL" and words[0] is None:
        return None
    return match[1], words[0], words[1]


Action = tuple[int, int, int]  # disposition, flags, mask


@lru_cache(4096)
def action_args(args: bytes) -> tuple[int, Action | None] | None:
    """Signal and new action (None: only asked) of a call of rt_sigaction."""
    match = _ACTION_ARGS.match(args)
    number = signal_number(match[1]) if match else None
    if not match or number is None:
        return None
    if match[2] is None:
        return number, None
    mask = set_word(match[3])
    if mask is None:
        return None
    flags = 0
    for name in match[4].split(b"|"):
        known = _SA_FLAGS.get(name)
        if known is None and re.fullmatch(rb"0(?:x[0-9a-f]{1,16})?", name):
            known = int(name, 16)
        if known is None:
            return None
        flags |= known
    disposition = {b"SIG_DFL": events.DISPOSITION_DEFAULT, b"SIG_IGN": events.DISPOSITION_IGNORE}.get(
        match[2], events.DISPOSITION_HANDLER
    )
    return number, (disposition, flags & 0xFFFF_FFFF, mask & ~sig.UNBLOCKABLE)


@lru_cache(1024)
def clone_flags(text: bytes) -> int:
    """The flags of clone(2) by their names."""
    flags = 0
    for name in text.split(b"|"):
        flags |= int(name, 16) if re.fullmatch(rb"0x[0-9a-f]{1,16}", name) else _CLONE.get(name, 0)
    return flags


def first_string(args: bytes) -> bytes:
    """The first string among the arguments, without strace's escapes."""
    match = _FIRST_STRING.search(args)
    if not match:
        return b""

    def plain(escape: re.Match[bytes]) -> bytes:
        code = escape[1]
        if code[:1] == b"x":
            return bytes([int(code[1:], 16)])
        if code.isdigit():
            return bytes([int(code, 8) & 0xFF])
        return {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}.get(code, code)

    return _ESCAPE.sub(plain, match[1])


def comm_of(name: bytes) -> str:
    """A thread's name as the kernel would keep it."""
    return decoded(name[: events.COMM_BYTES - 1].partition(b"\0")[0])
