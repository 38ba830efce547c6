"""Reads an Arrow batch of accounts, makes its columns as numbers and codes, each decoded once, and sums of what codes are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icplab.core.model.card import MISSING, OTHER, UNSEEN

HELD = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(
    bool
)  # (combinations, items): which of eight items are held
SAMPLE = 4096  # rows from which it is seen whether lists are alike
JOINT = 4096  # codes of several columns that are looked up together at most: their table stays in the nearest cache


@dataclass(frozen=True)
class Codes:
    """Levels of one variable: `places[rows]` is the position of the level, MISSING or UNSEEN. `rows` may be one for all."""

    rows: np.ndarray
    places: np.ndarray

    def take(self, worth: np.ndarray) -> np.ndarray:
        """What each row is worth; `worth` holds a value per level, then the one for unknown, then the one for unseen."""
        return self.table(worth).take(self.rows, axis=0)

    def table(self, worth: np.ndarray) -> np.ndarray:
        """What each of the positions that `rows` points to is worth."""
        last = np.where(self.places == UNSEEN, len(worth) - 1, len(worth) - 2)
        return worth[np.where(self.places < 0, last, self.places)]

    def unseen(self, rows: int) -> int:
        """How many of so many rows have a level that the model never saw."""
        strange = self.places == UNSEEN
        if not strange.any():
            return 0
        return rows if len(self.rows) == 1 else int(strange.take(self.rows).sum())


class Columns:
    """Columns of one batch, each decoded once."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch, self.rows = batch, batch.num_rows
        self._numbers: dict[str, np.ndarray] = {}
        self._texts: dict[str, pa.DictionaryArray] = {}
        self._items: dict[str, tuple[np.ndarray, tuple[np.ndarray, np.ndarray, list[str]]]] = {}

    def has(self, name: str) -> bool:
        """Whether the column is there."""
        return name in self.batch.schema.names

    def text(self, name: str) -> pa.DictionaryArray:
        """A column of texts as dictionary codes, without blanks around them; all null where it is not there."""
        if name not in self._texts:
            column = self.batch[name] if self.has(name) else pa.nulls(self.rows, pa.string())
            column = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            trimmed = pc.utf8_trim_whitespace(column.dictionary.cast(pa.string()))
            self._texts[name] = pa.DictionaryArray.from_arrays(column.indices, trimmed, safe=False)
        return self._texts[name]

    def number(self, name: str) -> np.ndarray:
        """A column of numbers, NaN where unknown."""
        if name not in self._numbers:
            known = self.has(name)
            values = self.batch[name].to_numpy(zero_copy_only=False) if known else np.full(self.rows, np.nan)
            self._numbers[name] = values.astype("float64", copy=False)
        return self._numbers[name]

    def flag(self, name: str) -> Codes:
        """A column of yes and no."""
        if not self.has(name):
            return same(MISSING)
        rows = pc.fill_null(self.batch[name].cast(pa.int8()), 2).to_numpy(zero_copy_only=False)
        return Codes(rows, np.array([0, 1, MISSING]))

    def bins(self, name: str, edges: Sequence[float]) -> Codes:
        """Which stretch between edges a number lies in; a value on an edge belongs above it."""
        if not self.has(name):
            return same(MISSING)
        values, rows = self.number(name), np.zeros(self.rows, dtype=np.int16)
        for edge in edges:  # a few comparisons of whole columns are quicker than a search per value
            rows += values >= edge
        unknown = np.isnan(values)
        if unknown.any():
            rows[unknown] = len(edges) + 1
        return Codes(rows, np.append(np.arange(len(edges) + 1), MISSING))

    def levels(self, name: str, levels: Sequence[str], other: str = OTHER) -> Codes:
        """Position of a text among levels; a text that is none of them is `other`, where that is a level."""
        if not self.has(name):
            return same(MISSING)
        column = self.text(name)
        found = pc.index_in(column.dictionary, value_set=pa.array(levels, pa.string()))
        rest = levels.index(other) if other in levels else UNSEEN
        places = pc.fill_null(found, rest).to_numpy(zero_copy_only=False).astype(np.intp)
        return Codes(indices(column), np.append(places, MISSING))

    def items(self, name: str, wanted: Sequence[str]) -> list[tuple[Codes, np.ndarray]]:
        """Which of the items wanted a list holds, eight at a time.

        Returns
        -------
        Per eight items: codes of the 256 combinations (or unknown), and which items each combination holds (256, items).
        """
        if name not in self._items:
            self._items[name] = self._lists(name)
        rows, (starts, parts, names) = self._items[name]
        place = {item: k for k, item in enumerate(wanted)}
        of = np.array([place.get(n, -1) for n in names], dtype=np.int64)
        return [
            (self._held(rows, starts, parts, of - first), HELD[:, : len(wanted) - first])
            for first in range(0, len(wanted), 8)
        ]

    def _held(self, rows: np.ndarray, starts: np.ndarray, parts: np.ndarray, place: np.ndarray) -> Codes:
        """One bit for each of eight items, per list."""
        if len(starts) == 0:
            return same(MISSING)
        bits = np.where((place >= 0) & (place < 8), 1 << np.clip(place, 0, 7), 0).astype(np.uint8)
        held = np.bitwise_or.reduceat(bits[parts], starts).astype(np.int16)
        held[-1] = len(HELD)  # the list that stands for unknown
        places = np.append(np.arange(len(HELD)), MISSING)
        return Codes(held[rows], places)

    def _lists(self, name: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, list[str]]]:
        """Row of each account among lists, of which the last stands for unknown, and their parts."""
        if not self.has(name):
            return np.zeros(0, dtype=np.int8), (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), [])
        column = self.batch[name]
        if not pa.types.is_dictionary(column.type):
            few = len(column.slice(0, SAMPLE).unique()) < SAMPLE / 2
            if few:
                column = column.dictionary_encode()
        if pa.types.is_dictionary(column.type):
            return indices(column), _parts(column.dictionary)
        last, rows = len(column), np.arange(len(column))
        if column.null_count:
            rows = np.where(column.is_null().to_numpy(zero_copy_only=False), last, rows)
        return rows, _parts(column)

    def one_of(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Whether the text of each row is one of those given."""
        column = self.text(name)
        hit = np.array([str(v) in texts for v in column.dictionary.to_pylist()] + [False])
        return hit[indices(column)]


def same(place: int) -> Codes:
    """One level for all rows."""
    return Codes(np.zeros(1, dtype=np.int8), np.array([place]))


def indices(column: pa.DictionaryArray) -> np.ndarray:
    """Codes of a dictionary column; the last place after it where a value is null."""
    codes = column.indices
    return (pc.fill_null(codes, len(column.dictionary)) if codes.null_count else codes).to_numpy()


def join_codes(parts: Sequence[tuple[Codes, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Variables with few levels as one variable with a level per combination: fewer look-ups, the same sums.

    Parameters
    ----------
    parts : codes of a variable, and what its levels, unknown and unseen are worth: (levels + 2,) or (levels + 2, outputs)

    Returns
    -------
    Per joined variable: code of each row (or one for all), and what each code is worth.
    """
    joined: list[tuple[np.ndarray, np.ndarray]] = []
    for codes, values in parts:
        rows, worth = codes.rows, codes.table(values)
        if len(worth) <= JOINT:
            rows = rows.astype(np.int16, copy=False)
            if joined and len(rows) == len(joined[-1][0]) and len(joined[-1][1]) * len(worth) <= JOINT:
                before, table = joined.pop()
                rows = before * np.int16(len(worth)) + rows
                worth = (table[:, None] + worth[None]).reshape(-1, *worth.shape[1:])
        joined.append((rows, worth))
    return joined


def add_worth(total: np.ndarray, joined: Sequence[tuple[np.ndarray, np.ndarray]], part: slice | None = None) -> None:
    """Add to `total` (rows, or outputs × rows) what every variable of `join_codes` is worth, for a part of the rows."""
    for codes, table in joined:
        rows = codes if part is None or len(codes) == 1 else codes[part]
        if total.ndim == 1:
            total += table.take(rows)
            continue
        for row, worth in zip(total, table.T, strict=True):
            row += worth.take(rows)


def _parts(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Lists separated by semicolons, and an empty one: where each starts, the code of each part, the text of each code."""
    split = pc.split_pattern(pc.fill_null(texts.cast(pa.string()), ""), ";")
    offsets = split.offsets.to_numpy().astype(np.int64)
    parts = split.values.slice(offsets[0], offsets[-1] - offsets[0]).dictionary_encode()
    names = pc.utf8_trim_whitespace(parts.dictionary).to_pylist()
    codes = np.append(parts.indices.to_numpy(), len(names))  # every list has a part, if an empty one
    return offsets - offsets[0], codes, [*names, ""]
