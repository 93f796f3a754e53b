"""The figures: drawn from tables made by hand, of any size, with nothing that is not in the tables."""

from __future__ import annotations

import io
import re
import runpy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers import batch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread
from matplotlib.patches import StepPatch
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from sigwindow import fleet
from sigwindow.analysis import canvas, plots
from sigwindow.analysis.captions import CAPTIONS
from sigwindow.analysis.colours import VERDICT_COLOURS
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis, combined
from sigwindow.analysis.tables import VERDICTS
from sigwindow.analysis.words import duration
from sigwindow.probes import events
from sigwindow.probes.signals import FREEBSD, number, word_of
from sigwindow.probes.traceinfo import TraceInfo
from sigwindow.trace import Plots

BLACK, GREY = "#000000", canvas.GREY.lower()
PROF, USR1, SETXID = number("PROF"), number("USR1"), number("SETXID")
SECOND = 10**9
ROOT = Path(__file__).resolve().parent.parent
TRACES = ROOT / "notebooks" / "traces"


def analysis(count: int, lost: int = 0, seed: int = 2, processes: int = 3) -> Analysis:
    """An analysis of `count` threads of all verdicts, a tenth unready, and some uncertain when records were lost."""
    random = np.random.default_rng(seed)
    born = np.sort(random.integers(0, SECOND, count))
    setup = random.lognormal(np.log(80_000), 0.7, count).astype(np.int64)
    verdict = random.choice(VERDICTS, count, p=[0.03, 0.6, 0.3, 0.05, 0.02])
    ready = random.random(count) > 0.1
    setup[~ready] *= 20
    exposed = np.isin(verdict, ["critical", "hit", "exposed"])
    first = (setup * random.choice([0, 0.4, 0.7], count)).astype(np.int64)
    whole = random.random(count) > 0.2
    exposure = np.where(exposed, np.where(whole, setup - first, (setup - first) // 2), 0)
    threads = pd.DataFrame(
        {
            "pid": 7 + random.integers(0, processes, count),
            "tid": 1000 + np.arange(count),
            "comm": pd.array([f"worker-{i % 4}" for i in range(count)], "str"),
            "born_ns": born,
            "ready_ns": pd.array(born + setup, "Int64"),
            "end_ns": born + setup + np.where(ready, random.integers(0, 300_000, count), 0),
            "setup_ns": setup,
            "exposure_ns": exposure,
            "exposed_signals": np.where(exposed, word_of([PROF, USR1]), 0).astype(np.uint64),
            "first_exposed_ns": pd.array(born + first, "Int64"),
            "policy": "altstack",
            "verdict": verdict,
            "ready": ready,
            "uncertain": random.random(count) < 0.05 * bool(lost),
        }
    )
    threads.loc[~exposed, "first_exposed_ns"] = pd.NA
    threads.loc[~ready, "ready_ns"] = pd.NA
    hit = threads[np.isin(verdict, ["critical", "hit"])]
    hits = hit[["pid", "tid", "born_ns"]].assign(
        time_ns=hit["first_exposed_ns"].astype("int64") + hit["exposure_ns"] // 2,
        signal=PROF,
        critical=hit["verdict"] == "critical",
    )
    made = replace(Windows().result(), threads=threads, hits=hits, end_ns=SECOND, lost_events=lost, ended=not lost)
    measured = threads[ready & exposed].rename(columns={"exposed_signals": "signals"})
    made.exposure = measured.groupby(["pid", "signals"])["exposure_ns"].sum().reset_index()
    made.losses = losses((SECOND // 4, SECOND // 2, lost)) if lost else losses()
    return made


def losses(*spans: tuple[int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(list(spans), columns=["from_ns", "to_ns", "count"], dtype="int64")


def rows(**columns: Any) -> Analysis:
    """An analysis of the few threads whose columns are given: of one process, all ready, and none exposed."""
    made = analysis(len(next(iter(columns.values()))), processes=1)
    plain: dict[str, Any] = {"ready": True, "uncertain": False, "exposure_ns": 0, "verdict": "masked"}
    made.threads = made.threads.assign(**(plain | columns))
    made.hits = made.hits[:0]
    return made


def compare(of: Analysis) -> Axes:
    return plots.compare(of, analysis(100, seed=5))


FIGURES: dict[str, Callable[[Analysis], Axes]] = {**plots.KINDS, "compare": compare}


def test_every_figure_is_drawn_is_a_method_and_is_documented() -> None:
    assert set(plots.KINDS) == set(CAPTIONS)
    assert {name for name in vars(Plots) if name[0] != "_"} == {*CAPTIONS, "compare"}
    page = (ROOT / "docs" / "statistics.md").read_text().partition("\n## Figures")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*CAPTIONS, "compare"]


def footer(axes: Axes) -> list[str]:
    """The lines below the axes."""
    found = [text.get_text() for text in axes.texts if isinstance(text, Annotation)]
    return "\n".join(filter(None, found)).splitlines()


def written(axes: Axes) -> dict[tuple[float, float], str]:
    """The texts in the axes, by their places."""
    return {text.get_position(): text.get_text() for text in axes.texts if not isinstance(text, Annotation)}


def colours(labels: Sequence[Text]) -> list[str]:
    return [to_hex(label.get_color()) for label in labels]


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


def heights(axes: Axes, label: str) -> list[float]:
    """The heights of the steps whose label begins so."""
    (patch,) = (p for p in axes.patches if str(p.get_label()).startswith(label))
    assert isinstance(patch, StepPatch)
    return [float(value) for value in patch.get_data()[0]]


def save(axes: Axes, form: str) -> bytes:
    figure = axes.get_figure(root=True)
    assert figure
    file = io.BytesIO()
    figure.savefig(file, format=form, bbox_inches="tight")
    return file.getvalue()


@pytest.mark.parametrize("kind", FIGURES)
@pytest.mark.parametrize("count", [0, 1, 10, 500, 20_011])
@pytest.mark.parametrize("form", ["png", "svg"])
def test_any_number_of_threads_can_be_drawn(kind: str, count: int, form: str) -> None:
    assert 1_000 < len(save(FIGURES[kind](analysis(count)), form)) < 1_500_000


@pytest.mark.parametrize("kind", FIGURES)
def test_a_pdf_can_be_drawn(kind: str) -> None:
    assert save(FIGURES[kind](analysis(50)), "pdf").startswith(b"%PDF")


@pytest.mark.parametrize("kind", FIGURES)
def test_losses_and_a_missing_end_are_shown(kind: str) -> None:
    lossy = analysis(500, lost=17)
    told = [line.removeprefix("base: ") for line in footer(FIGURES[kind](lossy))]
    assert told[0] == f"17 events were lost, and {lossy.threads['uncertain'].sum()} threads are uncertain"
    assert told[1].startswith("the trace has no end mark")


@pytest.mark.parametrize("kind", plots.KINDS)
def test_nothing_is_reserved_of_a_complete_trace_and_the_policy_is_told(kind: str) -> None:
    *_, policy = footer(plots.KINDS[kind](analysis(500)))
    assert policy == "signals = async; ready = auto (altstack)"
    assert not any("lost" in line or "end mark" in line for line in footer(plots.KINDS[kind](analysis(500))))


@pytest.mark.parametrize("kind", plots.KINDS)
def test_the_command_and_the_circumstances_are_told(kind: str) -> None:
    info = TraceInfo(backend="bcc", os="linux", kernel="6.18", host="vm\x1b", command=("ruby", "my $1\n.rb"))
    assert footer(plots.KINDS[kind](analysis(50), info=info))[-2:] == [
        "ruby 'my $1\\n.rb'",
        "signals = async; ready = auto (altstack); by bcc on linux 6.18 at vm\\x1b",
    ]
    assert (
        "processes 7, 8" in footer(plots.KINDS[kind](analysis(50), info=replace(info, command=(), targets=(7, 8))))[-2]
    )
    assert save(plots.KINDS[kind](analysis(50), info=replace(info, command=("x" * 5_000,))), "png")


@pytest.mark.parametrize("kind", plots.KINDS)
def test_axes_are_drawn_on_and_an_empty_trace_says_so(kind: str) -> None:
    axes = plots.ecdf(analysis(0))
    axes.clear()
    assert plots.KINDS[kind](analysis(0), ax=axes) is axes
    assert axes.get_title() == "No thread was born while the trace ran: there is nothing to judge."


@pytest.mark.parametrize("kind", ["ecdf", "histogram", "timeline"])
def test_axes_of_durations_have_units(kind: str) -> None:
    axes = plots.KINDS[kind](analysis(50))
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    labels = [label.get_text() for label in axes.get_xticklabels() if label.get_text()]
    assert labels
    assert all(label.endswith("s") for label in labels)


def test_ecdf_passes_through_every_thread_and_the_exposure_starts_at_the_share_never_exposed() -> None:
    axes = plots.ecdf(rows(setup_ns=[1_000, 2_000, 3_000, 4_000], exposure_ns=[0, 0, 0, 2_000]))
    setup, ticks, exposure = axes.get_lines()
    assert list(np.asarray(setup.get_ydata())) == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1])
    assert list(np.asarray(setup.get_xdata()))[1:-1] == pytest.approx([1e-6, 2e-6, 3e-6, 4e-6])
    assert not len(np.asarray(ticks.get_xdata()))
    assert list(np.asarray(exposure.get_ydata())) == [0.75, 1, 1]
    assert legend(axes) == ["setup window\n(n = 4, 95 % band)", "exposure (1 of\n4 ready exposed)"]


def test_ecdf_counts_unready_threads_until_they_were_last_seen() -> None:
    # Kaplan-Meier by hand: 1/4 of 4 ready at 1 us; one censored at 2 us; then 1/2 of 2 at 3 us, and one censored.
    axes = plots.ecdf(rows(setup_ns=[1_000, 2_000, 3_000, 4_000], ready=[True, False, True, False]))
    setup, ticks, *_ = axes.get_lines()
    assert list(np.asarray(setup.get_ydata())) == pytest.approx([0, 0.25, 0.25, 0.625, 0.625])
    assert np.asarray(setup.get_xdata())[-1] == pytest.approx(4e-6)  # not beyond the last thread
    assert list(np.asarray(ticks.get_xdata())) == pytest.approx([2e-6, 4e-6])
    assert list(np.asarray(ticks.get_ydata())) == pytest.approx([0.25, 0.625])
    assert "unready: last seen\n(n = 2)" in legend(axes)
    (band,) = axes.collections
    y = band.get_paths()[0].get_extents().intervaly
    assert y[0] == 0
    assert 0.625 < y[1] < 1


def test_ecdf_of_unready_threads_only_stays_at_zero() -> None:
    axes = plots.ecdf(rows(setup_ns=[1_000, 2_000], ready=[False, False]))
    assert not np.asarray(axes.get_lines()[0].get_ydata()).any()
    assert "exposure (0 of\n0 ready exposed)" not in legend(axes)


def test_a_tick_does_not_hide_the_curve_of_many() -> None:
    _, ticks, *_ = plots.ecdf(analysis(20_011)).get_lines()
    assert len(np.asarray(ticks.get_xdata())) == 100


def test_kwargs_reach_the_curves() -> None:
    axes = plots.ecdf(analysis(10))
    assert plots.ecdf(analysis(10, seed=3), ax=axes, linewidth=3.5) is axes
    assert len([line for line in axes.get_lines() if line.get_linewidth() == 3.5]) == 2


def test_histogram_has_every_thread_once() -> None:
    many = analysis(500)
    axes = plots.histogram(many)
    ready = many.threads["ready"]
    exposed = int((many.threads["exposure_ns"][ready] > 0).sum())
    assert sum(heights(axes, "setup window")) == ready.sum()
    assert sum(heights(axes, "exposure")) == exposed
    assert sum(heights(axes, "unready")) == (~ready).sum()
    assert f"exposure\n(n = {exposed}; {ready.sum() - exposed} not exposed)" in legend(axes)


def test_histogram_puts_a_length_in_its_step_and_counts_zeros_apart() -> None:
    axes = plots.histogram(rows(setup_ns=[0, 1_000, 1_000, 1_000_000]))
    (patch, _) = axes.patches
    assert isinstance(patch, StepPatch)
    values, edges, _ = patch.get_data()
    steps = [(float(left), float(right), n) for left, right, n in zip(edges, edges[1:], values, strict=False) if n]
    assert [n for *_, n in steps] == [2, 1]
    assert steps[0][0] <= 1e-6 <= steps[0][1]
    assert steps[1][0] <= 1e-3 <= steps[1][1]
    assert legend(axes)[0] == "setup window\n(n = 3; 1 of no length)"


def cells(axes: Axes) -> tuple[list[str], list[str], list[list[float]]]:
    """Rows, columns and values of a heat map, 0 where nothing is coloured."""
    (mesh,) = (c for c in axes.collections if isinstance(c, QuadMesh))
    values: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), 0).reshape(len(axes.get_yticks()), -1)
    names = [[label.get_text() for label in ticks] for ticks in (axes.get_yticklabels(), axes.get_xticklabels())]
    return names[0], names[1], values.tolist()


def hits(of: Analysis, *found: tuple[int, int, bool]) -> None:
    """Give the analysis hits: of which of its threads, which signal, critical or not."""
    place, signal, critical = zip(*found, strict=True)
    threads = of.threads.iloc[list(place)][["pid", "tid", "born_ns"]]
    of.hits = threads.assign(time_ns=threads["born_ns"], signal=signal, critical=critical).reset_index(drop=True)


def test_signals_sums_exposure_of_each_process_to_each_signal() -> None:
    three = rows(pid=[7, 8, 9], comm=["a", "b", "c"], verdict=["exposed", "hit", "masked"])
    three.leaders = {(0, 8): "leader"}
    three.exposure = pd.DataFrame(
        {
            "pid": [7, 7, 8],
            "signals": np.array([word_of([PROF]), word_of([PROF, SETXID]), word_of([USR1])], np.uint64),
            "exposure_ns": [1_000, 2_000, 50_000],
        }
    )
    hits(three, (0, PROF, False), (0, PROF, True), (2, USR1, False))
    axes = plots.signals(three)
    processes, signals, values = cells(axes)
    assert processes == ["leader 8", "a 7", "c 9"]
    assert colours(axes.get_yticklabels()) == [VERDICT_COLOURS[v].paper for v in ("hit", "exposed", "masked")]
    assert signals == ["SIGUSR1", "SIGPROF", "SIGSETXID"]
    assert np.array(values) * 1e6 == pytest.approx(np.array([[50, 0, 0], [0, 3, 2], [0, 0, 0]]))
    assert written(axes) == {(1, 1): "2!", (0, 2): "1"}
    assert colours(axes.get_xticklabels()) == [BLACK, BLACK, GREY]
    assert footer(axes)[0] == "numbers: hits; !: some critical; grey signals: not considered"


def test_signals_of_one_process_counts_threads_by_name() -> None:
    sets = np.array([word_of(of) for of in ([PROF, USR1], [PROF], [], [PROF])], np.uint64)
    one = rows(comm=["a", "b", "b", "a"], exposed_signals=sets, exposure_ns=[5, 1, 0, 1])
    hits(one, (1, PROF, True))
    axes = plots.signals(one)
    assert cells(axes) == (["a", "b"], ["SIGUSR1", "SIGPROF"], [[1, 2], [0, 1]])
    assert list(written(axes).values()) == ["1!"]
    assert axes.get_title() == "Exposed threads by name and signal"


def test_signals_sums_the_rows_beyond_those_that_can_be_read() -> None:
    many = rows(pid=np.arange(100), comm=["x"] * 100)
    many.threads["exposure_ns"] = SECOND - np.arange(100)
    many.exposure = pd.DataFrame(
        {"pid": np.arange(100), "signals": np.uint64(word_of([PROF])), "exposure_ns": many.threads["exposure_ns"]}
    )
    hits(many, *((thread, PROF, False) for thread in range(100)))
    axes = plots.signals(many)
    processes, _, values = cells(axes)
    assert processes[0] == "x 0"
    assert processes[39:] == ["x 39", "60 others"]
    assert values[-1][0] == pytest.approx(60, rel=1e-6)
    assert list(written(axes).values())[-1] == "60"


def test_signals_of_many_processes_is_bounded_and_has_the_critical_one_first() -> None:
    """It was 4890 pixels wide, ordered by a signal that is not considered, the critical process among "103 others"."""
    count, wide = 171, [*range(34, 64), PROF]
    many = rows(pid=np.arange(count), comm=["x"] * count)
    exposed_ns = np.where(np.arange(count) < 20, 0, np.arange(count))
    exposed_ns[161:] = [0] * 9 + [5]
    many.threads["exposure_ns"] = exposed_ns
    many.threads["verdict"] = np.where(np.arange(count) == 170, "critical", np.where(exposed_ns, "exposed", "masked"))
    exposure = [(pid, word_of([SETXID]), SECOND - pid) for pid in range(count)]
    exposure += [(pid, word_of(wide), pid) for pid in range(20, 161)] + [(170, word_of([USR1]), 5)]
    many.exposure = pd.DataFrame(exposure, columns=["pid", "signals", "exposure_ns"]).astype({"signals": np.uint64})
    hits(many, (170, USR1, True))
    axes = plots.signals(many)
    processes, signals, _ = cells(axes)
    assert processes[:3] == ["x 170", "x 160", "x 159"]
    assert processes[40:] == ["102 others"]  # of those that are drawn: SETXID has no room
    assert signals[:2] == ["SIGUSR1", "SIGPROF"]
    assert len(signals) == 24
    assert written(axes) == {(0, 0): "1!"}
    assert "9 more signals: SIGSETXID, SIGRTMIN+22" in footer(axes)[0]
    figure = axes.get_figure(root=True)
    assert figure
    assert (figure.get_size_inches() <= 14).all()


def test_signals_says_how_many_others_are_critical() -> None:
    axes = plots.signals(rows(pid=np.arange(50), comm=["x"] * 50, verdict=["critical"] * 45 + ["hit"] * 5))
    assert cells(axes)[0][-1] == "10 others, 5 critical"


def test_signals_keeps_the_same_pid_in_two_traces_apart() -> None:
    of = rows(pid=[7], comm=["a"], verdict=["exposed"], exposure_ns=[1_000])
    of.exposure = pd.DataFrame({"pid": [7], "signals": np.uint64(word_of([PROF])), "exposure_ns": [1_000]})
    of.leaders = {(0, 7): "first"}
    other = replace(of, leaders={(0, 7): "second"}, hits=of.hits)
    hits(other, (0, PROF, True))
    both = combined([of, other])
    axes = plots.signals(both)
    names, _, values = cells(axes)
    assert names == ["first 7, trace 0", "second 7, trace 1"]
    assert np.array(values) == pytest.approx(np.full((2, 1), 1e-6))
    assert written(axes) == {(0, 1): "1!"}
    assert footer(axes)[-1] == "2 traces; signals = async; ready = auto (altstack)"
    timeline = plots.timeline(both)
    assert [label.get_text() for label in timeline.get_yticklabels()] == ["a 1000, trace 0", "a 1000, trace 1"]
    (mark,) = (line for line in timeline.get_lines() if str(line.get_label()).startswith("critical"))
    assert len(np.asarray(mark.get_xdata())) == 1


def test_micro_is_written_as_in_the_tables() -> None:
    axes = plots.ecdf(rows(setup_ns=[3_000, 7_000]))
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    assert duration(5_000) in [label.get_text() for label in axes.get_xticklabels()]


def test_names_that_differ_in_their_digits_are_one_row() -> None:
    names = [f"Thread-{n}" for n in range(3187)] + ["python3", "GC 1 of 2", "GC 2 of 2"]
    pool = rows(comm=names, exposed_signals=np.full(len(names), word_of([PROF]), np.uint64))
    found, _, values = cells(plots.signals(pool))
    assert dict(zip(found, values, strict=True)) == {"Thread-*": [3187], "python3": [1], "GC * of *": [2]}


def test_signals_of_a_careful_program_says_that_nothing_was_exposed() -> None:
    axes = plots.signals(rows(comm=["a"], exposed_signals=np.zeros(1, np.uint64)))
    assert axes.get_title() == "1 thread born: it was not exposed to a considered signal."
    assert not axes.collections


@pytest.mark.parametrize("processes", [1, 2])
def test_signals_of_freebsd_have_its_names(processes: int) -> None:
    """EMT and INFO are no signals of Linux, where USR1 is 10 and 30 is PWR."""
    handled = word_of(number(name, FREEBSD) for name in ("EMT", "USR1", "INFO", "THR"))
    seen: list[dict[str, Any]] = []
    for pid in range(1, processes + 1):
        thread = {"pid": pid, "tid": pid + 100, "handled": handled}
        seen.append({"time_ns": 1000, "kind": "born", "peer": pid, "flags": events.CLONE_THREAD, **thread})
        seen.append({"time_ns": 2000, "kind": "altstack", "altstack": 1, **thread})
    windows = Windows(Question(signals="INFO,EMT,USR1"), "freebsd")
    windows.feed(batch(*seen))
    axes = plots.signals(windows.result())
    _, signals, _ = cells(axes)
    expected = {"SIGEMT": BLACK, "SIGINFO": BLACK, "SIGUSR1": BLACK} | ({"SIGTHR": GREY} if processes > 1 else {})
    assert dict(zip(signals, colours(axes.get_xticklabels()), strict=True)) == expected


def test_rate_is_births_and_exposure_a_second_where_the_threads_were_born() -> None:
    four = rows(
        born_ns=[0, 10**8, 10**8 + 1, 2 * SECOND],
        exposure_ns=[0, 10**7, 10**7, 5 * 10**7],
        ready=[True, True, False, True],
        uncertain=[False, True, False, False],
    )
    four.end_ns = 2 * SECOND  # 20 steps of 0.1 s
    axes = plots.rate(four)
    assert heights(axes, "births") == pytest.approx([10, 20, *[0] * 17, 10])
    assert heights(axes, "uncertain") == pytest.approx([0, 10, *[0] * 18])
    (load,) = (other for other in axes.get_figure(root=True).axes if other is not axes)  # type: ignore[union-attr]
    assert heights(load, "exposure") == pytest.approx([0, 0.1, *[0] * 17, 0.5])
    assert axes.get_xlabel() == "time since the trace began (s)"
    assert footer(axes)[1] == "in steps of 0.1 s"


def test_rate_shades_where_records_were_lost() -> None:
    lossy = analysis(50, lost=17)
    lossy.start_ns, lossy.end_ns = 1_000, 1_000 + 6 * SECOND
    lossy.losses = losses((1_000 + SECOND, 1_000 + 3 * SECOND, 12), (1_000 + 4 * SECOND, 1_000 + 4 * SECOND, 5))
    axes = plots.rate(lossy)
    (shade,) = axes.collections
    assert isinstance(shade, PolyCollection)
    assert [path.get_extents().intervalx.tolist() for path in shade.get_paths()] == [[1, 3], [4, 4]]
    assert "17 events lost" in legend(axes)
    assert axes.get_ylim()[1] >= max(heights(axes, "births"))
    assert np.min(shade.get_linewidth()) > 0  # a loss in one moment is seen


@pytest.mark.parametrize(("seconds", "unit"), [(10**-5, "µs"), (0.5, "ms"), (90, "s"), (600, "min"), (86_400, "h")])
def test_rate_takes_the_unit_that_fits(seconds: float, unit: str) -> None:
    of = analysis(5)
    of.end_ns = int(seconds * SECOND)
    of.threads["born_ns"] = 0
    axes = plots.rate(of)
    assert f"({unit})" in axes.get_xlabel()
    assert axes.get_xlim()[1] < 1_000


def test_compare_draws_both_traces_under_their_names() -> None:
    base = rows(setup_ns=[1_000, 2_000], exposure_ns=[1_000, 0], verdict=["critical", "masked"])
    new = rows(setup_ns=[2_000, 4_000, 8_000, 9_000], verdict=["masked"] * 4)
    axes = plots.compare(base, new, labels=("_$old", "new\n"))
    base_setup, _, base_exposure, new_setup, _, new_exposure = axes.get_lines()[:6]
    assert list(np.asarray(base_setup.get_ydata())) == pytest.approx([0, 0.5, 1, 1])
    assert list(np.asarray(base_exposure.get_ydata())) == pytest.approx([0.5, 1, 1])
    assert list(np.asarray(new_setup.get_xdata()))[1:-1] == pytest.approx([2e-6, 4e-6, 8e-6, 9e-6])
    assert np.asarray(new_exposure.get_ydata()).tolist() == [1, 1]
    assert len(axes.collections) == 2  # the bands
    assert legend(axes)[:2] == [
        "2 threads in _$old\n50.0% critical\n50.0% masked",
        "4 threads in new\\n\n100.0% masked",
    ]
    assert save(axes, "svg")


def test_compare_tells_whose_events_were_lost() -> None:
    told = footer(plots.compare(analysis(50), analysis(50, lost=17), labels=("old", "new")))
    assert told[0].startswith("new: 17 events were lost")
    assert told[2:] == [f"{name}: signals = async; ready = auto (altstack)" for name in ("old", "new")]


def shares(axes: Axes, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where points are in the axes, from 0 to 1, from the left and from the top."""
    found: NDArray[np.float64] = axes.transLimits.transform(axes.transScale.transform(points))
    return found * [1, -1] + [0, 1]


def spans(axes: Axes, label: str) -> NDArray[np.float64]:
    """The bars whose label begins so: left, right, top and bottom of each, as shares of the axes."""
    (bars,) = (c for c in axes.collections if isinstance(c, PolyCollection) and str(c.get_label()).startswith(label))
    corners = np.stack([shares(axes, np.asarray(path.vertices)) for path in bars.get_paths()])
    (left, top), (right, bottom) = corners.min(axis=1).T, corners.max(axis=1).T
    return np.stack([left, right, top, bottom], axis=1)


def test_timeline_marks_every_hit_at_its_time() -> None:
    many = analysis(500)
    drawn = {line.get_label(): len(np.asarray(line.get_xdata())) for line in plots.timeline(many).get_lines()}
    critical = int(many.hits["critical"].sum())
    unready = int((~many.threads["ready"]).sum())
    assert drawn == {
        f"critical hit ({critical})": critical,
        f"hit ({len(many.hits) - critical})": len(many.hits) - critical,
        f"unready ({unready})": unready,
    }


def test_timeline_draws_phases_to_scale() -> None:
    one = rows(setup_ns=[100_000], exposure_ns=[60_000], verdict=["exposed"])
    one.threads["end_ns"] = one.threads["born_ns"] + 150_000
    one.threads["first_exposed_ns"] = (one.threads["born_ns"] + 40_000).astype("Int64")
    axes = plots.timeline(one)
    ends = {
        c.get_label(): [f"{x * 1e6:.0f}" for x in c.get_paths()[0].get_extents().intervalx] for c in axes.collections
    }
    edge = f"{axes.get_xlim()[1] * 1e6:.0f}"
    assert ends == {"not exposed": ["0", "40"], "exposed": ["40", "100"], "ready": ["100", edge]}
    assert 100 < float(edge) < 150


def test_timeline_shows_exposures_of_a_microsecond_in_windows_of_milliseconds() -> None:
    """Of Ruby's 97 exposed threads none could be seen."""
    ruby, info = fleet.analyse(TRACES / "ruby.arrows")
    axes = plots.timeline(ruby, info=info)
    exposed = spans(axes, "exposed")
    assert len(exposed) == 97
    assert (exposed[:, 1] - exposed[:, 0]).min() > 0.0079  # of some 650 pixels
    assert exposed[:, 1].max() <= 1
    assert [label.get_text() for label in axes.get_yticklabels()] == ["97 exposed"]
    assert "exposed\n(widened if short)" in legend(axes)
    assert footer(axes)[1] == "ruby threads.rb"


@pytest.mark.parametrize("count", [3, 41, 500, 20_011])
def test_timeline_shows_the_one_critical_thread_first(count: int) -> None:
    """It was in the frame's corner, where 470 of 500 threads lay in a sliver of three pixels."""
    setup = np.full(count, 20_000)
    setup[: count // 10] = 400_000_000
    verdict = ["masked"] * (count - 1) + ["critical"]
    exposure = np.where(np.arange(count) == count - 1, 500, 0)
    of = rows(setup_ns=setup, exposure_ns=exposure, verdict=verdict)
    of.threads["first_exposed_ns"] = (of.threads["born_ns"] + 19_500).where(exposure > 0).astype("Int64")
    hits(of, (count - 1, PROF, True))
    of.hits["time_ns"] += 19_700
    axes = plots.timeline(of)
    ((left, right, top, bottom),) = spans(axes, "exposed")
    assert 0 < left < right < 1
    assert right - left > 0.0079
    assert top < 0.1
    assert bottom - top > 0.04
    (mark,) = (line for line in axes.get_lines() if str(line.get_label()).startswith("critical"))
    ((x, y),) = shares(axes, np.asarray(mark.get_xydata()))
    assert left <= x <= right
    assert top < y < bottom
    assert spans(axes, "not exposed")[:, 1].max() < 1  # no window is cut off
    masked = spans(axes, "not exposed")
    assert np.median(masked[:, 1] - masked[:, 0]) > 0.1


@pytest.mark.parametrize("width_in", [3.5, 9, 20])
@pytest.mark.parametrize("setup_ns", [[5_000_000, 6_000_000], [1_000, 1_800_000], [1, 86_400 * SECOND]])
def test_timeline_s_ticks_have_room(width_in: float, setup_ns: list[int]) -> None:
    axes = plots.timeline(rows(setup_ns=setup_ns))
    figure = axes.get_figure(root=True)
    assert figure
    figure.set_size_inches(width_in, 4)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_timeline_cuts_no_window_off() -> None:
    one_long = rows(setup_ns=[1_000] * 99 + [3_600 * SECOND], ready=[True] * 99 + [False])
    ends = spans(plots.timeline(one_long), "not exposed")[:, 1]
    assert ends.max() < 1
    assert ends.min() > 0.05


def test_timeline_has_a_row_for_each_verdict_of_many_threads() -> None:
    many = analysis(20_011)
    counts = many.threads["verdict"].value_counts()
    axes = plots.timeline(many)
    worst_first = tuple(reversed(VERDICTS))
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{counts[v]:,} {v}" for v in worst_first]
    assert colours(axes.get_yticklabels()) == [VERDICT_COLOURS[v].paper for v in worst_first]
    assert list(axes.get_yticks()) == sorted(axes.get_yticks())


def test_a_verdict_s_colours_can_be_read_and_told_apart_without_hue() -> None:
    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    assert list(VERDICT_COLOURS) == list(reversed(VERDICTS))
    for colour in VERDICT_COLOURS.values():
        assert 1.05 / (luminance(colour.paper) + 0.05) >= 4.5
        assert (luminance(colour.dark) + 0.05) / (luminance("#15181b") + 0.05) >= 4.5
    critical, hit, exposed, *_ = (luminance(colour.paper) + 0.05 for colour in VERDICT_COLOURS.values())
    assert exposed > 1.3 * hit > 1.3 * 1.3 * critical


@pytest.mark.parametrize("kind", plots.KINDS)
def test_the_footer_has_room_in_a_figure_of_several(kind: str) -> None:
    made = plots.ecdf(analysis(50)).get_figure(root=True)
    assert made
    made.clear()
    made.set_size_inches(9, 9)
    for ax in made.subplots(2, 1):
        plots.KINDS[kind](analysis(50, lost=5), ax)
    made.draw_without_rendering()
    for text in (text for ax in made.axes for text in ax.texts if isinstance(text, Annotation) and text.get_text()):
        assert text.get_window_extent().y0 >= 0


@pytest.mark.parametrize("kind", FIGURES)
def test_the_same_is_drawn_the_same(kind: str) -> None:
    assert save(FIGURES[kind](analysis(200)), "png") == save(FIGURES[kind](analysis(200)), "png")


def test_readme_shows_the_figures_as_they_are(tmp_path: Path) -> None:
    """Its picture was older than they were."""
    demo = runpy.run_path(str(ROOT / "docs" / "demo.py"))
    demo["draw"]([TRACES / f"newosproc-{mode}.arrows" for mode in demo["MODES"]], tmp_path / "demo.png")
    drawn, shown = (imread(path)[..., :3] for path in (tmp_path / "demo.png", demo["README_PICTURE"]))
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 0.02  # another version of matplotlib's fonts is no other picture


HOSTILE = ["$\\frac{1}{$", "名\x1b[2J", "a\nb", "</text><script>", "--><!--", "_x", "\U0001f480" * 15]
SHOWN = [
    "$\\frac{1}{$",
    "\\u540d\\x1b[2J",
    "a\\nb",
    "</text><script>",
    "--><!--",
    "_x",
    "\\U0001f480\\U0001f480\\U0001f48...",
]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
@pytest.mark.parametrize("processes", [1, 7])
@pytest.mark.parametrize("kind", ["timeline", "signals"])
def test_hostile_names_are_text(kind: str, processes: int, form: str) -> None:
    count = len(HOSTILE)
    of = rows(
        pid=[7 + i % processes for i in range(count)],
        comm=HOSTILE,
        exposed_signals=np.full(count, word_of([PROF]), np.uint64),
    )
    of.exposure = pd.DataFrame(
        {"pid": of.threads["pid"].unique(), "signals": np.uint64(word_of([PROF])), "exposure_ns": 1_000}
    )
    axes = plots.KINDS[kind](of)
    numbers = of.threads["tid" if kind == "timeline" else "pid"]
    bare = kind == "signals" and processes == 1
    expected = SHOWN if bare else [f"{name} {number}" for name, number in zip(SHOWN, numbers, strict=True)]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(shown) == sorted(expected)
    drawn = save(axes, form)
    assert b"<script" not in drawn
