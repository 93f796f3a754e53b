"""A thread's life while it lasts, in compiled functions: a list of stretches, and the signals kept of it.

A stretch begins at an event that a readiness policy may call ready: the first alternate stack, the first mask of its
own, the first mark, and the first time of every state (mask and alternate stack) that the thread sets itself. Within a
stretch only how long which signals were handled and exposed counts, not in which order: so a life takes little room
however long it is. Each such set is a segment; the stretches of a life are one list of segments.

What other threads do to the handled set is counted apart (`late_ns`) until the thread's next own event: where a
thread's exit was lost, its last own event is the last that is known of it.
"""

from __future__ import annotations

from typing import Any

from sigwindow.analysis.question import POLICIES

from .compiled import inlined
from .pools import new_record
from .readiness import makes_ready
from .records import (
    ALTSTACK,
    FREE_SEGMENT,
    FREE_SIGNAL,
    N_SEGMENTS,
    N_SIGNALS,
    NO_SIGNAL,
    SETS_STATE,
    Array,
)

_LOOK_BACK = 64  # how far a list is searched for something to merge with; beyond, lists only grow


@inlined
def forget_life(used: Array, segments: Array, signals: Array, thread: Any) -> None:
    """Free what a life took, and go on with the thread as one that is not measured."""
    if thread["head"] >= 0:
        segments[thread["tail"]]["next"] = used[FREE_SEGMENT]
        used[FREE_SEGMENT] = thread["head"]
    signal = thread["signals"]
    while signal >= 0:
        following = signals[signal]["next"]
        signals[signal]["next"] = used[FREE_SIGNAL]
        used[FREE_SIGNAL] = signal
        signal = following
    thread["number"] = thread["head"] = thread["signals"] = -1
    thread["segments"] = thread["kept"] = 0


# A life.


@inlined
def hold(segments: Array, thread: Any, until_ns: int, late: bool, considered: Any) -> None:
    """Count the time for which the current segment has held."""
    ns = until_ns - thread["since_ns"]
    thread["since_ns"] = until_ns
    if ns <= 0:
        return
    segment = segments[thread["current"]]
    if segment["ns"] == 0 and segment["late_ns"] == 0:
        segment["first_ns"] = until_ns - ns
    tears = thread["tearing"] and segment["exposed"] & considered != NO_SIGNAL
    if late:
        segment["late_ns"] += ns
        thread["late"] = True
        if tears:
            thread["late_teardown_ns"] += ns
    else:
        segment["ns"] += ns
        if tears:
            thread["teardown_ns"] += ns


@inlined
def settle_late(segments: Array, thread: Any, counts: bool) -> None:
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


@inlined
def enter(
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
    place = new_record(used, segments, N_SEGMENTS, FREE_SEGMENT)
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


@inlined
def was_here(segments: Array, thread: Any) -> bool:
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


@inlined
def begin_life(thread: Any, number: int, time_ns: int, mask: Any, altstack: bool, handled: Any) -> None:
    """Write what a birth says."""
    thread["number"] = number
    thread["born_ns"] = thread["own_ns"] = thread["since_ns"] = time_ns
    thread["mask"] = thread["birth_mask"] = mask
    thread["altstack"] = thread["birth_altstack"] = altstack
    thread["birth_handled"] = handled
    thread["teardown_ns"] = thread["late_teardown_ns"] = 0
    thread["masks"] = thread["stacks"] = 0
    thread["tearing"] = thread["late"] = False


@inlined
def live_on(
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
    """Take in an own event of a measured thread. Returns the policies (bits) by which it is ready from here on."""
    settle_late(segments, thread, True)
    hold(segments, thread, time_ns, False, considered)
    if kind == ALTSTACK and thread["altstack"] and not altstack:
        thread["tearing"] = True
        thread["teardown_ns"] = 0
    thread["mask"], thread["altstack"], thread["own_ns"] = mask, altstack, time_ns
    makes = makes_ready(thread, ready, place, kind, mask, altstack)
    step = SETS_STATE[kind]
    begins = makes != 0 or (step and not was_here(segments, thread))
    enter(used, segments, thread, handled, time_ns, seq, begins, step)
    if makes:
        for policy in range(len(POLICIES)):
            if makes >> policy & 1:
                ready[place, policy] = thread["current"]
    return makes


@inlined
def keep_signal(
    used: Array, signals: Array, thread: Any, time_ns: int, seq: int, number: int, delivers: bool, critical: bool
) -> None:
    """Remember a signal that was held back, or that a handler took."""
    place = new_record(used, signals, N_SIGNALS, FREE_SIGNAL)
    signal = signals[place]
    signal["time_ns"], signal["seq"], signal["signal"] = time_ns, seq, number
    signal["delivers"], signal["critical"] = delivers, critical
    signal["next"] = thread["signals"]
    thread["signals"] = place
    thread["kept"] += 1
