"""The result tables as they are declared: what their columns mean, and in which order verdicts and threads stand.

The frames that the engine makes, the pages in docs/tables.md and the metadata of Parquet files are made of the
declarations below, or are tested against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MEANINGS = {  # of the verdicts, in rising order
    "unhandled": "no considered signal had a handler",
    "masked": "a signal had a handler, and none could reach the thread before it was ready",
    "exposed": "could have run a handler before it was ready",
    "hit": "ran a handler before it was ready",
    "critical": "ran a handler that asked for the alternate stack while the thread had none",
}
VERDICTS = tuple(MEANINGS)
WORST_FIRST = VERDICTS[::-1]
BAD = WORST_FIRST[: -VERDICTS.index("exposed")]  # those that a gate may be about, the worst first


class Type(NamedTuple):
    """What a column holds: its type in Arrow and in pandas, and its unit.

    unit: `ns`; `signal`, a number; `set`, of signals, of which bit n-1 is signal n; else empty.
    """

    arrow: str
    pandas: str
    unit: str = ""


class Column(NamedTuple):
    """One column of a result table: what it holds, and its meaning."""

    name: str
    type: Type
    meaning: str


ID = Type("int32", "int32")
TEXT = Type("string", "str")
FLAG = Type("bool", "bool")
COUNT = Type("int64", "int64")
NS = Type("int64", "int64", "ns")
NS_IF_ANY = Type("int64", "Int64", "ns")
SIGNAL = Type("int64", "int64", "signal")
SMALL_SIGNAL = Type("uint8", "uint8", "signal")  # where there may be many rows
SIGNALS = Type("uint64", "uint64", "set")
VERDICT = Type("string", "category")

THREADS = (
    Column("pid", ID, "process id, as the tracing host sees it"),
    Column("tid", ID, "thread id, as the tracing host sees it"),
    Column("comm", TEXT, "the thread's last name"),
    Column("born_ns", NS, "when it was born"),
    Column("ready_ns", NS_IF_ANY, "when it was ready, by the policy; empty for an unready thread"),
    Column("end_ns", NS, "when it ended, or the trace did"),
    Column(
        "ended_by",
        TEXT,
        "what closed its setup window: `ready`, `exit` (it ended, or its process ran another program) or `trace`",
    ),
    Column("birth_mask", SIGNALS, "the signals that were blocked for it at birth"),
    Column("setup_ns", NS, "length of its setup window; for an unready thread, what was seen of it"),
    Column("exposure_ns", NS, "time in the window in which at least one considered signal was exposed"),
    Column("exposed_signals", SIGNALS, "the considered signals that were exposed at any time in the window"),
    Column("first_exposed_ns", NS_IF_ANY, "when exposure began; empty if never"),
    Column("hits", COUNT, "handlers of considered signals that ran on it in the window"),
    Column("critical_hits", COUNT, "those of them that asked for the alternate stack while the thread had none"),
    Column(
        "deferred",
        COUNT,
        "signals sent to the thread in the window while it blocked them, delivered after: what the mask saved",
    ),
    Column("teardown_exposure_ns", NS, "exposure between the last removal of its alternate stack and its end"),
    Column("creator_tid", ID, "the thread that created it"),
    Column("creator_stack", TEXT, "that thread's user stack at the birth, folded, where `--stacks` asked for it"),
    Column("policy", TEXT, "the readiness policy that was used"),
    Column("verdict", VERDICT, f"one of {', '.join(f'`{verdict}`' for verdict in VERDICTS)}; ordered, the worst last"),
    Column("ready", FLAG, "it became ready while the trace ran"),
    Column("uncertain", FLAG, "records were lost while it was in its window: a clean verdict can't be trusted"),
)
HITS = (
    Column("pid", ID, "the thread's process id"),
    Column("tid", ID, "its thread id"),
    Column("born_ns", NS, "when it was born"),
    Column("time_ns", NS, "when the signal was delivered"),
    Column("signal", SMALL_SIGNAL, "its number"),
    Column("critical", FLAG, "the handler asked for the alternate stack while the thread had none"),
)
BY_SIGNAL = (
    Column("signal", SIGNAL, "its number"),
    Column("name", TEXT, "its name"),
    Column("class", TEXT, "`async`, `internal` or `synchronous`"),
    Column("threads", COUNT, "threads that were exposed to it"),
    Column("exposure_ns", NS, "how long the ready ones were, together"),
    Column("hits", COUNT, "handlers that ran in a window"),
    Column("critical", COUNT, "those of them that asked for the alternate stack while the thread had none"),
)
EXPOSURE = (
    Column("pid", ID, "process id"),
    Column("signals", SIGNALS, "the signals that had a handler and were not blocked, considered or not"),
    Column("exposure_ns", NS, "for how long, over all ready threads"),
)
TRAFFIC = (
    Column("signal", SIGNAL, "its number"),
    Column("name", TEXT, "its name"),
    Column("class", TEXT, "`async`, `internal` or `synchronous`"),
    Column("generated", COUNT, "how often it was sent"),
    Column("held_back", COUNT, "of these, how often to a thread itself that blocked it then"),
    Column("delivered", COUNT, "how often a handler took it"),
)
BY_PROCESS = (
    Column("pid", ID, "process id"),
    Column("comm", TEXT, "the name of its first thread, or where that is not known the commonest of its born ones"),
    Column("policy", TEXT, "the readiness policy that was used"),
    *(Column(verdict, COUNT, "threads with that verdict") for verdict in VERDICTS),
    Column("exposure_ns", NS, "time in which a considered signal was exposed, of all ready threads together"),
)
EXPOSED = (  # one row a circumstance under which threads were exposed
    Column("policy", TEXT, "the readiness policy that was used"),
    Column("verdict", TEXT, "their verdict"),
    Column("ready", FLAG, "they became ready while the trace ran"),
    Column("opened", TEXT, "since when they were open, to what: one of totals.OPENED"),
    Column("signals", TEXT, "the names of the considered signals that they were open to, by spaces"),
    Column("threads", COUNT, "how many there are"),
)
KNOWN = (
    Column("pid", ID, "process id, as the tracing host sees it"),
    Column("tid", ID, "thread id, as the tracing host sees it"),
    Column("comm", TEXT, "the thread's last name"),
    Column("mask", SIGNALS, "the signals that it blocked when it was last seen"),
    Column("handled", SIGNALS, "the signals that its process handled then"),
)
LOSSES = (
    Column("from_ns", NS, "after which time"),
    Column("to_ns", NS, "before which time"),
    Column("count", COUNT, "how many events were lost"),
)
TABLES = {
    "threads": THREADS,
    "hits": HITS,
    "by_signal": BY_SIGNAL,
    "exposure": EXPOSURE,
    "traffic": TRAFFIC,
    "known": KNOWN,
    "losses": LOSSES,
}

# The worst thread is the one with the worst verdict, of those the one with most hits, then the longest exposed, then
# the earliest. False: the largest first.
_THREADS_WORST_FIRST = {
    **dict.fromkeys(("verdict", "critical_hits", "hits", "exposure_ns"), False),
    **dict.fromkeys(("born_ns", "pid", "tid"), True),
}
# The worst process, or group of threads, has most critical threads, then most hit ones, then the longest exposure; the
# worst signal most critical hits, hits, exposure, threads.
_GROUPS_WORST_FIRST = (*BAD[:-1], "exposure_ns")
_SIGNALS_WORST_FIRST = ("critical", "hits", "exposure_ns", "threads")


def names(table: Sequence[Column]) -> list[str]:
    """The names of a table's columns."""
    return [column.name for column in table]


def verdict_type() -> pd.CategoricalDtype:
    """The type of a column of verdicts in pandas: their names, which compare and sort by how bad they are."""
    import pandas as pd

    return pd.CategoricalDtype(list(VERDICTS), ordered=True)


def framed(
    table: Sequence[Column], data: Mapping[str, Any] | NDArray[Any] | Sequence[Sequence[Any]] = ()
) -> pd.DataFrame:
    """A result table with the declared columns and types; data: its columns by their names, records, or its rows."""
    import pandas as pd

    columns = data if isinstance(data, Sequence) else {name: data[name] for name in names(table)}
    types = {of.name: verdict_type() if of.type is VERDICT else of.type.pandas for of in table}
    return pd.DataFrame(columns, columns=names(table)).astype(types)


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


def groups_worst_first(groups: pd.DataFrame) -> pd.DataFrame:
    """The table of `statistics.by`, ranked as processes are."""
    by = [{"exposure_ns": "exposure_total_ns"}.get(name, name) for name in _GROUPS_WORST_FIRST]
    return groups.sort_values(by, ascending=False, kind="stable")


def badness(process: Mapping[str, Any]) -> tuple[int, ...]:
    """What to sort the processes of a summary by to have the worst first: critical threads, hit ones, exposure."""
    return tuple(-process[name] for name in _GROUPS_WORST_FIRST)


def badness_of_signal(signal: Mapping[str, Any]) -> tuple[int, ...]:
    """What to sort the signals of a summary by to have the worst first: critical hits, hits, exposure, threads."""
    return tuple(-signal[name] for name in _SIGNALS_WORST_FIRST)


def worst_of(counts: Mapping[str, int]) -> str:
    """The worst verdict that any thread has, by the counts of a summary; `unhandled` where there is no thread."""
    return next((verdict for verdict in WORST_FIRST if counts[verdict]), VERDICTS[0])
