"""Reads accounts and the segmentation of a run, makes the explorer of segments: other numbers of groups, variables, weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import Chart, interval_chart
from icplab.core.stats.intervals import clustered_proportion
from icplab.explore.results import results_of
from icplab.explore.saving import save_settings
from icplab.explore.shell import Answer, Explorer, choice, several, slider, whole
from icplab.report.tables import table_html
from icplab.segments import Look, Looks, Segmentation, prepare_preview, preview_segments
from icplab.step import Step, workspace_of

NO_ONE = "(none)"
MOST = 7
OUTLINE = "segment {}"


def explore_segments(step: Step, workspace: str) -> Explorer:
    """Number of segments, variables and one weight as controls; saved as `[plan] max_segments` and `excluded`."""
    store = results_of(step, "segmentation", "30_segments")
    found = segmentation_of(store.read_json("segmentation"), store.read("account_segments"))
    looks = prepare_preview(found, step.accounts, min_accounts=step.settings.plan.min_segment_accounts, seed=step.seed)
    worked = closed_by_account(step.opportunities, looks)
    names = looks.choices
    controls = {
        "k": whole("Number of segments", max(2, len(found.segment_ids)), 2, MOST),
        "variables": several("Variables", names, names),
        "heavier": choice("Count one variable", [NO_ONE, *names], NO_ONE),
        "weight": slider("… so many times", 1.0, 0.0, 5.0, 0.5, form=".1f"),
    }

    def answer(k: int, variables: Sequence[str], heavier: str, weight: float) -> Answer:
        if not variables or (heavier in variables and not weight and len(variables) == 1):
            return Answer("Choose at least one variable that counts.")
        weights = {heavier: weight} if heavier in variables else {}
        look = preview_segments(looks, k=k, variables=variables, weights=weights, seed=step.seed)
        return show_look(look, worked)

    def save(k: int, variables: Sequence[str], heavier: str, weight: float) -> str:
        before = set(step.settings.plan.excluded)
        left_out = sorted((before | set(names)) - set(variables))
        chosen: dict[str, object] = {"plan.max_segments": k}
        if set(left_out) != before:  # variables left out here are left out of the profile, too
            chosen["plan.excluded"] = left_out
        return save_settings(workspace_of(workspace), chosen)

    return Explorer("What would another number of groups, or other variables, give?", controls, answer, save)


def segmentation_of(document: dict, assignments: pd.DataFrame) -> Segmentation:
    """The segmentation of a run from its artefacts, as far as a look needs it."""
    none = pd.DataFrame()
    return Segmentation(assignments, none, none, none, document["verdict"], document["evidence"], document["assigner"])


def closed_by_account(opportunities: pd.DataFrame, looks: Looks) -> pd.DataFrame:
    """Won and closed opportunities of each account, in the order of the looks: columns won, closed."""
    closed = opportunities[opportunities["status"].isin(["won", "lost"])]
    counts = closed.assign(won=closed["status"] == "won").groupby("account_id")["won"].agg(["sum", "count"])
    return counts.reindex(looks.blocks.account_id).fillna(0).set_axis(["won", "closed"], axis=1)


def win_rates(label: np.ndarray, worked: pd.DataFrame, k: int) -> pd.DataFrame:
    """Win rate of closed opportunities per segment of a look: level, n, value, low, high (95 %, accounts as units)."""
    won, closed = (np.bincount(label - 1, worked[c], k) for c in ("won", "closed"))
    units = np.bincount(label - 1, worked["closed"] > 0, k)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = won / closed
        gap = worked["won"].to_numpy() - rate[label - 1] * worked["closed"].to_numpy()
        spread = np.bincount(label - 1, np.nan_to_num(gap) ** 2, k) / closed**2 * units / np.maximum(units - 1, 1)
    low, high = clustered_proportion(rate, spread, closed, units)
    level = [OUTLINE.format(i + 1) for i in range(k)]
    return pd.DataFrame({"level": level, "n": closed, "value": rate, "low": low, "high": high})


def show_look(look: Look, worked: pd.DataFrame) -> Answer:
    """A look in words, with win rates, sizes, what tells the segments apart, and who moves."""
    quality = look.quality.iloc[0]
    k = int(quality["k"])
    rates = win_rates(look.label, worked, k)
    parts: list[Chart | str] = []
    known = rates[rates["n"] > 0]
    if len(known):
        title = "Win rate of closed opportunities by segment of this look"
        parts.append(interval_chart(known, title=title, unit="fraction", note="95 % interval, accounts as units"))
    telling = look.telling.assign(
        trait=[f"{t} is {v}" for t, v in zip(look.telling["trait"], look.telling["level"], strict=True)]
    )
    told = telling.groupby("segment")["trait"].agg("; ".join)
    sizes = look.segments.assign(told=look.segments["segment"].map(told).fillna(""))
    formats = {"share": "percent", "sure": "percent"}
    labels = {"sure": "Mean membership", "large_enough": "Large enough", "told": "Told apart by"}
    parts.append(table_html(sizes, "Segments of this look", formats, labels=labels))
    if len(look.moves):
        moves = look.moves.pivot_table(index="segment_id", columns="segment", values="accounts", aggfunc="sum")
        moves = moves.fillna(0).astype(int).rename(columns=lambda s: OUTLINE.format(s)).rename_axis(None, axis=1)
        parts.append(
            table_html(moves.reset_index(), "Accounts by segment of the run (rows) and of this look (columns)")
        )
    return Answer(_say(look, k), tuple(parts))


def _say(look: Look, k: int) -> str:
    quality = look.quality.iloc[0]
    small = int((~look.segments["large_enough"]).sum())
    agreement = (
        "" if quality["agreement"] is None else f"; agreement with the run's segments {quality['agreement']:.2f} of 1"
    )
    says = f"{k} segments on {int(quality['variables'])} variables{agreement}; mean membership {fmt.percent(quality['sure'])}"
    return f"{says}. {small} too small to plan by." if small else f"{says}."
