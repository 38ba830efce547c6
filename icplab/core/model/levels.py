"""Reads accounts and the inputs of a card, makes levels and points of every row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.model.card import MISSING, OTHER, POSTERIOR, UNSEEN, Input

MEMBERSHIP_UNIT = 1_000_000  # memberships have six digits


def add_segments(accounts: pd.DataFrame, account_segments: pd.DataFrame) -> pd.DataFrame:
    """Account table with segment_id, membership columns (where there are any) and motion; rows in account_id order."""
    columns = ["account_id", "segment_id", *(c for c in map(str, account_segments) if c.startswith(POSTERIOR))]
    joined = accounts.drop(columns=[c for c in columns[1:] if c in accounts]).merge(
        account_segments[columns], on="account_id", how="left"
    )
    customer = joined["is_customer"].fillna(False).astype("bool")
    motion = pd.Series(np.where(customer, "expansion", "new"), index=joined.index, dtype="str")
    return joined.assign(motion=motion).sort_values("account_id", ignore_index=True)


def with_posteriors(account_segments: pd.DataFrame, posteriors: pd.DataFrame) -> pd.DataFrame:
    """The artefact `account_segments` with one membership column per segment, from account_id and a column per segment."""
    columns = {c: POSTERIOR + c for c in posteriors.columns if c != "account_id"}
    return account_segments.merge(posteriors.rename(columns=columns), on="account_id", how="left")


def level_codes(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Position of each row's level in `item.levels`; MISSING or UNSEEN where there is none.

    A column that is not there at all is missing everywhere. Not for kind posterior, which has no single level.
    """
    if item.trait not in frame:
        return np.full(len(frame), MISSING)
    values = frame[item.trait]
    if item.kind == "number":
        numbers = values.to_numpy("float64", na_value=np.nan)
        return np.where(np.isnan(numbers), MISSING, np.searchsorted(item.edges, numbers, side="right"))
    if item.kind == "flag":
        return values.astype("boolean").astype("Int8").fillna(MISSING).to_numpy("int64")
    known = values.notna().to_numpy()
    if item.kind == "item":
        has = (";" + values.astype("str") + ";").str.contains(f";{item.item};", regex=False).fillna(False)
        return np.where(known, has.to_numpy("int64"), MISSING)
    codes = pd.Index(item.levels).get_indexer(pd.Index(values.astype("str")))
    rest = item.levels.index(OTHER) if OTHER in item.levels else UNSEEN
    return np.where(~known, MISSING, np.where(codes < 0, rest, codes))


def weights_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Rows × (levels + 1): which level a row has (or with which probability); the last column says it is unknown."""
    weights = np.zeros((len(frame), len(item.levels) + 1))
    if item.kind == "posterior":
        columns = [POSTERIOR + level for level in item.levels]
        if set(columns) <= set(frame):
            weights[:, :-1] = frame[columns].to_numpy("float64", na_value=np.nan)
        unknown = ~(np.nansum(weights, axis=1) > 0)
        weights[unknown] = 0.0
        weights[:, -1] = unknown
        return weights
    codes = level_codes(item, frame)
    weights[np.arange(len(frame)), np.where(codes < 0, len(item.levels), codes)] = 1.0
    return weights


def points_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Points of one input per row, whole numbers."""
    if item.kind != "posterior":
        return np.rint(effect_of(item, frame)).astype("int64")
    return whole_points(weights_of(item, frame), np.array([*item.points, item.missing]))


def whole_points(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Weighted mean of points per row (rows × levels), halves rounded up.

    In whole numbers from start to end, so that every engine that runs the card comes to the same points.
    """
    parts = np.rint(np.nan_to_num(weights) * MEMBERSHIP_UNIT).astype("int64")
    total = parts @ np.rint(points).astype("int64")
    return np.floor_divide(total + MEMBERSHIP_UNIT // 2, MEMBERSHIP_UNIT)


def effect_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """What one input adds per row, unrounded."""
    worth = np.array([*item.points, item.missing])
    if item.kind == "posterior":
        return weights_of(item, frame) @ worth
    codes = level_codes(item, frame)
    return worth[np.where(codes < 0, len(item.levels), codes)]


def level_of(item: Input, frame: pd.DataFrame) -> pd.Series:
    """Level of one input per row, in words; a posterior is named by the segment it is highest for."""
    if item.kind == "posterior":
        weights = weights_of(item, frame)
        codes = np.where(weights[:, -1] > 0, MISSING, weights[:, :-1].argmax(axis=1))
    else:
        codes = level_codes(item, frame)
    names = np.array([*item.levels, "not seen before", "unknown"], dtype=object)
    return pd.Series(names[codes], index=frame.index, dtype="str")
