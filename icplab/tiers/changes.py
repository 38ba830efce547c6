"""Reads a model, accounts and their scores, makes what would lift accounts at a border by a tier: one or two inputs."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from icplab.core.model import (
    OTHER,
    RANKED,
    Input,
    Model,
    account_points,
    level_codes,
    level_of,
    value_of,
    win_probability,
)

# What an account can come to do, use or be ready for; what it is (trade, place, size) stays.
FAMILIES = ("behavioural", "technographic")
ROLES = ("use_case", "deployment", "maturity", "technology")
SHOWN = 20  # accounts nearest to a border
NOTHING = "nothing that can change"
COLUMNS = ("account_id", "name", "tier", "would_be", "change", "points", "win_probability", "expected_value", "needed")


@dataclass(frozen=True, eq=False)
class _Move:
    """One input brought to one level: what it does to every row; `open` says for which rows it is a possible change."""

    trait: str
    words: np.ndarray
    points: np.ndarray
    worth: np.ndarray  # factor on the gross value
    open: np.ndarray


def changeable_traits(catalogue: pd.DataFrame) -> tuple[str, ...]:
    """Account traits of the catalogue that can change: behaviour and technology, by family or by the role people gave."""
    of_accounts = catalogue["table"] == "accounts"
    can = catalogue["role"].isin(ROLES)
    if "family" in catalogue:
        can |= catalogue["family"].isin(FAMILIES)
    return tuple(sorted(catalogue.loc[of_accounts & can, "trait"]))


def list_changes(
    model: Model, market: pd.DataFrame, scored: pd.DataFrame, changeable: Collection[str], *, most: int = SHOWN
) -> pd.DataFrame:
    """The smallest change that would lift each account at a border by one tier.

    Parameters
    ----------
    model : with cut points
    market : account table with segments, rows as in `scored`
    scored : from `set_tiers`
    changeable : traits that can change (`changeable_traits`); of every other only an unknown value can, by finding it out
    most : accounts nearest below the cut point of the next better tier, as a share of that cut point

    Returns
    -------
    One row per account, nearest first: account_id, name, tier, would_be, change in words (one input where one is enough, else
    two; of several the one of fewest points), points it adds, win_probability and expected_value with it, needed (the cut
    point). Where nothing lifts the account, change says so and the figures are null.

    Notes
    -----
    Points and money are those of the frozen card, both moved: an input may also stand in the value model. It is arithmetic of
    the card, not a promise that changing a trait makes an account buy.
    """
    names = [t for t in RANKED if t in model.cuts]
    rows, target = _at_border(model, scored, names, most)
    if not len(rows):
        return pd.DataFrame(columns=list(COLUMNS))
    near = market.iloc[rows].reset_index(drop=True)
    needed = np.array([model.cuts[t] for t in target])
    best = _smallest(model, near, needed, _moves(model, near, set(changeable)))
    told = scored.iloc[rows].reset_index(drop=True)
    table = best.assign(account_id=told["account_id"], tier=told["tier"], would_be=target, needed=needed)
    table["name"] = near["name"].astype("str") if "name" in near else ""
    return table[list(COLUMNS)]


def _at_border(model: Model, scored: pd.DataFrame, names: list[str], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows nearest below the cut point of the next better tier, nearest first, and that tier; held and overruled ones not."""
    if not model.usable or len(names) < 1:
        return np.array([], dtype=int), np.array([], dtype=object)
    order = scored["expected_value"].fillna(scored["win_probability"]).to_numpy("float64")
    cuts = np.array([model.cuts[t] for t in names])
    place = (order[:, None] < cuts[None, :]).sum(axis=1)
    own = np.array([*names, "not_icp"], dtype=object)[place]
    rows = np.flatnonzero((place > 0) & (scored["tier"].to_numpy(dtype=object) == own))
    cut = cuts[place[rows] - 1]
    gap = np.round((cut - order[rows]) / np.maximum(np.abs(cut), 1e-12), 9)
    ids = scored["account_id"].to_numpy(dtype=object)[rows].astype(str)
    rows = rows[np.lexsort((ids, gap))][:most]
    return rows, np.array(names, dtype=object)[place[rows] - 1]


def _moves(model: Model, near: pd.DataFrame, changeable: set[str]) -> list[_Move]:
    """Every input of the card brought to each of its levels."""
    points, gross = account_points(model, near), _gross(model, near)
    moves = []
    for item in model.inputs:
        if item.kind == "posterior" or item.trait in ("motion", "segment_id") or item.trait not in near:
            continue
        codes, before = level_codes(item, near), level_of(item, near).to_numpy(dtype=object)
        for k, level in enumerate(item.levels):
            if level == OTHER:
                continue
            moved = near.assign(**{item.trait: _with_level(item, k, near[item.trait])})
            words = np.array([f"{item.name}: {was} → {level}" for was in before], dtype=object)
            possible = (codes != k) & ((codes < 0) | (item.trait in changeable))
            worth = _gross(model, moved) / gross
            moves.append(_Move(item.trait, words, account_points(model, moved) - points, worth, possible))
    return moves


def _with_level(item: Input, level: int, values: pd.Series) -> pd.Series:
    """The column with every row at one level."""
    if item.kind == "number":
        # The lowest value of the band: the smallest step up.
        value = np.nextafter(item.edges[0], -np.inf) if level == 0 else item.edges[level - 1]
        return pd.Series(value, index=values.index, dtype="float64")
    if item.kind == "flag":
        return pd.Series(level == 1, index=values.index, dtype="boolean")
    if item.kind == "item":
        return values.map(lambda text: _with_item(text, item.item, level == 1)).astype("str")
    return pd.Series(item.levels[level], index=values.index, dtype="str")


def _with_item(text: object, item: str, has: bool) -> str:
    parts = {p for p in text.split(";") if p} if isinstance(text, str) else set()
    return ";".join(sorted(parts | {item} if has else parts - {item}))


def _smallest(model: Model, near: pd.DataFrame, needed: np.ndarray, moves: list[_Move]) -> pd.DataFrame:
    """The move, else the pair of moves of different traits, that reaches what is needed with the fewest points."""
    points, gross = account_points(model, near), _gross(model, near)
    cost = gross - _net(model, near, gross)
    best = pd.DataFrame(
        {"change": NOTHING, "points": np.nan, "win_probability": np.nan, "expected_value": np.nan}, index=near.index
    )
    pairs = [pair for pair in itertools.combinations(moves, 2) if pair[0].trait != pair[1].trait]
    for group in ([(move,) for move in moves], pairs):
        done = best["points"].notna().to_numpy()
        for chosen in group:
            added = np.sum([m.points for m in chosen], axis=0)
            p = win_probability(model, points + added)
            expected = p * (gross * np.prod([m.worth for m in chosen], axis=0) - cost)
            fits = np.all([m.open for m in chosen], axis=0) & (expected >= needed) & ~done
            fits &= ~(best["points"].to_numpy("float64") <= added)
            words = ["; ".join(w) for w in zip(*(m.words[fits] for m in chosen), strict=True)]
            best.loc[fits, "change"] = np.array(words, dtype=object)
            best.loc[fits, ["points", "win_probability", "expected_value"]] = np.column_stack([added, p, expected])[
                fits
            ]
    return best.round({"win_probability": 6, "expected_value": 2})


def _gross(model: Model, near: pd.DataFrame) -> np.ndarray:
    """Money of a win before cost to serve; 1 where none is measured, so that likelihood alone counts."""
    if model.value.basis == "not_measured":
        return np.ones(len(near))
    return value_of(replace(model.value, cost_per_year=0.0), near)


def _net(model: Model, near: pd.DataFrame, gross: np.ndarray) -> np.ndarray:
    return gross if model.value.basis == "not_measured" else value_of(model.value, near)
