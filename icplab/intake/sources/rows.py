"""Reads a table or a query of a database through a driver, makes its rows as text, in an order of their own.

A database promises no order of rows. They are sorted by their text here, so that the number of a record in a message and
the hash of the content depend on nothing but the content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from icplab.core.config import Database, Settings, Source
from icplab.core.errors import BadInput, Problem
from icplab.intake.records import Records
from icplab.intake.sources import held

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 20_000
_SQLITE_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class Selection:
    """What is read of a database: a whole table or one query."""

    table: str
    query: str
    name: str  # for messages, such as "crm: public.deals"

    def stop(self, code: str, message: str, fix: str, *, column: str = "", value: str = "") -> BadInput:
        return BadInput(Problem(code, message, fix, self.name, column=column, value=value))


class Driver(Protocol):
    """An open database. Opening one never writes, and all it gives is one version of the data."""

    def columns(self, selection: Selection) -> list[str]:
        """Names of the columns that a selection has; starts it."""

    def batches(self, selection: Selection) -> Iterator[pa.Table]:
        """The rows of the selection as text, in parts of at most `ROWS_AT_ONCE`; empty text for null."""

    def close(self) -> None:
        """Give the connection back."""


class Connections:
    """The databases of a workspace, each opened once, when first asked for; to be used in a `with` block."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: dict[str, Driver] = {}

    def __enter__(self) -> Connections:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for driver in self._open.values():
            driver.close()
        self._open.clear()

    def driver(self, name: str) -> Driver:
        """The database of [databases.<name>]. ICP-E001, E005, E100 when it cannot be opened."""
        if name not in self._open:
            self._open[name] = _connect(name, self._settings.databases[name])
        return self._open[name]


def selection_of(source: Source, name: str) -> Selection:
    return Selection(source.table, source.query.strip().rstrip(";").strip(), name)


def source_name(source: Source) -> str:
    """How messages and the ledger call a table or query of a database."""
    return f"{source.database}: {source.table or 'query'}"


def read_rows(driver: Driver, selection: Selection) -> tuple[Records, int, str]:
    """All rows as records, the bytes of their text, and its hash."""
    from icplab.intake.sources.texts import records_of_table

    table = _sorted(_whole(driver, selection))
    return records_of_table(table), table.nbytes, _hash(table)


def rows_hash(driver: Driver, selection: Selection) -> str:
    """Hash of the content of a selection: its column names and its rows in any order."""
    return _hash(_sorted(_whole(driver, selection)))


def driver_of_file(path: Path, name: str) -> Driver:
    """A DuckDB or SQLite file, told apart by its first bytes, opened for reading only.

    Raises
    ------
    BadInput
        ICP-E014 neither of the two; E018 another program is writing into it.
    """
    with open(path, "rb") as handle:
        head = handle.read(16)
    for beside in (".wal", "-wal", "-journal"):
        journal = path.with_name(path.name + beside)
        if journal.exists() and journal.stat().st_size:
            message = f"is being written by another program: {journal.name} stands beside it"
            raise BadInput(Problem("ICP-E018", message, "close that program, or make a copy with it", name))
    if head == _SQLITE_MAGIC:
        from icplab.intake.sources.sqlite import open_sqlite

        return open_sqlite(path, name)
    if head[8:12] == b"DUCK":
        from icplab.intake.sources.duck import open_duckdb

        return open_duckdb(path, name)
    raise BadInput(Problem("ICP-E014", "is neither a DuckDB nor a SQLite file", "export the table as Parquet", name))


def split_name(table: str) -> list[str]:
    """The parts of `schema.table`; a part with a point in it stands in double quotes."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^.]+)', table)
    return [quoted.replace('""', '"') or plain for quoted, plain in parts]


def quoted_name(table: str) -> str:
    """A table name as SQL, every part quoted, so that it can be nothing but a name."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in split_name(table))


def text_batch(columns: list[str], rows: list[tuple], text: Callable[[object], str]) -> pa.Table:
    """Rows as a table of text."""
    import pyarrow as pa

    arrays = [pa.array([text(r[i]) for r in rows], pa.large_string()) for i in range(len(columns))]
    return pa.table(arrays, names=columns)


def _connect(name: str, database: Database) -> Driver:
    """Open the database that an environment variable names; the connection string is never repeated."""
    url = os.environ.get(database.url_env, "")
    where = f"databases.{name}"

    def stop(code: str, message: str, fix: str) -> BadInput:
        return BadInput(Problem(code, message, fix, "icplab.toml", column=where, value=database.url_env))

    if not url:
        fix = f"set it before starting, such as: export {database.url_env}=postgresql://user@host/database"
        raise stop("ICP-E001", "is an environment variable that is not set", fix)
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        from icplab.intake.sources.postgres import open_postgres

        return open_postgres(url, name, database.timeout_seconds)
    if scheme == "sqlite":
        from icplab.intake.sources.sqlite import open_sqlite

        path = Path(unquote(urlsplit(url).path))
        if not path.is_file():
            raise stop("ICP-E001", "names a SQLite file that is not there", "write sqlite:////folder/file.db")
        return open_sqlite(path, name, database.timeout_seconds)
    raise stop(
        "ICP-E100", "does not hold a connection string that is understood", "write postgresql://… or sqlite:///…"
    )


def _whole(driver: Driver, selection: Selection) -> pa.Table:
    """All rows of a selection."""
    import pyarrow as pa

    names = driver.columns(selection)
    parts, size = [], 0
    for part in driver.batches(selection):
        parts.append(part)
        size += part.nbytes
        if size > held.LARGEST_FILE:
            limit = f"gives more than the limit of {held.LARGEST_FILE >> 30} GB of text"
            raise selection.stop("ICP-E006", limit, "choose columns and rows with a query")
    if not parts:
        return pa.table([pa.array([], pa.large_string())] * len(names), names=names)
    return pa.concat_tables(parts)


def _sorted(table: pa.Table) -> pa.Table:
    """Rows in the order of their text, column by column."""
    keyed = table.rename_columns([str(i) for i in range(table.num_columns)])  # two columns may have one name
    order = keyed.sort_by([(name, "ascending") for name in keyed.column_names])
    return order.combine_chunks().rename_columns(table.column_names)


def _hash(table: pa.Table) -> str:
    """SHA-256 over names, lengths and bytes of the text."""
    digest = hashlib.sha256(json.dumps([table.column_names, table.num_rows]).encode())
    for column in table.columns:
        for chunk in column.chunks:
            _, offsets, content = chunk.buffers()
            digest.update(offsets)
            digest.update(content or b"")
    return digest.hexdigest()
