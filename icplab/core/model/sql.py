"""Reads a model, makes its scorecard as one SQL query in DuckDB's dialect: points, win probability, expected value, tier.

Points are whole numbers throughout, so every engine that runs the query gives the same total. Names and levels come from the
data: they enter as quoted identifiers and literals only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from icplab.core.model.card import OTHER, OUT_OF_MARKET, POSTERIOR, RANKED, Input, Model, Value
from icplab.core.model.levels import MEMBERSHIP_UNIT

NAME_LENGTH = 40  # characters of an input's name in a column name; PostgreSQL takes 63 in all
CENT, MILLIONTH = 0.005, 5e-7  # half of the last digit that scores are rounded to: a cut point is met after rounding


def card_query(model: Model, table: str = "accounts", *, reasons: bool = True, keep: Sequence[str] = ()) -> str:
    """The scorecard as a query over a table of accounts.

    Parameters
    ----------
    model : as fitted, or read from model.json; it must be usable
    table : name of the table to read. Columns: account_id, account_type, segment_id, motion (new, expansion), a column per
        trait of the card (numbers as double, yes/no as boolean, the rest as text) and, where the card holds the segment,
        posterior_<id> per segment
    reasons : with one column of points per input
    keep : further columns of the table to hand through: segment_id, motion

    Returns
    -------
    str
        One row per account: account_id, points per input (see `points_columns`), points, win_probability (not rounded),
        expected_value (null where nothing was measured) and tier by the frozen cut points.
    """
    terms = [points_expression(item) for item in model.inputs]
    names = points_columns(model)
    inner = [f"{term} as {name}" for term, name in zip(terms, names, strict=True)]
    own = dict.fromkeys(("account_id", "account_type", "segment_id", *keep))
    carried = [*own, *inner, f"{value_expression(model.value)} as worth"]
    total = " + ".join([str(int(model.base_points)), *names])
    a, b = model.calibration
    chance = f"1 / (1 + exp(-({number(a)} + {number(b)} * points)))"
    shown = [*keep, *(names if reasons else ()), "points"]
    return (
        f"with earned as (select {', '.join(carried)} from {quoted(table)}),\n"
        f"counted as (select *, {total} as points from earned),\n"
        f"likely as (select *, {chance} as win_probability from counted),\n"
        f"valued as (select *, win_probability * worth as expected_value from likely)\n"
        f"select account_id, {', '.join(shown)}, win_probability, expected_value, {_tier(model)} as tier from valued"
    )


def points_columns(model: Model) -> list[str]:
    """Names of the columns of points per input: letters, digits and underscores, within what databases take."""
    plain = [re.sub(r"[^a-z0-9]+", "_", item.name.lower()).strip("_")[:NAME_LENGTH] for item in model.inputs]
    return [f"points_{k}_{name}".rstrip("_") for k, name in enumerate(plain, start=1)]


def points_expression(item: Input) -> str:
    """Whole points that one input of the card gives to a row."""
    whole = [str(int(np.rint(p))) for p in (*item.points, item.missing)]
    if item.kind != "posterior":
        return _case(item, whole)
    # Memberships are counted in millionths: sums of whole numbers come out the same on every engine.
    parts = " + ".join(f"{_millionths(level)} * ({p})" for level, p in zip(item.levels, whole, strict=False))
    known = " + ".join(_millionths(level) for level in item.levels)
    mean = f"cast(floor(({parts} + {MEMBERSHIP_UNIT // 2}) / {MEMBERSHIP_UNIT}.0) as bigint)"
    return f"case when {known} > 0 then {mean} else {whole[-1]} end"


def value_expression(value: Value) -> str:
    """Expected value of a won opportunity per row; null where nothing was measured."""
    if value.basis == "not_measured":
        return "cast(null as double)"
    logs = [number(value.intercept)]
    memberships = [item for item in value.inputs if item.kind == "posterior"]
    for item in value.inputs:
        if item.kind != "posterior":
            logs.append(_case(item, [number(p) for p in (*item.points, item.missing)]))
    earned, kept = _membership_worth(memberships[-1], value) if memberships else (_keep(value),) * 2
    scale = number(value.smearing * value.margin)
    money = f"exp({' + '.join(logs)}) * {scale} * ({earned})"
    return f"{money} - {number(value.cost_per_year)} * ({kept})" if value.cost_per_year else money


def quoted(name: str) -> str:
    """A name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def number(value: float) -> str:
    """A number as a literal of type double, with every digit it has."""
    text = f"{float(value)!r}"
    text = text if "e" in text else text + "e0"
    return f"({text})" if text.startswith("-") else text


def _case(item: Input, worth: Sequence[str]) -> str:
    """`case` over the levels of an input; `worth` is one literal per level, then the one for unknown."""
    column = quoted(item.trait)
    start = f"case when {column} is null then {worth[-1]}"
    if item.kind == "number":
        steps = "".join(f" when {column} < {number(e)} then {p}" for e, p in zip(item.edges, worth, strict=False))
        return f"{start}{steps} else {worth[len(item.edges)]} end"
    if item.kind == "flag":
        return f"{start} when {column} then {worth[1]} else {worth[0]} end"
    if item.kind == "item":
        inside = f"strpos(';' || {column} || ';', {literal(';' + item.item + ';')}) > 0"
        return f"{start} when {inside} then {worth[1]} else {worth[0]} end"
    rest = worth[item.levels.index(OTHER)] if OTHER in item.levels else worth[-1]
    steps = "".join(
        f" when {column} = {literal(level)} then {p}" for level, p in zip(item.levels, worth, strict=False) if p != rest
    )
    return f"{start}{steps} else {rest} end"


def _millionths(level: str) -> str:
    return f"cast(round(coalesce({quoted(POSTERIOR + level)}, 0) * {MEMBERSHIP_UNIT}) as bigint)"


def _membership_worth(item: Input, value: Value) -> tuple[str, str]:
    """Money factor and years kept, averaged over the probabilities of the segments."""
    whole = value.keep.get("", 1.0)
    weights = [f"coalesce({quoted(POSTERIOR + level)}, 0)" for level in item.levels]
    keep = [value.keep.get(level, whole) for level in item.levels]
    earned = " + ".join(f"{w} * {number(np.exp(p) * k)}" for w, p, k in zip(weights, item.points, keep, strict=True))
    kept = " + ".join(f"{w} * {number(k)}" for w, k in zip(weights, keep, strict=True))
    known = f"{' + '.join(weights)} > 0"
    unknown = number(np.exp(item.missing) * whole)
    return (
        f"case when {known} then {earned} else {unknown} end",
        f"case when {known} then {kept} else {number(whole)} end",
    )


def _keep(value: Value) -> str:
    """Discounted years kept by the hard segment."""
    whole = number(value.keep.get("", 1.0))
    steps = "".join(f" when segment_id = {literal(k)} then {number(v)}" for k, v in value.keep.items() if k)
    return f"case{steps} else {whole} end" if steps else whole


def _tier(model: Model) -> str:
    """Tier by the frozen cut points, after the rounding that scores have."""
    measured = model.value.basis != "not_measured"
    order, half = ("expected_value", CENT) if measured else ("win_probability", MILLIONTH)
    outside = ", ".join(literal(kind) for kind in OUT_OF_MARKET)
    steps = "".join(
        f" when {order} >= {number(model.cuts[tier] - half)} then {literal(tier)}"
        for tier in RANKED
        if tier in model.cuts
    )
    return (
        f"case when account_type in ({outside}) then 'not_icp'"
        f" when segment_id is null or segment_id = 'unassigned' then 'insufficient'{steps} else 'not_icp' end"
    )
