"""Tables of threads for other programs: one file a format, in which `Writer` writes them to an open file."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, BinaryIO, Protocol

from sigwindow.analysis.tables import TEXT, THREADS, VERDICT, Column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMATS = ("csv", "parquet")  # by the names of their files
BINARY = ("parquet",)  # those of them that are no text
_TRACE = Column("trace", TEXT, "the trace that the thread is of, as it was named")


class Writer(Protocol):
    """Writes tables of one schema, one after the other, as one file."""

    def write(self, table: pa.Table) -> None:
        """Write the next rows."""

    def close(self) -> None:
        """Write what the format has at its end; the file stays open."""


class Threads:
    """Thread tables of one trace or several, which become one file.

    form: one of FORMATS. file: where they go. several: whether there are several traces; then their names are a first
    column `trace`.
    """

    def __init__(self, form: str, file: BinaryIO, *, several: bool = False) -> None:
        self._several = several
        self._schema = schema((_TRACE, *THREADS) if several else THREADS)
        self._writer: Writer = import_module(f"{__name__}.{form}").Writer(file, self._schema)

    def write(self, threads: pd.DataFrame, trace: str) -> None:
        """Write the threads of a trace, or some of them."""
        import pyarrow as pa

        if self._several:
            threads = threads.assign(trace=trace)
        self._writer.write(pa.Table.from_pandas(threads, self._schema, preserve_index=False))

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()


def schema(table: tuple[Column, ...]) -> pa.Schema:
    """The Arrow schema of a result table, with what its columns mean and their units."""
    import pyarrow as pa

    verdict = pa.dictionary(pa.int8(), pa.string(), ordered=True)
    return pa.schema(
        pa.field(
            of.name,
            verdict if of.type is VERDICT else pa.type_for_alias(of.type.arrow),
            metadata={"meaning": of.meaning, "unit": of.type.unit},
        )
        for of in table
    )
