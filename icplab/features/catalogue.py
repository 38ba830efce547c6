"""Reads accounts and opportunities, makes the list of candidate traits and their values in declared kinds."""

from __future__ import annotations

import pandas as pd

from icplab.core.config import Settings
from icplab.core.schema import CANONICAL
from icplab.features.known import Tables, frame_of

ACCOUNT_CANDIDATES = ("industry", "employees", "annual_revenue", "country", "region", "founded_year")
OPPORTUNITY_CANDIDATES = ("source", "product", "play")
TRUE = frozenset({"yes", "true", "1", "y", "t", "ja", "oui", "si"})
FALSE = frozenset({"no", "false", "0", "n", "f", "nein", "non"})
# Above this share of distinct values a text column identifies accounts rather than describing them.
IDENTIFYING_SHARE = 0.5
MAX_LEVELS = 300
COLUMNS = ("trait", "table", "kind", "family", "role", "known_at", "fill_rate", "levels", "excluded", "reason")


def build_catalogue(tables: Tables, settings: Settings) -> pd.DataFrame:
    """One row per candidate trait, typed by inspection and overridden by `[traits.<column>]`.

    Returns columns trait, table, kind (number, flag, category, multi), family, role, known_at (created, snapshot, history
    or a date column), fill_rate (fraction of rows), levels (distinct values), excluded, reason. Sorted by table and trait.
    """
    history = frame_of(tables, "field_history")
    parts = [describe_traits(t, frame_of(tables, t), settings, history) for t in ("accounts", "opportunities")]
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS)).sort_values(
        ["table", "trait"], ignore_index=True
    )


def describe_traits(table: str, frame: pd.DataFrame, settings: Settings, history: pd.DataFrame) -> list[dict]:
    """Kind, family and fitness of every candidate column of one table."""
    built_in = ACCOUNT_CANDIDATES if table == "accounts" else OPPORTUNITY_CANDIDATES
    candidates = [c for c in sorted(frame.columns) if c in built_in or c not in CANONICAL[table].by_name]
    return [_describe(table, column, frame[column], settings, history) for column in candidates]


def typed_traits(frame: pd.DataFrame, described: list[dict]) -> pd.DataFrame:
    """The frame with each candidate column in its kind."""
    return frame.assign(**{r["trait"]: type_values(frame[r["trait"]], r["kind"]) for r in described})


def type_values(values: pd.Series, kind: str) -> pd.Series:
    """Text of a trait column as its kind: number float64, flag boolean, category and multi text (multi sorted, no doubles)."""
    if kind == "number":
        return pd.to_numeric(values, errors="coerce").astype("float64")
    if kind == "flag":
        low = values.astype("str").str.strip().str.lower()
        return low.isin(TRUE).astype("boolean").where(low.isin(TRUE | FALSE))
    if kind == "multi":
        return values.map({v: _tidy(v) for v in values.dropna().unique()}).astype("str")
    return values.astype("str").str.strip()


def _tidy(value: str) -> str:
    return ";".join(sorted({part.strip() for part in value.split(";")} - {""}))


def _describe(table: str, column: str, values: pd.Series, settings: Settings, history: pd.DataFrame) -> dict:
    """Kind, family and fitness of one candidate column."""
    given = settings.traits.get(column)
    kind = (given.kind if given else "") or _kind(values)
    filled = values.dropna()
    levels = int(filled.nunique())
    role = given.role if given else ""
    reason = _reason_to_exclude(column, kind, filled, len(values), settings)
    return {
        "trait": column,
        "table": table,
        "kind": "category" if kind == "date" else kind,
        "family": (given.family if given else "") or _family(table, kind, role),
        "role": role,
        "known_at": (given.known_at if given else "") or _known_at(table, column, history),
        "fill_rate": len(filled) / max(len(values), 1),
        "levels": levels,
        "excluded": bool(reason),
        "reason": reason,
    }


def _kind(values: pd.Series) -> str:
    """number, flag, category, multi or date, from what stands in the column."""
    if values.dtype == "float64":
        return "number"
    if values.dtype == "boolean":
        return "flag"
    distinct = pd.Series(values.dropna().unique(), dtype="str").str.strip()
    if distinct.empty:
        return "category"
    if set(distinct.str.lower()) <= TRUE | FALSE:
        return "flag"
    if pd.to_numeric(distinct, errors="coerce").notna().all():
        return "number"
    if distinct.str.contains(";").any():
        return "multi"
    return "date" if distinct.str.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?").all() else "category"


def _reason_to_exclude(column: str, kind: str, filled: pd.Series, rows: int, settings: Settings) -> str:
    given = settings.traits.get(column)
    if column in settings.plan.excluded or (given and given.exclude):
        return "left out by the plan"
    if given and given.role == "forbidden":
        return "forbidden by the plan"
    if settings.plan.candidates and column not in settings.plan.candidates:
        return "not a candidate of the plan"
    levels = filled.nunique()
    if filled.empty:
        return "empty"
    if levels == 1 and len(filled) == rows and kind != "flag":
        return "the same everywhere"
    if kind == "date":
        return "a date"
    if kind == "category" and (levels > MAX_LEVELS or (levels > 20 and levels > IDENTIFYING_SHARE * len(filled))):
        return "too many different values"
    return ""


def _family(table: str, kind: str, role: str) -> str:
    if role == "technology" or kind == "multi":
        return "technographic"
    return "firmographic" if table == "accounts" else "behavioural"


def _known_at(table: str, column: str, history: pd.DataFrame) -> str:
    if ((history["object"] == table) & (history["field"] == column)).any():
        return "history"
    return "created" if column == "source" else "snapshot"
