"""The state machine: from events in order of time to one record a life. Compiled by Numba; no Python runs an event.

Numba keeps what it compiled beside this file, until this file changes: touch it when a constant from elsewhere does.

A thread's life is a list of stretches. A stretch begins at an event that a readiness policy may call ready: the first
alternate stack, the first mask of its own, the first mark, and the first time of every state (mask and alternate stack)
that the thread sets itself. Within a stretch only how long which signals were handled and exposed counts, not in which
order: so a life takes little room however long it is. When it ends, a walk along the list gives its setup window under
every policy at once.

What other threads do to the handled set is counted apart (`late_ns`) until the thread's next own event: where a
thread's exit was lost, its last own event is the last that is known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from sigwindow.analysis.question import POLICIES
from sigwindow.probes import events
from sigwindow.probes import signals as sig

Array = NDArray[Any]
_F = TypeVar("_F", bound=Callable[..., Any])

_ALTSTACK_POLICY, _MASK_POLICY, _STEADY_POLICY, _SYMBOL_POLICY = map(
    POLICIES.index, ("altstack", "mask", "steady", "symbol")
)

_CODE = events.CODE
_SNAPSHOT, _BORN, _MASK, _ALTSTACK, _ACTION = (_CODE[n] for n in ("snapshot", "born", "mask", "altstack", "action"))
_GENERATE, _DELIVER, _MARK, _NAME = (_CODE[n] for n in ("generate", "deliver", "mark", "name"))
_EXEC, _EXIT, _LOST = (_CODE[n] for n in ("exec", "exit", "lost"))
_UNKNOWN_KIND = 255


def _kinds(*codes: int) -> Array:
    """A table to look kinds up in: true for `codes`."""
    table = np.zeros(256, np.bool_)
    table[list(codes)] = True
    return table


_SAYS_NOTHING = _kinds(_LOST, _UNKNOWN_KIND)
SAYS_COMM = _kinds(_SNAPSHOT, _BORN, _NAME, _EXEC)
_SAYS_HANDLED = _kinds(_SNAPSHOT, _BORN, _ACTION, _EXEC)
_SETS_STATE = _kinds(_MASK, _ALTSTACK)

# Numba promotes int64 with uint64 to float64, as NumPy does: set words meet only set words.
_NO_SIGNAL = np.uint64(0)
_ONE = np.uint64(1)
_EVERYTHING = np.uint64(sig.ALL)
_UNKNOWN = _EVERYTHING  # as a settled mask: a settled mask never blocks everything
_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / phi: Fibonacci hashing (Knuth, TAOCP 3, 6.4)

_LOOK_BACK = 64  # how far a list is searched for something to merge with; beyond, lists only grow
_FIRST_ROOM = 64  # records in a new pool
_PART_LIVES = 1 << 16  # large enough for numpy to ask for huge pages
_STEP_ROWS = 1 << 14  # events between two looks at the room for what any event may add
_LAST_STEPS = 4  # of the thread's last settings up to three may be teardown

PROCESS = np.dtype(
    [
        ("pid", "i4"),
        ("comm", "i4"),  # of its first thread; -1: not seen
        ("handled", "u8"),
        ("first", "i4"),  # its threads' list
        ("threads", "i4"),
        ("installs", "?"),  # a born thread of it has installed an alternate stack
    ],
    align=True,
)
THREAD = np.dtype(
    [
        ("number", "i8"),  # in the order of births; -1: not measured
        ("born_ns", "i8"),
        ("own_ns", "i8"),  # its last own event
        ("since_ns", "i8"),  # since when what holds now has held
        ("teardown_ns", "i8"),
        ("late_teardown_ns", "i8"),
        ("mask", "u8"),
        ("settled", "u8"),  # the last mask that did not block everything, or what it inherited as such
        ("birth_mask", "u8"),
        ("birth_handled", "u8"),
        ("creator_settled", "u8"),
        ("pid", "i4"),
        ("tid", "i4"),
        ("process", "i4"),
        ("previous", "i4"),  # in its process's list
        ("next", "i4"),
        ("creator", "i4"),
        ("comm", "i4"),
        ("stack", "i4"),
        ("head", "i4"),  # its segments
        ("stretch", "i4"),  # the first one of the stretch
        ("tail", "i4"),
        ("current", "i4"),
        ("segments", "i4"),  # how many
        ("signals", "i4"),  # its signals, the last one first
        ("kept", "i4"),  # how many
        ("masks", "i4"),
        ("stacks", "i4"),
        ("altstack", "?"),
        ("birth_altstack", "?"),
        ("birth_blocked", "?"),  # born with everything blocked
        ("tearing", "?"),
        ("late", "?"),  # something is counted apart
    ],
    align=True,
)
SEGMENT = np.dtype(
    [
        ("ns", "i8"),
        ("late_ns", "i8"),
        ("first_ns", "i8"),  # when it first held
        ("begin_ns", "i8"),
        ("seq", "i8"),
        ("handled", "u8"),
        ("exposed", "u8"),  # handled and not blocked
        ("mask", "u8"),
        ("next", "i4"),
        ("altstack", "?"),
        ("step", "?"),  # begun by a setting of the thread's own
    ],
    align=True,
)
SIGNAL = np.dtype(
    [
        ("time_ns", "i8"),
        ("seq", "i8"),
        ("next", "i4"),
        ("signal", "u1"),
        ("delivers", "?"),  # to a handler; else sent, and held back by the mask
        ("critical", "?"),
    ],
    align=True,
)
LIFE = np.dtype(
    [
        ("number", "i8"),
        ("born_ns", "i8"),
        ("end_ns", "i8"),
        ("birth_mask", "u8"),
        ("teardown_ns", "i8"),
        ("first_exposed_ns", "i8"),  # -1: never
        ("pid", "i4"),
        ("tid", "i4"),
        ("process", "i4"),
        ("creator", "i4"),
        ("comm", "i4"),
        ("stack", "i4"),
        ("tally", "i4"),  # the place of its TALLY; -1: no signal of its counts
        ("exited", "?"),
    ],
    align=True,
)
# What a life has under every policy that is kept lies apart, in arrays of (kept policy, which, life):
READY_NS, EXPOSURE_NS = range(2)  # of `spans`; READY_NS: -1 if never
EXPOSED, HANDLED = range(2)  # of `sets`
# and, under all policies, of those few lives that signals were kept of, in (tally, policy, which):
HITS, CRITICAL, DEFERRED = range(3)  # of `tallies`
HIT = np.dtype(
    [
        ("pid", "i4"),
        ("tid", "i4"),
        ("process", "i4"),
        ("born_ns", "i8"),
        ("time_ns", "i8"),
        ("signal", "u1"),
        ("critical", "?"),
        ("within", "u1"),  # bit p: within the window of policy p
    ],
    align=True,
)
# The exposure of ready threads by process and by the set of signals that were exposed at once.
SUM = np.dtype([("process", "i4"), ("exposed", "u8"), ("ns", "i8", len(POLICIES))], align=True)
_ENTRY = np.dtype([("key", "i8"), ("word", "u8"), ("value", "i4")], align=True)  # value -1: a free one


class State(NamedTuple):
    """What the machine knows: pools of records, of which so many as `used` says are taken, and maps to their places."""

    used: Array  # of every pool below, by the numbers of _THREADS and so on; and the lists of free records
    threads: Array
    ready: Array  # (thread, policy): the segment at whose begin it is ready; -1: not yet
    step_masks: Array  # (thread, number % 4): the last masks and stacks that it set itself
    step_kinds: Array  # _IS_MASK, _HAS_STACK and _BLOCKS
    segments: Array
    signals: Array
    processes: Array
    sums: Array
    policies: Array  # that are kept: places in POLICIES
    lives: Array  # that ended, not yet taken
    spans: Array
    sets: Array
    tallies: Array
    hits: Array  # of those
    by_tid: Array
    by_pid: Array
    by_set: Array
    counts: Array  # (signal, 0: sent, 1: of these held back by a mask, 2: taken by a handler)
    scratch: Array  # (signal, policy, 0: held back, 1: handled before ready, 2: after)


_THREADS, _SEGMENTS, _SIGNALS, _PROCESSES, _SUMS, _LIVES, _HITS, _TIDS, _BIRTHS = range(9)
_TALLIES = 9
_PER_PART = [_LIVES, _TALLIES, _HITS]
_FREE_THREAD, _FREE_SEGMENT, _FREE_SIGNAL = range(10, 13)
_USED_FIELDS = 13
_IS_MASK, _HAS_STACK, _BLOCKS = 1, 2, 4


class Columns(NamedTuple):
    """The events' columns, in order of time. comm and stack are numbers of strings."""

    time_ns: Array
    kind: Array
    pid: Array
    tid: Array
    mask: Array
    altstack: Array
    handled: Array
    signal: Array
    disposition: Array
    sa_flags: Array
    peer: Array
    flags: Array
    comm: Array
    stack: Array


_COLUMN_TYPES = ("i8", "u1", "i4", "i4", "u8", "?", "u8", "u1", "u1", "u4", "i4", "u4", "i4", "i4")


def _jit(function: _F) -> _F:
    # Without NRT Numba counts no references to arrays, which took two thirds of the time; nothing here allocates any.
    # In line, no call passes State on, which is some 130 words: a quarter of the rest.
    options: Any = {"error_model": "numpy", "nogil": True, "_nrt": False, "forceinline": True}
    try:
        compiled: _F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor at home is a folder to keep it in
        compiled = numba.njit(**options)(function)
    return compiled


# Maps: open addressing with linear probing.


@_jit
def _home(table: Array, key: int, word: Any) -> Any:
    """Where a key would best be. Ids in a row lie in a row: the kernel hands them out so."""
    mixed = (np.uint64(key >> 22) ^ word) * _GOLDEN
    return np.int64((np.uint64(key) + (mixed ^ mixed >> np.uint64(32))) & np.uint64(len(table) - 1))


@_jit
def _entry(table: Array, key: int, word: Any) -> int:
    """Where `key` with `word` is in a map, or the free entry where it belongs."""
    last = len(table) - 1
    at = _home(table, key, word)
    while table[at]["value"] >= 0 and (table[at]["key"] != key or table[at]["word"] != word):
        at = (at + 1) & last
    return at


@_jit
def _put(table: Array, at: int, key: int, word: Any, value: int) -> None:
    table[at]["key"] = key
    table[at]["word"] = word
    table[at]["value"] = value


@_jit
def _remove(table: Array, hole: int) -> None:
    """Free an entry, and move up those behind it that it kept from their places (Knuth, TAOCP 3, 6.4, algorithm R)."""
    last = len(table) - 1
    at = (hole + 1) & last
    while table[at]["value"] >= 0:
        home = _home(table, table[at]["key"], table[at]["word"])
        if (at - home) & last >= (at - hole) & last:
            _put(table, hole, table[at]["key"], table[at]["word"], table[at]["value"])
            hole = at
        at = (at + 1) & last
    table[hole]["value"] = -1


@_jit
def _rehash(old: Array, new: Array) -> None:
    for entry in old:
        if entry["value"] >= 0:
            _put(new, _entry(new, entry["key"], entry["word"]), entry["key"], entry["word"], entry["value"])


# Lists of free records go through their `next`.


@_jit
def _new(used: Array, pool: Array, count: int, free: int) -> int:
    """The place of a record to use, from the list of free ones or at the end of the pool."""
    place = used[free]
    if place >= 0:
        used[free] = pool[place]["next"]
    else:
        place = used[count]
        used[count] += 1
    return place


@_jit
def _blocks_everything(mask: Any, kept_back: Any) -> bool:
    """sig.blocks_everything, compiled."""
    return (mask | kept_back) == _EVERYTHING


@_jit
def _bit(signal: int) -> Any:
    """The set word of a signal; none for what is not a signal."""
    return _ONE << np.uint64(signal - 1) if 1 <= signal <= 64 else _NO_SIGNAL


@_jit
def _process(used: Array, processes: Array, by_pid: Array, pid: int) -> int:
    """The place of a process, known or new. Processes are few, and kept."""
    at = _entry(by_pid, pid, _NO_SIGNAL)
    place = by_pid[at]["value"]
    if place < 0:
        place = used[_PROCESSES]
        used[_PROCESSES] += 1
        _put(by_pid, at, pid, _NO_SIGNAL, place)
        process = processes[place]
        process["pid"] = pid
        process["comm"] = process["first"] = -1
        process["handled"] = _NO_SIGNAL
        process["threads"] = 0
        process["installs"] = False
    return place


@_jit
def _thread(by_tid: Array, tid: int) -> int:
    """The place of the thread that has `tid` now, or -1."""
    return by_tid[_entry(by_tid, tid, _NO_SIGNAL)]["value"]


@_jit
def _appear(used: Array, threads: Array, by_tid: Array, tid: int, pid: int, process: Any, owner: int) -> int:
    """A new thread record, in the list of its process."""
    place = _new(used, threads, _THREADS, _FREE_THREAD)
    thread = threads[place]
    thread["tid"], thread["pid"], thread["process"] = tid, pid, owner
    thread["number"] = -1
    thread["settled"] = _UNKNOWN
    thread["head"] = thread["signals"] = thread["previous"] = -1
    thread["segments"] = thread["kept"] = 0
    thread["next"] = process["first"]
    if process["first"] >= 0:
        threads[process["first"]]["previous"] = place
    process["first"] = place
    process["threads"] += 1
    used[_TIDS] += 1
    _put(by_tid, _entry(by_tid, tid, _NO_SIGNAL), tid, _NO_SIGNAL, place)
    return place


@_jit
def _forget_life(used: Array, segments: Array, signals: Array, thread: Any) -> None:
    """Free what a life took, and go on with the thread as one that is not measured."""
    if thread["head"] >= 0:
        segments[thread["tail"]]["next"] = used[_FREE_SEGMENT]
        used[_FREE_SEGMENT] = thread["head"]
    signal = thread["signals"]
    while signal >= 0:
        following = signals[signal]["next"]
        signals[signal]["next"] = used[_FREE_SIGNAL]
        used[_FREE_SIGNAL] = signal
        signal = following
    thread["number"] = thread["head"] = thread["signals"] = -1
    thread["segments"] = thread["kept"] = 0


@_jit
def _disappear(used: Array, threads: Array, by_tid: Array, process: Any, place: int) -> None:
    """Free a thread record."""
    thread = threads[place]
    if thread["previous"] >= 0:
        threads[thread["previous"]]["next"] = thread["next"]
    else:
        process["first"] = thread["next"]
    if thread["next"] >= 0:
        threads[thread["next"]]["previous"] = thread["previous"]
    process["threads"] -= 1
    _remove(by_tid, _entry(by_tid, thread["tid"], _NO_SIGNAL))
    used[_TIDS] -= 1
    thread["next"] = used[_FREE_THREAD]
    used[_FREE_THREAD] = place


# A life.


@_jit
def _hold(segments: Array, thread: Any, until_ns: int, late: bool, considered: Any) -> None:
    """Count the time for which the current segment has held."""
    ns = until_ns - thread["since_ns"]
    thread["since_ns"] = until_ns
    if ns <= 0:
        return
    segment = segments[thread["current"]]
    if segment["ns"] == 0 and segment["late_ns"] == 0:
        segment["first_ns"] = until_ns - ns
    tears = thread["tearing"] and segment["exposed"] & considered != _NO_SIGNAL
    if late:
        segment["late_ns"] += ns
        thread["late"] = True
        if tears:
            thread["late_teardown_ns"] += ns
    else:
        segment["ns"] += ns
        if tears:
            thread["teardown_ns"] += ns


@_jit
def _settle_late(segments: Array, thread: Any, counts: bool) -> None:
    """Count what was counted apart, or drop it."""
    if thread["late"]:
        place = thread["stretch"]
        while place >= 0:
            segment = segments[place]
            if counts:
                segment["ns"] += segment["late_ns"]
            segment["late_ns"] = 0
            place = segment["next"]
        if counts:
            thread["teardown_ns"] += thread["late_teardown_ns"]
        thread["late_teardown_ns"] = 0
        thread["late"] = False


@_jit
def _enter(
    used: Array, segments: Array, thread: Any, handled: Any, time_ns: int, seq: int, begins: bool, step: bool
) -> None:
    """Make the segment for the thread's state the current one; `begins`: a new stretch begins here."""
    exposed = handled & ~thread["mask"]
    if not begins:
        segment = segments[thread["current"]]
        if segment["handled"] == handled and segment["exposed"] == exposed:
            return
        place = thread["stretch"]
        for _ in range(_LOOK_BACK):
            if place < 0:
                break
            segment = segments[place]
            if segment["handled"] == handled and segment["exposed"] == exposed:
                thread["current"] = place
                return
            place = segment["next"]
    place = _new(used, segments, _SEGMENTS, _FREE_SEGMENT)
    segment = segments[place]
    segment["ns"] = segment["late_ns"] = segment["first_ns"] = 0
    segment["begin_ns"], segment["seq"], segment["step"] = time_ns, seq, step
    segment["handled"], segment["exposed"] = handled, exposed
    segment["mask"], segment["altstack"] = thread["mask"], thread["altstack"]
    segment["next"] = -1
    if thread["head"] < 0:
        thread["head"] = place
    else:
        segments[thread["tail"]]["next"] = place
    thread["tail"] = thread["current"] = place
    thread["segments"] += 1
    if begins:
        thread["stretch"] = place


@_jit
def _was_here(segments: Array, thread: Any) -> bool:
    """Whether the thread has set its present mask and stack before, or was born with them."""
    place = thread["head"]
    # Birth with everything blocked counts apart, since `steady` may pass over it.
    known = not thread["birth_blocked"]
    for _ in range(_LOOK_BACK):
        if place < 0:
            break
        segment = segments[place]
        known = known or segment["step"]
        if known and segment["mask"] == thread["mask"] and segment["altstack"] == thread["altstack"]:
            return True
        known = False
        place = segment["next"]
    return False


@_jit
def _begin_life(thread: Any, number: int, time_ns: int, mask: Any, altstack: bool, handled: Any) -> None:
    thread["number"] = number
    thread["born_ns"] = thread["own_ns"] = thread["since_ns"] = time_ns
    thread["mask"] = thread["birth_mask"] = mask
    thread["altstack"] = thread["birth_altstack"] = altstack
    thread["birth_handled"] = handled
    thread["teardown_ns"] = thread["late_teardown_ns"] = 0
    thread["masks"] = thread["stacks"] = 0
    thread["tearing"] = thread["late"] = False


@_jit
def _makes_ready(thread: Any, ready: Array, place: int, kind: int, mask: Any, altstack: bool) -> int:
    """The policy by which an own event makes a thread ready, or -1; `steady` is known at the end only."""
    if kind == _ALTSTACK and altstack and ready[place, _ALTSTACK_POLICY] < 0:
        return _ALTSTACK_POLICY
    if kind == _MASK and ready[place, _MASK_POLICY] < 0:
        # The C library's own restore does not count: the first set of a thread that was born with everything
        # blocked, giving it the mask that its creator had.
        creators = thread["creator_settled"] == _UNKNOWN or thread["creator_settled"] == mask
        if not (thread["masks"] == 0 and creators and thread["birth_blocked"]):
            return _MASK_POLICY
    if kind == _MARK and ready[place, _SYMBOL_POLICY] < 0:
        return _SYMBOL_POLICY
    return -1


@_jit
def _live_on(
    used: Array,
    segments: Array,
    ready: Array,
    place: int,
    thread: Any,
    handled: Any,
    time_ns: int,
    seq: int,
    kind: int,
    mask: Any,
    altstack: bool,
    considered: Any,
) -> int:
    """Take in an own event of a measured thread. Returns the policy by which it is ready from here on, or -1."""
    _settle_late(segments, thread, True)
    _hold(segments, thread, time_ns, False, considered)
    if kind == _ALTSTACK and thread["altstack"] and not altstack:
        thread["tearing"] = True
        thread["teardown_ns"] = 0
    thread["mask"], thread["altstack"], thread["own_ns"] = mask, altstack, time_ns
    policy = _makes_ready(thread, ready, place, kind, mask, altstack)
    step = _SETS_STATE[kind]
    begins = policy >= 0 or (step and not _was_here(segments, thread))
    _enter(used, segments, thread, handled, time_ns, seq, begins, step)
    if policy >= 0:
        ready[place, policy] = thread["current"]
    return policy


@_jit
def _keep_step(thread: Any, masks: Array, kinds: Array, place: int, is_mask: bool, blocks: bool) -> None:
    """Remember what the thread has set."""
    at = (thread["masks"] + thread["stacks"]) % _LAST_STEPS
    masks[place, at] = thread["mask"]
    kind = _IS_MASK if is_mask else 0
    kinds[place, at] = kind | (_HAS_STACK if thread["altstack"] else 0) | (_BLOCKS if blocks else 0)
    if is_mask:
        thread["masks"] += 1
    else:
        thread["stacks"] += 1


@_jit
def _find_steady(segments: Array, thread: Any, masks: Array, kinds: Array, place: int, alone: bool) -> int:
    """The first segment with the mask and the stack that the thread then lives with, or -1.

    alone: it ended by itself; what it did last (block all signals, remove the stack) is then teardown.
    """
    birth_counts = not thread["birth_blocked"] or (thread["masks"] == 0 and thread["stacks"] > 0)
    left = thread["masks"] + thread["stacks"]
    if alone:
        for step in range(3):  # a final block, a stack removed, a block before that
            at = (left - 1) % _LAST_STEPS
            if left <= 0:
                break
            if step == 1:
                if kinds[place, at] & (_IS_MASK | _HAS_STACK):
                    break
                left -= 1
            elif kinds[place, at] & _IS_MASK and kinds[place, at] & _BLOCKS:
                left -= 1
    if left > 0:
        at = (left - 1) % _LAST_STEPS
        mask, altstack = masks[place, at], kinds[place, at] & _HAS_STACK != 0
    elif birth_counts:
        mask, altstack = thread["birth_mask"], thread["birth_altstack"]
    else:
        return -1
    at = thread["head"]
    while at >= 0:
        segment = segments[at]
        counts = birth_counts if at == thread["head"] else segment["step"]
        if counts and segment["mask"] == mask and segment["altstack"] == altstack:
            return at
        at = segment["next"]
    return -1


@_jit
def _sum_of(used: Array, sums: Array, by_set: Array, process: int, exposed: Any) -> int:
    """The place of the sum for a process and a set, known or new."""
    at = _entry(by_set, process, exposed)
    place = by_set[at]["value"]
    if place < 0:
        place = used[_SUMS]
        used[_SUMS] += 1
        _put(by_set, at, process, exposed, place)
        sums[place]["process"], sums[place]["exposed"] = process, exposed
        for policy in range(4):
            sums[place]["ns"][policy] = 0
    return place


@_jit
def _measure(state: State, place: int, end_ns: int, exited: bool, alone: bool, considered: Any) -> None:
    """Write the record of a life that ends, with its window under every policy."""
    used, segments, sums, by_set = state.used, state.segments, state.sums, state.by_set
    spans, sets, policies = state.spans, state.sets, state.policies
    thread, ready = state.threads[place], state.ready
    ready[place, _STEADY_POLICY] = _find_steady(segments, thread, state.step_masks, state.step_kinds, place, alone)
    at = used[_LIVES]
    used[_LIVES] += 1
    life = state.lives[at]
    life["number"], life["born_ns"], life["end_ns"] = thread["number"], thread["born_ns"], end_ns
    life["birth_mask"], life["teardown_ns"], life["exited"] = thread["birth_mask"], thread["teardown_ns"], exited
    life["pid"], life["tid"], life["process"] = thread["pid"], thread["tid"], thread["process"]
    life["creator"], life["comm"], life["stack"] = thread["creator"], thread["comm"], thread["stack"]
    life["tally"] = -1

    exposure_ns = np.int64(0)
    first_ns = np.int64(-1)
    exposed = handled = _NO_SIGNAL
    within = 0  # bit p: the window of policy p is not over, and will be
    for policy in policies:
        if ready[place, policy] >= 0:
            within |= 1 << policy
    here = thread["head"]
    while True:
        for kept in range(len(policies)):
            if ready[place, policies[kept]] == here:  # -1: never ready, and the list has ended
                within &= ~(1 << policies[kept])
                spans[kept, READY_NS, at] = segments[here]["begin_ns"] if here >= 0 else -1
                spans[kept, EXPOSURE_NS, at] = exposure_ns
                sets[kept, EXPOSED, at] = exposed
                # A window of no length has the handled set of its only moment.
                stop_ns = segments[here]["begin_ns"] if here >= 0 else end_ns
                sets[kept, HANDLED, at] = thread["birth_handled"] if stop_ns == thread["born_ns"] else handled
        if here < 0:
            break
        segment = segments[here]
        if segment["ns"] > 0:
            handled |= segment["handled"]
            exposed |= segment["exposed"]
            if segment["exposed"] & considered != _NO_SIGNAL:
                exposure_ns += segment["ns"]
                first_ns = segment["first_ns"] if first_ns < 0 else min(first_ns, segment["first_ns"])
            if within != 0 and segment["exposed"] != _NO_SIGNAL:
                total = _sum_of(used, sums, by_set, thread["process"], segment["exposed"])
                for policy in policies:
                    if within >> policy & 1:
                        sums[total]["ns"][policy] += segment["ns"]
        here = segment["next"]
    life["first_exposed_ns"] = first_ns
    if thread["signals"] >= 0:
        _measure_signals(state, place)
        life["tally"] = used[_TALLIES] - 1


@_jit
def _measure_signals(state: State, place: int) -> None:
    """Count hits and deferred signals in a new tally, and write the hits."""
    used, segments, signals, ready, tally = state.used, state.segments, state.signals, state.ready, state.scratch
    thread = state.threads[place]
    counted = state.tallies[used[_TALLIES]]
    used[_TALLIES] += 1
    counted[:] = 0
    here = thread["signals"]
    while here >= 0:
        signal = signals[here]
        within = 0
        for policy in range(4):
            until = ready[place, policy]
            if until < 0 or signal["seq"] < segments[until]["seq"]:
                within |= 1 << policy
                tally[signal["signal"], policy, 1 if signal["delivers"] else 0] += 1
                if signal["delivers"]:
                    counted[policy, HITS] += 1
                    counted[policy, CRITICAL] += signal["critical"]
            elif signal["delivers"]:
                tally[signal["signal"], policy, 2] += 1
        if within and signal["delivers"]:
            hit = state.hits[used[_HITS]]
            used[_HITS] += 1
            hit["pid"], hit["tid"], hit["process"] = thread["pid"], thread["tid"], thread["process"]
            hit["born_ns"], hit["time_ns"] = thread["born_ns"], signal["time_ns"]
            hit["signal"], hit["critical"], hit["within"] = signal["signal"], signal["critical"], within
        here = signal["next"]
    here = thread["signals"]
    while here >= 0:
        number = signals[here]["signal"]
        for policy in range(4):
            held_back, before, after = tally[number, policy, 0], tally[number, policy, 1], tally[number, policy, 2]
            counted[policy, DEFERRED] += min(max(held_back - before, 0), after)
            for of in range(3):
                tally[number, policy, of] = 0
        here = signals[here]["next"]


@_jit
def _end_life(state: State, place: int, end_ns: int, exited: bool, alone: bool, considered: Any) -> None:
    """A measured thread ended at `end_ns`."""
    thread = state.threads[place]
    _settle_late(state.segments, thread, True)
    _hold(state.segments, thread, end_ns, False, considered)
    _measure(state, place, end_ns, exited, alone, considered)


@_jit
def _lose_life(state: State, place: int, considered: Any) -> None:
    """A measured thread is gone and its exit was lost: it ended with its last own event."""
    thread = state.threads[place]
    _settle_late(state.segments, thread, False)
    _measure(state, place, thread["own_ns"], False, False, considered)


@_jit
def _keep_signal(
    used: Array, signals: Array, thread: Any, time_ns: int, seq: int, number: int, delivers: bool, critical: bool
) -> None:
    place = _new(used, signals, _SIGNALS, _FREE_SIGNAL)
    signal = signals[place]
    signal["time_ns"], signal["seq"], signal["signal"] = time_ns, seq, number
    signal["delivers"], signal["critical"] = delivers, critical
    signal["next"] = thread["signals"]
    thread["signals"] = place
    thread["kept"] += 1


@_jit
def _exec(state: State, owner: int, tid: int, time_ns: int, considered: Any) -> None:
    """An exec ends every thread of the process but the one that has its id now."""
    used, threads, process = state.used, state.threads, state.processes[owner]
    place = process["first"]
    while place >= 0:
        thread = threads[place]
        following = thread["next"]
        if thread["number"] >= 0:
            _end_life(state, place, time_ns, True, False, considered)
            _forget_life(used, state.segments, state.signals, thread)
        if thread["tid"] != tid:
            _disappear(used, threads, state.by_tid, process, place)
        place = following


@_jit
def _handle(state: State, process: int, handled: Any, own: int, time_ns: int, considered: Any) -> None:
    """The handled set of a process is now `handled`, which shows in all its threads; `own` takes care of itself."""
    state.processes[process]["handled"] = handled
    place = state.processes[process]["first"]
    while place >= 0:
        thread = state.threads[place]
        if thread["number"] >= 0 and place != own:
            _hold(state.segments, thread, time_ns, True, considered)
            thread["late"] = True
            _enter(state.used, state.segments, thread, handled, time_ns, 0, False, False)
        place = thread["next"]


@_jit
def _can_end(state: State, ends: int, segments: int, signals: int) -> bool:
    """Whether there is room to measure so many lives, with so many segments and signals together."""
    used = state.used
    return (
        used[_LIVES] + ends <= len(state.lives)
        and used[_TALLIES] + ends <= len(state.tallies)
        and used[_SUMS] + segments <= len(state.sums)
        and used[_HITS] + signals <= len(state.hits)
    )


@_jit
def _can_go_on(state: State, rows: int) -> bool:
    """Whether there is room for what so many events may each add by themselves (`Lives._make_room`)."""
    used = state.used
    return (
        used[_THREADS] + rows <= len(state.threads)
        and used[_SEGMENTS] + rows <= len(state.segments)
        and used[_SIGNALS] + rows <= len(state.signals)
        and used[_PROCESSES] + rows <= len(state.processes)
        and 2 * (used[_TIDS] + rows) <= len(state.by_tid)
        and 2 * (used[_PROCESSES] + rows) <= len(state.by_pid)
    )


@_jit
def _advance(
    state: State, columns: Columns, start: int, seq_base: int, considered: Any, kept_back: Any, step_rows: int
) -> int:
    """Take in the events from number `start` on. Returns how far it got: to the end, or to where a pool is full."""
    used, threads, ready, segments, signals = state.used, state.threads, state.ready, state.segments, state.signals
    processes, by_tid, by_pid, counts = state.processes, state.by_tid, state.by_pid, state.counts
    times, kinds, pids, tids, masks, stacks, handled_sets, numbers = columns[:8]
    dispositions, sa_flags, peers, all_flags, comms, creators_stacks = columns[8:]
    step_end = start
    for i in range(start, len(times)):
        if i == step_end:
            if not _can_go_on(state, step_rows):
                return i
            step_end += step_rows
        kind, pid, tid = kinds[i], pids[i], tids[i]
        if _SAYS_NOTHING[kind] or (kind == _MARK and pid == 0):
            continue
        owner, place = _process(used, processes, by_pid, pid), _thread(by_tid, tid)
        process = processes[owner]
        # What it may take: a change of the handled set shows in all threads of the process, an exec ends them all.
        if used[_SEGMENTS] + process["threads"] + 2 > len(segments):
            return i
        ending: Any = np.int64(1)
        its_segments: Any = np.int64(1)
        its_signals: Any = np.int64(1)
        if kind == _EXEC:
            ending, its_segments, its_signals = process["threads"] + 1, used[_SEGMENTS], used[_SIGNALS]
        elif place >= 0:
            its_segments += threads[place]["segments"]
            its_signals += threads[place]["kept"]
        if not _can_end(state, ending, its_segments, its_signals):
            return i

        time_ns, mask, altstack, signal, flags = times[i], masks[i], stacks[i], numbers[i], all_flags[i]
        seq = seq_base + i
        if kind == _GENERATE:
            counts[signal, 0] += 1
            directed = flags & np.uint32(events.GENERATE_PROCESS | events.GENERATE_RESULT) == 0
            held_back = directed and _bit(signal) & mask != _NO_SIGNAL
            counts[signal, 1] += held_back
            known = place >= 0 and threads[place]["number"] >= 0 and threads[place]["pid"] == pid
            if held_back and known and _bit(signal) & considered != _NO_SIGNAL:
                _keep_signal(used, signals, threads[place], time_ns, seq, signal, False, False)
            continue

        if kind == _EXEC:
            _exec(state, owner, tid, time_ns, considered)
        if place >= 0 and (kind == _BORN or threads[place]["pid"] != pid):
            if threads[place]["number"] >= 0:
                _lose_life(state, place, considered)
                _forget_life(used, segments, signals, threads[place])
            _disappear(used, threads, by_tid, processes[threads[place]["process"]], place)
            place = -1
        if place < 0:
            place = _appear(used, threads, by_tid, tid, pid, process, owner)
        thread = threads[place]
        if kind == _BORN:
            creator = _thread(by_tid, peers[i])
            forked = flags & np.uint32(events.CLONE_THREAD) == 0
            if creator >= 0 and (forked or threads[creator]["pid"] == pid):
                thread["settled"] = threads[creator]["settled"]
            thread["creator_settled"] = thread["settled"]
        blocks = _blocks_everything(mask, kept_back)
        if not blocks:
            thread["settled"] = mask
        if tid == pid and SAYS_COMM[kind]:
            process["comm"] = comms[i]

        handles = kind == _DELIVER and dispositions[i] == events.DISPOSITION_HANDLER
        if _SAYS_HANDLED[kind]:
            if process["handled"] != handled_sets[i]:
                _handle(state, owner, handled_sets[i], place, time_ns, considered)
        elif handles and sa_flags[i] & np.uint32(sig.SA_RESETHAND) != 0:
            # A delivery takes its signal out of the set (sigaction(2)); no event says so.
            _handle(state, owner, process["handled"] & ~_bit(signal), place, time_ns, considered)

        if kind == _BORN:
            worker = flags & np.uint32(events.BORN_KERNEL_WORKER) != 0
            if flags & np.uint32(events.CLONE_THREAD) != 0 and not worker:
                _begin_life(thread, used[_BIRTHS], time_ns, mask, altstack, process["handled"])
                used[_BIRTHS] += 1
                thread["creator"], thread["comm"], thread["stack"] = peers[i], comms[i], creators_stacks[i]
                thread["birth_blocked"] = blocks
                ready[place, :] = -1
                _enter(used, segments, thread, process["handled"], time_ns, seq, True, False)
        elif thread["number"] >= 0:
            handled = process["handled"]
            policy = _live_on(
                used, segments, ready, place, thread, handled, time_ns, seq, kind, mask, altstack, considered
            )
            if policy == _ALTSTACK_POLICY:
                process["installs"] = True
            if _SETS_STATE[kind]:
                _keep_step(thread, state.step_masks, state.step_kinds, place, kind == _MASK, blocks)
            if kind == _NAME:
                thread["comm"] = comms[i]
            if handles and _bit(signal) & considered != _NO_SIGNAL:
                critical = sa_flags[i] & np.uint32(sig.SA_ONSTACK) != 0 and not altstack
                _keep_signal(used, signals, thread, time_ns, seq, signal, True, critical)
        if handles:
            counts[signal, 2] += 1
        if kind == _EXIT:
            if thread["number"] >= 0:
                alone = flags & np.uint32(events.EXIT_GROUP) == 0
                _end_life(state, place, time_ns, True, alone, considered)
                _forget_life(used, segments, signals, thread)
            _disappear(used, threads, by_tid, process, place)
    return len(times)


@_jit
def _end_all(state: State, start: int, end_ns: int, considered: Any) -> int:
    """End every measured thread from place `start` on, as the trace's end does. Returns how far it got."""
    for place in range(start, state.used[_THREADS]):
        thread = state.threads[place]
        if thread["number"] >= 0:
            if not _can_end(state, 1, thread["segments"], thread["kept"]):
                return place
            _end_life(state, place, end_ns, False, False, considered)
    return int(state.used[_THREADS])


def _map(size: int) -> Array:
    table = np.zeros(size, _ENTRY)
    table["value"] = -1
    return table


def _grown(pool: Array, needed: int) -> Array:
    """The pool, or a copy with twice the room or more."""
    if needed <= len(pool):
        return pool
    larger = np.zeros((max(needed, 2 * len(pool)), *pool.shape[1:]), pool.dtype)
    larger[: len(pool)] = pool
    return larger


def _roomy(table: Array, keys: int) -> Array:
    """The map, or a larger one, at most half full with `keys`."""
    if 2 * keys <= len(table):
        return table
    larger = _map(1 << (4 * keys).bit_length())
    _rehash(table, larger)
    return larger


class Part(NamedTuple):
    """The records of some lives that ended; `lives` point into `tallies`."""

    lives: Array  # LIFE
    spans: Array  # (kept policy, READY_NS or EXPOSURE_NS, life)
    sets: Array  # (kept policy, EXPOSED or HANDLED, life)
    tallies: Array  # (tally, policy, HITS, CRITICAL or DEFERRED)
    policies: Array  # the kept ones

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return sum(array.nbytes for array in self)

    def copied(self) -> Part:
        """A copy."""
        return Part(*(array.copy() for array in self))

    def take(self, index: Array) -> Part:
        """Some of the lives, with their tallies only."""
        lives = self.lives[index]
        having = np.flatnonzero(lives["tally"] >= 0)
        tallies = self.tallies[lives["tally"][having]]
        lives["tally"][having] = np.arange(len(having))
        return Part(lives, self.spans[:, :, index], self.sets[:, :, index], tallies, self.policies)


def joined(parts: Sequence[Part]) -> Part:
    """Parts of the same policies, at least one, as one."""
    lives = np.concatenate([part.lives for part in parts])
    before = np.cumsum([0, *(len(part.tallies) for part in parts[:-1])])  # tallies of earlier parts
    moved = lives["tally"] + np.repeat(before, [len(part.lives) for part in parts])
    lives["tally"] = np.where(lives["tally"] >= 0, moved, -1)
    spans, sets = (np.concatenate(arrays, axis=2) for arrays in zip(*((p.spans, p.sets) for p in parts), strict=True))
    return Part(lives, spans, sets, np.concatenate([part.tallies for part in parts]), parts[0].policies)


def _room_for_lives(lives: int, policies: int) -> dict[str, Array]:
    return {
        "lives": np.empty(lives, LIFE),
        "spans": np.empty((policies, 2, lives), np.int64),
        "sets": np.empty((policies, 2, lives), np.uint64),
    }


def _read_only(column: Array) -> Array:
    """The column as Arrow's own are: the machine is compiled once, for such."""
    column.setflags(write=False)
    return column


class Lives:
    """Turns events into the records of lives.

    considered: the set word of the signals whose exposure counts. kept_back: of those that a mask which blocks
    everything may leave out. policies: those under which windows are kept, as places in POLICIES.
    """

    def __init__(self, considered: int, kept_back: int, policies: Sequence[int]) -> None:
        self._considered, self._kept_back = np.uint64(considered), np.uint64(kept_back)
        used = np.zeros(_USED_FIELDS, np.int64)
        used[_FREE_THREAD:] = -1
        room = _FIRST_ROOM
        self._state = State(
            used=used,
            threads=np.zeros(room, THREAD),
            ready=np.zeros((room, len(POLICIES)), np.int32),
            step_masks=np.zeros((room, _LAST_STEPS), np.uint64),
            step_kinds=np.zeros((room, _LAST_STEPS), np.uint8),
            segments=np.zeros(room, SEGMENT),
            signals=np.zeros(room, SIGNAL),
            processes=np.zeros(room, PROCESS),
            sums=np.zeros(room, SUM),
            policies=np.array(policies),
            **_room_for_lives(_PART_LIVES, len(policies)),
            tallies=np.zeros((room, len(POLICIES), 3), np.int32),
            hits=np.zeros(room, HIT),
            by_tid=_map(2 * room),
            by_pid=_map(2 * room),
            by_set=_map(2 * room),
            counts=np.zeros((256, 3), np.int64),
            scratch=np.zeros((256, len(POLICIES), 3), np.int64),
        )
        # The first call compiles, or loads what was compiled: not while events wait.
        none = Columns(*(_read_only(np.empty(0, dtype)) for dtype in _COLUMN_TYPES))
        _advance(self._state, none, 0, 0, self._considered, self._kept_back, _STEP_ROWS)
        self._seq = 0
        self._parts: list[Part] = []
        self._hits: list[Array] = []

    def feed(self, columns: Columns) -> None:
        """Take in events in the order of time. The arrays are made read-only."""
        columns = Columns(*(_read_only(column) for column in columns))
        rows, done, how = len(columns.time_ns), 0, (self._considered, self._kept_back, _STEP_ROWS)
        while (done := _advance(self._state, columns, done, self._seq, *how)) < rows:
            if not self._make_room():
                self._make_way()
        self._seq += rows

    def taken(self) -> tuple[list[Part], Array]:
        """The full parts of lives that ended since the last call, and their hits (HIT)."""
        parts, hits = self._parts, np.concatenate([*self._hits, np.empty(0, HIT)])
        self._parts, self._hits = [], []
        return parts, hits

    def at(self, end_ns: int) -> Lives:
        """A copy in which all that live have ended with the trace, at `end_ns`; this one stays as it is.

        Every life that was not taken yet is in its parts, of which there is at least one.
        """
        ended, state = copy(self), self._state
        finished, hits = self._finished()
        ended._parts, ended._hits = [*self._parts, finished.copied()], [*self._hits, hits.copy()]
        threads, segments = int(state.used[_THREADS]), int(state.used[_SEGMENTS])
        ended._state = state._replace(
            used=state.used.copy(),
            threads=state.threads[:threads].copy(),
            ready=state.ready[:threads].copy(),
            segments=state.segments[:segments].copy(),
            sums=state.sums.copy(),
            by_set=state.by_set.copy(),
            **_room_for_lives(threads, len(state.policies)),
            tallies=np.zeros_like(state.tallies),
            hits=np.zeros_like(state.hits),
        )
        ended._state.used[_PER_PART] = 0
        done = 0
        while (done := _end_all(ended._state, done, end_ns, self._considered)) < threads:
            ended._make_way()
        ended._put_aside()
        return ended

    @property
    def processes(self) -> Array:
        """Every process (PROCESS); lives, hits and sums name them by their places here."""
        return self._state.processes[: self._state.used[_PROCESSES]]

    @property
    def sums(self) -> Array:
        """The exposure of ready threads that ended (SUM)."""
        return self._state.sums[: self._state.used[_SUMS]]

    @property
    def counts(self) -> Array:
        """How many signals were sent, held back by a mask, and taken by handlers: (256, 3) by signal number."""
        return self._state.counts

    def _finished(self) -> tuple[Part, Array]:
        """The lives that ended and are in no part yet, and their hits: views of the pools."""
        state = self._state
        lives, tallies, hits = state.used[_PER_PART].tolist()
        of_lives = state.lives[:lives], state.spans[:, :, :lives], state.sets[:, :, :lives]
        return Part(*of_lives, state.tallies[:tallies], state.policies), state.hits[:hits]

    def _put_aside(self) -> None:
        """Make a part of the lives that ended, and begin with empty pools."""
        part, hits = self._finished()
        room = len(self._state.lives)
        if len(part.lives) < room:
            part = part.copied()
        else:
            part = part._replace(tallies=part.tallies.copy())
            self._state = self._state._replace(**_room_for_lives(room, len(part.policies)))
        self._parts.append(part)
        self._hits.append(hits.copy())
        self._state.used[_PER_PART] = 0

    def _make_room(self) -> bool:
        """Make room for what every event of a step may add by itself. Returns whether there was too little."""
        state, used = self._state, self._state.used.tolist()
        threads, processes = used[_THREADS] + _STEP_ROWS, used[_PROCESSES] + _STEP_ROWS
        self._state = state._replace(
            threads=_grown(state.threads, threads),
            ready=_grown(state.ready, threads),
            step_masks=_grown(state.step_masks, threads),
            step_kinds=_grown(state.step_kinds, threads),
            segments=_grown(state.segments, used[_SEGMENTS] + _STEP_ROWS),
            signals=_grown(state.signals, used[_SIGNALS] + _STEP_ROWS),
            processes=_grown(state.processes, processes),
            by_tid=_roomy(state.by_tid, used[_TIDS] + _STEP_ROWS),
            by_pid=_roomy(state.by_pid, processes),
        )
        return any(now is not before for now, before in zip(self._state, state, strict=True))

    def _make_way(self) -> None:
        """Go on where the lives' pools are full, or one event touches more threads than there is room for."""
        if self._state.used[_LIVES]:
            self._put_aside()
            return
        state = self._state
        sums = _grown(state.sums, 2 * len(state.sums))
        self._state = state._replace(
            segments=_grown(state.segments, 2 * len(state.segments)),
            tallies=_grown(state.tallies, 2 * len(state.tallies)),
            hits=_grown(state.hits, 2 * len(state.hits)),
            sums=sums,
            by_set=_roomy(state.by_set, len(sums)),
            **_room_for_lives(2 * len(state.lives), len(state.policies)),
        )
