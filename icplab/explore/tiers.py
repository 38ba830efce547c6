"""Reads the scores of a run, makes the explorer of tiers: other capacities and costs, and who moves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import bar_chart
from icplab.core.schema import UNASSIGNED
from icplab.explore.results import results_of
from icplab.explore.saving import save_settings
from icplab.explore.shell import Answer, Explorer, slider, whole
from icplab.report.tables import table_html
from icplab.step import Step, workspace_of
from icplab.tiers import preview_tiers

COST_STEPS = 40  # of the slider of cost, up to the dearest touch that anybody would pay


def explore_tiers(step: Step, workspace: str) -> Explorer:
    """Capacity of tiers 1 and 2 and the cost of a touch as controls; saved as `[capacity]` and `[economics]`."""
    ranked = ranked_scores(results_of(step, "scores", "50_tiers").read("scores"))
    now = ranked["tier"].value_counts()
    count, cost = len(ranked), step.settings.economics.cost_of_touch
    dearest = dearest_touch(ranked, cost)
    controls = {
        "first": whole("Room in tier 1, accounts", int(now.get("tier_1", 0)), 0, max(count, 1), max(count // 100, 1)),
        "second": whole("Room in tier 2, accounts", int(now.get("tier_2", 0)), 0, max(count, 1), max(count // 100, 1)),
        "cost": slider("Cost of a touch", cost, 0.0, dearest, max(dearest / COST_STEPS, 1.0), form=",.0f"),
    }
    currency = step.settings.workspace.currency

    def answer(first: int, second: int, cost: float) -> Answer:
        return show_tiers(ranked, first, second, cost, currency)

    def save(first: int, second: int, cost: float) -> str:
        chosen = {"capacity.tier_1": first, "capacity.tier_2": second, "economics.cost_of_touch": round(cost, 2)}
        return save_settings(workspace_of(workspace), chosen)

    return Explorer("What would other capacities and costs change?", controls, answer, save)


def ranked_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Accounts that can have a place among the tiers, with an expected value."""
    inside = (
        (scores["segment_id"] != UNASSIGNED) & (scores["tier"] != "insufficient") & scores["expected_value"].notna()
    )
    return scores[inside].reset_index(drop=True)


def dearest_touch(ranked: pd.DataFrame, cost: float) -> float:
    """End of the slider of cost: the expected value of the best tenth, and at least twice the cost of today."""
    best = float(ranked["expected_value"].quantile(0.9)) if len(ranked) else 0.0
    top = max(2 * cost, best, 100.0)
    digits = 10.0 ** np.floor(np.log10(top))
    return float(np.ceil(top / digits) * digits)


def show_tiers(ranked: pd.DataFrame, first: int, second: int, cost: float, currency: str) -> Answer:
    """Cut points, value captured and who moves, under other capacities and another cost."""
    if ranked.empty:
        return Answer("This run ranks no accounts, so there is nothing to cut.")
    values, chances = (ranked[c].to_numpy(dtype=float) for c in ("expected_value", "win_probability"))
    capacity = {"tier_1": float(first), "tier_2": float(second)}
    table = preview_tiers(values, chances, capacity, cost, ranked["tier"].to_numpy(dtype=object))
    named = table.assign(tier=table["tier"].map(fmt.name))
    title = f"Expected value by tier{f', {currency}' if currency else ''}"
    chart = bar_chart(named.assign(n=named["accounts"]), label="tier", value="value", title=title, unit="money")
    shown = named[
        ["tier", "accounts", "cut", "win_rate", "value", "share_of_value", "cost", "net", "moved_in", "moved_out"]
    ]
    formats = dict.fromkeys(("cut", "value", "cost", "net"), "money") | dict.fromkeys(
        ("win_rate", "share_of_value"), "percent"
    )
    formats |= dict.fromkeys(("accounts", "moved_in", "moved_out"), "integer")
    note = "Cut: lowest expected value in the tier. Net: value less the cost of touching every account once a quarter."
    part = table_html(shown, "Tiers under this choice", formats, note, currency=currency)
    return Answer(_say(table), (chart, part))


def _say(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    moved = int(table["moved_in"].fillna(0).sum())
    share = fmt.percent(first["share_of_value"]) if first["accounts"] else "none"
    return f"Tier 1 holds {int(first['accounts']):,} accounts and {share} of the expected value; {moved:,} accounts change tier."
