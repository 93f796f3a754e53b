"""What all figures have: Axes that show themselves, units, names that any font can write, a legend and a footer."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import EngFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox, IdentityTransform, offset_copy

from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo

from .colours import VERDICT_COLOURS
from .words import cut_off, lost, ready_by

if TYPE_CHECKING:
    from .result import Analysis

# Of Okabe and Ito's set, but for the verdicts' own: colour-blind readers can tell them apart.
BLACK, ORANGE, SKY, BLUE, PURPLE = "#000000", "#E69F00", "#56B4E9", "#0072B2", "#CC79A7"
PALE_GREY, GREY = "#E6E6E6", "#6B6B6B"
EXPOSED, PALE_EXPOSED = VERDICT_COLOURS["exposed"].paper, "#F0B387"

SECONDS = 1e-9  # of a nanosecond; axes are in seconds and pick the prefix themselves
_NAME_WIDTH = 32  # characters; more only where they had to be escaped
_LINE_WIDTH, _WORD_WIDTH = 160, 32  # of the footer, whose lines are wrapped between words


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


def new_axes(width_in: float, height_in: float) -> Axes:
    """The Axes of a new picture."""
    return Picture(figsize=(width_in, height_in), layout="constrained").add_subplot(axes_class=PictureAxes)


def durations(ax: Axes) -> None:
    """Write the times along `ax` with their units."""
    ax.xaxis.set_major_formatter(EngFormatter(unit="s"))


def thousands(ax: Axes) -> None:
    """Write the numbers up `ax` in full, with commas."""
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))


def in_ascii(name: str, width: int = _NAME_WIDTH) -> str:
    """A text from the traced world in characters that every font has, and not too many of them."""
    shown = printable(name).encode("ascii", "backslashreplace").decode()
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def legend(*axes: Axes, gap_pt: float = 6) -> None:
    """One legend for all the axes, at their right, where it hides nothing."""
    handles = [handle for ax in axes for handle in ax.get_legend_handles_labels()[0]]
    if handles:
        beside = offset_copy(axes[0].transAxes, axes[0].get_figure(root=True), gap_pt, 0, units="points")
        shown = axes[0].legend(
            handles=handles, loc="upper left", bbox_to_anchor=(1, 1), bbox_transform=beside, frameon=False,
            fontsize="small", handlelength=1.6,
        )  # fmt: skip
        for text in shown.get_texts():
            text.set_parse_math(False)


def reservations(analysis: Analysis) -> list[str]:
    """What a reader must know before trusting a figure."""
    uncertain = int(analysis.threads["uncertain"].sum())
    told = []
    if analysis.lost_events or uncertain:
        told.append(lost(analysis.lost_events, uncertain))
    if not analysis.ended:
        told.append(cut_off())
    return told


def circumstances(analysis: Analysis, info: TraceInfo | None) -> list[str]:
    """What was traced, by what and where; and by which policy the figure judges."""
    asked = analysis.question
    policy = f"signals = {asked.signals}; ready = {ready_by(asked.ready, analysis.threads['policy'].unique())}"
    if info is None:
        traces = analysis.threads["trace"].nunique() if "trace" in analysis.threads else 1
        return [f"{traces} traces; {policy}" if traces > 1 else policy]
    processes = f"process{'es' * (len(info.targets) > 1)} {', '.join(map(str, info.targets))}" if info.targets else ""
    place = " ".join(filter(None, (info.os, info.kernel, info.host and f"at {info.host}")))
    source = " on ".join(filter(None, (info.backend and f"by {info.backend}", place)))
    return list(filter(None, (shlex.join(info.command) or processes, f"{policy}; {source}" if source else policy)))


class _Foot(Annotation):
    """A text that is wrapped at the figure's edge; what is beside the axes stays where it is, above it."""

    def get_tightbbox(self, renderer: RendererBase | None = None) -> Bbox:
        box = super().get_tightbbox(renderer)
        assert box is not None
        assert self.axes is not None
        return Bbox.from_extents(box.x0, box.y0, min(box.x1, self.axes.bbox.x1), box.y1)


def foot(ax: Axes, warnings: Sequence[str], told: Sequence[str], below_pt: float = 36) -> None:
    """Write below `ax`: the warnings, and what is told of the figure. below_pt: what stands there already."""
    for lines, colour in ((warnings, VERDICT_COLOURS["hit"].paper), (told, GREY)):
        text = _Foot(
            "\n".join(map(_wrappable, lines)), (0, 0), xytext=(0, -below_pt),
            xycoords="axes fraction", textcoords="offset points", va="top", fontsize="x-small", color=colour,
            parse_math=False, wrap=True, clip_on=False, transform=IdentityTransform(),
        )  # fmt: skip
        ax.add_artist(text)
        below_pt += 10 * len(lines)


def _wrappable(line: str) -> str:
    """A line whose words are short; of long ones, such as paths, the middle is left out."""
    words = (in_ascii(word, len(line) * 10) for word in line.split(" "))
    half = _WORD_WIDTH // 2 - 1
    return in_ascii(" ".join(w if len(w) <= _WORD_WIDTH else f"{w[:half]}..{w[-half:]}" for w in words), _LINE_WIDTH)
