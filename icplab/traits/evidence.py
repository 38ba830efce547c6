"""Reads the artefact `traits`, makes the evidence on one trait: what its chart, its table and its sentence show."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.errors import BadInput, nearest
from icplab.core.schema import ALL, OUTCOMES
from icplab.traits.sentences import OUTCOME_WORDS, level_words

SAID = {
    "supported": "is associated with",
    "not_supported": "shows no association that holds with",
    "insufficient": "cannot be told to go with",
    "quarantined": "is not judged on",
}
SHOWN = [
    "scope", "level", "n", "support", "families", "rate", "rate_without", "odds_ratio", "adjusted", "adjusted_low",
    "adjusted_high", "shrunken", "later", "missing_low", "missing_high", "q_value", "verdict", "n_needed", "flags",
]  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What is known of one trait. `forest`: crude and adjusted per level and scope; `table`: all figures; `sentences`."""

    forest: pd.DataFrame
    table: pd.DataFrame
    sentences: list[str]


def show_evidence(traits: pd.DataFrame, trait: str, *, scope: str = "", outcome: str = "win") -> Evidence:
    """Everything measured about one trait and outcome, for a chart with two points per level and a table under it.

    Parameters
    ----------
    traits
        The artefact `traits`.
    trait
        Column name.
    scope
        A segment_id or `all`; empty for every scope side by side.
    outcome
        One of win, value, cycle, retention, expansion, margin.

    Returns
    -------
    Evidence
        `forest`: level, scope, what (crude, adjusted), value, low, high, n, verdict. `table`: one row per scope and level.
        `sentences`: one per row of the table. All empty where the outcome was not measured.

    Raises
    ------
    BadInput
        The trait, scope or outcome is not in the table; the message gives the nearest.
    """
    for name, value, known in (
        ("trait", trait, sorted(set(traits["trait"]))),
        ("outcome", outcome, list(OUTCOMES)),
        ("scope", scope, sorted({*traits["scope"], ALL, ""})),
    ):
        if value not in known:
            raise BadInput(f'{name} "{fmt.plain(value)}" is not known{nearest(value, known)}')
    rows = traits[(traits["trait"] == trait) & (traits["outcome"] == outcome)]
    rows = rows[rows["scope"] == scope] if scope else rows
    rows = rows.sort_values(["scope", "level"], key=lambda s: s.where(s != ALL, " "), ignore_index=True)
    forest = pd.concat([_points(rows, *part) for part in _PARTS], ignore_index=True)
    forest = forest.sort_values(["place", "what"], ignore_index=True).drop(columns="place")
    return Evidence(
        forest, rows[[c for c in SHOWN if c in rows]], [_sentence(r, outcome) for r in rows.to_dict("records")]
    )


_PARTS = (("adjusted", "adjusted", "adjusted_low", "adjusted_high"), ("crude", "odds_ratio", "low", "high"))


def _points(rows: pd.DataFrame, what: str, value: str, low: str, high: str) -> pd.DataFrame:
    """Points of one kind, one per level and scope that has a figure."""
    several = rows["scope"].nunique() > 1
    label = [
        level_words(t, v) + (f" · {'whole market' if s == ALL else fmt.plain(s)}" if several else "")
        for t, v, s in zip(rows["trait"], rows["level"], rows["scope"], strict=True)
    ]
    points = {"level": label, "scope": rows["scope"], "what": what, "value": rows[value], "low": rows[low]}
    table = pd.DataFrame(
        {**points, "high": rows[high], "n": rows["n"], "verdict": rows["verdict"], "place": rows.index}
    )
    return table[table["value"].notna()]


def _sentence(row: dict, outcome: str) -> str:
    """One row in words, always with n and an interval."""
    where = "in the whole market" if row["scope"] == ALL else f"in segment {fmt.plain(row['scope'])}"
    alone = row["scope"] != ALL and row["verdict"] == "not_supported"
    said = "is not shown by these accounts alone to go with" if alone else SAID[row["verdict"]]
    start = f"{level_words(row['trait'], row['level'])} {said} {OUTCOME_WORDS[outcome]} {where}"
    if row["verdict"] == "quarantined" or pd.isna(row["adjusted"]):
        return f"{start}, n {fmt.integer(row['n'])}."
    ratio = "odds" if outcome in ("win", "retention", "expansion") else "ratio of means"
    effect = (
        f"{ratio} × {fmt.ratio(row['adjusted'])} ({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])})"
    )
    needed = row.get("n_needed")
    more = "" if needed is None or pd.isna(needed) else f"; about {fmt.integer(needed)} observations would settle it"
    return f"{start}: {effect} among alike, n {fmt.integer(row['n'])}, {fmt.integer(row['support'])} with it{more}."
