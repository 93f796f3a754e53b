"""How far a command is: a bar on standard error, where that is a terminal; it is gone when all is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


def shown(*, quiet: bool = False) -> Progress:
    """Bars that are shown within a block."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_interactive)


def each(bar: Progress, names: Sequence[str]) -> Iterator[tuple[str, Callable[[int, int], object]]]:
    """Files one by one, each with something to tell how many of its bytes are read, and how many there are."""
    for number, name in enumerate(names, 1):
        task = bar.add_task(f"trace {number} of {len(names)}", total=None)
        yield name, partial(_advance, bar, task)
        bar.remove_task(task)


def _advance(bar: Progress, task: TaskID, done: int, size: int) -> None:
    bar.update(task, completed=done, total=size)
