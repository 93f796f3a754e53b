"""From a session to those who want its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Sink: TypeAlias = "Callable[[pa.RecordBatch], object]"


def pump(session: Iterable[pa.RecordBatch], sinks: Sequence[Sink]) -> None:
    """Give every batch to every sink, until the session ends.

    The sinks get it in their order: with the engine first, those behind it may ask what it says of this batch.
    """
    for batch in session:
        for sink in sinks:
            sink(batch)
