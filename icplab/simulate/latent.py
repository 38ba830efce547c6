"""Reads a recipe, makes the latent classes of a market: what an account of each class looks like and how it buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icplab.simulate.recipe import Recipe

INDUSTRIES = 8
NEEDS = 5
PRODUCTS = 3
MARGINS = (0.64, 0.70, 0.76)  # gross margin of the three products
# Why leads are disqualified, how sales judges fit, and what is bought: per segment, from small to large accounts.
REASONS = ((0.40, 0.25, 0.20, 0.15), (0.25, 0.35, 0.20, 0.20), (0.15, 0.25, 0.35, 0.25), (0.15, 0.15, 0.30, 0.40))
FIT = ((0.35, 0.40, 0.25), (0.42, 0.38, 0.20), (0.48, 0.37, 0.15), (0.55, 0.33, 0.12))
BUYS = ((0.70, 0.25, 0.05), (0.45, 0.40, 0.15), (0.25, 0.45, 0.30), (0.10, 0.40, 0.50))
FACTOR_STEPS = 81  # grid on which the single factor of a continuum lives; far finer than any visible column
T4_SCALE = 0.5  # scale of the t(4) noise on log employees in a continuum


@dataclass(frozen=True)
class Classes:
    """Parameters per latent class (rows). A segment is a class; a continuum is a fine grid of classes."""

    weight: np.ndarray
    names: tuple[str, ...]
    """Name of each class in the truth; every class of a continuum is `none`."""
    factor: np.ndarray
    log_employees: np.ndarray
    heavy: bool
    """Log employees have t(4) noise instead of normal noise."""
    industry: np.ndarray
    need: np.ndarray
    tools: np.ndarray
    late_tools: np.ndarray
    """Tool prevalence of accounts created from the drift on."""
    win: np.ndarray
    late_win: np.ndarray
    cycle_median: np.ndarray
    acv_log: np.ndarray
    churn_a: np.ndarray
    churn_b: np.ndarray
    contacts: np.ndarray
    reasons: np.ndarray
    fit: np.ndarray
    buys: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)


def build_classes(recipe: Recipe, rng: np.random.Generator) -> Classes:
    """The classes a recipe asks for; `rng` draws the tool prevalences that a recipe leaves open."""
    return _continuum(recipe, rng) if recipe.structure == "continuum" else _segments(recipe, rng)


def _segments(recipe: Recipe, rng: np.random.Generator) -> Classes:
    k = len(recipe.shares)
    tools = _own_tools(recipe, k, rng)
    log_employees = np.asarray(recipe.log_employees)
    middle = log_employees.mean()
    churn = np.asarray(recipe.churn)
    win = np.asarray(recipe.segment_win)
    by_class = {"reasons": REASONS, "fit": FIT, "buys": BUYS}
    profiles = {name: np.asarray(table)[:k] if k > 1 else np.asarray(table)[1:2] for name, table in by_class.items()}
    return Classes(
        weight=np.asarray(recipe.shares),
        names=tuple(f"P{i + 1}" for i in range(k)),
        factor=np.arange(k, dtype=float),
        log_employees=middle + recipe.separation * (log_employees - middle),
        heavy=False,
        industry=_own_levels(k, INDUSTRIES, 2, recipe.own_industry, recipe.separation),
        need=_own_levels(k, NEEDS, 1, recipe.own_need, recipe.separation),
        tools=tools,
        late_tools=np.clip(tools + recipe.late_tools * np.sqrt(tools * (1 - tools)), 0.001, 0.999),
        win=win,
        late_win=win + (np.asarray(recipe.late_segment_win) if recipe.late_segment_win else 0.0),
        cycle_median=np.asarray(recipe.cycle_median),
        acv_log=np.log(recipe.acv_median),
        churn_a=np.full(k, recipe.churn_a),
        churn_b=recipe.churn_a * (1 - churn) / churn,
        contacts=np.asarray(recipe.contacts),
        **profiles,
    )


def _continuum(recipe: Recipe, rng: np.random.Generator) -> Classes:
    """One factor f ~ N(0, 1) behind size, industry, tools and winning; needs are noise."""
    from scipy.stats import norm

    f = np.linspace(-3.2, 3.2, FACTOR_STEPS)
    weight = norm.pdf(f)
    cuts = np.r_[-np.inf, norm.ppf(np.arange(1, INDUSTRIES) / INDUSTRIES), np.inf]
    industry = np.diff(norm.cdf((cuts - 0.6 * f[:, None]) / 0.8), axis=1)
    base, slope = rng.uniform(-2.2, -1.0, recipe.tools), rng.uniform(0.3, 1.2, recipe.tools)
    tools = 1 / (1 + np.exp(-(base + slope * f[:, None])))
    churn = 0.02 * np.exp(-0.25 * f)
    ones = np.ones((len(f), 1))
    return Classes(
        weight=weight / weight.sum(),
        names=("none",) * len(f),
        factor=f,
        log_employees=4.5 + 1.3 * f,
        heavy=True,
        industry=industry,
        need=ones / NEEDS * np.ones(NEEDS),
        tools=tools,
        late_tools=tools,
        win=0.6 * f,
        late_win=0.6 * f,
        cycle_median=80 * 1.15**f,
        acv_log=np.log(15000) + 0.45 * f,
        churn_a=np.full(len(f), recipe.churn_a),
        churn_b=recipe.churn_a * (1 - churn) / churn,
        contacts=np.exp(0.4 + 0.3 * f),
        reasons=ones * np.asarray(REASONS[1]),
        fit=ones * np.asarray(FIT[1]),
        buys=ones * np.asarray(BUYS[1]),
    )


def _own_levels(k: int, levels: int, each: int, own: float, separation: float) -> np.ndarray:
    """Shares of levels per class: `own` for each of a class's own levels, the rest spread evenly."""
    shares = np.full((k, levels), (1 - each * own) / (levels - each))
    rows = np.repeat(np.arange(k), each)
    shares[rows, np.arange(k * each)] = own
    return 1 / levels + separation * (shares - 1 / levels)


def _own_tools(recipe: Recipe, k: int, rng: np.random.Generator) -> np.ndarray:
    if recipe.tool_range:
        low, high = np.log(recipe.tool_range)
        other = np.exp(rng.uniform(low, high, recipe.tools))
    else:
        other = np.full(recipe.tools, recipe.other_tool)
    shares = np.tile(other, (k, 1))
    each = 0 if recipe.vendors or k == 1 else recipe.tools_each
    own = np.arange(k * each)
    shares[np.repeat(np.arange(k), each), own] += recipe.separation * (recipe.own_tool - other[own])
    return shares
