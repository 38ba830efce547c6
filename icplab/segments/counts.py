"""Reads two labels per account, makes how often they meet."""

from __future__ import annotations

import numpy as np
import pandas as pd


def count_pairs(one: pd.Series | np.ndarray, other: pd.Series | np.ndarray) -> np.ndarray:
    """(levels of one, levels of other) accounts with each pair of values, both in sorted order; unknown ones are left out."""
    row, rows = pd.factorize(np.asarray(one, dtype=object), sort=True)
    column, columns = pd.factorize(np.asarray(other, dtype=object), sort=True)
    both = (row >= 0) & (column >= 0)
    pair = row[both] * len(columns) + column[both]
    return np.bincount(pair, minlength=len(rows) * len(columns)).reshape(len(rows), len(columns)).astype(float)
