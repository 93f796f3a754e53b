"""Pools of records, in compiled functions: maps to their places, and lists of the free ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import inlined
from .records import Array

_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / phi: Fibonacci hashing (Knuth, TAOCP 3, 6.4)

# Maps: open addressing with linear probing.


@inlined
def _home(table: Array, key: int, word: Any) -> Any:
    """Where a key would best be. Ids in a row lie in a row: the kernel hands them out so."""
    mixed = (np.uint64(key >> 22) ^ word) * _GOLDEN
    return np.int64((np.uint64(key) + (mixed ^ mixed >> np.uint64(32))) & np.uint64(len(table) - 1))


@inlined
def entry_of(table: Array, key: int, word: Any) -> int:
    """Where `key` with `word` is in a map, or the free entry where it belongs."""
    last = len(table) - 1
    at = _home(table, key, word)
    while table[at]["value"] >= 0 and (table[at]["key"] != key or table[at]["word"] != word):
        at = (at + 1) & last
    return at


@inlined
def put(table: Array, at: int, key: int, word: Any, value: int) -> None:
    """Write an entry of a map."""
    table[at]["key"] = key
    table[at]["word"] = word
    table[at]["value"] = value


@inlined
def remove(table: Array, hole: int) -> None:
    """Free an entry, and move up those behind it that it kept from their places (Knuth, TAOCP 3, 6.4, algorithm R)."""
    last = len(table) - 1
    at = (hole + 1) & last
    while table[at]["value"] >= 0:
        home = _home(table, table[at]["key"], table[at]["word"])
        if (at - home) & last >= (at - hole) & last:
            put(table, hole, table[at]["key"], table[at]["word"], table[at]["value"])
            hole = at
        at = (at + 1) & last
    table[hole]["value"] = -1


@inlined
def rehash(old: Array, new: Array) -> None:
    """Put what is in a map into a larger one."""
    for entry in old:
        if entry["value"] >= 0:
            put(new, entry_of(new, entry["key"], entry["word"]), entry["key"], entry["word"], entry["value"])


# Lists of free records go through their `next`.


@inlined
def new_record(used: Array, pool: Array, count: int, free: int) -> int:
    """The place of a record to use, from the list of free ones or at the end of the pool."""
    place = used[free]
    if place >= 0:
        used[free] = pool[place]["next"]
    else:
        place = used[count]
        used[count] += 1
    return place
