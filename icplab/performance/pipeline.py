"""Reads open opportunities of one level, makes its pipeline: amount, expected value, quality and coverage of the plan.

The chance of an open opportunity is that of having been open this long: stage names and sellers' forecasts take no part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from icplab.performance import rows
from icplab.performance.columns import Columns
from icplab.performance.cuts import quarter_end, quarter_of
from icplab.performance.facts import Slice, slice_level
from icplab.performance.rows import Row
from icplab.performance.targets import PLANNED, targets_of
from icplab.performance.winning import NO_DATES, build_curve

BASIS = "by_age"
Z = 1.959964


def measure_pipeline(piece: Slice) -> Iterator[Row]:
    """Rows of pipeline (open, expected), pipeline_quality and pipeline_coverage of one level."""
    facts, deals = piece.facts, piece.tables["opportunities"]
    still = deals[deals["open"]]
    known = still[still["acv"] > 0]
    blank = len(still) - len(known)
    note = f"{blank} open without amount left out" if blank else ""
    if not facts.settings.dated or not len(known):
        reason = NO_DATES if not facts.settings.dated else "no open opportunity with an amount"
        for kpi, basis, unit in (("pipeline", "open", "money"), ("pipeline", BASIS, "money")):
            yield rows.not_measured(piece, kpi, basis, unit, reason)
        yield rows.not_measured(piece, "pipeline_quality", BASIS, "fraction", reason)
        return
    chance = _chance_by_age(piece, known)
    yield rows.row(piece, "pipeline", "open", float(known["acv"].sum()), unit="money", n=len(known), note=note)
    expected = known["acv"] * chance
    horizon = facts.settings.plan.horizon_days
    note = rows.join(f"chance of being won within {horizon} days of creation, given how long it has been open", note)
    # If the chances hold: each opportunity is won or not, so a few large ones make the sum uncertain.
    half = Z * float(np.sqrt((known["acv"] ** 2 * chance * (1 - chance)).sum()))
    total = float(expected.sum())
    expected_row = rows.row(piece, "pipeline", BASIS, total, unit="money", n=len(known), note=note)
    yield {**expected_row, "low": max(total - half, 0.0), "high": total + half}
    above, below = piece.total(known, expected), piece.total(known, known["acv"])
    yield rows.mean_ratio(
        piece, "pipeline_quality", BASIS, above, below, unit="fraction", scale="logit", n=len(known), note=note
    )
    yield from _coverage(piece, float(known["acv"].sum()), float(expected.sum()), len(known))


def _chance_by_age(piece: Slice, still: Columns) -> np.ndarray:
    """P(won within the horizon | open at this age), from the curve of all opportunities: (F(H) - F(age)) / S(age)."""
    facts = piece.facts
    if "curve" not in facts.common:
        _, facts.common["curve"], _ = build_curve(slice_level(facts, rows.ALL, None), resample=False)
    curve, horizon = facts.common["curve"], facts.settings.plan.horizon_days
    days = np.append(curve.days, np.inf)

    def at(values: np.ndarray, start: float, when: np.ndarray) -> np.ndarray:
        return np.append(start, values)[np.searchsorted(days[:-1], when, side="right")]

    age = np.nan_to_num(still["days"])
    end = at(curve.incidence, 0.0, np.array([float(horizon)]))
    survived = at(curve.survival, 1.0, age)
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = (end - at(curve.incidence, 0.0, age)) / survived
    return np.where((age < horizon) & (survived > 0), np.clip(chance, 0, 1), 0.0)


def _coverage(piece: Slice, amount: float, expected: float, n: int) -> Iterator[Row]:
    """Open amount and expected value over what the plan of the running or next quarter still asks for."""
    facts = piece.facts
    targets = targets_of(piece)
    if not len(targets):
        return
    amounts = (
        targets["metric"].astype("str").str.lower().str.strip().map(lambda m: PLANNED.get(m, ("",))[0] == "won_amount")
    )
    targets = targets[amounts.astype(bool)]
    start = facts.settings.calendar.fiscal_year_start
    tomorrow = pd.Series([facts.as_of + pd.Timedelta(days=1)])
    period = str(quarter_of(tomorrow, start).iloc[0])
    plan = targets.loc[targets["period"] == period, "target"]
    if not len(plan):
        return
    deals, end = piece.tables["opportunities"], quarter_end(period, start)
    won = deals[deals["won"] & (quarter_of(pd.Series(deals["closed_at"]), start) == period).to_numpy(dtype=bool)]
    left = float(plan.iloc[0]) - float(won["acv"].sum())
    for basis, above in (("open", amount), (BASIS, expected)):
        if left <= 0:
            row = rows.not_measured(piece, "pipeline_coverage", basis, "ratio", "the plan of the quarter is reached")
        else:
            note = f"plan {plan.iloc[0]:g} to {end:%Y-%m-%d}, {left:g} still to win"
            row = rows.row(piece, "pipeline_coverage", basis, above / left, unit="ratio", n=n, note=note)
        yield {**row, "period": period}
