"""The engine's machine with its pools: takes events, gives the records of lives, and grows what is full."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from sigwindow.analysis.question import POLICIES

from .records import (
    COLUMN_TYPES,
    ENTRY,
    FREE_THREAD,
    HIT,
    KNOWN,
    LAST_STEPS,
    LIFE,
    N_KNOWN,
    N_LIVES,
    N_PROCESSES,
    N_SEGMENTS,
    N_SIGNALS,
    N_SUMS,
    N_THREADS,
    N_TIDS,
    PER_PART,
    PROCESS,
    SEGMENT,
    SIGNAL,
    SUM,
    THREAD,
    USED_FIELDS,
    Array,
    Columns,
    State,
)
from .store import Part
from .walk import advance, end_all, rehash

_FIRST_ROOM = 64  # records in a new pool
_PART_LIVES = 1 << 16  # large enough for numpy to ask for huge pages
_STEP_ROWS = 1 << 14  # events between two looks at the room for what any event may add


def _empty_map(size: int) -> Array:
    table = np.zeros(size, ENTRY)
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
    larger = _empty_map(1 << (4 * keys).bit_length())
    rehash(table, larger)
    return larger


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
        used = np.zeros(USED_FIELDS, np.int64)
        used[FREE_THREAD:] = -1
        room = _FIRST_ROOM
        self._state = State(
            used=used,
            threads=np.zeros(room, THREAD),
            ready=np.zeros((room, len(POLICIES)), np.int32),
            step_masks=np.zeros((room, LAST_STEPS), np.uint64),
            step_kinds=np.zeros((room, LAST_STEPS), np.uint8),
            segments=np.zeros(room, SEGMENT),
            signals=np.zeros(room, SIGNAL),
            processes=np.zeros(room, PROCESS),
            sums=np.zeros(room, SUM),
            policies=np.array(policies),
            **_room_for_lives(_PART_LIVES, len(policies)),
            tallies=np.zeros((room, len(POLICIES), 3), np.int32),
            hits=np.zeros(room, HIT),
            known=np.zeros(2 * room, KNOWN),
            by_tid=_empty_map(2 * room),
            by_pid=_empty_map(2 * room),
            by_set=_empty_map(2 * room),
            counts=np.zeros((256, 3), np.int64),
            scratch=np.zeros((256, len(POLICIES), 3), np.int64),
        )
        # The first call compiles, or loads what was compiled: not while events wait.
        none = Columns(*(_read_only(np.empty(0, dtype)) for dtype in COLUMN_TYPES))
        advance(self._state, none, 0, 0, self._considered, self._kept_back, _STEP_ROWS)
        self._seq = 0
        self._parts: list[Part] = []
        self._hits: list[Array] = []

    def feed(self, columns: Columns) -> None:
        """Take in events in the order of time. The arrays are made read-only."""
        columns = Columns(*(_read_only(column) for column in columns))
        rows, done, how = len(columns.time_ns), 0, (self._considered, self._kept_back, _STEP_ROWS)
        while (done := advance(self._state, columns, done, self._seq, *how)) < rows:
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
        threads, segments = int(state.used[N_THREADS]), int(state.used[N_SEGMENTS])
        ended._state = state._replace(
            used=state.used.copy(),
            threads=state.threads[:threads].copy(),
            ready=state.ready[:threads].copy(),
            segments=state.segments[:segments].copy(),
            processes=self.processes.copy(),
            counts=state.counts.copy(),
            sums=state.sums.copy(),
            by_set=state.by_set.copy(),
            **_room_for_lives(threads, len(state.policies)),
            tallies=np.zeros_like(state.tallies),
            hits=np.zeros_like(state.hits),
        )
        ended._state.used[PER_PART] = 0
        done = 0
        while (done := end_all(ended._state, done, end_ns, self._considered)) < threads:
            ended._make_way()
        ended._put_aside()
        return ended

    @property
    def processes(self) -> Array:
        """Every process (PROCESS); lives, hits and sums name them by their places here."""
        return self._state.processes[: self._state.used[N_PROCESSES]]

    @property
    def sums(self) -> Array:
        """The exposure of ready threads that ended (SUM)."""
        return self._state.sums[: self._state.used[N_SUMS]]

    @property
    def known(self) -> Array:
        """Every thread from before (KNOWN), as it is or was last seen."""
        state = self._state
        threads = state.threads[: state.used[N_THREADS]]
        living = threads[threads["known"]]
        found = np.empty(len(living), KNOWN)
        for name in ("pid", "tid", "comm", "mask"):
            found[name] = living[name]
        found["handled"] = state.processes["handled"][living["process"]]
        return np.concatenate([state.known[: state.used[N_KNOWN]], found])

    @property
    def counts(self) -> Array:
        """How many signals were sent, held back by a mask, and taken by handlers: (256, 3) by signal number."""
        return self._state.counts

    def _finished(self) -> tuple[Part, Array]:
        """The lives that ended and are in no part yet, and their hits: views of the pools."""
        state = self._state
        lives, tallies, hits = state.used[PER_PART].tolist()
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
        self._state.used[PER_PART] = 0

    def _make_room(self) -> bool:
        """Make room for what every event of a step may add by itself. Returns whether there was too little."""
        state, used = self._state, self._state.used.tolist()
        threads, processes = used[N_THREADS] + _STEP_ROWS, used[N_PROCESSES] + _STEP_ROWS
        self._state = state._replace(
            threads=_grown(state.threads, threads),
            ready=_grown(state.ready, threads),
            step_masks=_grown(state.step_masks, threads),
            step_kinds=_grown(state.step_kinds, threads),
            segments=_grown(state.segments, used[N_SEGMENTS] + _STEP_ROWS),
            signals=_grown(state.signals, used[N_SIGNALS] + _STEP_ROWS),
            processes=_grown(state.processes, processes),
            known=_grown(state.known, used[N_KNOWN] + threads),
            by_tid=_roomy(state.by_tid, used[N_TIDS] + _STEP_ROWS),
            by_pid=_roomy(state.by_pid, processes),
        )
        return any(now is not before for now, before in zip(self._state, state, strict=True))

    def _make_way(self) -> None:
        """Go on where the lives' pools are full, or one event touches more threads than there is room for."""
        if self._state.used[N_LIVES]:
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
