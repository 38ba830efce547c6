"""Reads Arrow columns of accounts and a model, makes points, probability, value and tier: the card for files of any size.

The same numbers as `apply_model`, without reasons and draws. Texts stay the dictionary codes that Parquet holds: a level is looked
up once per block, not once per account.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from icplab.core.model.card import MISSING, OTHER, OUT_OF_MARKET, RANKED, UNSEEN, Input, Model
from icplab.core.model.worth import win_probability

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


@dataclass(frozen=True)
class Codes:
    """Levels of one input: `places[rows]` is the position in `item.levels`, MISSING or UNSEEN. `rows` may be one for all."""

    rows: np.ndarray
    places: np.ndarray

    def take(self, worth: np.ndarray) -> np.ndarray:
        """What each row is worth; `worth` holds a value per level, then the one for unknown, then the one for unseen."""
        return worth[
            np.where(self.places == UNSEEN, len(worth) - 1, np.where(self.places < 0, len(worth) - 2, self.places))
        ].take(self.rows)

    def unseen(self, rows: int) -> int:
        """How many of so many rows have a level that the model never saw."""
        strange = self.places == UNSEEN
        if not strange.any():
            return 0
        return rows if len(self.rows) == 1 else int(strange.take(self.rows).sum())


class Block:
    """Columns of one block of accounts, each decoded once; `segment` is the only one the model knows."""

    def __init__(self, batch: pa.RecordBatch, segment: str) -> None:
        self.batch, self.segment, self.rows = batch, segment, batch.num_rows
        self._numbers: dict[str, np.ndarray] = {}
        kind = self.text("account_type")
        self.customer = self._one_of(kind, (CUSTOMER,))
        self.outside = self._one_of(kind, OUT_OF_MARKET)

    def codes(self, item: Input) -> Codes:
        """Levels of one input of the card; looked up once per distinct text."""
        if item.trait == "motion":
            places = np.array([item.levels.index(m) if m in item.levels else UNSEEN for m in MOTIONS])
            return Codes(self.customer.astype(np.int8), places)
        if item.trait == "segment_id":
            return _same(item.levels.index(self.segment) if self.segment in item.levels else UNSEEN)
        if item.trait not in self.batch.schema.names:
            return _same(MISSING)
        if item.kind == "number":
            return Codes(self._bins(item), np.append(np.arange(len(item.levels)), MISSING))
        if item.kind == "flag":
            rows = pc.fill_null(self.batch[item.trait].cast(pa.int8()), 2).to_numpy(zero_copy_only=False)
            return Codes(rows, np.array([0, 1, MISSING]))
        column = self.text(item.trait)
        return Codes(_indices(column), np.append(_places(item, column.dictionary), MISSING))

    def text(self, name: str) -> pa.DictionaryArray:
        """A column of texts as dictionary codes; all null where it is not there."""
        if name not in self.batch.schema.names:
            return pa.nulls(self.rows, pa.string()).dictionary_encode()
        column = self.batch[name]
        return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()

    def number(self, name: str) -> np.ndarray:
        """A column of numbers, NaN where unknown."""
        if name not in self._numbers:
            self._numbers[name] = self.batch[name].to_numpy(zero_copy_only=False).astype("float64", copy=False)
        return self._numbers[name]

    def _bins(self, item: Input) -> np.ndarray:
        values = self.number(item.trait)
        codes = np.zeros(self.rows, dtype=np.int16)
        for edge in item.edges:  # a few comparisons of whole columns are quicker than a search per value
            codes += values >= edge
        unknown = np.isnan(values)
        return np.where(unknown, np.int16(len(item.levels)), codes) if unknown.any() else codes

    def _one_of(self, column: pa.DictionaryArray, names: tuple[str, ...]) -> np.ndarray:
        hit = np.array([str(v) in names for v in column.dictionary.to_pylist()] + [False])
        return hit[_indices(column)]


def score_block(model: Model, block: Block) -> tuple[pa.RecordBatch, Tally]:
    """One block scored: account_id, segment_id, motion, points, win_probability, expected_value, tier."""
    tally = Tally()
    points = np.full(block.rows, model.base_points, dtype=np.int32)
    for item in model.inputs:
        codes = block.codes(item)
        points += codes.take(np.rint([*item.points, item.missing, item.missing]).astype(np.int32))
        if item.kind == "category" and (unseen := codes.unseen(block.rows)):
            tally.unseen[item.name] += unseen
    low = int(points.min(initial=0))
    table = win_probability(model, np.arange(low, int(points.max(initial=0)) + 1))
    probability = table[points - low]
    expected = np.round(probability * _value(model, block), 2)
    probability = np.round(table, 6)[points - low]
    tier = _tier(model, expected if model.value.basis != "not_measured" else probability, block)
    tally.tiers.update({TIERS[k]: int(n) for k, n in enumerate(np.bincount(tier, minlength=len(TIERS))) if n})
    ids = block.batch["account_id"]
    columns = {
        "account_id": ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids,
        "segment_id": _named(np.zeros(block.rows, dtype=np.int8), (block.segment,)),
        "motion": _named(block.customer.astype(np.int8), MOTIONS),
        "points": pa.array(points.astype("int64")),
        "win_probability": pa.array(probability),
        "expected_value": pa.array(expected, mask=np.isnan(expected)),
        "tier": _named(tier, TIERS),
    }
    return pa.RecordBatch.from_pydict(columns), tally


def _value(model: Model, block: Block) -> np.ndarray:
    """Expected value of a win per row; the same arithmetic, in the same order, as `value_of`."""
    value = model.value
    if value.basis == "not_measured":
        return np.full(block.rows, np.nan)
    log = np.full(block.rows, value.intercept)
    for item in value.inputs:
        log += block.codes(item).take(np.array([*item.points, item.missing, item.missing]))
    keep = value.keep.get(block.segment, value.keep.get("", 1.0))
    return np.exp(log) * value.smearing * value.margin * keep - value.cost_per_year * keep


def _tier(model: Model, order: np.ndarray, block: Block) -> np.ndarray:
    """Position in TIERS per row, by the frozen cut points."""
    if not (model.usable and model.cuts):
        return np.where(block.outside, NOT_ICP, INSUFFICIENT).astype(np.int8)
    tier = np.full(block.rows, NOT_ICP, dtype=np.int8)
    for place in range(len(RANKED) - 1, -1, -1):
        if RANKED[place] in model.cuts:
            tier[order >= model.cuts[RANKED[place]]] = place
    tier[block.outside] = NOT_ICP
    return tier


def _same(place: int) -> Codes:
    """One level for all rows."""
    return Codes(np.zeros(1, dtype=np.int8), np.array([place]))


def _places(item: Input, dictionary: pa.Array) -> np.ndarray:
    """Level of each text of a dictionary, as `level_codes` finds it."""
    if item.kind == "item":
        padded = pc.binary_join_element_wise("", dictionary.cast(pa.string()), "", ";")
        return pc.match_substring(padded, f";{item.item};").to_numpy(zero_copy_only=False).astype(np.intp)
    found = pc.index_in(dictionary.cast(pa.string()), value_set=pa.array(item.levels, pa.string()))
    rest = item.levels.index(OTHER) if OTHER in item.levels else UNSEEN
    return pc.fill_null(found, rest).to_numpy(zero_copy_only=False).astype(np.intp)


def _indices(column: pa.DictionaryArray) -> np.ndarray:
    """Codes of a dictionary column; the last place after it where a value is null."""
    indices = column.indices
    return (pc.fill_null(indices, len(column.dictionary)) if indices.null_count else indices).to_numpy()


def _named(codes: np.ndarray, names: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(names, pa.string()))
