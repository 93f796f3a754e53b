"""What a shell offers to complete. The shell asks by `_SIGWINDOW_COMPLETE` (docs/install.md): a process each time."""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from sigwindow.analysis.question import VALUES


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Whatever files there are: the shell knows them best."""
    return [CompletionItem(incomplete, type="file")]


def policies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The values of `--ready`."""
    return _beginning(incomplete, ((value.removesuffix("NAME"), None) for value in VALUES))


def signals(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The values of `--signals`; in a list, names behind the last comma."""
    before, comma, begun = incomplete.rpartition(",")
    words = _signal_names() if comma else ["async", "all", *_signal_names()]
    return _beginning(begun, ((word, None) for word in words), before + comma)


def rates(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The beginnings of `--rate`."""
    return _beginning(incomplete, ((f"{name}=", None) for name in _signal_names()))


def processes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The processes there are, with their names."""
    from sigwindow.collector import procfs

    return _beginning(incomplete, ((str(pid), name) for pid, name in procfs.processes()))


def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the processes there are."""
    from sigwindow.collector import procfs

    return _beginning(incomplete, ((name, None) for name in sorted({name for _, name in procfs.processes()})))


def _signal_names() -> list[str]:
    from sigwindow.probes.signals import LINUX_COUNT, name

    return [name(signal) for signal in range(1, LINUX_COUNT + 1)]


def _beginning(begun: str, words: Iterable[tuple[str, str | None]], before: str = "") -> list[CompletionItem]:
    """Of words, each with what it means, those that begin so. before: what stands before them in the same argument."""
    return [CompletionItem(before + word, help=meaning) for word, meaning in words if word.startswith(begun)]
