"""Reads one sheet of an Excel workbook, makes its rows as text with the row numbers that Excel shows.

Values come from calamine (twenty times as fast as openpyxl here). What calamine does not tell (hidden rows and columns, formulas
never computed, errors, padded numbers) is looked up in the sheet's own XML by `anatomy`.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from icplab.core.config import Source
from icplab.core.errors import BadInput, Problem, nearest
from icplab.core.schema import CANONICAL
from icplab.intake.records import PEEKED_RECORDS, Records, plain_name
from icplab.intake.sources.anatomy import Anatomy, cell_name, column_letters, dissect, open_workbook
from icplab.intake.sources.texts import EXACT_WHOLE, value_text

if TYPE_CHECKING:
    import python_calamine as calamine

    from icplab.intake.outline import Sheet

SHOWN = 5  # places that a message names
RECOGNISED = 3  # expected names that make a row a header
_TABLES = frozenset(plain_name(t) for t in CANONICAL)


@dataclass(frozen=True)
class Merged:
    """A block of merged cells: rows as Excel counts them, and its reference, such as A5:A7."""

    first: int
    last: int
    cells: str


def read_workbook(
    data: bytes, name: str, table: str, source: Source, expected: Iterable[str], notes: list[Problem]
) -> tuple[Records, tuple[Merged, ...]]:
    """Rows of the sheet that feeds a table, and the merged cells in it.

    The sheet is the one that `source.sheet` names, else the only one that is not hidden and holds data, else the one that is
    called like the table, else the only one with a header of which at least three names are `expected` (plain).

    Raises
    ------
    BadInput
        ICP-E001 no such sheet, E002 empty, E013 damaged, E014 not an Excel workbook, E015 a password, macros or links to
        other workbooks, E016 several sheets, formulas never computed, E040 numbers that Excel cannot hold.
    """
    archive = open_workbook(data, name)
    book = _Book(data, name)
    chosen = _choose(book, table, source, set(expected), notes)
    anatomy = dissect(archive, chosen, name)
    _refuse_uncomputed(anatomy, chosen, name)
    cells = _cells(book.values(chosen), chosen, name)
    for (row, column), text in anatomy.overlay.items():
        if row < len(cells) and column < cells.shape[1]:
            cells.iat[row, column] = text
    cells = _trimmed(cells)
    if not len(cells):
        raise _stop("ICP-E002", f'has an empty sheet "{chosen}"', "export it again", name)
    _note_hidden(anatomy, cells, chosen, name, notes)
    merged = [
        Merged(r1 + 1, r2 + 1, f"{cell_name(r1, c1)}:{cell_name(r2, c2)}")
        for (r1, c1), (r2, c2) in book.sheet(chosen).merged_cell_ranges or []
    ]
    lines = np.arange(1, len(cells) + 1)
    return Records(cells, np.full(len(cells), cells.shape[1]), lines, grid=True, iso_dates=True), tuple(merged)


def check_merged(merged: Sequence[Merged], sheet: Sheet, name: str, notes: list[Problem]) -> None:
    """Merged cells among the records stop: only one of them holds the value, and the others look empty (ICP-E016)."""
    lines = sheet.line
    touched = [m for m in merged if ((lines >= m.first) & (lines <= m.last)).any()]
    if touched:
        places = ", ".join(m.cells for m in touched[:SHOWN]) + (", …" if len(touched) > SHOWN else "")
        message = f"has merged cells among its records ({places}): all but the first of them are empty"
        fix = "select them, unmerge, and write the value into each cell"
        problem = Problem("ICP-E016", message, fix, name, line=touched[0].first, count=len(touched))
        raise BadInput(problem)


class _Book:
    """A workbook opened by calamine; every sheet is read once, when it is asked for."""

    def __init__(self, data: bytes, name: str) -> None:
        import python_calamine as calamine

        self.name = name
        self._held: dict[str, calamine.CalamineSheet] = {}
        with self._guarded():
            self._book = calamine.load_workbook(io.BytesIO(data))
        sheets = [m for m in self._book.sheets_metadata if m.typ == calamine.SheetTypeEnum.WorkSheet]  # charts are none
        self.shown = {m.name: m.visible == calamine.SheetVisibleEnum.Visible for m in sheets}

    def sheet(self, sheet: str) -> calamine.CalamineSheet:
        if sheet not in self._held:
            with self._guarded():
                self._held[sheet] = self._book.get_sheet_by_name(sheet)
        return self._held[sheet]

    def values(self, sheet: str, rows: int | None = None) -> list[list]:
        """Cells from A1 on, row by row; all of them or the first `rows`."""
        with self._guarded():
            return self.sheet(sheet).to_python(skip_empty_area=False, nrows=rows)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Failures of the reader as bad input; what is none of them (an interrupt by the user) goes on as it is."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                fix = "save it in Excel again, or save the sheet as CSV UTF-8"
                raise _stop("ICP-E014", "is not a readable Excel workbook", fix, self.name) from error
            raise


def sheet_heads(data: bytes, name: str, rows: int = PEEKED_RECORDS) -> dict[str, list[list[str]]]:
    """The first rows of every sheet that is not hidden, as text: to recognise what it holds.

    Raises `BadInput` as `read_workbook` does for files that must not be opened.
    """
    open_workbook(data, name)
    book = _Book(data, name)
    return {s: [[value_text(v) for v in row] for row in book.values(s, rows)] for s in book.shown if book.shown[s]}


def _choose(book: _Book, table: str, source: Source, expected: set[str], notes: list[Problem]) -> str:
    """The sheet that feeds a table."""
    if source.sheet:
        return _named_sheet(book.shown, book.name, source.sheet, notes)
    full = [s for s in book.shown if book.sheet(s).start is not None]
    candidates, hidden = [s for s in full if book.shown[s]], [s for s in full if not book.shown[s]]
    fix = f'name the sheet meant: [sources.{table}] sheet = "{(candidates or hidden or [""])[0]}"'
    if not candidates:
        if hidden:
            raise _stop("ICP-E016", f"holds data on hidden sheets only ({_quoted(hidden)})", fix, book.name)
        raise _stop("ICP-E002", "is empty: no sheet holds anything", "export it again", book.name)
    fitting = candidates if len(candidates) == 1 else _fitting(book, candidates, table, expected)
    if len(fitting) != 1:
        message = f"has {len(candidates)} sheets with data ({_quoted(candidates)}), and it is not clear which is meant"
        raise _stop("ICP-E016", message, fix, book.name)
    unread = [s for s in full if s != fitting[0] and not (book.shown[s] and plain_name(s) in _TABLES)]
    if unread:
        kind = "hidden sheets" if set(unread) <= set(hidden) else "sheets"
        notes.append(Problem("ICP-W016", f"{kind} not read: {_quoted(unread)}", fix, book.name, count=len(unread)))
    return fitting[0]


def _fitting(book: _Book, candidates: list[str], table: str, expected: set[str]) -> list[str]:
    """Sheets called like the table; else those whose header is recognised."""
    called = [s for s in candidates if plain_name(s) == plain_name(table)]
    return called or [s for s in candidates if _known_names(book.values(s, PEEKED_RECORDS), expected) >= RECOGNISED]


def _known_names(rows: list[list], expected: set[str]) -> int:
    """The most expected names that one of the first rows holds."""
    return max((len({plain_name(c) for c in row if isinstance(c, str)} & expected) for row in rows), default=0)


def _named_sheet(shown: dict[str, bool], name: str, wanted: str, notes: list[Problem]) -> str:
    """The sheet that the settings name, in any letter case."""
    found = [s for s in shown if s == wanted] or [s for s in shown if plain_name(s) == plain_name(wanted)]
    if not found:
        message = f"has no such sheet{nearest(wanted, shown)}; it has {_quoted(list(shown))}"
        raise _stop("ICP-E001", message, "correct sheet in [sources]", name, value=wanted)
    if not shown[found[0]]:
        notes.append(Problem("ICP-W016", f'sheet "{found[0]}" is hidden; read because it is named', file=name))
    return found[0]


def _cells(values: list[list], sheet: str, name: str) -> pd.DataFrame:
    """Cells as text, columns numbered."""
    columns = {}
    for i, column in enumerate(zip(*values, strict=True)):
        _refuse_inexact(column, i, sheet, name)
        columns[i] = pd.Series([value_text(v) for v in column], dtype="str")
        if columns[i].str.contains("\r", regex=False).any():
            columns[i] = columns[i].str.replace("\r\n", "\n", regex=False).str.replace("\r", "\n", regex=False)
    return pd.DataFrame(columns)


def _refuse_inexact(column: tuple, i: int, sheet: str, name: str) -> None:
    """Whole numbers beyond what a spreadsheet holds: their last digits are made up (ICP-E040)."""
    rows = [r for r, v in enumerate(column) if isinstance(v, float) and v.is_integer() and abs(v) > EXACT_WHOLE]
    if rows:
        message = f'has numbers in sheet "{sheet}" too long for a spreadsheet, their last digits are lost'
        fix = "export again with this column as text"
        place = cell_name(rows[0], i)
        raise BadInput(Problem("ICP-E040", message, fix, name, line=rows[0] + 1, value=place, count=len(rows)))


def _trimmed(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the empty rows and columns at the end, which are formats and no records."""
    filled = cells != ""
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    return cells.iloc[: rows[-1] + 1, : columns[-1] + 1] if len(rows) else cells.iloc[:0]


def _refuse_uncomputed(anatomy: Anatomy, sheet: str, name: str) -> None:
    """Formulas that no program has computed yet: their cells look empty (ICP-E016)."""
    if not anatomy.uncomputed:
        return
    row, column = anatomy.uncomputed[0]
    places = ", ".join(cell_name(r, c) for r, c in anatomy.uncomputed[:SHOWN])
    message = f'has formulas in sheet "{sheet}" whose values were never computed ({places})'
    fix = "open it in Excel, save it, and export again; or save the sheet as CSV UTF-8"
    raise BadInput(
        Problem(
            "ICP-E016", message, fix, name, line=row + 1, value=cell_name(row, column), count=len(anatomy.uncomputed)
        )
    )


def _note_hidden(anatomy: Anatomy, cells: pd.DataFrame, sheet: str, name: str, notes: list[Problem]) -> None:
    """Hidden rows and columns are read, because a filter hides records too; it is said which."""
    rows = [r for r in anatomy.hidden_rows if r < len(cells) and (cells.iloc[r] != "").any()]
    columns = [c for c in anatomy.hidden_columns if c < cells.shape[1] and (cells[c] != "").any()]
    fix = "delete what is not meant to be read, or show it"
    if rows:
        message = f'hidden rows of sheet "{sheet}" were read like the others'
        notes.append(Problem("ICP-W016", message, fix, name, line=rows[0] + 1, count=len(rows)))
    if columns:
        letters = ", ".join(column_letters(c) for c in columns[:SHOWN])
        message = f'hidden columns of sheet "{sheet}" were read like the others ({letters})'
        notes.append(Problem("ICP-W016", message, fix, name, count=len(columns)))


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{n}"' for n in names[:10]) + (", …" if len(names) > 10 else "")


def _stop(code: str, message: str, fix: str, name: str, *, value: str = "") -> BadInput:
    return BadInput(Problem(code, message, fix, name, value=value))
