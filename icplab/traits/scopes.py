"""Reads observations, accounts and the map, makes scopes: the whole market and its segments, each with levels and nuisance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.schema import ALL, UNASSIGNED, WHOLE_MARKET
from icplab.traits.adjust import Coded, Nuisance, build_nuisance
from icplab.traits.levels import Trait, code_levels, read_traits
from icplab.traits.outcomes import BY_CUSTOMER, LOGGED

Floats = NDArray[np.floating]

MIN_FAMILIES = 10  # account families that have a level, and that have it not
MIN_OBSERVATIONS = 60  # of an outcome in a scope, below which nothing is fitted
MIN_EVENTS = 15  # of the rarer result
# What is offered is chosen in the deal, and no account has it beforehand; the price list makes its value true by definition.
NOT_ASKED = {("product", "win"), ("product", "value"), ("product", "margin")}


@dataclass(frozen=True)
class Scope:
    """Observations of one outcome in one scope, aligned with their levels and nuisance columns."""

    outcome: str
    scope: str
    observations: pd.DataFrame
    coded: list[Coded]
    nuisance: Nuisance
    late: NDArray[np.bool_]
    dated: bool
    soft: Floats
    """Probability of each of `segments` per observation; no columns inside a segment."""
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Market:
    """Candidate traits of a workspace, its accounts sorted by id, and where each stands on the map."""

    accounts: pd.DataFrame
    traits: list[Trait]
    memberships: pd.DataFrame
    """One row per account: a column per segment, and `hard`, the label."""
    barred: set[str]
    """Quarantined: they take no part in the adjustment."""

    @cached_property
    def coded(self) -> dict[str, tuple[Floats, NDArray[np.bool_]]]:
        """Levels of the account traits, rows as in `accounts`."""
        return {t.name: code_levels(t, self.accounts[t.name]) for t in self.traits if t.table == "accounts"}


def read_market(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    segments: pd.DataFrame,
    *,
    audit: pd.DataFrame | None,
    posteriors: pd.DataFrame | None,
) -> Market:
    """What every measurement of traits starts from; arguments as `measure_traits` takes them."""
    traits = read_traits(catalogue, accounts, opportunities)
    accounts = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    memberships = build_memberships(accounts["account_id"], segments, posteriors)
    barred = set() if audit is None else set(audit.loc[audit["quarantined"].astype(bool), "trait"])
    return Market(accounts, traits, memberships, barred)


def build_scopes(outcome: str, observations: pd.DataFrame, market: Market) -> Iterator[Scope]:
    """The whole market, then its segments, as far as they hold enough observations of this outcome."""
    accounts, traits, memberships, barred = market.accounts, market.traits, market.memberships, market.barred
    rows = _describe(observations, accounts)
    names = [str(c) for c in memberships if c != "hard"]
    hard = memberships["hard"].to_numpy()[rows["place"].to_numpy(dtype=int)] if len(rows) else np.array([])
    for scope in [ALL, *(names if len(names) > 1 else [])]:
        part = rows.loc[np.ones(len(rows), bool) if scope == ALL else hard == scope].reset_index(drop=True)
        if not _enough(outcome, part):
            continue
        soft = memberships[names].to_numpy()[part["place"].to_numpy(dtype=int)] if scope == ALL else None
        coded = [c for t in traits if (c := _code(t, outcome, part, market.coded)) is not None]
        background = [c for c in coded if c.trait.table == "accounts" and c.trait.name not in barred]
        nuisance = build_nuisance(part, soft, background, logged=outcome in LOGGED)
        dated = bool(part["created_at"].notna().any())
        several = scope == ALL and len(names) > 1 and soft is not None
        known = (soft, tuple(names)) if several else (np.empty((len(part), 0)), ())
        yield Scope(outcome, scope, part, coded, nuisance, _later_half(part, dated), dated, *known)


def build_memberships(account_id: pd.Series, segments: pd.DataFrame, posteriors: pd.DataFrame | None) -> pd.DataFrame:
    """Probability of each segment per account (rows in the order given), and `hard`, the label.

    Without posteriors the label counts with its membership and the rest is spread over the other segments. Accounts that are
    unassigned belong to every segment as the average account does.
    """
    by_account = segments.set_index("account_id")
    labels = by_account["segment_id"].reindex(account_id)
    names = sorted(set(labels.dropna()) - {UNASSIGNED})
    if not names:
        return pd.DataFrame({WHOLE_MARKET: 1.0, "hard": WHOLE_MARKET}, index=range(len(labels)))
    hard = labels.to_numpy(dtype=object)
    if posteriors is not None:
        given = posteriors.set_index("account_id").reindex(account_id)
        soft = given.reindex(columns=names).to_numpy(dtype=float)
    else:
        own = by_account["membership"].reindex(account_id).fillna(1.0).to_numpy(dtype=float)
        is_own = hard[:, None] == np.asarray(names)[None, :]
        soft = np.where(is_own, own[:, None], ((1 - own) / max(len(names) - 1, 1))[:, None])
        soft[~is_own.any(axis=1)] = np.nan
    soft = np.where(np.isnan(soft), np.nanmean(soft, axis=0), soft)
    return pd.DataFrame(soft / soft.sum(axis=1, keepdims=True), columns=names).assign(hard=hard)


def families_with(has: NDArray[np.bool_], families: NDArray) -> NDArray[np.intp]:
    """Number of distinct families among the rows that have each level."""
    codes = pd.factorize(families)[0]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.logical_or.reduceat(has[order], starts, axis=0).sum(axis=0)


def _describe(observations: pd.DataFrame, accounts: pd.DataFrame) -> pd.DataFrame:
    """Observations of known accounts with the account's row number, size, region and family."""
    place = pd.Series(np.arange(len(accounts)), index=accounts["account_id"])
    rows = observations[observations["account_id"].isin(place.index)].reset_index(drop=True)
    at = place.reindex(rows["account_id"]).to_numpy(dtype=int)
    known = {c: accounts[c].to_numpy()[at] for c in ("employees", "region", "family_id") if c in accounts}
    rows = rows.drop(columns=["employees", "region"], errors="ignore").assign(place=at, **known)
    absent = {c: np.nan for c in ("employees", "region") if c not in known}
    return rows.assign(**absent)


def _enough(outcome: str, rows: pd.DataFrame) -> bool:
    if len(rows) < MIN_OBSERVATIONS or rows["family_id"].nunique() < 2 * MIN_FAMILIES:
        return False
    if outcome in LOGGED:
        return bool(rows["y"].std() > 0)
    return bool(min(rows["y"].sum(), (1 - rows["y"]).sum()) >= MIN_EVENTS)


def _code(
    trait: Trait, outcome: str, rows: pd.DataFrame, on_accounts: dict[str, tuple[Floats, NDArray[np.bool_]]]
) -> Coded | None:
    """Levels of a trait on observations; None where the outcome has no such column or the question makes no sense."""
    if (trait.name, outcome) in NOT_ASKED:
        return None
    if trait.table == "accounts":
        x, unknown = on_accounts[trait.name]
        place = rows["place"].to_numpy(dtype=int)
        return Coded(trait, x[place], unknown[place])
    if outcome in BY_CUSTOMER or trait.name not in rows:
        return None
    return Coded(trait, *code_levels(trait, rows[trait.name]))


def _later_half(rows: pd.DataFrame, dated: bool) -> NDArray[np.bool_]:
    """Observations created after the middle one; without dates, every second family."""
    if dated:
        return (rows["created_at"] > rows["created_at"].median()).to_numpy(dtype=bool)
    return pd.factorize(rows["family_id"], sort=True)[0] % 2 == 1
