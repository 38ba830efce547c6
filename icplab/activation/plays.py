"""Reads the rows of a run and the playbook, makes plays per cell and account, territories and list definitions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.activation.rows import INTENT_HIGH, TARGETS, neutralise, one_cell
from icplab.core.model import RANKED


def plan_cells(rows: pd.DataFrame, playbook: Mapping) -> pd.DataFrame:
    """One row per segment × tier × intent that holds accounts, with the most specific play of the playbook.

    A play covers a cell when its tier, segment (id or name), intent and motion are the cell's or `any`; the one naming most
    of them wins, the earlier one among equals.
    """
    keys = ["segment_id", "segment", "tier", "intent", "motion"]
    ranked = rows[rows["tier"].isin(RANKED)]
    cells = ranked.groupby(keys, observed=True).size().rename("accounts").reset_index()
    plays = [p for p in list_of(playbook, "plays") if p.get("play")]
    chosen = [_best_play(cell, plays) for cell in cells.to_dict("records")]
    for column in ("play", "owner", "steps", "sla_days"):
        cells[column] = pd.Series([one_cell(p.get(column)) for p in chosen], index=cells.index, dtype="str")
    return cells.sort_values(keys, ignore_index=True)


def territories(rows: pd.DataFrame, owners: pd.DataFrame | None) -> pd.DataFrame:
    """One row per seller: accounts by tier, expected value, capacity and whether it is exceeded by tiers 1 and 2."""
    by_owner = rows.assign(owner=rows["owner"].fillna("(nobody)"))
    counts = pd.crosstab(by_owner["owner"], by_owner["tier"]).reindex(columns=list(RANKED), fill_value=0)
    table = counts.rename_axis("owner", axis=0).rename_axis(None, axis=1).reset_index()
    worth = by_owner[by_owner["tier"].isin(TARGETS)].groupby("owner")["expected_value"].sum().round(2)
    table["expected_value"] = table["owner"].map(worth).fillna(0.0)
    capacity = (
        owners.set_index("owner")["capacity"] if owners is not None and len(owners) else pd.Series(dtype="float64")
    )
    table["capacity"] = table["owner"].map(capacity)
    load = table["tier_1"] + table["tier_2"]
    table["over_capacity"] = np.where(table["capacity"].isna(), "", np.where(load > table["capacity"], "yes", "no"))
    return with_version(table, rows)


def list_definitions(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per list: its name, the filter as HubSpot and Salesforce would hold it, and how many accounts it holds now."""
    found = []
    for tier in RANKED:
        inside = rows[rows["tier"] == tier]
        found.append((tier, f'hs_ideal_customer_profile is any of "{tier}"', f"ICP_Tier__c = '{tier}'", len(inside)))
        for segment, part in inside.groupby("segment_id"):
            hubspot = f'hs_ideal_customer_profile is any of "{tier}" AND icp_segment is "{segment}"'
            salesforce = f"ICP_Tier__c = '{tier}' AND ICP_Segment__c = '{segment}'"
            found.append((f"{tier} in {segment}", hubspot, salesforce, len(part)))
    now = rows[rows["tier"].isin(TARGETS) & (rows["intent_score"] >= INTENT_HIGH)]
    hubspot = f'hs_ideal_customer_profile is any of "tier_1", "tier_2" AND icp_intent_score >= {INTENT_HIGH:g}'
    salesforce = f"ICP_Tier__c IN ('tier_1', 'tier_2') AND ICP_Intent_Score__c >= {INTENT_HIGH:g}"
    found.append(("right now", hubspot, salesforce, len(now)))
    return pd.DataFrame(found, columns=["list", "hubspot_filter", "salesforce_filter", "accounts"])


def account_plays(rows: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    keys = ["segment_id", "segment", "tier", "intent", "motion"]
    ranked = rows[rows["tier"].isin(RANKED)].drop(columns="owner", errors="ignore")
    table = ranked.merge(cells.drop(columns="accounts"), on=keys, how="left").sort_values("account_id")
    # The hold-out stays in business as usual: no play.
    held = table["hold_out"] == "yes"
    for column in ("play", "owner", "sla_days"):
        table[column] = table[column].mask(held, "business as usual" if column == "play" else "")
    first = ["account_id", "name", "segment_id", "tier", "intent", "motion"]
    return table[[*first, "play", "owner", "sla_days", "hold_out", "as_of", "model_version"]]


def with_messages(cells: pd.DataFrame, playbook: Mapping) -> pd.DataFrame:
    """Cells with what the playbook says about their segment."""
    segments = playbook.get("segments", {})
    segments = segments if isinstance(segments, Mapping) else {}
    # Scores and raters are tables of their own, not words for a play.
    keys = sorted(
        {k for e in segments.values() if isinstance(e, Mapping) for k, v in e.items() if not isinstance(v, Mapping)}
    )
    said = {}
    for key in keys:
        by_id = {s: one_cell(e.get(key)) for s, e in segments.items() if isinstance(e, Mapping)}
        values = cells["segment_id"].map(by_id).fillna(cells["segment"].map(by_id)).astype("str")
        said[f"segment_{key}"], _ = neutralise(values)
    return cells.assign(**said)


def with_version(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    return table.assign(as_of=rows["as_of"].iloc[0], model_version=rows["model_version"].iloc[0])


def _best_play(cell: dict, plays: list[Mapping]) -> Mapping:
    """The most specific play that covers a cell; an empty one when none does."""
    best: Mapping = {}
    best_rank = -1
    for play in plays:
        rank = 0
        for key, own in (
            ("tier", {cell["tier"]}),
            ("segment", {cell["segment_id"], cell["segment"]}),
            ("intent", {cell["intent"]} | ({"low"} if cell["intent"] == "unknown" else set())),
            ("motion", {cell["motion"]}),
        ):
            asked = str(play.get(key, "any") or "any")
            if asked == "any":
                continue
            if asked not in own:
                break
            rank += 1
        else:
            if rank > best_rank:
                best, best_rank = play, rank
    return best


def list_of(playbook: Mapping, key: str) -> list[Mapping]:
    found = playbook.get(key, [])
    return [p for p in found if isinstance(p, Mapping)] if isinstance(found, list) else []
