"""The report: what it says of traces whose answer is known, and that nothing in a trace can act in it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from dataclasses import asdict, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
from needs import needs
from rows import batch

from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.report.page import FIGURES, report
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.risk import risk
from sigwindow.probes import events
from sigwindow.probes.signals import ALL, UNBLOCKABLE, number, word_of
from sigwindow.probes.traceinfo import TraceInfo

CHROMIUM = Path("/usr/bin/chromium")
EVERYTHING = ALL & ~UNBLOCKABLE
PROF = number("PROF")
HOSTILE = (
    "<script>document.documentElement.dataset.owned=1</script>",
    '"><img src=x onerror="document.documentElement.dataset.owned=1">',
    "</style></title></table><b onmouseover=alert(1)>",
    "a\nb\r\x1b[2J\x00",
    "]]>{{ 7 * 7 }}<!--",
    "\u202egnp.exe",
    "$\\frac{1}{$",
    "javascript:alert(1)",
    "W" * 5000,
)
INFO = TraceInfo(
    backend="bcc",
    os="Linux",
    kernel="6.18",
    arch="x86_64",
    host="build-7",
    command=("./serve", "--port", "80 80"),
    clock_to_wall_ns=1795426420905031150,
)


def event(time_ns: int, kind: str, tid: int = 101, **columns: Any) -> dict[str, Any]:
    return {"time_ns": time_ns, "kind": kind, "pid": 100, "tid": tid, **columns}


def born(time_ns: int, mask: int = 0, tid: int = 101, handled: int = word_of([PROF]), **columns: Any) -> dict[str, Any]:
    return event(time_ns, "born", tid, mask=mask, handled=handled, peer=100, flags=events.CLONE_THREAD, **columns)


def analysis(*rows: dict[str, Any]) -> Analysis:
    windows = Windows(Question())
    if rows:
        windows.feed(batch(*rows))
    return windows.result()


def many(count: int) -> Analysis:
    """Threads that are born one after the other, and exposed for a time of their own until they have a stack."""
    tid = np.repeat(np.arange(1000, 1000 + count), 2)
    time_ns = 1_000_000 + np.arange(2 * count) * 10_000
    time_ns[1::2] += np.random.default_rng(1).integers(0, 9_000, count)
    first = np.arange(2 * count) % 2 == 0
    windows = Windows()
    windows.feed(
        events.batch_of(
            {
                "time_ns": time_ns,
                "kind": np.where(first, events.CODE["born"], events.CODE["altstack"]).astype(np.uint8),
                "pid": 100 + (tid - 1000) // 10,
                "tid": tid,
                "altstack": ~first,
                "handled": np.where(first, word_of([PROF]), 0).astype(np.uint64),
                "flags": np.where(first, events.CLONE_THREAD, 0).astype(np.uint32),
                "comm": pa.array([f"<worker&{i % 1000}>" for i in range(2 * count)]),
            }
        )
    )
    return windows.result()


STACK = {"altstack": 1}
CLEAN = [
    born(1000, EVERYTHING),
    event(1070, "altstack", mask=EVERYTHING, **STACK),
    event(1071, "mask", **STACK),
    event(2000, "mark", 0, comm=events.TRACE_END) | {"pid": 0},
]
RAW_CLONE = [born(1000), event(1030, "altstack", **STACK)]
RUBY = [born(1000, EVERYTHING, 102), event(1159, "mask", 102), event(1162, "altstack", 102, **STACK)]


def advice(*rows: dict[str, Any]) -> str:
    """What a report says under "What to do"."""
    return words(report([("t", analysis(*rows), INFO)])).partition("What to do")[2].partition("Figures")[0]


def test_advice_shows_the_order_once() -> None:
    told = advice(*RAW_CLONE, *RUBY)
    assert "At birth 1 thread had SIGPROF unblocked. Block everything before" in told
    assert "1 thread had SIGPROF unblocked first and called sigaltstack after. Turn that around." in told
    assert told.count("pthread_create(...)") == 1
    assert told.rstrip().endswith("The order above shows how.")


def test_a_clean_trace_is_to_be_kept_so() -> None:
    assert "Keep it so" in advice(*CLEAN)
    assert "Keep it so" not in advice(*RAW_CLONE)
    assert "Trace something that makes threads" in words(report([("t", analysis(), INFO)]))


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and the text of each element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag and text.strip()]


def words(page: str) -> str:
    """What a reader sees, in order, between single spaces."""
    texts = [text for tag, text in Page(page).texts if tag not in ("title", "style", "script")]
    return " ".join(" ".join(texts).split())


@cache
def hostile() -> str:
    """A report of two traces in which every text that is not ours is hostile."""
    traces = []
    for name in HOSTILE[:2]:
        births = [born(1000 + i, tid=200 + i, comm=comm, stack=f"main;{comm}") for i, comm in enumerate(HOSTILE)]
        stacks = [event(1100 + i, "altstack", 200 + i, **STACK) for i in range(len(HOSTILE))]
        of = replace(analysis(*births, *stacks), leaders={(0, 100): name})
        texts: dict[str, Any] = {key: name for key, value in asdict(INFO).items() if isinstance(value, str)}
        traces.append((name, of, TraceInfo(**texts, command=(name, name), options={name: name})))
    return report(traces)


def test_order_of_the_page() -> None:
    page = words(report([("serve.arrows", analysis(*RAW_CLONE), INFO)], risk))
    marks = (
        "sigwindow report: serve.arrows 1 thread born, of them 1 exposed",
        "What to do Block all signals around the creation of a thread",
        "Figures",
        "Tables Threads by verdict",
        "The worst threads",
        "Risk",
        "How it was measured",
        "./serve --port '80 80'",
        "auto (used: altstack)",
        "2026-11-23",
        "Linux 6.18 x86_64",
        "What was lost No event got lost. The trace has no end mark",
    )
    places = [page.find(mark) for mark in marks]
    assert -1 not in places
    assert places == sorted(places)


def test_zero_hits_are_told_as_a_bound() -> None:
    parsed = Page(report([("t", analysis(*RAW_CLONE), INFO)], risk))
    assert "bound" in parsed.text_of("td")
    assert [text[0] for text in parsed.text_of("td") if text[0] in "≤≥"] == ["≤", "≤", "≤", "≥"]


def test_several_traces_begin_with_a_table_of_all() -> None:
    page = report([("a.arrows", analysis(*RAW_CLONE), INFO), ("b.arrows", analysis(*CLEAN), INFO)])
    parsed = Page(page)
    assert parsed.text_of("caption")[0] == "All traces: threads by verdict"
    assert {a["href"] for a in parsed.of("a")} == {"#trace-1", "#trace-2"}
    assert [section["id"] for section in parsed.of("section")] == ["trace-1", "trace-2"]
    assert "2 threads born, of them 1 exposed" in words(page)
    total = page[page.index("<tfoot>") : page.index("</tfoot>")]
    assert re.findall(r'data-value="(\d+)"', total) == ["2", "0", "0", "1", "1", "0", "0", "0"]


def test_tables_are_marked_up_for_assistive_technology() -> None:
    parsed = Page(report([("t", analysis(*RAW_CLONE), INFO)], risk))
    assert parsed.of("html") == [{"lang": "en"}]
    assert [meta["content"] for meta in parsed.of("meta") if meta.get("name") == "viewport"]
    assert len(parsed.of("table")) == len(parsed.of("caption")) == 6
    assert {th.get("scope") for th in parsed.of("th")} == {"col", "row"}
    assert len(parsed.of("img")) == len(FIGURES)
    assert all(len(img["alt"] or "") > 40 for img in parsed.of("img"))


def test_no_name_becomes_markup() -> None:
    page = hostile()
    plain = Page(report([("a", analysis(*RAW_CLONE), INFO), ("b", analysis(*RAW_CLONE), INFO)]))
    parsed = Page(page)
    assert {tag for tag, _ in parsed.elements} <= {tag for tag, _ in plain.elements}
    assert parsed.text_of("script") == plain.text_of("script")
    assert len(parsed.of("script")) == len(parsed.of("style")) == 1
    names = {name for _, attributes in parsed.elements for name in attributes}
    assert names == {name for _, attributes in plain.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    shown = words(page)
    assert HOSTILE[0] in shown
    assert "a\\nb\\r\\x1b[2J\\x00" in shown
    assert "{{ 7 * 7 }}" in shown
    assert "\\u202egnp.exe" in shown
    assert "W" * 400 not in shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", page)


def test_only_the_pages_own_style_and_script_are_allowed() -> None:
    parsed = Page(hostile())
    (policy,) = [meta["content"] or "" for meta in parsed.of("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        (text,) = parsed.text_of(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not [a for _, a in parsed.elements if "style" in a]


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = hostile()
    parsed = Page(page)
    loading = ("src", "srcset", "href", "action", "data", "poster", "background", "xlink:href")
    targets = [a[name] or "" for _, a in parsed.elements for name in loading if name in a]
    assert targets
    assert all(target.startswith(("data:image/", "#trace-")) for target in targets)
    assert "://" not in page
    assert not parsed.of("link")
    assert not re.search(r"@import|url\(", parsed.text_of("style")[0])


def test_figures_are_images_without_script() -> None:
    parsed = Page(hostile())
    uris = [str(i["src"]) for i in parsed.of("img")] + [str(s["srcset"]) for s in parsed.of("source")]
    drawings = [uri.partition("base64,")[2] for uri in uris if uri.startswith("data:image/svg+xml;base64,")]
    assert len(uris) == 4 * len(FIGURES)
    assert drawings
    for drawing in drawings:
        for element in ElementTree.fromstring(base64.b64decode(drawing)).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "foreignObject", "a")
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                if name.endswith("href"):
                    assert value.startswith(("#", "data:image/png"))


def test_a_figure_without_anything_in_it_is_left_out() -> None:
    page = report([("t", analysis(*CLEAN), INFO)])
    assert FIGURES["timeline"] in page
    assert FIGURES["signals"] not in page  # no thread was exposed
    assert len(Page(page).of("img")) == len(FIGURES) - 1


def test_the_page_stays_small() -> None:
    page = report([("t", many(50_000), INFO)], risk)
    assert len(page.encode()) < 3_000_000
    assert "The first 100 of 50,000 exposed threads" in page
    assert "The first 100 of 5,000 processes" in page


def test_what_is_unknown_is_left_out() -> None:
    page = words(report([("t", analysis(*CLEAN), TraceInfo())]))
    assert "Command" not in page
    assert "Began" not in page
    assert "Host" not in page
    assert "No event got lost." in page
    assert "no end mark" not in page


def test_a_trace_without_threads() -> None:
    parsed = Page(report([("t", analysis(), TraceInfo())], risk))
    assert not parsed.of("img")
    assert not parsed.of("table")


def browse(page: str, folder: Path) -> tuple[Page, str]:
    """The document that a real browser makes of a page, and what it wrote to its console."""
    needs("chromium", CHROMIUM.exists(), f"{CHROMIUM} is to load the page")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --dump-dom"
    command = [str(CHROMIUM), *flags.split(), f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, encoding="utf-8")
    return Page(done.stdout), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_a_browser_runs_our_script_and_nothing_else(tmp_path: Path) -> None:
    document, console = browse(hostile(), tmp_path)
    assert document.of("html") == [{"lang": "en"}]  # hostile names would have marked it as owned
    assert console == ""  # nothing was refused: there was nothing to refuse
    assert len(document.of("script")) == 1
    assert [table for table in document.of("table") if "data-sortable" in table]
    assert document.of("button")


def test_a_click_sorts_a_table(tmp_path: Path) -> None:
    threads = [row for i, end in enumerate((1300, 1900, 1100)) for row in stack_at(200 + i, end)]
    page = report([("t", analysis(*threads), INFO)])
    click = "[...document.querySelectorAll('th button')].filter(b => b.textContent === 'tid')[0].click();"
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace(
        "</body>", f"<script>{click}</script>"
    )
    document, _ = browse(page, tmp_path)
    tids = [a["data-value"] for a in document.of("td") if a.get("data-value") in ("200", "201", "202")]
    assert tids == ["202", "201", "200"]
    assert [th for th in document.of("th") if th.get("aria-sort") == "descending"]


def stack_at(tid: int, time_ns: int) -> list[dict[str, Any]]:
    return [born(1000, tid=tid), event(time_ns, "altstack", tid, **STACK)]
