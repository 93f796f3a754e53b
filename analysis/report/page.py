"""The report: one HTML page that says what was found, what to do about it, and what the finding rests on.

The page needs no network and no script to be read. Names in it come from the traced world: Jinja2 escapes
every value for HTML, after `printable` took out what is not text, and figures are images, in which a browser
runs nothing. The page's own style and script are allowed by their hashes, anything else is forbidden.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shlex
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from sigwindow.analysis import plots
from sigwindow.analysis.colours import VERDICT_COLOURS
from sigwindow.analysis.findings.check import check
from sigwindow.analysis.findings.finding import Finding
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.summary import summarise
from sigwindow.analysis.tables import BAD, WORST_FIRST, badness, worst_first, worst_of
from sigwindow.analysis.words import counted, duration, frames, sentence, share
from sigwindow.probes import signals
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = {
    "timeline": "Each thread from its birth: not exposed, exposed, ready, and the handlers that ran too early.",
    "ecdf": "The share of threads whose setup window, and whose exposure, lasted at most so long.",
    "histogram": "How many threads had a setup window, and an exposure, of which length.",
    "signals": "Which signals could reach which process or thread.",
    "rate": "Births a second, and the exposure they led to.",
}
_MEANINGS = {
    "critical": "ran a handler that asked for the alternate stack while the thread had none",
    "hit": "ran a handler before it was ready",
    "exposed": "could have run a handler before it was ready",
    "masked": "a signal had a handler, and none could reach the thread before it was ready",
    "unhandled": "no considered signal had a handler",
}

_TABLE_ROWS = 100  # of the long tables, on the whole page
_FEWEST_ROWS = 10  # of each, however many traces there are
_FIGURE_CHARACTERS = 6_000_000  # once the page has more, later traces have no figures
_SVG_BYTES = 200_000  # larger drawings become pictures
_NARROW_IN = 4.0  # the width of a phone
_NARROW_HEIGHT_IN = (3.4, 4.8)
_NARROW_NAME = 16  # characters
_TEXT_CHARACTERS = 300  # of one name or command


class Advice(NamedTuple):
    """What to do about one finding; code: lines that show how."""

    title: str
    text: str
    code: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A cell of a table. value: what numbers are sorted by; style: a CSS class; link: an anchor of the page."""

    text: str
    value: float | None = None
    style: str = ""
    link: str = ""


_NOTHING = Cell("-", -1)


class Table(NamedTuple):
    """A table of the page. total: its last row, which stays last when the others are sorted."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] = ()
    note: str = ""


def report(
    traces: Sequence[tuple[str, Analysis, TraceInfo]],
    risk: Callable[[Analysis], pd.DataFrame] | None = None,
) -> str:
    """One self-contained HTML page about one or more traces.

    traces: of each its name, its analysis and what it says of itself. risk: gives the risks of an
    analysis (`sigwindow.analysis.risk.risk`, with its rates filled in). Returns the page's text.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sigwindow.analysis", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csp_hash"] = _csp_hash
    parts: list[dict[str, Any]] = []
    drawn = 0
    for number, (name, analysis, info) in enumerate(traces, 1):
        part = _part(analysis, info, risk, max(_FEWEST_ROWS, _TABLE_ROWS // len(traces)))
        figures = _figures(analysis, info) if len(analysis.threads) and drawn < _FIGURE_CHARACTERS else []
        drawn += sum(len(figure["wide"]) + len(figure["narrow"]) for figure in figures)
        parts.append(part | {"name": _shorten(name), "anchor": f"trace-{number}", "figures": figures})
    counts = {key: sum(part["counts"][key] for part in parts) for key in parts[0]["counts"]}
    page = environment.get_template("report.html.jinja")
    return page.render(
        parts=parts,
        overview=_overview(parts, counts),
        sentence=sentence(counts),
        state=_state(counts),
        colours=VERDICT_COLOURS,
    )


def _advice(findings: Sequence[Finding], counts: Mapping[str, int]) -> list[Advice]:
    """What to do about what was found, the worst first; code that was shown is not shown again."""
    if not counts["born"]:
        return [_NO_THREADS]
    told: list[Advice] = []
    for finding in findings:
        shown = finding.code and any(other.code == finding.code for other in told)
        text = f"{finding.message} {finding.advice}" + " The order above shows how." * bool(shown)
        told.append(Advice(finding.title, text, () if shown else finding.code))
    return told if any(counts[verdict] for verdict in BAD) else [*told, _CLEAN]


_NO_THREADS = Advice(
    "Trace something that makes threads",
    "Start the program under sigwindow run, or attach to it while it makes threads.",
)
_CLEAN = Advice(
    "Keep it so",
    "Let your tests fail as soon as a thread is exposed:",
    ("sigwindow run --fail-on exposed -- COMMAND",),
)


def _part(
    analysis: Analysis, info: TraceInfo, risk: Callable[[Analysis], pd.DataFrame] | None, rows: int
) -> dict[str, Any]:
    """What the page says of one trace, but for its name and figures."""
    summary = summarise(analysis.totals, info)
    counts = summary["threads"]
    return {
        "counts": counts,
        "sentence": sentence(counts),
        "state": _state(counts),
        "advice": _advice(check(analysis.totals, info), counts),
        "tables": [
            _verdicts(counts),
            _durations(summary),
            _by_signal(analysis),
            _traffic(analysis),
            _by_process(summary["by_process"], rows),
            _worst(analysis.threads, analysis.numbering, rows),
        ],
        "risk": _risks(risk(analysis)) if risk and counts["born"] else None,
        "measured": _measured(analysis, summary, info),
        "losses": _losses(analysis, counts),
    }


def _state(counts: Mapping[str, int]) -> str:
    """The worst verdict; of a clean trace, whether that is certain."""
    worst = worst_of(counts)
    return "uncertain" if counts["uncertain"] and worst not in BAD else worst


def _overview(parts: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> Table:
    columns = ("born", *WORST_FIRST, "unready", "uncertain")
    rows = [
        [
            Cell(part["name"], link=part["anchor"]),
            Cell(part["state"], style=part["state"]),
            *(_count(part["counts"][column]) for column in columns),
        ]
        for part in parts
    ]
    total = [Cell("total"), Cell(_state(counts), style=_state(counts)), *(_count(counts[column]) for column in columns)]
    return Table("All traces: threads by verdict", ("trace", "worst", *columns), rows, total)


def _verdicts(counts: Mapping[str, int]) -> Table:
    def part(count: int) -> Cell:
        return Cell(share(count, counts["born"]), count) if counts["born"] else _NOTHING

    rows = [
        [Cell(verdict, style=verdict), _count(counts[verdict]), part(counts[verdict]), Cell(_MEANINGS[verdict])]
        for verdict in WORST_FIRST
    ]
    return Table("Threads by verdict", ("verdict", "threads", "share", "meaning"), rows)


def _durations(summary: Mapping[str, Any]) -> Table:
    quantiles = ("min", "p50", "p90", "p99", "max", "total")
    rows = [
        [Cell(label), _count(summary[key]["count"]), *(_duration(summary[key][quantile]) for quantile in quantiles)]
        for label, key in (("setup window", "setup_ns"), ("exposure", "exposure_ns"))
    ]
    note = "Setup windows of ready threads; exposure of those of them that were exposed."
    return Table("Durations", ("duration", "threads", *quantiles), rows, note=note)


def _by_signal(analysis: Analysis) -> Table:
    ordered = analysis.by_signal.sort_values(["critical", "hits", "exposure_ns"], ascending=False, kind="stable")
    rows = [
        [
            Cell(row["name"]),
            Cell(row["class"]),
            _count(row["threads"]),
            _duration(row["exposure_ns"]),
            _count(row["hits"]),
            _count(row["critical"]),
        ]
        for row in ordered.to_dict("records")
    ]
    columns = ("signal", "class", "threads exposed", "exposure", "hits", "critical hits")
    return Table("By signal, of all that had a handler", columns, rows)


def _traffic(analysis: Analysis) -> Table:
    """What was sent in the whole trace, and what became of it."""
    columns = ("generated", "held_back", "delivered")
    rows = [
        [Cell(row["name"]), Cell(row["class"]), *(_count(row[column]) for column in columns)]
        for row in analysis.traffic.sort_values("generated", ascending=False, kind="stable").to_dict("records")
    ]
    deferred = counted(int(analysis.threads["deferred"].sum()), "signal")
    note = f"Held back: sent to a thread that blocked it; of these, {deferred} until the end of a setup window."
    return Table("Signals sent", ("signal", "class", "sent", "held back", "handled"), rows, note=note)


def _by_process(processes: Sequence[Mapping[str, Any]], limit: int) -> Table:
    ordered = sorted(processes, key=badness)
    rows = [
        [
            Cell(_shorten(row["comm"])),
            Cell(str(row["pid"]), row["pid"]),
            Cell(row["policy"]),
            *(_count(row[verdict]) for verdict in WORST_FIRST),
            _duration(row["exposure_ns"]),
        ]
        for row in ordered[:limit]
    ]
    columns = ("process", "pid", "ready by", *WORST_FIRST, "exposure")
    return Table("By process", columns, rows, note=_of(rows, len(processes), "processes"))


def _worst(threads: pd.DataFrame, numbering: signals.Numbering, limit: int) -> Table:
    exposed = threads[threads["verdict"].isin(BAD)]
    worst = worst_first(exposed).head(limit)
    with_stack = bool((worst["creator_stack"] != "").any())
    rows = []
    for row in worst.to_dict("records"):
        first_ns = None if pd.isna(row["first_exposed_ns"]) else row["first_exposed_ns"] - row["born_ns"]
        cells = [
            Cell(_shorten(row["comm"])),
            Cell(str(row["tid"]), row["tid"]),
            Cell(str(row["pid"]), row["pid"]),
            Cell(row["verdict"], style=row["verdict"]),
            _duration(row["exposure_ns"]),
            _duration(row["setup_ns"]),
            Cell("at birth", 0) if first_ns == 0 else _duration(first_ns),
            _count(row["hits"]),
            _count(row["critical_hits"]),
            Cell("yes" if row["ready"] else "never"),
            Cell(signals.listed(int(row["exposed_signals"]), numbering)),
        ]
        rows.append([*cells, Cell(frames(row["creator_stack"], _TEXT_CHARACTERS))] if with_stack else cells)
    columns = [
        "thread", "tid", "pid", "verdict", "exposure", "setup", "open after", "hits", "critical", "ready", "open to",
    ]  # fmt: skip
    columns += ["created in"] if with_stack else []
    return Table("The worst threads", columns, rows, note=_of(rows, len(exposed), "exposed threads"))


def _risks(risks: pd.DataFrame) -> Table:
    """The table of `risk`: estimates with their intervals, and bounds where no hit was seen.

    Signals to which nothing was exposed are left out: their bound would only say how few births were seen.
    """
    births = ", ".join(f"{count:,}" for count in risks["births"].unique())
    risks = risks[risks["exposure_ns"] > 0]
    rows = [
        [
            Cell(row["name"]),
            Cell(row["source"]),
            _estimate(row, "rate{}_hz"),
            _estimate(row, "hits_per_birth{}"),
            _estimate(row, "p_in_births{}"),
            _estimate(row, "mean_time_to_first_hit{}_s", lambda time_s: _duration(time_s * 1e9).text, "≥"),
        ]
        for row in risks.to_dict("records")
    ]
    columns = (
        "signal",
        "rate",
        "per exposed second",
        "hits per birth",
        f"chance in {births} births",
        "first hit after",
    )
    note = (
        "Of ready threads. In brackets the 95% interval of what was estimated from the hits. A bound is the worst that "
        "the trace, in which no hit was seen, does not contradict at 95%: zero hits are not no risk. "
        "Signals to which no ready thread was exposed are left out."
    )
    return Table("Expected hits", columns, rows, note=note)


def _estimate(
    row: Mapping[Hashable, Any], column: str, form: Callable[[float], str] = "{:.3g}".format, bound: str = "≤"
) -> Cell:
    """One value of a risk and its interval; column: with {} where _low and _high go."""
    value, low, high = (row[column.format(end)] for end in ("", "_low", "_high"))
    if not np.isfinite(value):
        return _NOTHING
    if row["source"] == "bound":
        return Cell(f"{bound} {form(value)}", value)
    return Cell(f"{form(value)} ({form(low)} to {form(high)})" if row["source"] == "estimated" else form(value), value)


def _measured(analysis: Analysis, summary: Mapping[str, Any], info: TraceInfo) -> list[tuple[str, str]]:
    """How the trace was made: what it is called and what it was, for what is known."""
    trace = summary["trace"]
    policies = ", ".join(sorted({row["policy"] for row in summary["by_process"]}))
    used = f" (used: {policies})" if policies not in ("", analysis.question.ready) else ""
    told = (
        ("Command", shlex.join(info.command)),
        ("Targets", " ".join(map(str, info.targets))),
        ("Ready by", analysis.question.ready + used),
        ("Signals considered", analysis.question.signals),
        ("Began", _wall_time(analysis, info)),
        ("Duration", f"{trace['duration_s']:,.3g} s"),
        ("Events", f"{analysis.events:,}"),
        ("Backend", info.backend),
        ("System", " ".join((info.os, info.kernel, info.arch)).strip()),
        ("Host", info.host),
        ("Options", json.dumps(dict(info.options)) if info.options else ""),
        ("Trace format", str(info.format)),
        ("sigwindow", info.tool),
    )
    return [(name, _shorten(value)) for name, value in told if value]


def _losses(analysis: Analysis, counts: Mapping[str, int]) -> list[str]:
    told = []
    if analysis.lost_events:
        told.append(
            f"{counted(analysis.lost_events, 'event')} got lost. Uncertain for that: "
            f"{counted(counts['uncertain'], 'thread')}. What was seen of them is true, a clean verdict is not certain."
        )
    else:
        told.append("No event got lost.")
    if not analysis.ended:
        told.append("The trace has no end mark: its tracer was killed, or the file is cut. What came after is unknown.")
    if counts["unready"]:
        told.append(
            f"{counted(counts['unready'], 'thread')} never became ready while the trace ran: their windows are cut off "
            "and are not part of the durations above; their verdicts and hits count."
        )
    return told


def _figures(analysis: Analysis, info: TraceInfo) -> list[dict[str, str]]:
    """The figures that show anything as data URIs, for a wide and for a narrow window."""
    drawn = []
    for kind, caption in FIGURES.items():
        axes = plots.KINDS[kind](analysis, info=info)
        if not axes.has_data():
            continue
        figure = axes.get_figure(root=True)
        assert figure is not None
        wide = _image(figure)
        _make_narrow(figure)
        drawn.append(
            {"wide": wide, "narrow": _image(figure), "caption": caption, "alt": f"{caption} {axes.get_title()}."}
        )
    return drawn


def _make_narrow(figure: Figure) -> None:
    """Fit a figure to a phone: as wide as that with its text as large as before, long names cut, legends below."""
    figure.set_size_inches(_NARROW_IN, float(np.clip(figure.get_figheight(), *_NARROW_HEIGHT_IN)))
    for axes in figure.axes:
        axes.title.set_wrap(True)
        names = [label.get_text() for label in axes.get_yticklabels()]
        if any(len(name) > _NARROW_NAME for name in names):
            half = _NARROW_NAME // 2
            short = [name if len(name) <= _NARROW_NAME else f"{name[:half]}..{name[-half:]}" for name in names]
            axes.set_yticks(axes.get_yticks(), labels=short, fontsize="small", parse_math=False)
        legend = axes.get_legend()
        if legend:
            handles = [handle for handle in legend.legend_handles if handle]
            labels = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
            legend.remove()
            figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize="small")
    for legend in figure.legends:
        for text in legend.get_texts():
            text.set_parse_math(False)


def _image(figure: Figure) -> str:
    """A figure as a data URI: a drawing, or a picture where the drawing is large."""
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sigwindow"}):  # the same ids each time
        figure.savefig(file, format="svg", metadata={"Date": None})
    kind = "svg+xml"
    if file.tell() > _SVG_BYTES:
        file, kind = io.BytesIO(), "png"
        figure.savefig(file, format=kind, dpi=150)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _finalize(value: Any) -> Any:
    """Every value on its way into the page: no control characters, nothing that turns the text around."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csp_hash(text: str) -> str:
    """The source expression that allows an inline element with this text (CSP3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _shorten(text: str) -> str:
    return text if len(text) <= _TEXT_CHARACTERS else text[: _TEXT_CHARACTERS - 1] + "…"


def _of(rows: Sequence[Any], count: int, nouns: str) -> str:
    return f"The first {len(rows):,} of {count:,} {nouns}; sigwindow analyze lists all." if len(rows) < count else ""


def _count(count: int) -> Cell:
    return Cell(f"{count:,}", count)


def _duration(ns: float | None) -> Cell:
    """Nanoseconds in the unit that reads best."""
    return _NOTHING if ns is None else Cell(duration(ns), ns)


def _wall_time(analysis: Analysis, info: TraceInfo) -> str:
    """When the trace began; empty if it does not say."""
    if info.clock_to_wall_ns is None:
        return ""
    try:
        wall_s = (analysis.start_ns + info.clock_to_wall_ns) / 1e9
        return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a date beyond the calendar
        return ""
