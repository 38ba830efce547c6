"""Reads scores and accounts, makes the rows that every file is cut from: text made harmless, hold-out, reasons in words."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.model import Model

TARGETS = ("tier_1", "tier_2")  # what sales and ads aim at
HOLD_OUT = 10  # one in so many target accounts stays in business as usual, so that later lift can be measured
INTENT_HIGH = 50.0  # intent score from which an account counts as in the market now
REASONS_SHOWN = 3
MAX_REASON = 255  # characters of a Salesforce text field
DANGEROUS = fmt.FORMULA_SIGNS


def neutralise(values: pd.Series) -> tuple[pd.Series, int]:
    """Text without leading characters that start a formula and without control characters; and how many values had any.

    The same as `core.formats.harmless` without keeping, for a whole column at once.
    """
    clean = values.str.replace(fmt.CONTROLS.pattern, " ", regex=True).str.lstrip(DANGEROUS + " ").str.rstrip()
    dangerous = values.notna() & values.str.match(fmt.FORMULA.pattern).fillna(False).astype("bool")
    return clean.where(values.notna()), int(dangerous.sum())


def prepare_rows(
    scores: pd.DataFrame, accounts: pd.DataFrame, account_segments: pd.DataFrame, model: Model
) -> tuple[pd.DataFrame, dict[str, int], int]:
    """Scores with what the files need to know about each account, text made harmless."""
    about = accounts[["account_id", "name", "domain", "linkedin_url", "owner", "is_customer"]]
    rows = scores.merge(about, on="account_id").merge(
        account_segments[["account_id", "segment"]], on="account_id", how="left"
    )
    rows = rows.sort_values("account_id", ignore_index=True)
    dangerous_id = rows["account_id"].str[:1].isin(list(DANGEROUS))
    rows = rows[~dangerous_id].reset_index(drop=True)
    unsafe: dict[str, int] = {}
    for column in ("name", "domain", "linkedin_url", "owner", "segment"):
        rows[column], count = neutralise(rows[column].astype("str"))
        unsafe |= {column: count} if count else {}
    held = pd.util.hash_array(rows["account_id"].to_numpy(dtype=object)) % HOLD_OUT == 0
    rows["hold_out"] = pd.Series(np.where(rows["tier"].isin(TARGETS), np.where(held, "yes", "no"), ""), dtype="str")
    rows["intent"] = _intent_level(rows["intent_score"])
    rows["why"] = _why(rows["reasons"])
    rows["segment_points"] = _segment_points(rows["reasons"], model)
    rows["as_of"] = model.as_of
    rows["model_version"] = model.version
    return rows, unsafe, int(dangerous_id.sum())


def _intent_level(score: pd.Series) -> pd.Series:
    level = np.where(score.isna(), "unknown", np.where(score >= INTENT_HIGH, "high", "low"))
    return pd.Series(level, index=score.index, dtype="str")


def _why(reasons: pd.Series) -> pd.Series:
    """The strongest reasons in words, each distinct list rendered once."""
    rendered = {text: _sentence(json.loads(text)) for text in reasons.dropna().unique()}
    words, _ = neutralise(reasons.map(rendered).astype("str"))
    return words


def _segment_points(reasons: pd.Series, model: Model) -> pd.Series:
    """Points that the membership in segments earned: the one line of the card that a formula cannot compute."""
    names = {item.name for item in model.inputs if item.kind == "posterior"}
    earned = {t: sum(r["points"] for r in json.loads(t) if r["trait"] in names) for t in reasons.dropna().unique()}
    return reasons.map(earned).astype("Int64")


def _sentence(reasons: list[dict]) -> str:
    lines = [r for r in reasons if r["trait"] != "base" and r["points"]]
    lines = sorted(lines, key=lambda r: (-abs(r["points"]), r["trait"]))[:REASONS_SHOWN]
    return "; ".join(f"{r['trait']} {r['level']} ({r['points']:+d})" for r in lines)[:MAX_REASON]


def make_safe(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns made harmless: levels come from the data."""
    text = [str(c) for c in table if table[c].dtype == "str" or table[c].dtype == object]
    return table.assign(**{c: neutralise(table[c].astype("str"))[0] for c in text})


def one_cell(value: object) -> str:
    """A playbook value in one cell; made harmless like any other text."""
    if value is None:
        return ""
    joined = " > ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    clean, _ = neutralise(pd.Series([joined], dtype="str"))
    return str(clean.iloc[0])
