"""Reads a SQLite file with the standard library, makes rows of text; nothing can be written or attached."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from icplab.core.errors import BadInput, Problem, nearest
from icplab.intake.sources.rows import ROWS_AT_ONCE, Selection, quoted_name, split_name, text_batch
from icplab.intake.sources.texts import not_plain, value_text

if TYPE_CHECKING:
    import pyarrow as pa

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_STEPS_BETWEEN_LOOKS = 100_000


def open_sqlite(path: Path, name: str, timeout_seconds: int = 300) -> SqliteDriver:
    """Open a SQLite file for reading only."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        tables = [t for (t,) in connection.execute("select name from sqlite_master where type in ('table', 'view')")]
    except (sqlite3.Error, UnicodeError) as error:
        raise BadInput(Problem("ICP-E014", "is not a readable SQLite file", "make a new copy", name)) from error
    connection.execute("pragma trusted_schema = off")
    connection.set_authorizer(_only_reading)
    return SqliteDriver(connection, sorted(tables), timeout_seconds)


class SqliteDriver:
    """One SQLite file."""

    def __init__(self, connection: sqlite3.Connection, tables: list[str], timeout_seconds: int) -> None:
        self._connection, self._tables, self._timeout = connection, tables, timeout_seconds
        self._cursor = connection.cursor()

    def columns(self, selection: Selection) -> list[str]:
        """Names of the columns. ICP-E001 no such table, E005 more than reading, E100 the query is wrong."""
        if selection.table and split_name(selection.table)[-1] not in self._tables:
            hint = nearest(selection.table, self._tables)
            message = f"has no such table{hint}; it has {', '.join(self._tables[:10]) or 'none'}"
            raise selection.stop("ICP-E001", message, "correct table in [sources]", value=selection.table)
        end = time.monotonic() + self._timeout
        self._connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
        try:
            self._cursor.execute(selection.query or f"select * from {quoted_name(selection.table)}")
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
            raise _explained(error, selection) from error
        return [d[0] for d in self._cursor.description]

    def batches(self, selection: Selection) -> Iterator[pa.Table]:
        """Rows as text; the statement was started by `columns`."""
        names = [d[0] for d in self._cursor.description]
        try:
            while rows := self._cursor.fetchmany(ROWS_AT_ONCE):
                _refuse_bytes(names, rows, selection)
                yield text_batch(names, rows, value_text)
        except (sqlite3.Error, UnicodeError) as error:
            raise _explained(error, selection) from error

    def close(self) -> None:
        self._connection.close()


def _only_reading(action: int, *_: object) -> int:
    """What a statement may do: select, and nothing else."""
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _refuse_bytes(names: list[str], rows: list[tuple], selection: Selection) -> None:
    for row in rows:
        for name, value in zip(names, row, strict=True):
            if isinstance(value, bytes):
                raise not_plain("blob", name, selection.name)


def _explained(error: Exception, selection: Selection) -> BadInput:
    """An error of SQLite in the words of the intake."""
    said = str(error)
    if said == "interrupted":
        return selection.stop("ICP-E006", "took longer than timeout_seconds allows", "ask for less, or raise it")
    if "not authorized" in said or "prohibited" in said or "one statement" in said:
        return selection.stop("ICP-E100", "is more than one SELECT", "write a query that only reads")
    if "decode" in said:
        return selection.stop("ICP-E009", "holds text that is not UTF-8", "export it as CSV and declare its encoding")
    if "malformed" in said or "not a database" in said or "disk" in said:
        return selection.stop("ICP-E014", f"is damaged: {said}", "make a new copy")
    return selection.stop("ICP-E100", f"cannot be asked this: {said}", "correct the query in [sources]")
