"""Logs of strace as events: from a file that somebody has, or from strace at work.

A log tells what each thread did, not what state it was in. The state (mask, alternate stack, handlers) is put
together by replay: inherited at a birth, changed by calls, reset by exec. What a log can't tell is not invented: a
`lost` event covers the stretch in which the state of a thread or process is not known (docs/strace.md).

Two stages. `_Lines` finds the calls that matter in the text, by one compiled expression over large chunks, and joins
the halves of interrupted ones. `_Replay` follows the state and writes the events.
"""

from __future__ import annotations

import heapq
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes import strace as tracer
from sigwindow.probes.errors import CannotTraceError, InputError, UsageError

from . import procfs, tracefile

_CHUNK_BYTES = 1 << 20
_FAMILY_CHUNK_BYTES = 1 << 16  # of each file, where a log is one file a thread (-ff)
_SNIFF_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 24
_LONGEST_HALF_BYTES = 1 << 14  # kept of a call that waits for its second half
_BATCH_ROWS = 1 << 15
_HELD_CALLS = 1 << 16  # how far to look ahead for the second half of a clone
_MOST_THREADS = 1 << 20
_CLOCK_STEP_NS = 1_000_000_000
_LATEST_NS = 1 << 62

_CODE = events.CODE

# ---- text: from lines to calls --------------------------------------------------------------

# Calls whose moment is their beginning, and that are known by then.
_AT_ONCE = ("rt_sigreturn", "exit", "exit_group", "prctl")
# Calls whose moment is their beginning, but whose result must be waited for: a thread's own lines may come before
# the line that tells of its birth.
_FROM_START = ("clone", "clone3", "fork", "vfork", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# Calls whose moment is their end.
_AT_END = ("rt_sigprocmask", "sigaltstack", "rt_sigaction", "execve", "execveat")
# What the first process calls about itself, in a log that does not name it before there is a second one.
_SELF = ("set_tid_address", "gettid")

_SPLIT_FROM_START = frozenset(name.encode() for name in _FROM_START)
_SPLIT_AT_ONCE = frozenset(name.encode() for name in _AT_ONCE)
_EXECS = frozenset((b"execve", b"execveat"))
_BIRTHS = frozenset((b"clone", b"clone3", b"fork", b"vfork"))
_ITSELF = frozenset(name.encode() for name in _SELF)

_STAMPS = {
    "-ttt": rb"(\d{9,10}\.\d{1,9}) (?:\(\+ +\d+\.\d+\) )?",
    "-tt": rb"(\d\d:\d\d:\d\d\.\d{1,9}) (?:\(\+ +\d+\.\d+\) )?",
    "-r": rb" *(\d{1,6}\.\d{3,9}) ",
    "-t": rb"(\d\d:\d\d:\d\d) (?:\(\+ +\d+\.\d+\) )?",
    "": rb"()",
}
_HEAD = rb"(?:\[pid +(\d{1,7})(?:<[^>\n]*>)?\] |(\d{1,7})(?:<[^>\n]*>)? +)?"
_AFTER_STAMP = rb"(?:\[[ ?0-9a-f]+\] )*"  # -n, -i
_CALLED = rb"(?:\w+\(|<\.\.\. |--- |\+\+\+ |\?\?\?\?)"
# Lines with neither time nor call: stacks (-k), strace's own remarks.
_REMARK = rb"(?: > | \(|strace: |\[ Process |Process \d+ )"
# On a terminal's stream strace announces a new thread in the middle of another's line.
_ANNOUNCED = re.compile(
    rb"(?:strace: Process \d+ (?:attached|detached|suspended|resumed)[^\n]*"
    rb"|Process \d+ (?:attached|detached|suspended|resumed)(?: \([^\n]*\))?)\n"
)
_RESULT = re.compile(rb"(-?\d{1,19})(?:<[^>]*>)?(?: /\* (\d{1,7}) in strace's PID NS \*/)?")
_DURATION = re.compile(rb" <(\d{1,7})\.(\d{1,9})>$")


def _unmarked(pattern: bytes) -> bytes:
    """An expression without its capturing groups."""
    return re.sub(rb"(?<!\\)\((?!\?)", rb"(?:", pattern)


def _expression(stamp: str, *, nameless: bool) -> re.Pattern[bytes]:
    """What finds, in one pass, the lines that matter and those that are not strace's.

    Groups: pid in brackets, pid, time, `<... ` of a second half, call, rest, signal, end, its rest, a foreign line.
    Under -r every line matters, since each has the time since the one before.
    """
    names = "|".join((*_AT_ONCE[:-1], *_FROM_START, *_AT_END, *(_SELF if nameless else ()))).encode()
    head = _HEAD + _STAMPS[stamp] + _AFTER_STAMP
    matters = (
        rb"(<\.\.\. )?(" + names + rb"|prctl(?=\(PR_SET_NAME))(?:\(| resumed>)(.*)"
        rb"|--- SIG(\w+) .*|\+\+\+ (exited(?= with \d{1,3} )|killed(?= by \w)|superseded) (.*)"
    )
    if stamp == "-r":
        matters += rb"|(?=" + _CALLED + rb")"
    whole = _unmarked(head) + _CALLED
    return re.compile(rb"\n(?:" + head + rb"(?:" + matters + rb")|(?!" + whole + rb"|" + _REMARK + rb")(.+))")


class _Call:
    """One call, signal or end of a thread, at its moment."""

    __slots__ = ("args", "complete", "name", "result", "tid", "time_ns")

    def __init__(self, time_ns: int, tid: int, name: bytes, args: bytes, result: int | None, complete: bool) -> None:
        self.time_ns = time_ns
        self.tid = tid  # 0: the first process of a log that does not name it
        self.name = name  # of the call, or b"signal", b"exited", b"killed", b"superseded", b"damage"
        self.args = args
        self.result = result
        self.complete = complete


class _Style:
    """How a log was made, from its first lines.

    Raises InputError with the first line that is not strace's, or with the option that is missing.
    """

    def __init__(self, head: bytes, name: str) -> None:
        lines = [line for line in _ANNOUNCED.sub(b"", head + b"\n").split(b"\n")[:1000] if line.strip()]
        tests = {
            stamp: re.compile(_HEAD + _STAMPS[stamp] + _AFTER_STAMP + (_CALLED if stamp else rb"\w+\(.*[=>]"))
            for stamp in _STAMPS
        }
        counts = {stamp: sum(test.match(line) is not None for line in lines) for stamp, test in tests.items()}
        self.stamp = max(counts, key=lambda stamp: counts[stamp])
        test = tests[self.stamp]
        remark = re.compile(_REMARK)
        foreign = [line for line in lines if not test.match(line) and not remark.match(line)]
        if not counts[self.stamp] or len(foreign) * 2 > len(lines):
            line = (foreign or lines or [b""])[0][:120]
            raise InputError(f"{name} is not a log of strace; this line is not: {events.text(line)!r}")
        if self.stamp == "-t":
            raise InputError(f"{name} has times in whole seconds, which is too coarse: record it with strace -f -ttt")
        if not self.stamp:
            raise InputError(f"{name} has no times: record it with strace -f -ttt")
        matches = [match for line in lines if (match := test.match(line))]
        self.prefixed = any(match[2] for match in matches)
        self.bracketed = any(match[1] for match in matches)


class _Lines:
    """The calls of one stream of text.

    style: how the log was made; tid: the thread that all lines belong to (-ff), else 0; offset_ns: what to take away
    from every time.
    """

    def __init__(self, style: _Style, tid: int = 0, offset_ns: int = 0) -> None:
        self._expression = _expression(style.stamp, nameless=not style.prefixed and not tid)
        self._time = {"-ttt": self._absolute, "-tt": self._of_day, "-r": self._relative}[style.stamp]
        self._fixed = tid
        self._offset_ns = offset_ns
        self._carry = b""
        self._now_ns = 0
        self._day_ns = 0
        self._pending: dict[int, _Call] = {}
        self._alive: set[int] = set()  # seen, and not ended: whose a line without a pid may be
        self._children: set[int] = set()  # results of clone, until the first process is named
        self._calls: list[_Call] = []
        self.root = tid  # the first process, once it is known
        self.lines = 0
        self.foreign = 0

    def feed(self, data: bytes) -> list[_Call]:
        """The calls in what is complete with `data`, in order of time."""
        data = self._carry + data
        cut = data.rfind(b"\n") + 1
        text, self._carry = data[:cut], data[cut:]
        if b"Process " in text:
            text = _ANNOUNCED.sub(b"", text)
            cut = text.rfind(b"\n") + 1
            text, self._carry = text[:cut], text[cut:] + self._carry
        if len(self._carry) > _LONGEST_LINE_BYTES:
            self._carry = b""
            self.foreign += 1
        self._calls = []
        self.lines += text.count(b"\n")
        for match in self._expression.finditer(b"\n" + text):
            self._line(match.groups())
        return self._calls

    def close(self) -> list[_Call]:
        """The calls of a last line without an end; halves whose other half never came are given up."""
        calls = self.feed(b"\n") if self._carry else []
        for call in self._pending.values():
            call.complete = True
        self._pending.clear()
        return calls

    def _line(self, groups: tuple[bytes | None, ...]) -> None:
        bracket, plain, stamp, resumed, name, rest, signalled, end, end_rest, foreign = groups
        if foreign is not None:
            self.foreign += 1
            self._damage()
            return
        assert stamp is not None
        time_ns = self._time(stamp)
        tid = int(plain) if plain else self._whose(bracket, resumed is not None)
        if tid < 0:
            self.foreign += 1
            self._damage()
        elif name is not None and rest is not None:
            if resumed:
                self._resume(tid, time_ns, name, rest)
            else:
                self._call(tid, time_ns, name, rest)
        elif signalled is not None:
            self._calls.append(_Call(time_ns, tid, b"signal", signalled, 0, True))
        elif end is not None and end_rest is not None:
            self._end(tid, time_ns, end, end_rest)

    def _damage(self) -> None:
        """Something of this moment can't be read."""
        self._calls.append(_Call(self._now_ns, 0, b"damage", b"", 0, True))

    # -- time

    def _absolute(self, stamp: bytes) -> int:
        seconds, _, fraction = stamp.partition(b".")
        self._now_ns = min(int(seconds) * 10**9 + int(fraction.ljust(9, b"0")) - self._offset_ns, _LATEST_NS)
        return self._now_ns

    def _of_day(self, stamp: bytes) -> int:
        fraction = int(stamp[9:].ljust(9, b"0"))
        time_ns = (int(stamp[:2]) * 3600 + int(stamp[3:5]) * 60 + int(stamp[6:8])) * 10**9 + fraction + self._day_ns
        if time_ns < self._now_ns - 12 * 3600 * 10**9:  # past midnight
            self._day_ns += 24 * 3600 * 10**9
            time_ns += 24 * 3600 * 10**9
        self._now_ns = time_ns
        return time_ns

    def _relative(self, stamp: bytes) -> int:
        seconds, _, fraction = stamp.partition(b".")
        self._now_ns = min(self._now_ns + int(seconds) * 10**9 + int(fraction.ljust(9, b"0")), _LATEST_NS)
        return self._now_ns

    # -- threads

    def _whose(self, bracket: bytes | None, resumed: bool) -> int:
        """The thread of a line: its prefix, or the only one that there is; -1 if that can't be told."""
        if bracket:
            tid = int(bracket)
            if tid not in self._alive:
                self._meet(tid, resumed)
            return tid
        if self._fixed:
            return self._fixed
        if not self._alive:
            self._alive.add(self.root)
        return next(iter(self._alive)) if len(self._alive) == 1 else -1

    def _meet(self, tid: int, resumed: bool) -> None:
        """A thread is named for the first time: a new one, or the first process, which had no name yet."""
        waiting = self._pending.get(0)
        born = tid in self._children or (waiting is not None and waiting.name in _BIRTHS and not resumed)
        if 0 in self._alive and not born:
            self._name_root(tid)
        self._alive.add(tid)

    def _name_root(self, tid: int) -> None:
        self.root = tid
        self._alive.discard(0)
        self._alive.add(tid)
        self._children.clear()
        if 0 in self._pending:
            self._pending[tid] = self._pending.pop(0)

    # -- calls

    def _call(self, tid: int, time_ns: int, name: bytes, rest: bytes) -> None:
        if name in _SPLIT_AT_ONCE:
            self._calls.append(_Call(time_ns, tid, name, rest, 0, True))
        elif rest.endswith(b"...>"):
            self._begin(tid, time_ns, name, rest)
        elif name in _ITSELF:
            result = _RESULT.match(rest[rest.rfind(b" = ") + 3 :])
            if tid == 0 and result and 0 < int(result[1]) < 10**7:
                self._name_root(int(result[1]))
        else:
            call = _Call(time_ns, tid, name, rest, None, True)
            self._finish(call, rest, time_ns, split=False)

    def _begin(self, tid: int, time_ns: int, name: bytes, rest: bytes) -> None:
        if name in _ITSELF:
            return
        half = rest[: rest.rfind(b"<")].removesuffix(b" ")[:_LONGEST_HALF_BYTES]
        call = _Call(time_ns, tid, name, half, None, False)
        self._pending[tid] = call
        if name in _SPLIT_FROM_START:
            self._calls.append(call)
        elif name in _EXECS:  # its thread id may be another when it returns
            self._calls.append(_Call(time_ns, tid, name, half, None, True))

    def _resume(self, tid: int, time_ns: int, name: bytes, rest: bytes) -> None:
        if name in _SPLIT_AT_ONCE or name in _ITSELF:
            return
        call = self._pending.pop(tid, None)
        if call is not None and call.name != name:
            call.complete = True
            call = None
        if call is None:
            if name in _EXECS:  # called by a thread that has this id from now on
                call = _Call(time_ns, tid, name, b"", None, True)
            else:  # begun before the log was
                self._damage()
                return
        self._finish(call, call.args + rest, time_ns, split=True)

    def _finish(self, call: _Call, text: bytes, time_ns: int, *, split: bool) -> None:
        """The result of a call; `time_ns` is that of its last line."""
        equals = text.rfind(b" = ")
        result = _RESULT.match(text, equals + 3) if equals >= 0 else None
        call.args = text[:equals] if equals >= 0 else text
        waited = not call.complete and call.name in _SPLIT_FROM_START
        call.complete = True
        if result is not None:
            call.result = int(result[2] or result[1])
        elif equals < 0 or not text.startswith(b" = ?", equals):
            self._damage()
            return
        if call.name in _SPLIT_FROM_START:
            if call.name in _BIRTHS and self.root == 0 and call.result is not None:
                self._children.add(call.result)
            if not waited:
                self._calls.append(call)
            return
        if call.result is None:
            return
        call.time_ns = time_ns
        if not split and text.endswith(b">"):
            took = _DURATION.search(text)
            if took:
                call.time_ns += int(took[1]) * 10**9 + int(took[2].ljust(9, b"0"))
        self._calls.append(call)

    def _end(self, tid: int, time_ns: int, end: bytes, rest: bytes) -> None:
        pending = self._pending.pop(tid, None)
        if pending is not None:
            pending.complete = True
        if end == b"superseded":
            caller = re.search(rb"in pid (\d{1,7})", rest)
            number = int(caller[1]) if caller else 0
            exec_call = self._pending.pop(number, None)
            if exec_call is not None:
                self._pending[tid] = exec_call
                exec_call.tid = tid
            self._alive.discard(number)
            self._calls.append(_Call(time_ns, tid, end, b"", number, True))
        else:
            self._alive.discard(tid)
            self._calls.append(_Call(time_ns, tid, end, rest, 0, True))


# ---- arguments ------------------------------------------------------------------------------

_SET = rb"(NULL|~?\[[^\]]*\])"
_MASK_ARGS = re.compile(rb"(SIG_[A-Z]+), " + _SET + rb", *(?:" + _SET + rb"|0x[0-9a-f]+)")
_ACTION_ARGS = re.compile(
    rb"(SIG\w+|\d+), (?:NULL|0x|\{(?:sa_(?:handler|sigaction)=)?([^,]+), (?:sa_mask=)?(~?\[[^\]]*\]),"
    rb" (?:sa_flags=)?([^,}]*))"
)
_STACK_ARGS = re.compile(rb"(?:NULL|0x|\{ss_sp=[^,]*, ss_flags=([A-Z_0-9x|]+), ss_size=(\d+)\})")
_RETURN_MASK = re.compile(rb"\{mask=(~?\[[^\]]*\])")
_CLONE_FLAGS = re.compile(rb"flags=([A-Za-z_0-9|]+)")
_SENT_TO = re.compile(rb"(\d{1,7})(?:<[^>]*>)?, (?:(\d{1,7})(?:<[^>]*>)?, )?(SIG\w+)")
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
_CLONE_VM, _CLONE_SIGHAND, _CLONE_VFORK, _CLONE_CLEAR_SIGHAND = 0x100, 0x800, 0x4000, 1 << 32
_CLONE = {  # include/uapi/linux/sched.h
    name.encode(): value
    for name, value in {
        "CLONE_VM": _CLONE_VM,
        "CLONE_FS": 0x200,
        "CLONE_FILES": 0x400,
        "CLONE_SIGHAND": _CLONE_SIGHAND,
        "CLONE_PIDFD": 0x1000,
        "CLONE_PTRACE": 0x2000,
        "CLONE_VFORK": _CLONE_VFORK,
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
        "CLONE_CLEAR_SIGHAND": _CLONE_CLEAR_SIGHAND,
    }.items()
}
_NUMBERS = {name.encode(): number for number, name in sig.LINUX_NAMES.items()}
# strace counts real-time signals from the kernel's first one, 32; programs count from 34.
_NUMBERS |= {b"RTMIN": 32, b"RTMAX": sig.LINUX_COUNT} | {b"RT_%d" % n: 32 + n for n in range(sig.LINUX_COUNT - 31)}
_NUMBERS |= {b"%d" % n: n for n in range(1, sig.LINUX_COUNT + 1)}
_NUMBERS |= {b"IOT": 6, b"CLD": 17, b"POLL": 29, b"UNUSED": 31}


def _number(name: bytes) -> int | None:
    return _NUMBERS.get(name.removeprefix(b"SIG"))


@lru_cache(4096)
def _word(text: bytes) -> int | None:
    """A set as strace writes it: `[INT CHLD]`, `~[KILL STOP]`, `[HUP RT_1]`, `[]`."""
    numbers = [_number(name) for name in text.lstrip(b"~")[1:-1].replace(b",", b" ").split()]
    if None in numbers:
        return None
    word = sig.word_of(number for number in numbers if number)
    return sig.ALL & ~word if text.startswith(b"~") else word


@lru_cache(4096)
def _mask_args(args: bytes) -> tuple[bytes, int | None, int | None] | None:
    """How, which set (None: only asked) and the mask before (None: not shown) of a call of rt_sigprocmask."""
    match = _MASK_ARGS.match(args)
    if not match:
        return None
    words = [None if text in (None, b"NULL") else _word(text) for text in match.group(2, 3)]
    if match[2] != b"NULL" and words[0] is None:
        return None
    return match[1], words[0], words[1]


_Action = tuple[int, int, int]  # disposition, flags, mask


@lru_cache(4096)
def _action_args(args: bytes) -> tuple[int, _Action | None] | None:
    """Signal and new action (None: only asked) of a call of rt_sigaction."""
    match = _ACTION_ARGS.match(args)
    number = _number(match[1]) if match else None
    if not match or number is None:
        return None
    if match[2] is None:
        return number, None
    mask = _word(match[3])
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
def _clone_flags(text: bytes) -> int:
    flags = 0
    for name in text.split(b"|"):
        flags |= int(name, 16) if re.fullmatch(rb"0x[0-9a-f]{1,16}", name) else _CLONE.get(name, 0)
    return flags


def _string(args: bytes) -> bytes:
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


def _comm(name: bytes) -> str:
    return events.text(name[: events.COMM_BYTES - 1].partition(b"\0")[0])


# ---- state: from calls to events ------------------------------------------------------------


class _Handlers:
    """The actions of a process's signals; threads share them."""

    def __init__(self, actions: dict[int, _Action]) -> None:
        self.actions = actions
        self.handled = self.onstack = 0
        for number, action in list(actions.items()):
            self.set(number, action)

    def set(self, number: int, action: _Action) -> None:
        bit = 1 << (number - 1)
        self.actions[number] = action
        handles = action[0] == events.DISPOSITION_HANDLER
        self.handled = self.handled | bit if handles else self.handled & ~bit
        self.onstack = self.onstack | bit if handles and action[1] & sig.SA_ONSTACK else self.onstack & ~bit

    def copy(self, *, keep_handlers: bool) -> _Handlers:
        kept = (events.DISPOSITION_IGNORE, events.DISPOSITION_HANDLER if keep_handlers else -1)
        return _Handlers({number: action for number, action in self.actions.items() if action[0] in kept})


class _Process:
    __slots__ = ("ending", "handlers", "pid", "threads", "unknown_since_ns")

    def __init__(self, pid: int, handlers: _Handlers, unknown_since_ns: int | None) -> None:
        self.pid = pid
        self.handlers = handlers
        self.unknown_since_ns = unknown_since_ns  # since when handlers may be there that the log does not show
        self.threads: set[int] = set()  # their ids
        self.ending = False


class _Thread:
    __slots__ = (
        "altstack",
        "comm",
        "exec_path",
        "known",
        "mask",
        "process",
        "saved",
        "superseded_by",
        "unsure_since_ns",
    )

    def __init__(self, process: _Process, mask: int, known: int, altstack: bool, comm: str) -> None:
        self.process = process
        self.mask = mask
        self.known = known  # the signals of which the log says whether they are blocked
        self.altstack = altstack
        self.comm = comm
        self.saved: list[int] = []  # the masks under the handlers that run
        self.unsure_since_ns: int | None = None  # since when a born thread's mask is not known
        self.exec_path = b""
        self.superseded_by = 0


class _Replay:
    """The state of all threads, call by call, and the events that come of it.

    first_mask: the mask of the first process, where it is known.
    """

    def __init__(self, first_mask: int | None = None) -> None:
        self._first_mask = first_mask
        self._threads: dict[int, _Thread] = {}
        self._first: _Process | None = None
        self.watched: dict[int, int | None] = {}  # the exit statuses of the processes that were asked for
        self._rows: list[tuple[int | bool | str, ...]] = []
        self._now_ns = 0
        self._apply: dict[bytes, Callable[[int, _Call], None]] = {
            b"rt_sigprocmask": self._mask,
            b"sigaltstack": self._altstack,
            b"rt_sigaction": self._action,
            b"rt_sigreturn": self._return,
            b"prctl": self._name,
            b"signal": self._deliver,
            b"exit": self._exit,
            b"exit_group": self._exit_group,
            b"exited": self._exited,
            b"killed": self._killed,
            b"superseded": self._superseded,
            b"damage": self._damage,
            **dict.fromkeys(_BIRTHS, self._birth),
            **dict.fromkeys(_EXECS, self._exec),
            **dict.fromkeys(_SPLIT_FROM_START - _BIRTHS, self._generate),
        }
        self.unborn = 0  # threads whose birth the log does not have
        self.unsure = 0  # born threads whose mask is not known from the beginning
        self.damaged = 0
        self.steps_back = 0
        self.unnamed = False

    @property
    def rows(self) -> int:
        """How many events wait to be taken."""
        return len(self._rows)

    @property
    def living(self) -> int:
        """How many threads have not ended."""
        return len(self._threads)

    def adopt(self, found: Iterable[procfs.Thread], time_ns: int) -> None:
        """Take over threads that live already, as /proc tells of them."""
        processes: dict[int, _Process] = {}
        for one in found:
            process = processes.get(one.pid)
            if process is None:
                actions = dict.fromkeys(sig.members(one.handled), (events.DISPOSITION_HANDLER, 0, 0))
                actions |= dict.fromkeys(sig.members(one.ignored), (events.DISPOSITION_IGNORE, 0, 0))
                process = processes[one.pid] = _Process(one.pid, _Handlers(actions), None)
            self._first = self._first or process
            self.watched[one.pid] = None
            thread = _Thread(process, one.mask, sig.ALL, False, one.comm)
            self._add(one.tid, thread)
            self._now_ns = time_ns
            self._row("snapshot", one.tid, thread, handled=True, comm=one.comm)

    def apply(self, call: _Call, tid: int) -> None:
        """Take in the next call, by the thread `tid`."""
        if call.time_ns < self._now_ns - _CLOCK_STEP_NS:
            self.steps_back += 1
        self._now_ns = max(self._now_ns, call.time_ns)
        self._apply[call.name](tid, call)

    def take(self) -> pa.RecordBatch:
        """The events since the last time, in order of time."""
        if not self._rows:
            return events.batch_of({"time_ns": np.empty(0, np.int64)})
        columns = zip(_ROW, zip(*self._rows, strict=True), strict=True)
        self._rows = []
        return events.batch_of(
            {
                name: pa.array(values, pa.string()) if name == "comm" else np.array(values, dtype)
                for (name, dtype), values in columns
            }
        )

    def close(self) -> None:
        """What is still not known at the end of the log stays so."""
        processes = {id(thread.process): thread.process for thread in self._threads.values()}
        for thread in self._threads.values():
            self._settle(thread, proven=False)
        for process in processes.values():
            self._lose(process.unknown_since_ns)

    # -- rows

    def _row(
        self,
        kind: str,
        tid: int,
        thread: _Thread,
        *,
        handled: bool = False,
        signal: int = 0,
        disposition: int = 0,
        sa_flags: int = 0,
        peer: int = 0,
        flags: int = 0,
        comm: str = "",
    ) -> None:
        handlers = thread.process.handlers
        self._rows.append(
            (
                self._now_ns,
                _CODE[kind],
                thread.process.pid,
                tid,
                thread.mask,
                thread.altstack,
                handlers.handled if handled else 0,
                handlers.onstack if handled else 0,
                signal,
                disposition,
                sa_flags,
                peer,
                flags,
                comm,
            )
        )

    def _lose(self, since_ns: int | None) -> None:
        """Say that since then there was something that the log does not show."""
        if since_ns is not None:
            self._rows.append((self._now_ns, _CODE["lost"], 0, 0, max(since_ns, 0), False, 0, 0, 0, 0, 0, 0, 1, ""))

    def _damage(self, tid: int, call: _Call) -> None:
        self.damaged += 1
        self._lose(self._now_ns)

    # -- threads

    def _add(self, tid: int, thread: _Thread) -> None:
        if tid in self._threads:  # its end is not in the log
            self._remove(tid)
        if len(self._threads) >= _MOST_THREADS:
            raise InputError(f"more than {_MOST_THREADS} threads at once: this is no log of strace")
        self._threads[tid] = thread
        thread.process.threads.add(tid)

    def _remove(self, tid: int) -> None:
        thread = self._threads.pop(tid)
        process = thread.process
        self._settle(thread, proven=False)
        process.threads.discard(tid)
        if not process.threads:
            self._lose(process.unknown_since_ns)

    def _thread(self, tid: int) -> _Thread:
        """The thread of that id; one whose birth is not in the log is taken for one of the first process."""
        thread = self._threads.get(tid)
        if thread is not None:
            return thread
        process = self._first
        if process is None or not process.threads:
            process = _Process(tid, _Handlers({}), self._now_ns)
            self._first = self._first or process
        else:
            self.unborn += 1
        return self._unborn(tid, process)

    def _unborn(self, tid: int, process: _Process) -> _Thread:
        known = sig.ALL if self._first_mask is not None else 0
        thread = _Thread(process, self._first_mask or 0, known, False, "")
        self._first_mask = None
        self._add(tid, thread)
        self._row("snapshot", tid, thread, handled=True)
        return thread

    def _settle(self, thread: _Thread, *, proven: bool) -> None:
        """A born thread's mask is known from now on; `proven`: and was from its birth what it was taken for."""
        if not proven and thread.unsure_since_ns is not None:
            self.unsure += 1
            self._lose(thread.unsure_since_ns)
        thread.unsure_since_ns = None

    # -- calls

    def _mask(self, tid: int, call: _Call) -> None:
        if call.result != 0:
            return
        parsed = _mask_args(call.args)
        if parsed is None:
            return self._damage(tid, call)
        how, given, before = parsed
        thread = self._thread(tid)
        if before is not None:
            right = thread.mask == before
            if not right and thread.known == sig.ALL and thread.unsure_since_ns is None:
                self._lose(self._now_ns)  # a change of the mask is not in the log
            self._settle(thread, proven=right)
            if not right:
                thread.mask = before
                self._row("mask", tid, thread)
            thread.known = sig.ALL
        if given is None:
            return None
        given &= ~sig.UNBLOCKABLE
        if how == b"SIG_SETMASK":
            thread.mask, thread.known = given, sig.ALL
        elif how == b"SIG_BLOCK":
            thread.mask, thread.known = thread.mask | given, thread.known | given
        else:
            thread.mask, thread.known = thread.mask & ~given, thread.known | given
        if thread.known | sig.UNBLOCKABLE == sig.ALL:
            self._settle(thread, proven=False)
        self._row("mask", tid, thread)
        return None

    def _altstack(self, tid: int, call: _Call) -> None:
        if call.result != 0:
            return
        match = _STACK_ARGS.match(call.args)
        if not match:
            return self._damage(tid, call)
        thread = self._thread(tid)
        if match[1] is None:
            return None
        thread.altstack = b"SS_DISABLE" not in match[1]
        self._row("altstack", tid, thread)
        return None

    def _action(self, tid: int, call: _Call) -> None:
        if call.result != 0:
            return
        parsed = _action_args(call.args)
        if parsed is None:
            return self._damage(tid, call)
        number, action = parsed
        if action is None:
            return None
        thread = self._thread(tid)
        thread.process.handlers.set(number, action)
        self._row("action", tid, thread, handled=True, signal=number, disposition=action[0], sa_flags=action[1])
        return None

    def _deliver(self, tid: int, call: _Call) -> None:
        number = _number(call.args)
        if number is None:
            return self._damage(tid, call)
        thread = self._thread(tid)
        handlers = thread.process.handlers
        action = handlers.actions.get(number, (events.DISPOSITION_DEFAULT, 0, 0))
        disposition, flags, mask = action
        if disposition == events.DISPOSITION_HANDLER:
            thread.saved.append(thread.mask)
            del thread.saved[:-64]
            thread.mask |= mask if flags & sig.SA_NODEFER else mask | (1 << (number - 1))
        self._row("deliver", tid, thread, signal=number, disposition=disposition, sa_flags=flags)
        if disposition == events.DISPOSITION_HANDLER and flags & sig.SA_RESETHAND:
            handlers.set(number, (events.DISPOSITION_DEFAULT, 0, 0))
        return None

    def _return(self, tid: int, call: _Call) -> None:
        thread = self._thread(tid)
        match = _RETURN_MASK.match(call.args)
        word = _word(match[1]) if match else None
        saved = thread.saved.pop() if thread.saved else None
        if word is None and saved is None:
            return self._damage(tid, call)
        if word is not None:
            thread.known = sig.ALL
            thread.mask = word & ~sig.UNBLOCKABLE
            self._settle(thread, proven=saved == thread.mask)
        elif saved is not None:
            thread.mask = saved
        self._row("return", tid, thread)
        return None

    def _name(self, tid: int, call: _Call) -> None:
        thread = self._thread(tid)
        thread.comm = _comm(_string(call.args))
        self._row("name", tid, thread, comm=thread.comm)

    def _generate(self, tid: int, call: _Call) -> None:
        match = _SENT_TO.match(call.args)
        number = _number(match[3]) if match else None
        if not match or call.result != 0 or number is None:
            return
        to_process = call.name in (b"kill", b"rt_sigqueueinfo")
        target = int(match[2] or match[1])
        thread = self._threads.get(target)
        if thread is not None:
            flags = events.GENERATE_PROCESS if to_process else 0
            self._row("generate", target, thread, signal=number, peer=tid, flags=flags)

    def _birth(self, tid: int, call: _Call) -> None:
        if call.result is None or not 0 < call.result < 10**7:
            return
        if call.name in (b"clone", b"clone3"):
            match = _CLONE_FLAGS.search(call.args)
            if not match:
                return self._damage(tid, call)
            flags = _clone_flags(match[1])
        else:
            flags = _CLONE_VM | _CLONE_VFORK if call.name == b"vfork" else 0
        creator = self._thread(tid)
        process = creator.process
        if not flags & events.CLONE_THREAD:
            handlers = process.handlers
            if not flags & _CLONE_SIGHAND:
                handlers = handlers.copy(keep_handlers=not flags & _CLONE_CLEAR_SIGHAND)
            since_ns = None if process.unknown_since_ns is None else self._now_ns
            process = _Process(call.result, handlers, since_ns)
        shares_memory = flags & (_CLONE_VM | _CLONE_VFORK) == _CLONE_VM
        thread = _Thread(process, creator.mask, creator.known, creator.altstack and not shares_memory, creator.comm)
        self._add(call.result, thread)
        if flags & events.CLONE_THREAD and thread.known | sig.UNBLOCKABLE != sig.ALL:
            thread.unsure_since_ns = self._now_ns
        self._row("born", call.result, thread, handled=True, peer=tid, flags=flags & 0xFFFF_FF00, comm=thread.comm)
        return None

    def _exec(self, tid: int, call: _Call) -> None:
        thread = self._threads.get(tid)
        if thread is None:  # the log begins with this program
            process = _Process(tid, _Handlers({}), None)
            if self._first is None:
                self._first = process
                self.watched[tid] = None
            thread = self._unborn(tid, process)
        if call.result is None:
            thread.exec_path = call.args
        if call.result != 0:
            return
        caller = self._threads.get(thread.superseded_by, thread)
        peer = thread.superseded_by or tid
        old = thread.process
        process = _Process(old.pid, old.handlers.copy(keep_handlers=False), None)
        path = _string(call.args or caller.exec_path)
        mask, known = caller.mask, caller.known
        self._lose(old.unknown_since_ns)
        old.unknown_since_ns = None
        for other in list(old.threads):
            self._remove(other)
        if self._first is old:
            self._first = process
        thread = _Thread(process, mask, known, False, _comm(path.rsplit(b"/", 1)[-1]))
        self._add(tid, thread)
        self._row("exec", tid, thread, handled=True, peer=peer, comm=thread.comm)

    def _superseded(self, tid: int, call: _Call) -> None:
        self._thread(tid).superseded_by = call.result or 0

    def _exit(self, tid: int, call: _Call) -> None:
        self._end(tid)

    def _exit_group(self, tid: int, call: _Call) -> None:
        self._thread(tid).process.ending = True
        self._end(tid)

    def _exited(self, tid: int, call: _Call) -> None:
        if tid in self.watched:
            self.watched[tid] = int(call.args.split()[1])
        if tid in self._threads:  # else it said itself that it ends
            self._end(tid)

    def _killed(self, tid: int, call: _Call) -> None:
        if tid in self.watched:
            self.watched[tid] = 128 + (_number(call.args.split()[1]) or 0)
        if tid in self._threads:
            self._threads[tid].process.ending = True
            self._end(tid)

    def _end(self, tid: int) -> None:
        thread = self._thread(tid)
        self._row("exit", tid, thread, flags=events.EXIT_GROUP if thread.process.ending else 0)
        self._remove(tid)


_ROW: tuple[tuple[str, type], ...] = (
    ("time_ns", np.int64),
    ("kind", np.uint8),
    ("pid", np.int32),
    ("tid", np.int32),
    ("mask", np.uint64),
    ("altstack", np.bool_),
    ("handled", np.uint64),
    ("onstack", np.uint64),
    ("signal", np.uint8),
    ("disposition", np.uint8),
    ("sa_flags", np.uint32),
    ("peer", np.int32),
    ("flags", np.uint32),
    ("comm", str),
)


class _Queue:
    """Between the two stages: calls wait here until what they need to know has been read.

    A clone waits for its result, and the calls of a process without a name for that. Everything behind them waits,
    too, so that the order of time is kept.
    """

    def __init__(self, replay: _Replay) -> None:
        self._replay = replay
        self._calls: deque[_Call] = deque()

    def put(self, calls: Iterable[_Call], root: int, *, last: bool = False) -> None:
        """Take `calls`, and pass on what nothing holds back. root: the first process, or 0; last: wait no more."""
        self._calls.extend(calls)
        while self._calls:
            call = self._calls[0]
            waits = not call.complete or (call.tid == 0 and root == 0 and call.name != b"damage")
            if waits and not last and len(self._calls) < _HELD_CALLS:
                return
            self._calls.popleft()
            if call.tid == 0 and root == 0 and call.name != b"damage":
                self._replay.unnamed = True
            self._replay.apply(call, call.tid or root or 1)


# ---- files ----------------------------------------------------------------------------------


def recognises(head: bytes) -> bool:
    """Whether a file that begins with `head` is a log of strace, with times or without."""
    try:
        _Style(head[:_SNIFF_BYTES].rpartition(b"\n")[0] or head[:_SNIFF_BYTES], "it")
    except InputError as error:
        return "record it with" in str(error)
    return True


def family(path: Path) -> list[Path]:
    """The files of a log: `path` itself, or of a log with one file a thread (-ff) all of `NAME.TID`.

    path: the file, one file of several, or their common NAME.
    """
    stem = path.with_suffix("") if path.suffix[1:].isdecimal() else path
    files = [one for one in stem.parent.glob("*") if one.stem == stem.name and one.suffix[1:].isdecimal()]
    if path.exists() and (path not in files or _names_its_threads(path)):
        return [path]
    return sorted(files, key=lambda one: int(one.suffix[1:])) or [path]


def _names_its_threads(path: Path) -> bool:
    """Whether the lines of a log say whose they are; then its name says nothing of it."""
    try:
        with path.open("rb") as file:
            style = _Style(file.read(_SNIFF_BYTES), str(path))
    except (OSError, InputError):
        return True  # whatever it is, it is alone
    return style.prefixed or style.bracketed


class Log:
    """A log of strace as batches of the event table.

    files: one file; or, of a log with one file a thread (-ff), all of them, named `NAME.TID` (`family` finds them).
    name: what to call a file without a name in messages. first_mask: the mask that the first program was started
    with, where it is known.

    `info` is what the trace says of itself. After `batches()` is through, `notes` says in plain sentences what the log
    does not tell; `read_bytes` and `size_bytes` tell how far it is.
    Raises InputError for what is no log of strace, or is one without usable times.
    """

    def __init__(self, files: Sequence[Path] | BinaryIO, *, name: str = "", first_mask: int | None = None) -> None:
        self._files = list(files) if isinstance(files, Sequence) else []
        self._stream = None if isinstance(files, Sequence) else files
        self._name = name or (str(self._files[0]) if self._files else "the input")
        self._replay = _Replay(first_mask)
        self._lines: list[_Lines] = []
        self._detached = False
        self.read_bytes = 0
        try:
            self.size_bytes = sum(path.stat().st_size for path in self._files)
            if self._stream is None:
                with self._files[0].open("rb") as file:
                    self._head = file.read(_SNIFF_BYTES)
            else:
                self._head = self._stream.read(_SNIFF_BYTES)
        except OSError as error:
            raise InputError(f"can't read {self._name}: {error.strerror or error}") from None
        whole = self._head if len(self._head) < _SNIFF_BYTES else self._head.rpartition(b"\n")[0]
        self._style = _Style(whole, self._name)
        self._by_thread = (
            not self._style.prefixed
            and not self._style.bracketed
            and bool(self._files)
            and all(path.suffix[1:].isdecimal() for path in self._files)
        )
        if len(self._files) > 1 and not self._by_thread:
            raise UsageError("several files are one log only where strace wrote one a thread (-ff): NAME.TID")
        if len(self._files) > 1 and self._style.stamp == "-r":
            raise InputError(f"{self._name}: files by thread (-ff) with times by -r have no order: record with -ttt")
        self.info = self._describe()

    def _describe(self) -> dict[str, str]:
        """Not this machine's description: of the one that was traced the log tells little."""
        clock = {"-ttt": "CLOCK_REALTIME", "-tt": "time of day", "-r": "time since the log's first line"}
        unknown = dict.fromkeys(("kernel", "arch", "host", "boot_id", "clock_to_wall_ns"), "")
        info = tracefile.describe(backend="strace", **(unknown | {"os": "linux", "clock": clock[self._style.stamp]}))
        if self._style.stamp == "-ttt":
            info["clock_to_wall_ns"] = "0"
        return {key: value for key, value in info.items() if value or key in ("kernel", "arch", "host")}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events, batch by batch, in order of time; they are read once."""
        queue = _Queue(self._replay)
        if self._by_thread and len(self._files) > 1:
            calls = heapq.merge(*(self._of_thread(path) for path in self._files), key=lambda call: call.time_ns)
            for call in calls:
                queue.put((call,), 1)
                if self._replay.rows >= _BATCH_ROWS:
                    yield self._replay.take()
            queue.put((), 1, last=True)
        else:
            lines = _Lines(self._style, int(self._files[0].suffix[1:]) % 10**7 if self._by_thread else 0)
            self._lines.append(lines)
            for data in self._data():
                self._detached = b" <detached ...>" in data[-4096:]
                queue.put(lines.feed(data), lines.root)
                if self._replay.rows >= _BATCH_ROWS:
                    yield self._replay.take()
            queue.put(lines.close(), lines.root, last=True)
        self._replay.close()
        if self._detached or not self._replay.living:
            yield from (self._replay.take(), _end_of_trace(self._replay._now_ns))
        else:
            yield self._replay.take()

    def _data(self) -> Iterator[bytes]:
        try:
            if self._stream is not None:
                yield self._head
                self.read_bytes += len(self._head)
                while data := self._stream.read(_CHUNK_BYTES):
                    self.read_bytes += len(data)
                    yield data
            else:
                with self._files[0].open("rb") as file:
                    while data := file.read(_CHUNK_BYTES):
                        self.read_bytes += len(data)
                        yield data
        except OSError as error:
            raise InputError(f"can't read {self._name}: {error.strerror or error}") from None

    def _of_thread(self, path: Path) -> Iterator[_Call]:
        """The calls in the file of one thread. It is not kept open: there may be more of them than a process may."""
        lines = _Lines(self._style, int(path.suffix[1:]) % 10**7)
        self._lines.append(lines)
        offset = 0
        while True:
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(_FAMILY_CHUNK_BYTES)
            except OSError as error:
                raise InputError(f"can't read {path}: {error.strerror or error}") from None
            if not data:
                break
            offset += len(data)
            self.read_bytes += len(data)
            self._detached = b" <detached ...>" in data[-4096:]
            yield from lines.feed(data)
        yield from lines.close()

    @property
    def lines(self) -> int:
        """Lines read."""
        return sum(lines.lines for lines in self._lines)

    @property
    def damaged(self) -> int:
        """Lines that are not strace's, or that are, but can't be read."""
        return self._replay.damaged

    @property
    def notes(self) -> list[str]:
        """What the log does not tell, and what was done about it; empty where it tells all."""
        replay = self._replay
        said = {
            f"{replay.damaged} lines are damaged or not strace's": replay.damaged,
            f"the masks of {replay.unsure} threads at their birth are not in the log: taken for those of a program "
            "started with nothing blocked, and uncertain": replay.unsure,
            f"the births of {replay.unborn} threads are not in the log: taken for threads of its first "
            "process": replay.unborn,
            "the first process is not named in the log: shown as process 1": replay.unnamed,
            f"the clock was set back {replay.steps_back} times while the log was made": replay.steps_back,
        }
        return [sentence for sentence, true in said.items() if true]


def _end_of_trace(time_ns: int) -> pa.RecordBatch:
    return events.batch_of(
        {
            "time_ns": np.array([time_ns]),
            "kind": np.array([_CODE["mark"]]),
            "comm": pa.array([events.TRACE_END]),
        }
    )


# ---- live -----------------------------------------------------------------------------------


class Live:
    """One capture by strace. Iterate over it for the batches; `stop()` from a signal handler ends it.

    argv: a command to run and trace from its first instruction; or pids: the processes to attach to. follow: whether
    the children of these processes count. duration_s: when to stop at the latest; a command then goes on untraced.

    `status` is the command's exit status once it has ended, 128 + N where signal N ended it.
    Raises CannotTraceError where strace is missing or may not trace, UsageError for a command that can't be run.
    """

    def __init__(
        self,
        *,
        argv: Sequence[str] = (),
        pids: Sequence[int] = (),
        follow: bool = True,
        duration_s: float | None = None,
    ) -> None:
        self._pids = list(pids)
        self._follow = follow
        self._duration_s = duration_s
        self._stopped = False
        self.status: int | None = None
        own_mask = sig.word_of(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self._replay = _Replay(own_mask if argv else None)
        self._queue = _Queue(self._replay)
        self._tracer = tracer.Tracer(argv=argv, pids=pids)

    def stop(self) -> None:
        """End the capture at its next poll; what strace has written is still read."""
        self._stopped = True

    def fill(self) -> float:
        """How full a buffer of ours is: there is none, strace waits."""
        return 0.0

    def lost(self) -> int:
        """How many events were lost: strace loses none."""
        return 0

    def close(self) -> None:
        """End strace; the traced processes go on."""
        self._tracer.close()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        lines = _Lines(_Style(b"1 1000000000.000000 execve(0) = 0", "strace"), offset_ns=offset_ns)
        # As in Session: from here on nothing is missed, and what was logged before is left out. What /proc tells may
        # be later than that; the calls in between then set the same state once more.
        start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if self._pids else 0
        deadline_s = None if self._duration_s is None else time.monotonic() + self._duration_s
        asked = False
        try:
            self._replay.adopt((thread for pid in self._pids for thread in procfs.threads(pid)), start_ns)
            while (data := self._tracer.read(0.1)) is not None:
                self._queue.put((call for call in lines.feed(data) if call.time_ns >= start_ns), lines.root)
                yield self._taken()
                late = deadline_s is not None and time.monotonic() >= deadline_s
                statuses = self._replay.watched.values()
                over = bool(statuses) and None not in statuses  # strace itself would wait for descendants, too
                if not asked and (self._stopped or late or over):
                    self._tracer.stop()
                    asked = True
            if not lines.lines and not asked:
                raise CannotTraceError("strace ended and wrote nothing: its own message is above")
            self._queue.put(lines.close(), lines.root, last=True)
            self._replay.close()
            yield self._taken()
            yield _end_of_trace(max(time.clock_gettime_ns(time.CLOCK_MONOTONIC), self._replay._now_ns))
            if not self._pids:
                self.status = next(iter(self._replay.watched.values()), None)
        finally:
            self._tracer.close()

    def _taken(self) -> pa.RecordBatch:
        batch = self._replay.take()
        if self._follow:
            return batch
        asked_for = pa.array([0, *self._replay.watched], pa.int32())  # 0: `lost` belongs to no process
        return batch.filter(pc.is_in(batch.column("pid"), asked_for))
