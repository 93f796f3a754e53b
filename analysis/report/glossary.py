"""The words of the page, each with its meaning: what docs/model.md says, in a page that needs no other."""

from __future__ import annotations

import re
from typing import NamedTuple

from sigwindow.analysis.question import AUTO, MOMENTS
from sigwindow.analysis.tables import MEANINGS, WORST_FIRST

VERDICTS = {verdict: MEANINGS[verdict] for verdict in WORST_FIRST}
WORDS = {
    "birth": "the kernel makes the thread a member of its process: from here on a signal can be directed at it",
    "mask": "the set of signals blocked for a thread",
    "handled set": "the signals for which the process has a handler of its own at a moment: neither default nor "
    "ignored",
    "ready": "the thread's handler setup is complete, by a readiness policy",
    "setup window": "from birth until ready",
    "exposed to a signal": "in the window, the signal is handled and not in the mask",
    "exposure": "the time in the window in which at least one considered signal is exposed: a union, not a sum",
    "hits": "a considered signal delivered to a handler on the thread in its window",
    "critical hits": "a hit whose handler asked for the alternate stack (SA_ONSTACK) while the thread had none",
    "unready": "the thread ended, or the trace did, before it was ready: its window is cut off there",
    "uncertain": "records were lost while the thread was in its window: a clean verdict on it is not certain",
}
POLICIES = {
    **{", ".join(dict.fromkeys((value, value.partition(":")[0]))): moment for value, moment in MOMENTS.items()},
    "auto": AUTO,
}
CLASSES = {
    "synchronous": "SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS: the thread's own faults",
    "internal": "32 and 33, the C library's own",
    "async": "the rest",
}
COLUMNS = {
    "verdict, worst": "what can be said of a thread, the worst first; of a trace, the worst of its threads",
    "share": "of the threads that were born; 0.0% is none, and 100.0% is all",
    "born": "threads that were born while the trace ran",
    "p50, p90, p99": "half, 90% and 99% of the threads had at most this",
    "longest": "of the ready threads that were exposed, the one that was so for the longest time",
    "considered": "whether the signal counts for verdicts, exposure and hits; --signals chooses",
    "class": "whose signal it is: synchronous, internal or async",
    "threads exposed": "threads that were exposed to the signal, whether it counts or not",
    "sent": "how often it was sent to a traced thread or process, in the whole trace",
    "held back": "of these, how often to a thread itself that blocked it then",
    "handled": "how often a handler took it",
    "ready by": "the readiness policy that was used for the process",
    "setup": "the length of the setup window; of a thread that was never ready, what was seen of it",
    "open after": "how long after its birth a considered signal could first reach the thread",
    "open to": "the considered signals that could reach it in its window",
    "created in": "the creator's stack at the birth, the outermost function first",
    "lost": "events that were lost",
    "rate": "signals a second to an exposed thread: given, estimated from the hits, or bounded where there was none",
    "per exposed second": "hits to be expected in a second of exposure: the rate",
    "hits per birth": "hits to be expected of one birth",
    "chance": "of at least one hit in so many births",
    "first hit after": "how long until the first hit, on average, at the pace at which threads were born",
}
_GROUPS = (
    ("Verdicts: a thread", "verdict", VERDICTS),
    ("Words", "word", WORDS),
    ("Readiness policies: a thread is ready at", "policy", POLICIES),
    ("Classes of signals", "class", CLASSES),
    ("Columns", "column", COLUMNS),
)


class Entry(NamedTuple):
    """What is said of a word, or of some that are explained together. anchor: of the page."""

    words: str
    meaning: str
    anchor: str


GROUPS = {
    title: [Entry(words, meaning, re.sub(r"\W+", "-", f"{kind} {words}")) for words, meaning in group.items()]
    for title, kind, group in _GROUPS
}
_ANCHORS: dict[str, str] = {}  # `mask` is the policy, where it stands in a table
for _entry in (entry for title in sorted(GROUPS, key="Words".__ne__) for entry in GROUPS[title]):
    _ANCHORS |= dict.fromkeys(_entry.words.split(", "), _entry.anchor)


def anchor(word: str) -> str:
    """The anchor of a word's explanation on the page; empty for a word that has none."""
    return _ANCHORS.get(word, "")
