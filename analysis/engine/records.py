"""What the engine keeps, as records of fixed size: what runs the events is compiled, and holds no Python object."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sigwindow.analysis.question import POLICIES
from sigwindow.probes import events
from sigwindow.probes import signals as sig

Array = NDArray[Any]

BY_ALTSTACK = POLICIES.index("altstack")
BY_MASK = POLICIES.index("mask")
BY_STEADY = POLICIES.index("steady")
BY_SYMBOL = POLICIES.index("symbol")

_CODE = events.CODE
SNAPSHOT, BORN, MASK, ALTSTACK, ACTION = (_CODE[n] for n in ("snapshot", "born", "mask", "altstack", "action"))
GENERATE, DELIVER, MARK, NAME = (_CODE[n] for n in ("generate", "deliver", "mark", "name"))
EXEC, EXIT, LOST = (_CODE[n] for n in ("exec", "exit", "lost"))
UNKNOWN_KIND = 255


def _kinds(*codes: int) -> Array:
    """A table to look kinds up in: true for `codes`."""
    table = np.zeros(256, np.bool_)
    table[list(codes)] = True
    return table


SAYS_NOTHING = _kinds(LOST, UNKNOWN_KIND)
SAYS_COMM = _kinds(SNAPSHOT, BORN, NAME, EXEC)
SAYS_HANDLED = _kinds(SNAPSHOT, BORN, ACTION, EXEC)
SETS_STATE = _kinds(MASK, ALTSTACK)

# Numba promotes int64 with uint64 to float64, as NumPy does: set words meet only set words.
NO_SIGNAL = np.uint64(0)
EVERYTHING = np.uint64(sig.ALL)
UNKNOWN = EVERYTHING  # as a settled mask: a settled mask never blocks everything

LAST_STEPS = 4  # of the thread's last settings up to three may be teardown

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
        ("known", "?"),  # from before: it was found in /proc
    ],
    align=True,
)
# A thread from before that ended, as it was then.
KNOWN = np.dtype([("mask", "u8"), ("handled", "u8"), ("pid", "i4"), ("tid", "i4"), ("comm", "i4")], align=True)
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
LOSS = np.dtype([("from_ns", "i8"), ("to_ns", "i8"), ("count", "i8")])  # how many events, between which times
ENTRY = np.dtype([("key", "i8"), ("word", "u8"), ("value", "i4")], align=True)  # value -1: a free one


class State(NamedTuple):
    """What the machine knows: pools of records, of which so many as `used` says are taken, and maps to their places."""

    used: Array  # of every pool below, by the numbers of N_THREADS and so on; and the lists of free records
    threads: Array
    ready: Array  # (thread, policy): the segment at whose begin it is ready; -1: not yet
    step_masks: Array  # (thread, number % 4): the last masks and stacks that it set itself
    step_kinds: Array  # IS_MASK, HAS_STACK and BLOCKS
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
    known: Array  # threads from before that ended
    by_tid: Array
    by_pid: Array
    by_set: Array
    counts: Array  # (signal, 0: sent, 1: of these held back by a mask, 2: taken by a handler)
    scratch: Array  # (signal, policy, 0: held back, 1: handled before ready, 2: after)


N_THREADS, N_SEGMENTS, N_SIGNALS, N_PROCESSES, N_SUMS, N_LIVES, N_TALLIES, N_HITS, N_TIDS, N_BIRTHS, N_KNOWN = range(11)
PER_PART = [N_LIVES, N_TALLIES, N_HITS]
FREE_THREAD, FREE_SEGMENT, FREE_SIGNAL = range(11, 14)
USED_FIELDS = 14
IS_MASK, HAS_STACK, BLOCKS = 1, 2, 4


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


COLUMN_TYPES = ("i8", "u1", "i4", "i4", "u8", "?", "u8", "u1", "u1", "u4", "i4", "u4", "i4", "i4")
