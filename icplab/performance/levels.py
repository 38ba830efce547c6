"""Reads closed opportunities and many cuts, makes wins per level with pooled rates, and findings on leaders and small levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.pooling import pool_rates
from icplab.performance.cuts import find_levels
from icplab.performance.prepare import no_decision

STEP = "20_performance"
FALSE_ALARM = 0.05
BEST = 0.90  # probability from which a level is called the best
SHOWN = 5
TAIL = 3  # small levels from which on one of them usually ends a league table by luck


def place_opportunities(
    cuts: Iterable[str], accounts: pd.DataFrame, opportunities: pd.DataFrame
) -> dict[str, pd.Series]:
    """Level of each opportunity (index opportunity_id) for each cut, whether the column is of accounts or opportunities."""
    by_account = opportunities.set_index("opportunity_id")["account_id"]
    placed = {}
    for cut in cuts:
        level = find_levels(cut, accounts, opportunities)
        placed[cut] = by_account.map(level) if cut in accounts else level.reindex(by_account.index)
    return placed


def count_levels(
    opportunities: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    settings: Settings,
    as_of: pd.Timestamp,
    basis: str = "closed",
) -> pd.DataFrame:
    """Win rate in the window of every level of every cut.

    Parameters
    ----------
    opportunities : DataFrame
        One row per opportunity.
    levels : mapping
        From `place_opportunities`.
    basis : str
        `closed` (won of decided) or `horizon` (won within `[plan] horizon_days` of creation, open ones censored).

    Returns
    -------
    DataFrame
        `cut, level, basis, n` (opportunities behind the rate), `won, rate, trials` (independent trials as good as these),
        `small` (n below `[plan] minimum_n`), `p_difference` (that all levels of the cut have one rate), by cut and level.
        A cut with one level is left out.

    Notes
    -----
    The horizon rate weights each win by one over the chance of having been observed so long (Robins and Rotnitzky 1992),
    per level, which equals Aalen and Johansen's estimate. `p_difference` is the smaller of the chi-square over all levels
    and of the level farthest from the rest, times two: one outstanding level among many is lost in a chi-square.
    """
    frame = _observed(opportunities, settings, as_of, basis)
    clustering, ids = _clustering(frame), pd.Index(frame["opportunity_id"])
    index, place = None, np.empty(0, dtype=np.intp)
    parts = []
    for cut, level in levels.items():
        if level.index is not index:  # cuts of one kind share it
            index, place = level.index, level.index.get_indexer(ids)
        of = pd.Series(level.array.take(place, allow_fill=True), frame.index).astype("str")
        counts = _count(frame, of, settings.plan.horizon_days, basis)
        if len(counts) > 1:
            parts.append(_as_rows(cut, basis, counts, clustering, settings.plan.minimum_n))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c: [] for c in _COLUMNS})
    return rows.astype(_COLUMNS)


def clustering_of(opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> tuple[float, float]:
    """The closed win rate of the window, and its variance with families as units against independent opportunities."""
    frame = _observed(opportunities, settings, as_of, "closed")
    return (float(frame["won"].mean()) if len(frame) else 0.0), _clustering(frame)


def pool_levels(group: pd.DataFrame) -> pd.DataFrame:
    """The levels of one cut with `pooled, pooled_low, pooled_high, p_best`: partial pooling over them."""
    rate, trials = group["rate"].to_numpy(), group["trials"].to_numpy()
    pooled = pool_rates(rate * trials, trials).drop(columns="p_worst")
    return group.reset_index(drop=True).join(pooled)


def best_basis(opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> str:
    """`horizon` where some opportunity was followed that long, else `closed`."""
    oldest = opportunities["created_at"].min()
    followed = settings.dated and pd.notna(oldest) and (as_of - oldest).days >= settings.plan.horizon_days
    return "horizon" if followed else "closed"


def find_leaders(counts: pd.DataFrame, shown: Iterable[str] = ()) -> Iterator[Finding]:
    """Per cut whose levels differ by more than chance (Bonferroni over cuts): the leader, and how sure that is.

    Cuts named in `shown` also say when no difference is found; of the others, those with two levels are left to the
    step on traits, which holds other traits equal.
    """
    shown, cuts = set(shown), counts["cut"].nunique()
    tests = {cut: len(shown) if cut in shown else cuts for cut in counts["cut"].unique()}
    for cut, group in counts.groupby("cut", sort=True):
        p = min(1.0, float(group["p_difference"].iloc[0]) * tests[cut])
        if p <= FALSE_ALARM and (cut in shown or len(group) > 2):
            yield _leader(pool_levels(group), p)
        elif cut in shown:
            yield _no_difference(pool_levels(group), p)


def find_small_groups(counts: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    """Per cut: levels too small to say anything by themselves; a warning where luck puts one of them at an end of the list."""
    minimum = settings.plan.minimum_n
    for cut, group in counts.groupby("cut", sort=True):
        if not group["small"].any():
            continue
        group = pool_levels(group)
        small, large = group[group["small"]].sort_values(["n", "level"]), group[~group["small"]]
        names = ", ".join(
            f"{formats.plain(name, 40)} ({n:,.0f})"
            for name, n in zip(small["level"][:SHOWN], small["n"][:SHOWN], strict=True)
        )
        numbers: dict[str, object] = {"small": len(small), "levels": len(group), "minimum_n": minimum}
        start = f"{len(small)} of {len(group)} levels of {formats.plain(cut)} have fewer than {minimum} closed opportunities"
        end = [group.iloc[int(at)] for at in (group["rate"].argmax(), group["rate"].argmin())]
        lucky = [row for row in end if row["small"]]
        if len(small) < TAIL or not len(large) or not lucky:
            sentence = f"{start} and say little by themselves: {names}{' and more' if len(small) > SHOWN else ''}."
            yield Finding("small-group", STEP, "info", str(cut), sentence, numbers)
            continue
        yield _lucky(str(cut), start, lucky[0], lucky[0] is end[0], large, numbers)


_COLUMNS = {
    "cut": "str",
    "level": "str",
    "basis": "str",
    **dict.fromkeys(("n", "won", "rate", "trials"), "float64"),
    "small": "bool",
    "p_difference": "float64",
}


def _observed(opportunities: pd.DataFrame, settings: Settings, as_of: pd.Timestamp, basis: str) -> pd.DataFrame:
    """Opportunities behind a basis: `opportunity_id, family, won`, for the horizon also `days` watched and `open`."""
    frame = opportunities.sort_values("opportunity_id", ignore_index=True)
    dated = "created_at" if basis == "horizon" else "closed_at"
    kept = frame[dated].notna() if basis == "horizon" else (frame["status"] != "open") & ~no_decision(frame)
    if settings.dated and settings.plan.window_days:
        kept &= frame[dated] > as_of - pd.Timedelta(days=settings.plan.window_days)
    frame = frame[kept]
    is_open = frame["status"] == "open"
    days = (frame["closed_at"].mask(is_open).fillna(as_of) - frame["created_at"]).dt.days
    family = frame["family_id"].fillna("~" + frame["opportunity_id"])
    frame = frame[["opportunity_id"]].assign(won=frame["status"] == "won", open=is_open, days=days, family=family)
    return frame[frame["days"] >= 0] if basis == "horizon" else frame


def _count(frame: pd.DataFrame, level: pd.Series, horizon: int, basis: str) -> pd.DataFrame:
    """`n, won, rate, trials` per level; rows without a level count nowhere."""
    codes, names = pd.factorize(level, sort=True)
    known, won = codes >= 0, frame["won"].to_numpy(dtype=bool)
    if basis == "closed":
        n = np.bincount(codes[known], minlength=len(names)).astype(float)
        wins = np.bincount(codes[known], weights=won[known], minlength=len(names))
        return pd.DataFrame({"n": n, "won": wins, "rate": wins / n, "trials": n}, index=names)
    days, still_open = frame["days"].to_numpy(), frame["open"].to_numpy(dtype=bool)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.searchsorted(codes[order], np.arange(len(names))))[1:]
    rows = [_incidence(days[at], won[at], still_open[at], horizon) for at in groups]
    return pd.DataFrame(rows, index=names, columns=["n", "won", "rate", "trials"])


def _incidence(days: np.ndarray, won: np.ndarray, is_open: np.ndarray, horizon: int) -> tuple[float, ...]:
    """Opportunities, wins in time, chance of a win in time, and independent trials with its variance."""
    order = np.lexsort((is_open, days))  # an outcome on a day comes before the end of watching on that day
    days, won, is_open = days[order], won[order], is_open[order]
    n = len(days)
    at_risk = n - np.arange(n)
    watched = np.cumprod(np.where(is_open, 1 - 1 / at_risk, 1.0))
    watched = np.concatenate([[1.0], watched[:-1]])
    weight = np.where(won & (days <= horizon), 1 / np.maximum(watched, 1e-9), 0.0)
    rate = float(weight.mean())
    variance = max(float((weight**2).mean()) - rate**2, 0.0) / n
    trials = rate * (1 - rate) / variance if variance > 0 and 0 < rate < 1 else float(n)
    return float(n), float((weight > 0).sum()), min(rate, 1.0), float(min(max(trials, 1.0), n))


def _as_rows(cut: str, basis: str, counts: pd.DataFrame, clustering: float, minimum: int) -> pd.DataFrame:
    rate, trials = counts["rate"].to_numpy(), counts["trials"].to_numpy() / clustering
    numbers = {"n": counts["n"].to_numpy(), "won": counts["won"].to_numpy(), "rate": rate, "trials": trials}
    told = {"small": numbers["n"] < minimum, "p_difference": _p_difference(rate, trials)}
    return pd.DataFrame({"cut": cut, "level": counts.index, "basis": basis, **numbers, **told})


def _p_difference(rate: np.ndarray, trials: np.ndarray) -> float:
    """Chance of such differences between levels when all have one rate."""
    from scipy.special import chdtrc, ndtr

    total = trials.sum()
    pooled = float((rate * trials).sum() / total)
    noise = max(pooled * (1 - pooled), 1e-9)
    spread = float(chdtrc(len(rate) - 1, ((rate - pooled) ** 2 * trials).sum() / noise))
    # Levels below five expected wins or losses are not normal enough to be the one that stands out.
    tested = np.minimum(trials * pooled, trials * (1 - pooled)) >= 5
    gap = (rate - pooled) / np.sqrt(noise * (1 / trials - 1 / total).clip(1e-12))
    farthest = float(2 * ndtr(-np.abs(gap[tested]).max()) * tested.sum()) if tested.any() else 1.0
    return min(1.0, 2 * min(spread, farthest))


def _clustering(frame: pd.DataFrame) -> float:
    """Variance of the share won with families as units against independent opportunities; at least 1."""
    rate, n = float(frame["won"].mean()) if len(frame) else 0.0, len(frame)
    sums = frame["won"].groupby(frame["family"]).agg(["sum", "size"])
    if len(sums) < 30 or not 0 < rate < 1:
        return 1.0
    spread = ((sums["sum"] - rate * sums["size"]) ** 2).sum() * len(sums) / (len(sums) - 1)
    return float(max(1.0, spread / (n * rate * (1 - rate))))


def _best(group: pd.DataFrame) -> pd.Series:
    """The level most probably best, a level with enough evidence where there is one."""
    enough = (~group["small"]).to_numpy()
    return group.iloc[int((group["p_best"].to_numpy() + (enough if enough.any() else 0)).argmax())]


def _leader(group: pd.DataFrame, p: float) -> Finding:
    best = _best(group)
    cut, shown = formats.plain(best["cut"]), _pooled(best)
    certain = best["p_best"] >= BEST and not best["small"]
    sentence = (
        f"Win rate ({_basis(best)}) differs over {cut}: “{formats.plain(best['level'])}” "
        f"{'is the best' if certain else 'leads, but is not certainly the best'}, pooled {shown}, n = {best['n']:,.0f}, "
        f"the highest with probability {formats.percent(best['p_best'])}."
    )
    return Finding("best-level", STEP, "info", str(best["cut"]), sentence, _numbers(best, group, p))


def _no_difference(group: pd.DataFrame, p: float) -> Finding:
    best = _best(group)
    sentence = (
        f"The {len(group)} levels of {formats.plain(best['cut'])} show no difference in win rate "
        f"({_basis(best)}) beyond chance "
        f"(p = {p:.2f} among all cuts); the pooled rate of the leader, “{formats.plain(best['level'])}”, is {_pooled(best)}."
    )
    return Finding("no-difference", STEP, "info", str(best["cut"]), sentence, _numbers(best, group, p))


def _lucky(cut: str, start: str, end: pd.Series, top: bool, large: pd.DataFrame, numbers: dict) -> Finding:
    place = "leads" if top else "comes last"
    known = _best(large)
    sentence = (
        f"{start}, and one of them {place} by luck: “{formats.plain(end['level'], 40)}” won {end['won']:,.0f} of "
        f"{end['n']:,.0f}, pooled {formats.percent(end['pooled'])}. Among levels with enough evidence "
        f"“{formats.plain(known['level'], 40)}” leads, pooled {_pooled(known)}, n = {known['n']:,.0f}."
    )
    more = {"level": end["level"], "won": end["won"], "n": end["n"], "pooled": end["pooled"], "leader": known["level"]}
    action = "Rank by the pooled rate; decide nothing on the small ones."
    return Finding("small-group", STEP, "watch", cut, sentence, {**numbers, **more}, action=action)


def _basis(row: pd.Series) -> str:
    return "within the horizon" if row["basis"] == "horizon" else "closed"


def _pooled(row: pd.Series) -> str:
    return formats.estimate(row["pooled"], row["pooled_low"], row["pooled_high"], "fraction")


def _numbers(best: pd.Series, group: pd.DataFrame, p: float) -> dict[str, object]:
    own = {k: best[k] for k in ("p_best", "pooled", "pooled_low", "pooled_high", "n", "level")}
    return {"p_difference": p, **own, "levels": len(group)}
