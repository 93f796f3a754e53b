"""What a live session is, whatever records it: opened on a target, it gives batches until it ends.

In `with backend.open(target, options) as session` the session has begun: nothing can be missed any more, and a command
to run is running. At the end of the block all that was started is gone again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from sigwindow.probes.traceinfo import TraceInfo

DEFAULT_BUFFER_BYTES = 16 << 20


class Ability(Enum):
    """What not every back end can, in the words that users type. Each can run a command and trace all of it."""

    ATTACH = "attach"
    SEVERAL = "several processes"
    EVERYTHING = "--all"
    STACKS = "--stacks"
    MARK = "--ready symbol:NAME"


@dataclass(frozen=True)
class Target:
    """What to trace: a command to run, or processes by their ids, or everything."""

    argv: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    everything: bool = False


@dataclass(frozen=True)
class Options:
    """How to trace.

    follow: descendants of the target, too. stacks: the creator's stack at every birth. mark: the function whose return
    is the readiness mark. buffer_bytes: the kernel's ring buffer, where there is one. duration_s: when to stop.
    """

    follow: bool = True
    stacks: bool = False
    mark: str = ""
    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    duration_s: float | None = None


def wanted(target: Target, options: Options) -> frozenset[Ability]:
    """What a back end must be able to do."""
    asked = {
        Ability.ATTACH: not target.argv,
        Ability.SEVERAL: len(target.pids) > 1,
        Ability.EVERYTHING: target.everything,
        Ability.STACKS: options.stacks,
        Ability.MARK: bool(options.mark),
    }
    return frozenset(ability for ability, is_asked in asked.items() if is_asked)


class Session(Protocol):
    """A capture that has begun. Iterate over it, once, for the batches in order of time; empty ones come as well.

    info: what its trace says of itself. pid: the command's process, which gets a terminal's signals itself; None where
    there is no command, or it is the tracer's child.
    """

    info: TraceInfo
    pid: int | None

    @property
    def status(self) -> int | None:
        """The command's exit status once it has ended, 128 + N where signal N ended it."""

    def fill(self) -> float:
        """How full the buffer is, from 0 to 1."""

    def lost(self) -> int:
        """How many events were lost up to the last batch."""

    def stop(self) -> None:
        """End the session at its next poll; what was recorded is still given. May be called by a signal handler."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The events, up to the end of what is traced, to `stop()`, or to the duration asked for."""
