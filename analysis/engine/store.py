"""Lives that ended: parts of their records, in memory, and in a file once they are many."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from math import prod
from typing import IO, Any, NamedTuple

import numpy as np

from .records import Array

_MEMORY_BYTES = 3 << 28  # lives beyond this are kept in a file


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


class Store:
    """Parts of lives: in memory, and in a file that is gone with this once they are many."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._filed: list[list[tuple[np.dtype[Any], tuple[int, ...]]]] = []  # types and shapes of each part

    def add(self, part: Part) -> None:
        """Put a part aside."""
        self._parts.append(part)
        self._bytes += part.nbytes
        if self._bytes > _MEMORY_BYTES:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="sigwindow-")  # noqa: SIM115  lives as long as this
                weakref.finalize(self, self._file.close)
            self._file.seek(0, 2)
            for waiting in self._parts:
                self._filed.append([(array.dtype, array.shape) for array in waiting])
                for array in waiting:
                    array.tofile(self._file)
            self._parts, self._bytes = [], 0

    def parts(self) -> Parts:
        """What was put aside so far."""
        return Parts(self, len(self._filed), tuple(self._parts))

    def filed(self, count: int) -> Iterator[Part]:
        """The first `count` parts of those that are in the file."""
        at = 0
        for arrays in self._filed[:count]:
            assert self._file
            self._file.seek(at)
            part = Part(*(np.fromfile(self._file, dtype, prod(shape)).reshape(shape) for dtype, shape in arrays))
            at = self._file.tell()
            yield part


class Parts:
    """The parts that a store had at one moment; may be gone through again and again."""

    def __init__(self, store: Store, filed: int, in_memory: tuple[Part, ...]) -> None:
        self._store, self._filed, self._in_memory = store, filed, in_memory

    def __iter__(self) -> Iterator[Part]:
        yield from self._store.filed(self._filed)
        yield from self._in_memory
