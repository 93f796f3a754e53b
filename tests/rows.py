"""Small batches of events, for tests that spell them out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sigwindow.probes import events


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    """Events as a batch of the event table."""
    columns: dict[str, np.ndarray | pa.Array] = {}
    for name, arrow in zip(events.SCHEMA.names, events.SCHEMA.types, strict=True):
        if name == "kind":
            columns[name] = np.array([events.CODE[row[name]] for row in rows], np.uint8)
        elif arrow == pa.string():
            columns[name] = pa.array([row.get(name, "") for row in rows], arrow)
        else:
            columns[name] = np.array([row.get(name, 0) for row in rows], arrow.to_pandas_dtype())
    return events.batch_of(columns)
