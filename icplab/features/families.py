"""Reads accounts and their parents, makes families: the unit of resampling."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.features.known import Tables, frame_of

# How an opportunity ended, which must not decide who is left out together: a twin with the other result would be learned from.
RESULT = ("status", "closed_at", "stage", "loss_reason")


def build_families(tables: Tables, settings: Settings) -> pd.Series:
    """Family of each account (index account_id): the root of its parent chain, the unit of resampling.

    Exports without identifiers (`row_id`) cannot say whether two identical records are one organisation, so records
    that agree in everything but their result share a family.
    """
    accounts = frame_of(tables, "accounts")
    ids = pd.Index(accounts["account_id"])
    if settings.source("accounts").row_id:
        return _identical(accounts, frame_of(tables, "opportunities"), ids)
    place = np.arange(len(ids))
    parent = ids.get_indexer(pd.Index(accounts["parent_account_id"]))
    parent = np.where(parent < 0, place, parent)
    # Pointer jumping: each round doubles the distance; 20 rounds reach any real hierarchy, and a loop cannot hang it.
    for _ in range(20):
        parent = parent[parent]
    return pd.Series(ids.to_numpy()[parent], index=ids).astype("str")


def _identical(accounts: pd.DataFrame, opportunities: pd.DataFrame, ids: pd.Index) -> pd.Series:
    """Accounts whose records agree in everything but ids and results share a family: that of the first such record."""
    accounts = accounts.drop(columns=["name", "domain", "parent_account_id"], errors="ignore")
    opportunities = opportunities.drop(columns=["opportunity_id", *RESULT], errors="ignore")
    records = accounts.merge(opportunities, on="account_id", how="left", suffixes=("", "_opportunity"))
    records = records.sort_values("account_id", kind="stable")
    code = records.drop(columns="account_id").astype("str").fillna("").agg("\x1f".join, axis=1)
    code = code.groupby(records["account_id"]).agg("\x1e".join)
    first = pd.Series(code.index, index=code.index).groupby(code).transform("min")
    return first.reindex(ids).astype("str")
