"""Reads opportunities, accounts and the map, makes the search for two traits that go with winning only together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.schema import ALL
from icplab.core.stats.logistic import fit_logistic, fit_with_influence
from icplab.core.stats.pairs import measure_pairs
from icplab.traits.levels import TREND
from icplab.traits.outcomes import observe
from icplab.traits.scopes import Scope, build_scopes, families_with, read_market

SELECTORS = 100  # levels combined: those that split the observations most evenly
MIN_SUPPORT, MIN_EXPECTED = 20, 5.0  # in each of a pair's four cells: as for a single level
SHOWN = 10
COLUMNS = [
    "first", "first_level", "second", "second_level", "pairs", "n", "support", "families", "rate", "expected",
    "odds_ratio", "low", "high", "z", "p_value", "verdict",
]  # fmt: skip
Floats = NDArray[np.floating]


def search_pairs(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    segments: pd.DataFrame,
    settings: Settings,
    *,
    as_of: pd.Timestamp,
    seed: int = 0,
    audit: pd.DataFrame | None = None,
    posteriors: pd.DataFrame | None = None,
    permutations: int = 999,
) -> pd.DataFrame:
    """Pairs of account traits whose holders win more, or less, than both traits and everything else lead to expect.

    Parameters
    ----------
    opportunities, accounts, catalogue, segments, settings, as_of, audit, posteriors
        As `measure_traits` takes them; quarantined columns take no part.
    seed
        Of the permutations.
    permutations
        Exchanges of outcomes that the largest of all pairs is compared with.

    Returns
    -------
    DataFrame
        The strongest pairs first, at most ten: both levels, `pairs` (how many were tested), n, `support` (observations with
        both), families, `rate` (won among them), `expected` (by the model without pairs), `odds_ratio` with its 95 %
        interval (beyond both traits), z, `p_value` (of the largest of all pairs, so it holds for the whole search) and
        `verdict` (`supported` at p ≤ .05, `not_supported`). Empty where winning cannot be modelled.

    Notes
    -----
    All pairs of up to SELECTORS levels are tested, none is skipped for having weak parts. The model holds what
    `measure_traits` adjusts for, with all account traits as background.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        market = read_market(opportunities, accounts, catalogue, segments, audit=audit, posteriors=posteriors)
        market = replace(market, traits=[t for t in market.traits if t.table == "accounts"])
        scope = next(build_scopes("win", observe("win", opportunities, None, as_of), market), None)
        if scope is None or scope.scope != ALL:
            return pd.DataFrame(columns=COLUMNS)
        x, names = _selectors(scope, market.barred)
        y, families = scope.observations["y"].to_numpy(), scope.observations["family_id"].to_numpy()
        nuisance = scope.nuisance
        model = fit_logistic(y, nuisance.z, ridge=nuisance.ridge, start=nuisance.start)
        pairs = _eligible(x, names, model.probabilities)
        tests = measure_pairs(x, y, model.probabilities, families, pairs, permutations=permutations, seed=seed)
        best = np.lexsort((tests.second, tests.first, -np.abs(tests.z)))[:SHOWN]
        rows = [_describe(scope, x, names, model.probabilities, tests.first[k], tests.second[k]) for k in best]
    table = pd.DataFrame(rows, columns=[c for c in COLUMNS if c not in ("z", "p_value", "verdict", "pairs")])
    p_value = tests.p_value[best]
    verdict = np.where(p_value <= 0.05, "supported", "not_supported")
    return table.assign(z=tests.z[best], p_value=p_value, verdict=verdict, pairs=len(tests.z))[COLUMNS]


def _selectors(scope: Scope, barred: set[str]) -> tuple[Floats, list[tuple[str, str]]]:
    """Levels that split the observations most evenly, rows by levels, with trait and level of each."""
    coded = [c for c in scope.coded if c.trait.table == "accounts" and c.trait.name not in barred]
    names = [(c.trait.name, level) for c in coded for level in c.trait.levels]
    if not names:
        return np.zeros((len(scope.observations), 0)), []
    x = np.hstack([c.x for c in coded])
    share = (x != 0).mean(axis=0)
    usable = [j for j, (_, level) in enumerate(names) if level != TREND and 0 < share[j] < 1]
    ranked = sorted(usable, key=lambda j: (-min(share[j], 1 - share[j]), names[j]))[:SELECTORS]
    chosen = sorted(ranked, key=lambda j: names[j])
    return x[:, chosen], [names[j] for j in chosen]


def _eligible(x: Floats, names: list[tuple[str, str]], expected: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of different traits with enough observations and expected wins and losses in each of the four cells."""
    first, second = np.triu_indices(x.shape[1], 1)
    trait = np.array([name for name, _ in names])
    keep = trait[first] != trait[second]
    for weight, least in ((np.ones(len(x)), MIN_SUPPORT), (expected, MIN_EXPECTED), (1 - expected, MIN_EXPECTED)):
        both = (x.T * weight) @ x
        one = both.diagonal()
        cells = (both, one[:, None] - both, one[None, :] - both, weight.sum() - one[:, None] - one[None, :] + both)
        for cell in cells:
            keep &= cell[first, second] >= least
    return first[keep], second[keep]


def _describe(scope: Scope, x: Floats, names: list[tuple[str, str]], expected: Floats, first: int, second: int) -> dict:
    """One pair: what was observed, what was expected, and its odds ratio beyond both levels by maximum likelihood."""
    together = x[:, first] * x[:, second]
    held = together == 1
    rows = scope.observations
    nuisance = scope.nuisance.plus(x[:, [first, second]])
    fit = fit_with_influence(
        *(rows["y"].to_numpy(), together[:, None], nuisance.z),
        ridge=nuisance.ridge,
        clusters=rows["family_id"].to_numpy(),
        exact=False,
        start=nuisance.start,
    )[0].iloc[0]
    middle, width = float(fit["estimate"]), 1.96 * float(fit["se"])
    return {
        "first": names[first][0],
        "first_level": names[first][1],
        "second": names[second][0],
        "second_level": names[second][1],
        "n": float(len(held)),
        "support": float(held.sum()),
        "families": float(families_with(held[:, None], rows["family_id"].to_numpy())[0]),
        "rate": float(rows["measured"].to_numpy()[held].mean()),
        "expected": float(expected[held].mean()),
        "odds_ratio": float(np.exp(middle)),
        "low": float(np.exp(middle - width)),
        "high": float(np.exp(middle + width)),
    }
