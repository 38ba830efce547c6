"""Reads the sample, makes workspaces of unusual shape out of it: what an export can be without being wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.schema import CANONICAL

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
Tables = dict[str, pd.DataFrame]
NEEDED = {name: set(table.required_columns) for name, table in CANONICAL.items()}
NEEDED["opportunities"] |= {"status", "created_at", "closed_at"}


def some_of_the_sample(accounts: int, rng: np.random.Generator | None = None) -> Tables:
    """The sample cut down to some accounts (the first, or drawn ones) and what belongs to them, as text."""
    tables = {p.stem: pd.read_csv(p, dtype="str", keep_default_na=False) for p in sorted(SAMPLE.glob("*.csv"))}
    ids = tables["accounts"]["account_id"].to_numpy()
    kept = set(ids[:accounts] if rng is None else rng.choice(ids, accounts, replace=False))
    tables = {n: t[t["account_id"].isin(kept)] if "account_id" in t else t for n, t in tables.items()}
    deals = {*tables["opportunities"]["opportunity_id"], ""}
    return {n: t[t["opportunity_id"].isin(deals)] if "opportunity_id" in t else t for n, t in tables.items()}


def only_ids(tables: Tables) -> Tables:
    """Nothing but the required columns: no trait, no amount."""
    deals = ["opportunity_id", "account_id", "created_at", "closed_at", "status"]
    return {"accounts": tables["accounts"][["account_id", "name"]], "opportunities": tables["opportunities"][deals]}


def two_tables(status: str) -> Callable[[Tables], Tables]:
    """Accounts, and fewer opportunities than accounts, all of one status."""

    def of(tables: Tables) -> Tables:
        deals = tables["opportunities"]
        return {"accounts": tables["accounts"], "opportunities": deals[deals["status"] == status]}

    return of


def simply_numbered(tables: Tables) -> Tables:
    """Accounts and opportunities numbered 1, 2, 3 …, so that the same ids mean different things."""
    number = {
        key: {old: str(i + 1) for i, old in enumerate(tables[table][key])}
        for table, key in (("accounts", "account_id"), ("opportunities", "opportunity_id"))
    }
    number["parent_account_id"] = number["account_id"]
    return {
        name: frame.assign(**{k: frame[k].map(number[k]).fillna("") for k in number if k in frame})
        for name, frame in tables.items()
    }


def one_account(tables: Tables) -> Tables:
    """Every opportunity with the same account."""
    first = tables["accounts"]["account_id"].iloc[0]
    return {"accounts": tables["accounts"], "opportunities": tables["opportunities"].assign(account_id=first)}


def set_to(table: str, column: str, value: str) -> Callable[[Tables], Tables]:
    """One column the same throughout."""
    return lambda tables: {**tables, table: tables[table].assign(**{column: value})}


SHAPES: dict[str, Callable[[Tables], Tables]] = {
    "only ids": only_ids,
    "all open": two_tables("open"),
    "all won": two_tables("won"),
    "all lost": two_tables("lost"),
    "one account": one_account,
    "simply numbered": simply_numbered,
    "partners": set_to("accounts", "account_type", "partner"),
    "expansions": set_to("opportunities", "type", "expansion"),
    "without amounts": set_to("opportunities", "amount", ""),
    "one day": set_to("opportunities", "created_at", "2025-01-02"),
}


def drawn(rng: np.random.Generator) -> Tables:
    """Some accounts, some of the optional tables, some of their columns; now and then a table with a header only."""
    tables = some_of_the_sample(int(rng.integers(100, 500)), rng)
    must = {"accounts", "opportunities"}
    kept = {n: t for n, t in tables.items() if n in must or rng.random() < 0.5}
    for name, table in kept.items():
        optional = [c for c in table if c not in NEEDED.get(name, set(table))]
        table = table.drop(columns=[c for c in optional if rng.random() < 0.25])
        kept[name] = table.head(int(rng.integers(2))) if name not in must and rng.random() < 0.1 else table
    return kept


def write(tables: Tables, folder: Path) -> Path:
    """The tables as CSV files of a workspace."""
    folder.mkdir(parents=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder
