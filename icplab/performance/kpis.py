"""Reads facts of every level of a cut, makes the `kpis` rows with partial pooling over the levels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import ARTEFACTS
from icplab.core.stats.pooling import pool_and_draw_estimates, pool_and_draw_rates, steady_trials
from icplab.core.stats.ranking import rank_intervals
from icplab.core.stats.resample import REPLICATES
from icplab.performance.cuts import COHORT, CROSS, find_levels
from icplab.performance.facts import Facts, Slice, build_facts, say_window, set_levels, slice_level
from icplab.performance.funnel import measure_funnel
from icplab.performance.money import measure_money, measure_won
from icplab.performance.pipeline import measure_pipeline
from icplab.performance.ranks import DRAWS, LOWER_IS_BETTER
from icplab.performance.rows import Row
from icplab.performance.steps import measure_steps
from icplab.performance.targets import measure_attainment
from icplab.performance.velocity import measure_shares, measure_velocity
from icplab.performance.winning import build_curve, measure_winning

# Pooled over the levels of a cut: where small levels mislead most and a common population is plausible.
POOLED_BASES = ("closed", "mean", "median", "won_median", "new_logo", "discounted", "12m", "accounts", "decided")
# The order of the table of all accounts; figures not named follow by name.
READ_FIRST = (
    *("win_rate", "acv", "cycle_days", "sales_velocity", "cac", "payback_months", "ltv", "ltv_cac", "grr", "nrr"),
    *("expansion", "won_amount", "won", "lost", "open", "pipeline", "pipeline_quality"),
)
DEFAULT_BASES = (
    "mean",
    "won_median",
    "new_logo",
    "simple",
    "discounted",
    "open",
)  # stand before others of their figure
MIN_POOLED_LEVELS = 2
# Cuts of many small levels: win rates, cycle and value only; there is too little in a level for what customers are worth.
BRIEF = ("owner", COHORT)
TABLES = ("subscriptions", "spend", "activities", "leads", "stage_history", "targets", "rates")
# Significant digits kept. Counts are exact, and so are rates; ends of intervals of money come from single-precision matrix
# products, whose last digits may depend on the processor.
DIGITS, DRAWN_DIGITS = 12, 6
ENDS = ("low", "high", "pooled", "pooled_low", "pooled_high")


def measure_kpis(
    opportunities: pd.DataFrame,
    *,
    accounts: pd.DataFrame,
    subscriptions: pd.DataFrame | None = None,
    spend: pd.DataFrame | None = None,
    activities: pd.DataFrame | None = None,
    effort: pd.DataFrame | None = None,
    leads: pd.DataFrame | None = None,
    stage_history: pd.DataFrame | None = None,
    targets: pd.DataFrame | None = None,
    rates: pd.DataFrame | None = None,
    cut: str = "all",
    levels: pd.Series | None = None,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
) -> pd.DataFrame:
    """Key figures of every level of one cut.

    Parameters
    ----------
    opportunities : DataFrame
        One row per opportunity (`features.build_opportunities`). `account_id` may be null: such rows count where the
        account is not needed. Open ones without `created_at` are left out of time-based figures and counted.
    accounts : DataFrame
        One row per account (`features.build_accounts`); `account_id, family_id` and the column of the cut.
    subscriptions, spend, activities, leads, stage_history, targets, rates : DataFrame, optional
        Canonical tables; figures that need a missing one say `not_measured`.
    effort : DataFrame, optional
        What was done per account and month (`features.summarise_effort`); needed only where `activities` are summarised.
    cut : str
        `all`, `segment`, `tier`, a column of `accounts` or `opportunities`, `cohort` (quarter of creation), or a cube of
        account columns such as `region x employees`.
    levels : Series, optional
        Level of each account (index account_id) or opportunity (index opportunity_id); default: the column named
        `cut`, numbers in quartile bands. Rows without a level are in no level.
    settings : Settings
        `[plan] window_days` (period `all` looks back this far; 0 = everything), `horizon_days`, `minimum_n`
        (rates and days), `minimum_n_money` (money and ratios); `[economics]`; `[calendar] fiscal_year_start`.
    as_of : Timestamp
        Nothing later is counted.
    seed : int
        Seed of the resampling.
    replicates : int
        Resamples behind each interval.

    Returns
    -------
    DataFrame
        Rows of the artefact `kpis`, sorted by its key. `value, low, high` (95 %) in `unit`; `n` observations;
        `pooled…` the partially pooled estimate over the levels of the cut (null for `all` and for quarters), `p_best,
        rank_low, rank_high` what is known of their order (best: lowest for costs and days);
        `status` `insufficient` below the minimum, `not_measured` (no value) with the reason in `note`.

    Raises
    ------
    BadInput
        `cut` names no column and no levels are given.

    Notes
    -----
    Definitions: docs/methodology/performance.md. Intervals resample account families, because opportunities of one
    organisation share their fate; Wilson is used as it is only where each family has one opportunity.
    """
    given = (subscriptions, spend, activities, leads, stage_history, targets, rates)
    tables = {"opportunities": opportunities, "effort": effort, **dict(zip(TABLES, given, strict=True))}
    facts = build_facts(tables, accounts, settings=settings, as_of=as_of, seed=seed, replicates=replicates)
    if levels is None and cut != "all":
        levels = find_levels(cut, accounts, opportunities, settings)
    return _as_artefact(_measure_cut(facts, cut, levels))


def measure_cuts(
    opportunities: pd.DataFrame,
    cuts: Iterable[str],
    *,
    accounts: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
    replicates: int = REPLICATES,
    **tables: pd.DataFrame | None,
) -> pd.DataFrame:
    """`measure_kpis` for all accounts and for each of several cuts, in one table, from the same resamples.

    Parameters
    ----------
    opportunities, accounts, settings, as_of, seed, replicates
        As in `measure_kpis`.
    cuts : iterable of str
        Columns of accounts or opportunities.
    **tables : DataFrame
        `subscriptions, spend, activities, leads, stage_history, targets, rates`, each optional.

    Returns
    -------
    DataFrame
        Rows of the artefact `kpis`, sorted by its key.
    """
    every = {**dict.fromkeys(TABLES), **tables, "opportunities": opportunities}
    facts = build_facts(every, accounts, settings=settings, as_of=as_of, seed=seed, replicates=replicates)
    parts = [_measure_cut(facts, "all", None)]
    parts += [_measure_cut(facts, cut, find_levels(cut, accounts, opportunities, settings)) for cut in cuts]
    return _as_artefact(pd.concat(parts, ignore_index=True))


def list_figures(kpis: pd.DataFrame, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """Key figures of all accounts over the whole window, in the order in which a business reads them.

    Notes speak of “the window”, which a page says once (`say_window`).

    Returns
    -------
    DataFrame
        `kpi, basis, value, low, high, n, unit, status, note`: win rate first, deal value, cycle, cost, value and retention of customers, then volumes and the rest by name; the default basis of a figure
        before its others.
    """
    whole = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all")]
    place = whole["kpi"].map({kpi: i for i, kpi in enumerate(READ_FIRST)}).fillna(len(READ_FIRST))
    usual = ~whole["basis"].isin([f"within_{settings.plan.horizon_days}d", *DEFAULT_BASES])
    order = whole.assign(place=place, usual=usual).sort_values(["place", "kpi", "usual", "basis"], kind="stable").index
    figures = whole.loc[order, ["kpi", "basis", "value", "low", "high", "n", "unit", "status", "note"]]
    notes = figures["note"].str.replace(say_window(settings, as_of), "the window", regex=False)
    return figures.assign(note=notes).reset_index(drop=True)


def build_forest(kpis: pd.DataFrame, cut: str, settings: Settings) -> pd.DataFrame:
    """Win rate of each level of a cut, as it is and partially pooled, one row each for a chart.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` that hold the cut.
    cut : str
        The cut to show.
    settings : Settings
        `[plan] horizon_days` names the basis; where it is not usable for any level the closed basis is shown.

    Returns
    -------
    DataFrame
        `level, estimate` (raw, pooled), `value, low, high, n, status, basis`, highest pooled rate first.
    """
    rates = kpis[(kpis["cut"] == cut) & (kpis["period"] == "all") & (kpis["kpi"] == "win_rate")]
    horizon = rates[rates["basis"] == f"within_{settings.plan.horizon_days}d"]
    shown = horizon if (horizon["status"] == "ok").any() else rates[rates["basis"] == "closed"]
    shown = shown[shown["value"].notna()].sort_values(["pooled", "level"], ascending=[False, True])
    raw = shown.assign(estimate="raw")
    ends = {"value": shown["pooled"], "low": shown["pooled_low"], "high": shown["pooled_high"]}
    pooled = shown.assign(estimate="pooled", status="ok", **ends)
    both = pd.concat([raw, pooled[pooled["value"].notna()]]).sort_index(kind="stable")
    both = both.assign(place=both["level"].map({name: i for i, name in enumerate(shown["level"])}))
    columns = ["level", "estimate", "value", "low", "high", "n", "status", "basis"]
    return both.sort_values(["place", "estimate"], ascending=[True, False], ignore_index=True)[columns]


def build_curves(
    opportunities: pd.DataFrame,
    *,
    accounts: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    cut: str = "all",
    levels: pd.Series | None = None,
    whole: bool = False,
) -> pd.DataFrame:
    """Cumulative incidence of winning by days since creation, one row per level and day, for a step chart.

    With `whole` the curve of all opportunities comes first, as the level `all`.

    Returns
    -------
    DataFrame
        `level, day, won` (probability of having won by that day), `closed` (of having been won or lost), `at_risk`
        (opportunities still open and observed). Empty when the source has no dates.
    """
    columns = ["level", "day", "won", "closed", "at_risk"]
    if not settings.dated:
        return pd.DataFrame({c: pd.Series([], dtype="str" if c == "level" else "float64") for c in columns})
    tables = {**dict.fromkeys(TABLES), "opportunities": opportunities}
    facts = build_facts(tables, accounts, settings=settings, as_of=as_of, seed=0, replicates=1)
    if levels is None and cut != "all":
        levels = find_levels(cut, accounts, opportunities, settings)
    parts = [_curve_of(piece) for piece in _slices(facts, cut, levels)]
    if whole and levels is not None:
        parts.insert(0, _curve_of(slice_level(facts, "all", None)))
    return pd.concat(parts, ignore_index=True)[columns]


def _slices(facts: Facts, cut: str, levels: pd.Series | None) -> Iterator[Slice]:
    """Facts of every level of a cut, in the order of their names; of everything when there is no cut."""
    if levels is None:
        yield slice_level(facts, cut, None)
        return
    placed = set_levels(facts, levels)
    for number in range(len(placed.levels)):
        yield slice_level(placed, cut, number)


def _measure_cut(facts: Facts, cut: str, levels: pd.Series | None) -> pd.DataFrame:
    """Rows of every level of a cut, on one thread: many small products, and the same last digit on every machine."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return _measured_levels(facts, cut, levels)


def _measured_levels(facts: Facts, cut: str, levels: pd.Series | None) -> pd.DataFrame:
    table = pd.DataFrame([r for piece in _slices(facts, cut, levels) for r in _measure_level(piece)])
    return table if levels is None or not len(table) else _pooled(table)


def _measure_level(piece: Slice) -> list[Row]:
    if piece.cut in BRIEF or CROSS in piece.cut:
        brief = [*measure_winning(piece), *measure_won(piece)]
        return [*brief, *measure_attainment(piece, brief)]
    found = [*measure_winning(piece), *measure_money(piece), *measure_funnel(piece), *measure_steps(piece)]
    found += [*measure_velocity(piece), *measure_shares(piece), *measure_pipeline(piece)]
    return [*found, *measure_attainment(piece, found)]


def _pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Add the partially pooled columns and the order of the levels, one population per key figure and basis."""
    whole = (table["period"] == "all") & (table["_scale"] != "")
    wanted = whole & (table["basis"].isin(POOLED_BASES) | table["basis"].str.startswith("within_"))
    columns = ["pooled", "pooled_low", "pooled_high", "p_best", "rank_low", "rank_high"]
    needed = table.loc[wanted, ["kpi", "basis", "value", "n", "_scale", "_spread", "_units"]]
    parts = [
        _pool_group(group)[columns].set_index(group.index)
        for _, group in needed.groupby(["kpi", "basis"], sort=True)
        if len(group) >= MIN_POOLED_LEVELS
    ]
    return table.join(pd.concat(parts)) if parts else table


def _pool_group(group: pd.DataFrame) -> pd.DataFrame:
    scale, value = group["_scale"].iloc[0], group["value"].to_numpy()
    spread = group["_spread"].to_numpy()
    if scale == "rate":
        trials = steady_trials(value, group["_spread"] ** 2, group["n"], group["_units"])
        return _ranked(group, *pool_and_draw_rates(value * trials, trials, DRAWS, 0))
    if scale == "linear":
        return _ranked(group, *pool_and_draw_estimates(value, spread, DRAWS, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.log(value)
    logs, draws = pool_and_draw_estimates(value, spread, DRAWS, 0)
    pooled = logs.assign(**{c: np.exp(logs[c]) for c in ("pooled", "pooled_low", "pooled_high")})
    return _ranked(group, pooled, draws)


def _ranked(group: pd.DataFrame, pooled: pd.DataFrame, draws: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Add the chance of being the best and the range of ranks, from draws of the pooled posterior."""
    if not np.isfinite(draws).all():
        return pooled.assign(rank_low=np.nan, rank_high=np.nan)
    better = -draws if group["kpi"].iloc[0] in LOWER_IS_BETTER else draws
    ranks = rank_intervals(better)
    return pooled.assign(p_best=ranks["p_best"], rank_low=ranks["rank_low"], rank_high=ranks["rank_high"])


def _as_artefact(table: pd.DataFrame) -> pd.DataFrame:
    """Declared columns, rows in key order, infinite as missing."""
    declared, exact = ARTEFACTS["kpis"], (table["_scale"] == "rate").to_numpy()
    table = table.reindex(columns=[c.name for c in declared.columns])
    numbers = ["value", *ENDS]
    table[numbers] = table[numbers].astype("float64").replace([np.inf, -np.inf], np.nan)
    for name in numbers:
        digits = np.where(exact | (name == "value"), DIGITS, DRAWN_DIGITS)
        table[name] = _significant(table[name].to_numpy(), digits)
    return table.sort_values(list(declared.key), kind="stable", ignore_index=True)


def _significant(values: npt.NDArray[np.float64], digits: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Values rounded to so many significant digits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
        return np.where(np.isfinite(scale) & (values != 0), np.round(values * scale) / scale, values)


def _curve_of(piece: Slice) -> pd.DataFrame:
    _, curve, _ = build_curve(piece, resample=False)
    return pd.DataFrame(
        {
            "level": piece.level,
            "day": curve.days,
            "won": curve.incidence,
            "closed": 1 - curve.survival,
            "at_risk": curve.at_risk,
        }
    )
