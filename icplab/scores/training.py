"""Reads account table, opportunities and segments, makes the training frame: labels, weights and candidate inputs."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.model import OTHER, POSTERIOR, Input, add_segments, level_codes
from icplab.core.schema import UNASSIGNED

NUMBER_BINS = 6  # bins of a number; more cost points on a card and gain nothing at a few thousand opportunities
MIN_SHARE, MAX_SHARE = 0.01, 0.95  # method.md §3: rarer or commoner values cannot tell accounts apart
MIN_LEVEL = 20  # accounts a category level needs for points of its own
MAX_LEVELS = 12  # most frequent levels of a category; the rest share points
MAX_ITEMS = 300  # most frequent values of a multi-valued column that are looked at
MAX_WEIGHT = 5.0  # cap of a censoring weight: fewer than a fifth of the cohorts could have shown such a late close
MIN_MOTION = 20  # opportunities of each motion before the two are told apart


@dataclass(frozen=True, eq=False)
class Block:
    """A candidate input as columns of a design. `basis` (levels × columns) turns level codes into values, mean 0."""

    item: Input
    basis: np.ndarray
    weights: np.ndarray  # rows of the frame it was built on: codes (rows,), or rows × levels for a posterior

    def matrix(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Rows × columns; an unknown value is 0, the mean of the known ones."""
        if self.weights.ndim == 2:
            return self.weights[rows] @ self.basis
        padded = np.vstack([self.basis, np.zeros(self.basis.shape[1])])
        return padded[self.weights[rows]]  # codes of missing and unseen are negative: they hit the row of zeros

    def only(self, columns: np.ndarray) -> Block:
        """The block with some of its columns."""
        return replace(self, basis=self.basis[:, columns])


@dataclass(frozen=True)
class Training:
    """What a scorecard is fitted to.

    Attributes
    ----------
    opportunities : one row per opportunity with an account, sorted by opportunity_id: ids, dates, status, motion, acv,
        margin_rate, and the nuisance columns source, owner, quarter
    accounts : account table with segments, sorted by account_id
    blocks : candidates: segment, then one per trait (or per value of a multi-valued trait)
    forced : inputs that are always adjusted for: motion (new or expansion) and source
    offered : names of everything that may predict, whether or not it is a candidate today
    nuisance : effects that are adjusted for and averaged over: source, owner, quarter (rows × columns each)
    """

    opportunities: pd.DataFrame
    accounts: pd.DataFrame
    blocks: tuple[Block, ...]
    forced: tuple[Block, ...]
    nuisance: dict[str, np.ndarray]
    as_of: pd.Timestamp
    horizon_days: int
    dated: bool
    offered: tuple[str, ...] = ()

    def labels(self, as_of: pd.Timestamp | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Outcome and weight per opportunity as known on a date; see `label_outcomes`."""
        return label_outcomes(self.opportunities, as_of or self.as_of, self.horizon_days, self.dated)


def quarantined_traits(traits: pd.DataFrame) -> tuple[str, ...]:
    """Names of traits that the traits step set aside as leaks, sorted."""
    if traits.empty:
        return ()
    return tuple(sorted(traits.loc[traits["verdict"] == "quarantined", "trait"].unique()))


def build_training(
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    catalogue: pd.DataFrame,
    account_segments: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    leave_out: Collection[str] = (),
) -> Training:
    """Training frame of the scorecard.

    Parameters
    ----------
    accounts, opportunities, catalogue : as the step holds them (docs/architecture.md)
    account_segments : artefact; membership columns posterior_<segment_id> are used instead of the hard segment where given
    settings : reads [plan] horizon_days and whether opportunities are dated
    as_of : nothing later is known
    leave_out : traits not to use, such as the quarantined ones

    Returns
    -------
    Training

    Notes
    -----
    Opportunities without an account are left out: they have no traits. Candidates are those of the catalogue that are not
    excluded and not forbidden. Bins and levels are made from the account table, never from outcomes.
    """
    market = add_segments(accounts, account_segments)
    rows = opportunities[opportunities["account_id"].isin(market["account_id"])]
    rows = rows.sort_values("opportunity_id", ignore_index=True)
    place = pd.Index(market["account_id"]).get_indexer(rows["account_id"])
    quarter = rows["created_at"].dt.to_period("Q").astype("str").replace("NaT", "undated")
    rows = rows.assign(quarter=quarter)
    usable = catalogue[~catalogue["excluded"].astype("bool") & (catalogue["role"] != "forbidden")]
    usable = usable[~usable["trait"].isin(list(leave_out))]
    blocks = _candidate_blocks(usable, market, rows, place)
    forced, blocks = _forced_blocks(market, rows, place, blocks)
    taken = {b.item.trait for b in forced}
    nuisance = {c: one_hot(rows[c]) for c in ("source", "owner", "quarter") if c not in taken}
    offered = {*usable["trait"], "motion", "segment_id"} & {*market, *rows}
    return Training(
        *(rows, market, blocks, forced, nuisance, as_of, settings.plan.horizon_days, settings.dated),
        tuple(sorted(map(str, offered))),
    )


def label_outcomes(
    opportunities: pd.DataFrame, as_of: pd.Timestamp, horizon_days: int, dated: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Won within the horizon (0 or 1), and the weight of each opportunity, as known on `as_of`.

    Parameters
    ----------
    opportunities : reads created_at, closed_at, status
    as_of : what closed later is open
    horizon_days : days after creation within which a win counts
    dated : False where the source has no dates: then every closed opportunity counts once

    Returns
    -------
    outcome, weight : arrays; weight 0 where the outcome is not known yet

    Notes
    -----
    Inverse probability of censoring weights. Everything still open and younger than the horizon is unknown; leaving it out
    would keep the quick wins of recent months and overstate them. Each known outcome is therefore weighted by one over the
    share of opportunities old enough to have shown an outcome that took as long. The age on `as_of` is known for all, so
    that share is counted, not modelled: within new business and within expansions, because expansions can only come later. It
    is right when the rest of the mix does not depend on the creation date. Weights are capped at MAX_WEIGHT. (Robins and Finkelstein 2000; Graf et al. 1999.)
    """
    won = (opportunities["status"] == "won").to_numpy()
    closed = opportunities["status"].isin(["won", "lost"]).to_numpy()
    if not dated:
        return won.astype(float), closed.astype(float)
    age = (as_of - opportunities["created_at"]).dt.days.to_numpy("float64")
    cycle = (opportunities["closed_at"] - opportunities["created_at"]).dt.days.to_numpy("float64")
    born = age >= 0
    closed = closed & born & (cycle <= age)
    days = np.where(closed, np.minimum(np.nan_to_num(cycle, nan=horizon_days), horizon_days), horizon_days)
    known = born & (closed | (age >= horizon_days))
    weight = np.zeros(len(opportunities))
    for rows in _by_motion(opportunities, born):
        ages = np.sort(age[rows & born])
        at_least = len(ages) - np.searchsorted(ages, days[rows], side="left")
        weight[rows] = np.minimum(len(ages) / np.maximum(at_least, 1), MAX_WEIGHT)
    weight = np.where(known, weight, 0.0)
    return (won & closed & (cycle <= horizon_days)).astype(float), weight


def _by_motion(opportunities: pd.DataFrame, born: np.ndarray) -> list[np.ndarray]:
    """Rows of new business and of expansions; everything together where one of them is rare."""
    everything = np.ones(len(opportunities), bool)
    if "motion" not in opportunities:
        return [everything]
    new = (opportunities["motion"] == "new").to_numpy()
    return [new, ~new] if min((new & born).sum(), (~new & born).sum()) >= MIN_MOTION else [everything]


def one_hot(values: pd.Series) -> np.ndarray:
    """Rows × levels, levels in alphabetical order, unknown is a row of zeros."""
    levels = np.array(sorted(values.dropna().unique()))
    codes = pd.Index(levels).get_indexer(values.astype("str")) if len(levels) else np.zeros(len(values), int) - 1
    return (codes[:, None] == np.arange(len(levels))).astype("float64")


def build_input(trait: str, table: str, kind: str, values: pd.Series) -> list[Input]:
    """Inputs of one trait without points: its levels as a card would show them. Empty where nothing can be told apart."""
    if kind == "number":
        edges = number_edges(values)
        return [Input(trait, table, kind, bin_names(edges), (), edges=edges)] if edges else []
    if kind == "flag":
        share = values.astype("boolean").mean()
        return [Input(trait, table, kind, ("no", "yes"), ())] if MIN_SHARE <= share <= 1 - MIN_SHARE else []
    if kind == "multi":
        return [Input(trait, table, "item", ("no", "yes"), (), item=name) for name in _frequent_items(values)]
    levels = _frequent_levels(values)
    return [Input(trait, table, "category", levels, ())] if len(levels) > 1 else []


def number_edges(values: pd.Series) -> tuple[float, ...]:
    """Cut points of a number: quantiles rounded to two digits, so that a person can apply them."""
    known = values.dropna().to_numpy("float64")
    if len(known) < MIN_LEVEL:
        return ()
    inner = np.quantile(known, np.arange(1, NUMBER_BINS) / NUMBER_BINS)
    rounded = {float(f"{v:.2g}") if abs(v) < 1000 or abs(v) > 3000 else float(round(v)) for v in inner}
    return tuple(sorted(v for v in rounded if known.min() < v <= known.max()))


def bin_names(edges: tuple[float, ...]) -> tuple[str, ...]:
    """Names of the bins between cut points."""
    text = [f"{e:,.0f}".replace(",", " ") if abs(e) >= 1000 else f"{e:g}" for e in edges]
    if any(1000 < abs(e) < 3000 for e in edges):  # years read better without a gap
        text = [f"{e:.0f}" if 1000 < abs(e) < 3000 else t for e, t in zip(edges, text, strict=True)]
    return (f"< {text[0]}", *(f"[{a}, {b})" for a, b in itertools.pairwise(text)), f"≥ {text[-1]}")


def _candidate_blocks(
    catalogue: pd.DataFrame, market: pd.DataFrame, rows: pd.DataFrame, place: np.ndarray
) -> tuple[Block, ...]:
    """One block per candidate; account traits are read once per account and then taken by opportunity."""
    blocks = []
    for trait, table, kind in zip(catalogue["trait"], catalogue["table"], catalogue["kind"], strict=True):
        frame = market if table == "accounts" else rows
        if trait not in frame:
            continue
        for item in build_input(trait, table, kind, frame[trait]):
            codes = level_codes(item, frame)
            block = _block(item, codes, codes[place] if table == "accounts" else codes)
            if block.basis.shape[1]:
                blocks.append(block)
    return tuple(blocks)


def _block(item: Input, codes: np.ndarray, taken: np.ndarray) -> Block:
    """Basis of an input, centred over the rows where it is known."""
    known = codes[codes >= 0]
    share = np.bincount(known, minlength=len(item.levels)) / max(len(known), 1)
    basis = _shapes(item, share)
    basis = basis - share @ basis
    return Block(item, basis[:, share @ basis**2 > 1e-9], taken)


def _shapes(item: Input, share: np.ndarray) -> np.ndarray:
    """Levels × columns. Numbers get a trend over normal scores and a bend; categories one column per level."""
    from scipy.special import ndtri

    if item.kind == "number":
        middle = np.cumsum(share) - share / 2
        trend = ndtri(np.clip(middle, 1e-3, 1 - 1e-3))
        return np.column_stack([trend, trend**2]) if len(share) > 2 else trend[:, None]
    return np.eye(len(share))[:, 1:] if len(share) == 2 else np.eye(len(share))


def _forced_blocks(
    market: pd.DataFrame, rows: pd.DataFrame, place: np.ndarray, blocks: tuple[Block, ...]
) -> tuple[tuple[Block, ...], tuple[Block, ...]]:
    """Motion and source, and the candidates: segment first, then the traits without the source."""
    source = [b for b in blocks if b.item.table == "opportunities" and b.item.trait == "source"]
    forced = (*_motion_block(market, rows), *source)
    return forced, (*_segment_block(market, place), *(b for b in blocks if b not in source))


def _segment_block(market: pd.DataFrame, place: np.ndarray) -> list[Block]:
    columns = sorted(str(c) for c in market if str(c).startswith(POSTERIOR))
    if len(columns) > 1:
        item = Input("segment", "accounts", "posterior", tuple(c.removeprefix(POSTERIOR) for c in columns), ())
        weights = market[columns].to_numpy("float64", na_value=0.0)
        total = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, total, where=total > 0, out=np.zeros_like(weights))
        share = weights.sum(axis=0) / max(weights.sum(), 1e-12)
        return [Block(item, np.eye(len(share)) - share, weights[place])]
    levels = sorted(set(market["segment_id"].dropna()) - {UNASSIGNED})
    if len(levels) < 2:
        return []
    item = Input("segment_id", "accounts", "category", tuple(levels), ())
    codes = level_codes(item, market)
    return [_block(item, codes, codes[place])]


def _motion_block(market: pd.DataFrame, rows: pd.DataFrame) -> list[Block]:
    counts = rows["motion"].value_counts()
    if len(counts) < 2 or counts.min() < MIN_MOTION:
        return []
    item = Input("motion", "accounts", "category", ("new", "expansion"), ())
    codes = level_codes(item, rows)
    return [_block(item, codes, codes)]


def _frequent_levels(values: pd.Series) -> tuple[str, ...]:
    counts = values.dropna().value_counts()
    # Alphabetical among equals, so that the order of rows cannot matter.
    counts = counts.sort_index().sort_values(ascending=False, kind="stable")
    floor = max(MIN_LEVEL, MIN_SHARE * counts.sum())
    kept = [str(v) for v in counts.index[counts >= floor][:MAX_LEVELS] if v != OTHER]
    rest = counts.sum() - counts.reindex(kept).sum()
    return (*sorted(kept), OTHER) if rest >= MIN_LEVEL else tuple(sorted(kept))


def _frequent_items(values: pd.Series) -> list[str]:
    known = values.dropna()
    parts = known.str.split(";").explode().str.strip()
    share = parts[parts != ""].value_counts() / max(len(known), 1)
    share = share.sort_index().sort_values(ascending=False, kind="stable")
    return sorted(share.index[(share >= MIN_SHARE) & (share <= MAX_SHARE)][:MAX_ITEMS])
