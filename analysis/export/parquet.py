"""Parquet: the columns with their types, and what they mean in their metadata."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


class Writer:
    """Writes tables of one schema, one after the other, as one Parquet file."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file, self._schema = file, schema
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Write the next rows; what the first ones say for pandas holds for all."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the file's end; the file stays open."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, self._schema)
        self._writer.close()
