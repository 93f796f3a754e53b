"""What the engine knows at one moment: all that an answer is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sigwindow.probes import signals as sig

from .records import Array
from .store import Part, Parts


@dataclass(frozen=True)
class Snapshot:
    """What the engine knows at one moment; what it is fed later changes nothing here.

    policies: those that windows were kept under, as places in POLICIES. considered: the signals that count, a set word.
    past: lives that ended. living: those that last, as if the trace ended here. processes (PROCESS): records name them
    by their places. hits (HIT), sums (SUM): of both. known (KNOWN): threads from before. counts: (signal, sent, held
    back, taken by a handler). losses (LOSS). comms, stacks: the strings that records name by number.
    start_ns, end_ns: the times of the first and the last event. events: how many there were. ended: the tracer closed
    the trace itself. numbering: what the signals are called.
    """

    policies: tuple[int, ...]
    considered: np.uint64
    past: Parts
    living: Sequence[Part]
    processes: Array
    hits: Sequence[Array]
    sums: Array
    known: Array
    counts: Array
    losses: Sequence[Array]
    comms: Sequence[str]
    stacks: Sequence[str]
    start_ns: int
    end_ns: int
    events: int
    ended: bool
    numbering: sig.Numbering

    def lives(self) -> Iterator[Part]:
        """All lives, part by part."""
        yield from self.past
        yield from self.living
