"""Reads scores and capacity, makes cut points: which accounts are in which tier, and which tiers can be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.model import OUT_OF_MARKET, RANKED, Model, expected_value_draws, place_accounts, with_cuts
from icplab.core.schema import UNASSIGNED

SHARES = {"tier_1": 0.20, "tier_2": 0.30}  # of scored accounts, where icplab.toml names no capacity (contract)
TOLD_APART = 0.90  # probability that the better tier is better, below which two tiers are one


def set_tiers(
    model: Model, market: pd.DataFrame, scored: pd.DataFrame, settings: Settings
) -> tuple[Model, pd.DataFrame]:
    """Cut points by capacity, and the scores with the tiers they give.

    Parameters
    ----------
    model : as fitted, without cut points
    market : account table with segments (`core.model.add_segments`), rows as in `scored`
    scored : from `scores.score_accounts`; columns that the model does not make (intent_score) are kept
    settings : reads [capacity] and [economics] cost_of_touch

    Returns
    -------
    model : with its cut points, in expected value, and those of every draw of its uncertainty
    scored : the artefact `scores`

    Notes
    -----
    Accounts are ordered by expected value. tier_1 takes the best up to its capacity (without one: 20 % of the scored
    accounts), tier_2 the next (30 %), tier_3 the rest whose expected value covers the cost of a touch; below it an account is
    `not_icp`, like partners and competitors. Accounts without a segment have too little data and are `insufficient`.
    Cut points are the roundest numbers that move no account. Two neighbouring tiers whose mean expected value cannot be told apart (probability below TOLD_APART over the draws) are
    merged into the lower one: the better name would promise something.
    """
    if not model.usable:
        return model, scored
    rows = np.flatnonzero(ranked_rows(scored, market))
    values = scored["expected_value"].to_numpy("float64")[rows]
    if len(rows) == 0:
        return model, scored
    in_money = np.isfinite(values).all()
    if not in_money:  # no amounts at all: order by likelihood alone, and no break-even
        values = scored["win_probability"].to_numpy("float64")[rows]
    draws = expected_value_draws(model, market.iloc[rows])
    floor = settings.economics.cost_of_touch if in_money else 0.0
    tiers, merged = _merge(draws, values, tier_sizes(values, wanted_shares(len(values), settings)))
    cuts = _cuts(values, tiers, floor)
    of_draws = _draw_cuts(draws, tiers, floor)
    model = with_cuts(model, cuts, {"cuts": np.round(of_draws, 6).tolist(), "merged": merged})
    return model, place_accounts(model, market, scored)


def preview_tiers(
    expected_value: np.ndarray,
    win_probability: np.ndarray,
    capacity: dict[str, float],
    cost_of_touch: float,
    before: np.ndarray | None = None,
) -> pd.DataFrame:
    """What other capacities and another cost of a touch would do: for sliders, without a model or a file.

    Parameters
    ----------
    expected_value, win_probability : of the accounts that can have a tier
    capacity : accounts for tier_1 and tier_2; a tier that is not named takes its default share
    cost_of_touch : of working one account for a quarter, in the currency of the values
    before : tier of each account as it is now, to count who moves; None where that does not matter

    Returns
    -------
    One row per tier (tier_1, tier_2, tier_3, not_icp): accounts, cut (lowest expected value), win_rate (mean probability),
    value (sum of expected value), share_of_value, cost (of touching them all), net (value less cost), marginal (expected
    value of the last account inside), moved_in and moved_out (null without `before`).
    """
    values = np.asarray(expected_value, dtype=float)
    shares = {t: min(capacity[t] / max(len(values), 1), 1.0) if t in capacity else s for t, s in SHARES.items()}
    cuts = _previewed_cuts(values, tier_sizes(values, shares), cost_of_touch)
    place = (values[:, None] < np.array(list(cuts.values()))).sum(axis=1)
    names = (*RANKED, "not_icp")
    total = float(np.clip(values, 0, None).sum())
    rows = []
    for k, tier in enumerate(names):
        inside = place == k
        value, n = float(values[inside].sum()), int(inside.sum())
        cost = n * cost_of_touch if tier in RANKED else 0.0
        was = np.asarray(before) == tier if before is not None else None
        moved = (int((inside & ~was).sum()), int((was & ~inside).sum())) if was is not None else (np.nan, np.nan)
        rate = float(np.asarray(win_probability)[inside].mean()) if n else np.nan
        marginal = float(values[inside].min()) if n else np.nan
        share = value / total if total else np.nan
        rows.append((tier, n, cuts.get(tier, np.nan), rate, value, share, cost, value - cost, marginal, *moved))
    columns = ["tier", "accounts", "cut", "win_rate", "value", "share_of_value", "cost", "net", "marginal"]
    return pd.DataFrame(rows, columns=[*columns, "moved_in", "moved_out"])


def _previewed_cuts(values: np.ndarray, sizes: dict[str, int], floor: float) -> dict[str, float]:
    """Cut points of all tiers; one without room ends where the better one ends, so that no account falls into it."""
    names = [t for t in RANKED if sizes[t] > 0]
    if not names:
        return dict.fromkeys(RANKED, max(floor, 0.0))
    ends = np.cumsum([sizes[t] for t in names]).tolist()
    found, cuts, above = _cuts(values, dict(zip(names, ends, strict=True)), floor), {}, np.inf
    for tier in RANKED:
        above = cuts[tier] = found.get(tier, above)
    return cuts


def ranked_rows(scored: pd.DataFrame, market: pd.DataFrame) -> np.ndarray:
    """Accounts that can have a place: in the market and with a segment."""
    return (~market["account_type"].isin(OUT_OF_MARKET) & (scored["segment_id"] != UNASSIGNED)).to_numpy()


def wanted_shares(count: int, settings: Settings) -> dict[str, float]:
    """Share of `count` ranked accounts that each tier but the last should hold: capacity, else the default."""
    given = {t: capacity_of(t, settings) for t in SHARES}
    return {
        t: share if given[t] is None else min(float(given[t] or 0.0) / max(count, 1), 1.0)
        for t, share in SHARES.items()
    }


def tier_sizes(values: np.ndarray, shares: dict[str, float]) -> dict[str, int]:
    """Accounts per tier; the last takes the rest.

    Accounts of the same value stay together: a tier ends before them where it would grow beyond its size, unless that left
    it less than half full.
    """
    falling = np.sort(values)[::-1]
    sizes, taken, wanted = {}, 0, 0
    for tier, share in shares.items():
        wanted = min(max(wanted, taken) + round(share * len(values)), len(values))
        end = _end_between_values(falling, taken, wanted)
        sizes[tier], taken = end - taken, end
    return {**sizes, "tier_3": len(values) - taken}


def _end_between_values(falling: np.ndarray, start: int, wanted: int) -> int:
    """Last place up to `wanted` at which the value changes."""
    if wanted in (start, len(falling)) or falling[wanted - 1] != falling[wanted]:
        return wanted
    before = int(np.searchsorted(-falling, -falling[wanted], side="left"))
    after = int(np.searchsorted(-falling, -falling[wanted], side="right"))
    return before if before - start >= (wanted - start) / 2 else after


def _merge(draws: np.ndarray, values: np.ndarray, sizes: dict[str, int]) -> tuple[dict[str, int], list[str]]:
    """Cumulated sizes of the tiers that can be told apart, and the names that were merged away."""
    order = np.argsort(-values, kind="stable")
    names = [t for t, n in sizes.items() if n > 0]
    ends = np.cumsum([sizes[t] for t in names]).tolist()
    means = [draws[order[a:b]].mean(axis=0) for a, b in itertools.pairwise([0, *ends])]
    gone = [
        better
        for (better, above), (_, below) in itertools.pairwise(zip(names, means, strict=True))
        if (above > below).mean() < TOLD_APART
    ]
    return {t: n for t, n in zip(names, ends, strict=True) if t not in gone}, gone


def _cuts(values: np.ndarray, tiers: dict[str, int], floor: float) -> dict[str, float]:
    """Lowest expected value of each tier; the last ranked tier goes down to break-even."""
    falling = np.sort(values)[::-1]
    last = list(tiers)[-1]
    # Below break-even means below the cost of a touch, and never an expected loss.
    lowest = max(floor, 0.0)
    ends = {t: (falling[n - 1], falling[n] if n < len(falling) else -np.inf) for t, n in tiers.items() if t != last}
    return {t: float(lowest if t == last else max(readable_cut(*ends[t]), lowest)) for t in tiers}


def readable_cut(inside: float, outside: float) -> float:
    """The number with the fewest digits above the first value left out and not above the last one inside.

    People and CRMs hold the cut point; rounding it moves no account.
    """
    if not inside > max(outside, 0.0):
        return float(inside)
    for digits in range(16):
        step = 10.0 ** (np.floor(np.log10(inside)) - digits)
        cut = float(np.round(np.floor(inside / step * (1 + 1e-12)) * step, 9))
        if outside < cut <= inside:
            return cut
    return float(inside)


def _draw_cuts(draws: np.ndarray, tiers: dict[str, int], floor: float) -> np.ndarray:
    """Cut points of every draw (tiers × draws), found as those of the estimate are."""
    falling = -np.sort(-draws, axis=0)
    last = list(tiers)[-1]
    lowest = np.full(draws.shape[1], max(floor, 0.0))
    return np.array([lowest if t == last else np.maximum(falling[n - 1], lowest) for t, n in tiers.items()])


def capacity_of(tier: str, settings: Settings) -> float | None:
    return getattr(settings.capacity, tier, None)
