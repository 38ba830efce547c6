"""Reads text columns, makes them small: distinct words and a code per record, so that each word is judged only once.

A coded column is a pandas categorical whose words stand in the order of their first appearance. What the rest of the intake
says about cells, it then says about words, with the same code; here it is spread to the records that hold them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from icplab.intake.batch import Batch
from icplab.intake.plain import PIECE, Cells, pieces

# Tables that grow with time: the large ones.
EVENTS = frozenset({"opportunities", "stage_history", "field_history", "activities", "usage"})
CODED_LINKS = frozenset({"opportunities", "activities"})  # of them, those whose links to other tables stay coded too
MOST_CHUNKS = 1000  # cells blanked in place; more of them are written anew with their column


class Words(Batch):
    """The distinct words of one coded column, as a batch in which each of them is a record; notes go to the real records."""

    def __init__(self, batch: Batch, name: str) -> None:
        words = words_of(batch.frame[name])
        none = np.zeros(len(words), dtype=np.int64)
        super().__init__(batch.table, pd.DataFrame({name: words}), batch.files, none, none, none)
        self.batch, self.codes, self.text = batch, codes_of(batch.frame[name]), batch.text
        self.iso_dates = batch.iso_dates
        self._follow()

    def note(
        self,
        rows: object,
        code: str,
        message: str,
        *,
        fix: str = "",
        column: str = "",
        shown: object = None,
        only_live: bool = False,
    ) -> None:
        """Hold `code` against all records whose word is marked."""
        mask = np.asarray(rows, dtype=bool)
        if mask.any():
            values = None if shown is None else np.asarray(shown, dtype=object)[self.codes]
            spread = mask[self.codes]
            self.batch.note(spread, code, message, fix=fix, column=column, shown=values, only_live=only_live)
            self._follow()

    def say(self, code: str, message: str, *, fix: str = "", column: str = "", value: str = "", count: int = 1) -> None:
        """A problem of the table as a whole."""
        self.batch.say(code, message, fix=fix, column=column, value=value, count=count)

    def _follow(self) -> None:
        """A word is stopped when all records that hold it are."""
        if self.batch.stopped.any():
            going = np.bincount(self.codes[~self.batch.stopped], minlength=len(self.stopped))
            self.stopped = going == 0

    def count_values(self, name: str, rows: pd.Series) -> pd.Series:
        """Records per marked word."""
        counts = pd.Series(np.bincount(self.codes, minlength=len(self.frame)), index=self.frame[name])
        return counts[np.asarray(rows, dtype=bool)]


def is_coded(column: pd.Series) -> bool:
    """Whether a column holds codes of words."""
    return isinstance(column.dtype, pd.CategoricalDtype)


class Packed:
    """Text without nulls set aside for messages, in compressed pieces; `iloc` gives back cells of the places asked for."""

    def __init__(self, text: pd.Series) -> None:
        import pyarrow as pa

        self.parts: list[tuple[bytes, int, bytes, int]] = []  # lengths and letters, each with its size as it was
        for piece in pieces(text):
            cells = Cells(piece)
            lengths, letters = cells.lengths.astype(np.int32).tobytes(), cells.bytes
            packed = [pa.compress(b, codec="zstd", asbytes=True) for b in (lengths, letters)]
            self.parts.append((packed[0], len(lengths), packed[1], len(letters)))

    @property
    def iloc(self) -> Packed:
        """The places of the cells."""
        return self

    def __getitem__(self, places: Any) -> Any:
        """The cell of a place, or the cells of many, in their order, as objects."""
        at = np.atleast_1d(np.asarray(places, dtype=np.int64))
        found = np.full(len(at), None, dtype=object)
        for part in np.unique(at // PIECE).tolist():
            mine = at // PIECE == part
            found[mine] = self._part(part, at[mine] - part * PIECE)
        return found if np.ndim(places) else found[0]

    def _part(self, number: int, places: np.ndarray) -> list[str]:
        import pyarrow as pa

        lengths, length, letters, size = self.parts[number]
        sizes = np.frombuffer(pa.decompress(lengths, length, codec="zstd"), dtype=np.int32)
        ends = np.cumsum(sizes, dtype=np.int64)
        held = pa.decompress(letters, size, codec="zstd", asbytes=True)
        return [held[e - s : e].decode() for e, s in zip(ends[places].tolist(), sizes[places].tolist(), strict=True)]


def from_codes(codes: np.ndarray, words: Any) -> pd.Series:
    """A coded column; code -1 is null."""
    made = pd.Categorical.from_codes(codes, categories=pd.Index(words, dtype="str"), validate=False)
    return pd.Series(made, copy=False)


def words_of(column: pd.Series) -> pd.Series:
    """The words of a coded column."""
    return pd.Series(column.cat.categories.array, dtype="str")


def codes_of(column: pd.Series) -> np.ndarray:
    """The code of each record; -1 where null."""
    return np.asarray(column.array.codes)


def recoded(column: pd.Series, made: pd.Series) -> pd.Series:
    """A coded column after each word became something else: text stays coded, other types are spread to the records."""
    codes = codes_of(column)
    if made.dtype != "str":
        values = pd.api.extensions.take(made.array, codes, allow_fill=True)
        return pd.Series(values, index=column.index, copy=False)
    places, words = pd.factorize(made)
    if len(words) == len(places) and (places == np.arange(len(places))).all():
        return _first_seen(codes, words).set_axis(column.index)  # no two words became one, and none null
    places = np.append(places, -1)  # code -1, a null cell, takes the last place
    return _first_seen(places[codes], words).set_axis(column.index)


def map_words(column: pd.Series, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """`function`, which looks at every cell by itself, applied to each distinct word once where the column is coded."""
    if not is_coded(column):
        return function(column)
    made = function(words_of(column))
    return recoded(column, made)


def blanked(column: pd.Series, rows: np.ndarray) -> pd.Series:
    """Empty text in the marked records."""
    if not is_coded(column):
        return _blanked_text(column, np.flatnonzero(rows))
    words, codes = words_of(column), codes_of(column)
    at = np.flatnonzero(words == "")
    blank = int(at[0]) if len(at) else len(words)
    words = words if len(at) else pd.concat([words, pd.Series([""], dtype="str")], ignore_index=True)
    codes = codes.astype(np.promote_types(codes.dtype, np.min_scalar_type(-blank - 1)))
    codes[rows] = blank
    return _first_seen(codes, words).set_axis(column.index)


def _blanked_text(column: pd.Series, rows: np.ndarray) -> pd.Series:
    """Plain text with some cells empty; the others are not copied, so few of them cost no memory."""
    import pyarrow as pa

    if len(rows) > MOST_CHUNKS or column.dtype != "str":
        return column.mask(pd.Series(np.isin(np.arange(len(column)), rows), index=column.index), "")
    text, given = pa.large_string(), _chunks(column)
    ends, parts = [*rows.tolist(), len(column)], given.slice(0, int(rows[0])).chunks
    for row, end in zip(rows.tolist(), ends[1:], strict=True):
        parts += [pa.array([""], type=text), *given.slice(row + 1, end - row - 1).chunks]
    return pa.chunked_array(parts, type=text).to_pandas().astype("str").set_axis(column.index)


def _chunks(column: pd.Series) -> Any:
    import pyarrow as pa

    given = pa.array(column, type=pa.large_string())
    return given if isinstance(given, pa.ChunkedArray) else pa.chunked_array([given])


def in_one(column: pd.Series) -> pd.Series:
    """Plain text in one piece of memory, which rows are taken from faster; any other column as it is."""
    import pyarrow as pa

    if column.dtype != "str" or (chunks := _chunks(column)).num_chunks < 2:
        return column
    whole = pa.chunked_array([chunks.combine_chunks()], type=pa.large_string())
    return whole.to_pandas().astype("str").set_axis(column.index)


def tidied(column: pd.Series) -> pd.Series:
    """The same column; of a coded one, only words that occur, in the order of their first appearance."""
    return _first_seen(codes_of(column), column.cat.categories).set_axis(column.index) if is_coded(column) else column


def decoded(column: pd.Series) -> pd.Series:
    """The column as plain text."""
    if not is_coded(column) or len(column) <= PIECE:
        return column.astype("str") if is_coded(column) else column
    import pyarrow as pa

    words, codes = pa.array(words_of(column), type=pa.large_string()), codes_of(column)
    parts = [pa.array(c, mask=c < 0) for c in np.split(codes, range(PIECE, len(codes), PIECE))]
    whole = pa.chunked_array([pa.concat_arrays([words.take(p) for p in parts])], type=pa.large_string())
    return whole.to_pandas().astype("str").set_axis(column.index)


def _first_seen(codes: np.ndarray, words: Any) -> pd.Series:
    """A coded column whose words are those that occur, in the order of their first appearance."""
    index = pd.Index(words, dtype="str")
    unused = _unused_before(codes, len(index))
    if unused is not None:
        return from_codes(codes - codes.dtype.type(unused) if unused else codes, index[unused:])
    order = pd.unique(codes)
    order = order[order >= 0]
    place = np.full(len(index) + 1, -1, dtype=codes.dtype)  # code -1, a null cell, reads the last place
    place[order] = np.arange(len(order))
    return from_codes(place[codes], index[order])


def _unused_before(codes: np.ndarray, words: int) -> int | None:
    """How many of the first words no record holds, when the others stand in the order of their first appearance."""
    if not len(codes) or not words:
        return None
    unused = max(int(codes[0]), 0)
    highest = np.maximum.accumulate(codes)
    if highest[-1] != words - 1 or (np.diff(highest) > 1).any() or (unused and codes.min() < unused):
        return None
    return unused
