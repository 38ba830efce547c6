"""Reads key figures by cut, makes the explorer of goals: move a trade-off and see which level leads, and how surely."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from icplab.align import rank_by_goals, say_order, show_leaders
from icplab.align.weigh import MEASURES, measure_sensitivity
from icplab.core.charts import interval_chart
from icplab.core.config import Settings
from icplab.explore.results import results_of
from icplab.explore.saving import save_settings
from icplab.explore.shell import Answer, Explorer, choice, slider
from icplab.report.tables import table_html
from icplab.step import Step, workspace_of

FIRST = ("segment", "tier", "region")  # cuts offered first


def explore_goals(step: Step, workspace: str) -> Explorer:
    """Trade-offs as sliders over the key figures of a run; saved as `[goals]` of the workspace.

    `step` is any step of a run whose key figures exist; `workspace` as in `open_step`.
    """
    store = results_of(step, "kpis", "20_performance")
    kpis = named_levels(store.read("kpis"), store.read("segments") if store.has("segments") else None)
    cuts = rankable_cuts(kpis)
    goals = step.settings.goals
    controls = {
        "cut": choice("Rank the levels of", cuts, cuts[0] if cuts else None),
        "size": slider("Deal size (1) or velocity (0)", goals.deal_size_vs_velocity, 0, 1, 0.05),
        "land": slider("Land (1) or expand (0)", goals.land_vs_expand, 0, 1, 0.05),
    }

    def answer(cut: str, size: float, land: float) -> Answer:
        return rank(kpis, cut, with_goals(step.settings, size, land), step.seed)

    def save(cut: str, size: float, land: float) -> str:
        chosen = {"goals.deal_size_vs_velocity": round(size, 4), "goals.land_vs_expand": round(land, 4)}
        return save_settings(workspace_of(workspace), chosen)

    return Explorer("Which groups come first if we want something else?", controls, answer, save)


def named_levels(kpis: pd.DataFrame, segments: pd.DataFrame | None) -> pd.DataFrame:
    """The key figures with the names of segments in place of their ids."""
    if segments is None:
        return kpis
    names = dict(zip(segments["segment_id"], segments["segment"].fillna(segments["segment_id"]), strict=True))
    return kpis.assign(
        level=kpis["level"].where(kpis["cut"] != "segment", kpis["level"].map(lambda v: names.get(v, v)))
    )


def rankable_cuts(kpis: pd.DataFrame) -> list[str]:
    """Cuts with two levels or more that have a pooled figure to rank by; segments, tiers and regions first."""
    wanted = kpis["kpi"].isin([kpi for kpi, _, _ in MEASURES.values()]) & kpis["pooled"].notna()
    levels = kpis[wanted & (kpis["period"] == "all") & (kpis["cut"] != "all")].groupby("cut")["level"].nunique()
    cuts = sorted(map(str, levels[levels > 1].index))
    return [c for c in FIRST if c in cuts] + [c for c in cuts if c not in FIRST]


def with_goals(settings: Settings, size: float, land: float) -> Settings:
    """The settings with other trade-offs."""
    return replace(settings, goals=replace(settings.goals, deal_size_vs_velocity=size, land_vs_expand=land))


def rank(kpis: pd.DataFrame, cut: str, settings: Settings, seed: int) -> Answer:
    """The order of a cut's levels under these goals, as sentence, chart and table."""
    if not cut:
        return Answer("No cut has two levels with figures to rank by.")
    ranking = rank_by_goals(kpis, cut, settings, seed=seed)
    sensitivity = measure_sensitivity(kpis, cut, settings)
    if ranking.empty:
        return Answer("Fewer than two levels have figures, so there is nothing to rank.")
    places = ranking[["level", "rank", "rank_low", "rank_high"]]
    title = f"Places of the levels of {cut} under these goals"
    chart = interval_chart(
        places,
        value="rank",
        low="rank_low",
        high="rank_high",
        title=title,
        unit="number",
        note="95 % interval of the place",
    )
    shown = ranking[["level", "p_first", *MEASURES]]
    note = "Measures: how far above the mean level, in units of the spread between levels and their uncertainty."
    table = table_html(
        shown,
        "Chance of first place, and what it rests on",
        {"p_first": "percent"},
        note,
        labels={"p_first": "First with"},
    )
    leaders = table_html(show_leaders(kpis, cut, settings), "Who leads at each pair of settings")
    return Answer(f"{say_order(ranking, sensitivity)}.", (chart, table, leaders))
