"""Small batches of events, for tests that spell them out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from sigwindow.probes import events


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Events as a batch of the event table."""
    return events.batch_of_rows(rows)
