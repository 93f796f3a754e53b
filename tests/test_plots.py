"""The figures: drawn from tables made by hand, of any size, with nothing that is not in the tables."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.patches import StepPatch
from rows import batch

from sigwindow.analysis import plots
from sigwindow.analysis.engine.windows import Windows
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.totals import VERDICTS
from sigwindow.probes import events
from sigwindow.probes.signals import FREEBSD, number, word_of

PROF, USR1, SETXID = number("PROF"), number("USR1"), number("SETXID")
SECOND = 10**9


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
            "comm": [f"worker-{i % 4}" for i in range(count)],
            "born_ns": born,
            "ready_ns": pd.array(born + setup, "Int64"),
            "end_ns": born + setup + np.where(ready, random.integers(0, 300_000, count), 0),
            "setup_ns": setup,
            "exposure_ns": exposure,
            "exposed_signals": np.where(exposed, word_of([PROF, USR1]), 0).astype(np.uint64),
            "first_exposed_ns": pd.array(born + first, "Int64"),
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
    made.threads = made.threads.assign(**({"ready": True, "uncertain": False, "exposure_ns": 0} | columns))
    made.hits = made.hits[:0]
    return made


def compare(of: Analysis) -> Axes:
    return plots.compare(of, analysis(100, seed=5))


FIGURES = {**plots.KINDS, "compare": compare}


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


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
    told = "\n".join(texts(FIGURES[kind](lossy)))
    assert f"17 events lost, {lossy.threads['uncertain'].sum()} threads uncertain" in told
    assert "the trace was cut off" in told


@pytest.mark.parametrize("kind", ["ecdf", "histogram", "rate", "compare"])
def test_nothing_is_reserved_of_a_complete_trace(kind: str) -> None:
    assert texts(FIGURES[kind](analysis(500))) == []


@pytest.mark.parametrize("kind", plots.KINDS)
def test_axes_are_drawn_on_and_an_empty_trace_says_so(kind: str) -> None:
    axes = plots.ecdf(analysis(0))
    axes.clear()
    assert plots.KINDS[kind](analysis(0), ax=axes) is axes  # type: ignore[call-arg]
    assert axes.get_title() == "no thread was born"


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
    assert f"exposure\n(n = {exposed}; {ready.sum() - exposed} never exposed)" in legend(axes)


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
    three = rows(pid=[7, 8, 9], comm=["a", "b", "c"])
    three.leaders = {8: "leader"}
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
    assert signals == ["SIGUSR1", "SIGPROF", "SIGSETXID"]
    assert np.array(values) * 1e6 == pytest.approx(np.array([[50, 0, 0], [0, 3, 2], [0, 0, 0]]))
    written = {text.get_position(): text.get_text() for text in axes.texts if text.get_text()}
    assert written == {(1, 1): "2!", (0, 2): "1"}
    assert [to_rgb(label.get_color()) == to_rgb(plots.GREY) for label in axes.get_xticklabels()] == [False, False, True]


def test_signals_of_one_process_counts_threads_by_name() -> None:
    sets = np.array([word_of(of) for of in ([PROF, USR1], [PROF], [], [PROF])], np.uint64)
    one = rows(comm=["a", "b", "b", "a"], exposed_signals=sets)
    hits(one, (1, PROF, True))
    axes = plots.signals(one)
    assert cells(axes) == (["a", "b"], ["SIGUSR1", "SIGPROF"], [[1, 2], [0, 1]])
    assert texts(axes) == ["1!"]
    assert axes.get_title() == "Exposed threads by name and signal"


def test_signals_sums_the_rows_beyond_those_that_can_be_read() -> None:
    many = rows(pid=np.arange(100), comm=["x"] * 100)
    many.exposure = pd.DataFrame(
        {"pid": np.arange(100), "signals": np.uint64(word_of([PROF])), "exposure_ns": SECOND - np.arange(100)}
    )
    hits(many, *((thread, PROF, False) for thread in range(100)))
    axes = plots.signals(many)
    processes, _, values = cells(axes)
    assert processes[0] == "x 0"
    assert processes[39:] == ["x 39", "60 others"]
    assert values[-1][0] == pytest.approx(60, rel=1e-6)
    assert texts(axes)[-1] == "60"


def test_signals_of_a_careful_program_says_that_nothing_was_exposed() -> None:
    axes = plots.signals(rows(comm=["a"], exposed_signals=np.zeros(1, np.uint64)))
    assert axes.get_title() == "no thread was exposed"
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
    grey = [to_rgb(label.get_color()) == to_rgb(plots.GREY) for label in axes.get_xticklabels()]
    told = dict(zip(signals, grey, strict=True))
    assert told == {"SIGEMT": False, "SIGINFO": False, "SIGUSR1": False} | ({"SIGTHR": True} if processes > 1 else {})


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
    assert axes.get_xlabel() == "time since the trace began (s), in steps of 0.1 s"
    assert axes.get_title() == "4 births: 3 exposed, 1 unready"


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


@pytest.mark.parametrize(("seconds", "unit"), [(10**-5, "us"), (0.5, "ms"), (90, "s"), (600, "min"), (86_400, "h")])
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
    (told,) = texts(plots.compare(analysis(50), analysis(50, lost=17), labels=("old", "new")))
    assert told.startswith("new: 17 events lost")
    assert "old:" not in told


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
    spans = {
        c.get_label(): [f"{x * 1e6:.0f}" for x in c.get_paths()[0].get_extents().intervalx] for c in axes.collections
    }
    assert spans == {"not exposed": ["0", "40"], "exposed": ["40", "100"], "ready": ["100", "108"]}  # 108: the edge


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
    assert [label.get_text() for label in axes.get_yticklabels()] == expected
    drawn = save(axes, form)
    assert b"<script" not in drawn
