"""The options that several commands have, in groups: a command gets each group as one object with typed fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import click

from sigwindow.analysis.question import ONE_OF_THEM, Question
from sigwindow.analysis.tables import BAD
from sigwindow.collector import files
from sigwindow.collector.backends import BACKENDS
from sigwindow.probes.errors import UsageError

from . import completion

if TYPE_CHECKING:
    from sigwindow.capture import Request

_F = TypeVar("_F", bound=Callable[..., Any])
_QUIET = "Say nothing on standard error but errors: no progress, no hints."
PATH = click.Path(path_type=Path, dir_okay=False)


def file_or_none(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """The file that an option names; none where that is standard output, `-`."""
    return None if str(path) == "-" else path


class _Bytes(click.ParamType[int]):
    """A size such as 65536, 64K or 16M."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        if isinstance(value, int):
            return value
        digits, unit = (value[:-1], value[-1].upper()) if value[-1:].isalpha() else (value, "")
        if not digits.isdigit() or unit not in ("", "K", "M", "G") or not int(digits):
            self.fail(f"{value!r} is not a size: write for example 64K or 16M", param, ctx)
        return int(digits) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


class _Duration(click.ParamType[int]):
    """A duration such as 20us or 5m, in nanoseconds; of_seconds: numbers without a unit are seconds."""

    name = "DURATION"

    def __init__(self, *, of_seconds: bool = False) -> None:
        self._of_seconds = of_seconds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of nanoseconds. Raises UsageError for what is no duration."""
        from sigwindow.analysis.words import parse_duration

        bare = self._of_seconds and re.fullmatch(r"[\d.]+", value)
        return value if isinstance(value, int) else parse_duration(f"{value}s" if bare else value)


DURATION = _Duration(of_seconds=True)


class _Option:
    """In the annotation of a field of a group: the option that fills it, as `click.option` takes it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names = names
        self.settings = settings


def _group(argument: str, group: type[Any]) -> Callable[[_F], _F]:
    """A decorator that gives a command the options of a group, as an object of it in the argument of that name."""
    declared = {name: of.__metadata__[0] for name, of in get_type_hints(group, include_extras=True).items()}

    def decorate(command: _F) -> _F:
        @wraps(command)
        def grouped(*arguments: Any, **values: Any) -> Any:
            given = {name: values.pop(name) for name in declared}
            return command(*arguments, **values, **{argument: group(**given)})

        decorated: Any = grouped
        for name, of in reversed(declared.items()):
            decorated = click.option(*of.names, name, **of.settings)(decorated)
        return decorated  # type: ignore[no-any-return]  # click hangs its options on the function, and returns it

    return decorate


def question(command: _F) -> _F:
    """The decorator that gives a command the argument `question`: the policy, and the signals that count."""

    @wraps(command)
    def asked(*arguments: Any, ready: str, signals: str, **values: Any) -> Any:
        return command(*arguments, **values, question=Question.parse(ready, signals))

    decorated: Any = click.option(
        "--signals",
        default="async",
        show_default=True,
        shell_complete=completion.signals,
        help="Signals that count: async, all, or names separated by commas.",
    )(asked)
    return click.option(  # type: ignore[no-any-return]  # as above
        "--ready",
        default="auto",
        show_default=True,
        metavar="POLICY",
        shell_complete=completion.policies,
        help=f"When a thread is ready: {ONE_OF_THEM}.",
    )(decorated)


@dataclass(frozen=True)
class CaptureOptions:
    """How `run` and `attach` record."""

    output: Annotated[
        Path | None,
        _Option(
            "-o",
            "--output",
            type=PATH,
            help="The trace (.arrows); by default sigwindow-NAME-PID-TIME.arrows in the working directory.",
        ),
    ]
    no_trace: Annotated[bool, _Option("--no-trace", is_flag=True, help="Keep no trace, only say what happened.")]
    duration_ns: Annotated[
        int | None,
        _Option("--duration", type=DURATION, help="Stop tracing after this time, as in 5m."),
    ]
    backend: Annotated[
        str,
        _Option(
            "--backend",
            type=click.Choice(["auto", *BACKENDS]),
            default="auto",
            show_default=True,
            help="What records the events.",
        ),
    ]
    live: Annotated[
        bool, _Option("--live/--no-live", default=True, show_default=True, help="Show what happens meanwhile.")
    ]
    stacks: Annotated[bool, _Option("--stacks", is_flag=True, help="Record the creator's user stack at every birth.")]
    buffer_bytes: Annotated[
        int,
        _Option("--buffer", type=_Bytes(), default="16M", show_default=True, help="Size of the kernel's ring buffer."),
    ]
    status_fd: Annotated[
        int | None,
        _Option(
            "--status-fd",
            type=click.IntRange(min=1),
            metavar="N",
            help="Tell a program that started this one how it goes, as JSON lines on this file descriptor.",
        ),
    ]

    def request(self, question: Question, answering: AnswerOptions, *, follow: bool) -> Request:
        """What to capture, but for the command or the processes."""
        from sigwindow.capture import Request

        if self.duration_ns == 0:
            raise click.UsageError("--duration 0 would trace nothing")
        if self.no_trace and self.output:
            raise click.UsageError("-o and --no-trace contradict each other")
        return Request(
            output=self.output,
            keep=not self.no_trace,
            force=answering.force,
            duration_s=self.duration_ns and self.duration_ns / 1e9,
            backend=self.backend,
            question=question,
            follow=follow,
            stacks=self.stacks,
            buffer_bytes=self.buffer_bytes,
        )


def _fail_on(*more: str) -> _Option:
    """The gate by verdict; `more`: what it takes besides."""
    return _Option(
        "--fail-on",
        type=click.Choice([*reversed(BAD), "lossy", *more]),
        help="Exit with 1 where a thread has this verdict or a worse one, with 4 where losses leave it open.",
    )


@dataclass(frozen=True)
class AnswerOptions:
    """What a command answers beside what it shows: JSON, and gates."""

    json_file: Annotated[
        Path | None,
        _Option(
            "--json",
            type=click.Path(path_type=Path, allow_dash=True),
            help="Write the answer as JSON to this file (- for standard output).",
        ),
    ]
    fail_on: Annotated[str | None, _fail_on()]
    max_exposure_ns: Annotated[
        int | None,
        _Option(
            "--max-exposure",
            type=_Duration(),
            help="Exit with 1 where a ready thread was exposed for longer, as in 20us.",
        ),
    ]
    min_threads: Annotated[
        int | None,
        _Option(
            "--min-threads",
            type=click.IntRange(min=0),
            metavar="N",
            help="Exit with 4 where a gate would judge fewer threads than that; by default 1.",
        ),
    ]
    junit: Annotated[
        Path | None,
        _Option("--junit", type=PATH, metavar="FILE", help="Write the gates' outcomes as a JUnit file."),
    ]
    force: Annotated[bool, _Option("--force", is_flag=True, help="Overwrite files that exist.")]
    quiet: Annotated[bool, _Option("-q", "--quiet", is_flag=True, help=_QUIET)]

    @property
    def json_to_stdout(self) -> bool:
        """Whether the JSON goes to standard output."""
        return str(self.json_file) == "-"


@dataclass(frozen=True)
class ComparisonOptions(AnswerOptions):
    """The same where two traces are compared."""

    fail_on: Annotated[str | None, _fail_on("regression")]


capturing = _group("capturing", CaptureOptions)
answering = _group("answering", AnswerOptions)
answering_comparison = _group("answering", ComparisonOptions)
quiet = click.option("-q", "--quiet", is_flag=True, help=_QUIET)
force = click.option("--force", is_flag=True, help="Overwrite files that exist.")
last = click.option(
    "--last", is_flag=True, help="Take the newest trace that `run` or `attach` kept in the working directory."
)


def named(traces: Sequence[str], last: bool, *, two: bool = False) -> list[str]:
    """The traces that a command line names; with `--last` the newest one that was kept, which nobody need name.

    two: a base is named, and a trace to compare with it. Raises UsageError where `--last` and the names don't fit.
    """
    if last and len(traces) != two:
        raise click.UsageError("--last stands for a trace: give it, or name the trace")
    found = [*traces, *([str(files.last_kept())] if last else [])]
    if two and len(found) != 2:
        raise click.UsageError("name two traces, BASE and NEW, or BASE and --last")
    if not found:
        raise click.UsageError("name a trace, or give --last")
    return found


def _rates(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The same texts. Raises UsageError, before any work, for those that are right for a trace of no system."""
    if texts:
        from sigwindow.analysis.risk import parse_rates
        from sigwindow.probes.signals import FREEBSD

        try:
            parse_rates(texts, FREEBSD)
        except UsageError:
            parse_rates(texts)
    return texts


rates = click.option(
    "--rate",
    "rates",
    callback=_rates,
    multiple=True,
    metavar="SIGNAL=HZ",
    shell_complete=completion.rates,
    help="Tell the risk at so many signals a second to an exposed thread, as in SIGPROF=100.",
)
