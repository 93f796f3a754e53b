"""Collections of durations: exact while small, within the stated error beyond, and the same in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sigwindow.analysis import durations as module
from sigwindow.analysis.durations import RELATIVE_ERROR, Durations

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
# Small ones that are often equal, and up to 104 days.
values_ns = st.one_of(st.integers(0, 20), st.integers(0, 1 << 53), st.integers(0, 53).map(lambda bit: 1 << bit))
lists = st.lists(values_ns, max_size=60)

unhurried = settings(deadline=None)


def array(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def collected(*parts: list[int]) -> Durations:
    """One collection to which the parts were added one after the other."""
    of = Durations()
    for part in parts:
        of.add(array(part))
    return of


def merged(*parts: Durations) -> Durations:
    of = Durations()
    for part in parts:
        of.merge(part)
    return of


def true_summary(values: list[int]) -> dict[str, int | None]:
    """The summary by NumPy."""
    found: dict[str, int | None] = dict.fromkeys(["min", *QUANTILES, "max"])
    if values:
        found = {"min": min(values), "max": max(values)}
        for name, share in QUANTILES.items():
            found[name] = int(np.quantile(array(values), share, method="inverted_cdf"))
    return {"count": len(values), "total": sum(values), **found}


@contextmanager
def limit(distinct: int) -> Iterator[None]:
    """Round from so many distinct values on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_EXACT_VALUES", distinct)
        yield


def split(values: list[int], cuts: list[int]) -> list[list[int]]:
    bounds = [0, *sorted(cut % (len(values) + 1) for cut in cuts), len(values)]
    return [values[start:stop] for start, stop in pairwise(bounds)]


cut_lists = st.lists(st.integers(0, 60), max_size=5)


def test_nothing() -> None:
    assert Durations().summary() == true_summary([])
    assert merged(Durations(), collected([])).summary() == true_summary([])
    assert Durations().relative_error == 0


def test_known_values() -> None:
    told = collected([30, 10, 20, 20]).summary()
    assert told == {"count": 4, "min": 10, "p50": 20, "p90": 30, "p99": 30, "max": 30, "total": 80}


@unhurried
@given(lists, cut_lists)
def test_quantiles_are_exact(values: list[int], cuts: list[int]) -> None:
    of = collected(*split(values, cuts))
    assert of.summary() == true_summary(values)
    assert of.relative_error == 0


def test_many_values_are_exact_too() -> None:
    values = np.random.default_rng(1).lognormal(10, 2, 300_000).astype(np.int64)
    of = Durations()
    for part in np.array_split(values, 17):
        of.add(part)
    told = of.summary()
    assert [told[name] for name in QUANTILES] == np.quantile(
        values, list(QUANTILES.values()), method="inverted_cdf"
    ).tolist()
    assert (told["count"], told["total"]) == (300_000, int(values.sum()))


@unhurried
@given(lists, cut_lists, st.randoms(use_true_random=False), st.sampled_from([3, 10, 1 << 20]))
def test_order_and_split_change_nothing(values: list[int], cuts: list[int], random: object, distinct: int) -> None:
    with limit(distinct):
        expected = collected(values)
        shuffled = np.random.default_rng(len(values)).permutation(array(values)).tolist()
        parts = [collected(part) for part in split(shuffled, cuts)]
        of = merged(*reversed(parts))
        assert of.summary() == collected(*split(shuffled, cuts)).summary() == expected.summary()
        assert of.relative_error == expected.relative_error


def grouped(parts: list[Durations]) -> Durations:
    """Merged as a tree: neighbours first."""
    while len(parts) > 1:
        parts = [merged(*parts[place : place + 2]) for place in range(0, len(parts), 2)]
    return parts[0]


@unhurried
@given(st.lists(lists, min_size=1, max_size=6), st.sampled_from([3, 10, 1 << 20]), st.booleans())
def test_a_tree_of_merges_is_as_good_as_a_chain(parts: list[list[int]], distinct: int, looked_at: bool) -> None:
    with limit(distinct):
        collections = [collected(part) for part in parts]
        if looked_at:  # an answer in between changes nothing
            for of in collections:
                of.summary()
        chain, tree = merged(*collections), grouped(collections)
        assert tree.summary() == chain.summary()
        assert tree.relative_error == chain.relative_error


@unhurried
@given(lists)
def test_merging_leaves_the_other_as_it_was(values: list[int]) -> None:
    of, other = collected([1, 2, 3]), collected(values)
    of.merge(other)
    of.add(array([5]))
    assert other.summary() == true_summary(values)
    assert of.summary() == true_summary([1, 2, 3, *values, 5])


@unhurried
@given(st.lists(values_ns, min_size=5, max_size=200, unique=True), cut_lists)
def test_rounding_stays_within_the_stated_error(values: list[int], cuts: list[int]) -> None:
    with limit(4):
        of = collected(*split(values, cuts))
        told, true = of.summary(), true_summary(values)
        assert of.relative_error == RELATIVE_ERROR == 1 / 4096
    assert [told[name] for name in ("count", "min", "max", "total")] == [
        true[name] for name in ("count", "min", "max", "total")
    ]
    for name in QUANTILES:
        assert abs((told[name] or 0) - (true[name] or 0)) <= RELATIVE_ERROR * (true[name] or 0)


def test_values_of_few_bits_are_never_rounded() -> None:
    with limit(4):
        of = collected(list(range(4096)))
        assert [of.summary()[name] for name in QUANTILES] == [2047, 3686, 4055]


def test_the_limit_counts_distinct_values() -> None:
    with limit(4):
        of = collected([100_001, 100_003, 100_005, 100_007] * 9)
        assert of.relative_error == 0
        assert of.summary()["p50"] == 100_003
        of.add(array([100_009]))
        assert of.relative_error == RELATIVE_ERROR
        assert of.summary()["p50"] != 100_003
