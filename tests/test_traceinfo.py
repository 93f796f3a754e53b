"""What a trace says of itself: written to a file's metadata and read back, whatever stands there."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigwindow.probes import signals
from sigwindow.probes.traceinfo import TraceInfo, common

TOLD = TraceInfo(
    tool="1.2",
    backend="dtrace",
    os="freebsd",
    kernel="14.1",
    arch="amd64",
    host="beastie",
    boot_id="b",
    clock="DTrace",
    clock_to_wall_ns=-5,
    signals="freebsd",
    command=("./a b", "\n", "\udc80"),
    targets=(1, 2),
    options={"ready": "auto", "follow": True},
)


def test_what_is_written_is_read() -> None:
    read = TraceInfo.from_metadata(TOLD.to_metadata())
    assert read is not None
    assert read.command == ("./a b", "\n", "\\udc80")  # what no file can hold is escaped
    for name in (one.name for one in fields(TraceInfo) if one.name != "command"):
        assert getattr(read, name) == getattr(TOLD, name), name


def test_what_is_not_told_is_empty() -> None:
    assert TraceInfo.from_metadata(None) is None
    assert TraceInfo.from_metadata({b"pandas": b"{}"}) is None
    assert TraceInfo.from_metadata({b"sigwindow.host": b"h"}) == TraceInfo(tool="", format=0, host="h")


@pytest.mark.parametrize("hostile", ["", "x", "[", "[" * 100_000, "{}", "[1, [], null]", "9" * 5000, "-", "1_0"])
def test_what_is_malformed_is_not_told(hostile: str) -> None:
    raw = {b"sigwindow." + key: hostile.encode() for key in (b"format", b"clock_to_wall_ns", b"command", b"options")}
    assert TraceInfo.from_metadata(raw) == TraceInfo(tool="", format=0)
    assert TraceInfo.from_metadata({b"sigwindow.targets": b'["a", true, 7, 1.5]'}) == TraceInfo(
        tool="", format=0, targets=(7,)
    )


@given(st.dictionaries(st.sampled_from([one.name for one in fields(TraceInfo)]), st.binary(max_size=40), min_size=1))
def test_no_metadata_raises(raw: dict[str, bytes]) -> None:
    read = TraceInfo.from_metadata({b"sigwindow." + name.encode(): value for name, value in raw.items()})
    assert read is not None
    assert TraceInfo.from_metadata(read.to_metadata()) == read


def test_a_trace_from_here_knows_its_machine() -> None:
    info = TraceInfo.here("bcc", command=["a"], targets=[3])
    assert info.command == ("a",)
    assert all((info.tool, info.os, info.kernel, info.arch, info.host, info.boot_id, info.clock_to_wall_ns))


def test_what_several_traces_say_alike() -> None:
    assert common([]) == TraceInfo(tool="")
    assert common([TOLD]) == TOLD
    other = TraceInfo(tool="1.2", backend="bcc", os="freebsd", options={"ready": "auto"})
    assert common([TOLD, other]) == TraceInfo(tool="1.2", os="freebsd")


def test_the_numbering_is_that_of_the_traced_system() -> None:
    assert TOLD.numbering is signals.FREEBSD
    assert TraceInfo().numbering is signals.LINUX
