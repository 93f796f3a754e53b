"""Figures of an analysis. They draw what engine and statistics found, select, sort and bin, and compute nothing else.

Each takes the Axes to draw on, or makes a figure of its own (never pyplot's: no window, no global
state, any backend), and returns the Axes. Colours are of Okabe and Ito's set, and viridis where they
mean a number: colour-blind readers can tell them apart. Losses and uncertain threads are told in all.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, StrMethodFormatter
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray

from sigwindow.probes.signals import members, word_of
from sigwindow.probes.signals import name as signal_name
from sigwindow.probes.signals import number as signal_number
from sigwindow.probes.text import printable

from .statistics import births_per_second, by_signal_and_process, survival
from .totals import VERDICTS

if TYPE_CHECKING:
    from .result import Analysis

BLACK, ORANGE, SKY, BLUE, RED, PURPLE = "#000000", "#E69F00", "#56B4E9", "#0072B2", "#D55E00", "#CC79A7"
PALE_RED, PALE_GREY, GREY = "#F2B48C", "#E6E6E6", "#767676"

_CURVE_POINTS = 4_000  # more can't be seen
_CURVE_TICKS = 100  # more hide the curve
_ROWS = 4_000  # bars drawn at most; a figure has fewer lines of pixels
_NAMED_ROWS = 40  # up to here each thread, or process, has its name beside its row
_NAME_WIDTH = 32  # characters; more only where they had to be escaped
_SECONDS = 1e-9  # of a nanosecond; axes are in seconds and pick the prefix themselves
_THREAD = ["pid", "tid", "born_ns"]
_CLOCK = (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6))  # units of a time axis
_WINDOWS = "Setup window and exposure"
_NO_THREAD = "no thread was born"


def ecdf(analysis: Analysis, ax: Axes | None = None, **kwargs: Any) -> Axes:
    """The shares of threads whose setup window, and whose exposure, last at most so long.

    The setup's curve is 1 - survival (Kaplan-Meier) with its 95 % band: an unready thread counts for as long as it was
    seen, and a tick on the curve marks where that ended. The exposure's curve is of ready threads; those never exposed
    make the height at which it begins.

    analysis: what to draw. ax: where; by default a new figure. kwargs: for both curves' Axes.plot.
    """
    ax = ax or _new_axes(9, 4.5)
    threads = analysis.threads
    ready = threads["ready"].sum()
    exposed = (threads["exposure_ns"][threads["ready"]] > 0).sum()
    low, high = _duration_axis_of(ax, threads)
    label = f"setup window\n(n = {len(threads):,}, 95 % band)"
    _setup_curve(ax, threads, low, high, {"color": BLUE, "label": label} | kwargs)
    label = f"exposure ({exposed:,} of\n{ready:,} ready exposed)"
    _exposure_curve(ax, threads, low, high, {"color": RED, "linestyle": "--", "label": label} | kwargs)
    if ready < len(threads):
        ax.plot([], [], "|", color=BLACK, label=f"unready: last seen\n(n = {len(threads) - ready:,})")
    ax.set(ylim=(-0.02, 1.03), ylabel="share of threads", title=_WINDOWS if len(threads) else _NO_THREAD)
    _legend(ax)
    _note(ax, _reservations(analysis))
    return ax


def histogram(analysis: Analysis, ax: Axes | None = None) -> Axes:
    """How many threads have a setup window, and an exposure, of which length, in steps of equal ratio.

    Lengths of zero have no place on such an axis: the legend counts them. The length of an unready thread is what was
    seen of it, and is drawn apart.

    analysis: what to draw. ax: where; by default a new figure.
    """
    ax = ax or _new_axes(9, 4.5)
    threads = analysis.threads
    ready, unready = threads[threads["ready"]], threads[~threads["ready"]]
    low, high = _duration_axis_of(ax, threads)
    steps = int(np.clip(2 * np.sqrt(len(threads)), 16, 100))
    edges = np.geomspace(low, high, steps + 1)
    outlines: tuple[tuple[pd.Series, str, str, dict[str, Any]], ...] = (
        (ready["setup_ns"], "setup window", "of no length", {"fill": True, "color": SKY, "alpha": 0.6}),
        (ready["exposure_ns"], "exposure", "never exposed", {"color": RED, "linewidth": 1.5}),
        (unready["setup_ns"], "unready: so far", "of no length", {"color": BLACK, "linestyle": ":", "linewidth": 1.5}),
    )
    for lengths_ns, label, zero, style in outlines:
        lengths = lengths_ns.to_numpy(np.float64) * _SECONDS
        positive = lengths[lengths > 0]
        zeros = len(lengths) - len(positive)
        told = f"{label}\n(n = {len(positive):,}{f'; {zeros:,} {zero}' if zeros else ''})"
        if len(lengths):
            ax.stairs(np.histogram(positive, edges)[0], edges, label=told, **style)
    ax.set(ylabel=f"threads in each of {steps} steps", title=_WINDOWS if len(threads) else _NO_THREAD)
    ax.set_ylim(0, max(ax.get_ylim()[1], 1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _thousands(ax)
    _legend(ax)
    _note(ax, _reservations(analysis))
    return ax


def timeline(analysis: Analysis, ax: Axes | None = None) -> Axes:
    """Each thread from its birth: not exposed, exposed, ready; with the handlers that ran too early.

    A few threads are in the order of their births, each with its name; many are sorted by verdict and
    length, so that like lies by like, and of more than can be seen evenly chosen ones are drawn. Hits
    and uncertain threads are marked for all. Where exposure came and went within a window its whole
    span since the first exposure is paler: the table holds its sum, not its parts.

    analysis: what to draw. ax: where; by default a new figure.
    """
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
        _thousands(ax)
    verdicts = threads["verdict"].value_counts()
    told = ", ".join(f"{verdicts[verdict]:,} {verdict}" for verdict in reversed(VERDICTS) if verdict in verdicts)
    ax.set_title(f"{count:,} threads: {told}" if count else _NO_THREAD, fontsize="medium")
    _legend(ax, gap_pt=20)  # beyond the marks at the right
    _note(ax, _reservations(analysis) + [_beyond(beyond)] * bool(beyond))
    return ax


def signals(analysis: Analysis, ax: Axes | None = None) -> Axes:
    """A heat map: how long the ready threads of each process were exposed to each signal.

    Where there is one process only, its rows are thread names, and the colour is the number of threads that were
    exposed. Numbers in the cells are hits. The rows with most are drawn; the last one sums all others.

    analysis: what to draw. ax: where; by default a new figure.
    """
    by_process = analysis.threads["pid"].nunique() > 1
    values, hits = _of_processes(analysis) if by_process else _of_names(analysis)
    totals = values.sum(axis=1).sort_values(ascending=False, kind="stable")
    rows = totals.index[totals > 0].tolist()
    rows += hits["row"][~hits["row"].isin(rows)].unique().tolist()
    columns = sorted({*values.columns, *hits["signal"]})
    labels = _row_names(analysis, rows[:_NAMED_ROWS], by_process)
    if len(rows) > _NAMED_ROWS:
        labels.append(f"{len(rows) - _NAMED_ROWS:,} others")
    ax = ax or _new_axes(4.5 + 0.5 * len(columns), 2.5 + 0.28 * len(labels))
    if rows:
        place = {row: min(i, _NAMED_ROWS) for i, row in enumerate(rows)}
        drawn = values.groupby(values.index.map(place)).sum()
        cells = drawn.reindex(index=range(len(labels)), columns=columns).fillna(0).to_numpy(np.float64)
        hits = hits.assign(row=hits["row"].map(place), column=hits["signal"].map(columns.index))
        _heat(ax, cells, hits, *(("exposure of ready threads", "s") if by_process else ("threads exposed", "")))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_yticks(range(len(labels)), labels=labels, fontsize="small", parse_math=False)
    ax.set_xticks(
        range(len(columns)),
        labels=[signal_name(signal, analysis.numbering) for signal in columns],
        fontsize="small",
        rotation=90,
    )
    told = members(analysis.question.considered(analysis.numbering))
    for tick, signal in zip(ax.get_xticklabels(), columns, strict=True):
        tick.set_color(BLACK if signal in told else GREY)
    if rows:
        ax.set_xlabel("numbers: hits; !: some critical; grey signals: not considered", fontsize="small")
        ax.set_title("Exposure by process and signal" if by_process else "Exposed threads by name and signal")
    else:
        ax.set_title("no thread was exposed" if len(analysis.threads) else _NO_THREAD)
    _note(ax, _reservations(analysis))
    return ax


def rate(analysis: Analysis, ax: Axes | None = None) -> Axes:
    """Births a second over the time of the trace and, on an axis at the right, the exposure that they led to.

    The exposure of a ready thread is laid where the thread was born. Where records were lost is shaded: births may be
    missing there.

    analysis: what to draw. ax: where; by default a new figure.
    """
    ax = ax or _new_axes(10, 4.5)
    load = ax.twinx()
    threads, losses = analysis.threads, analysis.losses
    span_s = max(analysis.end_ns - analysis.start_ns, 1) * _SECONDS
    unit, unit_s = next((u for u in _CLOCK if span_s >= 2 * u[1]), _CLOCK[-1])
    steps = int(np.clip(2 * np.sqrt(len(threads)), 20, 100))
    edges = np.linspace(0, span_s, steps + 1)
    born = births_per_second(threads, analysis.start_ns, analysis.end_ns, steps)
    uncertain = births_per_second(threads[threads["uncertain"]], analysis.start_ns, analysis.end_ns, steps)
    for axes, a_second, label, style in (
        (ax, born["births_per_s"], "births", {"fill": True, "color": SKY, "alpha": 0.6}),
        (ax, uncertain["births_per_s"], "uncertain of them", {"fill": True, "color": PURPLE}),
        (load, born["exposure_ns"] * _SECONDS / edges[1], "exposure of\nready threads", {"color": RED}),
    ):
        if a_second.any():
            axes.stairs(a_second, edges / unit_s, label=label, **style)
    if len(losses):
        spans_ns = np.stack([losses["from_ns"] - analysis.start_ns, losses["to_ns"] - losses["from_ns"]], axis=1)
        ax.broken_barh(
            (spans_ns * _SECONDS / unit_s).tolist(), (0, 1), transform=ax.get_xaxis_transform(),
            color=BLACK, alpha=0.25, linewidth=1, label=f"{losses['count'].sum():,} events lost",
        )  # fmt: skip
    for axes in (ax, load):
        axes.set_ylim(0, axes.get_ylim()[1] if len(threads) else 1)
    ax.set(
        xlim=(0, span_s / unit_s),
        xlabel=f"time since the trace began ({unit}), in steps of {edges[1] / unit_s:.3g} {unit}",
    )
    ax.set_ylabel("births a second")
    _thousands(ax)
    load.set_ylabel("exposure per second of the trace", color=RED)
    load.yaxis.set_major_formatter(EngFormatter(unit="s"))
    exposed, unready = (threads["exposure_ns"] > 0).sum(), (~threads["ready"]).sum()
    told = f"{len(threads):,} births: {exposed:,} exposed, {unready:,} unready"
    ax.set_title(told if len(threads) else _NO_THREAD)
    _legend(ax, load, gap_pt=60)  # beyond the axis at the right
    _note(ax, _reservations(analysis))
    return ax


def compare(base: Analysis, new: Analysis, ax: Axes | None = None, labels: tuple[str, str] = ("base", "new")) -> Axes:
    """The setup windows and exposures of two traces, drawn as `ecdf` does, with the shares of their verdicts.

    base, new: what to compare. ax: where; by default a new figure. labels: what to call them.
    """
    ax = ax or _new_axes(9, 4.5)
    low, high = _duration_axis_of(ax, base.threads, new.threads)
    wide_dots: dict[str, Any] = {"linestyle": ":", "linewidth": 3}  # seen even where it lies on the window's curve
    notes = []
    for analysis, name, colour in zip((base, new), map(_ascii, labels), (BLUE, ORANGE), strict=True):
        threads = analysis.threads
        shares = threads["verdict"].value_counts(normalize=True)
        verdicts = [f"{shares[verdict]:.1%} {verdict}" for verdict in reversed(VERDICTS) if verdict in shares]
        label = "\n".join(
            [f"{len(threads):,} threads in {name}", *verdicts]
        )  # no _ first: matplotlib hides such a label
        _setup_curve(ax, threads, low, high, {"color": colour, "label": label})
        _exposure_curve(ax, threads, low, high, {"color": colour, **wide_dots})
        notes += [f"{name}: {note}" for note in _reservations(analysis)]
    ax.plot([], [], "-", color=GREY, label="setup window\n(95 % band)")
    ax.plot([], [], color=GREY, **wide_dots, label="exposure of\nready threads")
    ax.plot([], [], "|", color=BLACK, label="unready: last seen")
    ax.set(ylim=(-0.02, 1.03), ylabel="share of threads", title=_WINDOWS)
    _legend(ax)
    _note(ax, notes)
    return ax


KINDS: dict[str, Callable[[Analysis], Axes]] = {
    "ecdf": ecdf,
    "histogram": histogram,
    "timeline": timeline,
    "signals": signals,
    "rate": rate,
}


class Picture(Figure):
    """A figure that a notebook shows by itself, once: no pyplot, which would show it again, knows of it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()


class PictureAxes(Axes):
    """The Axes of a Picture: a notebook shows them as the picture they are in."""

    def _repr_png_(self) -> bytes:
        figure = self.get_figure(root=True)
        assert isinstance(figure, Picture)
        return figure._repr_png_()


def _new_axes(width_in: float, height_in: float) -> Axes:
    return Picture(figsize=(width_in, height_in), layout="constrained").add_subplot(axes_class=PictureAxes)


def _duration_axis(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(EngFormatter(unit="s"))


def _duration_axis_of(ax: Axes, *tables: pd.DataFrame) -> tuple[float, float]:
    """Give `ax` a logarithmic axis with room for every window and exposure; returns its ends in seconds."""
    lengths = np.concatenate([table[column] for table in tables for column in ("setup_ns", "exposure_ns")]) * _SECONDS
    positive = lengths[lengths > 0]
    low, high = (positive.min() / 1.5, positive.max() * 1.5) if len(positive) else (1e-6, 1e-3)
    ax.set_xscale("log", subs=[])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1_000 else (1,)))
    _duration_axis(ax)
    ax.set(xlim=(low, high), xlabel="duration")
    ax.grid(alpha=0.25)
    return float(low), float(high)


def _thousands(ax: Axes) -> None:
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` of `count` places, evenly chosen, with the first and the last."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, limit)).round().astype(np.int64))


def _setup_curve(ax: Axes, threads: pd.DataFrame, low: float, high: float, style: dict[str, Any]) -> None:
    """1 - survival of the setup windows with its band, and a tick where unready threads were last seen."""
    if not len(threads):
        return
    table = survival(threads)
    drawn = table.iloc[_spread(len(table), _CURVE_POINTS)]
    x = np.r_[low, np.maximum(drawn["time_ns"] * _SECONDS, low)]
    share, least, most = (np.r_[0, 1 - drawn[column]] for column in ("survival", "upper", "lower"))
    if share[-1] == 1:  # else nothing is known beyond the last thread
        x, share, least, most = np.r_[x, high], np.r_[share, 1], np.r_[least, least[-1]], np.r_[most, most[-1]]
    (curve,) = ax.plot(x, share, **{"drawstyle": "steps-post"} | style)
    ax.fill_between(x, least, most, step="post", color=curve.get_color(), alpha=0.2, linewidth=0)
    censored = table[table["censored"] > 0]
    ticks = censored.iloc[_spread(len(censored), _CURVE_TICKS)]
    ax.plot(np.maximum(ticks["time_ns"] * _SECONDS, low), 1 - ticks["survival"], "|", color=BLACK)


def _exposure_curve(ax: Axes, threads: pd.DataFrame, low: float, high: float, style: dict[str, Any]) -> None:
    """The shares of ready threads by length of exposure, from the share that was never exposed."""
    lengths = np.sort(threads["exposure_ns"][threads["ready"]].to_numpy(np.float64)) * _SECONDS
    if not len(lengths):
        return
    never = int((lengths <= 0).sum())
    drawn = never + _spread(len(lengths) - never, _CURVE_POINTS)
    x = np.r_[low, lengths[drawn], high]
    share = np.r_[never, drawn + 1, len(lengths)] / len(lengths)
    ax.plot(x, share, **{"drawstyle": "steps-post"} | style)


def _of_processes(analysis: Analysis) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exposure in seconds, a row a process and a column a signal; and the hits with the row that each is in."""
    values = by_signal_and_process(analysis).T * _SECONDS
    values.columns = [signal_number(name, analysis.numbering) for name in values.columns]
    return values, analysis.hits.assign(row=analysis.hits["pid"])


def _of_names(analysis: Analysis) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exposed threads, a row a thread name and a column a signal; and the hits with the row that each is in."""
    threads = analysis.threads
    sets = threads["exposed_signals"].to_numpy(np.uint64)
    union = members(int(np.bitwise_or.reduce(sets)))
    counts = {signal: threads["comm"][sets & np.uint64(word_of([signal])) != 0].value_counts() for signal in union}
    hits = analysis.hits.merge(threads[[*_THREAD, "comm"]], on=_THREAD)
    return pd.DataFrame(counts).fillna(0), hits.rename(columns={"comm": "row"})


def _row_names(analysis: Analysis, rows: list[Any], by_process: bool) -> list[str]:
    if not by_process:
        return [_ascii(comm) for comm in rows]
    first = analysis.threads.drop_duplicates("pid").set_index("pid")["comm"]
    return [f"{_ascii(analysis.leaders.get(pid) or first[pid])} {pid}" for pid in rows]


def _heat(ax: Axes, cells: NDArray[np.float64], hits: pd.DataFrame, meaning: str, unit: str) -> None:
    """Colour the cells that are not zero, from decade to decade, and write the hits (row, column, critical) in them."""
    positive = cells[cells > 0] if cells.any() else np.ones(1)
    lowest = np.floor(np.log10(positive.min()))
    scale = LogNorm(10**lowest, 10 ** max(np.ceil(np.log10(positive.max())), lowest + 1))
    heights, widths = (np.arange(size + 1) - 0.5 for size in cells.shape)
    mesh = ax.pcolormesh(
        widths, heights, np.ma.masked_equal(cells, 0), norm=scale, cmap="viridis", edgecolors="white", linewidth=1
    )
    ax.invert_yaxis()
    form = EngFormatter(unit=unit) if unit else StrMethodFormatter("{x:,g}")
    ax.figure.colorbar(mesh, ax=ax, label=meaning, format=form, aspect=15 + len(cells), pad=0.02)
    counts = hits.groupby(["row", "column"])["critical"].agg(["size", "any"]).reset_index()
    for row, column, count, critical in counts.itertuples(index=False):
        dark = cells[row, column] > 0 and scale(cells[row, column]) < 0.55
        told = _short(count) + "!" * bool(critical)
        ax.text(column, row, told, ha="center", va="center", fontsize="x-small", color="white" if dark else BLACK)


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
    rows = _spread(len(threads), _ROWS)
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
    hits = analysis.hits.merge(threads[_THREAD].assign(row=threads.index), on=_THREAD)
    hits = hits.assign(x=(hits["time_ns"] - hits["born_ns"]).astype(float) * _SECONDS)
    named = len(threads) <= _NAMED_ROWS
    for label, which, marker, colour in (
        ("hit", ~hits["critical"].astype(bool), "o", ORANGE),
        ("critical hit", hits["critical"].astype(bool), "X", BLACK),
    ):
        if which.any():
            at = hits[which]
            size, edge = (6.0, 0.6) if named else (4.0, 0.3) if len(at) <= _ROWS // 10 else (2.5, 0.0)
            ax.plot(
                at["x"].clip(upper=limit), at["row"], marker, color=colour, label=f"{label} ({len(at):,})",
                markersize=size, markeredgecolor="white", markeredgewidth=edge,
                zorder=3, clip_on=False, rasterized=len(at) > _ROWS,
            )  # fmt: skip
    for label, which, marker, colour, x_axes in (
        ("unready", ~threads["ready"], ">", BLACK, 1.012),
        ("uncertain", threads["uncertain"], "D", PURPLE, 1.03),
    ):
        if which.any():
            rows = threads.index[which]
            # Of many threads thin lines, whose density can be seen.
            thin = {"marker": "_", "markeredgewidth": float(np.clip(200 / len(rows), 0.5, 2))}
            style: dict[str, Any] = {"marker": marker} if named else thin
            ax.plot(
                np.full(len(rows), x_axes), rows, linestyle="none", color=colour, label=f"{label} ({len(rows):,})",
                markersize=5, transform=ax.get_yaxis_transform(), clip_on=False, rasterized=len(rows) > _ROWS, **style,
            )  # fmt: skip


def _short(count: int) -> str:
    """A number in at most four characters, as 950, 1.2k or 31M."""
    for size, prefix in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{prefix}" if count < 10 * size else f"{count // size}{prefix}"
    return str(count)


def _legend(*axes: Axes, gap_pt: float = 6) -> None:
    """One legend for all the axes, at their right, where it hides nothing."""
    handles = [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]
    if handles:
        beside = offset_copy(axes[0].transAxes, axes[0].get_figure(root=True), gap_pt, 0, units="points")
        legend = axes[0].legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1, 1), bbox_transform=beside, frameon=False,
            fontsize="small", handlelength=1.6,
        )  # fmt: skip
        for text in legend.get_texts():
            text.set_parse_math(False)


def _reservations(analysis: Analysis) -> list[str]:
    """What a reader must know before trusting a figure."""
    uncertain = int(analysis.threads["uncertain"].sum())
    notes = []
    if analysis.lost_events or uncertain:
        notes.append(f"{analysis.lost_events:,} events lost, {uncertain:,} threads uncertain")
    if not analysis.ended:
        notes.append("the trace was cut off")
    return notes


def _beyond(count: int) -> str:
    return f"{count:,} {'windows end' if count > 1 else 'window ends'} beyond the right edge"


def _note(ax: Axes, notes: list[str]) -> None:
    """Write the notes under the figure's right corner."""
    ax.annotate(
        "\n".join(notes), (1, 0), xytext=(0, -34), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="top", fontsize="x-small", color=RED, parse_math=False,
    )  # fmt: skip


def _ascii(name: str) -> str:
    """A thread's name in characters that every font has, and not too many of them."""
    shown = printable(name).encode("ascii", "backslashreplace").decode()
    return shown if len(shown) <= _NAME_WIDTH else shown[: _NAME_WIDTH - 3] + "..."
