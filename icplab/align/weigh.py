"""Reads goals and the key figures of a cut, makes its levels ranked by what the business is after, and how firm that order is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Goals, Settings
from icplab.core.stats.ranking import rank_intervals

DRAWS = 4000
STEPS = 101  # settings of a trade-off that are tried between 0 and 1
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
# Measure: key figure, bases in order of preference, and whether more is better.
MEASURES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "win rate": ("win_rate", ("within", "closed"), 1),
    "deal size": ("acv", ("median", "mean"), 1),
    "velocity": ("cycle_days", ("won_median",), -1),
    "retention": ("grr", ("12m",), 1),
    "expansion": ("expansion", ("12m",), 1),
}
PLACE = ("level", "rank", "rank_low", "rank_high", "p_first", "score")
RANKING = (*PLACE, *MEASURES, "margin", "screened", "named", "missing")
TRADE_OFFS = ("deal_size_vs_velocity", "land_vs_expand")
Array = npt.NDArray[np.float64]


def weigh_goals(goals: Goals) -> pd.DataFrame:
    """What the two trade-offs weigh: `measure, weight, because`, weights adding up to one.

    Land (new customers) is win rate, deal size and velocity, expand is retention and expansion. `land_vs_expand` shares the
    weight between the two; within land half goes to the win rate, and `deal_size_vs_velocity` shares the other half.
    """
    because = ("half of land", *["the other half of land, by deal size against velocity"] * 2, *["half of expand"] * 2)
    return pd.DataFrame({"measure": list(MEASURES), "weight": _weights(goals), "because": because})


def rank_by_goals(
    kpis: pd.DataFrame, cut: str, settings: Settings, *, margins: pd.Series | None = None, seed: int = 0
) -> pd.DataFrame:
    """Levels of a cut (segments, tiers, bands of a trait) in the order of the goals, with how sure that order is.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` that hold the cut.
    cut : str
        The cut to rank.
    settings : Settings
        `[goals] deal_size_vs_velocity, land_vs_expand, margin_floor, strategic_bets, product_focus`.
    margins : Series, optional
        Gross margin per level, as a fraction; levels below the margin floor are screened: ranked last, whatever they score.
    seed : int
        Seed of the draws behind the rank intervals.

    Returns
    -------
    DataFrame
        One row per level, best first: `level, score, rank, rank_low, rank_high` (95 %), `p_first`, one column per measure
        (how far above the mean level, in units of the spread), `margin, screened, named` (a bet or focus of the goals),
        `missing` (measures that the level lacks; they count as the mean). Empty with fewer than two levels.

    Notes
    -----
    Each measure enters as the logarithm of its pooled value, less the mean over levels, divided by the spread over levels
    and their uncertainty together: a measure in which levels differ by no more than chance cannot order them.
    """
    table, z, spread = _standardised(kpis, cut, settings)
    if len(table) < 2:
        return table.iloc[:0].reindex(columns=list(RANKING))
    weights = _weights(settings.goals)
    usable = _share_out(weights, z)
    score = np.nan_to_num(z) @ usable
    noise = np.sqrt((np.nan_to_num(spread) ** 2) @ usable**2)
    draws = score + np.random.default_rng(seed).standard_normal((DRAWS, len(score))) * noise
    margin = table["level"].map(margins).astype("float64") if margins is not None else pd.Series(np.nan, table.index)
    floor = settings.goals.margin_floor
    screened = (margin < floor).to_numpy() if floor is not None else np.zeros(len(table), dtype=bool)
    draws = draws - 1e6 * screened
    order = np.argsort(-(score - 1e6 * screened), kind="stable")
    ranked = rank_intervals(draws[:, order]).rename(columns={"p_best": "p_first"})
    named = {w.casefold() for w in (*settings.goals.strategic_bets, *settings.goals.product_focus)}
    table = table.assign(
        score=score,
        margin=margin,
        screened=screened,
        named=table["level"].str.casefold().isin(named),
        missing=[", ".join(m for m, v in zip(MEASURES, row, strict=True) if not np.isfinite(v)) for row in z],
        **{m: z[:, i] for i, m in enumerate(MEASURES)},
    )
    table = table.iloc[order].reset_index(drop=True)
    table = table.assign(
        rank=np.arange(1, len(table) + 1), **{c: ranked[c] for c in ("rank_low", "rank_high", "p_first")}
    )
    return table[list(RANKING)]


def measure_sensitivity(
    kpis: pd.DataFrame, cut: str, settings: Settings, *, margins: pd.Series | None = None
) -> pd.DataFrame:
    """Which settings of the trade-offs change the order of a cut's levels.

    Returns
    -------
    DataFrame
        One row per trade-off, the other held: `trade_off, now, leader, lower, lower_leader` (the nearest lower setting at which
        another level leads), `higher, higher_leader, orders` (different orders between 0 and 1). Empty with fewer than two
        levels.
    """
    levels, z = _unscreened(kpis, cut, settings, margins)
    rows = []
    for name in TRADE_OFFS if len(levels) > 1 else ():
        now = float(getattr(settings.goals, name))
        tried = np.union1d(np.linspace(0, 1, STEPS), [now])
        orders = np.argsort(-np.stack([_scores(z, settings.goals, name, v) for v in tried]), axis=1, kind="stable")
        leads, at = orders[:, 0], int(np.searchsorted(tried, now))
        below, above = np.flatnonzero(leads[:at] != leads[at]), np.flatnonzero(leads[at + 1 :] != leads[at]) + at + 1
        lower, higher = (below[-1] if len(below) else -1), (above[0] if len(above) else -1)
        rows.append(
            {
                "trade_off": name,
                "now": now,
                "leader": levels[leads[at]],
                "lower": tried[lower] if lower >= 0 else np.nan,
                "lower_leader": levels[leads[lower]] if lower >= 0 else "",
                "higher": tried[higher] if higher >= 0 else np.nan,
                "higher_leader": levels[leads[higher]] if higher >= 0 else "",
                "orders": len(np.unique(orders, axis=0)),
            }
        )
    columns = ["trade_off", "now", "leader", "lower", "lower_leader", "higher", "higher_leader", "orders"]
    return pd.DataFrame(rows, columns=columns)


def show_leaders(kpis: pd.DataFrame, cut: str, settings: Settings, *, margins: pd.Series | None = None) -> pd.DataFrame:
    """Who leads at each pair of settings: one row per `land against expand`, one column per `deal size against velocity`."""
    levels, z = _unscreened(kpis, cut, settings, margins)
    if len(levels) < 2:
        return pd.DataFrame()
    rows = []
    for land in GRID:
        row = {"land against expand": f"{land:.2f}"}
        for size in GRID:
            goals = Goals(deal_size_vs_velocity=size, land_vs_expand=land)
            row[f"deal size {size:.2f}"] = levels[int(np.argmax(_scores(z, goals)))]
        rows.append(row)
    return pd.DataFrame(rows)


def say_order(ranking: pd.DataFrame, sensitivity: pd.DataFrame) -> str:
    """The order in a sentence: who leads, how surely, and which setting would change it."""
    if not len(ranking):
        return "Fewer than two levels have figures, so there is nothing to rank"
    first = ranking.iloc[0]
    said = f"With these goals “{formats.plain(first['level'], 60)}” leads, in first place with {formats.percent(first['p_first'])}"
    turns = [
        f"{formats.plain(row['trade_off'].replace('_', ' '))} {way} {row[side]:.2f} makes “{formats.plain(row[f'{side}_leader'], 40)}” lead"
        for row in sensitivity.to_dict("records")
        for side, way in (("lower", "at"), ("higher", "at"))
        if np.isfinite(row[side])
    ]
    return f"{said}; {'; '.join(turns)}" if turns else f"{said}; neither trade-off by itself changes that"


def margins_of(opportunities: pd.DataFrame, levels: pd.Series) -> pd.Series:
    """Gross margin of each level: of won value, where both are known. `levels`: per account, index account_id."""
    won = opportunities[(opportunities["status"] == "won") & (opportunities["acv"] > 0)]
    rate = won["margin_rate"].astype("float64")
    won, rate = won[rate.notna()], rate[rate.notna()]
    of = won["account_id"].map(levels)
    return (won["acv"] * rate).groupby(of).sum() / won["acv"].groupby(of).sum()


def _standardised(kpis: pd.DataFrame, cut: str, settings: Settings) -> tuple[pd.DataFrame, Array, Array]:
    """Levels of the cut, and per level and measure how far above the mean and how unsure, in units of the spread."""
    rows = kpis[(kpis["cut"] == cut) & (kpis["period"] == "all")]
    levels = sorted(rows["level"].dropna().unique())
    z, spread = np.full((len(levels), len(MEASURES)), np.nan), np.full((len(levels), len(MEASURES)), np.nan)
    for i, (kpi, bases, sign) in enumerate(MEASURES.values()):
        found = _pooled(rows[rows["kpi"] == kpi], bases, settings).reindex(levels)
        value, low, high = (found[c].to_numpy(dtype=float) for c in ("pooled", "pooled_low", "pooled_high"))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(value > 0, sign * np.log(value), np.nan)
            unsure = np.where(low > 0, np.log(high / low) / 3.92, np.nan)
        known = np.isfinite(logs) & np.isfinite(unsure)
        if known.sum() < 2:
            continue
        gap = logs - logs[known].mean()
        scale = float(np.sqrt((gap[known] ** 2 + unsure[known] ** 2).mean()))
        z[known, i], spread[known, i] = gap[known] / scale, unsure[known] / scale
    return pd.DataFrame({"level": pd.Series(levels, dtype="str")}), z, spread


def _pooled(rows: pd.DataFrame, bases: tuple[str, ...], settings: Settings) -> pd.DataFrame:
    """Pooled columns of the first basis that has them, by level."""
    horizon = f"within_{settings.plan.horizon_days}d"
    for basis in bases:
        found = rows[(rows["basis"] == (horizon if basis == "within" else basis)) & rows["pooled"].notna()]
        if len(found) > 1 and (basis != "within" or (found["status"] == "ok").any()):
            return found.set_index("level")
    return rows.iloc[:0].set_index("level")


def _weights(goals: Goals) -> Array:
    """Weight of each measure, in the order of MEASURES."""
    land, size = goals.land_vs_expand, goals.deal_size_vs_velocity
    return np.array([land / 2, land / 2 * size, land / 2 * (1 - size), (1 - land) / 2, (1 - land) / 2])


def _share_out(weights: Array, z: Array) -> Array:
    """Weights of the measures that are there, adding up to one; those of missing ones are shared out."""
    there = np.where(np.isfinite(z).any(axis=0), weights, 0.0)
    return there / there.sum() if there.sum() > 0 else there


def _scores(z: Array, goals: Goals, name: str = "", value: float = 0.0) -> Array:
    """Score of each level, with one trade-off set to a value."""
    settings = {t: value if t == name else float(getattr(goals, t)) for t in TRADE_OFFS}
    weights = _weights(Goals(**settings))  # type: ignore[arg-type]
    return np.nan_to_num(z) @ _share_out(weights, z)


def _unscreened(kpis: pd.DataFrame, cut: str, settings: Settings, margins: pd.Series | None) -> tuple[list[str], Array]:
    """Levels that pass the margin floor, and their standardised measures."""
    table, z, _ = _standardised(kpis, cut, settings)
    floor = settings.goals.margin_floor
    kept = np.ones(len(table), dtype=bool)
    if margins is not None and floor is not None:
        kept = ~(table["level"].map(margins).astype("float64") < floor).to_numpy()
    return table["level"][kept].tolist(), z[kept]
