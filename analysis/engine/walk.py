"""The state machine: from events in order of time to one record a life. Compiled by Numba; no Python runs an event.

Here are the processes and their threads, and what each kind of event does; what it does to a thread's life is in
`stretches`, `readiness` and `measure`. Python calls `advance`, `end_all` and `rehash`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sigwindow.analysis import question
from sigwindow.probes import events
from sigwindow.probes import signals as sig

from . import compiled, measure, pools, readiness, records, stretches
from .compiled import body, inlined, kept
from .measure import end_life, lose_life
from .pools import entry_of, new_record, put, remove
from .readiness import keep_step
from .records import (
    BORN,
    BY_ALTSTACK,
    DELIVER,
    EVERYTHING,
    EXEC,
    EXIT,
    FREE_THREAD,
    GENERATE,
    MARK,
    MASK,
    N_BIRTHS,
    N_HITS,
    N_KNOWN,
    N_LIVES,
    N_PROCESSES,
    N_SEGMENTS,
    N_SIGNALS,
    N_SUMS,
    N_TALLIES,
    N_THREADS,
    N_TIDS,
    NAME,
    NO_SIGNAL,
    SAYS_COMM,
    SAYS_HANDLED,
    SAYS_NOTHING,
    SETS_STATE,
    SNAPSHOT,
    UNKNOWN,
    Array,
    Columns,
    State,
)
from .stretches import begin_life, enter, forget_life, hold, keep_signal, live_on

_ONE = np.uint64(1)
# What the machine is compiled from, but for this file, which Numba looks at itself.
SOURCES = (compiled, events, measure, pools, question, readiness, records, sig, stretches)


@inlined
def _blocks_everything(mask: Any, kept_back: Any) -> bool:
    """sig.blocks_everything, compiled."""
    return (mask | kept_back) == EVERYTHING


@inlined
def _bit(signal: int) -> Any:
    """The set word of a signal; none for what is not a signal."""
    return _ONE << np.uint64(signal - 1) if 1 <= signal <= 64 else NO_SIGNAL


@inlined
def _process(used: Array, processes: Array, by_pid: Array, pid: int) -> int:
    """The place of a process, known or new. Processes are few, and kept."""
    at = entry_of(by_pid, pid, NO_SIGNAL)
    place = by_pid[at]["value"]
    if place < 0:
        place = used[N_PROCESSES]
        used[N_PROCESSES] += 1
        put(by_pid, at, pid, NO_SIGNAL, place)
        process = processes[place]
        process["pid"] = pid
        process["comm"] = process["first"] = -1
        process["handled"] = NO_SIGNAL
        process["threads"] = 0
        process["installs"] = False
    return place


@inlined
def _thread(by_tid: Array, tid: int) -> int:
    """The place of the thread that has `tid` now, or -1."""
    return by_tid[entry_of(by_tid, tid, NO_SIGNAL)]["value"]


@inlined
def _appear(used: Array, threads: Array, by_tid: Array, tid: int, pid: int, process: Any, owner: int) -> int:
    """A new thread record, in the list of its process."""
    place = new_record(used, threads, N_THREADS, FREE_THREAD)
    thread = threads[place]
    thread["tid"], thread["pid"], thread["process"] = tid, pid, owner
    thread["number"] = -1
    thread["known"] = False
    thread["mask"], thread["comm"] = NO_SIGNAL, 0
    thread["settled"] = UNKNOWN
    thread["head"] = thread["signals"] = thread["previous"] = -1
    thread["segments"] = thread["kept"] = 0
    thread["next"] = process["first"]
    if process["first"] >= 0:
        threads[process["first"]]["previous"] = place
    process["first"] = place
    process["threads"] += 1
    used[N_TIDS] += 1
    put(by_tid, entry_of(by_tid, tid, NO_SIGNAL), tid, NO_SIGNAL, place)
    return place


@inlined
def _disappear(used: Array, threads: Array, known: Array, by_tid: Array, process: Any, place: int) -> None:
    """Free a thread record; of one from before it stays on record how it was last seen."""
    thread = threads[place]
    if thread["known"]:
        last = known[used[N_KNOWN]]
        used[N_KNOWN] += 1
        last["pid"], last["tid"], last["comm"] = thread["pid"], thread["tid"], thread["comm"]
        last["mask"], last["handled"] = thread["mask"], process["handled"]
        thread["known"] = False
    if thread["previous"] >= 0:
        threads[thread["previous"]]["next"] = thread["next"]
    else:
        process["first"] = thread["next"]
    if thread["next"] >= 0:
        threads[thread["next"]]["previous"] = thread["previous"]
    process["threads"] -= 1
    remove(by_tid, entry_of(by_tid, thread["tid"], NO_SIGNAL))
    used[N_TIDS] -= 1
    thread["next"] = used[FREE_THREAD]
    used[FREE_THREAD] = place


@inlined
def _see(thread: Any, kind: int, mask: Any, comm: int) -> None:
    """Take in an own event of a thread that is not measured."""
    if kind == SNAPSHOT:
        thread["known"] = True
    if kind != DELIVER:  # whose mask is that of the handler's time
        thread["mask"] = mask
    if SAYS_COMM[kind]:
        thread["comm"] = comm


@inlined
def _exec(state: State, owner: int, tid: int, time_ns: int, considered: Any) -> None:
    """An exec ends every thread of the process but the one that has its id now."""
    used, threads, process = state.used, state.threads, state.processes[owner]
    place = process["first"]
    while place >= 0:
        thread = threads[place]
        following = thread["next"]
        if thread["number"] >= 0:
            end_life(state, place, time_ns, True, False, considered)
            forget_life(used, state.segments, state.signals, thread)
        if thread["tid"] != tid:
            _disappear(used, threads, state.known, state.by_tid, process, place)
        place = following


@inlined
def _handle(state: State, process: int, handled: Any, own: int, time_ns: int, considered: Any) -> None:
    """The handled set of a process is now `handled`, which shows in all its threads; `own` takes care of itself."""
    state.processes[process]["handled"] = handled
    place = state.processes[process]["first"]
    while place >= 0:
        thread = state.threads[place]
        if thread["number"] >= 0 and place != own:
            hold(state.segments, thread, time_ns, True, considered)
            thread["late"] = True
            enter(state.used, state.segments, thread, handled, time_ns, 0, False, False)
        place = thread["next"]


@inlined
def _can_end(state: State, ends: int, segments: int, signals: int) -> bool:
    """Whether there is room to measure so many lives, with so many segments and signals together."""
    used = state.used
    return (
        used[N_LIVES] + ends <= len(state.lives)
        and used[N_TALLIES] + ends <= len(state.tallies)
        and used[N_SUMS] + segments <= len(state.sums)
        and used[N_HITS] + signals <= len(state.hits)
    )


@inlined
def _can_go_on(state: State, rows: int) -> bool:
    """Whether there is room for what so many events may each add by themselves (`Lives._make_room`)."""
    used = state.used
    return (
        used[N_THREADS] + rows <= len(state.threads)
        and used[N_SEGMENTS] + rows <= len(state.segments)
        and used[N_SIGNALS] + rows <= len(state.signals)
        and used[N_PROCESSES] + rows <= len(state.processes)
        and used[N_KNOWN] + used[N_THREADS] + rows <= len(state.known)
        and 2 * (used[N_TIDS] + rows) <= len(state.by_tid)
        and 2 * (used[N_PROCESSES] + rows) <= len(state.by_pid)
    )


@body
def _advance(  # noqa: C901  one walk over the events: a call for each kind would copy its state
    state: State, columns: Columns, start: int, seq_base: int, considered: Any, kept_back: Any, step_rows: int
) -> int:
    """Take in the events from number `start` on. Returns how far it got: to the end, or to where a pool is full."""
    used, threads, ready, segments, signals = state.used, state.threads, state.ready, state.segments, state.signals
    processes, by_tid, by_pid, counts, known = state.processes, state.by_tid, state.by_pid, state.counts, state.known
    times, kinds, pids, tids, masks, stacks, handled_sets, numbers = columns[:8]
    dispositions, sa_flags, peers, all_flags, comms, creators_stacks = columns[8:]
    step_end = start
    for i in range(start, len(times)):
        if i == step_end:
            if not _can_go_on(state, step_rows):
                return i
            step_end += step_rows
        kind, pid, tid = kinds[i], pids[i], tids[i]
        if SAYS_NOTHING[kind] or (kind == MARK and pid == 0):
            continue
        owner, place = _process(used, processes, by_pid, pid), _thread(by_tid, tid)
        process = processes[owner]
        # What it may take: a change of the handled set shows in all threads of the process, an exec ends them all.
        if used[N_SEGMENTS] + process["threads"] + 2 > len(segments):
            return i
        ending: Any = np.int64(1)
        its_segments: Any = np.int64(1)
        its_signals: Any = np.int64(1)
        if kind == EXEC:
            ending, its_segments, its_signals = process["threads"] + 1, used[N_SEGMENTS], used[N_SIGNALS]
        elif place >= 0:
            its_segments += threads[place]["segments"]
            its_signals += threads[place]["kept"]
        if not _can_end(state, ending, its_segments, its_signals):
            return i

        time_ns, mask, altstack, signal, flags = times[i], masks[i], stacks[i], numbers[i], all_flags[i]
        seq = seq_base + i
        if kind == GENERATE:
            counts[signal, 0] += 1
            directed = flags & np.uint32(events.GENERATE_PROCESS | events.GENERATE_RESULT) == 0
            held_back = directed and _bit(signal) & mask != NO_SIGNAL
            counts[signal, 1] += held_back
            measured = place >= 0 and threads[place]["number"] >= 0 and threads[place]["pid"] == pid
            if held_back and measured and _bit(signal) & considered != NO_SIGNAL:
                keep_signal(used, signals, threads[place], time_ns, seq, signal, False, False)
            continue

        if kind == EXEC:
            _exec(state, owner, tid, time_ns, considered)
        if place >= 0 and (kind == BORN or threads[place]["pid"] != pid):
            if threads[place]["number"] >= 0:
                lose_life(state, place, considered)
                forget_life(used, segments, signals, threads[place])
            _disappear(used, threads, known, by_tid, processes[threads[place]["process"]], place)
            place = -1
        if place < 0:
            place = _appear(used, threads, by_tid, tid, pid, process, owner)
        thread = threads[place]
        if kind == BORN:
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

        handles = kind == DELIVER and dispositions[i] == events.DISPOSITION_HANDLER
        if SAYS_HANDLED[kind]:
            if process["handled"] != handled_sets[i]:
                _handle(state, owner, handled_sets[i], place, time_ns, considered)
        elif handles and sa_flags[i] & np.uint32(sig.SA_RESETHAND) != 0:
            # A delivery takes its signal out of the set (sigaction(2)); no event says so.
            _handle(state, owner, process["handled"] & ~_bit(signal), place, time_ns, considered)

        if kind == BORN:
            worker = flags & np.uint32(events.BORN_KERNEL_WORKER) != 0
            if flags & np.uint32(events.CLONE_THREAD) != 0 and not worker:
                begin_life(thread, used[N_BIRTHS], time_ns, mask, altstack, process["handled"])
                used[N_BIRTHS] += 1
                thread["creator"], thread["comm"], thread["stack"] = peers[i], comms[i], creators_stacks[i]
                thread["birth_blocked"] = blocks
                ready[place, :] = -1
                enter(used, segments, thread, process["handled"], time_ns, seq, True, False)
        elif thread["number"] >= 0:
            handled = process["handled"]
            makes = live_on(
                used, segments, ready, place, thread, handled, time_ns, seq, kind, mask, altstack, considered
            )
            if makes >> BY_ALTSTACK & 1:
                process["installs"] = True
            if SETS_STATE[kind]:
                keep_step(thread, state.step_masks, state.step_kinds, place, kind == MASK, blocks)
            if kind == NAME:
                thread["comm"] = comms[i]
            if handles and _bit(signal) & considered != NO_SIGNAL:
                critical = sa_flags[i] & np.uint32(sig.SA_ONSTACK) != 0 and not altstack
                keep_signal(used, signals, thread, time_ns, seq, signal, True, critical)
        else:
            _see(thread, kind, mask, comms[i])
        if handles:
            counts[signal, 2] += 1
        if kind == EXIT:
            if thread["number"] >= 0:
                alone = flags & np.uint32(events.EXIT_GROUP) == 0
                end_life(state, place, time_ns, True, alone, considered)
                forget_life(used, segments, signals, thread)
            _disappear(used, threads, known, by_tid, process, place)
    return len(times)


@body
def _end_all(state: State, start: int, end_ns: int, considered: Any) -> int:
    """End every measured thread from place `start` on, as the trace's end does. Returns how far it got."""
    for place in range(start, state.used[N_THREADS]):
        thread = state.threads[place]
        if thread["number"] >= 0:
            if not _can_end(state, 1, thread["segments"], thread["kept"]):
                return place
            end_life(state, place, end_ns, False, False, considered)
    return int(state.used[N_THREADS])


def _kept_for(sources: int) -> tuple[Any, Any, Any]:
    """What Python calls, kept for the other files' text that `sources` is a number for."""

    @kept
    def advance(
        state: State, columns: Columns, start: int, seq_base: int, considered: Any, kept_back: Any, step_rows: int
    ) -> int:
        _ = sources
        return _advance(state, columns, start, seq_base, considered, kept_back, step_rows)

    @kept
    def end_all(state: State, start: int, end_ns: int, considered: Any) -> int:
        _ = sources
        return _end_all(state, start, end_ns, considered)

    @kept
    def rehash(old: Array, new: Array) -> None:
        _ = sources
        pools.rehash(old, new)

    return advance, end_all, rehash


advance, end_all, rehash = _kept_for(compiled.number_of(SOURCES))
