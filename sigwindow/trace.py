"""A trace as an object: its tables as DataFrames, its statistics, its figures, and itself in a notebook."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from sigwindow import fleet
from sigwindow.analysis import risk as risks
from sigwindow.analysis import sheets, statistics
from sigwindow.analysis.compare import Comparison, compare
from sigwindow.analysis.findings.check import check
from sigwindow.analysis.notebook import html
from sigwindow.analysis.question import Question
from sigwindow.analysis.result import Analysis, combined, one_after_the_other
from sigwindow.analysis.summary import summarise
from sigwindow.analysis.words import sentence
from sigwindow.collector import files, tracefile
from sigwindow.probes import signals as sig
from sigwindow.probes.text import printable
from sigwindow.probes.traceinfo import TraceInfo, common

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def read(*sources: str | Path, ready: str = "auto", signals: str = "async") -> Trace:
    """Open one trace, or several as one.

    sources: files, folders, patterns, or URLs that fsspec knows. ready, signals: as `--ready` and `--signals` take
    them. Raises InputError for what can't be read as a trace, UsageError for a pattern that matches nothing.

        >>> read("notebooks/traces/newosproc-*.arrows").summary["threads"]["born"]
        398
    """
    trace = Trace(fleet.expand([str(source) for source in sources]), Question.parse(ready, signals))
    _ = trace.info  # what is no trace is told here, not at the first table
    return trace


class Trace:
    """One trace, or several in a row, under a readiness policy and a selection of signals.

    Everything is loaded when it is first asked for, and kept. sources: files or URLs, at least one. keep: what must
    live as long as this does, such as a temporary folder that holds the sources.
    """

    def __init__(
        self, sources: Sequence[str | Path], question: Question = Question(), *, keep: Sequence[object] = ()
    ) -> None:
        if not sources:
            raise ValueError("a trace has at least one source")
        self._keep = tuple(keep)
        self.sources = tuple(str(source) for source in sources)
        self.question = question

    @cached_property
    def info(self) -> TraceInfo:
        """What the trace (of several the first one) says of itself: backend, os, kernel, host, command and more.

        Raises InputError for a source that is no trace.

        >>> read("notebooks/traces/newosproc-fixed.arrows").info.backend
        'bcc'
        """
        told = [tracefile.Reader(source).info for source in self.sources]
        return told[0]

    @cached_property
    def events(self) -> pd.DataFrame:
        """The event table: one row an event, with the columns of docs/events.md; of several traces with `trace` first.

        >>> read("notebooks/traces/newosproc-fixed.arrows").events["kind"].iloc[0]
        'snapshot'
        """
        tables: list[pd.DataFrame] = [tracefile.Reader(source).in_order().to_pandas() for source in self.sources]
        return one_after_the_other(tables) if len(tables) > 1 else tables[0]

    @cached_property
    def analysis(self) -> Analysis:
        """All tables of the engine; the commonest ones are attributes of the trace itself."""
        if len(self.sources) > 1:
            return combined([part.analysis for part in self.parts])
        return fleet.analyse(self.sources[0], self.question)[0]

    @cached_property
    def parts(self) -> tuple[Trace, ...]:
        """A trace for each source."""
        if len(self.sources) == 1:
            return (self,)
        return tuple(Trace([source], self.question, keep=self._keep) for source in self.sources)

    @property
    def threads(self) -> pd.DataFrame:
        """One row a born thread, with the columns of docs/tables.md; of several traces with `trace` first.

        >>> read("notebooks/traces/newosproc-broken.arrows").threads["verdict"].value_counts().head(2).to_dict()
        {'critical': 193, 'exposed': 6}
        """
        return self.analysis.threads

    @property
    def hits(self) -> pd.DataFrame:
        """One row a handler that ran on a thread in its setup window."""
        return self.analysis.hits

    @property
    def by_signal(self) -> pd.DataFrame:
        """One row a signal that had a handler in any thread's window."""
        return self.analysis.by_signal

    @property
    def traffic(self) -> pd.DataFrame:
        """One row a signal: how often it was sent, held back by a mask, and taken by a handler."""
        return self.analysis.traffic

    @property
    def summary(self) -> dict[str, Any]:
        """The summary, as `analyze --format json` writes it."""
        return summarise(self.analysis.totals, self._common)

    @property
    def _common(self) -> TraceInfo:
        """What all of it says of itself alike."""
        return common([part.info for part in self.parts])

    @property
    def quantiles(self) -> pd.DataFrame:
        """Setup, exposure and teardown in quantiles."""
        return statistics.quantiles(self.threads)

    @property
    def survival(self) -> pd.DataFrame:
        """The survival curve of the setup time; threads that were never ready count as long as they were seen."""
        return statistics.survival(self.threads)

    def by(self, *keys: str) -> pd.DataFrame:
        """The threads counted by `process`, `name`, `creator`, `hour` or `stack`, or by several of them together.

        >>> read("notebooks/traces/newosproc-broken.arrows").by("name")[["comm", "births"]].to_dict("records")
        [{'comm': 'newosproc', 'births': 199}]
        """
        clocks = [part.info.clock_to_wall_ns for part in self.parts]
        return statistics.by(self.threads, keys, clocks, self.analysis.leaders, self.analysis.known)

    def risk(self, rates: Mapping[int | str, float] | None = None, births: int = 1000) -> pd.DataFrame:
        """What a rate of signals means for threads that are exposed as these were: see `sigwindow.analysis.risk`.

        rates: signals a second to an exposed thread, by number or name; without one it is estimated from the hits.

        >>> read("notebooks/traces/newosproc-broken.arrows").risk({"SIGPROF": 100})["name"].tolist()
        ['SIGPROF', 'SIGUSR1']
        """
        texts = (f"{signal}={rate}" for signal, rate in (rates or {}).items())
        given = risks.parse_rates(texts, self.analysis.numbering)
        return risks.risk(self.analysis, given, births)

    def signal_names(self, mask: int) -> list[str]:
        """The names of the signals in a set, as the columns `birth_mask` and `exposed_signals` have them.

        >>> trace = read("notebooks/traces/newosproc-broken.arrows")
        >>> trace.threads["exposed_signals"].map(trace.signal_names).iloc[0]
        ['SIGUSR1', 'SIGPROF']
        """
        return [sig.name(signal, self.analysis.numbering) for signal in sig.members(int(mask))]

    def compare(self, new: Trace) -> Comparison:
        """Compare this trace, the base, with another one.

        >>> base, new = (read(f"notebooks/traces/newosproc-{mode}.arrows") for mode in ("fixed", "broken"))
        >>> base.compare(new).regression
        True
        """
        return compare(self.analysis, new.analysis)

    def under(self, *, ready: str | None = None, signals: str | None = None) -> Trace:
        """The same trace under another policy or selection of signals.

        >>> read("notebooks/traces/newosproc-broken.arrows").under(signals="SIGINT").summary["threads"]["unhandled"]
        199
        """
        question = Question.parse(ready or self.question.ready, signals or self.question.signals)
        return Trace(self.sources, question, keep=self._keep)

    def report(self, path: str | Path, *, force: bool = False) -> None:
        """Write the one-page HTML report, with a section a source. Raises UsageError where the file exists."""
        from sigwindow.analysis.report.page import report

        files.check([Path(path)], self.sources, force=force)
        of_each = [(part.sources[0], part.analysis, part.info) for part in self.parts]
        page = report(of_each, partial(risks.risk, rates=None))
        with files.text(Path(path), force=force) as file:
            file.write(page)

    @property
    def plot(self) -> Plots:
        """The figures: `trace.plot.ecdf()`, `trace.plot.timeline()` and so on; each returns its Axes."""
        return Plots(self)

    def __add__(self, other: Trace) -> Trace:
        if not isinstance(other, Trace):
            return NotImplemented
        self.question.same_as(other.question)
        return Trace(self.sources + other.sources, self.question, keep=self._keep + other._keep)

    def __repr__(self) -> str:
        counts = self.summary["threads"]
        return f"<Trace of {sentence(counts)}>" if counts["born"] else "<Trace in which no thread was born>"

    def _repr_html_(self) -> str:
        """What the command line says of it, and a figure."""
        summary, worst = self.summary, self.analysis.totals.worst
        several = []
        if len(self.parts) > 1:
            several = [sheets.batch(self.sources, [part.summary for part in self.parts], summary)]
            worst = worst.assign(trace=worst["trace"].map(dict(enumerate(self.sources))))
        return html(
            sentence(summary["threads"]),
            [self._what(), *sheets.circumstances(summary), *sheets.reservations(summary)],
            [
                *sheets.findings(check(self.analysis.totals, self._common)),
                *several,
                *sheets.summary(summary, worst, self.analysis.totals.known),
            ],
            self._picture() if summary["threads"]["born"] else Markup(""),
        )

    def _what(self) -> str:
        """What was traced, in a few words: the files, or of a recording the command or the process."""
        if not self._keep:
            more = f" and {len(self.sources) - 3} more" if len(self.sources) > 3 else ""
            return ", ".join(printable(source) for source in self.sources[:3]) + more
        pids = self.info.targets
        return "this process" if pids == (os.getpid(),) else f"process {', '.join(map(str, pids))}"

    def _picture(self) -> Markup:
        """The timeline, without the title that the verdict repeats."""
        from matplotlib.figure import Figure

        many = len(self.threads) > 40
        ax = self.plot.timeline(Figure(figsize=(8, 3), layout="constrained").subplots() if many else None)
        ax.set_title("")
        figure = ax.get_figure(root=True)
        assert figure is not None
        file = io.BytesIO()
        figure.savefig(file, format="png", bbox_inches="tight", dpi=100)
        picture = Markup("<img alt='{}' style='max-width:100%' src='data:image/png;base64,{}'>")
        return picture.format(
            "Each thread from its birth until it is ready", base64.b64encode(file.getvalue()).decode()
        )


class Plots:
    """The figures of a trace. Each takes the matplotlib Axes to draw on, or makes a figure, and returns the Axes."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @property
    def _info(self) -> TraceInfo | None:
        return self._trace.info if len(self._trace.sources) == 1 else None

    def ecdf(self, ax: Axes | None = None, **kwargs: Any) -> Axes:
        """The share of threads whose setup window, and whose exposure, lasted at most so long."""
        from sigwindow.analysis import plots

        return plots.ecdf(self._trace.analysis, ax, self._info, **kwargs)

    def histogram(self, ax: Axes | None = None) -> Axes:
        """How many threads had a setup window, and an exposure, of which length."""
        from sigwindow.analysis import plots

        return plots.histogram(self._trace.analysis, ax, self._info)

    def timeline(self, ax: Axes | None = None) -> Axes:
        """Each thread from its birth: not exposed, exposed, ready."""
        from sigwindow.analysis import plots

        return plots.timeline(self._trace.analysis, ax, self._info)

    def signals(self, ax: Axes | None = None) -> Axes:
        """Which signals could reach which process or thread."""
        from sigwindow.analysis import plots

        return plots.signals(self._trace.analysis, ax, self._info)

    def rate(self, ax: Axes | None = None) -> Axes:
        """Births a second, and the exposure they led to."""
        from sigwindow.analysis import plots

        return plots.rate(self._trace.analysis, ax, self._info)

    def compare(self, new: Trace, ax: Axes | None = None, labels: tuple[str, str] = ("base", "new")) -> Axes:
        """The setup times and verdicts of this trace, the base, beside those of another one."""
        from sigwindow.analysis import plots

        return plots.compare(self._trace.analysis, new.analysis, ax, labels, (self._info, new.plot._info))
