"""Reads the catalogue and the account and opportunity tables, makes trait levels: what an account has or has not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.floating]

TREND = "trend"
YES = "yes"
BANDS = 4  # quarters of the known values
MAX_LEVELS = 60  # levels tested per category; rarer ones cannot reach support in any market of this kind
SKEWED = 1.0  # moment skewness above which a positive number is read on a log scale


@dataclass(frozen=True)
class Trait:
    """One candidate column and its levels. `cuts` are the inner edges of a number's bands."""

    name: str
    table: str
    kind: str
    family: str
    role: str
    known_at: str
    levels: tuple[str, ...]
    cuts: tuple[float, ...] = ()
    logged: bool = False
    centre: float = 0.0
    spread: float = 1.0


def read_traits(catalogue: pd.DataFrame, accounts: pd.DataFrame, opportunities: pd.DataFrame) -> list[Trait]:
    """Candidate traits of the catalogue that are not excluded, with the levels their columns hold.

    A yes/no column has the level `yes`; a category or multi-valued column its values as written, the MAX_LEVELS most frequent;
    a number its bands `[low, high)` at the quarters of the known values (edges rounded to what a person would write) and
    `trend`, the change by one standard deviation (of the logarithm, where the values are positive and skewed).
    """
    tables = {"accounts": accounts, "opportunities": opportunities}
    wanted = catalogue[~catalogue["excluded"].astype(bool)].sort_values(["table", "trait"], kind="stable")
    traits = [
        _read_trait(row, tables[str(row["table"])][str(row["trait"])])
        for row in wanted.to_dict("records")
        if row["trait"] in tables[str(row["table"])]
    ]
    return [t for t in traits if t.levels]


def code_levels(trait: Trait, values: pd.Series) -> tuple[Floats, NDArray[np.bool_]]:
    """Which rows have which level (rows x levels; `trend` in standard deviations), and which rows are unknown.

    Unknown rows hold 0 everywhere.
    """
    unknown = values.isna().to_numpy(dtype=bool)
    if trait.kind == "flag":
        return values.fillna(False).to_numpy(dtype=bool)[:, None].astype(float), unknown
    if trait.kind == "number":
        return _code_number(trait, values, unknown), unknown
    distinct, codes = _factorised(values)
    if trait.kind == "multi":
        held = pd.Series(distinct, dtype="str").str.split(";").explode()
        place = pd.Index(trait.levels).get_indexer(pd.Index(held))
        table = np.zeros((len(distinct), len(trait.levels)))
        table[held.index.to_numpy()[place >= 0], place[place >= 0]] = 1.0
    else:
        table = (np.asarray(distinct)[:, None] == np.asarray(trait.levels)[None, :]).astype(float)
    table = np.vstack([table.reshape(len(distinct), len(trait.levels)), np.zeros((1, len(trait.levels)))])
    return table[codes], unknown  # code -1, unknown, is the last row


def parse_band(level: str) -> tuple[float, float]:
    """Low and high of a band `[low, high)`."""
    low, high = level[1:-1].split(",")
    return float(low), float(high)


def _read_trait(row: dict, values: pd.Series) -> Trait:
    kind = str(row["kind"])
    details: dict = {}
    if kind == "flag":
        known = values.dropna()
        levels: tuple[str, ...] = (YES,) if known.nunique() > 1 or values.isna().any() else ()
    elif kind == "number":
        levels, details = _number_levels(values.dropna().to_numpy(dtype=float))
    else:
        levels = _value_levels(values.dropna(), kind)
    return Trait(
        name=str(row["trait"]),
        table=str(row["table"]),
        kind=kind,
        family=str(row["family"]),
        role=str(row.get("role") or ""),
        known_at=str(row.get("known_at") or ""),
        levels=levels,
        **details,
    )


def _value_levels(known: pd.Series, kind: str) -> tuple[str, ...]:
    """Values as written, most frequent first, ties by name."""
    if kind == "multi":
        known = known.str.split(";").explode().str.strip()
        known = known[known != ""]
    counts = known.value_counts().rename_axis("level").reset_index(name="n")
    counts = counts.sort_values(["n", "level"], ascending=[False, True])
    limit = MAX_LEVELS if kind == "category" else 10 * MAX_LEVELS
    return tuple(counts["level"].astype(str).head(limit))


def _number_levels(known: Floats) -> tuple[tuple[str, ...], dict]:
    if len(np.unique(known)) < 2:
        return (), {}
    logged = bool(known.min() >= 0 and _skewness(known) > SKEWED)
    scaled = np.log1p(known) if logged else known
    quarters = np.quantile(known, np.arange(1, BANDS) / BANDS)
    cuts = np.unique(_rounded(quarters, known, logged))
    cuts = cuts[(cuts > known.min()) & (cuts <= known.max())]
    edges = [0.0 if known.min() >= 0 else -np.inf, *cuts, np.inf]
    bands = [f"[{low:g}, {high:g})" for low, high in itertools.pairwise(edges)] if len(cuts) else []
    details = {
        "cuts": tuple(float(c) for c in cuts),
        "logged": logged,
        "centre": float(scaled.mean()),
        "spread": float(scaled.std() or 1.0),
    }
    return (*bands, TREND), details


def _rounded(edges: Floats, known: Floats, logged: bool) -> Floats:
    """Edges as a person would write them: two digits of a skewed number, a tenth of the middle range otherwise."""
    low, high = np.quantile(known, [0.25, 0.75])
    size = np.maximum(np.abs(edges), 1e-12) if logged else np.full(len(edges), max(high - low, 1e-12))
    step = 10.0 ** (np.floor(np.log10(size)) - 1)
    return np.array([float(f"{v:.6g}") for v in np.round(edges / step) * step])


def _skewness(values: Floats) -> float:
    spread = values.std()
    return float((((values - values.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def _code_number(trait: Trait, values: pd.Series, unknown: NDArray[np.bool_]) -> Floats:
    number = values.to_numpy(dtype=float, na_value=np.nan)
    scaled = np.log1p(np.maximum(number, 0)) if trait.logged else number
    trend = np.where(unknown, 0.0, (scaled - trait.centre) / trait.spread)[:, None]
    if not trait.cuts:
        return trend
    band = np.searchsorted(np.asarray(trait.cuts), np.where(unknown, -np.inf, number), side="right")
    bands = (band[:, None] == np.arange(len(trait.cuts) + 1)) & ~unknown[:, None]
    return np.hstack([bands.astype(float), trend])


def _factorised(values: pd.Series) -> tuple[list[str], NDArray[np.intp]]:
    codes, distinct = pd.factorize(values, sort=True)
    return [str(d) for d in distinct], codes
