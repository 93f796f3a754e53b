"""The window engine on small traces whose tables are known: a trace, the call, what is expected."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from makers import batch, born, event

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.summary import summarise, to_json
from sigwindow.analysis.tables import TABLES, VERDICT, VERDICTS
from sigwindow.probes import events
from sigwindow.probes.errors import InputError, UsageError
from sigwindow.probes.signals import ALL, SA_ONSTACK, SA_RESETHAND, UNBLOCKABLE, number, word_of
from sigwindow.probes.traceinfo import TraceInfo

EVERYTHING = ALL & ~UNBLOCKABLE
PROF, USR1 = number("PROF"), number("USR1")
THREAD = {"pid": 100, "tid": 101}
PARENT = {"pid": 100, "tid": 100}
HANDLER = {"disposition": events.DISPOSITION_HANDLER}
INFO = TraceInfo(backend="bcc", os="Linux", kernel="6.18", host="h")


def analysis(*rows: dict[str, Any], ready: str = "auto", signals: str = "async") -> Analysis:
    windows = Windows(Question(signals=signals), every_policy=True)
    windows.feed(batch(*rows))
    return windows.result(ready)


def only(of: Analysis, *columns: str) -> tuple[Any, ...]:
    """The named columns of the one thread."""
    assert len(of.threads) == 1
    return tuple(of.threads[column].tolist()[0] for column in columns)


WINDOW = ("verdict", "setup_ns", "exposure_ns", "ended_by", "policy")
# As measured (facts of Linux 6.18): what each runtime does between birth and ready.
RUNTIMES = {
    "go without cgo: stack, then unblock": (
        [born(1000, EVERYTHING), event(1070, "altstack", mask=EVERYTHING, altstack=1), event(1071, "mask", altstack=1)],
        ("masked", 70, 0, "ready", "altstack"),
    ),
    "ruby: unblock, then stack": (
        [born(1000, EVERYTHING), event(1159, "mask"), event(1162, "altstack", altstack=1)],
        ("exposed", 162, 3, "ready", "altstack"),
    ),
    "raw clone: nothing blocked, then stack": (
        [born(1000), event(1030, "altstack", altstack=1)],
        ("exposed", 30, 30, "ready", "altstack"),
    ),
    "cpython: the C library unblocks": (
        [born(1000, EVERYTHING), event(1040, "mask"), event(1500, "exit")],
        ("masked", 40, 0, "ready", "steady"),
    ),
    "nginx's pool: blocks by itself, too late": (
        [born(1000, EVERYTHING), event(1040, "mask"), event(1055, "mask", mask=word_of([PROF])), event(1500, "exit")],
        ("exposed", 55, 15, "ready", "steady"),
    ),
    "nothing handled": (
        [born(1000, handled=0), event(1030, "altstack", altstack=1)],
        ("unhandled", 30, 0, "ready", "altstack"),
    ),
}


@pytest.mark.parametrize(("trace", "expected"), RUNTIMES.values(), ids=RUNTIMES.keys())
def test_runtimes(trace: list[dict[str, Any]], expected: tuple[Any, ...]) -> None:
    assert only(analysis(*trace), *WINDOW) == expected


HIT = ("verdict", "hits", "critical_hits")
DELIVERIES = {
    "a handler on the ordinary stack": (HANDLER, ("hit", 1, 0)),
    "a handler that wants the missing stack": ({**HANDLER, "sa_flags": SA_ONSTACK}, ("critical", 1, 1)),
    "ignored": ({"disposition": events.DISPOSITION_IGNORE}, ("exposed", 0, 0)),
    "default action": ({"disposition": events.DISPOSITION_DEFAULT}, ("exposed", 0, 0)),
    "after the window": ({**HANDLER, "time_ns": 1040, "altstack": 1}, ("exposed", 0, 0)),
    "a signal that does not count": ({**HANDLER, "signal": number("SEGV")}, ("exposed", 0, 0)),
}


@pytest.mark.parametrize(("delivery", "expected"), DELIVERIES.values(), ids=DELIVERIES.keys())
def test_hits(delivery: dict[str, Any], expected: tuple[Any, ...]) -> None:
    trace = [born(1000), event(1030, "altstack", altstack=1), event(1010, "deliver") | {"signal": PROF} | delivery]
    assert only(analysis(*trace), *HIT) == expected


def test_a_hit_is_listed_with_its_thread() -> None:
    of = analysis(born(1000), event(1010, "deliver", signal=PROF, sa_flags=SA_ONSTACK, **HANDLER), ready="altstack")
    assert of.hits.to_dict("records") == [
        {"pid": 100, "tid": 101, "born_ns": 1000, "time_ns": 1010, "signal": PROF, "critical": True}
    ]


@pytest.mark.parametrize(
    ("ready", "ready_ns"),
    [("altstack", 1030), ("mask", 1040), ("steady", 1040), ("symbol:runtime.minit", 1050), ("auto", 1030)],
)
def test_one_trace_under_every_policy(ready: str, ready_ns: int) -> None:
    of = analysis(
        event(900, "snapshot", **PARENT, handled=word_of([PROF])),
        event(950, "mask", **PARENT, mask=EVERYTHING),
        born(1000, EVERYTHING),
        event(1010, "mask"),  # the C library's restore: the creator's mask before it blocked everything
        event(1030, "altstack", altstack=1),
        event(1040, "mask", mask=word_of([USR1]), altstack=1),
        event(1050, "mark", mask=word_of([USR1]), altstack=1),
        ready=ready,
    )
    assert only(of, "ready_ns") == (ready_ns,)
    assert of.question.ready == ready


def test_another_mask_than_the_creators_is_no_restore() -> None:
    trace = [event(900, "snapshot", **PARENT, mask=word_of([USR1])), born(1000, EVERYTHING), event(1010, "mask")]
    assert only(analysis(*trace, ready="mask"), "ready_ns") == (1010,)


def test_teardown_is_not_setup() -> None:
    of = analysis(
        born(1000, EVERYTHING),
        event(1010, "altstack", mask=EVERYTHING, altstack=1),
        event(1020, "mask", altstack=1),
        event(2000, "mask", mask=EVERYTHING, altstack=1),
        event(2010, "altstack", mask=EVERYTHING),
        event(2020, "mask"),
        event(2025, "mask", mask=EVERYTHING),
        event(2030, "exit", mask=EVERYTHING),
        ready="steady",
    )
    assert only(of, "teardown_exposure_ns") == (5,)


def test_a_thread_that_ends_by_itself_was_steady_before_its_teardown() -> None:
    end = [
        event(2000, "mask", mask=EVERYTHING, altstack=1),
        event(2010, "altstack", mask=EVERYTHING),
        event(2030, "exit", mask=EVERYTHING),
    ]
    trace = [born(1000, EVERYTHING), event(1010, "altstack", mask=EVERYTHING, altstack=1)]
    trace.append(event(1020, "mask", altstack=1))
    assert only(analysis(*trace, *end, ready="steady"), "ready_ns") == (1020,)
    end[-1]["flags"] = events.EXIT_GROUP
    assert only(analysis(*trace, *end, ready="steady"), "ready_ns") == (2010,)


def test_an_unready_thread_is_censored_not_dropped() -> None:
    of = analysis(born(1000), event(1500, "exit"), event(1600, "name", **PARENT), ready="altstack")
    assert only(of, *WINDOW, "ready") == ("exposed", 500, 500, "exit", "altstack", False)
    assert of.threads["ready_ns"].isna().all()
    assert of.by_signal[["name", "threads", "exposure_ns"]].values.tolist() == [["SIGPROF", 1, 0]]


def test_a_handler_set_by_another_thread_exposes_from_then_on() -> None:
    of = analysis(
        born(1000, handled=0),
        event(1010, "action", **PARENT, handled=word_of([PROF]), signal=PROF, **HANDLER),
        event(1030, "altstack", altstack=1),
    )
    assert only(of, "exposure_ns", "first_exposed_ns", "exposed_signals") == (20, 1010, word_of([PROF]))


def test_a_handler_for_one_delivery_is_gone_after_it() -> None:
    once = event(1010, "deliver", **PARENT, signal=PROF, sa_flags=SA_RESETHAND, **HANDLER)
    assert only(analysis(born(1000), once, event(1030, "altstack", altstack=1)), "exposure_ns") == (10,)


def test_an_exec_ends_every_thread() -> None:
    exec_ = event(1100, "exec", **PARENT, peer=101, comm="new")
    of = analysis(born(1000), exec_, event(1200, "start", **PARENT), ready="altstack")
    assert only(of, "ended_by", "end_ns", "exposure_ns") == ("exit", 1100, 100)
    assert of.leaders == {(0, 100): "new"}


def test_a_second_birth_under_one_id_shows_that_an_exit_was_lost() -> None:
    of = analysis(born(1000), event(1040, "name", comm="old"), born(3000), event(3050, "exit"), ready="altstack")
    assert of.threads[["born_ns", "end_ns", "ended_by", "comm"]].values.tolist() == [
        [1000, 1040, "trace", "old"],
        [3000, 3050, "exit", ""],
    ]


@pytest.mark.parametrize("flags", [0, events.CLONE_THREAD | events.BORN_KERNEL_WORKER])
def test_forks_and_kernel_workers_get_no_row(flags: int) -> None:
    of = analysis(born(1000) | {"flags": flags}, event(1010, "deliver", signal=PROF, **HANDLER))
    assert len(of.threads) == len(of.hits) == 0


def test_a_signal_that_the_mask_held_back_is_deferred() -> None:
    of = analysis(
        born(1000, EVERYTHING),
        event(1005, "generate", mask=EVERYTHING, signal=PROF),
        event(1006, "generate", mask=EVERYTHING, signal=PROF, flags=events.GENERATE_PROCESS),
        event(1010, "altstack", mask=EVERYTHING, altstack=1),
        event(1020, "mask", altstack=1),
        event(1021, "deliver", altstack=1, signal=PROF, **HANDLER),
    )
    assert only(of, "verdict", "deferred", "hits") == ("masked", 1, 0)


@pytest.mark.parametrize(
    ("lost_from", "lost_to", "uncertain"), [(900, 999, False), (900, 1000, True), (1030, 1031, True)]
)
def test_a_loss_inside_a_window_makes_it_uncertain(lost_from: int, lost_to: int, uncertain: bool) -> None:
    of = analysis(
        {"time_ns": lost_to, "kind": "lost", "mask": lost_from, "flags": 7},
        born(1000),
        event(1030, "altstack", altstack=1),
    )
    assert only(of, "uncertain") == (uncertain,)
    assert of.lost_events == 7


def test_signals_that_count_decide_the_verdict_but_all_are_listed() -> None:
    trace = [born(1000, ~word_of([33]) & EVERYTHING, handled=word_of([PROF, 33])), event(1030, "altstack", altstack=1)]
    assert only(analysis(*trace), "verdict", "exposed_signals") == ("masked", 0)
    assert only(analysis(*trace, signals="SETXID"), "verdict", "exposure_ns") == ("exposed", 30)
    assert analysis(*trace).by_signal.values.tolist() == [
        [PROF, "SIGPROF", "async", 0, 0, 0, 0],
        [33, "SIGSETXID", "internal", 1, 30, 0, 0],
    ]


def test_events_may_be_cut_anywhere_but_not_swapped() -> None:
    windows = Windows()
    windows.feed(batch(event(1030, "altstack", altstack=1), born(1000)))
    before = windows.result().threads
    windows.feed(batch(event(1030, "exit")))
    assert windows.result().threads["setup_ns"].tolist() == before["setup_ns"].tolist() == [30]
    with pytest.raises(InputError, match="out of order"):
        windows.feed(batch(event(1029, "exit")))


@pytest.mark.parametrize("ready", ["", "sometime", "Altstack"])
def test_an_unknown_policy_is_a_usage_error(ready: str) -> None:
    with pytest.raises(UsageError, match="readiness policy"):
        Windows().result(ready)
    with pytest.raises(UsageError, match="readiness policy"):
        Windows(Question(ready))


def test_only_the_policy_named_at_the_beginning_can_be_asked_for() -> None:
    windows = Windows(Question("auto"))
    windows.feed(batch(born(1000), event(1030, "altstack", altstack=1)))
    assert windows.result("altstack").threads["setup_ns"].tolist() == [30]
    with pytest.raises(ValueError, match="mask"):
        windows.result("mask")


def test_nothing_fed_gives_empty_tables() -> None:
    of = Windows().result()
    assert len(of.threads) == len(of.hits) == len(of.by_signal) == of.events == 0
    summary = summarise(of.totals, INFO)
    assert summary["setup_ns"] == dict.fromkeys(["min", "p50", "p90", "p99", "max"]) | {"count": 0, "total": 0}


def test_summary() -> None:
    of = analysis(
        event(900, "snapshot", **PARENT, comm="ruby", handled=word_of([PROF])),
        born(1000, EVERYTHING),
        event(1159, "mask"),
        event(1162, "altstack", altstack=1),
        {"time_ns": 2900, "kind": "mark", "comm": "end"},
    )
    counts = {"masked": 0, "exposed": 1, "hit": 0, "critical": 0, "unhandled": 0}
    told = {name: getattr(INFO, name) for name in ("backend", "os", "kernel", "host")}
    summary = summarise(of.totals, INFO)
    assert json.loads(to_json(summary)) == {
        "schema": "sigwindow.summary/1",
        "trace": {**told, "duration_s": 2e-06, "events": 5, "lost_events": 0, "complete": True},
        "policy": {"ready": "auto", "signals": "async"},
        "threads": {"born": 1, **counts, "unready": 0, "uncertain": 0},
        "setup_ns": {"count": 1, "min": 162, "p50": 162, "p90": 162, "p99": 162, "max": 162, "total": 162},
        "exposure_ns": {"count": 1, "min": 3, "p50": 3, "p90": 3, "p99": 3, "max": 3, "total": 3},
        "quantile_error": 0.0,
        "by_signal": [
            {"signal": "SIGPROF", "class": "async", "threads": 1, "exposure_ns": 3, "hits": 0, "critical": 0}
        ],
        "by_process": [{"pid": 100, "comm": "ruby", "policy": "altstack", **counts, "exposure_ns": 3}],
    }


def test_threads_from_before_are_told_as_last_seen() -> None:
    handled = word_of([PROF, USR1])
    found = analysis(
        {"time_ns": 1, "kind": "snapshot", **PARENT, "mask": 7, "handled": handled, "comm": "main"},
        event(2, "snapshot", mask=1, handled=handled, comm="worker"),
        {"time_ns": 3, "kind": "snapshot", "pid": 100, "tid": 102, "mask": 2, "handled": handled, "comm": "gone"},
        event(4, "mask", mask=3),
        event(5, "name", mask=3, comm="renamed"),
        event(6, "deliver", mask=EVERYTHING, signal=PROF, **HANDLER),
        {"time_ns": 7, "kind": "exit", "pid": 100, "tid": 102, "mask": 6},
        {"time_ns": 8, "kind": "action", **PARENT, "mask": 7, "handled": word_of([PROF])},
        born(9) | {"tid": 103},
        {"time_ns": 10, "kind": "mask", "pid": 200, "tid": 200, "mask": 9},  # never found in /proc
    )
    assert found.known.to_dict("split", index=False)["data"] == [
        [100, 100, "main", 7, word_of([PROF])],
        [100, 101, "renamed", 3, word_of([PROF])],
        [100, 102, "gone", 6, handled],
    ]


def test_an_exec_leaves_of_the_threads_from_before_how_they_were() -> None:
    found = analysis(
        *(event(tid, "snapshot", mask=1, handled=5) | {"tid": tid} for tid in range(100, 300)),
        {"time_ns": 1000, "kind": "exec", **PARENT, "mask": 2, "peer": 100, "comm": "new"},
    )
    handled, comms = found.known.set_index("tid")["handled"], found.known.set_index("tid")["comm"]
    assert handled.to_dict() == {100: 0} | dict.fromkeys(range(101, 300), 5)
    assert (comms[100], comms[101]) == ("new", "")


@pytest.mark.parametrize("threads", [0, 1])
def test_the_tables_have_the_declared_columns(threads: int) -> None:
    found = analysis(*[born(1000), event(1010, "deliver", signal=PROF, sa_flags=SA_ONSTACK, **HANDLER)][: 2 * threads])
    assert len(found.threads) == threads
    for name, columns in TABLES.items():
        frame = getattr(found, name)
        arrow = pa.Schema.from_pandas(frame, preserve_index=False)
        types = {field.name: str(field.type).replace("large_", "") for field in arrow}
        verdict = "dictionary<values=string, indices=int8, ordered=1>"
        assert types == {of.name: verdict if of.type is VERDICT else of.type.arrow for of in columns}, name
    assert found.threads["verdict"].cat.categories.tolist() == list(VERDICTS)
