"""Reads the four parts of sales velocity of one level, makes the velocity, what it is made of, and the level's shares.

A ratio of four noisy numbers ranks nothing by itself: each factor stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from icplab.performance.cost import cost_of, known_period, no_spend
from icplab.performance.drivers import sums_of, sums_of_all
from icplab.performance.facts import Facts, Slice, slice_level
from icplab.performance.figures import Figure, as_row
from icplab.performance.money import measure_acv
from icplab.performance.rows import ALL, Row
from icplab.performance.winning import NO_DATES, measure_winning

DAYS_A_QUARTER = 365.25 / 4
PARTS = ("opportunities", "win_rate", "acv", "cycle")
SHARES = ("spend", "rep_time", "opportunities", "pipeline", "won_value", "gross_profit")


def measure_velocity(piece: Slice) -> Iterator[Row]:
    """Rows of created, sales_velocity and velocity_factor; needs what winning and money left in `piece.memory`."""
    parts = _parts(piece)
    minimum = piece.facts.settings.plan.minimum_n
    yield as_row(piece, "created", "per_quarter", parts["opportunities"], "count", minimum)
    yield as_row(piece, "sales_velocity", "flow", velocity(parts), "money")
    if piece.cut == ALL:
        piece.facts.common["velocity"] = parts
        return
    whole = _parts_of_all(piece.facts)
    for part in PARTS if whole else ():
        yield as_row(piece, "velocity_factor", part, _factor(part, parts[part], whole[part]), "ratio")


def velocity(parts: dict[str, Figure]) -> Figure:
    """Value won a day: opportunities created a quarter x probability of winning x mean ACV / median days to win."""
    reason = next((parts[p].reason for p in PARTS if parts[p].draws is None), "")
    n = min(parts[p].n for p in PARTS)
    if not reason and not parts["cycle"].value > 0:
        reason = "won opportunities are closed on the day they are created"
    if reason:
        return Figure(reason=reason, n=n)
    product = parts["opportunities"].value * parts["win_rate"].value * parts["acv"].value / parts["cycle"].value
    o, w, a, c = (np.asarray(parts[p].draws) for p in PARTS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Figure(product, o * w * a / c, n, "a day; from opportunities created a quarter, not from those open now")


def measure_shares(piece: Slice) -> Iterator[Row]:
    """Rows of share: what part of spend, rep time, pipeline, value won and gross profit this level takes or brings."""
    if piece.cut == ALL:
        return
    facts = piece.facts
    for basis in SHARES:
        figure = _spend_share(piece) if basis == "spend" else _share(piece, basis)
        minimum = facts.settings.plan.minimum_n_money
        yield as_row(piece, "share", basis, figure, "fraction", minimum)


def compare_shares(kpis: pd.DataFrame, cut: str) -> pd.DataFrame:
    """What each level of a cut takes beside what it brings.

    Returns
    -------
    DataFrame
        `level, spend, rep_time, opportunities, pipeline, won_value, gross_profit` (shares of all levels, missing where
        not measured), `n`, `brings_over_takes` (gross profit share over spend share, with `low, high` when the two
        intervals are read as independent, which is cautious), largest spend first.
    """
    shares = kpis[(kpis["kpi"] == "share") & (kpis["cut"] == cut) & (kpis["period"] == ALL)]
    wide = shares.pivot(index="level", columns="basis", values="value").reindex(columns=list(SHARES))
    low, high = (
        shares.pivot(index="level", columns="basis", values=c).reindex(columns=list(SHARES)) for c in ("low", "high")
    )
    profit = "gross_profit" if wide["gross_profit"].notna().any() else "won_value"
    wide["n"] = shares[shares["basis"] == profit].set_index("level")["n"]
    wide = wide.assign(
        brings_over_takes=wide[profit] / wide["spend"],
        low=low[profit] / high["spend"],
        high=high[profit] / low["spend"],
    )
    return (
        wide.rename_axis(columns=None)
        .reset_index()
        .sort_values(["spend", "level"], ascending=[False, True], ignore_index=True)
    )


def _parts(piece: Slice) -> dict[str, Figure]:
    known = piece.memory
    return {
        "opportunities": _created(piece),
        "win_rate": known.get("within", Figure(reason="no opportunity with a creation date in the window")),
        "acv": known.get("acv", Figure(reason="no won opportunity with an amount in the window")),
        "cycle": known.get("won_median", Figure(reason="nothing won with both dates in the window")),
    }


def _parts_of_all(facts: Facts) -> dict[str, Figure]:
    """The parts of everything together, worked out once."""
    if "velocity" not in facts.common:
        whole = slice_level(facts, ALL, None)
        for measure in (measure_winning, measure_acv):
            list(measure(whole))
        facts.common["velocity"] = _parts(whole)
    return facts.common["velocity"]


def _created(piece: Slice) -> Figure:
    """Opportunities created a quarter, over the window or all history."""
    facts, deals = piece.facts, piece.tables["opportunities"]
    if not facts.settings.dated:
        return Figure(reason=NO_DATES)
    made = deals[~np.isnat(deals["created_at"]) & deals["created_in"]]
    days = _days(facts)
    if not len(made) or not days:
        return Figure(reason="no opportunity with a creation date in the window")
    scale = DAYS_A_QUARTER / days
    note = f"created in {facts.window}"
    return Figure(len(made) * scale, piece.drawn(piece.total(made)) * scale, len(made), note)


def _days(facts: Facts) -> int:
    """Length of the window, or of the history from its first creation on."""
    first = facts.opportunities["created_at"].min()
    start = first - pd.Timedelta(days=1) if facts.start is None else max(facts.start, first - pd.Timedelta(days=1))
    return 0 if pd.isna(first) else max((facts.as_of - start).days, 1)


def _factor(part: str, own: Figure, whole: Figure) -> Figure:
    """Part of a level over the same part of everything, inverted for the cycle: their product is the velocity's ratio."""
    if own.draws is None or whole.draws is None or not whole.value > 0 or not own.value > 0:
        return Figure(reason=own.reason or whole.reason or "the denominator is not positive", n=own.n)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, draws = own.value / whole.value, own.draws / whole.draws
        return Figure(1 / value, 1 / draws, own.n) if part == "cycle" else Figure(value, draws, own.n)


def _spend_share(piece: Slice) -> Figure:
    facts = piece.facts
    if reason := no_spend(facts):
        return Figure(reason=reason)
    period, cost = known_period(facts), cost_of(piece, "opportunities", first_time=False)
    if period is None or cost.draws is None or period.spend <= 0:
        return Figure(reason=cost.reason or "no cost in the months that the spend covers", n=cost.n)
    return Figure(cost.value / period.spend, cost.draws / period.spend, cost.n, cost.note)


def _share(piece: Slice, basis: str) -> Figure:
    """Share of a sum that opportunities or sellers' work add up to."""
    facts = piece.facts
    if basis == "rep_time" and not facts.by_account:
        return Figure(reason="the cut describes opportunities, not accounts")
    if basis == "rep_time" and not len(facts.effort):
        return Figure(reason="there is no activities table")
    period = known_period(facts)
    here, everywhere = sums_of(piece, period)[basis], sums_of_all(facts, period)[basis]
    if basis == "gross_profit" and np.isnan(everywhere.value):
        return Figure(reason="gross margin is not known for every won opportunity")
    if everywhere.value <= 0:
        return Figure(reason=f"nothing to share: no {basis.replace('_', ' ')}")
    notes = {"rep_time": f"{facts.effort_in} of sellers", "pipeline": "open amount", "opportunities": "created"}
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = here.drawn / everywhere.drawn
    return Figure(here.value / everywhere.value, draws, here.n, notes.get(basis, f"closed in {facts.window}"))
