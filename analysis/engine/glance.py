"""The engine while it records: counts that are always at hand, and what there is to show at one moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from sigwindow.analysis.question import Question
from sigwindow.analysis.tables import BAD, VERDICTS
from sigwindow.probes import signals as sig

from .judged import Judged, policy_of
from .records import Array
from .store import Part
from .windows import Windows

_KEPT = 40  # threads kept for either list
_MOST_ROWS = 200  # processes in a glance
_RATE_GLANCES = 8  # rates are over so many glances
_NO_LOSSES = (np.empty(0, np.int64), np.empty(0, np.int64))


class Process(NamedTuple):
    """A process in which threads were born, in numbers of threads."""

    comm: str
    pid: int
    born: int
    open: int  # living and not ready
    exposed: int
    hit: int
    critical: int
    exposure_ns: int


class Thread(NamedTuple):
    """A thread that was exposed, up to now."""

    comm: str
    tid: int
    verdict: str
    exposure_ns: int
    signals: int  # set word
    ready: bool


class Glance(NamedTuple):
    """Everything that is shown at one moment. fill: of the ring, from 0 to 1; lost: events."""

    elapsed_s: float
    events: int
    events_per_s: float
    births_per_s: float
    lost: int
    fill: float
    verdicts: dict[str, int]
    open: int
    processes: list[Process]  # the worst first, of very many not all
    process_count: int
    longest: list[Thread]  # as the summary ranks them
    latest: list[Thread]  # the last born first
    numbering: sig.Numbering  # of the threads' signals

    @property
    def births(self) -> int:
        """How many threads were born so far."""
        return sum(self.verdicts.values())


class Source(Protocol):
    """What a view needs of a session."""

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""

    def lost(self) -> int:
        """How many events were lost so far."""


class _Row(NamedTuple):
    """An exposed thread as it was counted; sorts as the summary ranks threads."""

    critical: int  # negative, as the next two
    hits: int
    exposure_ns: int
    born_ns: int
    pid: int
    tid: int
    process: int
    comm: int
    policy: int
    verdict: int
    signals: int
    ready: bool


class LiveWindows(Windows):
    """Windows with counts that are always at hand: a life is counted when it ends, the living at every glance.

    So a glance takes the same time however many threads have ended. Which policy `auto` means for a process may change
    while it runs: ended lives are counted under both. Uncertainty is left to the summary.
    """

    def __init__(self, question: Question, system: str = "linux") -> None:
        super().__init__(question, system)
        self._counts = {policy: _no_counts(0) for policy in self.policies}
        self._longest: list[_Row] = []
        self._latest: list[_Row] = []
        self._glances = deque([(0.0, 0, 0)], _RATE_GLANCES)  # time, events, births

    def glance(self, elapsed_s: float, source: Source) -> Glance:
        """What there is to show now, so long after the begin."""
        now = self.snapshot()
        processes = now.processes
        policies = policy_of(processes, self.policies)
        counts = np.select(
            [policies[:, None] == policy for policy in self.policies],
            [_grown(self._counts[policy], len(processes)) for policy in self.policies],
        )
        opened = np.zeros(len(processes), np.int64)
        longest, latest = self._longest, self._latest
        for part in now.living:
            judged = self._judged(part, policies[part.lives["process"]])
            _count_into(counts, judged)
            unready = ~judged.ready & ~part.lives["exited"] & (part.lives["end_ns"] == now.end_ns)
            opened += np.bincount(part.lives["process"][unready], minlength=len(opened))
            longest, latest = self._ranked(judged, longest, latest)
        births = int(counts[:, :-1].sum())
        self._glances.append((elapsed_s, now.events, births))
        then_s, events_then, births_then = self._glances[0]
        over_s = max(elapsed_s - then_s, 1e-9)
        return Glance(
            elapsed_s,
            now.events,
            (now.events - events_then) / over_s,
            (births - births_then) / over_s,
            source.lost(),
            source.fill(),
            dict(zip(VERDICTS, counts[:, :-1].sum(axis=0).tolist(), strict=True)),
            int(opened.sum()),
            _processes(processes, counts, opened, now.comms),
            int(counts[:, :-1].any(axis=1).sum()),
            [_thread(row, now.comms) for row in longest if row.policy == policies[row.process]],
            [_thread(row, now.comms) for row in latest if row.policy == policies[row.process]],
            now.numbering,
        )

    def _judged(self, part: Part, policy: Array) -> Judged:
        return Judged(part, policy, self.considered, _NO_LOSSES)

    def _keep(self, part: Part) -> None:
        """Count lives that have ended, and put them aside."""
        process = part.lives["process"]
        for policy in self.policies:
            counts = self._counts[policy] = _grown(self._counts[policy], int(process.max()) + 1)
            _count_into(counts, self._judged(part, np.full(len(process), policy)))
        judged = self._judged(part, policy_of(self._lives.processes, self.policies)[process])
        self._longest, self._latest = self._ranked(judged, self._longest, self._latest)
        super()._keep(part)

    def _ranked(self, judged: Judged, longest: list[_Row], latest: list[_Row]) -> tuple[list[_Row], list[_Row]]:
        """Both lists of exposed threads with those of some more lives."""
        exposed = np.flatnonzero(judged.verdict >= VERDICTS.index("exposed"))
        last = exposed[np.argsort(judged.lives["born_ns"][exposed], kind="stable")[-_KEPT:]]
        longest = sorted([*longest, *self._rows(judged, judged.worst(_KEPT))])[:_KEPT]
        latest = sorted([*latest, *self._rows(judged, last)], key=lambda row: -row.born_ns)[:_KEPT]
        return longest, latest

    def _rows(self, judged: Judged, places: Array) -> Iterator[_Row]:
        lives = judged.lives[places]
        return map(
            _Row._make,
            zip(
                (-judged.critical[places]).tolist(),
                (-judged.hits[places]).tolist(),
                (-judged.exposure_ns[places]).tolist(),
                *(lives[name].tolist() for name in ("born_ns", "pid", "tid", "process", "comm")),
                judged.policy[places].tolist(),
                judged.verdict[places].tolist(),
                (judged.exposed[places] & self.considered).tolist(),
                judged.ready[places].tolist(),
                strict=True,
            ),
        )


def _no_counts(processes: int) -> Array:
    """A row a process: its threads by verdict, then the exposure of those that were ready, in ns."""
    return np.zeros((processes, len(VERDICTS) + 1), np.int64)


def _grown(counts: Array, processes: int) -> Array:
    return np.concatenate([counts, _no_counts(max(processes - len(counts), 0))])


def _count_into(counts: Array, judged: Judged) -> None:
    process = judged.lives["process"]
    np.add.at(counts, (process, judged.verdict), 1)
    np.add.at(counts[:, -1], process[judged.ready], judged.exposure_ns[judged.ready])


def _processes(processes: Array, counts: Array, opened: Array, words: Sequence[str]) -> list[Process]:
    """The processes in which threads were born, the worst first (tables.badness)."""
    found = np.flatnonzero(counts[:, :-1].any(axis=1))
    rank = [*(VERDICTS.index(verdict) for verdict in BAD[:-1]), -1]  # the last is the exposure
    found = found[np.lexsort(-counts[found][:, rank[::-1]].T)[:_MOST_ROWS]]
    shown = []
    for place in found.tolist():
        comm, (*verdicts, exposure_ns) = int(processes["comm"][place]), counts[place].tolist()
        named = {verdict: verdicts[VERDICTS.index(verdict)] for verdict in BAD}
        shown.append(
            Process(
                comm=words[comm] if comm > 0 else "?",
                pid=int(processes["pid"][place]),
                born=sum(verdicts),
                open=int(opened[place]),
                exposure_ns=exposure_ns,
                **named,
            )
        )
    return shown


def _thread(row: _Row, words: Sequence[str]) -> Thread:
    return Thread(words[row.comm], row.tid, VERDICTS[row.verdict], -row.exposure_ns, row.signals, row.ready)
