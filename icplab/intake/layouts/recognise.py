"""Reads the head of a file, makes what it is: an object of a CRM, a canonical table, or nothing known."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from icplab.core.schema import CANONICAL
from icplab.intake.layouts import hubspot, salesforce
from icplab.intake.layouts.declare import Object, plain
from icplab.intake.records import DELIMITERS, PEEKED_RECORDS, plain_name
from icplab.intake.sources import ending, sheet_heads

LARGEST_WORKBOOK = 64 << 20  # bytes; peeking at a larger one would cost as much as reading it
HEAD_BYTES = 1 << 20  # a header of a thousand long labels fits many times
OBJECTS: tuple[Object, ...] = (*salesforce.OBJECTS, *hubspot.OBJECTS)
SYSTEMS = {"salesforce": salesforce.OBJECTS, "hubspot": hubspot.OBJECTS}
_KNOWN = frozenset().union(*(o.known for o in OBJECTS))
_SNAKE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
HINT = 3  # what the usual file name counts for, in known columns


@dataclass(frozen=True)
class Recognition:
    """What a header says. `found` is None when nothing or several things fit; then `rivals` are those that do."""

    header: tuple[str, ...]
    found: Object | None = None
    rivals: tuple[Object, ...] = ()


def recognise(header: Iterable[str], file: str = "", system: str = "") -> Recognition:
    """The object whose signs the header holds and most of whose columns it has; the file name only tips the scale.

    `system` limits the search to one CRM. Two objects that fit equally well leave the choice to the user.
    """
    names = tuple(header)
    held = {plain(n) for n in names if n.strip()}
    # Salesforce never writes snake_case: `account_id` is somebody's own file, "Account ID" a report's label.
    labels = {plain(n) for n in names if n.strip() and not _SNAKE.fullmatch(n.strip())}
    seen = {o.title: labels if o.system == salesforce.SYSTEM else held for o in SYSTEMS.get(system, OBJECTS)}
    fits = [
        o
        for o in SYSTEMS.get(system, OBJECTS)
        if any(s <= seen[o.title] for s in o.signs) and not (o.without & seen[o.title])
    ]
    scores = {o.title: len(o.known & held) + HINT * _named_so(file, o) for o in fits}
    fits.sort(key=lambda o: -scores[o.title])
    if not fits or (len(fits) > 1 and scores[fits[0].title] == scores[fits[1].title]):
        return Recognition(names, None, tuple(fits))
    return Recognition(names, fits[0])


def recognise_file(path: Path, system: str = "") -> Recognition:
    """What a file is by its header; a file whose header cannot be seen is nothing."""
    return recognise(header_of(path), path.name, system)


def header_of(path: Path) -> tuple[str, ...]:
    """The column names of a file: of its first records, the one that has most names known from any layout."""
    read = _HEADS.get(ending(path), _text_rows)
    try:
        rows = read(path)
    except Exception:  # a damaged file is named when it is read; here it is only not recognised
        return ()
    best = max(rows, key=lambda row: (_known(row), len(row)), default=[])
    return tuple(best) if _known(best) > 1 else ()


def is_canonical(header: Iterable[str], table: str) -> bool:
    """Whether a header holds all required columns of a table under their canonical names, in any spelling."""
    held = {plain_name(n) for n in header}
    required = [c for c in CANONICAL[table].required_columns if c != "status"]
    return all(plain_name(c) in held for c in required)


def canonical_tables(header: Iterable[str]) -> list[str]:
    """Tables whose required columns a header holds."""
    names = tuple(header)
    return [t for t in CANONICAL if len(CANONICAL[t].required_columns) > 1 and is_canonical(names, t)]


def _named_so(file: str, candidate: Object) -> bool:
    """Whether a file is called as such exports usually are, but for numbers."""
    stem = re.sub(r"[\d\s_()-]+$", "", Path(file).stem.lower())
    return stem in candidate.files


def _known(row: list[str]) -> int:
    return sum(plain(c) in _KNOWN or plain_name(c) in _CANONICAL_NAMES for c in row if c)


_CANONICAL_NAMES = frozenset(plain_name(c) for t in CANONICAL.values() for c in t.by_name)


def _text_rows(path: Path) -> list[list[str]]:
    with path.open("rb") as stream:
        return _split(stream.read(HEAD_BYTES))


def _gzip_rows(path: Path) -> list[list[str]]:
    import gzip

    with gzip.open(path) as stream:
        return _split(stream.read(HEAD_BYTES))


def _zip_rows(path: Path) -> list[list[str]]:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        entries = [e for e in archive.infolist() if ending(e.filename) in (".csv", ".tsv", ".txt")]
        if len(entries) != 1:
            return []
        with archive.open(entries[0]) as stream:
            return _split(stream.read(HEAD_BYTES))


def _workbook_rows(path: Path) -> list[list[str]]:
    """The first rows of every sheet; a report exported as a workbook has one."""
    if path.stat().st_size > LARGEST_WORKBOOK:
        return []
    heads = sheet_heads(path.read_bytes(), path.name)
    return [[cell.strip() for cell in row] for rows in heads.values() for row in rows]


def _parquet_rows(path: Path) -> list[list[str]]:
    import pyarrow.parquet as pq

    return [list(pq.read_schema(path).names)]


_HEADS: dict[str, Callable[[Path], list[list[str]]]] = {
    ".parquet": _parquet_rows,
    ".xlsx": _workbook_rows,
    ".csv.gz": _gzip_rows,
    ".tsv.gz": _gzip_rows,
    ".txt.gz": _gzip_rows,
    ".zip": _zip_rows,
    **dict.fromkeys((".duckdb", ".db", ".sqlite", ".sqlite3"), lambda path: []),
}


def _split(data: bytes) -> list[list[str]]:
    """The first records of a text under every delimiter, whatever its encoding: only names are looked at here."""
    text = _text(data)
    return [row for d in DELIMITERS for row in _first_records(text, d)]


def _text(data: bytes) -> str:
    """The head as text, whatever its encoding: only names are looked at, reading it properly comes later."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if data[:200].count(0) > len(data[:200]) // 3:
        return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le", "replace")
    return data.decode("utf-8-sig", "replace")


def _first_records(text: str, delimiter: str) -> list[list[str]]:
    """The first records under a delimiter, split leniently."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            rows.append([cell.replace("\u00a0", " ").strip() for cell in row])
            if len(rows) == PEEKED_RECORDS:
                break
    except csv.Error:  # a giant cell or a stray carriage return: what was split so far is enough
        pass
    return rows
