"""Logs of strace as events: real logs with the tables that a reader of the log expects, spellings, damage, live runs.

The logs in tests/strace were made with strace 6.1 on the programs and with the options that `LOGS` names.
"""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from needs import needs, needs_root

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.result import Analysis
from sigwindow.capture import Request, record
from sigwindow.collector.session import Options, Target
from sigwindow.collector.strace import calls as strace_calls
from sigwindow.collector.strace import live
from sigwindow.collector.strace import log as strace
from sigwindow.probes import signals as sig
from sigwindow.probes import strace as tracer
from sigwindow.probes.errors import InputError, UsageError

FOLDER = Path(__file__).with_name("strace")
EVERYTHING = sig.ALL & ~sig.UNBLOCKABLE
T0 = 1_700_000_000  # the second at which the small logs below begin

# Reviewed by hand against each log: the options, and the verdicts in the order of birth.
LOGS = {
    "newosproc-broken.log": ("-f -ttt -o", ["exposed"] * 5),
    "newosproc-fixed.log": ("-f -tt -T, standard error", ["masked"] * 3),
    "workers-self.log": ("-f -r -v, standard error", ["exposed"] * 4),
    "workers-musl.log": ("workers-musl creator: -f -ttt -r -Y -i -n -o", ["masked"] * 4),
    "go.log": ("our own options", ["masked"] * 11),
    "ruby.log": ("our own options", ["exposed"] * 3),
    "python.log": ("our own options", ["exposed"] * 3),
    "node.log": ("our own options", ["masked"] * 6),
    # The first thread runs before any handler is there; the VM thread sets its mask once more.
    "java.log": ("our own options", ["unhandled", *["masked"] * 5, "exposed", *["masked"] * 10]),
    "shell.log": ("bash, -f -ttt -y, standard error", []),
    "exec.log": ("exec by another thread than the first, -f -ttt -o", ["unhandled"] * 2),
    "exec": ("the same, -ff -ttt -o", ["unhandled"] * 2),
    "attached.log": ("newosproc broken, -f -ttt -T -p", ["unhandled"] * 9),
}


def analysed(log: strace.Log) -> Analysis:
    """The analysis of a log, under the default policy."""
    windows = Windows()
    for batch in log.batches():
        if batch.num_rows:
            windows.feed(batch)
    return windows.result()


def opened(name: str) -> strace.Log:
    return strace.Log(strace.family(FOLDER / name))


def small(*lines: str, first_mask: int | None = None) -> tuple[strace.Log, pd.DataFrame]:
    """A log of a few lines, each `TID SECONDS CALL`, and its events."""
    text = "".join(f"{tid} {T0 + float(s):.6f} {call}\n" for tid, s, call in (line.split(" ", 2) for line in lines))
    log = strace.Log(io.BytesIO(text.encode()), first_mask=first_mask)
    return log, pd.concat([batch.to_pandas() for batch in log.batches()], ignore_index=True)


BEGIN = '7 0 execve("/bin/x", ["x"], 0x7f /* 3 vars */) = 0'
CLONE = "clone(child_stack=0x7f0, flags=CLONE_VM|CLONE_SIGHAND|CLONE_THREAD, parent_tid=[8]"


@pytest.mark.parametrize("name", LOGS)
def test_real_logs(name: str) -> None:
    log = opened(name)
    of = analysed(log)
    assert of.threads["verdict"].tolist() == LOGS[name][1]
    assert log.damaged == 0
    assert (of.ended, of.lost_events > 0) == ((False, True) if name == "attached.log" else (True, False))
    assert of.threads["uncertain"].all() if name == "attached.log" else not of.threads["uncertain"].any()


def test_one_log_in_one_file_and_in_many_is_the_same() -> None:
    one, many = (analysed(opened(name)).threads for name in ("exec.log", "exec"))
    columns = ["comm", "verdict", "ready", "birth_mask", "ended_by", "policy"]
    assert one[columns].equals(many[columns])
    assert (one["tid"] - one["pid"]).tolist() == (many["tid"] - many["pid"]).tolist() == [1, 2]


def test_windows_of_ruby() -> None:
    """Born blocked, unblocked, and only then an alternate stack."""
    threads = analysed(opened("ruby.log")).threads
    assert (threads["birth_mask"] == EVERYTHING).all()
    assert threads["setup_ns"].between(100_000, 10_000_000).all()
    assert threads["exposure_ns"].between(1_000, 1_000_000).all()
    assert threads["policy"].unique().tolist() == ["altstack"]
    assert threads["comm"].unique().tolist() == ["-e:1"]


def test_real_hits() -> None:
    """SIGPROF on threads without the stack that its handler wants; each returned mask proves the mask at birth."""
    log = opened("hits.log")
    of = analysed(log)
    assert Counter(of.threads["verdict"]) == {"critical": 42, "exposed": 18}
    assert (log.notes, of.lost_events) == ([], 0)


@pytest.mark.parametrize(
    ("text", "signals"),
    [
        ("[]", []),
        ("[INT CHLD]", [2, 17]),
        ("[HUP INT RT_1]", [1, 2, 33]),
        ("[RTMIN RT_32]", [32, 64]),
        ("~[KILL STOP]", [n for n in range(1, 65) if n not in (9, 19)]),
        ("~[RTMIN RT_1]", [n for n in range(1, 65) if n not in (9, 19, 32, 33)]),
        ("~[]", [n for n in range(1, 65) if n not in (9, 19)]),
    ],
)
def test_spellings_of_masks(text: str, signals: list[int]) -> None:
    _, rows = small(BEGIN, f"7 1 rt_sigprocmask(SIG_SETMASK, {text}, NULL, 8) = 0")
    assert rows["mask"].iloc[-1] == sig.word_of(signals)


@pytest.mark.parametrize(
    "action",
    [
        "{sa_handler=0x4443b0, sa_mask=[INT], sa_flags=SA_RESTORER|SA_ONSTACK|SA_RESTART, sa_restorer=0x7f}",
        "{sa_sigaction=0x4443b0, sa_mask=[INT], sa_flags=SA_ONSTACK|SA_SIGINFO}",
        "{0x4443b0, [INT], SA_RESTORER|SA_ONSTACK, 0x7f5}",
    ],
)
def test_spellings_of_actions(action: str) -> None:
    _, rows = small(
        BEGIN,
        f"7 1 rt_sigaction(SIGPROF, {action}, NULL, 8) = 0",
        "7 2 --- SIGPROF {si_signo=SIGPROF, si_code=SI_KERNEL} ---",
        "7 3 rt_sigreturn({mask=[]}) = 0",
    )
    row = rows[rows["kind"] == "deliver"].iloc[0]
    assert (row["disposition"], row["mask"]) == (2, sig.word_of([2, 27]))
    assert rows[rows["kind"] == "action"]["onstack"].tolist() == [sig.word_of([27])]
    assert rows[rows["kind"] == "return"]["mask"].tolist() == [0]


def test_a_thread_that_speaks_before_its_birth_is_told() -> None:
    """The clone's second half comes last; the birth is at its first."""
    _, rows = small(
        BEGIN,
        "7 1 rt_sigprocmask(SIG_BLOCK, ~[], [], 8) = 0",
        f"7 2 {CLONE} <unfinished ...>",
        "8 3 sigaltstack({ss_sp=0x7f, ss_flags=0, ss_size=8192},  <unfinished ...>",
        "8 4 <... sigaltstack resumed>NULL) = 0 <0.5>",
        "7 5 <... clone resumed>, tls=0x7f) = 8 <3.0>",
        "8 6 exit(0) = ?",
        "8 7 +++ exited with 0 +++",
        "7 8 exit_group(0) = ?",
        "7 9 +++ exited with 0 +++",
    )
    seconds = rows["time_ns"] // 10**9 - T0
    told = list(zip(seconds, rows["kind"], rows["tid"], strict=True))
    assert told == [
        (0, "snapshot", 7),
        (0, "exec", 7),
        (1, "mask", 7),
        (2, "born", 8),
        (4, "altstack", 8),
        (6, "exit", 8),
        (8, "exit", 7),
        (9, "mark", 0),
    ]
    birth = rows[rows["kind"] == "born"].iloc[0]
    assert (birth["pid"], birth["peer"], birth["mask"]) == (7, 7, EVERYTHING)
    assert rows[rows["kind"] == "exit"]["flags"].tolist() == [0, 1]


def test_what_a_call_does_is_there_at_its_end() -> None:
    _, rows = small(
        BEGIN,
        "7 1 rt_sigprocmask(SIG_BLOCK, [INT], [], 8) = 0 <0.250000>",
    )
    assert rows["time_ns"].iloc[-1] == T0 * 10**9 + 1_250_000_000


def test_an_unknown_mask_is_proven_by_what_the_thread_is_told() -> None:
    lines = (BEGIN, f"7 1 {CLONE}) = 8")
    log, rows = small(*lines, "8 2 rt_sigprocmask(SIG_BLOCK, [INT], [], 8) = 0")
    assert "lost" not in rows["kind"].tolist()
    log, rows = small(*lines, "8 2 rt_sigprocmask(SIG_BLOCK, [INT], [HUP], 8) = 0")
    lost = rows[rows["kind"] == "lost"]
    assert (lost["time_ns"] - lost["mask"].astype("int64")).tolist() == [1_000_000_000]
    assert rows["mask"].iloc[-1] == sig.word_of([1, 2])
    assert "1 threads" in log.notes[0]
    _, rows = small(*lines, "8 2 rt_sigprocmask(SIG_BLOCK, [INT], NULL, 8) = 0", first_mask=sig.word_of([1]))
    assert "lost" not in rows["kind"].tolist()
    assert rows["mask"].iloc[-1] == sig.word_of([1, 2])


def test_handlers_are_inherited_by_fork_and_reset_by_exec() -> None:
    _, rows = small(
        BEGIN,
        "7 1 rt_sigaction(SIGINT, {sa_handler=0x44, sa_mask=[], sa_flags=0}, NULL, 8) = 0",
        "7 2 vfork( <unfinished ...>",
        '8 3 execve("/usr/bin/a-long-name-of-a-program", ["y"], 0x7f /* 3 vars */ <unfinished ...>',
        "7 4 <... vfork resumed>) = 8",
        "8 5 <... execve resumed>) = 0",
        '8 6 prctl(PR_SET_NAME, "a\\33[1m\\"b") = 0',
    )
    assert rows[rows["kind"] == "born"][["handled", "flags"]].values.tolist() == [[2, 0x4100]]
    assert rows[rows["kind"] == "exec"][["pid", "handled", "comm"]].values.tolist() == [
        [7, 0, "x"],
        [8, 0, "a-long-name-of-"],
    ]
    assert rows["comm"].iloc[-1] == 'a\\x1b[1m"b'


def test_signals_that_were_sent() -> None:
    _, rows = small(
        BEGIN,
        "7 1 tgkill(7, 7, SIGUSR1) = 0",
        "7 2 kill(7, SIGTERM) = 0",
        "7 3 kill(7, 0) = 0",
        "7 4 kill(7, SIGHUP) = -1 EPERM (Operation not permitted)",
        "7 5 kill(99, SIGHUP) = 0",
    )
    assert rows[rows["kind"] == "generate"][["signal", "flags"]].values.tolist() == [[10, 0], [15, 0x100]]


def test_spellings_of_strace_4() -> None:
    """A new thread announced in the middle of a line, arguments in the second half, actions without names."""
    text = f"""7 {T0}.000000 execve("/bin/x", ["x"], [/* 3 vars */]) = 0
[pid 7] {T0}.100000 rt_sigaction(SIGINT, {{0x44, [INT], SA_RESTORER|SA_ONSTACK, 0x7f}}, {{SIG_DFL, [], 0}}, 8) = 0
[pid 7] {T0}.200000 clone(Process 8 attached
 <unfinished ...>
[pid 8] {T0}.300000 rt_sigprocmask(SIG_SETMASK, ~[RTMIN RT_1],  <unfinished ...>
[pid 7] {T0}.400000 <... clone resumed> child_stack=0x7f0, flags=CLONE_VM|CLONE_SIGHAND|CLONE_THREAD) = 8
[pid 8] {T0}.500000 <... rt_sigprocmask resumed> [], 8) = 0
"""
    rows = pd.concat([batch.to_pandas() for batch in strace.Log(io.BytesIO(text.encode())).batches()])
    assert rows["kind"].tolist() == ["snapshot", "exec", "action", "born", "mask"]
    assert rows["onstack"].iloc[3] == sig.word_of([2])
    assert sig.describe(int(rows["mask"].iloc[4])) == "~[KILL STOP CANCEL SETXID]"


def test_a_first_process_without_a_name() -> None:
    """On standard error strace names nobody as long as there is one process."""
    text = f"""{T0}.000000 execve("/bin/x", ["x"], 0x7f /* 3 vars */) = 0
{T0}.100000 rt_sigprocmask(SIG_BLOCK, ~[], [], 8) = 0
{T0}.200000 {CLONE}strace: Process 8 attached
 <unfinished ...>
[pid 8] {T0}.300000 rt_sigprocmask(SIG_SETMASK, [], NULL, 8) = 0
[pid 7] {T0}.400000 <... clone resumed>) = 8
[pid 8] {T0}.500000 exit(0) = ?
[pid 8] {T0}.600000 +++ exited with 0 +++
{T0}.700000 rt_sigprocmask(SIG_SETMASK, [], NULL, 8) = 0
"""
    log = strace.Log(io.BytesIO(text.encode()))
    rows = pd.concat([batch.to_pandas() for batch in log.batches()])
    assert list(zip(rows["kind"], rows["tid"], strict=True)) == [
        ("snapshot", 7), ("exec", 7), ("mask", 7), ("born", 8), ("mask", 8), ("exit", 8), ("mask", 7)
    ]  # fmt: skip
    assert log.notes == []


def test_midnight() -> None:
    text = b'7 23:59:59.500000 execve("/bin/x", ["x"], 0x7f) = 0\n7 00:00:00.250000 exit(0) = ?\n'
    rows = pd.concat([b.to_pandas() for b in strace.Log(io.BytesIO(text)).batches()])
    assert rows["time_ns"].iloc[-1] - rows["time_ns"].iloc[0] == 750_000_000


def test_damage_is_counted_and_makes_its_moment_uncertain() -> None:
    log, rows = small(
        BEGIN,
        "7 1 rt_sigprocmask(SIG_BLO",
        "7 2 rt_sigprocmask(SIG_BLOCK, [NOSUCH], [], 8) = 0",
        "7 3 $%&/()",
        "7 4 sigaltstack({ss_sp=0x7f, ss_flags=0, ss_size=8192}, NULL) = 0",
    )
    assert log.damaged == 3
    assert rows["kind"].tolist() == ["snapshot", "exec", "lost", "lost", "lost", "altstack"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not a log of strace"),
        (b"# Title\n\nSome text of no interest.\n", "this line is not: '# Title'"),
        (b"\x00\x01\x02\xff" * 100, "is not a log of strace"),
        (b'execve("/bin/x", ["x"], 0x7f) = 0\nbrk(NULL) = 0x55\n', "no times: record it with strace -f -ttt"),
        (b'7 14:21:33 execve("/bin/x", ["x"], 0x7f) = 0\n', "whole seconds"),
    ],
)
def test_refusals(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        strace.Log(io.BytesIO(text), name="some.log")


def test_relative_times_in_many_files_have_no_order(tmp_path: Path) -> None:
    for tid in (7, 8):
        (tmp_path / f"log.{tid}").write_text("     0.000100 brk(NULL) = 0x55\n")
    with pytest.raises(InputError, match="record with -ttt"):
        strace.Log(strace.family(tmp_path / "log"))


def test_recognised_by_content() -> None:
    assert all(strace.recognises(path.read_bytes()) for path in FOLDER.iterdir())
    assert not strace.recognises(Path(__file__).read_bytes())


def swallow(data: bytes) -> None:
    """Read anything to its end; only InputError may come of it."""
    try:
        log = strace.Log(io.BytesIO(data))
        windows = Windows()
        last_ns = 0
        for batch in log.batches():
            if batch.num_rows:
                times = batch.column("time_ns").to_numpy()
                assert times[0] >= last_ns
                assert (times[1:] >= times[:-1]).all()
                last_ns = times[-1]
                windows.feed(batch)
    except InputError:
        return


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    swallow(data)
    swallow(b"7 1700000000.000000 brk(NULL) = 0x55\n" * 3 + data)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(LOGS)), st.randoms(use_true_random=False))
def test_any_mutation_of_real_logs(name: str, chance: random.Random) -> None:
    path = chance.choice(strace.family(FOLDER / name))
    lines = path.read_bytes().splitlines(keepends=True)
    start = chance.randrange(len(lines))
    lines = lines[start : start + 120]
    for _ in range(chance.randrange(12)):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randrange(len(line) + 1)
        lines[at] = chance.choice(
            [
                line[:cut],
                line[:cut] + bytes([chance.randrange(256)]) + line[cut + 1 :],
                line[:cut] + chance.choice(lines),
                line[cut:],
                line * 2,
                b"",
                line.replace(b"0", b"9" * chance.randrange(30)),
            ]
        )
    if chance.random() < 0.3:
        chance.shuffle(lines)
    swallow(b"".join(lines))


def test_a_line_without_end_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace_calls, "_LONGEST_LINE_BYTES", 1 << 16)
    monkeypatch.setattr(strace, "_CHUNK_BYTES", 1 << 14)
    lines = b"7 1700000000.000000 brk(NULL) = 0x55\n" * 3000
    log = strace.Log(io.BytesIO(lines + b"x" * (1 << 20) + b"\n" + lines))
    for _ in log.batches():
        assert len(log._lines[0]._carry) <= 1 << 16
    assert log.lines == 6001


def test_speed(tmp_path: Path) -> None:
    """A tenth of what is promised, on a machine that does other things: 100,000 lines in 5 s."""
    lines = (FOLDER / "workers-self.log").read_bytes() * 1100
    start_s = time.monotonic()
    log = strace.Log(io.BytesIO(lines))
    for _ in log.batches():
        pass
    assert log.lines > 100_000
    assert time.monotonic() - start_s < 5


def test_the_docs_name_the_options() -> None:
    docs = Path(__file__).parent.with_name("docs") / "strace.md"
    assert " ".join(tracer.OPTIONS).replace("?", "") in docs.read_text()
    assert {*strace_calls._AT_ONCE, *strace_calls._FROM_START, *strace_calls._AT_END} == set(tracer.CALLS)


# ---- live -----------------------------------------------------------------------------------


OPENED = "from sigwindow.collector.session import Options, Target\nfrom sigwindow.collector.strace import live\n"


@pytest.fixture
def strace_works() -> None:
    """Skip where there is no strace, or where it may not trace."""
    needs("strace", shutil.which("strace") is not None, "install strace")
    traces = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    needs("strace", traces, "it may not trace here")


def captured(target: Target, duration_s: float | None = None) -> tuple[live.StraceSession, Analysis]:
    """A session that is over, and what it recorded."""
    windows = Windows()
    with live.opened(target, Options(duration_s=duration_s)) as session:
        for batch in session:
            if batch.num_rows:
                windows.feed(batch)
    return session, windows.result()


@pytest.mark.parametrize(("mode", "verdict"), [("broken", "exposed"), ("fixed", "masked")])
@pytest.mark.usefixtures("strace_works")
def test_a_command(mode: str, verdict: str, workloads: Path) -> None:
    session, of = captured(Target((str(workloads / "newosproc"), mode, "-n", "11")))
    assert of.threads["verdict"].tolist() == [verdict] * 11
    assert (session.status, of.ended, of.lost_events) == (0, True, 0)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 7", 7), ("kill -TERM $$", 143), ("sleep 5 >/dev/null 2>&1 & exit 3", 3)]
)
@pytest.mark.usefixtures("strace_works")
def test_status_of_a_command(script: str, status: int) -> None:
    assert captured(Target(("sh", "-c", script)))[0].status == status


@pytest.mark.usefixtures("strace_works")
def test_attached_and_let_go(workloads: Path) -> None:
    with subprocess.Popen([workloads / "newosproc", "broken", "-r", "20"]) as target:
        _, of = captured(Target(pids=(target.pid,)), duration_s=0.4)
        assert target.poll() is None
        target.terminate()
        assert target.wait(10) == 0
    assert len(of.threads) > 5
    assert of.threads["verdict"].isin(["exposed"]).mean() > 0.9  # the last may be cut off at its birth
    assert of.ended


@pytest.mark.usefixtures("strace_works")
def test_the_command_gets_nothing_of_strace() -> None:
    """The same open files and the same mask as without."""
    script = "import os, signal; print(os.listdir('/proc/self/fd'), signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    argv = ("/usr/bin/python3", "-c", script)
    code = f"{OPENED}with live.opened(Target({argv!r}), Options()) as session:\n for _ in session: pass"
    plain, traced = (
        subprocess.run(command, capture_output=True, text=True, check=True)
        for command in (argv, [sys.executable, "-c", code])
    )
    assert (traced.stdout, traced.stderr) == (plain.stdout, "")


@pytest.mark.usefixtures("strace_works")
def test_an_ordinary_user_may_trace_a_command(workloads: Path) -> None:
    needs_root()  # any other user has seen it in the tests before
    program = shutil.copy(workloads / "newosproc", tempfile.mkdtemp())
    Path(program).parent.chmod(0o755)
    code = (
        f"import os\n{OPENED}from sigwindow.probes.traceinfo import TraceInfo\nTraceInfo()\n"  # read while it may
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"with live.opened(Target(({str(program)!r}, 'broken', '-n', '5')), Options()) as session:\n"
        " kinds = [kind for batch in session for kind in batch.column('kind').to_pylist()]\n"
        "print(os.geteuid(), kinds.count('born'), session.status)"
    )
    try:
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    finally:
        shutil.rmtree(Path(program).parent)
    assert said.stdout == "65534 5 0\n"


@pytest.mark.usefixtures("strace_works")
def test_what_cannot_be_traced() -> None:
    with pytest.raises(UsageError, match="no such command"):
        captured(Target(("no-such-command",)))
    with pytest.raises(UsageError, match="no process"):
        captured(Target(pids=(2**22 - 1,)))


@pytest.mark.live
@pytest.mark.usefixtures("strace_works")
@pytest.mark.parametrize(
    ("program", "verdict"),
    [("newosproc broken", "exposed"), ("newosproc fixed", "masked"), ("workers self", "exposed")],
)
def test_the_same_verdicts_as_bcc(program: str, verdict: str, workloads: Path) -> None:
    name, mode = program.split()
    argv = [str(workloads / name), mode, "-n", "13"]
    by_bcc = record(Request(argv=argv, keep=False)).analysis.threads["verdict"].tolist()
    by_strace = captured(Target(tuple(argv)))[1].threads["verdict"].tolist()
    assert by_strace == by_bcc == [verdict] * 13
