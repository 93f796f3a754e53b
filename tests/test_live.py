"""Live captures of real processes, compared with what those processes say of themselves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from truth import read_truth

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.summary import summarise, to_json
from sigwindow.collector.tracefile import Reader
from sigwindow.probes import signals

pytestmark = pytest.mark.live

SIGWINDOW = (sys.executable, "-m", "sigwindow")
BAD = {"exposed", "hit", "critical"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captures keep their trace in the working directory."""
    monkeypatch.chdir(tmp_path)


def sigwindow(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the tool; what it ends with must be `code`, and it must not show a traceback."""
    done = subprocess.run([*SIGWINDOW, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done


def threads_of(trace: Path, ready: str = "auto") -> pd.DataFrame:
    """The thread table of a trace, as `analyze` gives it."""
    table = trace.with_suffix(f".{ready}.parquet")
    sigwindow("analyze", trace, "--ready", ready, "--format", "parquet", "-o", table, "--force")
    frame: pd.DataFrame = pd.read_parquet(table)
    return frame


def verdicts(table: pd.DataFrame) -> dict[str, int]:
    """How many threads have which verdict."""
    return {str(verdict): count for verdict, count in table["verdict"].value_counts().items() if count}


def events_of(trace: Path) -> pd.DataFrame:
    """The events of a trace."""
    events: pd.DataFrame = pa.Table.from_batches(list(Reader(trace).batches())).to_pandas()
    return events


@pytest.mark.parametrize("spin_us", [0, 50, 500, 5000])
@pytest.mark.parametrize("mode", ["broken", "fixed"])
def test_every_thread_lies_between_its_own_timestamps(workloads: Path, tmp_path: Path, mode: str, spin_us: int) -> None:
    trace, truth_file = tmp_path / "t.arrows", tmp_path / "truth"
    sigwindow("run", "-o", trace, "--", workloads / "newosproc", mode, "-n", 499, "-s", spin_us, "-o", truth_file)

    truth = read_truth(truth_file)
    # A tid may be used again within one run: birth order tells the threads apart.
    both = pd.concat([threads_of(trace), truth.threads.drop(columns=["tid", "birth_mask"])], axis=1)
    assert list(both["tid"]) == list(truth.threads["tid"])
    assert list(both["birth_mask"]) == list(truth.threads["birth_mask"])
    assert (both["before_clone_ns"] < both["born_ns"]).all()
    assert (both["born_ns"] < both["first_ns"]).all()
    assert (both["before_altstack_ns"] < both["ready_ns"]).all()
    assert (both["ready_ns"] < both["after_altstack_ns"]).all()
    assert not both["uncertain"].any()
    if mode == "fixed":
        assert verdicts(both) == {"masked": 499}
        assert (both["exposure_ns"] == 0).all()
    else:
        assert set(both["verdict"]) <= BAD
        assert (both["exposure_ns"] == both["setup_ns"]).all()


@pytest.mark.parametrize("mode", ["broken", "fixed"])
def test_hits_are_the_handler_runs_that_the_workload_recorded(workloads: Path, tmp_path: Path, mode: str) -> None:
    trace, truth_file = tmp_path / "t.arrows", tmp_path / "truth"
    command = (workloads / "newosproc", mode, "-t", "-n", 199, "-s", 5000, "-o", truth_file)
    sigwindow("run", "-o", trace, "--", *command)

    truth = read_truth(truth_file)
    table = threads_of(trace)
    assert table["tid"].is_unique
    unready = truth.handlers[~truth.handlers["installed"]]
    expected = unready.groupby("tid").size().reindex(table["tid"], fill_value=0)
    assert list(table["hits"]) == list(expected)
    assert list(table["critical_hits"]) == list(expected)
    assert (table["hits"].sum() > 0) == (mode == "broken")


GO = """
package main
import ("os"; "os/signal"; "runtime"; "sync"; "syscall")
func main() {
    c := make(chan os.Signal, 1)
    signal.Notify(c, syscall.SIGUSR1)
    var held, done sync.WaitGroup
    for i := 0; i < 23; i++ {
        held.Add(1); done.Add(1)
        go func() { runtime.LockOSThread(); held.Done(); held.Wait(); done.Done() }()
    }
    done.Wait()
}
"""


def test_go_is_never_exposed(tmp_path: Path) -> None:
    source, program, trace = tmp_path / "main.go", tmp_path / "main", tmp_path / "t.arrows"
    source.write_text(GO)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", program, source], check=True, env=environment)
    sigwindow("run", "-o", trace, "--", program)

    table = threads_of(trace, "altstack")
    assert len(table) >= 23
    assert set(table["verdict"]) == {"masked"}
    # A thread that the process's end cuts off in its setup is the one kind that is not ready.
    assert (table["ready"] | (table["ended_by"] == "exit")).all()


def test_a_plain_pthread_program(workloads: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    sigwindow("run", "-o", trace, "--", workloads / "workers", "plain", "-n", 101)

    by_stack = threads_of(trace, "altstack")
    assert len(by_stack) == 101
    assert not by_stack["ready"].any()
    by_itself = threads_of(trace)
    assert set(by_itself["policy"]) == {"steady"}
    assert verdicts(by_itself) == {"masked": 101}
    assert by_itself["ready"].all()


@pytest.mark.parametrize("program", ["workers", "workers-musl"])
def test_workers_that_block_signals_themselves(workloads: Path, tmp_path: Path, program: str) -> None:
    trace, truth_file = tmp_path / "t.arrows", tmp_path / "truth"
    sigwindow("run", "-o", trace, "--", workloads / program, "self", "-s", 300, "-n", 101, "-o", truth_file)
    truth = read_truth(truth_file).threads
    table = threads_of(trace)
    assert list(table["tid"]) == list(truth["tid"])
    assert verdicts(table) == {"exposed": 101}
    # Exposed from the C library's restore, which comes before the worker's first own clock, to its own mask.
    assert (table["first_exposed_ns"] < truth["first_ns"]).all()
    assert (truth["before_mask_ns"] < table["ready_ns"]).all()
    assert (table["ready_ns"] < truth["after_mask_ns"]).all()
    assert (table["exposure_ns"] == table["ready_ns"] - table["first_exposed_ns"]).all()
    assert (table["exposure_ns"] >= 300_000).all()

    sigwindow("run", "-o", trace, "--force", "--", workloads / program, "creator", "-n", 101)
    assert verdicts(threads_of(trace)) == {"masked": 101}


def test_birth_masks_agree_with_strace(workloads: Path, tmp_path: Path) -> None:
    log, trace = tmp_path / "log", tmp_path / "t.arrows"
    command = [str(workloads / "workers"), "creator", "-n", "7"]
    subprocess.run(["strace", "-f", "-o", log, "-e", "trace=clone,clone3,rt_sigprocmask", *command], check=True)
    sigwindow("run", "-o", trace, "--", *command)

    # The creator's mask at each clone: what strace printed for its last rt_sigprocmask before it.
    born: list[int] = []
    mask = 0
    main = log.read_text().split(maxsplit=1)[0]
    for line in log.read_text().splitlines():
        if line.split()[0] != main:
            continue
        if call := re.search(r"rt_sigprocmask\((SIG_\w+), (~?)\[(.*?)\], ", line):
            how, inverted, names = call.groups()
            named = signals.word_of(signals.number(_kernel_name(name)) for name in names.split())
            value = (~named & signals.ALL if inverted else named) & ~signals.UNBLOCKABLE
            mask = {"SIG_BLOCK": mask | value, "SIG_SETMASK": value, "SIG_UNBLOCK": mask & ~value}[how]
        elif re.search(r"clone3?\(", line):
            born.append(mask)
    assert len(born) == 7
    assert list(threads_of(trace)["birth_mask"]) == born


def _kernel_name(name: str) -> str:
    """A signal by its number, from strace's name for it (strace counts SIGRTMIN from 32: `RT_1` is 33)."""
    if name == "RTMIN":
        return "32"
    return str(32 + int(name[3:])) if name.startswith("RT_") else name


def test_attach_again_and_again(workloads: Path, tmp_path: Path) -> None:
    truth_file = tmp_path / "truth"
    command = [str(workloads / "newosproc"), "broken", "-r", "600", "-s", "1000", "-o", str(truth_file)]
    target = subprocess.Popen(command)
    try:
        for round_ in range(20):
            sigwindow("attach", target.pid, "--duration", 0.5, "-o", tmp_path / f"{round_}.arrows")
            assert target.poll() is None
    finally:
        target.send_signal(signal.SIGTERM)
        assert target.wait(timeout=30) == 0

    truth = read_truth(truth_file).threads
    for round_ in range(20):
        trace = tmp_path / f"{round_}.arrows"
        events = events_of(trace)
        start_ns, end_ns = events["time_ns"].iloc[0], events["time_ns"].iloc[-1]
        assert events["kind"].iloc[-1] == "mark"
        seen = threads_of(trace).astype({"tid": "int64"})
        # Surely of the interval: cloned after its start, and running before its end.
        inside = truth[(truth["before_clone_ns"] > start_ns) & (truth["first_ns"] < end_ns)]
        assert len(inside) > 100
        # One row each, in the order of birth: a tid that is used again within a round is matched by time.
        matched = pd.merge_asof(
            inside, seen[["born_ns", "tid"]], left_on="first_ns", right_on="born_ns", by="tid", direction="backward"
        )
        assert (matched["born_ns"] > matched["before_clone_ns"]).all()
        assert matched["born_ns"].is_unique
        # Beyond those there can be one that was in the middle of its birth at either edge.
        assert len(seen) - len(inside) in (0, 1, 2)


def cut(batch_rows: int, trace: Path) -> str:
    """The summary of a trace whose stream is cut into batches of this many events."""
    reader = Reader(trace)
    windows = Windows()
    whole = pa.Table.from_batches(list(reader.batches())).combine_chunks().to_batches()[0]
    for start in range(0, whole.num_rows, batch_rows):
        windows.feed(whole.slice(start, batch_rows))
    return str(to_json(summarise(windows.totals(), reader.info)))


def test_analyze_gives_the_live_summary_byte_for_byte(workloads: Path, tmp_path: Path) -> None:
    trace, live, later = tmp_path / "t.arrows", tmp_path / "live.json", tmp_path / "later.json"
    sigwindow("run", "-o", trace, "--json", live, "--", workloads / "newosproc", "broken", "-t", "-n", 199, "-s", 500)
    sigwindow("analyze", trace, "--json", later)
    assert live.read_bytes() == later.read_bytes()
    assert sigwindow("analyze", trace, "--format", "json").stdout == live.read_text()
    summary = json.loads(live.read_text())
    assert summary["threads"]["born"] == 199
    assert summary["trace"]["complete"]
    for rows in (1, 7, 1000):
        assert cut(rows, trace) == live.read_text()


def test_a_killed_collector_leaves_a_readable_trace(workloads: Path, tmp_path: Path) -> None:
    trace, truth_file = tmp_path / "t.arrows", tmp_path / "truth"
    target = subprocess.Popen([workloads / "newosproc", "broken", "-r", "60", "-o", truth_file])
    try:
        collector = subprocess.Popen(
            [*SIGWINDOW, "attach", str(target.pid), "-o", str(trace)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while not (trace.exists() and trace.stat().st_size > 100_000):  # it is recording for certain
            assert collector.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(2)  # what is a second old is in the file
        killed_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        collector.kill()
        collector.wait()
        assert target.poll() is None
    finally:
        target.terminate()
        assert target.wait(timeout=30) == 0
    truth = read_truth(truth_file).threads
    events = events_of(trace)
    between = truth[(truth["before_clone_ns"] > events["time_ns"].iloc[0]) & (truth["first_ns"] < killed_ns - 10**9)]
    assert len(between) > 10
    assert set(between["tid"]) <= set(threads_of(trace)["tid"])
    shown = sigwindow("analyze", trace).stdout
    assert "no end mark" in shown


def test_a_forced_loss_is_counted_and_makes_threads_uncertain(workloads: Path, tmp_path: Path) -> None:
    trace, report = tmp_path / "t.arrows", tmp_path / "summary.json"
    done = sigwindow("run", "--buffer", "4K", "-o", trace, "--json", report, "--", workloads / "flood", 7, 30011)
    sets, altstacks = (int(number) for number in re.findall(r"\d+", done.stdout)[1:])
    events = events_of(trace)
    summary: dict[str, Any] = json.loads(report.read_text())
    lost = summary["trace"]["lost_events"]
    assert lost > 0
    assert not summary["trace"]["complete"]
    assert lost == events.loc[events["kind"] == "lost", "flags"].sum()
    # Sent: the calls that flood itself counted, a birth and an end for each thread, and of the main thread its new
    # name, an exec, one action and its end.
    received = ((events["pid"] > 0) & (events["kind"] != "snapshot")).sum()
    assert received + lost == sets + altstacks + 7 * 2 + 4
    assert summary["threads"]["uncertain"] == summary["threads"]["born"]


def test_the_command_is_left_as_it_is(tmp_path: Path) -> None:
    script = """if True:
        import os
        status = [line for line in open("/proc/self/status") if line[:6] in ("SigBlk", "SigIgn", "SigCgt", "Tracer")]
        own_group = os.getpgrp() == os.getpgid(os.getppid())
        streams = [os.readlink(f"/proc/self/fd/{fd}")[:5] for fd in range(3)]
        print(status, own_group, streams, sorted(os.environ.items()), len(os.listdir("/proc/self/fd")))
    """
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    traced = sigwindow("run", "--", sys.executable, "-c", script).stdout
    assert traced == plain


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -TERM $$", 128 + 15)])
def test_exit_codes(script: str, status: int) -> None:
    ending = "ended by SIGTERM" if status > 128 else f"exited with {status}"
    assert f"sh {ending}\n" in sigwindow("run", "--", "sh", "-c", script).stderr
    sigwindow("run", "--exit-code", "--", "sh", "-c", script, code=status)


def test_a_gate(workloads: Path) -> None:
    broken, fixed = (workloads / "newosproc", "broken", "-n", 7), (workloads / "newosproc", "fixed", "-n", 7)
    assert "gate exposed failed" in sigwindow("run", "--fail-on", "exposed", "--", *broken, code=1).stderr
    sigwindow("run", "--fail-on", "critical", "--", *broken)
    sigwindow("run", "--fail-on", "exposed", "--", *fixed)


def test_mistakes_get_a_plain_answer(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    trace.touch()
    assert "no such command" in sigwindow("run", "--", "/no/such/command", code=2).stderr
    assert "exists" in sigwindow("run", "-o", trace, "--", "true", code=2).stderr
    assert "no process" in sigwindow("attach", 4194304, code=2).stderr
    assert "SIGNOSUCH" in sigwindow("run", "--signals", "SIGNOSUCH", "--", "true", code=2).stderr
    assert "policy" in sigwindow("run", "--ready", "never", "--", "true", code=2).stderr


def test_in_a_pid_namespace_strace_answers_and_bcc_refuses(workloads: Path, tmp_path: Path) -> None:
    """There the kernel's ids are not those of /proc: the probes would see nothing of the command, and say so of it."""

    def inside(backend: str) -> subprocess.CompletedProcess[str]:
        container = ("unshare", "--pid", "--fork", "--mount-proc")
        options = ("--backend", backend, "--no-live", "--json", tmp_path / "told.json")
        command = (*container, *SIGWINDOW, "run", *options, "--", workloads / "newosproc", "broken", "-n", "7")
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)

    refused = inside("bcc")
    assert refused.returncode == 3
    assert "--pid=host" in refused.stderr
    assert inside("auto").returncode == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["trace"]["backend"], told["threads"]["exposed"]) == ("strace", 7)


def test_forks_and_execs_are_followed(workloads: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    script = f"{workloads}/newosproc broken -n 7; {workloads}/newosproc fixed -n 5"
    sigwindow("run", "-o", trace, "--", "sh", "-c", script)
    table = threads_of(trace)
    assert [verdicts(part) for _, part in table.groupby("pid", sort=False)][1] == {"masked": 5}
    assert len(table) == 12
    sigwindow("run", "--no-follow", "-o", trace, "--force", "--", "sh", "-c", script)
    assert len(threads_of(trace)) == 0


def test_ready_by_a_symbol(workloads: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    newosproc = workloads / "newosproc"
    assert (
        "no_such_function"
        in sigwindow("run", "--ready", "symbol:no_such_function", "--", newosproc, "broken", code=2).stderr
    )
    sigwindow("run", "-o", trace, "--ready", "symbol:set_altstack", "--", newosproc, "broken", "-n", 7)
    by_symbol, by_stack = threads_of(trace, "symbol"), threads_of(trace, "altstack")
    assert by_symbol["ready"].all()
    # The function returns after the system call that it makes.
    assert (by_symbol["ready_ns"] > by_stack["ready_ns"]).all()


def test_creators_stacks(workloads: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    # Symbols are looked up while the process lives: it must outlast a poll of the buffer.
    sigwindow("run", "-o", trace, "--stacks", "--", workloads / "newosproc", "broken", "-n", 199, "-s", 5000)
    stacks = threads_of(trace)["creator_stack"].head(50)
    assert len(stacks) == 50
    assert stacks.str.contains("clone").all()
