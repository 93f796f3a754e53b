"""What the kernel side and the user side must agree on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sigwindow.probes import events, signals
from sigwindow.probes.bcc.loader import SOURCE, Options
from sigwindow.probes.errors import UsageError


def test_the_record_is_the_c_struct(tmp_path: Path) -> None:
    """Offsets and sizes of `struct event`, as a C compiler lays it out, are those of RECORD."""
    names = events.RECORD.names or ()
    prints = "".join(
        f'printf("{n} %zu %zu\\n", offsetof(struct event, {n}), sizeof(((struct event *)0)->{n}));' for n in names
    )
    program = (
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n"
        "typedef uint8_t u8; typedef uint32_t u32; typedef uint64_t u64; typedef int32_t s32;\n"
        f'#include "{SOURCE.with_name("event.h")}"\n'
        f'int main(void) {{ {prints} printf("all 0 %zu\\n", sizeof(struct event)); }}\n'
    )
    (tmp_path / "t.c").write_text(program)
    subprocess.run(["gcc", "-o", tmp_path / "t", tmp_path / "t.c"], check=True)
    laid_out = subprocess.run([tmp_path / "t"], capture_output=True, text=True, check=True).stdout.splitlines()
    fields = dict(events.RECORD.fields or {})
    expected = [f"{name} {fields[name][1]} {fields[name][0].itemsize}" for name in names]
    assert laid_out == [*expected, f"all 0 {events.RECORD.itemsize}"]
    assert set(names) == {column.name for column in events.COLUMNS if column.c_type}


def test_the_header_is_made_of_the_declarations() -> None:
    assert SOURCE.with_name("event.h").read_text() == events.c_header(), "type: make generate"


def test_rows_are_told_by_name() -> None:
    batch = events.batch_of_rows(
        [
            {"kind": "born", "time_ns": 1, "mask": 2**64 - 1, "altstack": True, "comm": "a", "stack": "main;f"},
            events.lost(2**40, -1, 5),
            events.end_of_trace(7),
        ]
    )
    batch.validate(full=True)
    assert batch.schema.equals(events.SCHEMA)
    assert [{name: value for name, value in row.items() if value} for row in batch.to_pylist()] == [
        {"kind": "born", "time_ns": 1, "mask": 2**64 - 1, "altstack": True, "comm": "a", "stack": "main;f"},
        {"kind": "lost", "time_ns": 5, "flags": 2**32 - 1},
        {"kind": "mark", "time_ns": 7, "comm": "end"},
    ]
    assert len(events.batch_of_rows([])) == 0
    with pytest.raises(ValueError, match="tids"):
        events.batch_of_rows([{"kind": "mask", "time_ns": 1, "tids": 3}])
    with pytest.raises(OverflowError):
        events.batch_of({"time_ns": np.array([1]), "kind": np.array([0]), "signal": np.array([256])})


def test_records_become_columns() -> None:
    records = np.zeros(3, events.RECORD)
    records["time_ns"] = (1, 2, 3)
    records["kind"] = (events.CODE["born"], events.CODE["mask"], events.CODE["name"])
    records["mask"] = (0, 2**64 - 1, 0)
    records["altstack"] = (0, 1, 0)
    records["comm"] = (b"a\xff\n\x1b[2J", b"", b"plain")
    batch = events.batch_of_records(records)
    assert batch.schema.equals(events.SCHEMA)
    assert batch.column("kind").to_pylist() == ["born", "mask", "name"]
    assert batch.column("mask").to_pylist() == [0, 2**64 - 1, 0]
    assert batch.column("altstack").to_pylist() == [False, True, False]
    assert batch.column("comm").to_pylist() == [r"a\xff\n\x1b[2J", "", "plain"]


def test_kinds_are_read_by_name() -> None:
    dictionary = pa.array(["exit", "from the future", "born"])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), dictionary)
    batch = pa.RecordBatch.from_arrays([column], names=["kind"])
    assert list(events.kind_codes(batch)) == [events.CODE["exit"], 255, events.CODE["born"]]


@pytest.mark.parametrize(("asked", "pages"), [(1, 1), (4096, 1), (4097, 2), (65536, 16), (1 << 24, 4096)])
def test_the_buffer_is_a_power_of_two_of_pages(asked: int, pages: int) -> None:
    assert Options(buffer_bytes=asked).ring_bytes() == pages * 4096


@pytest.mark.parametrize(
    ("text", "number"),
    [("PROF", 27), ("sigprof", 27), ("27", 27), ("SIGSETXID", 33), ("SIGRTMIN", 34), ("RTMIN+30", 64), ("64", 64)],
)
def test_signal_names(text: str, number: int) -> None:
    assert signals.number(text) == number
    assert signals.number(signals.name(number)) == number


@pytest.mark.parametrize("text", ["", "SIG", "NOSUCH", "0", "65", "-1", "٣", "RTMIN+31"])
def test_unknown_signals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="signal"):
        signals.number(text)


def test_signal_sets() -> None:
    assert signals.members(signals.considered("PROF,KILL,10")) == [10, 27]
    assert not signals.considered("async") & signals.word_of((9, 19, 11, 32, 33))
    assert signals.considered("all") == signals.ALL & ~signals.UNBLOCKABLE
    assert signals.describe(signals.word_of((2, 27))) == "[INT PROF]"
    assert signals.describe(signals.ALL & ~signals.UNBLOCKABLE) == "~[KILL STOP]"
    # glibc at thread creation; musl, which keeps 32 to 34 for itself; one signal short of everything
    assert signals.blocks_everything(0xFFFFFFFFFFFBFEFF)
    assert signals.blocks_everything(0xFFFFFFFC7FFBFEFF)
    assert not signals.blocks_everything(0xFFFFFFFFFFFBFEFE)
