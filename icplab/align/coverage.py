"""Reads account, opportunity and canonical tables, makes fill rates of four data classes, also by outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

DATA_CLASSES = ("firmographic", "technographic", "behavioural", "economic")
_OF_CUSTOMERS = ("usage", "subscriptions")


def measure_coverage(
    accounts: pd.DataFrame, catalogue: pd.DataFrame, opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """How much of each data class is there, over all accounts and by what became of them.

    Parameters
    ----------
    accounts : DataFrame
        Account table (`features.build_accounts`).
    catalogue : DataFrame
        Candidate traits; `trait, table, family, excluded` are read.
    opportunities : DataFrame
        Opportunity table; `account_id, status, acv, margin_rate`.
    tables : mapping
        Canonical tables as known on the as-of date, for the accounts they say something about.

    Returns
    -------
    DataFrame
        One row per field: `data_class` (firmographic, technographic, behavioural, economic), `field, n` (rows asked),
        `fill_rate, won, lost, open, unworked` (fill among accounts, or opportunities, with that outcome; an account
        counts once under each outcome it has had). Sorted by data class and field; a class without any field has one
        row with n = 0.
    """
    rows = [*_trait_rows(accounts, catalogue, opportunities), *_table_rows(accounts, opportunities, tables)]
    rows += _economic_rows(opportunities)
    present = {r["data_class"] for r in rows}
    rows += [
        {"data_class": c, "field": "nothing", "n": 0.0, "fill_rate": 0.0} for c in DATA_CLASSES if c not in present
    ]
    table = pd.DataFrame(rows, columns=["data_class", "field", "n", "fill_rate", "won", "lost", "open", "unworked"])
    order = table["data_class"].map({c: i for i, c in enumerate(DATA_CLASSES)})
    table = table.assign(order=order).sort_values(["order", "field"], ignore_index=True).drop(columns="order")
    numbers = [c for c in table if c not in ("data_class", "field")]
    return table.astype({"data_class": "str", "field": "str", **dict.fromkeys(numbers, "float64")})


def show_outcomes(coverage: pd.DataFrame) -> pd.DataFrame:
    """Mean fill of each data class by outcome: `data_class, outcome, value, fields`, for a field of numbers."""
    there = coverage[coverage["n"] > 0].rename(columns={"fill_rate": "all"})
    outcomes = ["all", "won", "lost", "open", "unworked"]
    long = there.melt(["data_class", "field"], outcomes, "outcome", "fill").dropna(subset="fill")
    table = long.groupby(["data_class", "outcome"], sort=False)["fill"].agg(["mean", "size"]).reset_index()
    return table.rename(columns={"mean": "value", "size": "fields"})


def _trait_rows(
    accounts: pd.DataFrame, catalogue: pd.DataFrame, opportunities: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """One row per candidate trait, whatever its table."""
    masks = _account_masks(accounts, opportunities)
    for trait, table, family in zip(catalogue["trait"], catalogue["table"], catalogue["family"], strict=True):
        frame = accounts if table == "accounts" else opportunities
        if trait not in frame:
            continue
        data_class = "economic" if family == "value" else family
        groups = masks if table == "accounts" else _status_masks(opportunities)
        yield _fill(data_class, trait, frame[trait].notna(), groups)


def _table_rows(
    accounts: pd.DataFrame, opportunities: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> Iterator[dict[str, Any]]:
    """Accounts that a table of behaviour or money says anything about."""
    masks = _account_masks(accounts, opportunities)
    for data_class, name in (
        ("behavioural", "activities"),
        ("behavioural", "usage"),
        ("behavioural", "contacts"),
        ("behavioural", "leads"),
        ("economic", "subscriptions"),
    ):
        known = _accounts_in(name, accounts, tables)
        if known is None:
            continue
        # Only customers can use or subscribe: others lacking it is not a gap.
        asked = (
            accounts["is_customer"].fillna(False).astype(bool)
            if name in _OF_CUSTOMERS
            else accounts["account_id"].notna()
        )
        yield _fill(data_class, f"any {name}", known[asked], {g: m[asked] for g, m in masks.items()})


def _accounts_in(name: str, accounts: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.Series | None:
    """Which accounts a table names; None when it was not delivered. Activities are counted in the account table."""
    if name == "activities":
        return None if accounts["n_activities"].isna().all() else accounts["n_activities"] > 0
    table = tables.get(name)
    return None if table is None or not len(table) else accounts["account_id"].isin(table["account_id"])


def _economic_rows(opportunities: pd.DataFrame) -> Iterator[dict[str, Any]]:
    groups = _status_masks(opportunities)
    for column, name in (("acv", "amount"), ("margin_rate", "gross margin")):
        if len(opportunities):
            known = opportunities[column].notna() & (opportunities[column] != 0)
            yield _fill("economic", name, known, groups)


def _account_masks(accounts: pd.DataFrame, opportunities: pd.DataFrame) -> dict[str, pd.Series]:
    """Accounts with an opportunity of each status, and without any."""
    ids = accounts["account_id"]
    masks = {
        s: ids.isin(opportunities.loc[opportunities["status"] == s, "account_id"]) for s in ("won", "lost", "open")
    }
    return {**masks, "unworked": ~ids.isin(opportunities["account_id"])}


def _status_masks(opportunities: pd.DataFrame) -> dict[str, pd.Series]:
    return {s: opportunities["status"] == s for s in ("won", "lost", "open")}


def _fill(data_class: str, name: str, known: pd.Series, groups: Mapping[str, pd.Series]) -> dict[str, Any]:
    by_outcome = {g: float(known[m].mean()) if m.any() else np.nan for g, m in groups.items()}
    fill = float(known.mean()) if len(known) else 0.0
    return {"data_class": data_class, "field": name, "n": float(len(known)), "fill_rate": fill, **by_outcome}
