"""What a notebook shows of traces, recordings, comparisons and risks: the words and numbers of the command line."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from commandline import Run
from IPython.core.formatters import HTMLFormatter

from sigwindow import read, run
from sigwindow.analysis.notebook import html
from sigwindow.analysis.sheets import Cell, Column, Sheet

TRACES = Path(__file__).parent.parent / "notebooks" / "traces"
BROKEN, FIXED, RUBY = (TRACES / f"{name}.arrows" for name in ("newosproc-broken", "newosproc-fixed", "ruby"))


def displayed(of: object) -> str:
    """What a notebook displays of an object."""
    return str(HTMLFormatter()(of))


def text(shown: str) -> str:
    """The text of some HTML, its blanks as one each."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", shown)).split())


def rows(shown: str) -> list[list[str]]:
    """The cells of all tables."""
    return [
        [text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", shown)
    ]


def agrees(shown: str, out: str) -> bool:
    """Whether every row of the notebook's answer is one of the command line's."""
    told = " ".join(out.split())
    return all(" ".join(row).strip() in told for row in rows(shown)) and bool(rows(shown))


def test_a_trace_shows_what_analyze_prints(sigwindow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = displayed(read(RUBY, signals="SIGINT"))
    done = sigwindow("analyze", RUBY, "--signals", "SIGINT")
    assert agrees(shown, done.out)
    assert "97 threads born, of them 97 exposed." in text(shown)
    assert "signals = SIGINT; open, too, but not considered: SIGHUP" in text(shown)
    assert "ready = auto (altstack)" in text(shown)
    assert "data:image/png;base64," in shown


def test_several_traces_have_a_row_each(sigwindow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = displayed(read(BROKEN, FIXED))
    assert agrees(shown, sigwindow("analyze", BROKEN, FIXED).out)
    begin = [row[0] for row in rows(shown)].index("trace")
    assert [row[:3] for row in rows(shown)[begin : begin + 4]] == [
        ["trace", "born", "critical"], [str(BROKEN), "199", "193"], [str(FIXED), "199", "0"], ["total", "398", "193"],
    ]  # fmt: skip


def test_a_comparison_shows_what_compare_prints(sigwindow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    comparison = read(FIXED).compare(read(BROKEN))
    shown = displayed(comparison)
    assert agrees(shown, sigwindow("compare", FIXED, BROKEN).out)
    assert text(shown).startswith(comparison.sentence)
    assert "signals = async; ready = auto" in text(shown)


def test_a_risk_shows_what_rate_prints_and_is_a_table(sigwindow: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    risk = read(BROKEN).risk({"SIGPROF": 100})
    shown = displayed(risk)
    assert agrees(shown, sigwindow("analyze", BROKEN, "--rate", "SIGPROF=100").out)
    assert "signals = async; ready = auto" in text(shown)
    assert isinstance(risk, pd.DataFrame)
    assert type(risk[risk["hits"] > 0]) is pd.DataFrame  # what is made of it shows all of its columns
    assert "hits_per_birth" in displayed(risk.head(1))


def test_a_recording_that_has_not_begun_says_so(tmp_path: Path) -> None:
    recording = run(["a", "b c"], output=tmp_path / "trace.arrows")
    assert repr(recording) == "<Recording of a 'b c': not begun>"
    assert displayed(recording) == "<p>Recording of a &#39;b c&#39;: not begun</p>"


@pytest.mark.live
def test_a_recording_shows_its_trace_while_it_is_made(tmp_path: Path) -> None:
    program = "import sys, threading; [threading.Thread(target=print).start() for _ in range(7)]; sys.stdin.read()"
    recording = run([sys.executable, "-c", program], output=tmp_path / "trace.arrows")
    with recording:
        assert text(displayed(recording)).startswith(f"Recording of {sys.executable} -c")
        assert ": running" in repr(recording)
    assert ": ended" in text(displayed(recording))
    assert "7 threads born" in text(displayed(recording))


def test_texts_are_no_markup() -> None:
    evil = "<script>alert(1)</script>"
    sheet = Sheet([Column(evil), Column("b", "word")], [(evil, Cell(evil, "critical"))], title=evil, rest=evil)
    shown = html(evil, [evil], [sheet])
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 7
