"""A trace in which every text is hostile: nothing may act, move or break in any output."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO
from itertools import cycle
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from commandline import Run
from makers import Row, batch

from sigwindow.probes import events
from sigwindow.probes.events import CLONE_THREAD, DISPOSITION_HANDLER
from sigwindow.probes.signals import SA_ONSTACK, number, word_of
from sigwindow.probes.text import printable

PROF = number("PROF")
TEXTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></svg><b onclick=alert(1)>",
    "&lt;&#x3c;script&amp;",
    "]]><!--{{ 7 * 7 }}",
    "clear\x1b[2J\x1b[Htop",
    "title\x1b]0;owned\x07",
    "paste\x1b]52;c;b3duZWQ=\x1b\\",
    "up\x1b[9A\x1b[1G\x1b[8mhidden",
    "c1\x9b2J\x9d52;c;eA==\x9c\x85",
    "\u202egnp.exe\u2066\u2028\u200f",
    "two\nlines\n\n",
    "back\rover\b\b\x7f\x00\v\f",
    "tab\tbed",
    "=cmd|'/C calc'!A0",
    "+1",
    "-1+1",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "'=1+1",
    '"=1+1',
    'comma,"quote""\',;',
    "[bold red]markup[/] [/nothing] :smile: [link=http://x]y[/link]",
    "$\\frac{1}{$ \\input{/etc/passwd} %n%s {0}",
    "W" * 5000,
    "\ufeff\u0301\U000e0041\ufffe",
)
METADATA = ("tool", "backend", "os", "kernel", "arch", "host", "boot_id", "clock_to_wall_ns", "command", "options")
FORMULA = "=+-@\t\r\n"
SGR = re.compile(r"\x1b\[[0-9;]*m")


def rows() -> list[Row]:
    """A process for each hostile text, which names it, its thread and the stack that created it."""
    found = []
    for place, text in enumerate(TEXTS):
        pid, tid, born_ns = 100 + place, 500 + place, 1_000_000 * (place + 1)
        row = Row(born_ns, "born", pid, tid, handled=word_of([PROF]), peer=pid, flags=CLONE_THREAD, comm=text)
        found += [row._replace(time_ns=born_ns - 1, kind="snapshot", tid=pid), row._replace(stack=text)]
        taken = Row(born_ns + 10 + place, "deliver", pid, tid, signal=PROF, disposition=DISPOSITION_HANDLER)
        found += [taken._replace(sa_flags=SA_ONSTACK)] * (place % 3 == 0)
        found += [taken._replace(time_ns=born_ns + 20 + place, kind="name", comm=text)]
        found += [taken._replace(time_ns=born_ns + 30 + place, kind="altstack", altstack=place % 5 > 0)]
        found += [taken._replace(time_ns=born_ns + 900, kind="exit", altstack=place % 5 > 0)]
    return [*found, Row(10**9, "lost", mask=10**9 - 5, flags=3), Row(10**9 + 1, "mark", comm="end")]


def write(path: Path, metadata: dict[bytes, bytes]) -> Path:
    schema = events.SCHEMA.with_metadata({b"sigwindow.format": b"1"} | metadata)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        stream.write_batch(batch(*rows()).cast(schema))
    return path


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace whose description is hostile, too, and no UTF-8; in a file with such a name."""
    texts = cycle(text.encode() + b"\xff\xfe\x1b[2J" for text in TEXTS[5:])
    metadata = {f"sigwindow.{key}".encode(): next(texts) for key in METADATA}
    metadata |= {b"sigwindow.\x1b[2J\xff<b>": b"\xc0\x80", b"\xff\x00": b"\xff"}
    folder = tmp_path_factory.mktemp("hostile")
    return write(folder / "=a]]>\x1b[2J\u202e<b>\n&\"'.arrows", metadata)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same events under a harmless description."""
    return write(tmp_path_factory.mktemp("plain") / "plain.arrows", {b"sigwindow.backend": b"synthetic"})


def assert_harmless(text: str) -> None:
    """Nothing in it that a terminal acts on, once the styles of our own are gone."""
    lines = SGR.sub("", text).replace("\r\n", "\n").split("\n")
    bad = [line for line in lines if not line.isprintable()]
    assert not bad


TABLES = {
    "summary": ("analyze", "{}"),
    "batch": ("analyze", "{}", "{plain}"),
    "by name": ("analyze", "{}", "--by", "name"),
    "by process": ("analyze", "{}", "--by", "process"),
    "by creator": ("analyze", "{}", "--by", "creator"),
    "by stack": ("analyze", "{}", "--by", "stack"),
    "risk": ("analyze", "{}", "{plain}", "--rate", "SIGPROF=10"),
    "gate": ("analyze", "{}", "--fail-on", "critical", "--max-exposure", "1ns"),
    "compare": ("compare", "{plain}", "{}", "--fail-on", "regression"),
    "json": ("analyze", "{}", "{plain}", "--format", "json"),
    "csv": ("analyze", "{}", "{plain}", "--format", "csv"),
}


@pytest.mark.parametrize("arguments", TABLES.values(), ids=TABLES.keys())
def test_nothing_acts_in_a_pipe(sigwindow: Run, trace: Path, plain: Path, arguments: tuple[str, ...]) -> None:
    done = sigwindow(*(argument.format(trace, plain=plain) for argument in arguments))
    assert done.code in (0, 1, 4)
    assert "\x1b" not in done.out
    assert len(done.out) > 200
    assert_harmless(done.out)
    assert_harmless(done.err)


def test_nothing_acts_on_a_terminal(trace: Path) -> None:
    """On a real terminal device, where we colour: the styles are all that is sent beside text."""
    ours, theirs = pty.openpty()
    arguments = ["analyze", str(trace), "--by", "name", "--rate", "SIGPROF=10", "--fail-on", "hit"]
    command = [sys.executable, "-m", "sigwindow", *arguments]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=environment) as process:
        os.close(theirs)
        out = b""
        while True:
            try:
                read = os.read(ours, 1 << 16)
            except OSError:  # EIO: the other side is closed
                break
            out += read
        assert process.stderr
        err = process.stderr.read().decode()
    os.close(ours)
    text = out.decode()
    assert process.returncode == 1
    assert SGR.search(text)
    assert_harmless(text)
    assert_harmless(err)


def test_names_are_still_told(sigwindow: Run, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = sigwindow("analyze", plain, "--by", "name").out
    for text in (
        "[bold red]markup[/] [/n…",
        "<script>alert(1)</scrip…",
        "two\\nlines\\n\\n ",
        "clear\\x1b[2J\\x1b[Htop ",
    ):
        assert text in shown
    assert "W" * 30 not in shown


def test_json(sigwindow: Run, trace: Path) -> None:
    done = sigwindow("analyze", trace, "--format", "json")
    told = json.loads(done.out)
    assert done.out.isascii()
    assert told["threads"]["born"] == len(TEXTS)
    assert [row["comm"] for row in told["by_process"]] == list(TEXTS)


def is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", cell) is not None


def test_csv(sigwindow: Run, trace: Path, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "threads.csv"
    assert sigwindow("analyze", trace, plain, "--format", "csv", "-o", path).code == 0
    header, *rows = csv.reader(StringIO(path.read_text(encoding="utf-8"), newline=""))
    assert len(rows) == 2 * len(TEXTS)
    assert {len(row) for row in rows} == {len(header)}
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell and cell[0] in FORMULA and not is_number(cell)]
    names = {row[header.index("comm")] for row in rows}
    assert {"'=cmd|'/C calc'!A0", "'+1", "'-1+1", "'@SUM(A1:A9)", TEXTS[0], "W" * 5000} <= names
    assert len(names) == len(TEXTS)


class Elements(HTMLParser):
    """The elements, attribute names and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.targets: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.targets += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_report(sigwindow: Run, trace: Path, plain: Path, tmp_path: Path) -> None:
    pages = []
    for place, path in enumerate((trace, plain)):
        page = tmp_path / f"{place}.html"
        assert sigwindow("report", path, "-o", page).code == 0
        pages.append(page.read_text(encoding="utf-8"))
    hostile, harmless = map(Elements, pages)
    assert hostile.tags.count("script") == harmless.tags.count("script") == 1
    assert hostile.attributes == harmless.attributes
    assert set(hostile.tags) == set(harmless.tags)
    assert not [name for name in hostile.attributes if name.startswith("on")]
    assert all(target.startswith(("#", "data:image/")) for target in hostile.targets)
    assert "<script>alert(1)</script>" in hostile.text
    assert all(line.isprintable() for line in pages[0].replace("\t", " ").split("\n"))


@pytest.mark.parametrize("kind", ["ecdf", "histogram", "timeline", "signals", "rate", "compare"])
def test_svg(sigwindow: Run, trace: Path, plain: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "figure.svg"
    done = sigwindow("plot", kind, trace, *([plain] if kind == "compare" else []), "-o", path)
    assert (done.code, done.err) == (0, "")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for element in root.iter():
        assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "b", "img")
        assert not [name for name in element.attrib if name.startswith("on")]
        links = [value for name, value in element.attrib.items() if name.endswith("href")]
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert all(line.isprintable() for line in path.read_text(encoding="utf-8").replace("\t", " ").split("\n"))


def test_junit(sigwindow: Run, trace: Path, tmp_path: Path) -> None:
    broken = trace.with_name("broken\x1b]52;c;eA==\x07]]>\u202e\ufffe")
    broken.write_bytes(b"no trace")
    path = tmp_path / "junit.xml"
    done = sigwindow("analyze", trace, broken, "--fail-on", "exposed", "--junit", path)
    assert done.code == 1
    assert_harmless(path.read_text(encoding="utf-8"))
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    assert [case.get("classname") for case in cases] == [printable(str(trace)), printable(str(broken))]
    assert [child.tag for case in cases for child in case] == ["failure", "error"]


@pytest.mark.parametrize("content", [b"", b"no trace", None], ids=["empty", "garbage", "missing"])
@pytest.mark.parametrize("command", [["analyze"], ["compare"], ["report", "-o", "never.html"]], ids=lambda c: c[0])
def test_the_name_of_a_broken_file_does_not_act(
    sigwindow: Run, tmp_path: Path, content: bytes | None, command: list[str]
) -> None:
    broken = tmp_path / "\x1bc\x9b9A\nsigwindow: fine\u202e"
    if content is not None:
        broken.write_bytes(content)
    done = sigwindow(*command, broken, *[broken] * (command == ["compare"]))
    assert done.code == 4
    assert printable(broken.name) in done.err
    assert_harmless(done.err)
    assert len(done.err.splitlines()) == 1


def test_a_file_name_that_is_no_text(sigwindow: Run, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.arrows")
    path.write_bytes(plain.read_bytes())
    told = json.loads(sigwindow("analyze", tmp_path, plain, "--format", "json").out)
    assert [one["threads"]["born"] for one in told["files"]] == [len(TEXTS)] * 2
    shown = sigwindow("analyze", path, plain)
    assert shown.code == 0
    assert_harmless(shown.out)


def test_a_clock_that_is_no_number(sigwindow: Run, trace: Path) -> None:
    done = sigwindow("analyze", trace, "--by", "hour")
    assert done.code == 2
    assert_harmless(done.err)


def test_names_that_are_no_utf8(sigwindow: Run, plain: Path, tmp_path: Path) -> None:
    """The bytes of a thread's name in the file are no text; no reader checks that for us."""
    path = tmp_path / "t.arrows"
    whole = pa.ipc.open_stream(plain.read_bytes()).read_all().to_batches()[0]
    texts = whole.column("comm").to_pylist()
    raw = pa.array([text.encode().replace(b"W", b"\xff") for text in texts], pa.binary())
    comm = pa.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    columns = [comm if field.name == "comm" else whole.column(field.name) for field in whole.schema]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, whole.schema) as stream:
        stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=whole.schema))
    for options in ([], ["--by", "name"], ["--format", "json"], ["--format", "csv"]):
        done = sigwindow("analyze", path, *options)
        assert done.code in (0, 4)
        assert_harmless(done.out + done.err)
