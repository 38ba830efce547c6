"""Reads nothing, makes markets for judging the segment step that do not come from `icplab.simulate`.

Planted markets: three to six segments of unequal size, numbers that correlate differently inside each, skewed margins, categories
with Dirichlet rates, a tool stack, flags, unknown cells. Markets without segments: one or two factors of several shapes. Every
trait carries a neutral name; the oracle knows the parameters, not the draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

NUMBERS, CATEGORIES, TOOLS, FLAGS = 4, (9, 6, 5), 30, 4
TELLING_TOOLS = 0.4  # share of tools whose prevalence differs between segments
CONTINUA = ("factor", "two factors", "uniform factor", "skewed factor", "independent")


@dataclass(frozen=True)
class Made:
    """A market as the segment step sees it, and what was planted.

    `label` (n,) is the planted segment, `oracle` (n,) the most probable one under the true parameters; both None on a market
    without segments.
    """

    accounts: pd.DataFrame
    catalogue: pd.DataFrame
    label: np.ndarray | None = None
    oracle: np.ndarray | None = None


def make_planted(n: int, seed: int, separation: float | None = None) -> Made:
    """A market with planted segments; `separation` scales how far apart they are (drawn from 0.55 to 1.3 when not given)."""
    rng = np.random.default_rng([seed, 71])
    far = float(rng.uniform(0.55, 1.3)) if separation is None else separation
    k = int(rng.integers(3, 7))
    share = rng.dirichlet(np.full(k, 3.0)) * (1 - 0.08 * k) + 0.08
    label = rng.choice(k, n, p=share)
    density = np.tile(np.log(share), (n, 1))
    numbers = _numbers(rng, label, k, far, density)
    levels = [_levels(rng, label, k, size, far, density) for size in CATEGORIES]
    tools = _bits(rng, label, k, TOOLS, TELLING_TOOLS, far, density)
    flags = _bits(rng, label, k, FLAGS, 0.5, far, density)
    return Made(*_tables(rng, numbers, levels, tools, flags), label, density.argmax(axis=1))


def make_continuum(n: int, seed: int, shape: str = "factor") -> Made:
    """A market without segments: everything hangs together through one or two continuous factors, or not at all."""
    rng = np.random.default_rng([seed, 72])
    factor = _factors(rng, n, shape)
    load = rng.uniform(-1.2, 1.2, (factor.shape[1], 64)) * (shape != "independent")
    latent = iter((factor @ load).T)
    numbers = np.column_stack([next(latent) + rng.normal(0, 0.7, n) for _ in range(NUMBERS)])
    levels = []
    for size in CATEGORIES:
        ordered = 0.6 * next(latent) + rng.normal(0, 0.8, n)
        cuts = np.quantile(ordered, np.cumsum(rng.dirichlet(np.full(size, 4.0)))[:-1])
        levels.append(rng.permutation(size)[np.searchsorted(cuts, ordered)])
    bits = [rng.random(n) < 1 / (1 + np.exp(-(rng.normal(-1.5, 0.7) + next(latent)))) for _ in range(TOOLS + FLAGS)]
    return Made(*_tables(rng, numbers, levels, np.column_stack(bits[:TOOLS]), np.column_stack(bits[TOOLS:])))


def _factors(rng: np.random.Generator, n: int, shape: str) -> np.ndarray:
    if shape == "uniform factor":
        return rng.uniform(-1.73, 1.73, (n, 1))
    if shape == "skewed factor":
        return rng.gamma(4.0, 0.5, (n, 1)) - 2.0
    return rng.normal(0, 1, (n, 2 if shape == "two factors" else 1))


def _numbers(rng: np.random.Generator, label: np.ndarray, k: int, far: float, density: np.ndarray) -> np.ndarray:
    """Latent normals with a mean and a covariance per segment, 7 % unknown; adds what they tell to `density`."""
    mean = rng.normal(0, 0.9 * far, (k, NUMBERS))
    base = rng.normal(0, 1, (NUMBERS, NUMBERS)) + 1.2 * np.outer(rng.choice([-1, 1], NUMBERS), np.ones(NUMBERS))
    x = np.empty((len(label), NUMBERS))
    covariances = []
    for c in range(k):
        root = base + 0.35 * rng.normal(0, 1, base.shape)
        covariance = root @ root.T + 0.4 * np.eye(NUMBERS)
        spread = np.sqrt(np.diag(covariance)) / rng.uniform(0.8, 1.2, NUMBERS)
        covariances.append(covariance / np.outer(spread, spread))
        x[label == c] = rng.multivariate_normal(mean[c], covariances[-1], (label == c).sum())
    x[rng.random(x.shape) < 0.07] = np.nan
    known = ~np.isnan(x)
    for pattern in np.unique(known, axis=0):
        rows, o = np.flatnonzero((known == pattern).all(axis=1)), np.flatnonzero(pattern)
        for c in range(k if len(o) else 0):
            part = covariances[c][np.ix_(o, o)]
            off = x[np.ix_(rows, o)] - mean[c, o]
            density[rows, c] -= 0.5 * ((off @ np.linalg.inv(part)) * off).sum(1) + 0.5 * np.linalg.slogdet(part)[1]
    return x


def _levels(
    rng: np.random.Generator, label: np.ndarray, k: int, size: int, far: float, density: np.ndarray
) -> np.ndarray:
    """A category, −1 where unknown (8 %); the closer `far` to 0, the more alike the segments' rates."""
    common = rng.dirichlet(np.full(size, 3.0))
    rate = (1 - 0.6 * min(far, 1.6)) * common + 0.6 * min(far, 1.6) * rng.dirichlet(np.full(size, 0.6), k)
    rate = (rate + 0.004) / (1 + 0.004 * size)
    code = (rng.random((len(label), 1)) > np.cumsum(rate, axis=1)[label][:, :-1]).sum(axis=1)
    code[rng.random(len(label)) < 0.08] = -1
    density += np.where(code[:, None] >= 0, np.log(rate.T)[code], 0.0)
    return code


def _bits(
    rng: np.random.Generator, label: np.ndarray, k: int, count: int, telling: float, far: float, density: np.ndarray
) -> np.ndarray:
    """Yes/no traits, of which a share has a higher rate in one or two of the segments."""
    logit = np.tile(rng.normal(-2.0, 0.6, (count, 1)), (1, k))
    for j in np.flatnonzero(rng.random(count) < telling):
        inside = rng.choice(k, int(rng.integers(1, 3)), replace=False)
        logit[j, inside] += 1.9 * far
    rate = 1 / (1 + np.exp(-logit))
    has = rng.random((len(label), count)) < rate.T[label]
    density += has @ np.log(rate) + ~has @ np.log(1 - rate)
    return has


def _tables(
    rng: np.random.Generator, numbers: np.ndarray, levels: list, tools: np.ndarray, flags: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Account table and catalogue: margins made skewed, traits under neutral names in a drawn order."""
    n = len(numbers)
    columns: dict[str, tuple[str, pd.Series]] = {}
    names = iter(rng.permutation([f"v{i:02d}" for i in range(40)]))
    for j, x in enumerate(numbers.T):
        value = np.exp(4 + 0.9 * x) if j % 2 == 0 else 50 + 12 * x
        columns[next(names)] = ("number", pd.Series(np.round(value, 3)))
    for code in levels:
        text = np.append(np.array([f"n{i}" for i in range(code.max() + 1)], dtype=object), None)[code]
        columns[next(names)] = ("category", pd.Series(text, dtype="str"))
    for bit in flags.T:
        columns[next(names)] = ("flag", pd.Series(bit).astype("boolean"))
    word = np.array([f"t{i:03d};" for i in rng.permutation(tools.shape[1])], dtype=object)
    stack = pd.Series((np.where(tools, word, "")).sum(axis=1), dtype="str").str.rstrip(";")
    columns[next(names)] = ("multi", stack)
    traits = sorted(columns)
    ids = pd.Series([f"A{i:06d}" for i in range(n)], dtype="str")
    made = pd.Timestamp("2026-06-30") - pd.to_timedelta(rng.integers(1, 900, n), unit="D")
    accounts = pd.DataFrame(
        {"account_id": ids, "family_id": ids, "created_at": made, **{t: columns[t][1] for t in traits}}
    )
    catalogue = pd.DataFrame({"trait": traits, "kind": [columns[t][0] for t in traits]}).astype("str")
    fixed = {"table": "accounts", "role": "", "family": "firmographic", "excluded": False, "fill_rate": 1.0}
    return accounts, catalogue.assign(**fixed)
