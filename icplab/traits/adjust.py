"""Reads observations and what is known of their accounts, makes the nuisance columns that effects are adjusted for.

A trait that merely goes along with a segment, a size, a channel, a region, a quarter or a seller must not look like a trait
of its own. What the segments on the map miss is held by the other traits of the account (the background), shrunken by a
normal prior whose width the data choose: the mixed model that genetics uses against population structure (Price et al.
2010, Nature Reviews Genetics 11, "mixed models").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.stats.linear import residual_variance
from icplab.core.stats.logistic import fit_logistic
from icplab.traits.levels import TREND, Trait

Floats = NDArray[np.floating]

MIN_LEVEL = 10  # observations below which a level of source, region, owner is joined with the other rare ones
WEAK = 0.01  # ridge on segments and size: a prior of standard deviation 10, only against separation
OWNER_SPREAD = 0.7  # prior standard deviation of sellers, in log odds; wide, so that a star seller is not shrunken away
SPREADS = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8)  # tried for the background; 0.01 is as good as none
FAMILY_SPREADS = (*SPREADS, 1.6)
# Observations from which a family may differ from the others by an effect of its own, and how many families at most; smaller
# ones are left to the clustered errors.
LARGE_FAMILY, MOST_FAMILIES = 20, 150
# Channels and sellers together (a source in one region, a seller in one half-year): asked from so many observations.
CELL_SPREADS, MANY, LARGE_CELL = (0.01, 0.4), 800, 20
BENDS = 7  # of the size curve, at even quantiles; one per BEND_ROWS observations, 2 at least
BEND_ROWS = 200
MONTH_ROWS = 40  # observations a month from which creation months are held equal, instead of quarters
EVIDENCE_ROWS = 20_000  # rows the width is chosen on; more change nothing

# Nuisance blocks that a trait stands in for: they leave when that trait is looked at.
STANDS_FOR = {
    "employees": ("size",), "region": ("region", "cell"), "source": ("source", "cell"), "product": ("product",),
}  # fmt: skip


@dataclass(frozen=True)
class Coded:
    """Levels of one trait on observations: `x` (rows x levels), `unknown` rows."""

    trait: Trait
    x: Floats
    unknown: NDArray[np.bool_]


@dataclass(frozen=True)
class Nuisance:
    """Columns adjusted for. `block` names what a column stands for; background columns are `trait:<name>`."""

    z: Floats
    ridge: Floats
    block: NDArray[np.str_]
    level: NDArray[np.str_]
    start: Floats | None = None
    """Coefficients of the nuisance model of all observations (0/1 outcomes), to start others from."""

    def without(self, *blocks: str) -> Nuisance:
        keep = ~np.isin(self.block, blocks)
        start = None if self.start is None else self.start[keep]
        return Nuisance(self.z[:, keep], self.ridge[keep], self.block[keep], self.level[keep], start)

    def plus(self, columns: Floats) -> Nuisance:
        """With further columns, hardly penalised."""
        more = columns.shape[1]
        start = None if self.start is None else np.concatenate([self.start, np.zeros(more)])
        return Nuisance(
            np.hstack([self.z, columns]),
            np.concatenate([self.ridge, np.full(more, WEAK)]),
            np.concatenate([self.block, np.full(more, "level")]),
            np.concatenate([self.level, np.full(more, "")]),
            start,
        )

    def free(self, *blocks: str) -> Nuisance:
        """With these blocks hardly penalised: nothing of theirs is left for a trait that repeats one of their levels."""
        ridge = np.where(np.isin(self.block, blocks), np.minimum(self.ridge, WEAK), self.ridge)
        return Nuisance(self.z, ridge, self.block, self.level, self.start)

    def position(self, trait: str, level: str) -> int:
        """Column that repeats this level, -1 for none."""
        found = np.flatnonzero((self.block == f"trait:{trait}") & (self.level == level))
        return int(found[0]) if len(found) else -1


def build_nuisance(
    observations: pd.DataFrame, memberships: Floats | None, coded: list[Coded], *, logged: bool
) -> Nuisance:
    """Nuisance columns of these observations.

    Parameters
    ----------
    observations
        As `outcomes.observe` makes them, with `employees` and `region` of the account where known.
    memberships
        Rows by segments, each row summing to 1; None inside one segment or without segments.
    coded
        Levels of the account traits, which make the background.
    logged
        True for outcomes on a log scale.

    Returns
    -------
    Nuisance
        Intercept; memberships but one; log employees with BENDS bends and an indicator of missing; source, region, motion and
        creation month or quarter (levels with fewer than MIN_LEVEL observations joined), with a prior of standard deviation 1; owner,
        with one of OWNER_SPREAD (both times the outcome's own spread on a log scale); for outcomes on a log scale the product sold, so that the price
        list is not taken for a trait; families of LARGE_FAMILY observations and more; cells of source and region, and of seller
        and half-year; background. The last three have priors whose widths the data choose.
    """
    unit = float(observations["y"].std() or 1.0) if logged else 1.0
    y = observations["y"].to_numpy()
    found = plain_nuisance(observations, memberships, _period(observations["created_at"]), logged=logged)
    found = _with_shrunken(found, _large_families(observations["family_id"]), y, unit, logged, FAMILY_SPREADS)
    found = _with_shrunken(found, _cells(observations), y, unit, logged, CELL_SPREADS)
    background = _stack([p for c in coded for p in _background(c)]) if coded else None
    return _with_shrunken(found, background, y, unit, logged, SPREADS)


def plain_nuisance(
    observations: pd.DataFrame, memberships: Floats | None, period: pd.Series, *, logged: bool
) -> Nuisance:
    """What needs no outcome to be made: segment, size, source, region, motion, product, period and owner."""
    unit = float(observations["y"].std() or 1.0) if logged else 1.0
    parts: list[tuple[str, Floats, float, list[str]]] = [("intercept", np.ones((len(observations), 1)), 0.0, [""])]
    if memberships is not None and memberships.shape[1] > 1:
        kept = np.delete(memberships, int(memberships.sum(axis=0).argmax()), axis=1)
        parts.append(("segment", kept, WEAK, [""] * kept.shape[1]))
    size = _size(observations)
    parts.append(("size", size, WEAK, [""] * size.shape[1]))
    for block, values, ridge in (
        ("source", observations["source"], 1 / unit**2),
        ("region", observations["region"], 1 / unit**2),
        ("motion", observations["motion"], 1 / unit**2),
        *((("product", observations["product"], WEAK),) if logged and "product" in observations else ()),
        ("period", period, 1 / unit**2),
        ("owner", observations["owner"], 1 / (OWNER_SPREAD * unit) ** 2),
    ):
        dummies = _dummies(values)
        parts.append((block, dummies, ridge, [""] * dummies.shape[1]))
    return _stack(parts)


def _size(observations: pd.DataFrame) -> Floats:
    """Log employees, standardised, with bends at even quantiles, and an indicator of missing."""
    size = np.log1p(observations["employees"].to_numpy(dtype=float, na_value=np.nan).clip(0))
    unknown = ~np.isfinite(size)
    known = size[~unknown]
    if not len(known) or known.std() == 0:
        return np.empty((len(size), 0))
    z = np.where(unknown, 0.0, (np.where(unknown, 0.0, size) - known.mean()) / known.std())
    n_bends = int(np.clip((~unknown).sum() // BEND_ROWS, 2, BENDS))
    bends = np.unique(np.quantile(z[~unknown], np.arange(1, n_bends + 1) / (n_bends + 1)))
    columns = [z, *(np.where(unknown, 0, np.maximum(z - b, 0)) for b in bends)]
    if unknown.any():
        columns.append(unknown.astype(float))
    return np.column_stack(columns)


def _period(created_at: pd.Series) -> pd.Series:
    """Creation month where months hold enough, else quarter."""
    months = created_at.dt.year.astype("str") + "-" + created_at.dt.month.astype("str")
    if created_at.notna().sum() >= MONTH_ROWS * months[created_at.notna()].nunique():
        return months
    return quarters(created_at)


def quarters(created_at: pd.Series) -> pd.Series:
    """Creation quarter."""
    return created_at.dt.year.astype("str") + "Q" + created_at.dt.quarter.astype("str")


def _cells(observations: pd.DataFrame) -> Nuisance | None:
    """Source by region and seller by half-year, where cells are not too small: what does not just add up."""
    if len(observations) < MANY:
        return None
    created = observations["created_at"]
    half = created.dt.year.astype("str") + "H" + (1 + created.dt.quarter // 3).astype("str")
    parts = []
    for first, second in ((observations["source"], observations["region"]), (observations["owner"], half)):
        left, right = (s.astype("str").fillna("(missing)") for s in (first, second))
        if min(left.nunique(), right.nunique()) < 2:
            continue
        cell = left + " / " + right
        counts = cell.value_counts()
        names = sorted(counts.index[counts >= LARGE_CELL])[:MOST_FAMILIES]
        codes = pd.Index(names).get_indexer(cell)
        parts.append(("cell", (codes[:, None] == np.arange(len(names))).astype(float), 1.0, [""] * len(names)))
    return _stack(parts) if parts else None


def _large_families(families: pd.Series) -> Nuisance | None:
    """An effect of its own for each family with many observations; without it a giant's success is its traits' success."""
    counts = families.value_counts()
    large = counts[counts >= LARGE_FAMILY]
    if large.empty or len(counts) < 2:
        return None
    names = sorted(large.index, key=lambda name: (-large[name], str(name)))[:MOST_FAMILIES]
    codes = pd.Index(names).get_indexer(families)
    return _stack([("family", (codes[:, None] == np.arange(len(names))).astype(float), 1.0, [""] * len(names))])


def _dummies(values: pd.Series) -> Floats:
    """Indicators of all levels but the most frequent; rare ones joined; missing is a level."""
    text = values.astype("str").fillna("(missing)")
    counts = text.value_counts()
    text = text.where(~text.isin(counts.index[counts < MIN_LEVEL]), "(rare)")
    codes, distinct = pd.factorize(text, sort=True)
    indicators = (codes[:, None] == np.arange(len(distinct))).astype(float)
    return np.delete(indicators, int(indicators.sum(axis=0).argmax()), axis=1) if len(distinct) else indicators


def _background(coded: Coded) -> list[tuple[str, Floats, float, list[str]]]:
    """Levels of one trait (the trend of a number) and its indicator of missing, where they are not too rare."""
    names = np.asarray(coded.trait.levels)
    chosen = names == TREND if coded.trait.kind == "number" else np.ones(len(names), bool)
    held = (coded.x != 0).sum(axis=0)
    chosen &= (held >= MIN_LEVEL) & (held <= len(coded.x) - (0 if coded.trait.kind == "number" else MIN_LEVEL))
    block = f"trait:{coded.trait.name}"
    parts = [(block, coded.x[:, chosen], 1.0, list(names[chosen]))]
    if MIN_LEVEL <= coded.unknown.sum() <= len(coded.unknown) - MIN_LEVEL:
        parts.append((block, coded.unknown[:, None].astype(float), 1.0, ["(missing)"]))
    return parts


def _stack(parts: list[tuple[str, Floats, float, list[str]]]) -> Nuisance:
    widths = [p[1].shape[1] for p in parts]
    return Nuisance(
        np.hstack([p[1] for p in parts]),
        np.repeat([p[2] for p in parts], widths),
        np.repeat([p[0] for p in parts], widths).astype(str),
        np.array([name for p in parts for name in p[3]], dtype=str),
    )


def _with_shrunken(
    plain: Nuisance, more: Nuisance | None, y: Floats, unit: float, logged: bool, spreads: tuple[float, ...]
) -> Nuisance:
    """Both together, the prior of what is added chosen by its evidence (Laplace's approximation for 0/1 outcomes)."""
    if more is None or not more.z.shape[1]:
        return plain
    z = np.hstack([plain.z, more.z])
    part = slice(None, None, -(-len(y) // EVIDENCE_ROWS))
    found = None if plain.start is None else np.concatenate([plain.start, np.zeros(more.z.shape[1])])
    evidence, tried = [], []
    for spread in spreads:
        tried.append(np.concatenate([plain.ridge, more.ridge / (spread * unit) ** 2]))
        value, found = _evidence(y[part], z[part], tried[-1], logged, found)
        evidence.append((value, found))
    best = int(np.argmax([e for e, _ in evidence]))
    if best == 0:
        return plain  # they explain nothing
    start, ridge = evidence[best][1], tried[best]
    block, level = (np.concatenate([getattr(plain, a), getattr(more, a)]) for a in ("block", "level"))
    return Nuisance(z, ridge, block, level, start)


def _evidence(y: Floats, z: Floats, ridge: Floats, logged: bool, start: Floats | None) -> tuple[float, Floats | None]:
    """Log evidence of a prior, up to a constant, and the coefficients found with it."""
    prior = 0.5 * float(np.log(ridge[ridge > 0]).sum())
    if logged:
        variance = residual_variance(y, z, ridge)
        information = z.T @ z / variance + np.diag(ridge)
        right = z.T @ y / variance
        quadratic = float(y @ y / variance - right @ np.linalg.solve(information, right))
        fit, found = -0.5 * (quadratic + len(y) * np.log(variance)), None
    else:
        model = fit_logistic(y, z, ridge=ridge, start=start)
        weight = model.probabilities * (1 - model.probabilities)
        information = (z * weight[:, None]).T @ z + np.diag(ridge)
        found = model.coefficients
        fit = model.log_likelihood - 0.5 * float(ridge @ found**2)
    return fit + prior - 0.5 * float(np.linalg.slogdet(information)[1]), found
