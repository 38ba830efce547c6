"""Reads one source of a table by its kind, makes its records as text, with the size and hash of what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from icplab.core.config import DATABASE_FILES, Source
from icplab.core.errors import Problem
from icplab.core.store import sha256_of
from icplab.intake.outline import Sheet
from icplab.intake.records import Records, read_delimited
from icplab.intake.sources.held import ending, read_bytes, unchanged
from icplab.intake.sources.packed import unpack
from icplab.intake.sources.rows import (
    Connections,
    driver_of_file,
    read_rows,
    rows_hash,
    selection_of,
)
from icplab.intake.sources.texts import read_parquet_text
from icplab.intake.sources.workbook import Merged, check_merged, read_workbook


@dataclass(frozen=True)
class Content:
    """The records of one source, and what it was that was read."""

    records: Records
    bytes: int
    sha256: str
    merged: tuple[Merged, ...] = field(default=())

    def check(self, sheet: Sheet, file: str, notes: list[Problem]) -> None:
        """What can be judged only when it is known which records hold data (ICP-E016: merged cells among them)."""
        check_merged(self.merged, sheet, file, notes)


def read_content(
    path: Path,
    name: str,
    table: str,
    source: Source,
    expected: Iterable[str],
    connections: Connections,
    notes: list[Problem],
) -> Content:
    """Records of one source.

    Parameters
    ----------
    path : the file; not looked at when the source is a table of a database
    name : what messages call it
    table : the canonical table it feeds
    source : how it is to be read
    expected : column names hoped for in the header (plain), which break ties between delimiters
    connections : open databases
    notes : receives repairs and warnings

    Raises
    ------
    BadInput
        What is wrong with it, with its code (catalogue cases 2 to 18).
    """
    if source.database:
        driver = connections.driver(source.database)
        return Content(*read_rows(driver, selection_of(source, name)))
    if ending(path) in DATABASE_FILES:
        return _from_database_file(path, name, source)
    packed = read_bytes(path, name)
    data, kind = unpack(packed, path.name, name)
    merged: tuple[Merged, ...] = ()
    if kind == ".parquet":
        records = read_parquet_text(data, name)
    elif kind == ".xlsx":
        records, merged = read_workbook(data, name, table, source, expected, notes)
    else:
        records = read_delimited(data, name, source, expected, notes)
    return Content(records, len(packed), hashlib.sha256(packed).hexdigest(), merged)


def content_hash(path: Path, name: str, source: Source, connections: Connections) -> str:
    """The hash that `read_content` would give. A file is only hashed; a database promises nothing, so it is read."""
    if source.database:
        return rows_hash(connections.driver(source.database), selection_of(source, name))
    return sha256_of(path)


def _from_database_file(path: Path, name: str, source: Source) -> Content:
    with unchanged(path, name):
        digest = sha256_of(path)
        driver = driver_of_file(path, name)
        try:
            records, _, _ = read_rows(driver, selection_of(source, name))
        finally:
            driver.close()
    return Content(records, path.stat().st_size, digest)
