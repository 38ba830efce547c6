"""Reads nothing, makes markets that a reviewer would try the segment step with: shapes that its model does not expect.

Without segments: heavy tails, blocks of strongly correlated numbers, ordinal items behind one factor, a curved or fanning continuum,
categories alone, tables of categories that go together in more than one direction, a third of the cells unknown. Planted: one small
and one large segment, segments in the tools alone, categories alone, a third unknown. And columns that say nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.segment_markets import Made

Columns = dict[str, np.ndarray | list]


def make_hostile(name: str, n: int, seed: int) -> Made:
    """A market by name (`WITHOUT` or `PLANTED`), with `n` accounts."""
    rng = np.random.default_rng([seed, 73])
    if name in WITHOUT:
        return Made(*_table(rng, WITHOUT[name](rng, n), n))
    sizes, telling, unknown = PLANTED[name]
    return _planted(rng, n, np.array(sizes), telling, unknown)


def _heavy_tails(rng: np.random.Generator, n: int) -> Columns:
    """Six numbers of one multivariate t with three degrees of freedom: extreme accounts are extreme in everything."""
    root = np.linalg.cholesky(0.4 + 0.6 * np.eye(6))
    x = rng.standard_normal((n, 6)) @ root.T / np.sqrt(rng.chisquare(3, n) / 3)[:, None]
    return {"number": list(np.sign(x).T * np.expm1(np.abs(x)).T), "category": [rng.integers(0, 6, n)]}


def _blocks(rng: np.random.Generator, n: int) -> Columns:
    """Three blocks of four numbers that correlate by .9 inside a block and not at all between."""
    shared = np.repeat(rng.standard_normal((n, 3)), 4, axis=1)
    return {"number": list((np.sqrt(0.9) * shared + np.sqrt(0.1) * rng.standard_normal((n, 12))).T)}


def _ordinal(rng: np.random.Generator, n: int) -> Columns:
    """Twenty items of five ordered answers behind one factor, as numbers and as words, and ten yes/no items."""
    f = rng.standard_normal(n)
    items = [np.searchsorted(np.sort(rng.normal(0, 1, 4)), 0.8 * f + 0.6 * rng.standard_normal(n)) for _ in range(20)]
    flags = [1.2 * f + rng.logistic(size=n) > rng.normal(0.5, 1) for _ in range(10)]
    return {"number": items[:10], "category": items[10:], "flag": flags}


def _curved(rng: np.random.Generator, n: int) -> Columns:
    """A horseshoe: numbers that rise, that rise and fall, and items that peak somewhere along one continuum."""
    f = rng.uniform(-1.7, 1.7, n)
    noise = lambda: 0.6 * rng.standard_normal(n)  # noqa: E731
    numbers = [f + noise(), -f + noise(), f**2 + noise(), np.abs(f) + noise()]
    flags = [rng.random(n) < 0.7 * np.exp(-((f - rng.uniform(-1.7, 1.7)) ** 2)) for _ in range(12)]
    return {"number": numbers, "flag": flags}


def _fanning(rng: np.random.Generator, n: int) -> Columns:
    """Size and what scales with it, the more loosely the larger the account."""
    size = rng.standard_normal(n)
    spread = 0.3 + 0.5 / (1 + np.exp(-1.5 * size))
    numbers = [size, *(size + spread * rng.standard_normal(n) for _ in range(4))]
    flags = [rng.random(n) < 1 / (1 + np.exp(-(size - rng.normal(0.5, 0.8)))) for _ in range(12)]
    return {"number": [np.exp(3 + x) for x in numbers], "flag": flags}


def _one_factor(rng: np.random.Generator, n: int) -> Columns:
    """One factor behind numbers, categories, flags and a stack; 30 % of the cells unknown."""
    f = rng.standard_normal(n)
    numbers = [_hidden(rng, np.exp(rng.uniform(0.5, 1.2) * f + 0.8 * rng.standard_normal(n)), 0.3) for _ in range(5)]
    cut = lambda k: np.searchsorted(np.sort(rng.normal(0, 1, k - 1)), 0.7 * f + 0.7 * rng.standard_normal(n))  # noqa: E731
    levels = [np.where(rng.random(n) < 0.3, -1, rng.permutation(k)[cut(k)]) for k in (8, 6, 5, 4)]
    bits = [rng.random(n) < 1 / (1 + np.exp(-(rng.uniform(0.2, 1.2) * f - 1.5))) for _ in range(25)]
    return {"number": numbers, "category": levels, "flag": bits[:5], "tool": bits[5:]}


def _discrete(rng: np.random.Generator, n: int) -> Columns:
    """Categories and tools alone, behind one factor."""
    made = _one_factor(rng, n)
    more = [np.where(c < 0, 0, c) for c in _one_factor(rng, n)["category"]]
    return {"category": [*(np.where(c < 0, 0, c) for c in made["category"]), *more], "tool": made["tool"]}


def _tables(rng: np.random.Generator, n: int) -> Columns:
    """Two categories that go together as in a random table (countries and industries), numbers and tools beside them."""
    joint = rng.dirichlet(np.full(48, 0.8))
    cell = rng.choice(48, n, p=joint)
    numbers = list(rng.standard_normal((3, n)))
    return {"category": [cell // 6, cell % 6], "number": numbers, "tool": [rng.random(n) < 0.2 for _ in range(10)]}


def _constant(rng: np.random.Generator, n: int) -> Columns:
    """Columns that say nothing."""
    one = np.zeros(n, dtype=int)
    return {"number": [np.full(n, 7.0), np.full(n, np.nan)], "category": [one, one - 1], "flag": [one > 0, one == 0]}


WITHOUT: dict[str, Callable[[np.random.Generator, int], Columns]] = {
    "heavy tails": _heavy_tails,
    "blocks": _blocks,
    "ordinal items": _ordinal,
    "curved": _curved,
    "fanning": _fanning,
    "a third unknown": _one_factor,
    "discrete": _discrete,
    "tables": _tables,
    "constant": _constant,
}

# Shares of the segments, how far apart they are in (numbers, categories, tools), share of cells unknown.
PLANTED: dict[str, tuple[tuple[float, ...], tuple[float, float, float], float]] = {
    "5/25/70": ((0.05, 0.25, 0.70), (1.0, 0.8, 1.5), 0.05),
    "tools only": ((0.4, 0.35, 0.25), (0.0, 0.0, 2.2), 0.0),
    "discrete planted": ((0.3, 0.3, 0.2, 0.2), (-1.0, 0.8, 1.5), 0.05),
    "unknown planted": ((0.4, 0.3, 0.2, 0.1), (1.0, 0.9, 1.8), 0.3),
    "heavy planted": ((0.4, 0.3, 0.2, 0.1), (1.0, 0.8, 1.5), 0.05),
}


def _planted(
    rng: np.random.Generator, n: int, share: np.ndarray, telling: tuple[float, float, float], unknown: float
) -> Made:
    """Segments that differ in means, rates and tools; independent inside; the oracle knows the parameters."""
    k = len(share)
    label = rng.choice(k, n, p=share)
    density = np.tile(np.log(share), (n, 1))
    made: Columns = {"number": [], "category": [], "tool": []}
    for _ in range(5 if telling[0] >= 0 else 0):
        mean = rng.normal(0, telling[0], k)
        x = _hidden(rng, mean[label] + rng.standard_normal(n), unknown)
        density += np.nan_to_num(-0.5 * (x[:, None] - mean) ** 2)
        made["number"].append(np.exp(x))
    for size in (8, 6, 5, 4):
        common = rng.dirichlet(np.full(size, 3.0))
        rate = (1 - telling[1]) * common + telling[1] * rng.dirichlet(np.full(size, 0.7), k) + 1e-3
        rate /= rate.sum(axis=1, keepdims=True)
        code = (rng.random((n, 1)) > np.cumsum(rate, axis=1)[label][:, :-1]).sum(axis=1)
        code = np.where(rng.random(n) < unknown, -1, code)
        density += np.where(code[:, None] >= 0, np.log(rate.T)[code], 0.0)
        made["category"].append(code)
    for j in range(30):
        logit = np.full(k, rng.normal(-1.8, 0.5))
        logit[rng.choice(k, 1)] += telling[2] * (j % 2)
        rate = 1 / (1 + np.exp(-logit))
        has = rng.random(n) < rate[label]
        density += np.where(has[:, None], np.log(rate), np.log(1 - rate))
        made["tool"].append(has)
    return Made(*_table(rng, made, n), label, density.argmax(axis=1))


def _hidden(rng: np.random.Generator, x: np.ndarray, share: float) -> np.ndarray:
    return np.where(rng.random(len(x)) < share, np.nan, x)


def _table(rng: np.random.Generator, columns: Columns, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Account table and catalogue; traits under neutral names in a drawn order."""
    names = iter(rng.permutation([f"v{i:02d}" for i in range(60)]))
    frame: dict[str, tuple[str, pd.Series]] = {}
    for x in columns.get("number", []):
        frame[next(names)] = ("number", pd.Series(x, dtype="float64"))
    for code in columns.get("category", []):
        text = np.append(np.array([f"n{i}" for i in range(max(code.max(), 0) + 1)], dtype=object), None)[code]
        frame[next(names)] = ("category", pd.Series(text, dtype="str"))
    for bit in columns.get("flag", []):
        frame[next(names)] = ("flag", pd.Series(bit).astype("boolean"))
    if "tool" in columns:
        word = np.array([f"t{i:02d};" for i in range(len(columns["tool"]))], dtype=object)
        stack = np.where(np.column_stack(columns["tool"]), word, "").sum(axis=1)
        frame[next(names)] = ("multi", pd.Series(stack, dtype="str").str.rstrip(";"))
    traits = sorted(frame)
    ids = pd.Series([f"A{i:06d}" for i in range(n)], dtype="str")
    made = pd.Timestamp("2026-06-30") - pd.to_timedelta(rng.integers(1, 900, n), unit="D")
    accounts = pd.DataFrame(
        {"account_id": ids, "family_id": ids, "created_at": made, **{t: frame[t][1] for t in traits}}
    )
    catalogue = pd.DataFrame({"trait": traits, "kind": [frame[t][0] for t in traits]}).astype("str")
    fixed = {"table": "accounts", "role": "", "family": "firmographic", "excluded": False, "fill_rate": 1.0}
    return accounts, catalogue.assign(**fixed)
