"""The result tables as they are declared: what their columns mean, and in which order verdicts and threads stand.

The frames that the engine makes, the pages in docs/tables.md and the metadata of Parquet files are made of the
declarations below, or are tested against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

VERDICTS = ("unhandled", "masked", "exposed", "hit", "critical")  # in rising order
WORST_FIRST = VERDICTS[::-1]
BAD = WORST_FIRST[: -VERDICTS.index("exposed")]  # those that a gate may be about, the worst first


class Column(NamedTuple):
    """One column of a result table: its type in Arrow, and its meaning."""

    name: str
    arrow: str
    meaning: str


THREADS = (
    Column("pid", "int32", "process id, as the tracing host sees it"),
    Column("tid", "int32", "thread id, as the tracing host sees it"),
    Column("comm", "string", "the thread's last name"),
    Column("born_ns", "int64", "when it was born"),
    Column("ready_ns", "int64", "when it was ready, by the policy; empty for an unready thread"),
    Column("end_ns", "int64", "when it ended, or the trace did"),
    Column(
        "ended_by",
        "string",
        "what closed its setup window: `ready`, `exit` (it ended, or its process ran another program) or `trace`",
    ),
    Column("birth_mask", "uint64", "the signals that were blocked for it at birth"),
    Column("setup_ns", "int64", "length of its setup window; for an unready thread, what was seen of it"),
    Column("exposure_ns", "int64", "time in the window in which at least one considered signal was exposed"),
    Column("exposed_signals", "uint64", "the considered signals that were exposed at any time in the window"),
    Column("first_exposed_ns", "int64", "when exposure began; empty if never"),
    Column("hits", "int64", "handlers of considered signals that ran on it in the window"),
    Column("critical_hits", "int64", "those of them that asked for the alternate stack while the thread had none"),
    Column(
        "deferred",
        "int64",
        "signals sent to the thread in the window while it blocked them, delivered after: what the mask saved",
    ),
    Column("teardown_exposure_ns", "int64", "exposure between the last removal of its alternate stack and its end"),
    Column("creator_tid", "int32", "the thread that created it"),
    Column("creator_stack", "string", "that thread's user stack at the birth, folded, where `--stacks` asked for it"),
    Column("policy", "string", "the readiness policy that was used"),
    Column("verdict", "string", "`critical`, `hit`, `exposed`, `masked` or `unhandled`; ordered, the worst last"),
    Column("ready", "bool", "it became ready while the trace ran"),
    Column("uncertain", "bool", "records were lost while it was in its window: a clean verdict can't be trusted"),
)
HITS = (
    Column("pid", "int32", "the thread's process id"),
    Column("tid", "int32", "its thread id"),
    Column("born_ns", "int64", "when it was born"),
    Column("time_ns", "int64", "when the signal was delivered"),
    Column("signal", "uint8", "its number"),
    Column("critical", "bool", "the handler asked for the alternate stack while the thread had none"),
)
BY_SIGNAL = (
    Column("signal", "int64", "its number"),
    Column("name", "string", "its name"),
    Column("class", "string", "`async`, `internal` or `synchronous`"),
    Column("threads", "int64", "threads that were exposed to it"),
    Column("exposure_ns", "int64", "how long the ready ones were, together"),
    Column("hits", "int64", "handlers that ran in a window"),
    Column("critical", "int64", "those of them that asked for the alternate stack while the thread had none"),
)
EXPOSURE = (
    Column("pid", "int32", "process id"),
    Column("signals", "uint64", "the signals that had a handler and were not blocked, considered or not"),
    Column("exposure_ns", "int64", "for how long, over all ready threads"),
)
TRAFFIC = (
    Column("signal", "int64", "its number"),
    Column("name", "string", "its name"),
    Column("class", "string", "`async`, `internal` or `synchronous`"),
    Column("generated", "int64", "how often it was sent"),
    Column("held_back", "int64", "of these, how often to a thread itself that blocked it then"),
    Column("delivered", "int64", "how often a handler took it"),
)
LOSSES = (
    Column("from_ns", "int64", "after which time"),
    Column("to_ns", "int64", "before which time"),
    Column("count", "int64", "how many events were lost"),
)
TABLES = {
    "threads": THREADS,
    "hits": HITS,
    "by_signal": BY_SIGNAL,
    "exposure": EXPOSURE,
    "traffic": TRAFFIC,
    "losses": LOSSES,
}

# The worst thread is the one with the worst verdict, of those the one with most hits, then the longest exposed, then
# the earliest. False: the largest first.
_THREADS_WORST_FIRST = {
    **dict.fromkeys(("verdict", "critical_hits", "hits", "exposure_ns"), False),
    **dict.fromkeys(("born_ns", "pid", "tid"), True),
}
_PROCESSES_WORST_FIRST = (*BAD[:-1], "exposure_ns")  # the largest first


def names(table: tuple[Column, ...]) -> list[str]:
    """The names of a table's columns."""
    return [column.name for column in table]


def process_key(table: pd.DataFrame) -> list[str]:
    """The columns that tell processes apart: of several traces the same pid in two is two processes."""
    return ["trace", "pid"] if "trace" in table else ["pid"]


def thread_key(table: pd.DataFrame) -> list[str]:
    """The columns that tell born threads apart."""
    return [*process_key(table), "tid", "born_ns"]


def worst_first(threads: pd.DataFrame) -> pd.DataFrame:
    """Threads by verdict, hits, exposure and birth, the worst first."""
    return threads.sort_values(
        list(_THREADS_WORST_FIRST), ascending=list(_THREADS_WORST_FIRST.values()), ignore_index=True
    )


def badness(process: Mapping[str, Any]) -> tuple[int, ...]:
    """What to sort the processes of a summary by to have the worst first: critical threads, hit ones, exposure."""
    return tuple(-process[name] for name in _PROCESSES_WORST_FIRST)


def worst_of(counts: Mapping[str, int]) -> str:
    """The worst verdict that any thread has, by the counts of a summary; `unhandled` where there is no thread."""
    return next((verdict for verdict in WORST_FIRST if counts[verdict]), VERDICTS[0])
