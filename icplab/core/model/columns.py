"""Reads Arrow columns of accounts and a model, makes points, probability, value and tier: the card for files of any size.

The same numbers as `apply_model`, without reasons and draws. Texts stay the dictionary codes that Parquet holds: a level is looked
up once per block, not once per account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from icplab.core.model.card import MISSING, OTHER, OUT_OF_MARKET, RANKED, UNSEEN, Input, Model
from icplab.core.model.decode import Codes, Columns, add_worth, join_codes
from icplab.core.model.levels import MEMBERSHIP_UNIT
from icplab.core.model.worth import win_probability
from icplab.core.schema import UNASSIGNED

CUSTOMER = "customer"
MOTIONS = ("new", "expansion")
TIERS = (*RANKED, "not_icp", "insufficient")
NOT_ICP, INSUFFICIENT = len(RANKED), len(RANKED) + 1


@dataclass
class Tally:
    """Accounts by tier, blanks by trait, levels the model never saw by input."""

    tiers: Counter = field(default_factory=Counter)
    blank: Counter = field(default_factory=Counter)
    unseen: Counter = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Count another block in."""
        for own, more in ((self.tiers, other.tiers), (self.blank, other.blank), (self.unseen, other.unseen)):
            own.update(more)


class Block:
    """One block of accounts with its segments.

    Parameters
    ----------
    columns : the batch
    ids : segments that the model knows
    memberships : (segments, rows) probability of each, NaN where an account belongs to none; without it all are in the first
    """

    def __init__(self, columns: Columns, ids: Sequence[str], memberships: np.ndarray | None = None) -> None:
        self.columns, self.rows, self.ids = columns, columns.rows, (*ids, UNASSIGNED)
        self.memberships = memberships
        self.segment = np.zeros(1, dtype=np.int8)  # place in `ids`
        if memberships is not None:
            self.segment = _highest(memberships)
            nowhere = np.isnan(memberships[0])
            if nowhere.any():
                self.segment[nowhere] = len(ids)
                self.memberships = np.where(nowhere, 0.0, memberships)
        self.customer = columns.one_of("account_type", (CUSTOMER,))
        self.outside = columns.one_of("account_type", OUT_OF_MARKET)

    def codes(self, item: Input) -> Codes:
        """Levels of one input of the card, which is not one of memberships."""
        if item.trait == "motion":
            return Codes(self.customer.astype(np.int8), _places(item, MOTIONS))
        if item.trait == "segment_id":
            return Codes(self.segment, _places(item, self.ids))
        if item.kind == "number":
            return self.columns.bins(item.trait, item.edges)
        if item.kind == "flag":
            return self.columns.flag(item.trait)
        if item.kind == "item":
            ((codes, held),) = self.columns.items(item.trait, [item.item])
            return Codes(codes.rows, np.append(held[:, 0], MISSING)) if len(codes.places) > 1 else codes
        return self.columns.levels(item.trait, item.levels)

    def shares(self, levels: Sequence[str]) -> list[np.ndarray | None]:
        """Membership of each segment named, zero where an account belongs to none; none at all where one is not known."""
        if not set(levels) <= set(self.ids[:-1]):
            return [None] * len(levels)
        if self.memberships is None:
            return [np.ones(1) if level == self.ids[0] else np.zeros(1) for level in levels]
        return [self.memberships[self.ids.index(level)] for level in levels]


def score_block(model: Model, block: Block) -> tuple[pa.RecordBatch, Tally]:
    """One block scored: account_id, segment_id, motion, points, win_probability, expected_value, tier."""
    tally = Tally()
    points = _points(model, block, tally)
    low = int(points.min(initial=0))
    table = win_probability(model, np.arange(low, int(points.max(initial=0)) + 1))
    place = points - low
    probability = table[place]
    expected = np.round(probability * _value(model, block), 2)
    probability = np.round(table, 6)[place]
    tier = _tier(model, expected if model.value.basis != "not_measured" else probability, block)
    tally.tiers.update({TIERS[k]: int(n) for k, n in enumerate(np.bincount(tier, minlength=len(TIERS))) if n})
    ids = block.columns.batch["account_id"]
    columns = {
        "account_id": ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids,
        "segment_id": _named(np.broadcast_to(block.segment, block.rows), block.ids),
        "motion": _named(block.customer.astype(np.int8), MOTIONS),
        "points": pa.array(points.astype("int64")),
        "win_probability": pa.array(probability),
        "expected_value": pa.array(expected, mask=np.isnan(expected)),
        "tier": _named(tier, TIERS),
    }
    return pa.RecordBatch.from_pydict(columns), tally


def _points(model: Model, block: Block, tally: Tally) -> np.ndarray:
    """Total of the card per row; unseen levels are counted."""
    points, parts = np.full(block.rows, model.base_points, dtype=np.int32), []
    for item in model.inputs:
        whole = np.rint([*item.points, item.missing, item.missing]).astype(np.int32)
        if item.kind == "posterior":
            points += _membership_points(item, block, whole)
            continue
        codes = block.codes(item)
        parts.append((codes, whole))
        if block.columns.has(item.trait) and (unseen := codes.unseen(block.rows)):
            tally.unseen[item.name] += unseen
    add_worth(points, join_codes(parts))
    return points


def _membership_points(item: Input, block: Block, whole: np.ndarray) -> np.ndarray:
    """Whole points of memberships, as `whole_points` counts them: in millionths, halves up."""
    total, known = np.zeros(1), np.zeros(1)
    for share, worth in zip(block.shares(item.levels), whole, strict=False):
        if share is None:
            return whole[-1:]
        total = total + np.rint(share * MEMBERSHIP_UNIT) * worth  # whole numbers below 2^53: no rounding
        known = known + share
    mean = np.floor((total + MEMBERSHIP_UNIT // 2) / MEMBERSHIP_UNIT).astype(np.int32)
    return np.where(known > 0, mean, whole[-1])


def _value(model: Model, block: Block) -> np.ndarray:
    """Expected value of a win per row; the same arithmetic as `value_of`."""
    value = model.value
    if value.basis == "not_measured":
        return np.full(block.rows, np.nan)
    log = np.full(block.rows, value.intercept)
    earned, kept = _kept(model, block)
    for item in value.inputs:
        if item.kind == "posterior":
            earned, kept = _membership_worth(model, item, block)
        else:
            log += block.codes(item).take(np.array([*item.points, item.missing, item.missing]))
    return np.exp(log) * value.smearing * value.margin * earned - value.cost_per_year * kept


def _kept(model: Model, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Discounted years kept by the segment of each row: what is earned in them, and paid for."""
    keep = model.value.keep
    years = np.array([keep.get(i, keep.get("", 1.0)) for i in block.ids])[block.segment]
    return years, years


def _membership_worth(model: Model, item: Input, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Money factor and years kept, averaged over the probabilities of the segments."""
    whole = model.value.keep.get("", 1.0)
    earned, kept, known = np.zeros(1), np.zeros(1), np.zeros(1)
    for level, effect, share in zip(item.levels, item.points, block.shares(item.levels), strict=True):
        if share is None:
            return np.array([np.exp(item.missing) * whole]), np.array([whole])
        years = model.value.keep.get(level, whole)
        earned, kept, known = earned + share * (np.exp(effect) * years), kept + share * years, known + share
    return np.where(known > 0, earned, np.exp(item.missing) * whole), np.where(known > 0, kept, whole)


def _tier(model: Model, order: np.ndarray, block: Block) -> np.ndarray:
    """Position in TIERS per row, by the frozen cut points."""
    if not (model.usable and model.cuts):
        return np.where(block.outside, NOT_ICP, INSUFFICIENT).astype(np.int8)
    tier = np.full(block.rows, NOT_ICP, dtype=np.int8)
    for place in range(len(RANKED) - 1, -1, -1):
        if RANKED[place] in model.cuts:
            np.putmask(tier, order >= model.cuts[RANKED[place]], place)
    np.putmask(tier, np.broadcast_to(block.segment == len(block.ids) - 1, block.rows), INSUFFICIENT)
    np.putmask(tier, block.outside, NOT_ICP)
    return tier


def _highest(rows: np.ndarray) -> np.ndarray:
    """Place of the highest of each column, the first of several; row by row, which is quicker than `argmax` across."""
    place, most = np.zeros(rows.shape[1], dtype=np.int8), rows[0].copy()
    for k, row in enumerate(rows[1:], 1):
        np.putmask(place, row > most, k)
        np.maximum(most, row, out=most)
    return place


def _places(item: Input, names: Sequence[str]) -> np.ndarray:
    """Position of each name among the levels of an input."""
    rest = item.levels.index(OTHER) if OTHER in item.levels else UNSEEN
    return np.array([item.levels.index(n) if n in item.levels else rest for n in names])


def _named(codes: np.ndarray, names: Sequence[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(names, pa.string()))
