"""The text of strace as calls: one compiled expression finds those that matter, over large chunks.

The halves of interrupted calls are joined. What stands between the brackets is left to arguments.py.
"""

from __future__ import annotations

import re

from sigwindow.probes.errors import InputError
from sigwindow.probes.text import decoded

_LONGEST_LINE_BYTES = 1 << 24
_LONGEST_HALF_BYTES = 1 << 14  # kept of a call that waits for its second half
_LATEST_NS = 1 << 62

# Calls whose moment is their beginning, and that are known by then.
_AT_ONCE = ("rt_sigreturn", "exit", "exit_group", "prctl")
# Calls whose moment is their beginning, but whose result must be waited for: a thread's own lines may come before
# the line that tells of its birth.
_FROM_START = ("clone", "clone3", "fork", "vfork", "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
# Calls whose moment is their end.
_AT_END = ("rt_sigprocmask", "sigaltstack", "rt_sigaction", "execve", "execveat")
# What the first process calls about itself, in a log that does not name it before there is a second one.
_SELF = ("set_tid_address", "gettid")

FROM_START = frozenset(name.encode() for name in _FROM_START)
_SPLIT_AT_ONCE = frozenset(name.encode() for name in _AT_ONCE)
EXECS = frozenset((b"execve", b"execveat"))
BIRTHS = frozenset((b"clone", b"clone3", b"fork", b"vfork"))
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


class Call:
    """One call, signal or end of a thread, at its moment."""

    __slots__ = ("args", "complete", "name", "result", "tid", "time_ns")

    def __init__(self, time_ns: int, tid: int, name: bytes, args: bytes, result: int | None, complete: bool) -> None:
        self.time_ns = time_ns
        self.tid = tid  # 0: the first process of a log that does not name it
        self.name = name  # of the call, or b"signal", b"exited", b"killed", b"superseded", b"damage"
        self.args = args
        self.result = result
        self.complete = complete


class UntimedError(InputError):
    """A log of strace, but one without usable times."""


class Style:
    """How a log was made, from its first lines.

    Raises InputError with the first line that is not strace's, UntimedError with the option that is missing.
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
            raise InputError(f"{name} is not a log of strace; this line is not: {decoded(line)!r}")
        if self.stamp == "-t":
            raise UntimedError(f"{name} has times in whole seconds, which is too coarse: record it with strace -f -ttt")
        if not self.stamp:
            raise UntimedError(f"{name} has no times: record it with strace -f -ttt")
        matches = [match for line in lines if (match := test.match(line))]
        self.prefixed = any(match[2] for match in matches)
        self.bracketed = any(match[1] for match in matches)


class Lines:
    """The calls of one stream of text.

    style: how the log was made; tid: the thread that all lines belong to (-ff), else 0; offset_ns: what to take away
    from every time.
    """

    def __init__(self, style: Style, tid: int = 0, offset_ns: int = 0) -> None:
        self._expression = _expression(style.stamp, nameless=not style.prefixed and not tid)
        self._time = {"-ttt": self._absolute, "-tt": self._of_day, "-r": self._relative}[style.stamp]
        self._fixed = tid
        self._offset_ns = offset_ns
        self._carry = b""
        self._now_ns = 0
        self._day_ns = 0
        self._pending: dict[int, Call] = {}
        self._alive: set[int] = set()  # seen, and not ended: whose a line without a pid may be
        self._children: set[int] = set()  # results of clone, until the first process is named
        self._calls: list[Call] = []
        self.root = tid  # the first process, once it is known
        self.lines = 0
        self.foreign = 0

    def feed(self, data: bytes) -> list[Call]:
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

    def close(self) -> list[Call]:
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
            self._calls.append(Call(time_ns, tid, b"signal", signalled, 0, True))
        elif end is not None and end_rest is not None:
            self._end(tid, time_ns, end, end_rest)

    def _damage(self) -> None:
        """Something of this moment can't be read."""
        self._calls.append(Call(self._now_ns, 0, b"damage", b"", 0, True))

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
        born = tid in self._children or (waiting is not None and waiting.name in BIRTHS and not resumed)
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
            self._calls.append(Call(time_ns, tid, name, rest, 0, True))
        elif rest.endswith(b"...>"):
            self._begin(tid, time_ns, name, rest)
        elif name in _ITSELF:
            result = _RESULT.match(rest[rest.rfind(b" = ") + 3 :])
            if tid == 0 and result and 0 < int(result[1]) < 10**7:
                self._name_root(int(result[1]))
        else:
            call = Call(time_ns, tid, name, rest, None, True)
            self._finish(call, rest, time_ns, split=False)

    def _begin(self, tid: int, time_ns: int, name: bytes, rest: bytes) -> None:
        if name in _ITSELF:
            return
        half = rest[: rest.rfind(b"<")].removesuffix(b" ")[:_LONGEST_HALF_BYTES]
        call = Call(time_ns, tid, name, half, None, False)
        self._pending[tid] = call
        if name in FROM_START:
            self._calls.append(call)
        elif name in EXECS:  # its thread id may be another when it returns
            self._calls.append(Call(time_ns, tid, name, half, None, True))

    def _resume(self, tid: int, time_ns: int, name: bytes, rest: bytes) -> None:
        if name in _SPLIT_AT_ONCE or name in _ITSELF:
            return
        call = self._pending.pop(tid, None)
        if call is not None and call.name != name:
            call.complete = True
            call = None
        if call is None:
            if name in EXECS:  # called by a thread that has this id from now on
                call = Call(time_ns, tid, name, b"", None, True)
            else:  # begun before the log was
                self._damage()
                return
        self._finish(call, call.args + rest, time_ns, split=True)

    def _finish(self, call: Call, text: bytes, time_ns: int, *, split: bool) -> None:
        """The result of a call; `time_ns` is that of its last line."""
        equals = text.rfind(b" = ")
        result = _RESULT.match(text, equals + 3) if equals >= 0 else None
        call.args = text[:equals] if equals >= 0 else text
        waited = not call.complete and call.name in FROM_START
        call.complete = True
        if result is not None:
            call.result = int(result[2] or result[1])
        elif equals < 0 or not text.startswith(b" = ?", equals):
            self._damage()
            return
        if call.name in FROM_START:
            if call.name in BIRTHS and self.root == 0 and call.result is not None:
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
            self._calls.append(Call(time_ns, tid, end, b"", number, True))
        else:
            self._alive.discard(tid)
            self._calls.append(Call(time_ns, tid, end, rest, 0, True))
