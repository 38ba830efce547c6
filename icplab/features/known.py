"""Reads canonical tables, makes what was known of them on a date: as frames, and as SQL for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from icplab.core.schema import CANONICAL
from icplab.core.store import read_parquet

Source = pd.DataFrame | Path
Tables = Mapping[str, Source]  # a frame, or the Parquet file it would be read from

# Date column by which a row of a table came into being. Tables without one are taken as they are.
BORN = {
    "accounts": "created_at",
    "opportunities": "created_at",
    "stage_history": "entered_at",
    "leads": "created_at",
    "activities": "occurred_at",
    "usage": "period",
    "campaigns": "started_at",
    "spend": "month",
    "rates": "valid_from",
    "field_history": "changed_at",
    "traffic": "month",
    "subscriptions": "started_at",
    "feedback": "given_at",
    "events": "happened_at",
}
# Dates that may lie ahead of `as_of` although the row is older: they are not known yet.
LATER = {
    "opportunities": ("closed_at",),
    "leads": ("qualified_at", "accepted_at", "disqualified_at"),
    "subscriptions": ("ended_at",),
    "campaigns": ("ended_at",),
}
# What an opportunity that closed later shows: it is open, and nobody knows why it will be lost.
REOPENED = {"status": "open", "loss_reason": None}


def frame_of(tables: Tables, name: str) -> pd.DataFrame:
    """A table as a frame, read when it stands as a file; empty and typed when it is not there."""
    source = tables.get(name)
    if source is None:
        return CANONICAL[name].empty()
    return read_parquet(source) if isinstance(source, Path) else source


def view_on(tables: Mapping[str, pd.DataFrame], as_of: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """Canonical tables as known on `as_of` (inclusive).

    Rows born later are gone; dates after `as_of` are blank; an opportunity that closed later is open again, without loss
    reason; account values changed later (per `field_history`) are back at their old value. Rows without a birth date stay.
    """
    view = {name: known_frame(name, frame, as_of) for name, frame in tables.items()}
    if "accounts" in view:
        view["accounts"] = rolled_back(view["accounts"], tables.get("field_history"), as_of)
    return view


def known_table(tables: Tables, name: str, as_of: pd.Timestamp) -> pd.DataFrame:
    """One canonical table as `view_on` gives it."""
    frame = known_frame(name, frame_of(tables, name), as_of)
    return rolled_back(frame, frame_of(tables, "field_history"), as_of) if name == "accounts" else frame


def known_frame(name: str, frame: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """One table as known on `as_of`, its values as exported (`rolled_back` takes those of accounts back)."""
    if name in BORN:
        born = frame[BORN[name]]
        frame = frame[born.isna() | (born <= as_of)]
    frame = frame.copy()
    if name == "opportunities":
        later = frame["closed_at"] > as_of
        for column, value in REOPENED.items():
            frame[column] = frame[column].mask(later, value)
    for column in LATER.get(name, ()):
        frame[column] = frame[column].where(frame[column] <= as_of)
    return frame


def rolled_back(accounts: pd.DataFrame, history: pd.DataFrame | None, as_of: pd.Timestamp) -> pd.DataFrame:
    """Account values as they were on `as_of`: the old value of the first change after it."""
    if history is None or history.empty:
        return accounts
    later = history[(history["object"] == "accounts") & (history["changed_at"] > as_of)]
    columns = ["changed_at", *(str(c) for c in history if c != "changed_at")]
    first = later.sort_values(columns, kind="stable").drop_duplicates(["record_id", "field"])
    for field, changes in first.groupby("field"):
        if field in accounts and field != "account_id":
            back = changes.set_index("record_id")["old_value"]
            known = accounts["account_id"].isin(back.index)
            old = accounts.loc[known, "account_id"].map(back)
            number = accounts[field].dtype == "float64"
            accounts.loc[known, field] = pd.to_numeric(old, errors="coerce") if number else old
    return accounts


def known_sql(name: str, columns: tuple[str, ...], as_of: pd.Timestamp) -> str:
    """The same view as a SELECT of `columns`; all names come from the declarations of the schema, none from data."""
    day = sql_day(as_of)
    chosen = []
    for column in columns:
        if column in LATER.get(name, ()):
            chosen.append(f"CASE WHEN {column} <= {day} THEN {column} END AS {column}")
        elif name == "opportunities" and column in REOPENED:
            value = REOPENED[column]
            then = "NULL" if value is None else f"'{value}'"
            chosen.append(f"CASE WHEN closed_at > {day} THEN {then} ELSE {column} END AS {column}")
        else:
            chosen.append(column)
    where = f" WHERE {BORN[name]} IS NULL OR {BORN[name]} <= {day}" if name in BORN else ""
    return f"SELECT {', '.join(chosen)} FROM {name}{where}"


def sql_day(day: pd.Timestamp) -> str:
    """A timestamp literal."""
    return f"TIMESTAMP '{day:%Y-%m-%d %H:%M:%S}'"
