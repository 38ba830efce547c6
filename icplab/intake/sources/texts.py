"""Reads typed values (Arrow columns, numbers, dates), makes the text a person would write for them.

Every kind of source gives the same text for the same value: whole numbers without a decimal point, ISO dates, true and
false, times only where there is one.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from icplab.core.errors import BadInput, Problem
from icplab.intake.records import Records

if TYPE_CHECKING:
    import pyarrow as pa

EXACT_WHOLE = 2**53  # whole numbers up to here are exact in a float


def read_parquet_text(data: bytes, file: str) -> Records:
    """Records of a Parquet file, every value as text, the column names as record 0 (line 0)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:  # damage shows in any of these ways
        raise BadInput(Problem("ICP-E014", "is not a readable Parquet file", "write it again", file)) from error
    return records_of_table(text_table(table, file))


def text_table(table: pa.Table, file: str) -> pa.Table:
    """A table whose values are all text. ICP-E014 for columns of lists, structures or bytes."""
    import pyarrow as pa

    columns = [arrow_text(c, name, file) for name, c in zip(table.column_names, table.columns, strict=True)]
    return pa.table(columns, names=table.column_names)


def arrow_text(column: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    """An Arrow column as text; null becomes empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    kind = column.type
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.array([""] * len(column), pa.large_string())])
    try:
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise pa.ArrowNotImplementedError
        text = pc.fill_null(pc.cast(column, pa.large_string()), "")
    except pa.ArrowException as error:
        raise not_plain(str(kind), name, file) from error
    if pa.types.is_timestamp(kind):
        text = pc.replace_substring_regex(text, r"\.0+([+-]|Z|$)", r"\1")
        text = text if kind.tz else pc.replace_substring_regex(text, " 00:00:00$", "")
    return text


def not_plain(kind: str, name: str, file: str) -> BadInput:
    """A column that holds something other than text, numbers, dates and flags."""
    message = f"has a column of type {kind}, which is not a plain value"
    return BadInput(
        Problem("ICP-E014", message, "give plain text, numbers and dates, or leave it out", file, column=name)
    )


def records_of_table(table: pa.Table) -> Records:
    """Records of a table of text: the column names as record 0; no record has a line."""
    columns = {
        i: pd.concat([pd.Series([name], dtype="str"), column.to_pandas().astype("str")], ignore_index=True)
        for i, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True))
    }
    cells = pd.DataFrame(columns)
    return Records(cells, np.full(len(cells), cells.shape[1]), np.zeros(len(cells), dtype=int), iso_dates=True)


def value_text(value: object) -> str:
    """One value as text: a number, flag, date, time or word as a spreadsheet or a driver gives it."""
    write = _WRITERS.get(type(value), str)
    return write(value)  # whole numbers, dates and times write themselves in ISO


def number_text(value: float) -> str:
    """A number as it was typed: fifteen digits, as spreadsheets keep them; whole numbers exactly."""
    if not math.isfinite(value):
        return str(value)
    if value.is_integer() and abs(value) <= EXACT_WHOLE:
        return str(int(value))
    return f"{value:.15g}" if 1e-4 <= abs(value) < 1e15 else repr(value)


def _moment_text(value: dt.datetime) -> str:
    """Date and time to the millisecond, which is what the day number of a spreadsheet can tell; midnight is a date."""
    value = value.replace(microsecond=0) + dt.timedelta(milliseconds=round(value.microsecond / 1000))
    if value.time() == dt.time() and value.tzinfo is None:
        return value.date().isoformat()
    return value.isoformat(sep=" ", timespec="milliseconds" if value.microsecond else "seconds")


def _duration_text(value: dt.timedelta) -> str:
    seconds = round(value.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


_WRITERS: dict[type, Callable] = {
    str: lambda text: text,
    float: number_text,
    bool: lambda flag: "true" if flag else "false",
    dt.datetime: _moment_text,
    dt.timedelta: _duration_text,
    type(None): lambda nothing: "",
}
