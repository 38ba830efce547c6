"""Reads the rows of a table, makes columns as arrays that are taken only when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

Column = npt.NDArray[Any]


class Columns:
    """Some rows of a table: `deals["acv"]` is an array, `deals[mask]` are the rows where `mask` holds.

    A measurement slices the same tables some hundred times and reads a few columns of each slice, so slices hold row
    numbers only.

    Parameters
    ----------
    arrays : mapping
        Columns of the whole table by name, without missing values but NaN and NaT.
    rows : ndarray of int
        Numbers of the rows meant.
    """

    __slots__ = ("_read", "arrays", "rows")

    def __init__(self, arrays: Mapping[str, Column], rows: npt.NDArray[np.intp]) -> None:
        self.arrays = arrays
        self.rows = rows
        self._read: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, key: str) -> Column: ...

    @overload
    def __getitem__(self, key: npt.NDArray[np.bool_]) -> Columns: ...

    def __getitem__(self, key: str | npt.NDArray[np.bool_]) -> Column | Columns:
        if not isinstance(key, str):
            return Columns(self.arrays, self.rows[key])
        if key not in self._read:
            self._read[key] = self.arrays[key][self.rows]
        return self._read[key]


def columns_of(frame: pd.DataFrame) -> Columns:
    """Every row of a table."""
    return Columns({str(c): frame[c].to_numpy() for c in frame}, np.arange(len(frame)))
