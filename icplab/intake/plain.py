"""Reads a text column, makes its values at once when every cell is written plainly; says None where one is not.

Most columns of most exports need no repair: ASCII without outer white space, dates of ten characters, numbers of digits. That
is seen from the bytes of the whole column in a few steps, whether it has three cells or a million. What is not plain beyond
doubt is left to the rules in `typed` and `dates`, which say what is wrong; on plain cells both give the same values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

PIECE = 1 << 18  # cells looked at together: what is made of their bytes on the way is let go before the next
LONGEST_NUMBER = 300  # characters; longer ones may be more than a number can be
FIRST_YEAR, LAST_YEAR = 1901, 2200  # 1900-01-01 may stand for "no date"
_DIGIT = np.zeros(256, dtype=bool)
_DIGIT[ord("0") : ord("9") + 1] = True
_MARKS = frozenset(".,'")
_PARTS = re.compile(r"%([dmY])([-/.])%([dmY])\2%([dmY])")


class Cells:
    """The bytes of a text column, and where each cell begins."""

    def __init__(self, text: pd.Series) -> None:
        array = _as_arrow(text)
        _, offsets, data = array.buffers()
        size = len(array)
        begins = np.frombuffer(offsets, dtype=np.int64, count=size + 1, offset=8 * array.offset) if offsets else _NONE
        self.starts, self.lengths = begins[:-1] - begins[0], np.diff(begins)
        self.bytes = bytes(memoryview(data)[begins[0] : begins[-1]]) if data and size else b""

    @cached_property
    def raw(self) -> np.ndarray:
        """All bytes as numbers."""
        return np.frombuffer(self.bytes, dtype=np.uint8)

    @cached_property
    def filled(self) -> np.ndarray:
        """Which cells hold anything."""
        return self.lengths > 0

    @cached_property
    def is_trimmed(self) -> bool:
        """Whether all is ASCII and no cell begins or ends with white space or a control character."""
        if not self.bytes.isascii():
            return False
        starts, lengths = self.starts[self.filled], self.lengths[self.filled]
        return bool((self.raw[starts] > 32).all() and (self.raw[starts + lengths - 1] > 32).all())

    def holds_any(self, words: Collection[str], text: pd.Series) -> bool:
        """Whether a cell is one of the words, a blank one aside."""
        sizes = {len(w.encode()) for w in words if w}
        rows = np.flatnonzero(np.isin(self.lengths, list(sizes)))
        return bool(len(rows)) and bool(text.array.take(rows).isin([w for w in words if w]).any())


_NONE = np.zeros(1, dtype=np.int64)


def _as_arrow(text: pd.Series) -> pa.Array:
    """The column as one Arrow array, null cells as blank ones."""
    import pyarrow as pa

    array = pa.array(text, type=pa.large_string())
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.fill_null("") if array.null_count else array


def pieces(text: pd.Series) -> Iterator[pd.Series]:
    """The column some cells at a time, at least one piece."""
    for start in range(0, max(len(text), 1), PIECE):
        yield text.iloc[start : start + PIECE]


def plain_text(text: pd.Series, missing: Collection[str], *, lists: bool = False) -> pd.Series | None:
    """The column with blank cells as null, when there is nothing to trim, repair or take as missing in it.

    With `lists`, cells may not hold a semicolon either: members of lists are looked at one by one.
    """
    filled = []
    for piece in pieces(text):
        cells = Cells(piece)
        if not cells.is_trimmed or (lists and b";" in cells.bytes) or cells.holds_any(missing, piece):
            return None
        filled.append(cells.filled)
    whole = np.concatenate(filled)
    return text if whole.all() else text.mask(~whole)


def plain_days(text: pd.Series, declared: str) -> pd.Series | None:
    """Midnights of a column of dates in the declared format, when each is a calendar date written with all its digits."""
    form, made = _PARTS.fullmatch(declared), []
    if not form or len({form[1], form[3], form[4]}) < 3:
        return None
    for piece in pieces(text):
        days = _days(Cells(piece), form)
        if days is None:
            return None
        made.append(days)
    return pd.Series(np.concatenate(made), index=text.index)


def _days(cells: Cells, form: re.Match[str]) -> np.ndarray | None:
    if not np.isin(cells.lengths, (0, 10)).all():
        return None
    letters = cells.raw.reshape(-1, 10)
    parts, at = {}, 0
    for number, part in enumerate((form[1], form[3], form[4])):
        width = 4 if part == "Y" else 2
        digits = letters[:, at : at + width]
        after = letters[:, at + width] if number < 2 else None
        if not _DIGIT[digits].all() or (after is not None and (after != ord(form[2])).any()):
            return None
        parts[part] = (digits - np.uint8(48)).astype(np.int64) @ (10 ** np.arange(width)[::-1])
        at += width + 1
    year, month, day = parts["Y"], parts["m"], parts["d"]
    if len(year) and (year.min() < FIRST_YEAR or year.max() > LAST_YEAR or month.min() < 1 or month.max() > 12):
        return None
    months = (year * 12 + month - 1 - 1970 * 12).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    if (days.astype("datetime64[M]") != months).any():
        return None
    made = np.full(len(cells.lengths), np.datetime64("NaT"), dtype="datetime64[us]")
    made[cells.filled] = days
    return made


def plain_numbers(text: pd.Series, decimal: str, thousands: str = "") -> tuple[pd.Series, np.ndarray] | None:
    """Numbers of a column in which each is digits in the declared notation, perhaps behind a dollar sign; null where blank.

    Returns the numbers and which cells begin with a dollar sign.
    """
    if decimal not in _MARKS or (thousands and thousands not in _MARKS):
        return None
    made = []
    for piece in pieces(text):
        read = _numbers(Cells(piece), decimal, thousands)
        if read is None:
            return None
        made.append(read)
    numbers, signed = (np.concatenate(parts) for parts in zip(*made, strict=True))
    return pd.Series(numbers, index=text.index), signed


def _numbers(cells: Cells, decimal: str, thousands: str) -> tuple[np.ndarray, np.ndarray] | None:
    import pyarrow as pa
    import pyarrow.compute as pc

    starts, ends = cells.starts[cells.filled], (cells.starts + cells.lengths)[cells.filled]
    signed = cells.raw[starts] == ord("$")
    left_out = np.zeros(len(cells.raw), dtype=bool)
    left_out[starts[signed]] = True
    points = np.flatnonzero(cells.raw == ord(decimal))
    commas = np.flatnonzero(cells.raw == ord(thousands)) if thousands else points[:0]
    known = _DIGIT[cells.raw].sum() + len(points) + len(commas) + signed.sum()
    if known < len(cells.raw) or not _well_formed(cells.raw, starts + signed, ends, points, commas):
        return None
    left_out[commas] = True
    data = cells.raw[~left_out]
    if decimal != ".":
        data = np.where(data == ord(decimal), np.uint8(ord(".")), data)
    sizes = (ends - starts) - np.add.reduceat(left_out, starts, dtype=np.int64) if len(starts) else ends
    offsets = np.concatenate([_NONE, np.cumsum(sizes)])
    words = pa.LargeStringArray.from_buffers(len(sizes), pa.py_buffer(offsets), pa.py_buffer(data))
    made, with_sign = np.full(len(cells.lengths), np.nan), cells.filled.copy()
    made[cells.filled] = pc.cast(words, pa.float64()).to_numpy(zero_copy_only=False)
    with_sign[with_sign] = signed
    return made, with_sign


def _well_formed(raw: np.ndarray, starts: np.ndarray, ends: np.ndarray, points: np.ndarray, commas: np.ndarray) -> bool:
    """Whether each cell begins and ends with a digit, has at most one point, and commas only between groups of three."""
    if (ends - starts > LONGEST_NUMBER).any() or (ends <= starts).any():
        return False
    if not (_DIGIT[raw[starts]].all() and _DIGIT[raw[ends - 1]].all()):
        return False
    of = np.searchsorted(starts, points, side="right") - 1
    if (of[1:] == of[:-1]).any():
        return False
    whole_ends = ends.copy()
    whole_ends[of] = points
    of = np.searchsorted(starts, commas, side="right") - 1
    after = whole_ends[of] - commas
    groups, whole = np.bincount(of, minlength=len(starts)), whole_ends - starts
    grouped = groups > 0
    return bool(
        ((after > 0) & (after % 4 == 0)).all()
        and (groups == (whole - 1) // 4)[grouped].all()
        and (whole % 4 > 0)[grouped].all()
    )


def found_in(text: pd.Series, marks: Collection[bytes]) -> set[bytes]:
    """Which of the marks stand anywhere in the cells of a column, or in the words of a coded one, as UTF-8."""
    words = text.cat.categories.to_series() if isinstance(text.dtype, pd.CategoricalDtype) else text
    found: set[bytes] = set()
    for piece in pieces(words):
        held = Cells(piece).bytes
        found |= {mark for mark in marks if mark not in found and mark in held}
    return found


def not_blank(text: pd.Series) -> np.ndarray:
    """Which cells hold more than white space."""
    cells = Cells(text)
    mask = cells.filled.copy()
    first = cells.raw[cells.starts[mask]]
    doubtful = np.flatnonzero(mask)[(first <= 32) | (first > 126)]
    if len(doubtful):
        mask[doubtful] = (text.iloc[doubtful].str.strip() != "").to_numpy()
    return mask
