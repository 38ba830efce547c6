"""Reads dates as text, makes midnight timestamps; an impossible, ambiguous or foreign date is named, never dropped."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pandas as pd

from icplab.core.config import Calendar, Source
from icplab.core.schema import Column
from icplab.intake.batch import Batch
from icplab.intake.plain import plain_days

ISO = "%Y-%m-%d"
DATE: Literal["datetime64[us]"] = "datetime64[us]"
# Days that systems write for "no date" (catalogue case 55).
NO_DATE = ("0000-00-00", "1900-01-01", "9999-12-31")
# Day zero of spreadsheets: that of 1900 takes in the 29 February 1900 which never was.
DAY_ZERO = {"excel": pd.Timestamp("1899-12-30").as_unit("us"), "excel1904": pd.Timestamp("1904-01-01").as_unit("us")}
EARLIEST_YEAR, LATEST_YEAR = 1900, 2200  # founding dates of customers and end dates of contracts lie between
_ISO_SHAPE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s?(Z|[+-]\d{2}(:?\d{2})?)?)?"
_ZONE = r".*(Z|[+-]\d{2}(:?\d{2})?)"
_NUMERIC_SHAPE = r"\d{1,2}([/.-])\d{1,2}[/.-]\d{4}"
_PIECES = {
    "%d": r"\d{1,2}",
    "%m": r"\d{1,2}",
    "%Y": r"\d{4}",
    "%y": r"\d{2}",
    "%H": r"\d{1,2}",
    "%M": r"\d{2}",
    "%S": r"\d{2}",
}


def type_dates(batch: Batch, column: Column, text: pd.Series, source: Source, calendar: Calendar) -> pd.Series:
    """Midnights of a date column.

    Read in the declared format ([sources.<table>] date_format, else [calendar] date_format); ISO dates and timestamps when
    that is the default. Times are cut; those with an offset are first brought to [calendar] timezone.
    """
    declared = source.date_format or calendar.date_format
    plain = plain_days(text, declared)
    if plain is not None:
        return plain
    codes, unique = pd.factorize(text)
    words = pd.Series(unique, dtype="str")
    none = words.str[:10].isin(NO_DATE)
    if declared == ISO:
        declared = _inferred(batch, column, words[~none], text) or ISO
    real = words.str.fullmatch(_ISO_SHAPE).fillna(False).astype(bool) & batch.iso_dates & (declared != ISO)
    none_or_real = none | real
    if declared in DAY_ZERO:
        days, problems = _read_day_numbers(words.mask(none_or_real), declared)
        batch.note(text.notna(), "ICP-R053", f"day numbers read as dates, as declared ({declared})", column=column.name)
    elif declared == ISO:
        days, problems = _read_iso(words.mask(none), calendar.timezone)
    else:
        days, problems = _read_format(words.mask(none_or_real), declared)
    if real.any():  # dates that a workbook or database held as dates, whatever is declared for text
        real_days, real_problems = _read_iso(words.where(real & ~none), calendar.timezone)
        days, problems = days.where(~real, real_days), problems + real_problems
    cells = _Cells(batch, column, codes, words)
    cells.note(none, "ICP-W055", "is a placeholder, taken as no date", "leave the cell empty in the CRM")
    strange = days.notna() & ~days.dt.year.between(EARLIEST_YEAR, LATEST_YEAR)
    cells.note(strange, "ICP-E049", f"lies outside the years {EARLIEST_YEAR} to {LATEST_YEAR}", "correct the cell")
    for mask, code, message, fix in problems:
        cells.note(mask, code, message, fix or _advice(declared, batch.table.name))
    timed = days.notna() & (words.str.len() > 10) & words.str.contains(r"\d:\d")
    cells.note(timed, "ICP-R052", f"times cut to calendar days (time zone {calendar.timezone})")
    days = days.mask(strange).astype(DATE)
    values = np.append(days.to_numpy(), np.datetime64("NaT"))  # code -1, a null cell, takes the last place
    return pd.Series(values[codes], index=text.index).astype(DATE)


class _Cells:
    """Notes on distinct values, spread to the cells that hold them."""

    def __init__(self, batch: Batch, column: Column, codes: np.ndarray, words: pd.Series) -> None:
        self.batch, self.column, self.codes, self.words = batch, column, codes, words

    def note(self, mask: pd.Series, code: str, message: str, fix: str = "") -> None:
        spread = np.append(np.asarray(mask, dtype=bool), False)[self.codes]
        self.batch.note(spread, code, message, fix=fix, column=self.column.name)


def _advice(declared: str, table: str) -> str:
    return f"correct the cell, or declare the format of this file in [sources.{table}] date_format (now {declared})"


def _inferred(batch: Batch, column: Column, words: pd.Series, text: pd.Series) -> str:
    """A day/month order that the whole column proves, for columns written like 31/12/2025; else an empty string."""
    words = words.dropna()
    shape = words.str.fullmatch(_NUMERIC_SHAPE)
    if not len(words) or not shape.all():
        return ""
    mark = words.iloc[0].strip("0123456789")[0]
    first = words.str.extract(r"^(\d+)", expand=False).astype(int)
    second = words.str.extract(r"^\d+\D(\d+)", expand=False).astype(int)
    if not words.str.count(re.escape(mark)).eq(2).all() or (first.max() > 12) == (second.max() > 12):
        return ""
    found = f"%d{mark}%m{mark}%Y" if first.max() > 12 else f"%m{mark}%d{mark}%Y"
    proof = words[(first if first.max() > 12 else second) > 12].iloc[0]
    batch.note(text.notna(), "ICP-R050", f"read as {found}, which {proof} proves", column=column.name)
    return found


def _read_iso(words: pd.Series, zone: str) -> tuple[pd.Series, list[tuple]]:
    """Days of ISO dates and timestamps, and what is wrong with the rest."""
    shaped = words.str.fullmatch(_ISO_SHAPE).fillna(False).astype(bool)
    clocked = shaped & (words.str.len() > 10)
    zoned = clocked & words.str[10:].str.fullmatch(_ZONE).fillna(False).astype(bool)
    days = pd.to_datetime(words.where(shaped & ~clocked), format=ISO, errors="coerce")
    naive = clocked & ~zoned
    if naive.any():
        read = pd.to_datetime(words[naive], format="ISO8601", errors="coerce")
        days = days.where(~naive, read.dt.normalize())
    if zoned.any():
        read = pd.to_datetime(words[zoned], format="ISO8601", errors="coerce", utc=True)
        days = days.where(~zoned, read.dt.tz_convert(zone).dt.tz_localize(None).dt.normalize())
    problems = [(shaped & days.isna(), "ICP-E049", "is not a calendar date", "")]
    if naive.any() and zoned.any():
        fix = "export all with an offset, or all without"
        problems.append((naive, "ICP-E052", "has no time zone while others in this column have one", fix))
    return days, problems + _other_shapes(words, words.notna() & ~shaped)


def _read_format(words: pd.Series, declared: str) -> tuple[pd.Series, list[tuple]]:
    """Days in a declared strptime format, and what is wrong with the rest."""
    days = pd.to_datetime(words, format=declared, errors="coerce").dt.normalize()
    bad = words.notna() & days.isna()
    shape = re.sub(r"%[a-zA-Z]", lambda m: _PIECES.get(m.group(), r"\S+"), re.escape(declared).replace(r"\%", "%"))
    shaped = bad & words.str.fullmatch(shape).fillna(False).astype(bool)
    return days, [(shaped, "ICP-E049", "is not a calendar date", ""), *_other_shapes(words, bad & ~shaped, declared)]


def _read_day_numbers(words: pd.Series, declared: str) -> tuple[pd.Series, list[tuple]]:
    """Days counted from a spreadsheet's day zero, and what is wrong with the rest."""
    shaped = words.str.fullmatch(r"\d{1,6}(\.\d+)?").fillna(False).astype(bool)
    count = pd.to_timedelta(words.where(shaped).astype("float64").floordiv(1), unit="D")
    days = (DAY_ZERO[declared] + count).astype(DATE)
    return days, [(words.notna() & ~shaped, "ICP-E051", "is not a day number of a spreadsheet", "")]


def _other_shapes(words: pd.Series, odd: pd.Series, declared: str = ISO) -> list[tuple]:
    """Name texts that are not in the format, by what they look like."""
    short = odd & words.str.fullmatch(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2}").fillna(False).astype(bool)
    serial = odd & words.str.fullmatch(r"\d{5}(\.\d+)?").fillna(False).astype(bool)
    ambiguous = odd & words.str.fullmatch(_NUMERIC_SHAPE).fillna(False).astype(bool) & (declared == ISO)
    undecided = ambiguous if ambiguous.equals(words.notna()) else ambiguous & False
    mixed = odd & ~(short | serial | undecided)
    serials = 'export dates as text, such as 2025-12-31; or declare date_format = "excel" (or "excel1904")'
    choice = 'declare date_format = "%d/%m/%Y" or "%m/%d/%Y" (with the separator of the file) for this source'
    return [
        (short, "ICP-E054", "has a year of two digits", "export dates with four-digit years, such as 2025-12-31"),
        (serial, "ICP-E053", "looks like a spreadsheet's day number", serials),
        (undecided, "ICP-E050", "may be day/month or month/day, and nothing in the column decides", choice),
        (mixed, "ICP-E051", f"is not in the format {declared}", ""),
    ]
