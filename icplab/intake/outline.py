"""Reads text records, makes a headed table: which record is header, blank, preamble, footer, repeated header, or data."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.errors import BadInput, Problem
from icplab.intake.batch import shown_text
from icplab.intake.plain import not_blank
from icplab.intake.records import PEEKED_RECORDS, Records, plain_name

LONGEST_FOOTER = 20  # records at the end that are looked at
# First cells of footers that Salesforce reports and spreadsheets write (catalogue case 22).
FOOTER = re.compile(
    r"^(grand totals?\b|confidential information|copyright\b|©|\(c\) ?copyright|total records|generated (by|on)\b)",
    re.IGNORECASE,
)
TOTALS = re.compile(r"^(grand )?totals?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """The data records of one file under their header."""

    frame: pd.DataFrame  # text, columns named as in the export
    record: np.ndarray  # number of the data record, from 1
    line: np.ndarray  # physical line, from 1; 0 when the format has no lines
    excess: np.ndarray  # fields too many (positive) or too few (negative)
    counts: dict[str, int]  # header, blank, preamble, footer, repeated_header
    records: int
    iso_dates: bool = False  # dates may stand in ISO form beside the declared one


def outline(records: Records, file: str, expected: set[str], notes: list[Problem]) -> Sheet:
    """Divide the records of a file; every one of them ends in exactly one class.

    `expected` holds the hoped-for column names (plain): the header is the record among the first thirty that has most of
    them. Raises `BadInput` for blank records only (ICP-E002), a header that cannot be used (E003, E024, E025) or an unrecognised
    tail (E022).
    """
    kind, names = classify(records, file, expected, notes)
    data = kind == "data"
    frame, excess = _headed(records.cells[data], records.widths[data], names, file, notes)
    if not data.any():
        raise BadInput(Problem("ICP-E003", "holds a header and no records", "export it again", file))
    counts = count_kinds(kind, records, file, notes)
    return Sheet(frame, np.arange(1, data.sum() + 1), records.lines[data], excess, counts, len(kind), records.iso_dates)


def classify(records: Records, file: str, expected: set[str], notes: list[Problem]) -> tuple[np.ndarray, list[str]]:
    """What each record is (header, blank, preamble, footer, repeated_header or data), and the cells of the header.

    Only the first and last records, blank ones and those that begin like the header can be anything but data: a reader that
    knows which these are may leave out the others.
    """
    cells, widths = records.cells, records.widths
    filled = _filled(cells)
    if not filled.any():
        raise BadInput(Problem("ICP-E002", "holds only blank records", "export it again", file))
    header = _find_header(cells, filled, expected)
    kind = np.where(filled == 0, "blank", "data").astype(object)
    kind[:header] = np.where(filled[:header] > 0, "preamble", "blank")
    kind[header] = "header"
    names = [str(cells.iat[header, i]) for i in range(int(widths[header]))]
    _refuse_title(header, widths[filled > 0], names, expected, file, int(records.lines[header]))
    kind[_repeats(cells, names, kind)] = "repeated_header"
    kind[_footer(records, filled, kind, file, len(names))] = "footer"
    return kind, names


def header_among(rows: list[list[str]], expected: set[str]) -> list[str]:
    """The header among the first records of a file; empty when all are blank."""
    widest = max(map(len, rows), default=0)
    cells = pd.DataFrame([r + [""] * (widest - len(r)) for r in rows], columns=range(widest), dtype="str")
    filled = _filled(cells)
    return rows[_find_header(cells, filled, expected)] if filled.any() else []


def _filled(cells: pd.DataFrame) -> np.ndarray:
    """Number of non-blank cells of every record."""
    filled = np.zeros(len(cells), dtype=int)
    for column in cells:
        filled += not_blank(cells[column])
    return filled


def _find_header(cells: pd.DataFrame, filled: np.ndarray, expected: set[str]) -> int:
    """The first record with most expected names; when hardly any has them, the first that is not blank."""
    first = int(np.argmax(filled > 0))
    head = cells.iloc[: first + PEEKED_RECORDS]
    known = [sum(plain_name(c) in expected for c in row if c) for row in head.itertuples(index=False)]
    best = int(np.argmax(known))
    return best if known[best] >= 2 else first


def _refuse_title(header: int, widths: np.ndarray, names: list[str], expected: set[str], file: str, line: int) -> None:
    """Stop at a first record that has one field where the others have more: a title, not a header (ICP-E021)."""
    usual = int(np.bincount(widths).argmax())
    if len(names) < min(usual, 2) and not any(plain_name(n) in expected for n in names):
        message = "stands where the header should, and is none: the records after it have more fields"
        fix = "delete the lines above the header, or map the columns in icplab.toml so that it is recognised"
        raise BadInput(Problem("ICP-E021", message, fix, file, line=line or None, value=shown_text(names[0])))


def _repeats(cells: pd.DataFrame, names: list[str], kind: np.ndarray) -> np.ndarray:
    """Data records that say the header again, as in concatenated exports."""
    same = (kind == "data") & (cells[0] == names[0]).to_numpy()
    for i, name in enumerate(names[1:], start=1):
        if not same.any():
            break
        same &= (cells[i] == name).to_numpy()
    return same & (len(names) > 1)


def _footer(records: Records, filled: np.ndarray, kind: np.ndarray, file: str, width: int) -> np.ndarray:
    """Records at the end that only fill their first cell and say what report footers say; the report's name with them."""
    cells, mask = records.cells, np.zeros(len(kind), dtype=bool)
    if width < 2:
        return mask
    single = (filled == 1) & (cells[0].str.strip() != "").to_numpy()
    tail = np.arange(max(0, len(kind) - LONGEST_FOOTER), len(kind))
    alone = {int(i) for i in tail if kind[i] == "data" and single[i]}
    said = {i for i in alone if FOOTER.search(_first(cells, i))}
    end = [int(i) for i in tail[::-1]]
    for i in end:
        if kind[i] == "blank" or i in said:
            mask[i] = i in said
        elif i in alone and _is_report_name(i, said, kind):
            mask[i] = True
        else:
            _refuse_tail(i, records, kind, alone, width, file)
            break
    return mask


def _is_report_name(i: int, said: set[int], kind: np.ndarray) -> bool:
    """A lone first cell between a gap (or a totals line) and a recognised footer line."""
    return i + 1 in said and i > 0 and (kind[i - 1] == "blank" or i - 1 in said)


def _first(cells: pd.DataFrame, i: int) -> str:
    """The first cell of a record, trimmed."""
    return str(cells.iat[i, 0]).strip()


def _refuse_tail(i: int, records: Records, kind: np.ndarray, alone: set[int], width: int, file: str) -> None:
    """Stop at a last record that looks like a footer and is not a known one: guessing would drop or invent a record."""
    short = records.grid or records.widths[i] < width
    lone = i in alone and short and i > 0 and kind[i - 1] == "blank"
    totals = kind[i] == "data" and bool(TOTALS.match(_first(records.cells, i)))
    if lone or totals:
        message = "ends with a line that is not a record and not a known footer"
        fix = "delete the lines after the last record, or export without totals"
        raise BadInput(Problem("ICP-E022", message, fix, file, value=shown_text(_first(records.cells, i))))


def _headed(
    cells: pd.DataFrame, widths: np.ndarray, names: list[str], file: str, notes: list[Problem]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Data cells under clean, unique names; columns without name and content dropped."""
    width = len(names)
    cells = cells.reset_index(drop=True)
    if cells.shape[1] == width + 1 and len(cells) and (widths == width + 1).all() and (cells[width] == "").all():
        notes.append(Problem("ICP-R031", "a delimiter at the end of every record ignored", file=file))
        widths = widths - 1
    frame = cells.iloc[:, :width]
    names = clean_names(names)
    names = _without_blank(frame, names, file, notes)
    kept = [i for i, n in enumerate(names) if n]
    frame = frame[kept].set_axis([names[i] for i in kept], axis=1)
    return _without_repeated(frame, file, notes), np.asarray(widths - width)


def clean_names(names: list[str]) -> list[str]:
    """Column names with single, plain spaces."""
    return [re.sub(r"\s+", " ", n.replace("\u00a0", " ")).strip() for n in names]


def _without_blank(frame: pd.DataFrame, names: list[str], file: str, notes: list[Problem]) -> list[str]:
    """Names, with those of empty unnamed columns blank; unnamed columns that hold something stop (ICP-E025)."""
    blank = [i for i, n in enumerate(names) if not n or re.fullmatch(r"Unnamed: \d+", n)]
    full = [i for i in blank if (frame[i].str.strip() != "").any()]
    if full:
        numbers = ", ".join(str(i + 1) for i in full)
        raise BadInput(
            Problem("ICP-E025", f"column {numbers} has no name and holds values", "name it, or delete it", file)
        )
    if blank:
        notes.append(Problem("ICP-R025", "empty columns without a name ignored", file=file))
    return ["" if i in blank else n for i, n in enumerate(names)]


def _without_repeated(frame: pd.DataFrame, file: str, notes: list[Problem]) -> pd.DataFrame:
    """One column per name; two of the same name must hold the same (ICP-E024)."""
    repeated = frame.columns[frame.columns.duplicated()].unique()
    for name in repeated:
        same = frame.loc[:, frame.columns == name]
        if not all(same.iloc[:, 0].equals(same.iloc[:, i]) for i in range(1, same.shape[1])):
            message = "two columns have this name and differ"
            raise BadInput(Problem("ICP-E024", message, "rename or delete one of them", file, column=name))
        notes.append(
            Problem("ICP-R024", "a column given twice with the same content taken once", file=file, column=name)
        )
    return frame.loc[:, ~frame.columns.duplicated()]


def count_kinds(kind: np.ndarray, records: Records, file: str, notes: list[Problem]) -> dict[str, int]:
    """Records per kind other than data, which are noted."""
    counts = {k: int((kind == k).sum()) for k in ("header", "blank", "preamble", "footer", "repeated_header")}
    for outcome, code, message in (
        ("preamble", "ICP-R021", "lines before the header left out"),
        ("footer", "ICP-R022", "report footer left out"),
        ("repeated_header", "ICP-R023", "the header stood there again; left out"),
        ("blank", "ICP-R034", "blank records left out"),
    ):
        if outcome == "preamble" and _first(records.cells, 0).startswith("sep=") and counts[outcome] == 1:
            continue  # said already as ICP-R020
        if counts[outcome]:
            line = int(records.lines[np.argmax(kind == outcome)]) or None
            notes.append(Problem(code, message, file=file, line=line, count=counts[outcome]))
    return counts
