"""Reads the bytes of one file, makes text records with their line numbers; refuses what cannot be split safely.

Splitting is done by parsers that others keep: pyarrow when a scan of the whole file finds its structure flawless, else
Python's csv module in strict mode. What is decided here is the encoding, the delimiter, and whether to go on.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Source
from icplab.core.errors import BadInput, Problem

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1", "iso-8859-1", "iso-8859-15", "cp1250", "cp1251", "mac-roman")
LARGEST_CELL = 1 << 20  # characters; catalogue case 84
PEEKED_RECORDS = 30  # a header must stand among these first records
_MAGIC = (
    (b"PK\x03\x04", "an Excel or zip file", "give it the ending .xlsx or .zip"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", "open it in Excel and save it as .xlsx"),
    (b"\x1f\x8b", "a gzip file", "give it the ending .csv.gz"),
    (b"PAR1", "a Parquet file", "give it the ending .parquet"),
    (b"SQLite format 3\0", "a SQLite file", "give it the ending .sqlite and say which table"),
    (b"%PDF", "a PDF file", "export as CSV"),
)
_HTML = re.compile(rb"^(\xef\xbb\xbf)?\s*<(!doctype html|html|table|\?xml)", re.IGNORECASE)
_JSON = re.compile(rb'^(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*"')


@dataclass(frozen=True)
class Records:
    """Physical records as text. `cells` has integer columns; cells that a record does not have are empty.

    `grid` is true for sheets, whose records all have the same width, whatever is in them; `iso_dates` where dates were
    values of their own and were written here, in ISO form, whatever notation the settings declare for text.
    """

    cells: pd.DataFrame
    widths: np.ndarray
    lines: np.ndarray
    delimiter: str = ""
    grid: bool = False
    iso_dates: bool = False


@dataclass(frozen=True)
class _Scan:
    """Structure of a text by its bytes: where records end, and whether all quotes stand where they may."""

    data: bytes
    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray
    quotes: np.ndarray
    embedded: bool


def read_delimited(data: bytes, file: str, source: Source, expected: Iterable[str], notes: list[Problem]) -> Records:
    """Records of a delimited file.

    Parameters
    ----------
    data : the whole file
    file : its name, for messages
    source : declared delimiter and encoding; an empty delimiter is found by the field counts of all records
    expected : column names hoped for in the header (normalised by `plain_name`); they break ties between delimiters
    notes : receives repairs and warnings

    Raises
    ------
    BadInput
        ICP-E002 empty, E009 not decodable, E011 NUL bytes, E012 quote not closed, E014 not a text file,
        E019 impossible delimiter, E084 giant cell.
    """
    data = _decoded(data, file, source, notes)
    data, declared, skipped = _without_sep_line(data, source, file, notes)
    if not data.strip():  # nothing but a byte-order mark, or a line that names the delimiter
        raise _stop("ICP-E002", "is empty", "export it again", file)
    if declared and not usable_delimiter(declared):
        raise _stop(
            "ICP-E019", "cannot be a delimiter", 'use one character, such as ";" or "\\t"', file, value=declared
        )
    scan = _scan(data)
    delimiter = declared or _find_delimiter(scan, set(expected), file, notes)
    records = _parse_fast(scan, delimiter) or _parse_strictly(scan, delimiter, file, notes)
    if not skipped:
        return records
    first = pd.DataFrame({c: [f"sep={delimiter}" if c == 0 else ""] for c in records.cells}, dtype="str")
    return Records(
        pd.concat([first, records.cells], ignore_index=True),
        np.concatenate([[1], records.widths]),
        np.concatenate([[1], records.lines + 1]),
        delimiter,
    )


def usable_delimiter(mark: str) -> bool:
    """Whether a mark can separate cells."""
    return len(mark) == 1 and mark not in '"\n ' and not mark.isalnum() and mark.isascii()


def is_other_format(data: bytes) -> bool:
    """Whether the first bytes are not those of a UTF-8 text table."""
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff") or _looks_like_utf16(data)
    return (
        marked
        or not data.strip()
        or data.startswith(tuple(m for m, _, _ in _MAGIC))
        or any(form.match(data[:200]) for form in (_HTML, _JSON))
    )


def plain_name(name: str) -> str:
    """A column name without case, spaces, no-break spaces and punctuation: what makes two spellings the same name."""
    return re.sub(r"[\W_]+", "", name.lower())


def _stop(
    code: str, message: str, fix: str, file: str, line: int | None = None, column: str = "", value: str = ""
) -> BadInput:
    return BadInput(Problem(code, message, fix, file, line=line, column=column, value=value))


def _decoded(data: bytes, file: str, source: Source, notes: list[Problem]) -> bytes:
    """The same text as UTF-8 without byte-order mark, lines ended by a line feed."""
    if not data.strip():
        raise _stop("ICP-E002", "is empty", "export it again", file)
    for magic, kind, fix in _MAGIC:
        if data.startswith(magic):
            raise _stop("ICP-E014", f"is {kind}, whatever its name says", fix, file)
    if _HTML.match(data[:200]):
        raise _stop("ICP-E014", "is a web page or XML, whatever its name says", "export as CSV", file)
    if _JSON.match(data[:200]):
        raise _stop("ICP-E014", "is JSON, whatever its name says", "export as CSV", file)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or _looks_like_utf16(data):
        data = _from_utf16(data, file, notes)
    elif source.encoding.lower() not in ("utf-8", "utf8"):
        data = _from_declared(data, file, source.encoding, notes)
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise _stop("ICP-E011", "holds NUL bytes: it is damaged or not text", "export it again", file, line)
    if data.startswith(b"\xef\xbb\xbf"):
        notes.append(Problem("ICP-R007", "byte-order mark removed", file=file))
        data = data[3:]
    _check_utf8(data, file)
    mangled = len(set(re.findall(rb"(?m)^.*(?:\xc3\x83[\xc2\xc3]|\xc3\xa2\xe2\x82\xac|\xef\xbf\xbd).*$", data)))
    if mangled:
        message = 'text was decoded wrongly before the export ("Ã©" or "\ufffd" for "é")'
        notes.append(Problem("ICP-W010", message, "export again as UTF-8", file, count=mangled))
    return _with_line_feeds(data, file, notes)


def _looks_like_utf16(data: bytes) -> bool:
    """Every second byte NUL, as in UTF-16 of Latin text without a byte-order mark."""
    head = np.frombuffer(data[:4096], dtype=np.uint8)
    if len(head) < 8 or len(data) % 2:
        return False
    even, odd = (head[::2] == 0).mean(), (head[1::2] == 0).mean()
    return bool(max(even, odd) > 0.7 and min(even, odd) < 0.1)


def _from_utf16(data: bytes, file: str, notes: list[Problem]) -> bytes:
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    codec = "utf-16" if marked else ("utf-16-be" if data[0] == 0 else "utf-16-le")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise _stop(
            "ICP-E009", f"is damaged UTF-16: {error.reason} at byte {error.start}", "export as UTF-8", file
        ) from error
    notes.append(Problem("ICP-R008", "read as UTF-16", file=file))
    return text.encode("utf-8")


def _from_declared(data: bytes, file: str, encoding: str, notes: list[Problem]) -> bytes:
    if encoding.lower() not in ENCODINGS:
        raise _stop(
            "ICP-E009",
            f"encoding is not one of {', '.join(ENCODINGS)}",
            "correct it in icplab.toml",
            file,
            value=encoding,
        )
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _stop(
            "ICP-E009", f"is not {encoding} as declared", "correct encoding in icplab.toml", file, line
        ) from error
    notes.append(Problem("ICP-R009", f"read as {encoding}, as declared", file=file))
    return text.encode("utf-8")


def _check_utf8(data: bytes, file: str) -> None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fix = 'export as UTF-8, or declare encoding = "cp1252" for this source if it comes from Excel on Windows'
        raise _stop("ICP-E009", f"is not UTF-8 (byte 0x{data[error.start]:02x})", fix, file, line) from error


def _with_line_feeds(data: bytes, file: str, notes: list[Problem]) -> bytes:
    """Line ends, also inside quoted cells, as line feeds; said when a file mixes them or uses carriage returns alone."""
    if b"\r" not in data:
        return data
    pairs, returns, feeds = data.count(b"\r\n"), data.count(b"\r"), data.count(b"\n")
    if returns != pairs or feeds != pairs:
        notes.append(Problem("ICP-R017", "mixed or unusual line ends made uniform", file=file))
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _without_sep_line(data: bytes, source: Source, file: str, notes: list[Problem]) -> tuple[bytes, str, bool]:
    """Take off a first line `sep=;`, which Excel writes; returns the rest, the delimiter known, and whether it stood there."""
    match = re.match(rb'"?sep=(.)"?\n', data, re.IGNORECASE)
    if not match:
        return data, source.delimiter, False
    notes.append(Problem("ICP-R020", "first line sep= taken as the delimiter", file=file, line=1))
    return data[match.end() :], match.group(1).decode("utf-8", "replace"), True


def _scan(data: bytes) -> _Scan:
    """Find record ends (line feeds outside quotes) over the whole file, without a loop."""
    raw = np.frombuffer(data, dtype=np.uint8)
    quotes, feeds = np.flatnonzero(raw == ord('"')), np.flatnonzero(raw == ord("\n"))
    ends = feeds[np.searchsorted(quotes, feeds) % 2 == 0] if len(quotes) else feeds
    if not len(ends) or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1])
    lines = np.searchsorted(feeds, starts) + 1
    return _Scan(data, starts, ends, lines, quotes, embedded=len(ends) < len(feeds))


def _field_counts(scan: _Scan, delimiter: str) -> np.ndarray:
    """Fields of every record; 0 for a blank one."""
    raw = np.frombuffer(scan.data, dtype=np.uint8)
    at = np.flatnonzero(raw == ord(delimiter))
    if len(scan.quotes):
        at = at[np.searchsorted(scan.quotes, at) % 2 == 0]
    counts = np.searchsorted(at, scan.ends) - np.searchsorted(at, scan.starts) + 1
    return np.where(scan.ends == scan.starts, 0, counts)


def _quotes_are_clean(scan: _Scan, delimiter: str) -> bool:
    """Whether every quote opens at the start of a field, closes at its end, or is doubled."""
    if len(scan.quotes) % 2:
        return False
    if not len(scan.quotes):
        return True
    raw = np.frombuffer(scan.data, dtype=np.uint8)
    return beside_quotes(raw, scan.quotes, delimiter)


def beside_quotes(raw: np.ndarray, quotes: np.ndarray, delimiter: str) -> bool:
    """Whether a delimiter, a line end or another quote stands before every opening and after every closing quote."""
    allowed = np.zeros(256, dtype=bool)
    allowed[[ord(delimiter), ord("\n"), ord('"')]] = True
    opens, closes = quotes[::2], quotes[1::2]
    opens, closes = opens[opens > 0], closes[closes < len(raw) - 1]
    return bool(allowed[raw[opens - 1]].all() and allowed[raw[closes + 1]].all())


def _find_delimiter(scan: _Scan, expected: set[str], file: str, notes: list[Problem]) -> str:
    """The delimiter under which most expected names appear in the head, then most records have the same field count."""
    scores = {d: _score(scan, d, expected) for d in DELIMITERS if d.encode() in scan.data}
    scores = {d: s for d, s in scores.items() if s[2] > 1}
    if not scores:
        return ","
    best = max(scores, key=lambda d: (scores[d], -DELIMITERS.index(d)))
    _note_delimiter(best, file, notes)
    return best


def surest_delimiter(head: bytes, expected: set[str], file: str, notes: list[Problem]) -> str:
    """The one delimiter under which most expected names appear in the head; empty when that does not decide.

    The names decide first over a whole file too: what this finds is what `read_delimited` finds.
    """
    scan = _scan(head)
    known = {d: max((_known(r, expected) for r in _head(scan, d)), default=0) for d in DELIMITERS}
    best = [d for d in DELIMITERS if known[d] == max(known.values())]
    if len(best) > 1 or not known[best[0]]:
        return ""
    _note_delimiter(best[0], file, notes)
    return best[0]


def head_records(head: bytes, delimiter: str) -> list[list[str]]:
    """The first records of a text."""
    return _head(_scan(head), delimiter)


def _note_delimiter(best: str, file: str, notes: list[Problem]) -> None:
    if best != ("\t" if file.lower().endswith(".tsv") else ","):
        notes.append(Problem("ICP-R019", f"delimiter found: {NAMES[best]}", file=file))


def _known(record: list[str], expected: set[str]) -> int:
    return sum(plain_name(c) in expected for c in record)


def _score(scan: _Scan, delimiter: str, expected: set[str]) -> tuple[int, float, int]:
    counts = _field_counts(scan, delimiter)
    counts = counts[counts > 0]
    usual = int(np.bincount(counts).argmax())
    head = _head(scan, delimiter)
    known = max((_known(record, expected) for record in head), default=0)
    return known, float((counts == usual).mean()), usual


def _head(scan: _Scan, delimiter: str) -> list[list[str]]:
    """The first records, split leniently, to look for column names."""
    end = scan.ends[min(PEEKED_RECORDS, len(scan.ends)) - 1]
    text = scan.data[: min(end, LARGEST_CELL)].decode("utf-8", "ignore")
    return _guarded(lambda: list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)), [])


def _guarded(make: Callable[[], list], otherwise: list) -> list:
    try:
        return make()
    except csv.Error:
        return otherwise


def _parse_fast(scan: _Scan, delimiter: str) -> Records | None:
    """pyarrow's parser, for files whose structure is flawless; None otherwise."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    counts = _field_counts(scan, delimiter) if len(delimiter.encode()) == 1 else np.array([0])
    longest = int((scan.ends - scan.starts).max())
    if (counts != counts[0]).any() or counts[0] < 2 or longest > LARGEST_CELL or not _quotes_are_clean(scan, delimiter):
        return None
    names = [str(i) for i in range(counts[0])]
    table = pacsv.read_csv(
        pa.BufferReader(scan.data),
        read_options=pacsv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 25),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, newlines_in_values=scan.embedded, ignore_empty_lines=False, double_quote=True
        ),
        convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )
    if table.num_rows != len(counts):
        return None
    cells = pd.DataFrame({i: table.column(i).to_pandas().astype("str") for i in range(counts[0])})
    return Records(cells, counts, scan.lines, delimiter)


def _parse_strictly(scan: _Scan, delimiter: str, file: str, notes: list[Problem]) -> Records:
    """Python's csv module in strict mode, record by record, for files that are not flawless."""
    limit = csv.field_size_limit(LARGEST_CELL)
    rows: list[list[str]] = []
    lines = [1]
    text = scan.data.decode("utf-8")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num + 1)
    except csv.Error as error:
        raise _unreadable(error, file, lines[-1], len(rows)) from error
    finally:
        csv.field_size_limit(limit)
    if not _quotes_are_clean(scan, delimiter):
        notes.append(Problem("ICP-W033", "a quote inside an unquoted cell was kept as text", _DOUBLE, file))
    widths = np.array([len(r) for r in rows])
    widest = int(widths.max(initial=1))
    cells = pd.DataFrame([r + [""] * (widest - len(r)) for r in rows], columns=range(widest), dtype="str")
    return Records(cells, widths, np.array(lines[:-1]), delimiter)


_DOUBLE = 'put the cell in quotes and double the one inside ("")'


def _unreadable(error: csv.Error, file: str, line: int, record: int) -> BadInput:
    if "field limit" in str(error):
        return _stop(
            "ICP-E084",
            f"holds a cell of more than {LARGEST_CELL:,} characters",
            "shorten it, or leave the column out",
            file,
            line,
        )
    message = "a quote is opened here and not closed properly: the rest of the file cannot be split with certainty"
    problem = Problem(
        "ICP-E012", message, 'close the quote, or double it ("") inside a quoted cell', file, record or None, line
    )
    return BadInput(problem)
