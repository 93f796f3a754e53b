"""The calls of a log as events: the state of all threads is followed call by call.

A log tells what each thread did, not what state it was in. The state (mask, alternate stack, handlers) is put together
by replay: inherited at a birth, changed by calls, reset by exec. What a log can't tell is not invented: a `lost` event
covers the stretch in which the state of a thread or process is not known (docs/strace.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from sigwindow.collector import procfs
from sigwindow.probes import events
from sigwindow.probes import signals as sig
from sigwindow.probes.errors import InputError

from .arguments import (
    CLONE_CLEAR_SIGHAND,
    CLONE_FLAGS,
    CLONE_SIGHAND,
    CLONE_VFORK,
    CLONE_VM,
    RETURN_MASK,
    SENT_TO,
    STACK_ARGS,
    Action,
    action_args,
    clone_flags,
    comm_of,
    first_string,
    mask_args,
    set_word,
    signal_number,
)
from .calls import BIRTHS, EXECS, FROM_START, Call

_HELD_CALLS = 1 << 16  # how far to look ahead for the second half of a clone
_MOST_THREADS = 1 << 20
_CLOCK_STEP_NS = 1_000_000_000


class _Handlers:
    """The actions of a process's signals; threads share them."""

    def __init__(self, actions: dict[int, Action]) -> None:
        self.actions = actions
        self.handled = self.onstack = 0
        for number, action in list(actions.items()):
            self.set(number, action)

    def set(self, number: int, action: Action) -> None:
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


class Replay:
    """The state of all threads, call by call, and the events that come of it.

    first_mask: the mask of the first process, where it is known.
    """

    def __init__(self, first_mask: int | None = None) -> None:
        self._first_mask = first_mask
        self._threads: dict[int, _Thread] = {}
        self._first: _Process | None = None
        self.watched: dict[int, int | None] = {}  # the exit statuses of the processes that were asked for
        self._rows: list[dict[str, Any]] = []
        self.now_ns = 0
        self._apply: dict[bytes, Callable[[int, Call], None]] = {
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
            **dict.fromkeys(BIRTHS, self._birth),
            **dict.fromkeys(EXECS, self._exec),
            **dict.fromkeys(FROM_START - BIRTHS, self._generate),
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
            self.now_ns = time_ns
            self._row("snapshot", one.tid, thread, handled=True, comm=one.comm)

    def apply(self, call: Call, tid: int) -> None:
        """Take in the next call, by the thread `tid`."""
        if call.time_ns < self.now_ns - _CLOCK_STEP_NS:
            self.steps_back += 1
        self.now_ns = max(self.now_ns, call.time_ns)
        self._apply[call.name](tid, call)

    def take(self) -> pa.RecordBatch:
        """The events since the last time, in order of time."""
        rows, self._rows = self._rows, []
        return events.batch_of_rows(rows)

    def close(self) -> None:
        """What is still not known at the end of the log stays so."""
        processes = {id(thread.process): thread.process for thread in self._threads.values()}
        for thread in self._threads.values():
            self._settle(thread, proven=False)
        for process in processes.values():
            self._lose(process.unknown_since_ns)

    # -- rows

    def _row(self, kind: str, tid: int, thread: _Thread, *, handled: bool = False, **columns: Any) -> None:
        """An event of a thread, with its state; handled: and with that of its process."""
        state = {"pid": thread.process.pid, "tid": tid, "mask": thread.mask, "altstack": thread.altstack}
        if handled:
            handlers = thread.process.handlers
            state |= {"handled": handlers.handled, "onstack": handlers.onstack}
        self._rows.append({"kind": kind, "time_ns": self.now_ns, **state, **columns})

    def _lose(self, since_ns: int | None) -> None:
        """Say that since then there was something that the log does not show."""
        if since_ns is not None:
            self._rows.append(events.lost(1, since_ns, self.now_ns))

    def _damage(self, tid: int, call: Call) -> None:
        self.damaged += 1
        self._lose(self.now_ns)

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
            process = _Process(tid, _Handlers({}), self.now_ns)
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

    def _mask(self, tid: int, call: Call) -> None:
        if call.result != 0:
            return
        parsed = mask_args(call.args)
        if parsed is None:
            self._damage(tid, call)
            return
        how, given, before = parsed
        thread = self._thread(tid)
        if before is not None:
            right = thread.mask == before
            if not right and thread.known == sig.ALL and thread.unsure_since_ns is None:
                self._lose(self.now_ns)  # a change of the mask is not in the log
            self._settle(thread, proven=right)
            if not right:
                thread.mask = before
                self._row("mask", tid, thread)
            thread.known = sig.ALL
        if given is None:
            return
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
        return

    def _altstack(self, tid: int, call: Call) -> None:
        if call.result != 0:
            return
        match = STACK_ARGS.match(call.args)
        if not match:
            self._damage(tid, call)
            return
        thread = self._thread(tid)
        if match[1] is None:
            return
        thread.altstack = b"SS_DISABLE" not in match[1]
        self._row("altstack", tid, thread)
        return

    def _action(self, tid: int, call: Call) -> None:
        if call.result != 0:
            return
        parsed = action_args(call.args)
        if parsed is None:
            self._damage(tid, call)
            return
        number, action = parsed
        if action is None:
            return
        thread = self._thread(tid)
        thread.process.handlers.set(number, action)
        self._row("action", tid, thread, handled=True, signal=number, disposition=action[0], sa_flags=action[1])
        return

    def _deliver(self, tid: int, call: Call) -> None:
        number = signal_number(call.args)
        if number is None:
            self._damage(tid, call)
            return
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
        return

    def _return(self, tid: int, call: Call) -> None:
        thread = self._thread(tid)
        match = RETURN_MASK.match(call.args)
        word = set_word(match[1]) if match else None
        saved = thread.saved.pop() if thread.saved else None
        if word is None and saved is None:
            self._damage(tid, call)
            return
        if word is not None:
            thread.known = sig.ALL
            thread.mask = word & ~sig.UNBLOCKABLE
            self._settle(thread, proven=saved == thread.mask)
        elif saved is not None:
            thread.mask = saved
        self._row("return", tid, thread)
        return

    def _name(self, tid: int, call: Call) -> None:
        thread = self._thread(tid)
        thread.comm = comm_of(first_string(call.args))
        self._row("name", tid, thread, comm=thread.comm)

    def _generate(self, tid: int, call: Call) -> None:
        match = SENT_TO.match(call.args)
        number = signal_number(match[3]) if match else None
        if not match or call.result != 0 or number is None:
            return
        to_process = call.name in (b"kill", b"rt_sigqueueinfo")
        target = int(match[2] or match[1])
        thread = self._threads.get(target)
        if thread is not None:
            flags = events.GENERATE_PROCESS if to_process else 0
            self._row("generate", target, thread, signal=number, peer=tid, flags=flags)

    def _birth(self, tid: int, call: Call) -> None:
        if call.result is None or not 0 < call.result < 10**7:
            return
        if call.name in (b"clone", b"clone3"):
            match = CLONE_FLAGS.search(call.args)
            if not match:
                self._damage(tid, call)
                return
            flags = clone_flags(match[1])
        else:
            flags = CLONE_VM | CLONE_VFORK if call.name == b"vfork" else 0
        creator = self._thread(tid)
        process = creator.process
        if not flags & events.CLONE_THREAD:
            handlers = process.handlers
            if not flags & CLONE_SIGHAND:
                handlers = handlers.copy(keep_handlers=not flags & CLONE_CLEAR_SIGHAND)
            since_ns = None if process.unknown_since_ns is None else self.now_ns
            process = _Process(call.result, handlers, since_ns)
        shares_memory = flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM
        thread = _Thread(process, creator.mask, creator.known, creator.altstack and not shares_memory, creator.comm)
        self._add(call.result, thread)
        if flags & events.CLONE_THREAD and thread.known | sig.UNBLOCKABLE != sig.ALL:
            thread.unsure_since_ns = self.now_ns
        self._row("born", call.result, thread, handled=True, peer=tid, flags=flags & 0xFFFF_FF00, comm=thread.comm)
        return

    def _exec(self, tid: int, call: Call) -> None:
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
        path = first_string(call.args or caller.exec_path)
        mask, known = caller.mask, caller.known
        self._lose(old.unknown_since_ns)
        old.unknown_since_ns = None
        for other in list(old.threads):
            self._remove(other)
        if self._first is old:
            self._first = process
        thread = _Thread(process, mask, known, False, comm_of(path.rsplit(b"/", 1)[-1]))
        self._add(tid, thread)
        self._row("exec", tid, thread, handled=True, peer=peer, comm=thread.comm)

    def _superseded(self, tid: int, call: Call) -> None:
        self._thread(tid).superseded_by = call.result or 0

    def _exit(self, tid: int, call: Call) -> None:
        self._end(tid)

    def _exit_group(self, tid: int, call: Call) -> None:
        self._thread(tid).process.ending = True
        self._end(tid)

    def _exited(self, tid: int, call: Call) -> None:
        if tid in self.watched:
            self.watched[tid] = int(call.args.split()[1])
        if tid in self._threads:  # else it said itself that it ends
            self._end(tid)

    def _killed(self, tid: int, call: Call) -> None:
        if tid in self.watched:
            self.watched[tid] = 128 + (signal_number(call.args.split()[1]) or 0)
        if tid in self._threads:
            self._threads[tid].process.ending = True
            self._end(tid)

    def _end(self, tid: int) -> None:
        thread = self._thread(tid)
        self._row("exit", tid, thread, flags=events.EXIT_GROUP if thread.process.ending else 0)
        self._remove(tid)


class Queue:
    """Between the two stages: calls wait here until what they need to know has been read.

    A clone waits for its result, and the calls of a process without a name for that. Everything behind them waits,
    too, so that the order of time is kept.
    """

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._calls: deque[Call] = deque()

    def put(self, calls: Iterable[Call], root: int, *, last: bool = False) -> None:
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
