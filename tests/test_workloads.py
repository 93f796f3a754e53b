"""The workloads do what they say, by their own record and by strace: no tracer of ours is involved."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from needs import needs
from truth import Truth, read_truth

BLOCKED = 0xFFFFFFFFFFFBFEFF  # everything but SIGKILL and SIGSTOP


@pytest.fixture
def strace() -> None:
    """Strace, which is no tracer of ours."""
    needs("strace", shutil.which("strace") is not None, "install strace")


def run(folder: Path, program: Path, *arguments: str, under: tuple[str, ...] = ()) -> Truth:
    """Run a workload to its end and read its record."""
    path = folder / "truth"
    subprocess.run([*under, program, *arguments, "-o", path], check=True, timeout=120)
    return read_truth(path)


def in_order(threads: pd.DataFrame, *columns: str) -> bool:
    """Whether these times of every thread follow one another, and the next thread's follow the last of them."""
    times = threads[list(columns)].to_numpy().ravel()
    return bool((times[1:] >= times[:-1]).all())


def strace_calls(log: Path) -> Iterator[tuple[int, str]]:
    """The thread and the text of each system call of an `strace -f -ttt` log, interrupted ones put together."""
    begun: dict[int, str] = {}
    for line in log.read_text().splitlines():
        tid, _, text = line.split(None, 2)
        if text.endswith(" <unfinished ...>"):
            begun[int(tid)] = text.removesuffix(" <unfinished ...>")
        elif resumed := re.match(r"<\.\.\. \w+ resumed>(.*)", text):
            yield int(tid), begun.pop(int(tid)) + resumed[1]
        else:
            yield int(tid), text


NEWOSPROC_TIMES = ("before_clone_ns", "first_ns", "before_altstack_ns", "after_altstack_ns", "after_mask_ns")


@pytest.mark.parametrize("spin_us", [0, 50, 500])
@pytest.mark.parametrize(("mode", "birth_mask"), [("broken", 0), ("fixed", BLOCKED)])
def test_newosproc(workloads: Path, tmp_path: Path, mode: str, birth_mask: int, spin_us: int) -> None:
    truth = run(tmp_path, workloads / "newosproc", mode, "-s", str(spin_us))
    assert (truth.program, truth.mode, len(truth.threads)) == ("newosproc", mode, 499)
    assert in_order(truth.threads, *NEWOSPROC_TIMES)
    assert (truth.threads["birth_mask"] == birth_mask).all()
    assert (truth.threads["before_altstack_ns"] - truth.threads["first_ns"] >= spin_us * 1000).all()
    assert truth.handlers.empty


def test_newosproc_many(workloads: Path, tmp_path: Path) -> None:
    truth = run(tmp_path, workloads / "newosproc", "broken", "-n", "5003", "-s", "0", "-t", "-p", "100")
    assert len(truth.threads) == 5003
    assert in_order(truth.threads, *NEWOSPROC_TIMES)


def test_newosproc_timer(workloads: Path, tmp_path: Path) -> None:
    """Only unmasked children run a handler without an alternate stack, and only until they have one."""
    options = ("-n", "101", "-s", "5000", "-t")
    assert run(tmp_path, workloads / "newosproc", "fixed", *options).handlers["installed"].all()

    broken = run(tmp_path, workloads / "newosproc", "broken", *options)
    assert (broken.handlers["signal"] == signal.SIGPROF).all()
    # Ids are not used again within so few threads.
    hits = broken.handlers[~broken.handlers["installed"]].merge(broken.threads, on="tid", validate="many_to_one")
    assert len(hits) == (~broken.handlers["installed"]).sum() > 0
    assert hits["time_ns"].between(hits["before_clone_ns"], hits["after_altstack_ns"]).all()


def test_newosproc_until_stopped(workloads: Path, tmp_path: Path) -> None:
    path = tmp_path / "truth"
    with subprocess.Popen([f"{workloads}/newosproc", "fixed", "-r", "60", "-o", path]) as process:
        time.sleep(0.3)
        process.terminate()
        assert process.wait(timeout=10) == 0
    truth = read_truth(path)
    assert truth.pid == process.pid
    assert len(truth.threads) > 100
    assert list(truth.handlers["signal"]) == [signal.SIGTERM]


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(("mode", "born"), [("broken", "[]"), ("fixed", "~[KILL STOP]")])
def test_newosproc_by_strace(workloads: Path, tmp_path: Path, mode: str, born: str) -> None:
    log = tmp_path / "strace"
    under = ("strace", "-f", "-ttt", "-o", str(log), "-e", "trace=clone,sigaltstack,rt_sigprocmask")
    truth = run(tmp_path, workloads / "newosproc", mode, "-n", "101", under=under)
    tids = truth.threads["tid"].tolist()
    calls = list(strace_calls(log))

    clones = [text for tid, text in calls if tid == truth.pid and text.startswith("clone(")]
    assert [int(text.rsplit(" = ", 1)[1]) for text in clones] == tids
    stacks = [tid for tid, text in calls if text.startswith("sigaltstack({") and text.endswith(" = 0")]
    assert stacks == [truth.pid, *tids]
    masks = {tid: text for tid, text in calls if tid != truth.pid and text.startswith("rt_sigprocmask(")}
    assert masks == dict.fromkeys(tids, f"rt_sigprocmask(SIG_SETMASK, [], {born}, 8) = 0")


def programs(workloads: Path) -> list[Path]:
    """The program `workers`, by every C library at hand."""
    return sorted(workloads.glob("workers*"))


@pytest.mark.parametrize("mode", ["plain", "self", "creator"])
def test_workers(workloads: Path, tmp_path: Path, mode: str) -> None:
    for program in programs(workloads):
        truth = run(tmp_path, program, mode)
        assert (truth.program, truth.mode, len(truth.threads)) == ("workers", mode, 101)
        assert in_order(truth.threads, "before_create_ns", "first_ns")
        if mode == "self":
            assert in_order(truth.threads, "before_create_ns", "first_ns", "before_mask_ns", "after_mask_ns")
            assert (truth.threads["before_mask_ns"] - truth.threads["first_ns"] >= 300_000).all()
        else:
            assert (truth.threads[["before_mask_ns", "after_mask_ns"]] == 0).all(axis=None)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("mode", ["plain", "self", "creator"])
def test_workers_by_strace(workloads: Path, tmp_path: Path, mode: str) -> None:
    """The C library lets signals through to `plain` and `self`, and only `self` then blocks them by itself."""
    for program in programs(workloads):
        log = tmp_path / "strace"
        under = ("strace", "-f", "-ttt", "-o", str(log), "-e", "trace=rt_sigprocmask,gettid,nanosleep,clock_nanosleep")
        truth = run(tmp_path, program, mode, "-n", "11", under=under)
        for worker in truth.threads["tid"]:
            calls = [text for tid, text in strace_calls(log) if tid == worker]
            steps = [
                "id" if text.startswith("gettid") else "blocked" if re.search(r", ~\[", text) else "open"
                for text in calls[: next(i for i, text in enumerate(calls) if "nanosleep" in text)]
            ]
            assert (
                steps
                == {
                    "plain": ["open", "id"],
                    "self": ["open", "id", "blocked"],
                    "creator": ["blocked", "id"],
                }[mode]
            )


@pytest.mark.usefixtures("strace")
def test_flood_counts(workloads: Path, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    command = ["strace", "-f", "-ttt", "-o", str(log), f"{workloads}/flood", "7", "101"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    calls = [text for _, text in strace_calls(log) if text.endswith(" = 0")]
    sets = sum(text.startswith("rt_sigprocmask(") for text in calls)
    altstacks = sum(text.startswith("sigaltstack({") for text in calls)
    assert printed == f"threads 7 sets {sets} altstacks {altstacks}\n"
    assert sets == 7 * 101


def test_incomplete_truth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "truth"
    path.write_text(f"# newosproc 1 broken {os.getpid()}\nthread 1 2 3 4 5 6 0\n")
    with pytest.raises(ValueError, match="not a complete truth file"):
        read_truth(path)


def test_usage(workloads: Path) -> None:
    for program in ("newosproc", "workers", "flood"):
        outcome = subprocess.run([workloads / program], capture_output=True, text=True)
        assert (outcome.returncode, outcome.stdout) == (2, "")
        assert outcome.stderr.startswith(f"usage: {program} ")
