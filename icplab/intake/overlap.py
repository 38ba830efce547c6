"""Reads a table that comes from several files, makes one version of each record: the one changed last."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.intake.batch import Batch


def prefer_newest(batch: Batch) -> None:
    """Where files of the same table hold the same key, keep the record modified last (ICP-R036).

    Versions that differ and say the same time, or no time at all, are set aside (ICP-Q036): nothing tells which is right.
    Identical versions are left to the check of duplicates.
    """
    key = [k for k in batch.table.key if k in batch.frame]
    if len(batch.files) < 2 or not key:
        return
    frame = batch.frame[key].assign(file=batch.file)[batch.live & batch.frame[key].notna().any(axis=1).to_numpy()]
    groups = frame.groupby(key, dropna=False, sort=False)["file"]
    several = groups.transform("nunique") > 1
    rows = frame.index[several]
    if not len(rows):
        return
    group = frame.loc[rows].groupby(key, dropna=False, sort=False).ngroup()
    changed = _modified(batch).loc[rows]
    newest = changed.groupby(group).transform("max")
    older = (changed < newest).to_numpy()
    _drop(batch, rows[older])
    rest = rows[~older]
    differing = _differing(batch.frame.loc[rest], group.loc[rest])
    mask = _mask(batch, rest[differing])
    message = "stands in several files with different content, and no modified date tells which is newer"
    fix = "export the modified date with it, or leave out the older file"
    batch.note(mask, "ICP-Q036", message, fix=fix, column=key[0])


def _drop(batch: Batch, rows: pd.Index) -> None:
    """Older versions count as duplicates of the newer one."""
    mask = _mask(batch, rows)
    batch.note(
        mask,
        "ICP-R036",
        "another file holds a newer version of this record: that one is used",
        column=batch.table.key[0],
    )
    batch.duplicate |= mask


def _differing(frame: pd.DataFrame, group: pd.Series) -> np.ndarray:
    """Whether a row belongs to a group whose rows are not all the same."""
    versions = frame.assign(group=group).drop_duplicates()["group"].value_counts()
    return group.map(versions > 1).to_numpy()


def _modified(batch: Batch) -> pd.Series:
    """When each record was last changed, in microseconds, as far as the export says."""
    text = batch.parts.get("~modified", pd.Series("", index=batch.frame.index)).str.strip()
    time = pd.to_datetime(text.where(text != ""), format="ISO8601", errors="coerce", utc=True)
    return pd.Series(time.to_numpy("datetime64[us]").astype("int64"), index=text.index)  # no time sorts before any


def _mask(batch: Batch, rows: pd.Index) -> np.ndarray:
    mask = np.zeros(len(batch.frame), dtype=bool)
    mask[rows] = True
    return mask
