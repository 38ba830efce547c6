"""Reads a large delimited file block by block, makes the same sheet as the careful reader; hands over what it is not sure of.

Blocks end at the end of a record, so each is read by itself, several at a time: the structure is scanned (every quote must
open and close a cell), pyarrow splits the records, and columns with few distinct words are coded. Records with a field too
many or too few are split by Python's csv module. The number of records split must equal the number of record ends that the
scan counted. Anything else (odd quotes, mixed line ends, an undecided delimiter, …) is left to the careful reader, which
says what is wrong.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pandas as pd

from icplab.core.config import Source
from icplab.core.errors import BadInput, Problem
from icplab.intake.coded import from_codes, is_coded, tidied
from icplab.intake.memory import give_back
from icplab.intake.outline import Sheet, classify, clean_names, count_kinds, header_among
from icplab.intake.plain import not_blank, pieces
from icplab.intake.records import (
    LARGEST_CELL,
    Records,
    beside_quotes,
    head_records,
    is_other_format,
    surest_delimiter,
    usable_delimiter,
)
from icplab.intake.sources.held import unchanged

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
# Tests read their small files in blocks too by setting this variable.
LEAST_BYTES = int(
    os.environ.get("ICPLAB_LARGE_BYTES", 8 << 20)
)  # below this the careful reader takes no time worth saving
BLOCK = 8 << 20  # bytes read at a time
FIRST = 8 << 20  # bytes of the first block, which decides the form of all and is read before others are begun
HEAD = 1 << 20  # bytes in which header and delimiter are looked for
SCANNED = 1 << 18  # bytes whose quotes and line feeds are looked for at a time
GIVEN_BACK = 16  # blocks after which freed memory goes back to the system
READERS = max(2, min(4, os.cpu_count() or 1))
CODED_SHARE = 0.25  # a column is coded when the first block has at most so many distinct words per record
IRREGULAR_SHARE = 0.01  # records with another number of fields, above which the careful reader takes over
LOOKED_AT = 200  # records at the start and at the end that are looked at one by one
MOST_LOOKED_AT = 20_000
QUIET_SECONDS = 2.0  # reading that takes longer shows how far it is


_NONE = np.zeros(0, dtype=np.int64)


class _Unsure(Exception):
    """The structure is not one that can be read in blocks without doubt."""


@dataclass(frozen=True)
class LargeFile:
    """A file read in blocks: its data records, and what the ledger needs to know."""

    sheet: Sheet
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Form:
    """How records are split: the delimiter, the header, and which columns are coded (None: not known yet)."""

    delimiter: str
    header: tuple[str, ...]
    coded: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class _Structure:
    """Record ends of a block by its bytes."""

    records: int
    lines: np.ndarray | None  # line on which each record starts, from 0 in the block; None: one line per record
    feeds: int
    ends: np.ndarray


@dataclass(frozen=True)
class _Block:
    columns: list[Any]  # Arrow text, or Arrow dictionaries of text
    structure: _Structure
    irregular: dict[int, list[str]]  # cells of records with another number of fields, by their place in the block
    mangled: int


@dataclass
class _Column:
    """One column on its way in: chunks of text, or of codes with their words."""

    chunks: list[Any] = field(default_factory=list)

    def add(self, part: Any) -> None:
        self.chunks.append(part)

    def series(self) -> pd.Series:
        """The column as pandas text, or coded with words in the order of their first appearance."""
        import pyarrow as pa

        chunks, self.chunks = self.chunks, []
        if isinstance(chunks[-1], pa.DictionaryArray):
            wide = [pa.DictionaryArray.from_arrays(c.indices.cast(pa.int32()), c.dictionary) for c in chunks]
            parts = pa.chunked_array(wide).unify_dictionaries().chunks
            codes = [p.indices.to_numpy(zero_copy_only=False) for p in parts]
            words = parts[0].dictionary.cast(pa.large_string())
            return from_codes(np.concatenate(codes), pd.array(words, dtype="str"))
        text = pa.large_string()
        whole = pa.concat_arrays([c.cast(text) for c in chunks])
        return pa.chunked_array([whole], type=text).to_pandas().astype("str")


def read_large(path: Path, file: str, source: Source, expected: set[str], notes: list[Problem]) -> LargeFile | None:
    """The data records of a large delimited file under their header, or None when the careful reader is to take it.

    Parameters
    ----------
    path : the file
    file : its name, for messages
    source : declared delimiter and encoding
    expected : column names hoped for in the header (plain)
    notes : receives repairs and warnings, only when the file is read
    """
    import pyarrow as pa

    utf8 = source.encoding.lower() in ("utf-8", "utf8")
    if source.database or not utf8 or path.suffix.lower() not in SUFFIXES:
        return None
    mine: list[Problem] = []
    try:
        if path.stat().st_size < LEAST_BYTES:
            return None
        with unchanged(path, file) as descriptor, open(descriptor, "rb", closefd=False) as stream:
            read = _read(stream, file, source, expected, mine)
    except (_Unsure, BadInput, OSError, csv.Error, UnicodeDecodeError, pa.ArrowInvalid):
        return None  # the careful reader tells what is wrong, or gets it right
    notes += mine
    give_back()
    return read


def _read(stream: BinaryIO, file: str, source: Source, expected: set[str], notes: list[Problem]) -> LargeFile:
    digest, size = hashlib.sha256(), os.fstat(stream.fileno()).st_size
    blocks = _blocks(stream, digest)
    first = _without_mark(next(blocks), file, notes)
    form = _form(first, file, source, expected, notes)
    columns = [_Column() for _ in range(len(form.header))]
    irregular: dict[int, list[str]] = {}
    lines: list[np.ndarray] = []
    records = feeds = mangled = 0
    for block in _parsed(first, blocks, form, _Progress(file, size)):
        for column, part in zip(columns, block.columns, strict=True):
            column.add(part)
        irregular |= {records + at: cells for at, cells in block.irregular.items()}
        found = block.structure
        start = np.arange(found.records) if found.lines is None else found.lines
        lines.append((start + (feeds + 1)).astype(np.int32))
        records, feeds, mangled = records + found.records, feeds + found.feeds, mangled + block.mangled
        if len(lines) % GIVEN_BACK == 0:
            give_back()
        if len(irregular) > max(LOOKED_AT, IRREGULAR_SHARE * records):
            raise _Unsure
    if mangled:
        message = 'text was decoded wrongly before the export ("Ã©" for "é")'
        notes.append(Problem("ICP-W010", message, "export again as UTF-8", file, count=mangled))
    series = {i: column.series() for i, column in enumerate(columns)}
    give_back()
    sheet = _outlined(series, form.header, np.concatenate(lines), irregular, file, expected, notes)
    return LargeFile(sheet, size, digest.hexdigest())


def _blocks(stream: BinaryIO, digest: Any) -> Iterator[bytes]:
    """Pieces of the file that end where a record ends."""
    rest, size = b"", min(FIRST, BLOCK)
    while piece := stream.read(size):
        size = BLOCK
        digest.update(piece)
        piece = rest + piece
        cut = _last_end(piece)
        if not cut and len(piece) > BLOCK + 2 * LARGEST_CELL:
            raise _Unsure
        if cut:
            yield piece[:cut]
        rest = piece[cut:]
    if rest:
        yield rest


def _last_end(data: bytes) -> int:
    """Where the last whole record ends, the line feed included; 0 when none does. `data` starts with a record."""
    quotes, end = np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord('"')), len(data)
    while True:
        feed = data.rfind(b"\n", 0, end)
        if feed < 0:
            return 0
        quotes -= data.count(b'"', feed, end)
        if quotes % 2 == 0:
            return feed + 1
        end = feed


def _without_mark(data: bytes, file: str, notes: list[Problem]) -> bytes:
    """The first block, which must look like text, without its byte-order mark."""
    if is_other_format(data) or re.match(rb'"?sep=', data[:5], re.IGNORECASE):
        raise _Unsure
    if data.startswith(b"\xef\xbb\xbf"):
        notes.append(Problem("ICP-R007", "byte-order mark removed", file=file))
        data = data[3:]
    return data


def _form(first: bytes, file: str, source: Source, expected: set[str], notes: list[Problem]) -> _Form:
    """Delimiter and number of fields, from the first records; unsure unless one delimiter is clearly best there."""
    head = first[: _last_end(first[:HEAD]) or None].replace(b"\r\n", b"\n")
    if source.delimiter and not usable_delimiter(source.delimiter):
        raise _Unsure
    delimiter = source.delimiter or surest_delimiter(head, expected, file, notes)
    header = header_among(head_records(head, delimiter), expected) if delimiter else []
    if len(header) < 2:
        raise _Unsure
    return _Form(delimiter, tuple(header))


def _parsed(first: bytes, blocks: Iterator[bytes], form: _Form, progress: _Progress) -> Iterator[_Block]:
    """Blocks in the order of the file, several being split at a time."""
    data, returns = _with_feeds(first)
    block = _some_coded(_split(data, form))
    coded = tuple(_is_dictionary(c) for c in block.columns)
    form = _Form(form.delimiter, form.header, coded)  # of all blocks: a column is coded in each of them or in none
    yield block
    progress.show(len(first))
    ahead: deque[tuple[int, Future[tuple[_Block, bool | None]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            while True:
                for piece in blocks:
                    ahead.append((len(piece), pool.submit(_take_block, piece, form)))
                    if len(ahead) > READERS:
                        break
                if not ahead:
                    break
                size, work = ahead.popleft()
                block, ended = work.result()
                if ended is not None and returns is not None and ended != returns:
                    raise _Unsure  # line ends are mixed
                returns = returns if ended is None else ended
                yield block
                progress.show(size)
        finally:
            pool.shutdown(cancel_futures=True)
            progress.clear()


def _take_block(data: bytes, form: _Form) -> tuple[_Block, bool | None]:
    data, returns = _with_feeds(data)
    return _split(data, form), returns


def _with_feeds(data: bytes) -> tuple[bytes, bool | None]:
    """The block with line feeds as line ends, and whether it had carriage returns before them (None: no line end)."""
    if b"\0" in data:
        raise _Unsure
    if b"\r" not in data:
        return data, False if b"\n" in data else None
    pairs = data.count(b"\r\n")
    if data.count(b"\r") != pairs or data.count(b"\n") != pairs:
        raise _Unsure
    return data.replace(b"\r\n", b"\n"), True


def _split(data: bytes, form: _Form) -> _Block:
    """Records of one block, by pyarrow, which codes as it splits; those with another number of fields by the csv module."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if not data.isascii():
        data.decode("utf-8")  # pyarrow would print a traceback for an odd record that is no UTF-8
    structure = _structure(data, form.delimiter)
    odd: list[int] = []

    def set_aside(row: Any) -> str:
        odd.append(row.number - 1)
        return "skip"

    names = [str(i) for i in range(len(form.header))]
    words = pa.dictionary(pa.int32(), pa.string())
    types = {
        n: words if coded else pa.string() for n, coded in zip(names, form.coded or [False] * len(names), strict=True)
    }
    table = pacsv.read_csv(
        pa.py_buffer(data),
        read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=len(data) + 1),
        parse_options=pacsv.ParseOptions(
            delimiter=form.delimiter,
            newlines_in_values=structure.lines is not None,
            ignore_empty_lines=False,
            double_quote=True,
            invalid_row_handler=set_aside,
        ),
        convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False, check_utf8=False),
    )
    if table.num_rows + len(odd) != structure.records or len(odd) > max(LOOKED_AT, structure.records // 4):
        raise _Unsure
    irregular = {at: _cells(data, structure.ends, at, form.delimiter) for at in odd}
    columns = [_whole(c) for c in table.columns]
    if irregular:
        columns = [_inserted(c, i, irregular) for i, c in enumerate(columns)]
    columns = [_narrow(c) if _is_dictionary(c) else c for c in columns]
    mangled = 0 if data.isascii() else len(re.findall(rb"\xc3\x83[\xc2\xc3]|\xc3\xa2\xe2\x82\xac", data))
    return _Block(columns, structure, irregular, mangled)


def _structure(data: bytes, delimiter: str) -> _Structure:
    """Ends of records: line feeds outside quotes. Every quote must open a cell, close it, or be doubled."""
    raw = np.frombuffer(data, dtype=np.uint8)
    lines = None
    if b'"' in data:
        marks = _quotes_and_feeds(raw)
        quoted = raw[marks] == ord('"')
        inside = np.cumsum(quoted, dtype=np.int32) & 1
        if inside[-1] or not beside_quotes(raw, marks[quoted], delimiter):
            raise _Unsure
        feeds, closed = marks[~quoted], inside[~quoted] == 0
        ends = feeds[closed]
        if len(ends) < len(feeds):
            lines = np.concatenate([[0], np.flatnonzero(closed) + 1])
    else:
        ends = feeds = np.flatnonzero(raw == ord("\n"))
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    elif lines is not None:
        lines = lines[:-1]
    if int(np.diff(ends, prepend=-1).max()) > LARGEST_CELL:
        raise _Unsure
    return _Structure(len(ends), lines, len(feeds), ends)


def _quotes_and_feeds(raw: np.ndarray) -> np.ndarray:
    """Places of quotes and line feeds, some bytes at a time: what is made on the way stays in the processor's cache."""
    found = [_NONE]
    for start in range(0, len(raw), SCANNED):
        piece = raw[start : start + SCANNED]
        mask = piece == ord('"')
        mask |= piece == ord("\n")
        found.append(np.flatnonzero(mask) + start)
    return np.concatenate(found)


def _cells(data: bytes, ends: np.ndarray, at: int, delimiter: str) -> list[str]:
    """Cells of one record."""
    start = int(ends[at - 1]) + 1 if at else 0
    text = data[start : int(ends[at])].decode("utf-8")
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _inserted(column: pa.Array, place: int, irregular: dict[int, list[str]]) -> pa.Array:
    """A column with the cells of irregular records at their places; empty where a record has no such field."""
    import pyarrow as pa

    cells = [c[place] if place < len(c) else "" for c in irregular.values()]
    order = np.insert(
        np.arange(len(column)),
        np.array(list(irregular)) - np.arange(len(irregular)),
        np.arange(len(cells)) + len(column),
    )
    text = column.cast(pa.string())
    whole = pa.concat_arrays([text, pa.array(cells, type=pa.string())]).take(pa.array(order))
    return whole.dictionary_encode() if _is_dictionary(column) else whole


def _some_coded(block: _Block) -> _Block:
    """The first block, with columns of few distinct words coded."""
    most = max(2, CODED_SHARE * block.structure.records)
    made = [c.dictionary_encode() for c in block.columns]
    columns = [_narrow(m) if len(m.dictionary) <= most else c for c, m in zip(block.columns, made, strict=True)]
    return replace(block, columns=columns)


def _is_dictionary(column: pa.Array) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_dictionary(column.type))


def _narrow(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Words and codes, in as few bytes a code as hold them."""
    import pyarrow as pa

    size = next(t for t in (pa.int8(), pa.int16(), pa.int32()) if len(column.dictionary) < 1 << (t.bit_width - 1))
    return pa.DictionaryArray.from_arrays(column.indices.cast(size), column.dictionary)


def _outlined(
    columns: dict[int, pd.Series],
    header: tuple[str, ...],
    lines: np.ndarray,
    irregular: dict[int, list[str]],
    file: str,
    expected: set[str],
    notes: list[Problem],
) -> Sheet:
    """Divide the records into data and the rest; only those that may be something else than data are looked at.

    The columns are taken out one by one, so that each is let go when it is in its final form.
    """
    size, width = len(columns[0]), len(columns)
    ends = {*range(min(LOOKED_AT, size)), *range(max(0, size - LOOKED_AT), size)}
    doubtful = _doubtful(columns[0], header[0])
    looked = np.array(sorted(ends | set(irregular) | doubtful))
    if len(looked) > MOST_LOOKED_AT:
        raise _Unsure
    cells = pd.DataFrame({i: _text(column.iloc[looked]) for i, column in columns.items()}, dtype="str")
    widths = np.array([len(irregular[i]) if i in irregular else width for i in looked.tolist()])
    some = Records(_widened(cells, looked, irregular, int(widths.max())), widths, lines[looked])
    found, names = classify(some, file, expected, notes)
    if tuple(names) != header:
        raise _Unsure
    kind = np.ones(size, dtype=bool)
    kind[looked] = found == "data"
    counts = count_kinds(found, some, file, notes)
    names = clean_names(names)
    if len(set(names)) < width or not all(names) or any(re.fullmatch(r"Unnamed: \d+", n) for n in names):
        raise _Unsure
    excess = np.zeros(size, dtype=np.int16)
    for i, row in irregular.items():
        excess[i] = min(len(row) - width, 30_000)
    first, last = int(kind.argmax()), size - int(kind[::-1].argmax())
    if not kind.any():
        raise _Unsure
    lines, excess, kind = lines[first:last], excess[first:last], kind[first:last]
    if not kind.all():
        lines, excess = lines[kind], excess[kind]

    def data_of(column: pd.Series) -> pd.Series:
        within = column.iloc[first:last]
        return tidied(within if kind.all() else within[kind])

    frame = pd.DataFrame({n: data_of(columns.pop(i)).array for i, n in enumerate(names)}, copy=False)
    return Sheet(frame, np.arange(1, len(frame) + 1, dtype=np.int32), lines, excess, counts, size)


def _doubtful(first: pd.Series, header: str) -> set[int]:
    """Records whose first cell is blank or says what the header's does: they may be blank, or the header again."""
    if is_coded(first):
        words = pd.Series(first.cat.categories, dtype="str")
        odd = ((words.str.strip() == "") | (words == header)).to_numpy()
        return set(np.flatnonzero(odd[first.array.codes]).tolist())
    marked = [~not_blank(piece) | (piece == header).to_numpy() for piece in pieces(first)]
    return set(np.flatnonzero(np.concatenate(marked)).tolist())


def _text(column: pd.Series) -> list[str]:
    return [str(c) for c in column]


def _widened(cells: pd.DataFrame, looked: np.ndarray, irregular: dict[int, list[str]], width: int) -> pd.DataFrame:
    """Cells with those of irregular records beyond the usual width."""
    for i in range(cells.shape[1], width):
        cells[i] = pd.Series(
            [irregular[r][i] if r in irregular and i < len(irregular[r]) else "" for r in looked.tolist()], dtype="str"
        )
    return cells


class _Progress:
    """How far reading is, on a terminal, once it takes long."""

    def __init__(self, file: str, size: int) -> None:
        self.file, self.size, self.done, self.shown = file, max(size, 1), 0, False
        self.began = time.monotonic()

    def show(self, read: int) -> None:
        self.done += read
        if sys.stderr.isatty() and time.monotonic() - self.began > QUIET_SECONDS:
            self.shown = True
            print(f"\rreading {self.file}: {min(self.done / self.size, 1):.0%} ", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
