"""Sessions and the table of back ends: who is asked, what is refused, and what a capture says and leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from commandline import Run
from makers import batch
from needs import needs_root

from sigwindow import control
from sigwindow.collector import backends, procfs, ring_session
from sigwindow.collector.backends import BACKENDS
from sigwindow.collector.pump import pump
from sigwindow.collector.session import Ability, Options, Target
from sigwindow.collector.tracefile import Reader
from sigwindow.probes import events, preflight
from sigwindow.probes.errors import CannotTraceError, InputError, SigwindowError, UsageError
from sigwindow.probes.preflight import Check
from sigwindow.probes.traceinfo import TraceInfo

SIGWINDOW = (sys.executable, "-m", "sigwindow")
SELF = Target(pids=(os.getpid(),))


@pytest.fixture
def no_ebpf(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks what eBPF needs, and has all else."""
    lacking = [Check("kernel types (BTF)", "missing", "none", "another kernel")]
    monkeypatch.setattr(preflight, "checks", lambda **_: lacking)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


# ---- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_ebpf")
@pytest.mark.parametrize(
    ("target", "options"),
    [
        (Target(("true",)), Options()),
        (SELF, Options()),
        (Target(pids=(os.getpid(), 1)), Options()),  # what --comm stands for: strace can do that
    ],
)
def test_auto_takes_what_can_do_it(target: Target, options: Options) -> None:
    backend, remark = backends.choose("auto", target, options)
    assert backend.name == "strace"
    assert "no eBPF here (kernel types (BTF): none)" in remark
    assert "stretches the windows" in remark


@pytest.mark.usefixtures("no_ebpf")
@pytest.mark.parametrize(
    ("target", "options"),
    [(Target(everything=True), Options()), (SELF, Options(stacks=True)), (SELF, Options(mark="main"))],
)
def test_what_only_ebpf_can_is_refused_with_what_it_lacks(target: Target, options: Options) -> None:
    with pytest.raises(CannotTraceError, match="BTF"):
        backends.choose("auto", target, options)
    with pytest.raises(UsageError, match=r"--backend strace can't do .* here\. What can: bcc"):
        backends.choose("strace", target, options)


def test_dtrace_attaches_on_freebsd_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError, match="can't do attach here"):
        backends.choose("dtrace", SELF, Options())
    monkeypatch.setattr("platform.system", lambda: "FreeBSD")
    assert backends.choose("auto", SELF, Options()) == (BACKENDS["dtrace"], "")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(CannotTraceError, match="kldload dtraceall"):
        backends.choose("auto", SELF, Options())


def test_every_ability_is_documented() -> None:
    """The table of docs/install.md is the one of the back ends, as they are on Linux."""
    page = (Path(__file__).parent.parent / "docs" / "install.md").read_text()
    section = page.split("## What each back end can")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert rows[0][1:] == [f"`{name}`" for name in BACKENDS]
    abilities = [backend.abilities() for backend in BACKENDS.values()]
    told = {row[0].strip("`"): row[1:] for row in rows[2:]}
    assert told == {ability.value: ["yes" if ability in can else "no" for can in abilities] for ability in Ability} | {
        "run": ["yes"] * len(BACKENDS)
    }


def test_doctor_names_every_back_end(sigwindow: Run) -> None:
    done = sigwindow("doctor", "--json")
    found = json.loads(done.out)
    assert [one["backend"] for one in found] == list(BACKENDS)
    for one in found:
        assert one["works"] == all(check["state"] != "missing" for check in one["checks"])
    assert done.code == (0 if any(one["works"] for one in found) else 3)
    shown = sigwindow("doctor").out
    assert "planned" not in shown
    for name in BACKENDS:
        assert re.search(rf"^{name} ", shown, re.MULTILINE)


# ---- sessions -------------------------------------------------------------------------------------------------------


class Probes:
    """Probes that have recorded what they are given, a batch a drain."""

    def __init__(self, *batches: pa.RecordBatch) -> None:
        self.batches = list(batches)
        self.added: list[int] = []
        self.watermark_ns = 10**18

    def add(self, pids: Sequence[int]) -> None:
        self.added += pids

    def drain(self) -> pa.RecordBatch:
        return self.batches.pop(0) if self.batches else events.batch_of_rows([])

    def fill(self) -> float:
        return 0.0

    def lost(self) -> int:
        return 0


def test_a_session_begins_before_it_is_read() -> None:
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    here = {"pid": os.getpid(), "tid": threading.get_native_id()}
    early = {"kind": "mask", "time_ns": now, **here}
    born = {"kind": "born", "time_ns": now + 10**12, **here}
    probes = Probes(batch(early, born), batch({"kind": "exit", "time_ns": now + 10**12 + 1, **here}))
    session = ring_session.RingSession(probes, [os.getpid()], [], TraceInfo())
    assert probes.added == [os.getpid()]  # it has begun
    session.stop()
    seen: list[pa.RecordBatch] = []
    order: list[str] = []
    pump(session, [seen.append, lambda _: order.append("engine"), lambda _: order.append("writer")])
    assert order == ["engine", "writer"] * len(seen)
    rows = pa.Table.from_batches(seen).to_pylist()
    own = [row["kind"] for row in rows if row["tid"] == threading.get_native_id()]
    assert own == ["born", "exit"]  # not the mask from before, and no snapshot of what was born in the trace
    assert (rows[-1]["kind"], rows[-1]["comm"]) == ("mark", "end")


FREEBSD = (
    "sigwindow-lines 1 tracer=dtrace os=freebsd signals=freebsd clock=DTrace time_ns=1 wall_ns=1700000000000000001 "
    "target=7 follow=0 arch=amd64 kernel=14.1 host=beastie"
)
FAKE_DTRACE = """#!/bin/sh
echo '{header}'
echo sigwindow-ready
while kill -0 "$5" 2>/dev/null; do sleep 0.05; done
echo sigwindow-end time_ns=9
"""


def test_a_trace_is_what_its_tracer_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sigwindow: Run) -> None:
    """A header of FreeBSD was stored as Linux, with a clock of Linux."""
    needs_root()
    tracer, trace = tmp_path / "dtrace", tmp_path / "t.arrows"
    tracer.write_text(FAKE_DTRACE.format(header=FREEBSD))
    tracer.chmod(0o755)
    monkeypatch.setenv("SIGWINDOW_DTRACE", str(tracer))
    done = sigwindow("run", "--backend", "dtrace", "--no-live", "-o", trace, "--", "sh", "-c", "exit 3")
    assert (done.code, "exited with 3" in done.err) == (0, True), done.err
    info = Reader(trace).info
    assert (info.os, info.clock, info.host, info.kernel) == ("freebsd", "DTrace", "beastie", "14.1")
    assert info.clock_to_wall_ns == 1_700_000_000_000_000_000
    assert info.command == ("sh", "-c", "exit 3")
    assert info.options == {"ready": "auto", "signals": "async", "follow": False}


# ---- processes ------------------------------------------------------------------------------------------------------


def test_a_pid_is_told_from_what_only_looks_like_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = (Path("/proc/self/comm")).read_text().strip()
    with pytest.raises(UsageError, match=rf"is no PID\. Processes of that name: .*; `attach --comm {re.escape(name)}`"):
        procfs.pid_of(name)
    for text in ("nosuchprocess", "-1", "1.5", "٣", "9" * 30):
        with pytest.raises(UsageError, match=r"is no PID$"):
            procfs.pid_of(text)
    with pytest.raises(UsageError, match=f"no process with PID {2**22}"):
        procfs.pid_of(str(2**22))
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(UsageError, match=f"is a thread of process {os.getpid()}, .*: give {os.getpid()}"):
            procfs.pid_of(str(thread.native_id))
    finally:
        done.set()
        thread.join()
    assert procfs.pid_of("1") == 1
    monkeypatch.setattr(procfs, "_PROC", tmp_path)  # FreeBSD has no /proc
    assert procfs.pid_of(str(os.getpid())) == os.getpid()
    with pytest.raises(UsageError, match="no process"):
        procfs.pid_of(str(2**22))


def test_what_waits_for_the_whole_process_is_told(sigwindow: Run) -> None:
    script = (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10, 12])\n"
        "os.kill(os.getpid(), 10)\nsignal.raise_signal(12)\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        thread = procfs.threads(process.pid)[0]
        shown = sigwindow("inspect", process.pid).out
        process.communicate(b"\n")
    assert (thread.pending, thread.pending_process) == (1 << 11, 1 << 9)
    assert re.search(r"\[USR1 USR2\] +\[(?:INT)?\] +\[USR2\]", shown)
    assert "pending for any thread that does not block it: [USR1]" in shown


# ---- what a capture says and leaves behind --------------------------------------------------------------------------


def capture(*arguments: object, folder: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """`sigwindow` with some arguments, in a folder."""
    words = [*SIGWINDOW, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, timeout=120, **more)


@pytest.mark.live
def test_a_capture_says_at_once_what_it_does(tmp_path: Path) -> None:
    """Before the packages that take long, and before the probes, which take longer."""
    command = [sys.executable, "-X", "importtime", *SIGWINDOW[1:], "run", "--no-trace", "--", "true"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stderr
    before, said, after = told.partition("[sigwindow] loading the probes\n")
    assert said
    slow = ("numpy", "pyarrow", "pandas", "numba", "rich")
    assert [name for name in slow if re.search(rf"\| +{name}$", before, re.MULTILINE)] == []
    assert re.search(r"\| +pandas$", after, re.MULTILINE)


@pytest.mark.live
def test_a_trace_is_kept_under_a_name_of_its_own(tmp_path: Path) -> None:
    program = tmp_path / "-a b\x1b[2J;&.sh"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir()
    done = capture("run", "--", program, folder=folder)
    (trace,) = folder.iterdir()
    assert re.fullmatch(r"sigwindow-a_b_2J_\.sh-\d+-\d{8}-\d{6}\.arrows", trace.name)
    assert done.stderr.splitlines()[-1].startswith(f"[sigwindow] the trace is {trace.name}; ")
    assert Reader(trace).info.command == (str(program),)
    trace.unlink()
    assert "arrows" not in capture("run", "--no-trace", "--", "true", folder=folder).stderr
    capture("run", "-o", tmp_path / "t.arrows", "--", "true", folder=folder)
    assert not list(folder.iterdir())
    refused = capture("run", "--no-trace", "-o", "t.arrows", "--", "true", folder=folder)
    assert (refused.returncode, "contradict" in refused.stderr) == (2, True)


def test_a_folder_that_can_not_be_written_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sigwindow: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "choose", lambda *_: (BACKENDS["strace"], ""))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    marker = tmp_path / "marker"
    for options, told in (((), "give -o, or --no-trace"), (("-o", "nowhere/t.arrows"), "nowhere is no folder")):
        done = sigwindow("run", *options, "--", "touch", marker)
        assert (done.code, told in done.err) == (2, True), done.err
    assert not marker.exists()


@pytest.mark.live
def test_a_start_that_fails_leaves_the_old_trace(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    trace.write_text("precious")
    for command in (["/no/such/command"], ["/dev/null"]):
        done = capture("run", "--force", "-o", trace, "--", *command, folder=tmp_path)
        assert (done.returncode, "can't run" in done.stderr) == (2, True), done.stderr
        assert trace.read_text() == "precious"
    capture("run", "--force", "-o", trace, "--", "true", folder=tmp_path)
    assert Reader(trace).info.command == ("true",)


# ---- the status -----------------------------------------------------------------------------------------------------


def told(fd: int) -> list[dict[str, Any]]:
    with os.fdopen(fd) as lines:
        return list(control.heard(lines))


def test_the_status_is_told_and_heard(tmp_path: Path) -> None:
    def after(error: BaseException | None, *, begins: bool) -> list[dict[str, Any]]:
        reading, writing = os.pipe()
        os.write(writing, b'sudo says something\n{"x": 1}\n[]\n')
        try:
            with control.telling(writing) as status:
                if begins:
                    status.started(TraceInfo(backend="bcc", targets=(7,)), tmp_path)
                if error:
                    raise error
                status.ended(1)
        except (SigwindowError, click.UsageError, KeyboardInterrupt, ZeroDivisionError):
            assert error
        os.close(writing)
        return told(reading)

    started = {"status": "started", "backend": "bcc", "targets": [7], "trace": str(tmp_path)}
    over = {"status": "ended", "code": 1, "error": None, "message": ""}
    assert after(None, begins=True) == [started, over]
    (refused,) = after(CannotTraceError("no"), begins=False)
    assert refused == {"status": "refused", "code": 3, "error": "CannotTraceError", "message": "no"}
    assert isinstance(control.error_of(refused), CannotTraceError)
    _, ended = after(InputError("full"), begins=True)
    assert (ended["status"], ended["code"], type(control.error_of(ended))) == ("ended", 4, InputError)
    assert after(KeyboardInterrupt(), begins=True)[1]["code"] == 130
    assert after(ZeroDivisionError(), begins=True)[1]["code"] == 1
    assert after(click.UsageError("how?"), begins=False)[0]["code"] == 2
    control.Status(None).ended(0)


@pytest.mark.live
def test_a_capture_tells_its_status_alone_on_a_stream(tmp_path: Path) -> None:
    done = capture("run", "--status-fd", 1, "--no-trace", "--", "true", folder=tmp_path)
    started, ended = map(json.loads, done.stdout.splitlines())
    assert (started["status"], started["backend"], started["trace"]) == ("started", "bcc", None)
    assert (ended["status"], ended["code"]) == ("ended", 0)
    assert "nothing to judge" in done.stderr
    assert "loading" not in done.stderr
    (refused,) = map(json.loads, capture("attach", "--status-fd", 1, 2**22, folder=tmp_path).stdout.splitlines())
    assert (refused["status"], refused["code"], refused["error"]) == ("refused", 2, "UsageError")
