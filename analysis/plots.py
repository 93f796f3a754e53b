"""Figures of an analysis. They draw what engine and statistics found, select, sort and bin, and compute nothing else.

Each takes the Axes to draw on, or makes a figure of its own (never pyplot's: no window, no global
state, any backend), and returns the Axes. What the trace says of itself, where it is given, stands below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.text import Text
from matplotlib.ticker import EngFormatter, Locator, LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from sigwindow.probes import signals as sig
from sigwindow.probes.traceinfo import TraceInfo

from .canvas import (
    BLACK,
    BLUE,
    EXPOSED,
    GREY,
    ORANGE,
    PALE_EXPOSED,
    PALE_GREY,
    PURPLE,
    SECONDS,
    SKY,
    circumstances,
    durations,
    foot,
    in_ascii,
    legend,
    new_axes,
    reservations,
    thousands,
)
from .colours import VERDICT_COLOURS
from .statistics import births_per_second, name_groups, per_signal, survival
from .tables import VERDICTS, WORST_FIRST, process_key, thread_key
from .words import counted, sentence, share

if TYPE_CHECKING:
    from .result import Analysis

_CURVE_POINTS = 4_000  # more can't be seen
_CURVE_TICKS = 100  # more hide the curve
_ROWS = 4_000  # bars drawn at most; a figure has fewer lines of pixels
_NAMED_ROWS = 40  # up to here each thread, or process, has its name beside its row
_SIGNALS = 24  # columns at most
_LEAST_BAND = 0.06  # of the height of a timeline, for the threads of one verdict
_LEAST_WIDTH = 0.008  # of the width of a timeline, for an exposure
_TALL_ROW = 0.012  # of the height of a timeline: from here on there are gaps between rows
_TICK_GAP_IN = 0.6  # between the ticks of a timeline
_CLOCK = (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))  # units of a time axis
_HEAT = LinearSegmentedColormap.from_list("exposure", ["#FBE3C8", ORANGE, EXPOSED, "#5C2300"])
_WINDOWS = "Setup window and exposure"
_EXPOSED = WORST_FIRST.index("exposed")


def ecdf(analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None, **kwargs: Any) -> Axes:
    """The shares of threads whose setup window, and whose exposure, last at most so long.

    The setup's curve is 1 - survival (Kaplan-Meier) with its 95 % band: an unready thread counts for as long as it was
    seen, and a tick on the curve marks where that ended. The exposure's curve is of ready threads; those not exposed
    make the height at which it begins.

    analysis: what to draw. ax: where; by default a new figure. info: what the trace says of itself. kwargs: for
    Axes.plot, for both curves.
    """
    ax = ax or new_axes(9, 4.5)
    threads = analysis.threads
    ready = threads["ready"].sum()
    exposed = (threads["exposure_ns"][threads["ready"]] > 0).sum()
    low, high = _duration_axis_of(ax, threads)
    label = f"setup window\n(n = {len(threads):,}, 95 % band)"
    _setup_curve(ax, threads, low, high, {"color": BLUE, "label": label} | kwargs)
    label = f"exposure ({exposed:,} of\n{ready:,} ready exposed)"
    _exposure_curve(ax, threads, low, high, {"color": EXPOSED, "linestyle": "--", "label": label} | kwargs)
    if ready < len(threads):
        ax.plot([], [], "|", color=BLACK, label=f"unready: last seen\n(n = {len(threads) - ready:,})")
    ax.set(ylim=(-0.02, 1.03), ylabel="share of threads", title=_verdict(threads))
    legend(ax)
    foot(ax, reservations(analysis), circumstances(analysis, info))
    return ax


def histogram(analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None) -> Axes:
    """How many threads have a setup window, and an exposure, of which length, in steps of equal ratio.

    Lengths of zero have no place on such an axis: the legend counts them. The length of an unready thread is what was
    seen of it, and is drawn apart.

    analysis: what to draw. ax: where; by default a new figure. info: what the trace says of itself.
    """
    ax = ax or new_axes(9, 4.5)
    threads = analysis.threads
    ready, unready = threads[threads["ready"]], threads[~threads["ready"]]
    low, high = _duration_axis_of(ax, threads)
    steps = int(np.clip(2 * np.sqrt(len(threads)), 16, 100))
    edges = np.geomspace(low, high, steps + 1)
    outlines: tuple[tuple[pd.Series, str, str, dict[str, Any]], ...] = (
        (ready["setup_ns"], "setup window", "of no length", {"fill": True, "color": SKY, "alpha": 0.6}),
        (ready["exposure_ns"], "exposure", "not exposed", {"color": EXPOSED, "linewidth": 1.5}),
        (unready["setup_ns"], "unready: so far", "of no length", {"color": BLACK, "linestyle": ":", "linewidth": 1.5}),
    )
    for lengths_ns, label, zero, style in outlines:
        lengths = lengths_ns.to_numpy(np.float64) * SECONDS
        positive = lengths[lengths > 0]
        zeros = len(lengths) - len(positive)
        told = f"{label}\n(n = {len(positive):,}{f'; {zeros:,} {zero}' if zeros else ''})"
        if len(lengths):
            ax.stairs(np.histogram(positive, edges)[0], edges, label=told, **style)
    ax.set(ylabel=f"threads in each of {steps} steps", title=_verdict(threads))
    ax.set_ylim(0, max(ax.get_ylim()[1], 1))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    thousands(ax)
    legend(ax)
    foot(ax, reservations(analysis), circumstances(analysis, info))
    return ax


def timeline(analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None) -> Axes:
    """Each thread from its birth: not exposed, exposed, ready; with the handlers that ran too early.

    The worst come first. A few threads have their names, and within a verdict the order of their births. Of many, each
    verdict has a band as high as its share of the threads and never too low to be seen, in it the longest windows are
    above, and of more than can be seen evenly chosen ones are drawn. Hits and uncertain threads are marked for all.

    Time is linear up to the shortest window, and logarithmic beyond: no window is cut off, and none is too short to be
    seen. An exposure that is, within a long window, is drawn wider. Where exposure came and went within a window its
    whole span since the first exposure is paler: the table holds its sum, not its parts.

    analysis: what to draw. ax: where; by default a new figure. info: what the trace says of itself.
    """
    threads = _placed(analysis.threads)
    count = len(threads)
    ax = ax or new_axes(9, float(np.clip(1.8 + 0.22 * count, 3, 6.5)))
    _birth_axis(ax, threads)
    _bars(ax, threads)
    _marks(ax, analysis, threads)
    ax.set_ylim(1, 0)
    if count <= _NAMED_ROWS:
        ax.set_yticks(threads["y"], labels=_labels(threads, "tid"), fontsize="small", parse_math=False)
        _colour(ax.get_yticklabels(), threads["rank"])
    else:
        rows = threads.groupby("rank")["y"].agg(["size", "min", "mean"])
        ax.set_yticks(rows["mean"], labels=[f"{rows['size'][rank]:,} {WORST_FIRST[rank]}" for rank in rows.index])
        _colour(ax.get_yticklabels(), rows.index)
        tops = rows["min"] - threads.groupby("rank")["height"].min() / 2
        ax.hlines(tops.iloc[1:], 0, 1, transform=ax.get_yaxis_transform(), color="white", linewidth=2, zorder=2)
        ax.set_ylabel("threads by verdict")
    ax.tick_params(axis="y", length=0)
    ax.set_title(_verdict(threads), wrap=True)
    legend(ax, gap_pt=20)  # beyond the marks at the right
    told = [
        "time is linear up to the shortest window, logarithmic beyond" * bool(count),
        "the longest windows first" * (count > _NAMED_ROWS),
        f"1 thread in {count / _ROWS:,.3g} drawn" * (count > _ROWS),
    ]
    foot(ax, reservations(analysis), _key(told) + circumstances(analysis, info))
    return ax


def signals(analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None) -> Axes:
    """A heat map: how long the ready threads of each process were exposed to each signal.

    Where there is one process only, its rows are thread names (those that differ in their digits only are one), and the
    colour is the number of threads that were exposed. Numbers in the cells are hits. Rows are in the order of their
    worst verdict, then of their exposure; of many the first are drawn, and one row sums all others. Considered signals
    come first; of many signals those are drawn that were hit most, then those that were open most.

    analysis: what to draw. ax: where; by default a new figure. info: what the trace says of itself.
    """
    threads = analysis.threads
    by_process = len(threads.drop_duplicates(process_key(threads))) > 1
    rows, cells, hits = _grid(analysis, by_process)
    considered = analysis.question.considered(analysis.numbering)
    columns, left_out = _columns(cells, hits, considered)
    rows, cells, hits = _shortened(rows, cells.loc[:, cells.columns.isin(columns)], hits[hits["signal"].isin(columns)])
    longest = rows["label"].str.len().max() if len(rows) else 0
    ax = ax or new_axes(1.5 + 0.1 * longest + 0.34 * max(len(columns), 7), 2.4 + 0.25 * len(rows))
    if len(rows):
        values = cells.reindex(index=rows.index, columns=columns, fill_value=0).to_numpy(np.float64)
        hits = hits.assign(column=hits["signal"].map(columns.index))
        _heat(ax, values, hits, *(("exposure of ready threads", "s") if by_process else ("threads exposed", "")))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_yticks(range(len(rows)), labels=rows["label"], fontsize="small", parse_math=False)
    _colour(ax.get_yticklabels(), rows["rank"])
    names = [sig.name(signal, analysis.numbering) for signal in columns]
    ax.set_xticks(range(len(columns)), labels=names, fontsize="small", rotation=90)
    for tick, signal in zip(ax.get_xticklabels(), columns, strict=True):
        tick.set_color(BLACK if considered & sig.word_of([signal]) else GREY)
    map_of = "Exposure by process and signal" if by_process else "Exposed threads by name and signal"
    ax.set_title(map_of if len(rows) else _verdict(threads), wrap=True)
    told = [
        "numbers: hits" * bool(len(hits)),
        "!: some critical" * bool(hits["critical"].any()),
        "grey signals: not considered" * bool(sig.word_of(columns) & ~considered),
        f"{left_out.bit_count()} more signals: {sig.listed(left_out, analysis.numbering)}" * bool(left_out),
    ]
    foot(ax, reservations(analysis), _key(told) + circumstances(analysis, info), below_pt=8)
    return ax


def rate(analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None) -> Axes:
    """Births a second over the time of the trace and, on an axis at the right, the exposure that they led to.

    The exposure of a ready thread is laid where the thread was born. Where records were lost is shaded: births may be
    missing there.

    analysis: what to draw. ax: where; by default a new figure. info: what the trace says of itself.
    """
    ax = ax or new_axes(10, 4.5)
    load = ax.twinx()
    threads, losses = analysis.threads, analysis.losses
    span_s = max(analysis.end_ns - analysis.start_ns, 1) * SECONDS
    unit, unit_s = next((u for u in _CLOCK if span_s >= 2 * u[1]), _CLOCK[-1])
    steps = int(np.clip(2 * np.sqrt(len(threads)), 20, 100))
    edges = np.linspace(0, span_s, steps + 1)
    born = births_per_second(threads, analysis.start_ns, analysis.end_ns, steps)
    uncertain = births_per_second(threads[threads["uncertain"]], analysis.start_ns, analysis.end_ns, steps)
    for axes, a_second, label, style in (
        (ax, born["births_per_s"], "births", {"fill": True, "color": SKY, "alpha": 0.6}),
        (ax, uncertain["births_per_s"], "uncertain of them", {"fill": True, "color": PURPLE}),
        (load, born["exposure_ns"] * SECONDS / edges[1], "exposure of\nready threads", {"color": EXPOSED}),
    ):
        if a_second.any():
            axes.stairs(a_second, edges / unit_s, label=label, **style)
    if len(losses):
        spans_ns = np.stack([losses["from_ns"] - analysis.start_ns, losses["to_ns"] - losses["from_ns"]], axis=1)
        ax.broken_barh(
            (spans_ns * SECONDS / unit_s).tolist(), (0, 1), transform=ax.get_xaxis_transform(),
            color=BLACK, alpha=0.25, linewidth=1, label=f"{losses['count'].sum():,} events lost",
        )  # fmt: skip
    for axes in (ax, load):
        axes.set_ylim(0, axes.get_ylim()[1] if len(threads) else 1)
    ax.set(
        xlim=(0, span_s / unit_s),
        xlabel=f"time since the {'first ' * ('trace' in threads)}trace began ({unit})",
    )
    ax.set_ylabel("births a second")
    thousands(ax)
    load.set_ylabel("exposure per second of the trace", color=EXPOSED)
    load.yaxis.set_major_formatter(EngFormatter(unit="s"))
    ax.set_title(_verdict(threads), wrap=True)
    legend(ax, load, gap_pt=60)  # beyond the axis at the right
    told = f"in steps of {edges[1] / unit_s:.3g} {unit}"
    foot(ax, reservations(analysis), [told, *circumstances(analysis, info)])
    return ax


def compare(
    base: Analysis,
    new: Analysis,
    ax: Axes | None = None,
    labels: tuple[str, str] = ("base", "new"),
    infos: tuple[TraceInfo | None, TraceInfo | None] = (None, None),
) -> Axes:
    """The setup windows and exposures of two traces, drawn as `ecdf` does, with the shares of their verdicts.

    base, new: what to compare. ax: where; by default a new figure. labels: what to call them. infos: what each trace
    says of itself.
    """
    ax = ax or new_axes(9, 4.5)
    low, high = _duration_axis_of(ax, base.threads, new.threads)
    wide_dots: dict[str, Any] = {"linestyle": ":", "linewidth": 3}  # seen even where it lies on the window's curve
    warnings, told = [], []
    names = map(in_ascii, labels)
    for analysis, name, info, colour in zip((base, new), names, infos, (BLUE, ORANGE), strict=True):
        threads = analysis.threads
        shares = [f"{share(count, len(threads))} {verdict}" for verdict, count in _verdicts(threads).items() if count]
        label = "\n".join([f"{counted(len(threads), 'thread')} in {name}", *shares])  # a label with _ first is hidden
        _setup_curve(ax, threads, low, high, {"color": colour, "label": label})
        _exposure_curve(ax, threads, low, high, {"color": colour, **wide_dots})
        warnings += [f"{name}: {line}" for line in reservations(analysis)]
        told += [f"{name}: {line}" for line in circumstances(analysis, info)]
    ax.plot([], [], "-", color=GREY, label="setup window\n(95 % band)")
    ax.plot([], [], color=GREY, **wide_dots, label="exposure of\nready threads")
    ax.plot([], [], "|", color=BLACK, label="unready: last seen")
    ax.set(ylim=(-0.02, 1.03), ylabel="share of threads", title=_WINDOWS)
    legend(ax)
    foot(ax, warnings, told)
    return ax


class Kind(Protocol):
    """What draws a figure of one trace."""

    def __call__(self, analysis: Analysis, ax: Axes | None = None, info: TraceInfo | None = None) -> Axes:
        """Draw it."""


KINDS: dict[str, Kind] = {
    "ecdf": ecdf,
    "histogram": histogram,
    "timeline": timeline,
    "signals": signals,
    "rate": rate,
}


def _verdicts(threads: pd.DataFrame) -> dict[str, int]:
    """How many threads have which verdict, the worst first."""
    counts = threads["verdict"].value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in WORST_FIRST}


def _verdict(threads: pd.DataFrame) -> str:
    """The verdict on all threads, in the sentence of the summary."""
    return sentence({"born": len(threads), **_verdicts(threads), "uncertain": int(threads["uncertain"].sum())})


def _key(told: list[str]) -> list[str]:
    """What is to know of a figure, in a line; none where nothing is."""
    return list(filter(None, ["; ".join(filter(None, told))]))


def _duration_axis_of(ax: Axes, *tables: pd.DataFrame) -> tuple[float, float]:
    """Give `ax` a logarithmic axis with room for every window and exposure; returns its ends in seconds."""
    lengths = np.concatenate([table[column] for table in tables for column in ("setup_ns", "exposure_ns")]) * SECONDS
    positive = lengths[lengths > 0]
    low, high = (positive.min() / 1.5, positive.max() * 1.5) if len(positive) else (1e-6, 1e-3)
    ax.set_xscale("log", subs=[])
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1_000 else (1,)))
    durations(ax)
    ax.set(xlim=(low, high), xlabel="duration")
    ax.grid(alpha=0.25)
    return float(low), float(high)


def _spread(count: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` of `count` places, evenly chosen, with the first and the last."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, limit)).round().astype(np.int64))


def _setup_curve(ax: Axes, threads: pd.DataFrame, low: float, high: float, style: dict[str, Any]) -> None:
    """1 - survival of the setup windows with its band, and a tick where unready threads were last seen."""
    if not len(threads):
        return
    table = survival(threads)
    drawn = table.iloc[_spread(len(table), _CURVE_POINTS)]
    x = np.r_[low, np.maximum(drawn["time_ns"] * SECONDS, low)]
    share, least, most = (np.r_[0, 1 - drawn[column]] for column in ("survival", "upper", "lower"))
    if share[-1] == 1:  # else nothing is known beyond the last thread
        x, share, least, most = np.r_[x, high], np.r_[share, 1], np.r_[least, least[-1]], np.r_[most, most[-1]]
    (curve,) = ax.plot(x, share, **{"drawstyle": "steps-post"} | style)
    ax.fill_between(x, least, most, step="post", color=curve.get_color(), alpha=0.2, linewidth=0)
    censored = table[table["censored"] > 0]
    ticks = censored.iloc[_spread(len(censored), _CURVE_TICKS)]
    ax.plot(np.maximum(ticks["time_ns"] * SECONDS, low), 1 - ticks["survival"], "|", color=BLACK)


def _exposure_curve(ax: Axes, threads: pd.DataFrame, low: float, high: float, style: dict[str, Any]) -> None:
    """The shares of ready threads by length of exposure, from the share that was not exposed."""
    lengths = np.sort(threads["exposure_ns"][threads["ready"]].to_numpy(np.float64)) * SECONDS
    if not len(lengths):
        return
    never = int((lengths <= 0).sum())
    drawn = never + _spread(len(lengths) - never, _CURVE_POINTS)
    x = np.r_[low, lengths[drawn], high]
    share = np.r_[never, drawn + 1, len(lengths)] / len(lengths)
    ax.plot(x, share, **{"drawstyle": "steps-post"} | style)


def _labels(table: pd.DataFrame, number: str) -> list[str]:
    """What threads or processes are called: by name and number, and of several traces by the trace."""
    traces = [f", trace {trace}" for trace in table["trace"]] if "trace" in table else [""] * len(table)
    return [f"{in_ascii(comm)} {n}{of}" for comm, n, of in zip(table["comm"], table[number], traces, strict=True)]


def _rank(threads: pd.DataFrame) -> NDArray[np.int64]:
    """The place of each thread's verdict in WORST_FIRST."""
    return pd.Categorical(threads["verdict"], WORST_FIRST).codes.astype(np.int64)


def _colour(labels: Iterable[Text], ranks: Iterable[int]) -> None:
    """Give labels the colours of the verdicts of what they name."""
    for label, rank in zip(labels, ranks, strict=True):
        label.set_color(VERDICT_COLOURS[WORST_FIRST[rank]].paper)


def _grid(analysis: Analysis, by_process: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What the heat map is made of: rows (rank, exposure_ns, label), cells by row and signal, and hits with their row.

    A row is a process and its cells are seconds, or a group of names and its cells are threads.
    """
    threads, keys = analysis.threads, process_key(analysis.threads)
    threads = threads.assign(
        row=threads.groupby(keys).ngroup() if by_process else name_groups(threads["comm"]),
        rank=_rank(threads),
        exposure_ns=threads["exposure_ns"].where(threads["ready"], 0),
    )
    rows = threads.groupby("row").agg(
        rank=("rank", "min"), exposure_ns=("exposure_ns", "sum"), **{key: (key, "first") for key in (*keys, "comm")}
    )
    if by_process:
        exposure = analysis.exposure.merge(threads[[*keys, "row"]].drop_duplicates(), on=keys)
        cells = per_signal(exposure["signals"], exposure["exposure_ns"] * SECONDS, exposure["row"])
        traces = rows["trace"] if "trace" in rows else [0] * len(rows)
        names = zip(traces, rows["pid"], rows["comm"], strict=True)
        rows["comm"] = [analysis.leaders.get((trace, pid)) or comm for trace, pid, comm in names]
        rows["label"] = _labels(rows, "pid")
    else:
        exposed = threads[threads["exposed_signals"] != 0]
        cells = per_signal(exposed["exposed_signals"], pd.Series(1, exposed.index), exposed["row"])
        rows["label"] = rows.index.map(in_ascii)
    hits = analysis.hits.merge(threads[[*thread_key(threads), "row"]], on=thread_key(threads))
    return rows, cells, hits


def _shortened(
    rows: pd.DataFrame, cells: pd.DataFrame, hits: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The rows with anything in them, the worst first, numbered; the last one stands for those that have no room."""
    exposed = cells.index[cells.any(axis=1)]
    shown = rows.index.isin(exposed) | rows.index.isin(hits["row"]) | (rows["rank"] <= _EXPOSED)
    rows = rows[shown].sort_values(["rank", "exposure_ns"], ascending=[True, False], kind="stable")
    place = {row: min(n, _NAMED_ROWS) for n, row in enumerate(rows.index)}
    cells = cells[cells.index.isin(rows.index)]
    cells, hits = cells.groupby(cells.index.map(place)).sum(), hits.assign(row=hits["row"].map(place))
    others = rows["rank"].tolist()[_NAMED_ROWS:]
    rows = rows.head(_NAMED_ROWS + 1).reset_index(drop=True)
    if others:
        critical = f", {others.count(0):,} critical" * (0 in others)
        rows.loc[_NAMED_ROWS, "label"] = f"{len(others):,} others{critical}"
    return rows, cells, hits


def _columns(cells: pd.DataFrame, hits: pd.DataFrame, considered: int) -> tuple[list[int], int]:
    """The signals that are drawn, the considered ones first; and the set of those that have no room."""
    totals, hit = cells.sum(), hits["signal"].value_counts()

    def is_considered(signal: int) -> bool:
        return bool(considered & sig.word_of([signal]))

    def worth(signal: int) -> tuple[bool, int, float, int]:
        return is_considered(signal), int(hit.get(signal, 0)), float(totals.get(signal, 0)), -signal

    ranked = sorted({*totals.index, *hit.index}, key=worth, reverse=True)
    drawn = sorted(ranked[:_SIGNALS], key=lambda signal: (not is_considered(signal), signal))
    return drawn, sig.word_of(ranked[_SIGNALS:])


def _heat(ax: Axes, cells: NDArray[np.float64], hits: pd.DataFrame, meaning: str, unit: str) -> None:
    """Colour the cells that are not zero, from decade to decade, and write the hits (row, column, critical) in them."""
    positive = cells[cells > 0] if cells.any() else np.ones(1)
    lowest = np.floor(np.log10(positive.min()))
    scale = LogNorm(10**lowest, 10 ** max(np.ceil(np.log10(positive.max())), lowest + 1))
    heights, widths = (np.arange(size + 1) - 0.5 for size in cells.shape)
    mesh = ax.pcolormesh(
        widths, heights, np.ma.masked_equal(cells, 0), norm=scale, cmap=_HEAT, edgecolors="white", linewidth=1
    )
    ax.invert_yaxis()
    form = EngFormatter(unit=unit) if unit else StrMethodFormatter("{x:,g}")
    ax.figure.colorbar(mesh, ax=ax, label=meaning, format=form, aspect=15 + len(cells), pad=0.02)
    counts = hits.groupby(["row", "column"])["critical"].agg(["size", "any"]).reset_index()
    for row, column, count, critical in counts.itertuples(index=False):
        dark = cells[row, column] > 0 and scale(cells[row, column]) > 0.55
        told = _short(count) + "!" * bool(critical)
        ax.text(column, row, told, ha="center", va="center", fontsize="x-small", color="white" if dark else BLACK)


def _placed(threads: pd.DataFrame) -> pd.DataFrame:
    """The threads in the order of their rows, the worst first, with the middle (y) and the height of each in 0 to 1."""
    many = len(threads) > _NAMED_ROWS
    rank = _rank(threads)
    keys = {"rank": True, **({"ready": True, "setup_ns": False} if many else {"born_ns": True})}
    order = threads.assign(rank=rank).sort_values(list(keys), ascending=list(keys.values()), kind="stable")
    order = order.reset_index(drop=True)
    counts = np.bincount(rank, minlength=len(VERDICTS))
    band = np.where(counts, np.maximum(counts, _LEAST_BAND * len(threads) * many), 0)
    band = band / max(band.sum(), 1)
    height = (band / np.maximum(counts, 1))[order["rank"]]
    top = (np.cumsum(band) - band)[order["rank"]]
    return order.assign(y=top + (order.groupby("rank").cumcount() + 0.5) * height, height=height)


class _RoundTimes(Locator):
    """Ticks at round times of an axis that is linear first and logarithmic then, as many as there is room for."""

    def __call__(self) -> list[float]:
        assert isinstance(self.axis, Axis)
        return self.tick_values(*sorted(self.axis.get_view_interval()))

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        assert isinstance(self.axis, Axis)
        ax, scale = self.axis.axes, self.axis.get_transform()
        powers = 10.0 ** np.arange(-9, np.ceil(np.log10(max(vmax, 1e-9))) + 1)
        times = np.concatenate([np.zeros(1), *(digit * powers for digit in (1, 5, 2, 3, 4, 6, 7, 8, 9))])
        times = times[(times >= vmin) & (times <= vmax)]
        left, right = scale.transform(np.array([vmin, vmax]))
        inches = (scale.transform(times) - left) / (right - left) * ax.bbox.width / ax.figure.dpi
        chosen: list[int] = []
        for n, place in enumerate(inches):  # the roundest first
            if (np.abs(inches[chosen] - place) >= _TICK_GAP_IN).all():
                chosen.append(n)
        found: list[float] = np.sort(times[chosen]).tolist()
        return found


def _birth_axis(ax: Axes, threads: pd.DataFrame) -> None:
    """Give `ax` the time since birth, linear up to the shortest window, with room for the longest and a little more."""
    lengths = threads["setup_ns"].to_numpy(np.float64) * SECONDS
    positive = lengths[lengths > 0]
    shortest, longest = (positive.min(), positive.max()) if len(positive) else (1e-6, 1e-6)
    ax.set_xscale("symlog", linthresh=shortest, linscale=1)
    scale = ax.xaxis.get_transform()
    (edge,) = scale.inverted().transform(1.06 * scale.transform(np.array([longest])))
    ax.set(xlim=(0, edge), xlabel="time since the thread's birth")
    ax.xaxis.set_major_locator(_RoundTimes())
    ax.xaxis.set_minor_locator(NullLocator())
    durations(ax)


def _bars(ax: Axes, threads: pd.DataFrame) -> None:
    """Draw the phases of the threads, of many evenly chosen ones of each verdict."""
    bands = [np.asarray(rows) for _, rows in threads.groupby("rank").indices.items()]
    chosen = [band[_spread(len(band), int(np.ceil(_ROWS * len(band) / len(threads))))] for band in bands]
    table = threads.iloc[np.concatenate([np.empty(0, np.int64), *chosen])]
    stands_for = [np.full(len(rows), len(band) / len(rows)) for band, rows in zip(bands, chosen, strict=True)]
    height = table["height"].to_numpy() * np.concatenate([np.empty(0), *stands_for])
    half = height * np.where(height > _TALL_ROW, 0.4, 0.5)
    y = table["y"].to_numpy()
    born_ns = table["born_ns"].to_numpy(np.int64)

    def since_birth(column: str) -> NDArray[np.float64]:
        values: NDArray[np.float64] = (table[column] - born_ns).to_numpy(np.float64, na_value=np.nan) * SECONDS
        return values

    setup = table["setup_ns"].to_numpy(np.float64) * SECONDS
    first = np.minimum(np.nan_to_num(since_birth("first_exposed_ns"), nan=np.inf), setup)
    whole = table["exposure_ns"].to_numpy(np.float64) * SECONDS >= (setup - first) * (1 - 1e-9)
    end = np.where(table["ready"].to_numpy(bool), since_birth("end_ns"), setup)
    nothing = np.zeros(len(table))
    for label, colour, start, stop in (
        ("not exposed", SKY, nothing, first),
        ("exposed", EXPOSED, first, np.where(whole, setup, first)),
        ("exposed at times", PALE_EXPOSED, first, np.where(whole, first, setup)),
        ("ready", PALE_GREY, setup, end),
    ):
        shown = stop > start
        if shown.any():
            x0, x1 = start[shown], np.minimum(stop[shown], ax.get_xlim()[1])
            exposed = label.startswith("exposed")
            if exposed:
                x0, x1, wider = _seen(ax, x0, x1)
                label += "\n(widened if short)" * wider
            top, bottom = y[shown] - half[shown], y[shown] + half[shown]
            corners = np.stack([x0, top, x0, bottom, x1, bottom, x1, top], axis=1).reshape(-1, 4, 2)
            many = len(threads) > _NAMED_ROWS
            bars = PolyCollection(
                corners,  # type: ignore[arg-type]  # the annotation knows sequences only, the documentation arrays
                facecolors=colour,
                label=label,
                zorder=1.5 if exposed else 1,  # above what they are next to, where they were made wider
                antialiased=not many,
                rasterized=many,
            )
            ax.add_collection(bars, autolim=False)


def _seen(
    ax: Axes, start: NDArray[np.float64], end: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """The same spans of time, those that would be too short to be seen made wider; and whether any was."""
    scale = ax.xaxis.get_transform()
    left, right = scale.transform(start), scale.transform(end)
    edge = scale.transform(np.array(ax.get_xlim()))[1]
    half = np.maximum(right - left, _LEAST_WIDTH * edge) / 2
    middle = np.clip((left + right) / 2, half, edge - half)
    back = scale.inverted()
    return back.transform(middle - half), back.transform(middle + half), bool((2 * half > (right - left) * 1.001).any())


def _marks(ax: Axes, analysis: Analysis, threads: pd.DataFrame) -> None:
    """Hits inside the bars; beside them, at the right edge, the threads with a reservation."""
    hits = analysis.hits.merge(threads[[*thread_key(threads), "y"]], on=thread_key(threads))
    hits = hits.assign(x=(hits["time_ns"] - hits["born_ns"]).astype(float) * SECONDS)
    named = len(threads) <= _NAMED_ROWS
    for label, which, marker, verdict in (
        ("critical hit", hits["critical"].astype(bool), "X", "critical"),
        ("hit", ~hits["critical"].astype(bool), "o", "hit"),
    ):
        if which.any():
            at = hits[which]
            size = float(np.clip(20 / len(at) ** 0.25, 2.5, 7))
            ax.plot(
                at["x"], at["y"], marker, color=VERDICT_COLOURS[verdict].paper, label=f"{label} ({len(at):,})",
                markersize=size, markeredgecolor="white", markeredgewidth=size / 12,
                zorder=3 if marker == "o" else 4, clip_on=False, rasterized=len(at) > _ROWS,
            )  # fmt: skip
    for label, which, marker, colour, x_axes in (
        ("unready", ~threads["ready"], ">", BLACK, 1.012),
        ("uncertain", threads["uncertain"], "D", PURPLE, 1.03),
    ):
        if which.any():
            y = threads["y"][which]
            # Of many threads thin lines, whose density can be seen.
            thin = {"marker": "_", "markeredgewidth": float(np.clip(200 / len(y), 0.5, 2))}
            style: dict[str, Any] = {"marker": marker} if named else thin
            ax.plot(
                np.full(len(y), x_axes), y, linestyle="none", color=colour, label=f"{label} ({len(y):,})",
                markersize=5, transform=ax.get_yaxis_transform(), clip_on=False, rasterized=len(y) > _ROWS, **style,
            )  # fmt: skip


def _short(count: int) -> str:
    """A number in at most four characters, as 950, 1.2k or 31M."""
    for size, prefix in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f}{prefix}" if count < 10 * size else f"{count // size}{prefix}"
    return str(count)
