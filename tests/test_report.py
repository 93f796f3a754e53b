"""The report: what it says of traces whose answer is known, and that nothing in a trace can act in it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from makers import batch, born, event
from needs import needs

from sigwindow.analysis.captions import CAPTIONS
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.report import figures, glossary
from sigwindow.analysis.report.page import report
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.risk import risk
from sigwindow.probes import events
from sigwindow.probes.signals import ALL, FREEBSD, UNBLOCKABLE, number, word_of
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


def analysis(*rows: dict[str, Any], signals: str = "async", system: str = "linux") -> Analysis:
    windows = Windows(Question("auto", signals), system)
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


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pages without figures, which take most of the time; what there would have been one of, in order."""
    wanted: list[str] = []

    def drawn(_: Analysis, info: TraceInfo, *__: Any, **___: Any) -> list[figures.Drawn]:
        wanted.append(info.host)
        return []

    monkeypatch.setattr(figures, "drawn", drawn)
    return wanted


def advice(*rows: dict[str, Any]) -> str:
    """What a report says under "What to do"."""
    return words(report([("t", analysis(*rows), INFO)])).partition("What to do")[2].partition("Tables")[0]


@pytest.mark.usefixtures("undrawn")
def test_advice_shows_the_order_once() -> None:
    told = advice(*RAW_CLONE, *RUBY)
    assert "At birth 1 thread had SIGPROF unblocked. Block everything before" in told
    assert "1 thread had SIGPROF unblocked first and called sigaltstack after. Turn that around." in told
    assert told.count("pthread_create(...)") == 1
    assert told.rstrip().endswith("The order above shows how.")


@pytest.mark.usefixtures("undrawn")
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
    """What a reader sees of all but the contents, in order, between single spaces."""
    texts = [text for tag, text in Page(page.partition("<main>")[2]).texts if tag != "script"]
    return " ".join(" ".join(texts).split())


@cache
def hostile(several: bool = True) -> str:
    """A report of one trace or of two, in which every text that is not ours is hostile."""
    traces = []
    for name in HOSTILE[: 1 + several]:
        births = [born(1000 + i, tid=200 + i, comm=comm, stack=f"main;{comm}") for i, comm in enumerate(HOSTILE)]
        stacks = [event(1100 + i, "altstack", 200 + i, **STACK) for i in range(len(HOSTILE))]
        of = replace(analysis(*births, *stacks), leaders={(0, 100): name})
        texts: dict[str, Any] = {key: name for key, value in asdict(INFO).items() if isinstance(value, str)}
        traces.append((name, of, TraceInfo(**texts, command=(name, name), options={name: name})))
    return report(traces, risk)


def harmless(several: bool) -> str:
    """A report of as many traces, of words that do nothing."""
    return report([(name, analysis(*RAW_CLONE), INFO) for name in ("a", "b")[: 1 + several]], risk)


of_one_and_of_several = pytest.mark.parametrize("several", [False, True], ids=["one", "several"])


def test_order_of_the_page() -> None:
    page = words(report([("serve.arrows", analysis(*RAW_CLONE), INFO)], risk))
    marks = (
        "sigwindow report: serve.arrows 1 thread born, of them 1 exposed",
        "signals = async ready = auto (altstack); 2 events",
        "What to do Block all signals around the creation of a thread",
        "Figures",
        "Tables Threads by verdict",
        "The worst threads",
        "By name of the thread",
        "Risk",
        "How it was measured",
        "./serve --port '80 80'",
        "Ready by auto (altstack)",
        "2026-11-23",
        "Linux 6.18 x86_64",
        "What was lost No event was lost. The trace has no end mark",
        "Words Verdicts: a thread critical ran a handler",
    )
    places = [page.find(mark) for mark in marks]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.usefixtures("undrawn")
def test_zero_hits_are_told_as_a_bound() -> None:
    parsed = Page(report([("t", analysis(*RAW_CLONE), INFO)], risk))
    assert "bound" in parsed.text_of("td")
    assert [text[0] for text in parsed.text_of("td") if text[0] in "≤≥"] == ["≤", "≤", "≤", "≥"]


@pytest.mark.usefixtures("undrawn")
def test_several_traces_begin_with_a_table_of_all() -> None:
    page = report([("of/a.arrows", analysis(*RAW_CLONE), INFO), ("of/b.arrows", analysis(*CLEAN), INFO)])
    parsed = Page(page)
    assert parsed.text_of("caption")[0] == "All traces: threads by verdict"
    assert {a["href"] for a in parsed.of("a")} >= {"#trace-1", "#trace-2"}
    assert [part["id"] for part in parsed.of("details") if "id" in part] == ["trace-1", "trace-2"]
    assert not any("open" in part for part in parsed.of("details"))
    shown = words(page)
    assert shown.startswith("sigwindow report: 2 traces in of 2 threads born, of them 1 exposed. signals = async")
    assert "exposed a.arrows 1 thread born, of them 1 exposed." in shown
    assert "masked b.arrows 1 thread born: it was not exposed to a considered signal." in shown
    assert shown.count("pthread_create(...)") == 1  # once for all of them
    total = page[page.index("<tfoot>") : page.index("</tfoot>")]
    assert re.findall(r'data-value="(\d+)"', total) == ["2", "0", "0", "1", "1", "0", "0", "0", "0", "30"]


@pytest.mark.usefixtures("undrawn")
def test_the_same_pid_in_two_traces_is_two_processes() -> None:
    first, second = (event(900, "snapshot", 100, comm=comm) for comm in ("nginx", "redis"))
    late = [row | {"time_ns": row["time_ns"] + 50} for row in RAW_CLONE]
    page = report([("a", analysis(first, *RAW_CLONE), INFO), ("b", analysis(second, *late, *RUBY), INFO)])
    names = re.findall(r'<th scope="row" class="text">(nginx|redis)</th>\n?<td class="number" data-value="(\d+)"', page)
    assert names == [("nginx", "100"), ("redis", "100")]
    assert "3 threads born, of them 3 exposed." in words(page)


def test_a_trace_is_taken_when_those_before_it_are_drawn(undrawn: list[str]) -> None:
    before = []

    def traces() -> Iterator[tuple[str, Analysis, TraceInfo]]:
        for name in "abc":
            before.append(list(undrawn))
            yield name, analysis(*RAW_CLONE), replace(INFO, host=name)

    report(traces())
    assert before == [[], [], ["a", "b"]]  # two are taken to see that there are several
    assert undrawn == ["a", "b", "c"]


@pytest.mark.usefixtures("undrawn")
def test_names_that_differ_in_their_numbers_are_one() -> None:
    births = [born(1000 + i, EVERYTHING, 200 + i, comm=f"Thread-{i}") for i in range(187)]
    page = words(report([("t", analysis(*births, *RAW_CLONE), INFO)]))
    assert "Thread-* 187" in page
    assert "Thread-18 " not in page


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_considered_is_told_and_does_not_contradict() -> None:
    rows = [born(1000, handled=word_of([PROF, number("TERM")])), event(1030, "altstack", **STACK)]
    page = words(report([("t", analysis(*rows, signals="SIGHUP"), INFO)]))
    assert "1 thread born: it was not exposed to a considered signal." in page
    assert "signals = SIGHUP; open, too, but not considered: SIGTERM, SIGPROF" in page
    assert "SIGTERM async no 1 30 ns 0 0" in page
    assert "sigwindow run --fail-on exposed --signals SIGHUP -- COMMAND" in page


@pytest.mark.usefixtures("undrawn")
def test_signals_of_freebsd_have_their_names() -> None:
    rows = [born(1000, handled=word_of([number("USR1", FREEBSD), 33])), event(1030, "altstack", **STACK)]
    page = words(report([("t", analysis(*rows, system="freebsd"), replace(INFO, os="freebsd"))]))
    assert "At birth 1 thread had SIGUSR1 unblocked." in page
    assert "SIGUSR1 async yes" in page
    assert "SIGLIBRT internal no" in page


@pytest.mark.usefixtures("undrawn")
def test_a_larger_buffer_is_advised_only_where_there_is_one() -> None:
    lossy = analysis(*RAW_CLONE, event(2500, "lost", 0, mask=900, flags=7) | {"pid": 0})
    told = {backend: report([("t", lossy, replace(INFO, backend=backend))]) for backend in ("bcc", "strace")}
    assert "--buffer" in told["bcc"]
    assert "--buffer" not in told["strace"]


@of_one_and_of_several
def test_every_link_leads_to_its_place(several: bool) -> None:
    parsed = Page(hostile(several))
    ids = [str(attributes["id"]) for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"]).removeprefix("#") for a in parsed.of("a")} <= set(ids)


def test_every_word_of_a_heading_is_explained() -> None:
    plain = {"", "duration", "meaning", "thread", "threads", "tid", "pid", "process", "name", "signal", "trace"}
    plain |= {"min", "max", "total", "sort by"}
    for several in (False, True):
        page = hostile(several)
        heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page)
        assert {head for head in heads if "<a " not in head} <= plain
        assert sum("<a " in head for head in heads) > 20
    linked = re.findall(r'<a class="word state exposed" href="#([^"]*)">', hostile())
    assert set(linked) == {glossary.anchor("exposed")}


def test_the_words_are_those_of_the_model() -> None:
    text = (Path(__file__).parent.parent / "docs" / "model.md").read_text()
    called = {"hits": "hit", "critical hits": "critical", "symbol:NAME, symbol": "symbol:NAME"}
    for heading, group in (
        ("Words", glossary.WORDS),
        ("Readiness policies", glossary.POLICIES),
        ("Signals considered", glossary.CLASSES),
    ):
        section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        documented = dict(re.findall(r"^\| `?([^|`]+)`?(?: \(default\))? \| ([^|]+) \|$", section, re.MULTILINE))
        for word, meaning in group.items():
            if word not in ("unready", "uncertain"):  # which the model explains at length
                assert documented[called.get(word, word)].replace("`", "") == meaning


def test_tables_are_marked_up_for_assistive_technology() -> None:
    parsed = Page(report([("t", analysis(*RAW_CLONE), INFO)], risk))
    assert parsed.of("html") == [{"lang": "en"}]
    assert [meta["content"] for meta in parsed.of("meta") if meta.get("name") == "viewport"]
    assert len(parsed.of("table")) == len(parsed.of("caption")) == 7
    assert {th.get("scope") for th in parsed.of("th")} == {"col", "row"}
    assert len(parsed.of("img")) == len(CAPTIONS)
    assert all(len(img["alt"] or "") > 40 for img in parsed.of("img"))


@of_one_and_of_several
def test_no_name_becomes_markup(several: bool) -> None:
    page, plain = hostile(several), Page(harmless(several))
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


@of_one_and_of_several
def test_only_the_pages_own_style_and_script_are_allowed(several: bool) -> None:
    parsed = Page(hostile(several))
    (policy,) = [meta["content"] or "" for meta in parsed.of("meta") if "http-equiv" in meta]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        (text,) = parsed.text_of(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not [a for _, a in parsed.elements if "style" in a]


@of_one_and_of_several
def test_nothing_is_loaded_from_elsewhere(several: bool) -> None:
    page = hostile(several)
    parsed = Page(page)
    loading = ("src", "srcset", "href", "action", "data", "poster", "background", "xlink:href")
    targets = [a[name] or "" for _, a in parsed.elements for name in loading if name in a]
    assert targets
    assert all(target.startswith(("data:image/", "#")) for target in targets)
    assert "://" not in page
    assert not parsed.of("link")
    assert not re.search(r"@import|url\(", parsed.text_of("style")[0])


@of_one_and_of_several
def test_figures_are_images_without_script(several: bool) -> None:
    parsed = Page(hostile(several))
    uris = [str(i["src"]) for i in parsed.of("img")] + [str(s["srcset"]) for s in parsed.of("source")]
    drawings = [uri.partition("base64,")[2] for uri in uris if uri.startswith("data:image/svg+xml;base64,")]
    assert len(uris) == (2 if several else len(CAPTIONS) + 2)  # two of one are there for a phone, too
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
    assert CAPTIONS["timeline"] in page
    assert CAPTIONS["signals"] not in page  # no thread was exposed
    assert len(Page(page).of("img")) == len(CAPTIONS) - 1


def test_the_page_stays_small() -> None:
    page = report([("t", many(50_000), INFO)], risk)
    assert len(page.encode()) < 3_000_000
    assert "49,900 more: 49,900 exposed" in page  # threads
    assert "4,900 more: 49,000 exposed" in page  # processes


@pytest.mark.usefixtures("undrawn")
def test_what_is_unknown_is_left_out() -> None:
    page = words(report([("t", analysis(*CLEAN), TraceInfo())]))
    assert "Command" not in page
    assert "Began" not in page
    assert "Host" not in page
    assert "No event was lost." in page
    assert "no end mark" not in page


def test_a_trace_without_threads() -> None:
    parsed = Page(report([("t", analysis(), TraceInfo())], risk))
    assert not parsed.of("img")
    assert not parsed.of("table")


def chromium(page: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page in a real browser."""
    needs("chromium", CHROMIUM.exists(), f"{CHROMIUM} is to load the page")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --enable-logging=stderr --window-size=1280,900"
    command = [str(CHROMIUM), *flags.split(), *options, f"--user-data-dir={folder / 'profile'}", file.as_uri()]
    return subprocess.run(command, capture_output=True, check=True, timeout=60, encoding="utf-8")


def browse(page: str, folder: Path, script: str = "") -> tuple[Page, str]:
    """The document that a browser makes of a page, once a script of a test ran in it, and what its console says."""
    if script:
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        page = page.replace("</body>", f"<script>{script}</script></body>")
    done = chromium(page, folder, "--dump-dom")
    return Page(done.stdout), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def test_a_browser_runs_our_script_and_nothing_else(tmp_path: Path) -> None:
    document, console = browse(hostile(), tmp_path)
    assert document.of("html") == [{"lang": "en"}]  # hostile names would have marked it as owned
    assert console == ""  # nothing was refused: there was nothing to refuse
    assert len(document.of("script")) == 1
    assert [table for table in document.of("table") if "data-sortable" in table]
    assert document.of("button")


@pytest.mark.usefixtures("undrawn")
def test_a_click_sorts_a_table(tmp_path: Path) -> None:
    threads = [row for i, end in enumerate((1300, 1900, 1100)) for row in stack_at(200 + i, end)]
    page = report([("t", analysis(*threads), INFO)])
    document, _ = browse(page, tmp_path, "document.querySelector('[aria-label=\"sort by tid\"]').click();")
    tids = [a["data-value"] for a in document.of("td") if a.get("data-value") in ("200", "201", "202")]
    assert tids == ["202", "201", "200"]
    assert [th for th in document.of("th") if th.get("aria-sort") == "descending"]


def stack_at(tid: int, time_ns: int) -> list[dict[str, Any]]:
    return [born(1000, tid=tid), event(time_ns, "altstack", tid, **STACK)]


@pytest.mark.usefixtures("undrawn")
def test_a_search_leaves_the_rows_that_have_the_words(tmp_path: Path) -> None:
    threads = [row for i in range(12) for row in stack_at(200 + i, 1300)]
    page = report([("t", analysis(*threads), INFO)])
    script = "const of = document.querySelector('#the-worst-threads'); const box = of.querySelector('input');"
    script += "box.value = ' 21 exp'; box.dispatchEvent(new Event('input'));"
    document, _ = browse(page, tmp_path, script)
    hidden = sum("hidden" in row for row in document.of("tr"))
    assert hidden == 10  # but for the tids 210 and 211
    assert document.text_of("output") == [" 2 of 12 rows"]


@pytest.mark.usefixtures("undrawn")
def test_a_link_opens_the_trace_it_leads_to(tmp_path: Path) -> None:
    page = report([(name, analysis(*RAW_CLONE), INFO) for name in "abc"])
    document, _ = browse(page, tmp_path, "location.hash = '#trace-2'; open();")
    assert [part.get("id") for part in document.of("details") if "open" in part] == ["trace-2"]


@pytest.mark.usefixtures("undrawn")
def test_all_columns_fit_a_window_of_1280_pixels(tmp_path: Path) -> None:
    handled = {"handled": word_of(map(number, ("HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM", "TERM", "PROF")))}
    threads = [
        row | (handled if row["kind"] == "born" else {}) for i in range(12) for row in stack_at(4194290 + i, 9**9)
    ]
    page = report([("t", analysis(*(row | {"comm": "a name of that "} for row in threads)), INFO)], risk)
    script = "const wide = [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth);"
    script += "document.documentElement.dataset.wide = wide.map(s => s.ariaLabel).join();"
    document, _ = browse(page, tmp_path, script)
    assert document.of("html")[0]["data-wide"] == ""


@pytest.mark.usefixtures("undrawn")
def test_a_print_of_many_traces_is_short(tmp_path: Path) -> None:
    page = report([(f"{i}.arrows", analysis(*RAW_CLONE), INFO) for i in range(25)], risk)
    chromium(page, tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes())
    assert 1 <= len(pages) <= 5
