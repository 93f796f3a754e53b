"""The line protocol: what the D and bpftrace scripts write, read back; and their traces against bcc's of one run."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from needs import dtrace_command, needs
from truth import read_truth

from sigwindow import fleet
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.result import Analysis
from sigwindow.collector import lines, tracefile
from sigwindow.collector.command import Command
from sigwindow.probes import events
from sigwindow.probes.errors import InputError
from sigwindow.probes.signals import SA_ONSTACK
from sigwindow.probes.text import decoded

SCRIPTS_FOLDER = Path(events.__file__).parent / "scripts"
COLUMNS = lines.COLUMNS
SETS = {"mask", "mask_hi", "handled", "handled_hi", "onstack", "onstack_hi", "sa_flags", "flags"}
HEADER = (
    b"sigwindow-lines 1 tracer=dtrace os=freebsd signals=freebsd clock=DTrace time_ns=500 wall_ns=1700000000000000500 "
    b"target=100 follow=0 kernel=14.1-RELEASE-p5 host=beastie\n"
)
END = b"sigwindow-end time_ns=9000\n"


def words(name: bytes) -> str:
    """A name as D writes it: words of 8 bytes."""
    padded = name.ljust(24, b"\0")
    return ":".join(f"0x{int.from_bytes(padded[i : i + 8], 'little'):x}" for i in (0, 8, 16))


def octets(name: bytes) -> str:
    """A name as bpftrace's %rx writes it: byte by byte."""
    return "".join(f"\\x{byte:02x}" for byte in name.ljust(16, b"\0"))


def line(time_ns: int, kind: str, tid: int = 101, comm: str = "0", **columns: Any) -> bytes:
    """One event as a line, everything not named being 0."""
    given = {"time_ns": time_ns, "kind": kind, "pid": 100, "tid": tid, **columns}
    values = [f"0x{given.get(name, 0):x}" if name in SETS else str(given.get(name, 0)) for name in COLUMNS[:-1]]
    return f"E {' '.join(values)} {comm} .\n".encode()


def read(data: bytes, stderr: str = "") -> tuple[lines.Reader, pd.DataFrame]:
    """A reader that is through, and the events that it gave but the tracer's own."""
    reader = lines.Reader(io.BytesIO(data), stderr)
    table = pa.Table.from_batches(list(reader.batches()), events.SCHEMA).to_pandas()
    table["kind"] = table["kind"].astype(str)
    assert table["time_ns"].is_monotonic_increasing
    return reader, table


def analysis(data: bytes) -> Analysis:
    reader = lines.Reader(io.BytesIO(data))
    windows = Windows(system=reader.info.os)
    for batch in reader.batches():
        windows.feed(batch)
    return windows.result()


# The crash of Go's newosproc on FreeBSD and its cure. Not recorded there: written by hand as window.d would write it.
PROF = 1 << 26
FREEBSD_ALL: dict[str, Any] = {"mask": 0xFFFFFFFF_FFFEFEFF, "mask_hi": 0xFFFFFFFF_FFFFFFFF}
BORN: dict[str, Any] = {
    "handled": PROF,
    "onstack": PROF,
    "peer": 100,
    "flags": events.CLONE_THREAD,
    "comm": words(b"go"),
}
BROKEN = (
    line(1000, "born", **BORN),
    line(1005, "start"),
    line(1010, "generate", signal=27, peer=100),
    line(1020, "deliver", mask=PROF, signal=27, disposition=2, sa_flags=SA_ONSTACK),
    line(1030, "return"),
    line(1040, "altstack", altstack=1),
    line(2000, "exit", altstack=1),
)
FIXED = (
    line(990, "mask", 100, **FREEBSD_ALL),
    line(1000, "born", **BORN, **FREEBSD_ALL),
    line(1005, "start", **FREEBSD_ALL),
    line(1006, "mask", 100),
    line(1010, "generate", signal=27, peer=100, **FREEBSD_ALL),
    line(1040, "altstack", altstack=1, **FREEBSD_ALL),
    line(1050, "mask", altstack=1),
    line(1060, "deliver", altstack=1, mask=PROF, signal=27, disposition=2, sa_flags=SA_ONSTACK),
    line(2000, "exit", altstack=1),
)


def test_the_bug_and_its_fix_in_freebsds_shape() -> None:
    columns = ["verdict", "setup_ns", "exposure_ns", "critical_hits", "deferred"]
    broken = analysis(HEADER + b"".join(BROKEN) + END)
    assert broken.threads[columns].to_numpy().tolist() == [["critical", 40, 30, 1, 0]]  # blocked while its handler runs
    assert broken.ended
    fixed = analysis(HEADER + b"".join(FIXED) + END)
    assert fixed.threads[columns].to_numpy().tolist() == [["masked", 40, 0, 0, 1]]
    _, table = read(HEADER + b"".join(FIXED) + END)
    born = table[table["kind"] == "born"].iloc[0]
    assert (born["mask"], born["mask_hi"]) == (FREEBSD_ALL["mask"], FREEBSD_ALL["mask_hi"])
    assert born["comm"] == "go"


def test_freebsd_s_signals_have_their_own_names_and_numbers() -> None:
    """INFO is 29 there, STOP 17, and the real-time signals begin at 65, in the second word."""
    open_to = {"handled": PROF | 1 << 28 | 1 << 9, "handled_hi": 1 << 2}  # PROF INFO BUS, SIGRTMIN+2
    found = analysis(
        HEADER
        + line(1000, "born", **(BORN | open_to), mask=1 << 28)
        + line(1010, "deliver", mask=PROF, signal=67, disposition=2, sa_flags=SA_ONSTACK)
        + line(1040, "altstack", mask=1 << 28, altstack=1)
        + END
    )
    by_signal = found.by_signal.set_index("name")
    assert by_signal["class"].to_dict() == {
        "SIGBUS": "synchronous",
        "SIGPROF": "async",
        "SIGINFO": "async",
        "SIGRTMIN+2": "async",
    }
    assert by_signal["exposure_ns"].to_dict() == {"SIGBUS": 40, "SIGPROF": 10, "SIGINFO": 30, "SIGRTMIN+2": 40}
    assert by_signal["critical"].to_dict() == {"SIGBUS": 0, "SIGPROF": 0, "SIGINFO": 0, "SIGRTMIN+2": 1}
    assert found.threads["verdict"].tolist() == ["critical"]


def test_both_words_of_freebsd_s_sets_are_read_from_a_trace(tmp_path: Path) -> None:
    trace = tmp_path / "t.arrows"
    born = line(1000, "born", handled_hi=1 << 2, flags=events.CLONE_THREAD)
    recorded = HEADER + born + line(1040, "altstack", altstack=1) + END
    reader = lines.Reader(io.BytesIO(recorded))
    with trace.open("wb") as out, tracefile.Writer(out, reader.info) as writer:
        for batch in reader.batches():
            writer.write(batch)
    found, _ = fleet.analyse(trace)
    assert found.by_signal["name"].tolist() == ["SIGRTMIN+2"]


def test_the_header_describes_the_trace() -> None:
    reader, table = read(HEADER + END)
    told = {
        "backend": "dtrace",
        "os": "freebsd",
        "signals": "freebsd",
        "kernel": "14.1-RELEASE-p5",
        "host": "beastie",
        "clock": "DTrace",
        "clock_to_wall_ns": 1700000000000000000,
        "targets": (100,),
    }
    assert told.items() <= asdict(reader.info).items()
    assert not reader.cut
    assert table[["kind", "time_ns", "comm"]].to_numpy().tolist() == [["mark", 9000, "end"]]


def test_events_of_several_cpus_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    shuffled = np.random.default_rng(7).permutation(1000)
    data = HEADER + b"".join(line(1000 + int(i), "mask") for i in shuffled) + END
    _, table = read(data)
    assert list(table["time_ns"]) == [*range(1000, 2000), 9000]

    # With less room than the disorder needs, what comes too late is left out and counted.
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(lines, "REORDER_ROWS", 50)
    reader, table = read(data)
    assert reader.late > 0
    assert (table["kind"] == "mask").sum() + reader.late == 1000
    assert list(table.loc[table["kind"] == "lost", "flags"]) == [reader.late]


def test_a_live_session_takes_what_is_old_enough() -> None:
    parser, order = lines.Parser(), lines.Ordered()
    order.add(parser.feed(HEADER + line(1002, "mask") + line(1000, "mask")[:9]))
    order.add(parser.feed(line(1000, "mask")[9:] + line(1001, "mask")))
    assert order.take(before_ns=1002).column("time_ns").to_pylist() == [1000, 1001]
    order.add(parser.feed(line(999, "mask") + line(1003, "mask")[:-1]))
    order.add(parser.finish())
    assert order.take().column("time_ns").to_pylist() == [1002, 1003]
    assert order.late == 1


LOSSES = {
    "the tracer's count": (HEADER + line(1000, "mask") + END + b"@lines: 8\n", "", 7),
    "a count that fits": (HEADER + line(1000, "mask") + END + b"@lines: 1\n", "", 0),
    "dtrace, apart": (HEADER + END, "dtrace: 7 drops on CPU 0\ndtrace: 2 dynamic variable drops\n", 9),
    "dtrace, tagged": (HEADER + b"dtrace: [DTRACEDROP_PRINCIPAL] 7 drops on CPU 1\n" + END, "", 7),
    "dtrace, one": (HEADER + END, "dtrace: 1 drop on CPU 0\n", 1),
    "bpftrace, between the lines": (HEADER + b"Lost 7 events\n" + line(1000, "mask") + END, "", 7),
    "a damaged line": (HEADER + line(1000, "mask")[:-3] + b"\n" + END, "", 1),
    "drops that the count explains": (HEADER + END + b"@lines: 7\n", "dtrace: 7 drops on CPU 0\n", 7),
    "no loss": (HEADER + b"Attaching 17 probes...\nsigwindow-ready\n\n" + END, "dtrace: 3 matched\n", 0),
}


@pytest.mark.parametrize(("data", "stderr", "lost"), LOSSES.values(), ids=LOSSES.keys())
def test_losses_become_an_event(data: bytes, stderr: str, lost: int) -> None:
    _, table = read(data, stderr)
    row = table[table["kind"] == "lost"]
    assert row["flags"].sum() == lost
    assert (row["mask"] == 500).all()


def test_a_loss_makes_every_thread_uncertain() -> None:
    assert not analysis(HEADER + b"".join(BROKEN) + END).threads["uncertain"].any()
    assert analysis(HEADER + b"".join(BROKEN) + b"Lost 1 events\n" + END).threads["uncertain"].all()


HOSTILE = [
    b"a b\tc",
    b"x\n" + line(5, "mask")[:12],
    b"\x1b[31m",
    b"\xff\xfe",
    b"%s %n",
    b"",
    b"\\x0a",
    b"sigwindow-end\n",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("encode", [words, octets])
def test_no_name_can_become_a_line(name: bytes, encode: Any) -> None:
    reader, table = read(HEADER + line(1000, "name", comm=encode((name + b"\0left over")[:20])) + END)
    assert list(table["kind"]) == ["name", "mark"]
    assert table["comm"][0] == decoded(name)
    assert table["comm"][0].isprintable()
    assert reader.damaged == 0


DAMAGED = {
    "an unknown kind": line(1000, "mask").replace(b"mask", b"masc"),
    "a column too few": line(1000, "mask").replace(b" 0 .", b" ."),
    "a column too many": line(1000, "mask").replace(b" .", b" 0 ."),
    "its start is missing": line(1000, "mask")[3:],
    "its end is missing": line(1000, "mask")[:-2] + b"\n",
    "two in one": line(1000, "mask")[:-1] + line(1001, "mask"),
    "a number that fits no column": line(1000, "mask", tid=10**10),
    "a set without its prefix": line(1000, "mask").replace(b"0x0", b"7", 1),
    "signal 129": line(1000, "generate", signal=129),
    "a name in plain": line(1000, "name", comm="x"),
    "NUL bytes": b"\0" * 5000 + b"\n",
    "a very long line": b"E " + b"9" * 100_000 + b"\n",
    "not ASCII": "E 1000 mäsk\n".encode(),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("chunk_bytes", [100, 1 << 20])
def test_a_damaged_line_is_counted_and_is_no_event(
    damaged: bytes, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEADER + line(1000, "mask") + damaged + line(1001, "mask") + END
    monkeypatch.setattr(lines, "CHUNK_BYTES", max(chunk_bytes, len(HEADER)))
    reader, table = read(data)
    assert list(table.loc[table["kind"] == "mask", "time_ns"]) == [1000, 1001]
    assert reader.damaged == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no header"),
        (line(1000, "mask"), "no header"),
        (b"\x7fELF\n", "no header"),
        (HEADER.replace(b"lines 1", b"lines 2"), "version 2"),
        (HEADER.replace(b"target=100 ", b""), "target"),
        (HEADER.replace(b"target=100", b"target=x"), "'x' is no number"),
        (HEADER.replace(b"time_ns=500", b"time_ns=" + b"9" * 19), "no number"),
        (HEADER + HEADER, "two headers"),
    ],
)
def test_what_is_not_the_protocol_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(data)


def test_recognised_by_content() -> None:
    assert lines.is_lines(HEADER)
    assert lines.is_lines(b"Attaching 17 probes...\n" + HEADER[:40])
    assert lines.is_lines(line(1000, "mask"))
    assert not lines.is_lines(b"PAR1")
    assert not lines.is_lines(b"101 1000.5 rt_sigprocmask(SIG_BLOCK, [], NULL, 8) = 0\n")


def _columns() -> st.SearchStrategy[dict[str, int]]:
    limits = dict.fromkeys(SETS, 2**64 - 1) | {"sa_flags": 2**32 - 1, "flags": 2**32 - 1}
    limits |= {"altstack": 1, "signal": 128, "disposition": 2, "peer": 10**9 - 1}
    return st.fixed_dictionaries({}, optional={name: st.integers(0, top) for name, top in limits.items()})


EVENTS = st.lists(
    st.tuples(
        st.integers(1000, 2000),
        st.sampled_from([name for name in events.KIND_NAMES if name not in ("lost", "mark")]),
        st.integers(0, 10**9 - 1),
        _columns(),
        st.binary(max_size=16),
        st.sampled_from([words, octets]),
    ),
    max_size=20,
)


def _written(rows: list[Any]) -> bytes:
    return b"".join(line(t, kind, tid, encode(name), **columns) for t, kind, tid, columns, name, encode in rows)


@given(EVENTS)
def test_what_is_written_is_read(rows: list[Any]) -> None:
    reader, table = read(HEADER + _written(rows) + END + f"@lines: {len(rows)}\n".encode())
    assert (reader.damaged, reader.cut, reader.late) == (0, False, 0)
    expected = [
        {
            **dict.fromkeys(events.SCHEMA.names, 0),
            "stack": "",
            **columns,
            "time_ns": t,
            "kind": kind,
            "pid": 100,
            "tid": tid,
        }
        | {"comm": decoded(name.split(b"\0")[0])}
        for t, kind, tid, columns, name, _ in sorted(rows, key=lambda row: row[0])
    ]
    assert table.iloc[:-1].to_dict("records") == expected


@given(
    EVENTS,
    st.integers(0, 10_000),
    st.sampled_from([b"Lost 7 events\n", b"dtrace: 7 drops on CPU 0\n", b"\xff\0", b"\n"]),
)
def test_a_message_anywhere_never_makes_an_event(rows: list[Any], at: int, message: bytes) -> None:
    body = _written(rows)
    at = min(at, len(body))
    _, whole = read(HEADER + body + END)
    _, table = read(HEADER + body[:at] + message + body[at:] + END)
    seen = table[~table["kind"].isin(["lost", "mark"])]
    assert {str(row) for row in seen.to_dict("records")} <= {str(row) for row in whole.to_dict("records")}
    assert len(whole) - 1 - len(seen) <= 1
    if len(seen) < len(whole) - 1:
        assert (table["kind"] == "lost").any()


@given(st.binary(max_size=300), st.integers(0, len(HEADER)), st.integers(0, len(HEADER)))
def test_any_bytes_are_read_or_refused(noise: bytes, start: int, stop: int) -> None:
    for data in (HEADER + noise, HEADER[:start] + noise + HEADER[stop:] + b"".join(BROKEN), noise):
        try:
            _, table = read(data)
        except InputError:
            continue
        assert len(table) <= len(BROKEN) + noise.count(b"E ") + 2


@given(EVENTS, st.integers(0, 10_000))
def test_a_cut_file_gives_what_is_whole(rows: list[Any], at: int) -> None:
    body = _written(rows)[:at]
    reader, table = read(HEADER + body)
    assert reader.cut
    assert not (table["kind"] == "mark").any()
    whole = body.count(b" .\n") + body.endswith(b" .")
    assert len(table) - (table["kind"] == "lost").sum() == whole


# ---- live ---------------------------------------------------------------------------------------------------------


def tracers() -> dict[str, list[str]]:
    """The commands of the tracers that are here."""
    found = {}
    if bpftrace := shutil.which("bpftrace"):
        found["bpftrace"] = [bpftrace, str(SCRIPTS_FOLDER / "window.bt")]
    if dtrace := dtrace_command():
        found["dtrace"] = [*dtrace, "-q", "-s", str(SCRIPTS_FOLDER / "window-linux.d")]
    return found


def recording(trace: Path) -> bool:
    """Whether a trace of `sigwindow attach` has its first events."""
    try:
        return any(batch.num_rows for batch in tracefile.Reader(trace).batches())
    except InputError:
        return False


def result_of(reader: lines.Reader | tracefile.Reader) -> tuple[Analysis, pd.DataFrame]:
    """The analysis of a trace, and its events but the tracer's own and the threads from before."""
    windows, batches = Windows(), list(reader.batches())
    for batch in batches:
        windows.feed(batch)
    table = pa.Table.from_batches(batches).to_pandas().astype({"kind": str})
    return windows.result(), table[(table["pid"] > 0) & (table["kind"] != "snapshot")]


_TRIES = 4  # of another tracer, which drops records where the machine is busy


def side_by_side(workloads: Path, folder: Path, tracer: str, options: str) -> tuple[Path, Path, Path, Path]:
    """Run a workload under both tracers: the trace, the other's lines and messages, and the workload's own record."""
    trace, output, errors, truth_file = (folder / name for name in ("t.arrows", "lines", "errors", "truth"))
    command = Command([str(workloads / "newosproc"), *options.split(), "-o", str(truth_file)])
    with output.open("wb") as out, errors.open("wb") as err:
        other = subprocess.Popen([*tracers()[tracer], str(command.pid)], stdout=out, stderr=err)
    attach = [sys.executable, "-m", "sigwindow", "attach", str(command.pid), "-o", str(trace)]
    bcc = subprocess.Popen(attach, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while b"sigwindow-ready" not in output.read_bytes() or not recording(trace):
            assert other.poll() is None, errors.read_text()
            assert bcc.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        command.release()
        command.wait()
        assert other.wait(timeout=30) == 0
        assert bcc.wait(timeout=30) == 0
    finally:
        command.close()
        for process in (other, bcc):
            process.kill()
            process.wait()
    return trace, output, errors, truth_file


@pytest.mark.live
@pytest.mark.parametrize("options", ["broken -n 1009 -s 50", "broken -t -n 199 -s 2000", "fixed -t -n 199 -s 500"])
@pytest.mark.parametrize("tracer", ["bpftrace", "dtrace"])
def test_another_tracer_sees_what_bcc_sees(workloads: Path, tmp_path: Path, tracer: str, options: str) -> None:
    needs(tracer, tracer in tracers(), "make dtrace" if tracer == "dtrace" else "install bpftrace")
    for attempt in range(_TRIES):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        try:
            trace, output, errors, truth_file = side_by_side(workloads, folder, tracer, options)
        except subprocess.TimeoutExpired:  # DTrace now and then does not notice the end of what it watches
            assert attempt < _TRIES - 1
            continue
        with output.open("rb") as file:
            reader = lines.Reader(file, errors.read_text())
            here, here_events = result_of(reader)
        if not here.lost_events:
            break  # what a busy machine made it drop, it says; then there is nothing to compare
    there, there_events = result_of(tracefile.Reader(trace))
    assert (reader.damaged, reader.cut, reader.late, here.lost_events) == (0, False, 0, 0)
    assert here.ended

    truth = read_truth(truth_file).threads
    assert list(here.threads["tid"]) == list(truth["tid"])
    assert list(here.threads["birth_mask"]) == list(truth["birth_mask"])
    times = [name for name in here.threads if str(name).endswith("_ns")]
    pd.testing.assert_frame_equal(here.threads.drop(columns=times), there.threads.drop(columns=times))
    by_thread = ["tid", "kind", "pid", *(name for name in COLUMNS[4:])]
    here_order, there_order = (
        table.sort_values(["tid", "time_ns"], kind="stable")[by_thread].reset_index(drop=True)
        for table in (here_events, there_events)
    )
    pd.testing.assert_frame_equal(here_order, there_order)
    # Each program reads the clock by itself, one after the other in one kernel event.
    for name in ("born_ns", "ready_ns", "end_ns"):
        apart_ns = (here.threads[name] - there.threads[name]).astype("float64").abs()
        assert apart_ns.median() < 100_000


@pytest.mark.live
def test_what_bpftrace_drops_is_counted(workloads: Path, tmp_path: Path) -> None:
    needs("bpftrace", "bpftrace" in tracers(), "install bpftrace")
    output, flood_says = tmp_path / "lines", tmp_path / "flood"
    script = f"exec {workloads}/flood 7 30011 > {flood_says}"
    command = Command(["sh", "-c", script])
    small = {**os.environ, "BPFTRACE_PERF_RB_PAGES": "1"}
    with output.open("wb") as out:
        tracer = subprocess.Popen([*tracers()["bpftrace"], str(command.pid)], stdout=out, stderr=out, env=small)
    try:
        while b"sigwindow-ready" not in output.read_bytes():
            assert tracer.poll() is None
            time.sleep(0.05)
        command.release()
        command.wait()
        assert tracer.wait(timeout=60) == 0
    finally:
        command.close()
        tracer.kill()
        tracer.wait()
    _, table = read(output.read_bytes())
    sets, altstacks = (int(number) for number in flood_says.read_text().split()[3::2])
    received = table[(table["pid"] == command.pid) & (table["kind"] != "snapshot")]
    lost = table.loc[table["kind"] == "lost", "flags"].sum()
    assert lost > 0
    # As with bcc (test_live.py); the shell adds what it does before its exec.
    assert len(received) + lost >= sets + altstacks + 7 * 2 + 4
    assert len(received) + lost <= sets + altstacks + 7 * 2 + 40
