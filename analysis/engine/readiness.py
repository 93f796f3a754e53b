"""When a thread is ready, under every policy of `question.POLICIES`, in compiled functions.

A policy whose moment shows in an event of the thread's own has its condition in `_moments`: a stretch of the life
begins there. One that depends on what the thread does later picks among the stretches in `known_at_end`.
"""

from __future__ import annotations

from typing import Any

from sigwindow.analysis.question import POLICIES

from .compiled import inlined
from .records import (
    ALTSTACK,
    BLOCKS,
    BY_ALTSTACK,
    BY_MASK,
    BY_STEADY,
    BY_SYMBOL,
    HAS_STACK,
    IS_MASK,
    LAST_STEPS,
    MARK,
    MASK,
    UNKNOWN,
    Array,
)


@inlined
def makes_ready(thread: Any, ready: Array, place: int, kind: int, mask: Any, altstack: bool) -> int:
    """The policies (bit p: POLICIES[p]) under which an own event makes a thread ready that was not."""
    makes = _moments(thread, kind, mask, altstack)
    if makes:
        for policy in range(len(POLICIES)):
            if ready[place, policy] >= 0:
                makes &= ~(1 << policy)
    return makes


@inlined
def _moments(thread: Any, kind: int, mask: Any, altstack: bool) -> int:
    """The policies of which this event is a moment, be it the first one or not."""
    if kind == ALTSTACK and altstack:
        return 1 << BY_ALTSTACK
    if kind == MASK and not _restores(thread, mask):
        return 1 << BY_MASK
    if kind == MARK:
        return 1 << BY_SYMBOL
    return 0


@inlined
def known_at_end(
    ready: Array, segments: Array, thread: Any, masks: Array, kinds: Array, place: int, alone: bool
) -> None:
    """Find when the thread was ready under the policies for which only its whole life can tell.

    alone: it ended by itself.
    """
    ready[place, BY_STEADY] = _steady(segments, thread, masks, kinds, place, alone)


@inlined
def _restores(thread: Any, mask: Any) -> bool:
    """Whether setting `mask` may be the C library's own restore, not the thread's doing.

    It is the first set of a thread that was born with everything blocked, giving it the mask that its creator had.
    """
    creators = thread["creator_settled"] == UNKNOWN or thread["creator_settled"] == mask
    return thread["masks"] == 0 and creators and thread["birth_blocked"]


@inlined
def keep_step(thread: Any, masks: Array, kinds: Array, place: int, is_mask: bool, blocks: bool) -> None:
    """Remember what the thread has set."""
    at = (thread["masks"] + thread["stacks"]) % LAST_STEPS
    masks[place, at] = thread["mask"]
    kind = IS_MASK if is_mask else 0
    kinds[place, at] = kind | (HAS_STACK if thread["altstack"] else 0) | (BLOCKS if blocks else 0)
    if is_mask:
        thread["masks"] += 1
    else:
        thread["stacks"] += 1


@inlined
def _steady(segments: Array, thread: Any, masks: Array, kinds: Array, place: int, alone: bool) -> int:
    """The first segment with the mask and the stack that the thread then lives with, or -1.

    alone: it ended by itself; what it did last (block all signals, remove the stack) is then teardown.
    """
    birth_counts = not thread["birth_blocked"] or (thread["masks"] == 0 and thread["stacks"] > 0)
    left = thread["masks"] + thread["stacks"]
    if alone:
        for step in range(3):  # a final block, a stack removed, a block before that
            at = (left - 1) % LAST_STEPS
            if left <= 0:
                break
            if step == 1:
                if kinds[place, at] & (IS_MASK | HAS_STACK):
                    break
                left -= 1
            elif kinds[place, at] & IS_MASK and kinds[place, at] & BLOCKS:
                left -= 1
    if left > 0:
        at = (left - 1) % LAST_STEPS
        mask, altstack = masks[place, at], kinds[place, at] & HAS_STACK != 0
    elif birth_counts:
        mask, altstack = thread["birth_mask"], thread["birth_altstack"]
    else:
        return -1
    at = thread["head"]
    while at >= 0:
        segment = segments[at]
        counts = birth_counts if at == thread["head"] else segment["step"]
        if counts and segment["mask"] == mask and segment["altstack"] == altstack:
            return at
        at = segment["next"]
    return -1
