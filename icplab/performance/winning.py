"""Reads opportunities of one level, makes its win rates on every basis, counts and cycle lengths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.resample import order_draws, quantiles_of
from icplab.core.stats.survival import Curve, aalen_johansen, count_events, first_day_at_or_below, value_at
from icplab.performance import rows
from icplab.performance.columns import Columns
from icplab.performance.facts import Slice
from icplab.performance.figures import Figure
from icplab.performance.rows import Row

NO_DATES = "the opportunities carry no dates"
# Lost deals without amount up to this share are left out and counted; beyond it a value rate would be invented.
LOST_WITHOUT_AMOUNT = 0.5
NOTHING = "nothing closed in the quarter"
STILL_OPEN = 0.02  # a curve that ends before the horizon with more than this share undecided is a lower bound only


def measure_winning(piece: Slice) -> Iterator[Row]:
    """Rows of win_rate (all bases), won, lost, open and cycle_days of one level."""
    facts, deals = piece.facts, piece.tables["opportunities"]
    closed = deals[(~deals["open"]) & deals["closed_in"]]
    yield from _counts(piece, closed, deals)
    yield from _closed_rates(piece, closed)
    yield _value_rate(piece, closed)
    yield from _quarters(piece, deals)
    horizon = facts.settings.plan.horizon_days
    if not facts.settings.dated:
        for kpi, basis, unit in (
            ("win_rate", "cohort", "fraction"),
            ("win_rate", f"within_{horizon}d", "fraction"),
            ("cycle_days", "won_median", "days"),
            ("cycle_days", "won_p75", "days"),
            ("cycle_days", "any_close_median", "days"),
        ):
            yield rows.not_measured(piece, kpi, basis, unit, NO_DATES)
        return
    yield _cohort(piece, deals, horizon)
    yield from _curve_rows(piece, deals, horizon)
    yield from _cycles(piece, closed)


def build_curve(piece: Slice, *, resample: bool = True) -> tuple[Columns, Curve, Curve | None]:
    """Opportunities created in the window with their cumulative incidence of winning, and its resamples."""
    deals = piece.tables["opportunities"]
    cohort = deals[~np.isnan(deals["days"]) & deals["created_in"]]
    counts = count_events(cohort["days"], cohort["cause"], units=cohort["unit"], n_units=piece.units)
    draws = aalen_johansen(counts, piece.weights) if resample and len(cohort) else None
    return cohort, aalen_johansen(counts), draws


def _counts(piece: Slice, closed: Columns, deals: Columns) -> Iterator[Row]:
    note = f"closed in {piece.facts.window}"
    yield rows.count(piece, "won", "closed", int(closed["won"].sum()), note=note)
    yield rows.count(piece, "lost", "closed", int(closed["lost"].sum()), note=note)
    yield rows.count(piece, "open", "as_of", int(deals["open"].sum()), note="whenever opened")


def _closed_rates(piece: Slice, closed: Columns) -> Iterator[Row]:
    idle = closed["no_decision"]
    window = f"closed in {piece.facts.window}"
    bases = (
        ("closed", closed[~idle], f"leaves out {int(idle.sum())} lost without a decision" if idle.any() else ""),
        ("closed_broad", closed, "counts every loss"),
    )
    for basis, kept, note in bases:
        won, all_closed = piece.total(kept, kept["won"]), piece.total(kept)
        note = rows.join(window, note)
        yield rows.proportion(
            piece, "win_rate", basis, won, all_closed, note=note, nothing="nothing closed in the window"
        )


def _value_rate(piece: Slice, closed: Columns) -> Row:
    lost = closed["lost"]
    without = ~(closed["acv"] > 0)
    share = float(without[lost].mean()) if lost.any() else 0.0
    if share > LOST_WITHOUT_AMOUNT:
        reason = f"{share:.0%} of lost opportunities carry no amount"
        return rows.not_measured(piece, "win_rate", "value", "fraction", reason, n=len(closed))
    known = closed[~without]
    if not len(known):
        return rows.not_measured(piece, "win_rate", "value", "fraction", "no closed opportunity with an amount")
    won = piece.total(known, np.where(known["won"], known["acv"], 0.0))
    top = known["acv"].max() / known["acv"].sum()
    note = rows.join(
        f"closed in {piece.facts.window}",
        f"largest deal is {top:.0%} of the value",
        f"{share:.0%} of lost without amount left out" if share else "",
    )
    total = piece.total(known, known["acv"])
    return rows.mean_ratio(
        piece, "win_rate", "value", won, total, unit="fraction", scale="logit", n=len(known), note=note
    )


def _quarters(piece: Slice, deals: Columns) -> Iterator[Row]:
    """Counts and closed win rate of every quarter that ends inside the window (whole quarters, not cut by it)."""
    names = piece.facts.quarters
    if not names:
        return
    part = deals[deals["quarter"] >= 0]
    sums = [by_quarter(piece, part[kept]) for kept in (part["won"], ~part["no_decision"], part["quarter"] >= 0)]
    won, narrow, broad = sums
    drawn = np.split((piece.weights @ np.hstack(sums).astype(np.float32)).astype(float), 3, axis=1)
    rates = [
        rows.proportions(
            piece, "win_rate", [basis] * len(names), won, trials, (drawn[0], below), periods=names, nothing=NOTHING
        )
        for basis, trials, below in (("closed", narrow, drawn[1]), ("closed_broad", broad, drawn[2]))
    ]
    for i, quarter in enumerate(names):
        wins = won[:, i]
        yield rows.count(piece, "won", "closed", wins.sum(), quarter)
        yield rows.count(piece, "lost", "closed", broad[:, i].sum() - wins.sum(), quarter)
        yield from (of[i] for of in rates)


def by_quarter(piece: Slice, frame: Columns, values: npt.ArrayLike | None = None) -> npt.NDArray[np.float64]:
    """Sum of `values` (default: rows) per unit and quarter."""
    width = len(piece.facts.quarters)
    cells = frame["unit"] * width + frame["quarter"]
    given = None if values is None else np.asarray(values, dtype=float)
    return np.bincount(cells, weights=given, minlength=piece.units * width).reshape(piece.units, width).astype(float)


def _cohort(piece: Slice, deals: Columns, horizon: int) -> Row:
    facts = piece.facts
    mature = deals["created_at"] <= (facts.as_of - pd.Timedelta(days=horizon)).to_datetime64()
    cohort = deals[mature & deals["created_in"]]
    note = f"won of all created in {facts.window} and at least {horizon} days ago, open ones in the denominator"
    nothing = f"nothing was created {horizon} days or more before {facts.as_of:%Y-%m-%d}"
    won = piece.total(cohort, cohort["won"])
    return rows.proportion(piece, "win_rate", "cohort", won, piece.total(cohort), note=note, nothing=nothing)


def _curve_rows(piece: Slice, deals: Columns, horizon: int) -> Iterator[Row]:
    """Probability of winning within the horizon, and median time to any close, open deals censored."""
    cohort, curve, draws = build_curve(piece)
    basis, undated = f"within_{horizon}d", int(np.isnat(deals["created_at"]).sum())
    if draws is None:
        reason = "no opportunity with a creation date in the window"
        yield rows.not_measured(piece, "win_rate", basis, "fraction", reason)
        yield rows.not_measured(piece, "cycle_days", "any_close_median", "days", reason)
        return
    n, units, minimum = len(cohort), len(np.unique(cohort["unit"])), piece.facts.settings.plan.minimum_n
    still_open = float((cohort["cause"] == 0).mean())
    undecided = float(value_at(curve.days, curve.survival, horizon, 1.0))
    cut_short = curve.days[-1] < horizon and undecided > STILL_OPEN
    note = rows.join(
        f"created in {piece.facts.window}; {still_open:.0%} open and censored",
        f"{undated} open without creation date left out" if undated else "",
        f"nobody was followed for {horizon} days: a lower bound" if cut_short else "",
        piece.facts.unplaced,
        "" if n >= minimum else f"n below {minimum}",
    )
    usable = n >= minimum and not cut_short and not piece.facts.unplaced
    won, drawn = float(value_at(curve.days, curve.incidence, horizon)), value_at(draws.days, draws.incidence, horizon)
    piece.memory["within"] = Figure(won, drawn, n if usable else 0)
    yield rows.incidence(
        piece,
        "win_rate",
        basis,
        won,
        drawn,
        n,
        units,
        status="ok" if usable else "insufficient",
        note=note,
    )
    median = float(first_day_at_or_below(curve.days, curve.survival, 0.5))
    drawn = first_day_at_or_below(draws.days, draws.survival, 0.5)
    never = "" if np.isfinite(median) else "fewer than half are closed by the longest time observed"
    yield rows.resampled(
        piece,
        "cycle_days",
        "any_close_median",
        median,
        drawn,
        unit="days",
        n=n,
        minimum=minimum,
        units=units,
        note=never,
    )


def _cycles(piece: Slice, closed: Columns) -> Iterator[Row]:
    """Median and upper quartile of created to won, among those won in the window."""
    won = closed[closed["won"] & ~np.isnan(closed["days"])]
    if not len(won):
        for basis in ("won_median", "won_p75"):
            yield rows.not_measured(piece, "cycle_days", basis, "days", "nothing won with both dates in the window")
        return
    days, minimum = won["days"], piece.facts.settings.plan.minimum_n
    families, ordered = len(np.unique(won["unit"])), order_draws(days, piece.weights[:, won["unit"]])
    for basis, share in (("won_median", 0.5), ("won_p75", 0.75)):
        draws = quantiles_of(ordered, share)
        note = f"won in {piece.facts.window}; won deals only, so it says nothing about deals that stay open"
        value = float(np.quantile(days, share))
        piece.memory[basis] = Figure(value, draws, len(won))
        yield rows.resampled(
            piece,
            "cycle_days",
            basis,
            value,
            draws,
            unit="days",
            n=len(won),
            minimum=minimum,
            units=families,
            note=note,
        )
