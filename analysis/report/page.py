"""The report: one HTML page that says what was found, what to do about it, and what the finding rests on.

The page needs no network and no script to be read. Names in it come from the traced world: Jinja2 escapes
every value for HTML, after `printable` took out what is not text, and figures are images, in which a browser
runs nothing. The page's own style and script are allowed by their hashes, anything else is forbidden.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from sigwindow.analysis import sheets
from sigwindow.analysis.colours import VERDICT_COLOURS
from sigwindow.analysis.findings.check import check
from sigwindow.analysis.result import Analysis
from sigwindow.analysis.summary import summarise
from sigwindow.analysis.totals import merged
from sigwindow.analysis.words import sentence
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo, common

from . import figures, glossary, sections

_ROWS = 100  # of the long tables of one trace
_ROWS_OF_SEVERAL = 10  # of the long tables of each of several
_FIGURE_CHARACTERS = 6_000_000  # once the page has more, later traces have no figure

Traced = tuple[str, Analysis, TraceInfo]
Risk = Callable[[Analysis], pd.DataFrame]


def report(traces: Iterable[Traced], risk: Risk | None = None) -> str:
    """One self-contained HTML page: all about one trace, or an overview of several and one screen about each.

    traces: at least one, of each its name, its analysis and what it says of itself; each is taken when those before it
    are drawn. risk: gives the risks of an analysis (`sigwindow.analysis.risk.risk`, with its rates filled in).
    Returns the page's text.
    """
    waiting = iter(traces)
    first = next(waiting)
    second = next(waiting, None)
    told = _of_several(chain((first, second), waiting), risk) if second else _of_one(first, risk)
    return _environment().get_template("report.html.jinja").render(told, glossary=glossary.GROUPS)


def _of_one(trace: Traced, risk: Risk | None) -> dict[str, Any]:
    name, analysis, info = trace
    part = _part(analysis, info, risk, _ROWS)
    drawn = figures.drawn(analysis, info) if len(analysis.threads) else []
    return part | {"title": sections.shorten(name), "parts": [], "figures": drawn, "overview": None}


def _of_several(traces: Iterator[Traced], risk: Risk | None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    totals, infos, names = [], [], []
    size = 0
    for number, (name, analysis, info) in enumerate(traces, 1):
        kinds = ("timeline",) if len(analysis.threads) and size < _FIGURE_CHARACTERS else ()
        drawn = figures.drawn(analysis, info, kinds, large=False)
        size += sum(len(figure.narrow) for figure in drawn)
        part = _part(analysis, info, risk, _ROWS_OF_SEVERAL)
        parts.append(part | {"anchor": f"trace-{number}", "figures": drawn, "file": sections.shorten(name)})
        totals.append(analysis.totals)
        infos.append(info)
        names.append(name)
    place = os.path.commonprefix(names).rpartition("/")[0]  # noqa: RUF071  of URLs, too; what is left ends at a slash
    for part, name in zip(parts, names, strict=True):
        part["name"] = sections.shorten(name.removeprefix(f"{place}/" if place else ""))
    everything, info = merged(totals[0].question, dict(enumerate(totals))), common(infos)
    summary = summarise(everything, info)
    where = f" in {sections.shorten(place)}" if place else ""
    return _said(summary) | {
        "title": f"{len(parts)} traces{where}",
        "parts": parts,
        "advice": sections.advice(check(everything, info), summary["threads"], everything.question),
        "overview": sections.overview(parts, summary),
    }


def _part(analysis: Analysis, info: TraceInfo, risk: Risk | None, rows: int) -> dict[str, Any]:
    """What the page says of one trace, but for its name and figures."""
    summary = summarise(analysis.totals, info)
    counts = summary["threads"]
    return _said(summary) | {
        "advice": sections.advice(check(analysis.totals, info), counts, analysis.question),
        "tables": sections.tables(analysis, summary, rows),
        "risks": [sections.risks(risk(analysis))] if risk and counts["born"] else [],
        "measured": sections.measured(analysis, summary, info),
        "losses": sections.losses(analysis, counts),
    }


def _said(summary: dict[str, Any]) -> dict[str, Any]:
    """What stands at the head of a page, or of a trace among several."""
    counts = summary["threads"]
    return {
        "summary": summary,
        "sentence": sentence(counts),
        "state": sections.state(counts),
        "circumstances": sheets.circumstances(summary),
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sigwindow.analysis", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"csp_hash": _csp_hash, "slug": _slug}
    environment.globals |= {"colours": VERDICT_COLOURS, "meaning_of": glossary.anchor}
    return environment


def _finalize(value: Any) -> Any:
    """Every value on its way into the page: no control characters, nothing that turns the text around."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csp_hash(text: str) -> str:
    """The source expression that allows an inline element with this text (CSP3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _slug(caption: str) -> str:
    """An anchor of our own words."""
    return re.sub(r"\W+", "-", caption.lower())
