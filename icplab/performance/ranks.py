"""Reads `kpis` of one cut, makes what is known of the order of its levels, and quarters against what was to be expected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.core.stats.pooling import draw_estimates, draw_rates, pool_rates
from icplab.core.stats.ranking import beats, rank_intervals

DRAWS = 4000  # chances are right to about one and a half points
Z = 1.959964
LOWER_IS_BETTER = ("cac", "cycle_days", "payback_months", "time_to_qualify")
MIN_QUARTER = 10  # closed opportunities from which a quarter of a level is compared


def rank_levels(
    kpis: pd.DataFrame, cut: str, *, settings: Settings, kpi: str = "win_rate", basis: str = "", seed: int = 0
) -> pd.DataFrame:
    """Levels of a cut in the order of their pooled values, with how much of that order is known.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` that hold the cut.
    cut, kpi, basis : str
        What is ranked; without a basis the first usable of: won within the horizon, closed, mean, discounted, new_logo.
    settings : Settings
        `[plan] horizon_days` names the horizon basis.
    seed : int
        Seed of the draws from the pooled posterior.

    Returns
    -------
    DataFrame
        `level, n, value, low, high, pooled, pooled_low, pooled_high, status, p_best` (best: highest, for costs and days
        lowest), `rank, rank_low, rank_high` (95 %), `p_beats_next` (chance of being truly better than the next one).
        Empty with fewer than two measured levels.
    """
    chosen = _measured(kpis, cut, kpi, basis, settings)
    columns = ["level", "n", "value", "low", "high", "pooled", "pooled_low", "pooled_high", "status"]
    more = ["p_best", "rank", "rank_low", "rank_high", "p_beats_next"]
    if len(chosen) < 2:
        return pd.DataFrame(
            {c: pd.Series([], dtype="str" if c in ("level", "status") else "float64") for c in columns + more}
        )
    draws = _better(chosen, kpi, seed)
    order = np.argsort(-draws.mean(axis=0), kind="stable")
    chosen, draws = chosen.iloc[order].reset_index(drop=True), draws[:, order]
    following = np.append((draws[:, :-1] > draws[:, 1:]).mean(axis=0), np.nan)
    ranked = rank_intervals(draws).assign(rank=np.arange(1.0, len(chosen) + 1), p_beats_next=following)
    if "p_best" in chosen and chosen["p_best"].notna().all():  # as in the artefact
        ranked = ranked.assign(**chosen[["p_best", "rank_low", "rank_high"]].astype("float64"))
    return pd.concat([chosen[columns], ranked[more]], axis=1)


def compare_pairs(
    kpis: pd.DataFrame, cut: str, *, settings: Settings, kpi: str = "win_rate", basis: str = "", seed: int = 0
) -> pd.DataFrame:
    """P(level A is truly better than level B) for every pair of levels, from the pooled posterior.

    Returns
    -------
    DataFrame
        `level, other, probability`, levels in the order of `rank_levels`.
    """
    order = rank_levels(kpis, cut, settings=settings, kpi=kpi, basis=basis, seed=seed)["level"].tolist()
    if not order:
        return pd.DataFrame(
            {"level": pd.Series([], dtype="str"), "other": pd.Series([], dtype="str"), "probability": []}
        )
    chosen = _measured(kpis, cut, kpi, basis, settings)
    chance = pd.DataFrame(beats(_better(chosen, kpi, seed)), index=chosen["level"], columns=chosen["level"])
    chance = chance.loc[order, order].rename_axis(index="level", columns="other")
    return (
        chance.reset_index().melt(id_vars="level", var_name="other", value_name="probability").dropna(ignore_index=True)
    )


def compare_quarters(kpis: pd.DataFrame, cut: str) -> pd.DataFrame:
    """Win rate (closed basis) of each level in its latest quarter against what the quarters before let expect.

    The best levels of one quarter mostly fall in the next, and the worst rise, though nothing changed: so a quarter is
    compared with the pooled expectation, not with the last quarter.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` with quarters; `cut` may be `all`.
    cut : str
        The cut to show.

    Returns
    -------
    DataFrame
        `level, period, n, value, last` (the quarter before), `change` (value - last, what a naive reading shows),
        `expected, expected_low, expected_high` (95 % of what such a quarter shows if nothing changed), `beyond`
        (`above`, `below` or empty). Levels with fewer than ten closed opportunities in the quarter are left out.

    Notes
    -----
    Expected: beta-binomial pooling over the levels of their earlier quarters together; the range adds the luck of the
    quarter itself, its opportunities as clustered as its interval says.
    """
    rates = kpis[(kpis["cut"] == cut) & (kpis["kpi"] == "win_rate") & (kpis["basis"] == "closed")]
    rates = rates[(rates["period"] != "all") & rates["value"].notna() & (rates["n"] > 0)].sort_values(
        ["level", "period"]
    )
    names = ["level", "period", "n", "value", "last", "change", "expected", "expected_low", "expected_high", "beyond"]
    periods = sorted(rates["period"].unique())
    if len(periods) < 2:
        return pd.DataFrame(
            {c: pd.Series([], dtype="str" if c in ("level", "period", "beyond") else "float64") for c in names}
        )
    rates = rates.assign(trials=_trials(rates))
    rates["wins"] = rates["value"] * rates["trials"]
    earlier = rates[rates["period"] < periods[-1]].groupby("level")[["wins", "trials"]].sum()
    latest = rates[(rates["period"] == periods[-1]) & (rates["n"] >= MIN_QUARTER)].set_index("level")
    latest = latest[latest.index.isin(earlier.index)]
    pooled = _expected(earlier).reindex(latest.index)
    spread = np.sqrt(pooled["variance"] + pooled["pooled"] * (1 - pooled["pooled"]) / latest["trials"])
    last = rates[rates["period"] == periods[-2]].set_index("level")["value"].reindex(latest.index)
    table = latest.assign(
        last=last,
        change=latest["value"] - last,
        expected=pooled["pooled"],
        expected_low=(pooled["pooled"] - Z * spread).clip(0, 1),
        expected_high=(pooled["pooled"] + Z * spread).clip(0, 1),
    ).reset_index()
    above, below = table["value"] > table["expected_high"], table["value"] < table["expected_low"]
    table["beyond"] = np.select([above, below], ["above", "below"], "")
    return table[names].rename_axis(columns=None)


def _expected(earlier: pd.DataFrame) -> pd.DataFrame:
    """Pooled rate and its variance per level; a single level is its own population."""
    if len(earlier) == 1:
        rate = (earlier["wins"] + 0.5) / (earlier["trials"] + 1)
        return pd.DataFrame({"pooled": rate, "variance": rate * (1 - rate) / (earlier["trials"] + 1)})
    pooled = pool_rates(earlier["wins"].to_numpy(), earlier["trials"].to_numpy(), ranks=False).set_index(earlier.index)
    return pooled.assign(variance=((pooled["pooled_high"] - pooled["pooled_low"]) / (2 * Z)) ** 2)


def _measured(kpis: pd.DataFrame, cut: str, kpi: str, basis: str, settings: Settings) -> pd.DataFrame:
    """Rows of the figure that is ranked, levels in the order of their names."""
    rows = kpis[(kpis["cut"] == cut) & (kpis["period"] == "all") & (kpis["kpi"] == kpi)]
    rows = rows[rows["value"].notna() & rows["low"].notna() & rows["high"].notna()]
    usual = (f"within_{settings.plan.horizon_days}d", "closed", "mean", "discounted", "new_logo", "won_median", "12m")
    for name in (basis,) if basis else usual:
        chosen = rows[rows["basis"] == name]
        if (chosen["status"] == "ok").any() or (len(chosen) and name == basis):
            return chosen.sort_values("level", ignore_index=True)
    return rows.iloc[:0]


def _better(rows: pd.DataFrame, kpi: str, seed: int) -> npt.NDArray[np.float64]:
    """Draws of the true values, signed so that more is better."""
    value, low, high = (rows[c].to_numpy(dtype=float) for c in ("value", "low", "high"))
    if (rows["unit"] == "fraction").all() and kpi not in ("grr", "nrr", "expansion"):
        trials = _trials(rows)
        return draw_rates(value * trials, trials, DRAWS, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = draw_estimates(np.log(value), (np.log(high) - np.log(low)) / (2 * Z), DRAWS, seed)
    return -draws if kpi in LOWER_IS_BETTER else draws


def _trials(rates: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Effective trials behind Wilson intervals, from their width."""
    p, half = rates["value"].to_numpy(dtype=float), ((rates["high"] - rates["low"]) / 2).to_numpy(dtype=float)
    a, b, c = half**2 - 0.25, 2 * half**2 - p * (1 - p), half**2
    k = (-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0))) / (2 * a)
    return Z**2 / np.maximum(k, 1e-12)
