"""The figures: drawn from tables made by hand, of any size, with nothing that is not in the tables."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sigwindow.analysis import plots
from sigwindow.analysis.windows import VERDICTS, Analysis


def analysis(count: int, lost: int = 0, seed: int = 2) -> Analysis:
    """An analysis of `count` threads of all verdicts, a tenth unready, and some uncertain when records were lost."""
    random = np.random.default_rng(seed)
    born = np.sort(random.integers(0, 10**9, count))
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
            "pid": 7,
            "tid": 1000 + np.arange(count),
            "comm": [f"worker-{i % 4}" for i in range(count)],
            "born_ns": born,
            "ready_ns": pd.array(born + setup, "Int64"),
            "end_ns": born + setup + np.where(ready, random.integers(0, 300_000, count), 0),
            "setup_ns": setup,
            "exposure_ns": exposure,
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
        signal=27,
        critical=hit["verdict"] == "critical",
    )
    by_signal = pd.DataFrame()
    return Analysis(threads, hits, by_signal, {}, "auto", "async", 0, 10**9, 10 * count, lost, not lost)


@pytest.mark.parametrize("kind", ["ecdf", "timeline"])
@pytest.mark.parametrize("count", [0, 1, 10, 500, 20_011])
@pytest.mark.parametrize("form", ["png", "svg"])
def test_any_number_of_threads_can_be_drawn(kind: str, count: int, form: str) -> None:
    axes = getattr(plots, kind)(analysis(count))
    file = io.BytesIO()
    axes.get_figure(root=True).savefig(file, format=form)
    assert 1_000 < file.tell() < 3_000_000


@pytest.mark.parametrize("kind", ["ecdf", "timeline"])
def test_losses_and_a_missing_end_are_shown(kind: str) -> None:
    lossy = analysis(500, lost=17)
    told = "\n".join(text.get_text() for text in getattr(plots, kind)(lossy).texts)
    assert f"17 events lost, {lossy.threads['uncertain'].sum()} threads uncertain" in told
    assert "the trace was cut off" in told
    assert not any(text.get_text() for text in plots.ecdf(analysis(500)).texts)


def test_ecdf_starts_at_the_share_never_exposed_and_passes_through_every_thread() -> None:
    few = analysis(4)
    few.threads["setup_ns"] = [1_000, 2_000, 3_000, 4_000]
    few.threads["exposure_ns"] = [0, 0, 0, 2_000]
    few.threads["ready"] = True
    axes = plots.ecdf(few)
    setup, exposure = axes.get_lines()
    assert list(np.asarray(setup.get_ydata()))[:-1] == [0, 0.25, 0.5, 0.75, 1]
    assert list(np.asarray(setup.get_xdata()))[1:-1] == pytest.approx([1e-6, 2e-6, 3e-6, 4e-6])
    assert list(np.asarray(exposure.get_ydata())) == [0.75, 1, 1]
    assert exposure.get_label() == "exposure (1 of 4 exposed)"


def test_kwargs_reach_the_curves_and_axes_are_drawn_on() -> None:
    axes = plots.ecdf(analysis(10))
    assert plots.ecdf(analysis(10, seed=3), ax=axes, linewidth=3.5) is axes
    assert [line.get_linewidth() for line in axes.get_lines() if line.get_linewidth() == 3.5]


def test_timeline_marks_every_hit_at_its_time() -> None:
    many = analysis(500)
    axes = plots.timeline(many)
    drawn = {line.get_label(): len(np.asarray(line.get_xdata())) for line in axes.get_lines()}
    critical = int(many.hits["critical"].sum())
    assert drawn["critical hit"] == critical
    assert drawn["hit"] == len(many.hits) - critical
    assert drawn["unready"] == (~many.threads["ready"]).sum()


def test_timeline_draws_phases_to_scale() -> None:
    one = analysis(1)
    one.threads = one.threads.assign(
        setup_ns=100_000,
        exposure_ns=60_000,
        ready=True,
        uncertain=False,
        verdict="exposed",
        end_ns=one.threads["born_ns"] + 150_000,
    )
    one.threads["first_exposed_ns"] = (one.threads["born_ns"] + 40_000).astype("Int64")
    axes = plots.timeline(one)
    spans = {
        c.get_label(): [f"{x * 1e6:.0f}" for x in c.get_paths()[0].get_extents().intervalx] for c in axes.collections
    }
    assert spans == {"not exposed": ["0", "40"], "exposed": ["40", "100"], "ready": ["100", "108"]}  # 108: the edge


def test_hostile_names_are_text(tmp_path: Path) -> None:
    hostile = analysis(3)
    hostile.threads["comm"] = ["$\\frac{1}{$", "名\x1b[2J", "a\nb"]
    axes = plots.timeline(hostile)
    figure = axes.get_figure(root=True)
    assert figure
    figure.savefig(tmp_path / "t.svg")
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "$\\frac{1}{$ 1000",
        "\\u540d\\x1b[2J 1001",
        "a\\nb 1002",
    ]
