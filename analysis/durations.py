"""A collection of durations that can be added to and merged, exact as long as it is small."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_EXACT_VALUES = 1 << 20  # distinct values kept as they are
_WAITING_VALUES = 1 << 22  # counted together, which is cheaper than part by part
_SIGNIFICANT_BITS = 12  # of values beyond that many
RELATIVE_ERROR = 2.0**-_SIGNIFICANT_BITS


class Durations:
    """Durations in ns with their counts: exact up to a million distinct values, then to 12 significant bits.

    The number of distinct values only grows, and rounding a rounded value changes nothing: in whatever order
    collections are added and merged, the result is the same.
    """

    def __init__(self) -> None:
        self._values = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._waiting: list[NDArray[np.int64]] = []  # not yet counted
        self._waiting_values = 0
        self._rounded = False
        self._min: int | None = None
        self._max: int | None = None
        self.total = 0
        self.count = 0

    def add(self, durations: NDArray[np.int64]) -> None:
        """Take in durations, in any order."""
        if len(durations):
            self._note(len(durations), int(durations.sum()), int(durations.min()), int(durations.max()))
            self._waiting.append(durations)
            self._waiting_values += len(durations)
            if self._waiting_values > _WAITING_VALUES:
                self._gather()

    def merge(self, other: Durations) -> None:
        """Take in another collection."""
        other._gather()
        if other._min is not None and other._max is not None:
            self._note(other.count, other.total, other._min, other._max)
            self._rounded |= other._rounded
            self._gather()
            self._include(other._values, other._counts)

    @property
    def relative_error(self) -> float:
        """How far a quantile may be from the true one, as a share of it: 0, or RELATIVE_ERROR."""
        self._gather()
        return RELATIVE_ERROR if self._rounded else 0.0

    def summary(self) -> dict[str, int | None]:
        """Count, order statistics in ns (a value that occurs, never between two) and total.

        Quantiles are the inverse of the empirical distribution function (Hyndman and Fan 1996, type 1).
        """
        self._gather()
        reached = np.cumsum(self._counts)
        found: dict[str, int | None] = {"min": self._min}
        for name, percent in (("p50", 50), ("p90", 90), ("p99", 99)):
            rank = (self.count * percent + 99) // 100
            found[name] = int(self._values[np.searchsorted(reached, rank)]) if self.count else None
        return {"count": self.count, **found, "max": self._max, "total": self.total}

    def _note(self, count: int, total: int, least: int, most: int) -> None:
        self.count += count
        self.total += total
        self._min = least if self._min is None else min(self._min, least)
        self._max = most if self._max is None else max(self._max, most)

    def _gather(self) -> None:
        """Count what waits."""
        if self._waiting:
            values, counts = counted(np.concatenate(self._waiting))
            self._waiting, self._waiting_values = [], 0
            self._include(values, counts)

    def _include(self, values: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        values, counts = _added_up(np.append(self._values, values), np.append(self._counts, counts))
        self._rounded |= len(values) > _EXACT_VALUES
        if self._rounded:
            values, counts = _added_up(_round(values), counts)
        self._values, self._counts = values, counts


def counted(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct integers, ascending, and how often each occurs. By hashing: few of many are distinct."""
    found = pc.value_counts(pa.array(values))
    distinct, counts = (found.field(name).to_numpy() for name in ("values", "counts"))
    order = np.argsort(distinct)
    return distinct[order], counts[order]


def _added_up(values: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values, ascending, with their counts added up."""
    if not len(values):
        return values, counts
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return values[starts], np.add.reduceat(counts, starts)


def _round(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each value as the middle of all that share its first bits; the middle is rounded to itself."""
    _, exponents = np.frexp(values.astype(np.float64))
    bits: NDArray[Any] = np.maximum(exponents.astype(np.int64) - _SIGNIFICANT_BITS, 0)
    middle: NDArray[np.int64] = (values >> bits << bits) + (1 << bits >> 1)
    return middle
