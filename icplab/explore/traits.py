"""Reads the trait table of a run, makes the explorer of traits: one trait, one outcome, everywhere it was measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.charts import Chart, interval_chart
from icplab.core.schema import ALL
from icplab.explore.results import results_of
from icplab.explore.saving import save_settings
from icplab.explore.shell import Answer, Explorer, choice, whole
from icplab.report.tables import table_html
from icplab.step import Step, workspace_of

OUTCOMES = {
    "win": "winning",
    "value": "deal value",
    "cycle": "length of the cycle",
    "retention": "staying for a year",
    "expansion": "growing",
    "margin": "gross margin",
}
EVERYWHERE = "whole market"
KINDS = (("crude", "odds_ratio", "low", "high"), ("adjusted", "adjusted", "adjusted_low", "adjusted_high"))


def explore_traits(step: Step, workspace: str) -> Explorer:
    """Trait, outcome and least support as controls; saving takes the trait out of the plan, or back in."""
    store = results_of(step, "traits", "40_traits")
    segments = store.read("segments") if store.has("segments") else None
    table = named_scopes(store.read("traits"), segments)
    order = strongest_first(table)
    controls = {
        "trait": choice("Trait", order, order[0] if order else None),
        "outcome": choice("Associated with", [(word, key) for key, word in OUTCOMES.items()], "win"),
        "support": whole("Hide levels with fewer than", 10, 0, 200, 10),
    }

    def answer(trait: str, outcome: str, support: int) -> Answer:
        return show_trait(table, trait, outcome, support)

    def save(trait: str, outcome: str, support: int) -> str:
        excluded = set(step.settings.plan.excluded)
        said = save_settings(workspace_of(workspace), {"plan.excluded": sorted(excluded ^ {trait})})
        return f"{said} {trait} is {'looked at again' if trait in excluded else 'left out of traits and segments'}."

    explorer = Explorer("What goes with winning, where, and on which evidence?", controls, answer, save)
    explorer.button.tooltip = "Leave the trait out of the plan, or take it back in"
    return explorer


def named_scopes(traits: pd.DataFrame, segments: pd.DataFrame | None) -> pd.DataFrame:
    """The trait table with the name of each scope: the whole market, or a segment."""
    names = {} if segments is None else dict(zip(segments["segment_id"], segments["segment"], strict=True))
    place = [EVERYWHERE if s == ALL else str(names.get(s) or s) for s in traits["scope"]]
    order = [p != EVERYWHERE for p in place]
    named = traits.assign(place=place, order=order).sort_values(["order", "place"], kind="stable", ignore_index=True)
    return named.drop(columns="order")


def strongest_first(table: pd.DataFrame) -> list[str]:
    """Traits in the order of what is supported and how large the adjusted effect on winning is."""
    rows = table[(table["scope"] == ALL) & (table["outcome"] == "win")]
    ratio = rows["adjusted"].to_numpy(dtype=float, na_value=np.nan)
    size = np.abs(np.log(np.where(ratio > 0, ratio, 1.0)))
    rows = rows.assign(size=size, supported=rows["verdict"] == "supported")
    best = rows.groupby("trait")[["supported", "size"]].max().sort_values(["supported", "size"], ascending=False)
    others = sorted(set(map(str, table["trait"])) - set(map(str, best.index)))
    return [*map(str, best.index), *others]


def show_trait(table: pd.DataFrame, trait: str, outcome: str, support: int) -> Answer:
    """One trait and outcome: ratio, crude beside adjusted, per level and scope, with what it rests on."""
    rows = table[(table["trait"] == trait) & (table["outcome"] == outcome)]
    if rows.empty:
        return Answer(f"{trait}: not measured for {OUTCOMES[outcome]}.")
    rows = rows[rows["support"].fillna(0) >= support]
    if rows.empty:
        return Answer(f"{trait}: no level with {support} observations or more.")
    parts: list[Chart | str] = []
    lines = _lines(rows)
    if len(lines):
        title = f"Ratio for {OUTCOMES[outcome]}, with {trait} against without"
        note = "95 % intervals; 1 is no difference. Adjusted: against accounts that are alike."
        parts.append(interval_chart(lines, group="kind", title=title, unit="ratio", reference=1.0, log=True, note=note))
    columns = ["place", "level", "verdict", "n", "support", "rate_diff", "q_value", "flags"]
    formats = {
        "n": "integer",
        "support": "integer",
        "rate_diff": "points" if outcome != "value" else "number",
        "verdict": "name",
    }
    labels = {"place": "Where", "rate_diff": "Crude difference", "support": "With it"}
    parts.append(table_html(rows[columns], f"Evidence on {trait}", formats, labels=labels))
    return Answer(_say(rows, trait, outcome), tuple(parts))


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per place, level and kind of estimate that has a number."""
    parts = []
    for kind, value, low, high in KINDS:
        part = rows[["place", "level", "support", value, low, high]].set_axis(
            ["place", "level", "n", "value", "low", "high"], axis=1
        )
        parts.append(part.assign(kind=kind))
    lines = pd.concat(parts, ignore_index=True)
    lines = lines[(lines[["value", "low", "high"]] > 0).all(axis=1)]
    where = lines["place"].where(lines["level"].isin(["yes"]), lines["place"] + ": " + lines["level"])
    place = pd.Categorical(lines["place"], categories=list(dict.fromkeys(rows["place"])))
    ordered = lines.assign(level=where, place=place).sort_values(["place", "level", "kind"], kind="stable")
    return ordered.reset_index(drop=True)


def _say(rows: pd.DataFrame, trait: str, outcome: str) -> str:
    """What is said of the trait in the whole market, level by level."""
    whole_market = rows[rows["scope"] == ALL]
    said = [
        ("" if row["level"] == "yes" else f"{row['level']} ")
        + fmt.name(row["verdict"])
        + (
            f", × {fmt.ratio(row['adjusted'])} ({fmt.interval(row['adjusted_low'], row['adjusted_high'], 'ratio')})"
            if row["adjusted"] > 0
            else ""
        )
        for row in whole_market.head(4).to_dict("records")
    ]
    more = f"; and {len(whole_market) - 4} more levels" if len(whole_market) > 4 else ""
    return f"{trait} and {OUTCOMES[outcome]}: {'; '.join(said) or 'measured in segments only'}{more}."
