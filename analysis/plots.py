"""Figures of an analysis. They draw what the engine found, select and sort, and compute nothing else.

Each takes the Axes to draw on, or makes a figure of its own (never pyplot's: no window, no global
state, any backend), and returns the Axes. Colours are of Okabe and Ito's set, which colour-blind
readers can tell apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sigwindow.probes.events import printable

from .windows import VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .windows import Analysis

BLACK, ORANGE, SKY, BLUE, RED, PURPLE = "#000000", "#E69F00", "#56B4E9", "#0072B2", "#D55E00", "#CC79A7"
PALE_RED, PALE_GREY = "#F2B48C", "#E6E6E6"

_CURVE_POINTS = 10_000  # more can't be seen
_ROWS = 4_000  # bars drawn at most; a figure has fewer lines of pixels
_NAMED_ROWS = 40  # up to here each thread has its name beside its bar
_SECONDS = 1e-9  # of a nanosecond; axes are in seconds and pick the prefix themselves


def ecdf(analysis: Analysis, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """The shares of ready threads whose setup window, and whose exposure, last at most so long.

    Threads that were never exposed make the height at which the exposure's curve begins. Unready
    threads have no complete window: their length so far is a mark at the top.

    analysis: what to draw. ax: where; by default a new figure. kwargs: for both curves' Axes.plot.
    """
    from matplotlib.ticker import LogLocator

    ax = ax or _new_axes(7, 4.5)
    threads = analysis.threads
    ready, unready = threads[threads["ready"]], threads[~threads["ready"]]
    exposed = (ready["exposure_ns"] > 0).sum()
    curves = (
        ("setup_ns", BLUE, "-", f"setup window (n = {len(ready):,})"),
        ("exposure_ns", RED, "--", f"exposure ({exposed:,} of {len(ready):,} exposed)"),
    )
    drawn = pd.concat([ready["setup_ns"], ready["exposure_ns"], unready["setup_ns"]]).to_numpy(np.float64) * _SECONDS
    positive = drawn[drawn > 0]
    low, high = (positive.min() / 2, positive.max() * 2) if len(positive) else (1e-6, 1e-3)
    ax.set_xscale("log", subs=[])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1_000 else (1,)))
    _duration_axis(ax)
    for column, colour, line, label in curves:
        if len(ready):
            x, y = _steps(np.sort(ready[column].to_numpy(np.float64)) * _SECONDS, low, high)
            style = {"color": colour, "linestyle": line, "drawstyle": "steps-post", "label": label} | kwargs
            ax.plot(x, y, **style)
    if len(unready):
        so_far = np.maximum(unready["setup_ns"].to_numpy(np.float64) * _SECONDS, low)
        label = f"unready: length so far (n = {len(unready):,})"
        ax.plot(so_far, np.full(len(so_far), 1.03), "|", color=BLACK, label=label, rasterized=len(so_far) > _ROWS)
    ax.set(xlim=(low, high), ylim=(0, 1.06), xlabel="duration", ylabel="share of ready threads")
    ax.set_title("Setup window and exposure")
    ax.grid(alpha=0.25)
    if len(threads):
        ax.legend(loc="lower right", frameon=True, framealpha=0.9, fontsize="small")
    _note(ax, analysis)
    return ax


def timeline(analysis: Analysis, ax: Axes | None = None) -> Axes:
    """Each thread from its birth: not exposed, exposed, ready; with the handlers that ran too early.

    A few threads are in the order of their births, each with its name; many are sorted by verdict and
    length, so that like lies by like, and of more than can be seen evenly chosen ones are drawn. Hits
    and uncertain threads are marked for all. Where exposure came and went within a window its whole
    span since the first exposure is paler: the table holds its sum, not its parts.

    analysis: what to draw. ax: where; by default a new figure.
    """
    from matplotlib.ticker import StrMethodFormatter

    threads = _ordered(analysis.threads)
    count = len(threads)
    ax = ax or _new_axes(9, float(np.clip(1.8 + 0.22 * count, 3, 6.5)))
    _duration_axis(ax)
    limit = _limit(threads)
    beyond = _bars(ax, threads, limit)
    _marks(ax, analysis, threads, limit)
    ax.set(xlim=(0, limit), ylim=(max(count, 1) - 0.5, -0.5), xlabel="time since the thread's birth")
    if count <= _NAMED_ROWS:
        names = [f"{_ascii(comm)} {tid}" for comm, tid in zip(threads["comm"], threads["tid"], strict=True)]
        ax.set_yticks(range(count), labels=names, fontsize="small", parse_math=False)
    else:
        ax.set_ylabel("threads, the worst first" + (f" (1 in {count / _ROWS:,.3g} drawn)" if count > _ROWS else ""))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    verdicts = threads["verdict"].value_counts()
    told = ", ".join(f"{verdicts[verdict]:,} {verdict}" for verdict in reversed(VERDICTS) if verdict in verdicts)
    ax.set_title(f"{count:,} threads: {told}" if count else "no thread was born", fontsize="medium")
    if count:
        ax.legend(loc="upper left", bbox_to_anchor=(1.04, 1), frameon=False, fontsize="small", handlelength=1.2)
    _note(ax, analysis, f"{beyond:,} windows end beyond the right edge" if beyond else None)
    return ax


def _new_axes(width_in: float, height_in: float) -> Axes:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained").subplots()


def _duration_axis(ax: Axes) -> None:
    from matplotlib.ticker import EngFormatter

    ax.xaxis.set_major_formatter(EngFormatter(unit="s"))


def _steps(values: NDArray[np.float64], low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The curve over sorted values: from the share of zeros at the left edge to 1 at the right one."""
    ranks = np.arange(1, len(values) + 1) / len(values)
    if len(values) > _CURVE_POINTS:
        chosen = np.linspace(0, len(values) - 1, _CURVE_POINTS).round().astype(np.int64)
        values, ranks = values[chosen], ranks[chosen]
    zeros = values <= 0
    start = ranks[zeros][-1] if zeros.any() else 0.0
    return np.r_[low, values[~zeros], high], np.r_[start, ranks[~zeros], 1.0]


def _ordered(threads: pd.DataFrame) -> pd.DataFrame:
    if len(threads) <= _NAMED_ROWS:
        return threads.reset_index(drop=True)
    rank = threads["verdict"].map({verdict: -i for i, verdict in enumerate(VERDICTS)})
    order = threads.assign(rank=rank).sort_values(
        ["rank", "ready", "setup_ns"], ascending=[True, False, False], kind="stable"
    )
    return order.reset_index(drop=True)


def _limit(threads: pd.DataFrame) -> float:
    """The right edge: the longest complete window, unless a few are so long that the others would not be seen."""
    complete = threads[threads["ready"]] if threads["ready"].any() else threads
    lengths = np.sort(complete["setup_ns"].to_numpy(np.float64)) * _SECONDS
    if not len(lengths) or lengths[-1] <= 0:
        return 1e-6
    usual = lengths[int(0.95 * (len(lengths) - 1))]
    return float(lengths[-1] if usual <= 0 or lengths[-1] <= 4 * usual else 2 * usual) * 1.08


def _bars(ax: Axes, threads: pd.DataFrame, limit: float) -> int:
    """Draw the phases; returns how many windows end beyond the right edge."""
    from matplotlib.collections import PolyCollection

    rows = np.unique(np.linspace(0, max(len(threads) - 1, 0), min(len(threads), _ROWS)).round().astype(np.int64))
    table = threads.iloc[rows]
    born_ns = table["born_ns"].to_numpy(np.int64)

    def since_birth(column: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (table[column] - born_ns).to_numpy(np.float64, na_value=np.nan) * _SECONDS
        return values

    setup = table["setup_ns"].to_numpy(np.float64) * _SECONDS
    first = np.minimum(np.nan_to_num(since_birth("first_exposed_ns"), nan=np.inf), setup)
    whole = table["exposure_ns"].to_numpy(np.float64) * _SECONDS >= (setup - first) * (1 - 1e-9)
    is_ready = table["ready"].to_numpy(bool)
    phases = (
        ("not exposed", SKY, np.zeros(len(table)), first),
        ("exposed", RED, first, np.where(whole, setup, first)),
        ("exposed at times", PALE_RED, first, np.where(whole, first, setup)),
        ("ready", PALE_GREY, setup, np.where(is_ready, since_birth("end_ns"), setup)),
    )
    half = 0.4 if len(threads) <= _NAMED_ROWS else 0.5 * np.ceil(len(threads) / len(rows))
    for label, colour, start, end in phases:
        shown = np.minimum(end, limit) > start
        if shown.any():
            x0, x1, y = start[shown], np.minimum(end[shown], limit), rows[shown]
            corners = np.stack([x0, y - half, x0, y + half, x1, y + half, x1, y - half], axis=1).reshape(-1, 4, 2)
            many = len(threads) > _NAMED_ROWS
            ax.add_collection(
                # An array of polygons is what the documentation asks for; the annotation knows sequences only.
                PolyCollection(corners, facecolors=colour, label=label, antialiased=not many, rasterized=many),  # type: ignore[arg-type]
                autolim=False,
            )
    return int((threads["setup_ns"].to_numpy(np.float64) * _SECONDS > limit).sum())


def _marks(ax: Axes, analysis: Analysis, threads: pd.DataFrame, limit: float) -> None:
    """Hits inside the bars; beside them, at the right edge, the threads with a reservation."""
    key = ["pid", "tid", "born_ns"]
    hits = analysis.hits.merge(threads[key].assign(row=threads.index), on=key)
    hits = hits.assign(x=(hits["time_ns"] - hits["born_ns"]).astype(float) * _SECONDS)
    for label, which, marker, colour in (
        ("hit", ~hits["critical"].astype(bool), "o", ORANGE),
        ("critical hit", hits["critical"].astype(bool), "X", BLACK),
    ):
        if which.any():
            at = hits[which]
            x = at["x"].clip(upper=limit)
            size, edge = (
                (6.0, 0.6) if len(threads) <= _NAMED_ROWS else (4.0, 0.3) if len(at) <= _ROWS // 10 else (2.5, 0)
            )
            style: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": edge, "zorder": 3}
            style |= {"rasterized": len(at) > _ROWS, "clip_on": False}
            ax.plot(x, at["row"], linestyle="none", marker=marker, color=colour, markersize=size, label=label, **style)
    for label, which, marker, colour, x_axes in (
        ("unready", ~threads["ready"], ">", BLACK, 1.012),
        ("uncertain", threads["uncertain"], "D", PURPLE, 1.028),
    ):
        if which.any():
            rows = threads.index[which]
            size = 4.0 if len(threads) <= _NAMED_ROWS else 2.5
            ax.plot(
                np.full(len(rows), x_axes), rows, linestyle="none", marker=marker, color=colour, markersize=size,
                label=label, transform=ax.get_yaxis_transform(), clip_on=False, rasterized=len(rows) > _ROWS,
            )  # fmt: skip


def _note(ax: Axes, analysis: Analysis, *more: str | None) -> None:
    """What a reader must know before trusting the figure, under its right corner."""
    uncertain = int(analysis.threads["uncertain"].sum())
    notes = [
        f"{analysis.lost_events:,} events lost, {uncertain:,} threads uncertain" if analysis.lost_events else None,
        None if analysis.ended else "the trace was cut off",
        *more,
    ]
    ax.annotate(
        "\n".join(note for note in notes if note), (1, 0), xytext=(0, -30), xycoords="axes fraction",
        textcoords="offset points", ha="right", va="top", fontsize="x-small", color=RED,
    )  # fmt: skip


def _ascii(name: str) -> str:
    """A thread's name in characters that every font has."""
    return printable(name).encode("ascii", "backslashreplace").decode()
