"""CSV, for spreadsheets, too: no text of the traced world becomes a formula there."""

from __future__ import annotations

from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sigwindow.probes.text import printable

_FORMULA = "^[=+@\\-\t\r]"  # what a spreadsheet takes for one


class Writer:
    """Writes tables of one schema, one after the other, as one CSV file with a header."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._writer = pa.csv.CSVWriter(file, schema)

    def write(self, table: pa.Table) -> None:
        """Write the next rows."""
        self._writer.write(_without_formulas(table))

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self._writer.close()


def _without_formulas(table: pa.Table) -> pa.Table:
    """The table with an apostrophe before every text that a spreadsheet would run as a formula."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = table.column(place).combine_chunks().dictionary_encode()
            texts = pa.array(map(printable, column.dictionary.to_pylist()), pa.string())
            escaped = pc.replace_substring_regex(texts, _FORMULA, r"'\0").take(column.indices)
            table = table.set_column(place, field, escaped)
    return table
