"""`import`, and the backends that need no eBPF, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from needs import needs, needs_ebpf, needs_root

from sigwindow.collector import importing
from sigwindow.probes import dtrace, preflight
from sigwindow.probes.errors import CannotTraceError, InputError

SIGWINDOW = [sys.executable, "-m", "sigwindow"]
LOGS = Path(__file__).parent / "strace"


def sigwindow(*arguments: object, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line and check its exit code."""
    words = [*SIGWINDOW, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | env, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_a_log_becomes_a_trace_with_the_same_summary(tmp_path: Path) -> None:
    log = next(path for path in sorted(LOGS.iterdir()) if "broken" in path.name)
    trace, imported, analyzed = (tmp_path / name for name in ("t.arrows", "imported.json", "analyzed.json"))
    sigwindow("import", log, "-o", trace, "--json", imported)
    sigwindow("analyze", trace, "--json", analyzed)
    assert imported.read_text() == analyzed.read_text()
    summary = json.loads(imported.read_text())
    assert summary["trace"]["backend"] == "strace"
    assert summary["threads"]["exposed"] == summary["threads"]["born"] > 0
    assert "exists" in sigwindow("import", log, "-o", trace, code=2).stderr


def test_what_is_not_known_is_refused_with_its_first_line(tmp_path: Path) -> None:
    other = tmp_path / "passwd\x1b[2J"
    other.write_text("root:x:0:0\x1b[31m:\nmore\n")
    refused = sigwindow("import", other, "-o", tmp_path / "t.arrows", code=4).stderr
    assert r"root:x:0:0\x1b[31m:" in refused.replace("\\\\", "\\")
    assert "\x1b" not in refused
    assert not (tmp_path / "t.arrows").exists()
    assert "can't read" in sigwindow("import", tmp_path / "none", "-o", tmp_path / "t.arrows", code=4).stderr


def test_a_text_that_names_strace_s_options_is_no_log_of_it(tmp_path: Path) -> None:
    """It was taken for one: our own error about a log without times quotes the line, and was searched for its words."""
    other = tmp_path / "notes"
    other.write_text("to see it, record it with strace -f -ttt\nand send the log\n")
    assert "neither a log of strace" in sigwindow("import", other, "-o", tmp_path / "t.arrows", code=4).stderr


def test_lines_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("E 1 born 1 2 0x0 rest that is damage\n")
    with pytest.raises(InputError, match="no header of the line protocol"), importing.opened(file):
        pass


def test_strace_serves_without_ebpf(workloads: Path, tmp_path: Path) -> None:
    command = [workloads / "newosproc", "broken", "-n", "31"]
    told = sigwindow("run", "--no-trace", "--backend", "strace", "--json", tmp_path / "s.json", "--", *command)
    threads = json.loads((tmp_path / "s.json").read_text())["threads"]
    assert (threads["born"], threads["exposed"]) == (31, 31)
    assert "exited with 0" in told.stderr
    refused = sigwindow("run", "--backend", "strace", "--stacks", "--", "true", code=2).stderr
    assert "--backend strace can't do --stacks here. What can: bcc" in refused


def test_auto_takes_strace_where_ebpf_is_not_allowed(workloads: Path, tmp_path: Path) -> None:
    """As a user without any right; the interpreter must be where such a user can read it."""
    needs_root()
    needs("setpriv", shutil.which("setpriv") is not None, "install util-linux")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    runs = subprocess.run([*user, sys.executable, "-c", ""], capture_output=True).returncode == 0
    needs("interpreter", runs, f"an ordinary user can't run {sys.executable}")
    program = shutil.copy(workloads / "newosproc", tmp_path)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    done = subprocess.run(
        [*user, *SIGWINDOW, "run", "--no-trace", "--", program, "broken", "-n", "31"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no eBPF here" in done.stderr
    assert "31 threads born, of them 31 exposed" in done.stderr


def test_dtrace_is_refused_where_it_can_t_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGWINDOW_DTRACE", "/nonexistent/dtrace")
    with pytest.raises(CannotTraceError, match="no dtrace was found"):
        preflight.require(dtrace.checks())
    for system, name in (("SunOS", "illumos"), ("Darwin", "macOS")):
        monkeypatch.setattr("platform.system", lambda system=system: system)
        with pytest.raises(CannotTraceError, match=name):
            preflight.require(dtrace.checks())


def test_dtrace_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGWINDOW_DTRACE", "true")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.system", lambda: "FreeBSD")
    assert preflight.can_trace(dtrace.checks())
    argv = dtrace.command(4242)
    assert argv[-1] == "4242"
    assert "window.d" in argv[-2]
    assert not {"-p", "-c"} & set(argv)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert "window-linux.d" in dtrace.command(4242)[-2]


FAKE_DTRACE = """#!/bin/sh
cat {lines}
while kill -0 "$5" 2>/dev/null; do sleep 0.05; done
"""


def test_a_session_by_another_tracer(tmp_path: Path, workloads: Path) -> None:
    """The gate and the ending: with a tracer that prints a header and an end, and with one that never begins."""
    needs_ebpf()
    lines, tracer = tmp_path / "lines", tmp_path / "dtrace"
    header = "sigwindow-lines 1 time_ns=1 wall_ns=1 tracer=dtrace os=linux signals=linux clock=CLOCK_MONOTONIC"
    header += " target=1 host=h"
    lines.write_text(f"{header}\nsigwindow-ready\nsigwindow-end time_ns=9\n")
    tracer.write_text(FAKE_DTRACE.format(lines=lines))
    tracer.chmod(0o755)
    done = sigwindow(
        "run", "--no-trace", "--backend", "dtrace", "--", "sh", "-c", "exit 3", SIGWINDOW_DTRACE=str(tracer)
    )
    assert "sh exited with 3" in done.stderr
    lines.write_text("")
    tracer.write_text("#!/bin/sh\necho 'DTrace requires additional privileges' >&2\n")
    done = sigwindow("run", "--no-trace", "--backend", "dtrace", "--", "true", code=3, SIGWINDOW_DTRACE=str(tracer))
    assert "did not begin to trace: DTrace requires additional privileges" in done.stderr
