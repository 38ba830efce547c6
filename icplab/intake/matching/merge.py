"""Reads groups of accounts that are one organisation, makes one record of each: survivor, filled values, links turned to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.intake.batch import Batch
from icplab.intake.coded import decoded, is_coded, words_of

# The record that stays is the one that sales works with (rule of `choose_survivors`).
TYPE_ORDER = ("customer", "former", "partner", "competitor", "prospect")
LINK = "accounts.account_id"
_OWN = frozenset({"account_id", "name", "created_at"})


@dataclass(frozen=True)
class Merged:
    """What merging did.

    survivor_of : account merged away -> account that stays
    filled, conflicts : column -> values taken from the merged record, and values of it that were dropped because they differ
    """

    survivor_of: dict[str, str]
    filled: dict[str, int]
    conflicts: dict[str, int]


def survivor_order(batches: dict[str, Batch]) -> pd.Series:
    """Place of every account in the order of survival (index account_id; 0 survives all others).

    Customers before all others (by account type or a won opportunity), then more opportunities, then created earlier, then
    the smaller identifier.
    """
    accounts = _live(batches["accounts"]).drop_duplicates("account_id").set_index("account_id")
    count, won = pd.Series(dtype="int64"), pd.Series(dtype="int64")
    if "opportunities" in batches:
        deals = batches["opportunities"]
        count = _counted(deals.live_cells("account_id"))
        won = _counted(deals.frame.loc[deals.live & (deals.frame["status"] == "won").to_numpy(), "account_id"])
    kind = accounts["account_type"].map({t: i for i, t in enumerate(TYPE_ORDER)}).fillna(len(TYPE_ORDER))
    kind = kind.mask(won.reindex(accounts.index).fillna(0) > 0, 0)
    ranked = pd.DataFrame(
        {
            "kind": kind,
            "count": -count.reindex(accounts.index).fillna(0),
            "created": accounts["created_at"].fillna(pd.Timestamp.max.floor("us")),
            "id": accounts.index,
        }
    ).sort_values(["kind", "count", "created", "id"], kind="stable")
    return pd.Series(np.arange(len(ranked)), index=ranked.index)


def _counted(ids: pd.Series) -> pd.Series:
    """How often each id stands there."""
    counts = ids.value_counts()
    return counts.set_axis(counts.index.astype("str"))


def merge_accounts(batches: dict[str, Batch], groups: pd.Series, order: pd.Series) -> Merged:
    """Merge the accounts of each group into its survivor, in place.

    Values missing in the survivor come from the next in order; where both hold one, the survivor's stays and the difference is
    counted. The survivor counts as created when the first of them was. Every link to a merged account, in every table, points
    to the survivor; the merged record counts as `duplicate` in the ledger.

    Parameters
    ----------
    groups : account_id -> group, for accounts of groups of two and more
    order : from `survivor_order`
    """
    if groups.empty:
        return Merged({}, {}, {})
    place = order.reindex(groups.index)
    survivor = groups.map(place.groupby(groups).idxmin())
    gone = survivor[survivor != survivor.index]
    accounts = batches["accounts"]
    taken, filled, conflicts = _fill(accounts, survivor, order)
    accounts.duplicate |= (accounts.frame["account_id"].isin(gone.index) & accounts.live).to_numpy()
    _turn_links(batches, gone)
    _turn_history(batches, gone, taken)
    return Merged({str(k): str(v) for k, v in gone.sort_index().items()}, filled, conflicts)


def link_groups(accounts: Batch, pairs: list[tuple[str, str]], order: pd.Series) -> None:
    """Make a family of each pair answered `group`: the later in order gets the other as parent, where it has none."""
    held = accounts.frame.set_index("account_id")["parent_account_id"].dropna()
    parent = dict(zip(held.index.astype(str), held.astype(str), strict=True))
    for pair in pairs:
        head, child = sorted(pair, key=lambda a: int(order[a]))
        top_of_child, top = _top(parent, child), _top(parent, head)
        if top_of_child != top:
            parent[top_of_child] = top
    mapped = accounts.frame["account_id"].map(parent).astype("str")
    accounts.frame["parent_account_id"] = mapped.where(mapped.notna())


def _top(parent: dict[str, str], account: str) -> str:
    """Root of a chain of parents; a cycle (which stops the run elsewhere) ends where it began."""
    seen = {account}
    while (above := parent.get(account, account)) not in seen:
        seen.add(above)
        account = above
    return account


def _live(batch: Batch) -> pd.DataFrame:
    return batch.frame[batch.live]


def _fill(
    accounts: Batch, survivor: pd.Series, order: pd.Series
) -> tuple[pd.DataFrame, dict[str, int], dict[str, int]]:
    """Fill survivors; return which column of which merged account was taken, and counts of filled and differing values."""
    frame = accounts.frame
    rows = frame[frame["account_id"].isin(survivor.index) & accounts.live].copy()
    rows["_survivor"], rows["_order"] = rows["account_id"].map(survivor), rows["account_id"].map(order)
    rows = rows.sort_values("_order", kind="stable")
    columns = [c for c in frame if c not in _OWN]
    whole = rows.groupby("_survivor")[columns].first()  # the first value that is there
    own = rows.drop_duplicates("_survivor").set_index("_survivor")[columns].reindex(whole.index)
    missing = own.isna() & whole.notna()
    others = rows[rows["account_id"] != rows["_survivor"]]
    matched = own.reindex(others["_survivor"]).set_axis(others.index)
    differs = (others[columns] != matched) & others[columns].notna() & matched.notna()
    taken = others[columns].notna() & missing.reindex(others["_survivor"]).set_axis(others.index)
    place = frame.index[frame["account_id"].isin(whole.index) & accounts.live]
    ids = frame.loc[place, "account_id"]
    for column in [c for c in columns if missing[c].any()]:
        frame.loc[place, column] = whole[column].reindex(ids).set_axis(place)
    first_made = rows.groupby("_survivor")["created_at"].min()
    frame.loc[place, "created_at"] = first_made.reindex(ids).set_axis(place)
    return taken.set_axis(others["account_id"]), _counts(missing), _counts(differs)


def _counts(marked: pd.DataFrame) -> dict[str, int]:
    return {str(c): int(n) for c, n in marked.sum().items() if n}


def _turn_links(batches: dict[str, Batch], gone: pd.Series) -> None:
    """Every column that names an account names the survivor; nobody becomes their own parent."""
    for batch in batches.values():
        linking = [c.name for c in batch.table.columns if c.references == LINK]
        linking += ["account_id"] if batch.table.name == "market" else []
        for column in linking:
            values = batch.frame[column]
            if (words_of(values) if is_coded(values) else values).isin(gone.index).any():
                values = decoded(values)
                turned = values.map(gone)
                batch.frame[column] = values.where(turned.isna(), turned).astype(values.dtype)
    frame = batches["accounts"].frame
    frame["parent_account_id"] = frame["parent_account_id"].mask(frame["parent_account_id"] == frame["account_id"])


def _turn_history(batches: dict[str, Batch], gone: pd.Series, taken: pd.DataFrame) -> None:
    """Field changes of a merged account belong to the survivor for the values that were taken from it, and to nobody else."""
    if "field_history" not in batches:
        return
    frame = batches["field_history"].frame
    account, column = np.nonzero(taken.to_numpy(dtype=bool))
    marked = pd.MultiIndex.from_arrays([taken.index[account], taken.columns[column]])
    keys = pd.MultiIndex.from_frame(frame[["record_id", "field"]])
    mine = (frame["object"] == "accounts") & pd.Series(keys.isin(marked), index=frame.index)
    turned = frame["record_id"].map(gone)
    frame["record_id"] = frame["record_id"].where(~mine | turned.isna(), turned).astype(frame["record_id"].dtype)
