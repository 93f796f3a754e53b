"""The figures of the page as data URIs: each fitted to half a page or a phone, large ones to a whole page, too."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sigwindow.analysis import plots
from sigwindow.analysis.captions import CAPTIONS
from sigwindow.analysis.result import Analysis
from sigwindow.probes.traceinfo import TraceInfo

_SVG_BYTES = 200_000  # larger drawings become pictures
_PIXELS_AN_INCH = 96  # of CSS
_NARROW_IN = 4.0  # the width of a phone, and of half a page
_NARROW_HEIGHT_IN = (3.4, 4.8)
_NARROW_ROW_IN = 0.2  # with a name
_NARROW_NAME = 16  # characters
_LARGE_MAP_IN = 7.0  # a map of signals wider or higher than that has more cells than a phone has room for


class Drawn(NamedTuple):
    """A figure. narrow, wide: data URIs, the latter empty where the former is enough, and its width in pixels.

    alt: the figure in words.
    """

    narrow: str
    wide: str
    wide_px: int
    caption: str
    alt: str


def drawn(analysis: Analysis, info: TraceInfo, kinds: Iterable[str] = CAPTIONS, *, large: bool = True) -> list[Drawn]:
    """The figures of some kinds, but for those that show nothing; large: those that gain by it are wide, too."""
    found = []
    for kind in kinds:
        axes = plots.KINDS[kind](analysis, info=info)
        figure = axes.get_figure(root=True)
        assert figure is not None
        if axes.has_data():
            wide = _image(figure) if large and _gains(kind, figure) else ""
            wide_px = round(figure.get_figwidth() * _PIXELS_AN_INCH)
            _make_narrow(figure)
            caption = CAPTIONS[kind]
            found.append(Drawn(_image(figure), wide, wide_px, caption, f"{caption} {axes.get_title()}."))
    return found


def _gains(kind: str, figure: Figure) -> bool:
    return kind == "timeline" or (kind == "signals" and max(figure.get_size_inches()) > _LARGE_MAP_IN)


def _make_narrow(figure: Figure) -> None:
    """Fit a figure to a phone: as wide as that with its text as large as before, long names cut, legends below."""
    rows = max(len(axes.get_yticklabels()) for axes in figure.axes)
    highest_in = max(_NARROW_HEIGHT_IN[1], 2 + _NARROW_ROW_IN * rows)
    figure.set_size_inches(_NARROW_IN, float(np.clip(figure.get_figheight(), _NARROW_HEIGHT_IN[0], highest_in)))
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
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sigwindow"}):  # the same ids each time
        figure.savefig(file, format="svg", metadata={"Date": None})
    kind = "svg+xml"
    if file.tell() > _SVG_BYTES:
        file, kind = io.BytesIO(), "png"
        figure.savefig(file, format=kind, dpi=150)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
