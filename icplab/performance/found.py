"""Reads key figures, comparisons and opportunities, makes the findings of the performance step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.performance.cells import find_cells
from icplab.performance.cost import compare_allocations
from icplab.performance.levels import best_basis, count_levels, find_leaders, find_small_groups, place_opportunities
from icplab.performance.paper import compare_claims, find_paper, list_claims
from icplab.performance.traps import (
    find_bulk_days,
    find_censoring,
    find_definition_changes,
    find_heavy_tail,
    find_mix_shifts,
)

STEP = "20_performance"
FALSE_ALARM = 0.05  # over all tests of one kind in a run
SHORTFALL = 0.10  # smaller gaps to plan are not worth a warning
SHOWN = 4  # levels named in a sentence
SHARED_BY = {
    "new_logo": "opportunities worked",
    "new_logo_by_accounts": "accounts worked",
    "new_logo_by_activity": "what sellers did",
}
NAMES = {
    "acv": "ACV",
    "cac": "CAC",
    "ltv": "LTV",
    "ltv_cac": "LTV:CAC",
    "grr": "GRR",
    "nrr": "NRR",
    "win_rate": "win rate",
    "cycle_days": "cycle days",
    "payback_months": "payback",
    "meeting_rate": "meeting rate",
    "sales_acceptance": "sales acceptance",
    "won_amount": "won amount",
}


def findings(
    kpis: pd.DataFrame,
    *,
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    cuts: Sequence[str] = (),
    shown: Sequence[str] = (),
    comparisons: pd.DataFrame | None = None,
    cells: pd.DataFrame | None = None,
    cube: Sequence[str] = (),
    events: pd.DataFrame | None = None,
    stage_history: pd.DataFrame | None = None,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int = 0,
) -> list[Finding]:
    """Sentences that these key figures support.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis`, of all cuts together.
    opportunities, accounts : DataFrame
        One row per opportunity and account.
    cuts : sequence of str
        Columns whose levels are looked through for leaders and small groups; all are tested together, so that many cuts
        do not raise false alarms.
    shown : sequence of str
        Those of `cuts` that are looked through for a shift of the mix, and that also say when they make no difference.
    comparisons : DataFrame, optional
        From `compare_cuts`; all rows are tested together.
    cells, cube : DataFrame and sequence of str, optional
        From `compare_cells`, and the columns of its cube.
    events, stage_history : DataFrame, optional
        Canonical tables of dated changes and of stages entered.
    settings, as_of, seed
        As in `measure_kpis`.

    Returns
    -------
    list of Finding
        Warnings (`watch`): censoring, heavy-tail, reversal, plan-gap, bulk-close, definition-change, mix-shift,
        paper-vs-reality, and small-group where luck puts a small level at an end of the list. For information: best-level,
        no-difference, cell-above-rest, allocation-dependent, not-measured, and what was looked at without a warning.
    """
    horizon = f"within_{settings.plan.horizon_days}d"
    levels = place_opportunities(cuts, accounts, opportunities)
    closed = count_levels(opportunities, levels, settings, as_of)
    basis = best_basis(opportunities, settings, as_of)
    ranked = closed if basis == "closed" else count_levels(opportunities, levels, settings, as_of, basis)
    claims = list_claims(settings, accounts, opportunities, cuts)
    compared = compare_claims(claims, opportunities, levels, settings, as_of, seed)
    return [
        *find_censoring(_whole(kpis, "win_rate", horizon), opportunities, settings, as_of),
        *find_heavy_tail(opportunities, settings, as_of, levels),
        *_reversals(comparisons),
        *find_leaders(ranked, shown),
        *find_small_groups(closed, settings),
        *find_plan_gaps(kpis, opportunities),
        *find_bulk_days(opportunities),
        *find_definition_changes(opportunities, stage_history, events, settings, as_of),
        *find_mix_shifts(opportunities, {c: levels[c] for c in shown if c in levels}, settings, as_of, seed),
        *find_paper(claims, compared, settings),
        *(find_cells(cells, cube, settings) if cells is not None else ()),
        *_allocations(kpis),
        *_not_measured(kpis),
    ]


def find_segment_gaps(
    kpis: pd.DataFrame,
    opportunities: pd.DataFrame,
    segments: pd.DataFrame,
    assignments: pd.Series,
    *,
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> list[Finding]:
    """Segments that miss their plan, and segments that are attractive on paper only, said by the step on segments.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` with the cut `segment`.
    segments : DataFrame
        `segment_id, segment`.
    assignments : Series
        Segment id of each account (index account_id).
    """
    step = "30_segments"
    claims = list_claims(settings, opportunities.iloc[:0], opportunities.iloc[:0], segments=segments)
    claims = claims[claims["cut"] == "segment"]
    level = opportunities.set_index("opportunity_id")["account_id"].map(assignments)
    compared = compare_claims(claims, opportunities, {"segment": level}, settings, as_of, seed)
    return [*find_plan_gaps(kpis, opportunities, step), *find_paper(claims, compared, settings, step)]


def _finding(code: str, severity: str, subject: str, sentence: str, numbers: dict, action: str = "") -> Finding:
    return Finding(code, STEP, severity, subject, sentence, numbers, action=action)


def _whole(kpis: pd.DataFrame, kpi: str, basis: str) -> pd.Series | None:
    """The row of all accounts over the window, where it has a value."""
    found = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & (kpis["kpi"] == kpi) & (kpis["basis"] == basis)]
    return found.iloc[0] if len(found) and pd.notna(found["value"].iloc[0]) else None


def _reversals(table: pd.DataFrame | None) -> Iterator[Finding]:
    """Crude and standardised differences of opposite sign.

    What must not be claimed by chance is that other things moved the difference: that is tested over all cuts together.
    """
    if table is None or not len(table):
        return
    found = table[table["reversal"] & (table["moved_p"] <= FALSE_ALARM / len(table))]
    mirrored = (found["level"] == "no") & found.groupby("cut")["level"].transform("size").gt(1)
    for row in found[~mirrored].to_dict("records"):
        more, less = ("more", "less") if row["crude"] > 0 else ("less", "more")
        yield _finding(
            "reversal",
            "watch",
            f"{row['cut']} = {row['level']}",
            f"{row['cut']} = {formats.plain(row['level'])} wins {more} often than the rest, by "
            f"{100 * abs(row['crude']):.1f} points of win rate, but {less} often, by "
            f"{100 * abs(row['standardised']):.1f} points, once channel, size and half-year are held equal.",
            {k: row[k] for k in ("crude", "crude_low", "crude_high", "standardised", "moved_p", "n")},
            "Do not use the crude difference; compare inside channel and size.",
        )


def find_plan_gaps(kpis: pd.DataFrame, opportunities: pd.DataFrame, step: str = STEP) -> Iterator[Finding]:
    """Plans of the latest complete period, of the whole and of levels, missed by more than chance and by more than a tenth."""
    from scipy.special import ndtr

    plans = kpis[(kpis["kpi"] == "attainment") & (kpis["status"] == "ok") & kpis["value"].notna()]
    if not len(plans):
        return
    plans = plans[plans["period"].str.contains("Q")] if plans["period"].str.contains("Q").any() else plans
    plans = plans[plans["period"] == plans["period"].max()]
    won = opportunities.loc[(opportunities["status"] == "won") & (opportunities["acv"] > 0), "acv"]
    uneven = float(won.var() / won.mean() ** 2) if len(won) > 1 else 0.0
    for row in plans.to_dict("records"):
        # A count is about Poisson; a sum of amounts is noisier by how unequal the amounts are.
        noise = np.sqrt((1 + (uneven if "won" not in (row["basis"],) else 0.0)) / max(row["n"], 1))
        if pd.notna(row["low"]) and pd.notna(row["high"]):
            noise = (row["high"] - row["low"]) / 3.92 / max(row["value"], 1e-9)
        p = float(ndtr(np.log(max(row["value"], 1e-9)) / noise)) if noise > 0 else 1.0
        missed = row["value"] < 1 - SHORTFALL and p <= FALSE_ALARM / len(plans)
        scope = "" if row["cut"] == "all" else f" of {row['cut']} {formats.plain(row['level'])}"
        yield Finding(
            "plan-gap",
            step,
            "watch" if missed else "info",
            f"{row['basis']} {row['period']}{scope}",
            f"{row['basis']}{scope} reached {formats.percent(row['value'])} of plan in {row['period']}"
            + (", less than chance explains." if missed else "."),
            {"attainment": row["value"], "n": row["n"], "p": p, "plans": len(plans)},
            action="Find out whether volume, win rate or deal size fell short." if missed else "",
        )


def _allocations(kpis: pd.DataFrame) -> Iterator[Finding]:
    """Cuts whose cheapest level depends on how shared spend is shared out."""
    cac = kpis[(kpis["kpi"] == "cac") & (kpis["period"] == "all") & (kpis["cut"] != "all") & (kpis["status"] == "ok")]
    cac = cac[cac["basis"].str.startswith("new_logo") & (cac["value"] > 0)]
    places = compare_allocations(kpis)
    moved = set(places.loc[places["allocation_dependent"].astype(bool), "cut"])
    for cut, group in cac.groupby("cut", sort=True):
        table = group.pivot(index="level", columns="basis", values="value").dropna().sort_index()
        if table.shape[0] < 2 or table.shape[1] < 2:
            continue
        cheapest = table.idxmin()
        if cheapest.nunique() == 1:
            if cut in moved:
                yield _order_moves(str(cut), places[places["cut"] == cut], len(table))
            continue
        dearer = max(float(table.at[a, b] / table[b].min()) - 1 for b in table for a in cheapest)
        said = "; ".join(f"“{formats.plain(level, 40)}” by {SHARED_BY.get(str(b), b)}" for b, level in cheapest.items())
        yield _finding(
            "allocation-dependent",
            "info",
            str(cut),
            f"Which level of {formats.plain(cut)} is cheapest to win depends on how shared spend is shared out: {said}. The "
            f"cheapest by one is {formats.percent(dearer)} dearer than the cheapest by another.",
            {"levels": len(table), "allocations": table.shape[1], "dearer": dearer, "order_changes": cut in moved},
            "Book spend directly on the level that causes it before comparing CAC.",
        )


def _order_moves(cut: str, places: pd.DataFrame, levels: int) -> Finding:
    """The cheapest level is the same however spend is shared out, but others change places."""
    moved = places[places["allocation_dependent"].astype(bool)].sort_values(["new_logo", "level"])
    names = ", ".join(f"“{formats.plain(level, 40)}”" for level in moved["level"][:SHOWN])
    more = f" and {len(moved) - SHOWN} more" if len(moved) > SHOWN else ""
    return _finding(
        "allocation-dependent",
        "info",
        cut,
        f"The order of {formats.plain(cut)} by the cost of a new customer depends on how shared spend is shared out: {names}"
        f"{more} change places by more than a fifth either way.",
        {"levels": levels, "allocations": 3, "moved": len(moved), "order_changes": True},
        "Book spend directly on the level that causes it before comparing CAC.",
    )


def _not_measured(kpis: pd.DataFrame) -> Iterator[Finding]:
    """What these data cannot give, grouped by reason."""
    missing = kpis[(kpis["cut"] == "all") & (kpis["period"] == "all") & (kpis["status"] == "not_measured")]
    for reason, group in missing.groupby("note", sort=True):
        names = ", ".join(
            sorted(
                {
                    NAMES.get(k, k) + (f" ({b})" if k == "win_rate" else "")
                    for k, b in zip(group["kpi"], group["basis"], strict=True)
                }
            )
        )
        yield _finding(
            "not-measured",
            "info",
            names,
            f"Not measured: {names}, because {reason}.",
            {"figures": len(group)},
        )
