"""Reads accounts and all that happened around them, makes one row per account as known on a date."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from icplab.core.config import Settings
from icplab.core.engine import open_session
from icplab.features.catalogue import describe_traits, typed_traits
from icplab.features.families import build_families
from icplab.features.known import Tables, frame_of, known_frame, rolled_back
from icplab.features.measure import measure_accounts
from icplab.features.state import Refresh

IDENTITY = (*("account_id", "family_id", "name", "account_type", "owner", "domain", "linkedin_url", "created_at"),)


def build_accounts(
    tables: Tables, settings: Settings, as_of: pd.Timestamp, *, engine: str = "", refresh: Refresh | None = None
) -> pd.DataFrame:
    """One row per account known on `as_of`: identity, candidate traits (typed), and what was measured until then.

    Counts from a table that was delivered are 0 where an account has no row; figures from a table that was not are null.
    Columns: see docs/architecture.md. Sorted by account_id.

    Parameters
    ----------
    tables : canonical tables, each a frame or the Parquet file that holds it; files of events are never loaded
    settings : reporting currency, what an amount is, kinds of traits
    as_of : midnight of the day everything is computed as known on
    engine : as in `core.engine.open_session`; empty takes the one of the run
    refresh : summaries of events to start from and to leave (`features.state`); the result is the same

    Raises
    ------
    BadInput
        ICP-E065 when an amount is in a currency without a rate on its date.
    """
    everyone = frame_of(tables, "accounts")
    with open_session(engine, folders=_folders(tables)) as session:
        measured = measure_accounts(session, tables, everyone["account_id"], settings, as_of, refresh)
    history = frame_of(tables, "field_history")
    known = known_frame("accounts", everyone, as_of)
    if len(known) < len(everyone):
        measured = measured.iloc[everyone.index.get_indexer(known.index)]
    accounts = rolled_back(known, history, as_of)
    described = describe_traits("accounts", accounts, settings, known_frame("field_history", history, as_of))
    frame = typed_traits(accounts, described)
    frame["family_id"] = _families(accounts, tables, settings, as_of).to_numpy()
    traits = [r["trait"] for r in described if r["trait"] not in IDENTITY]
    frame = frame[[*IDENTITY, *traits]].reset_index(drop=True)
    measured = measured.reset_index(drop=True)
    measured["n_technologies"] = _technologies(frame, described)
    measured["is_customer"] = (measured["n_won"].fillna(0) > 0).astype("boolean")
    whole = pd.concat([frame, measured], axis=1)
    if whole["account_id"].is_monotonic_increasing:
        return whole
    return whole.sort_values("account_id", kind="stable", ignore_index=True)


def _families(accounts: pd.DataFrame, tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.Series:
    known: dict = {"accounts": accounts}
    if settings.source("accounts").row_id:
        known["opportunities"] = known_frame("opportunities", frame_of(tables, "opportunities"), as_of)
    return build_families(known, settings)


def _technologies(frame: pd.DataFrame, described: list[dict]) -> pd.Series:
    """Technologies an account is known to use: items of lists and flags said to be technology; null where all are blank."""
    count = pd.Series(0.0, index=frame.index)
    said = pd.Series(False, index=frame.index)
    for row in described:
        values = frame[row["trait"]]
        if row["kind"] == "multi":
            count += (values.str.count(";") + values.ne("").astype("float64")).fillna(0).astype("float64")
        elif row["kind"] == "flag" and row["role"] == "technology":
            count += values.fillna(False).astype("float64")
        else:
            continue
        said |= values.notna()
    return count.where(said)


def _folders(tables: Tables) -> list[Path]:
    return sorted({source.resolve().parent for source in tables.values() if isinstance(source, Path)})
