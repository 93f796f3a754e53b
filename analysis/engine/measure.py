"""The record of a life that ended, in compiled functions: a walk along its stretches gives every policy's window."""

from __future__ import annotations

from typing import Any

import numpy as np

from sigwindow.analysis.question import POLICIES

from .compiled import inlined
from .pools import entry_of, put
from .readiness import known_at_end
from .records import (
    CRITICAL,
    DEFERRED,
    EXPOSED,
    EXPOSURE_NS,
    HANDLED,
    HITS,
    N_HITS,
    N_LIVES,
    N_SUMS,
    N_TALLIES,
    NO_SIGNAL,
    READY_NS,
    Array,
    State,
)
from .stretches import hold, settle_late


@inlined
def _sum_of(used: Array, sums: Array, by_set: Array, process: int, exposed: Any) -> int:
    """The place of the sum for a process and a set, known or new."""
    at = entry_of(by_set, process, exposed)
    place = by_set[at]["value"]
    if place < 0:
        place = used[N_SUMS]
        used[N_SUMS] += 1
        put(by_set, at, process, exposed, place)
        sums[place]["process"], sums[place]["exposed"] = process, exposed
        for policy in range(len(POLICIES)):
            sums[place]["ns"][policy] = 0
    return place


@inlined
def measure(state: State, place: int, end_ns: int, exited: bool, alone: bool, considered: Any) -> None:
    """Write the record of a life that ends, with its window under every policy."""
    used, segments, sums, by_set = state.used, state.segments, state.sums, state.by_set
    spans, sets, policies = state.spans, state.sets, state.policies
    thread, ready = state.threads[place], state.ready
    known_at_end(ready, segments, thread, state.step_masks, state.step_kinds, place, alone)
    at = used[N_LIVES]
    used[N_LIVES] += 1
    life = state.lives[at]
    life["number"], life["born_ns"], life["end_ns"] = thread["number"], thread["born_ns"], end_ns
    life["birth_mask"], life["teardown_ns"], life["exited"] = thread["birth_mask"], thread["teardown_ns"], exited
    life["pid"], life["tid"], life["process"] = thread["pid"], thread["tid"], thread["process"]
    life["creator"], life["comm"], life["stack"] = thread["creator"], thread["comm"], thread["stack"]
    life["tally"] = -1

    exposure_ns = np.int64(0)
    first_ns = np.int64(-1)
    exposed = handled = NO_SIGNAL
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
            if segment["exposed"] & considered != NO_SIGNAL:
                exposure_ns += segment["ns"]
                first_ns = segment["first_ns"] if first_ns < 0 else min(first_ns, segment["first_ns"])
            if within != 0 and segment["exposed"] != NO_SIGNAL:
                total = _sum_of(used, sums, by_set, thread["process"], segment["exposed"])
                for policy in policies:
                    if within >> policy & 1:
                        sums[total]["ns"][policy] += segment["ns"]
        here = segment["next"]
    life["first_exposed_ns"] = first_ns
    if thread["signals"] >= 0:
        _measure_signals(state, place)
        life["tally"] = used[N_TALLIES] - 1


@inlined
def _measure_signals(state: State, place: int) -> None:
    """Count hits and deferred signals in a new tally, and write the hits."""
    used, segments, signals, ready, tally = state.used, state.segments, state.signals, state.ready, state.scratch
    thread = state.threads[place]
    counted = state.tallies[used[N_TALLIES]]
    used[N_TALLIES] += 1
    counted[:] = 0
    here = thread["signals"]
    while here >= 0:
        signal = signals[here]
        within = 0
        for policy in range(len(POLICIES)):
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
            hit = state.hits[used[N_HITS]]
            used[N_HITS] += 1
            hit["pid"], hit["tid"], hit["process"] = thread["pid"], thread["tid"], thread["process"]
            hit["born_ns"], hit["time_ns"] = thread["born_ns"], signal["time_ns"]
            hit["signal"], hit["critical"], hit["within"] = signal["signal"], signal["critical"], within
        here = signal["next"]
    here = thread["signals"]
    while here >= 0:
        number = signals[here]["signal"]
        for policy in range(len(POLICIES)):
            held_back, before, after = tally[number, policy, 0], tally[number, policy, 1], tally[number, policy, 2]
            counted[policy, DEFERRED] += min(max(held_back - before, 0), after)
            for of in range(3):
                tally[number, policy, of] = 0
        here = signals[here]["next"]


@inlined
def end_life(state: State, place: int, end_ns: int, exited: bool, alone: bool, considered: Any) -> None:
    """A measured thread ended at `end_ns`."""
    thread = state.threads[place]
    settle_late(state.segments, thread, True)
    hold(state.segments, thread, end_ns, False, considered)
    measure(state, place, end_ns, exited, alone, considered)


@inlined
def lose_life(state: State, place: int, considered: Any) -> None:
    """A measured thread is gone and its exit was lost: it ended with its last own event."""
    thread = state.threads[place]
    settle_late(state.segments, thread, False)
    measure(state, place, thread["own_ns"], False, False, considered)
