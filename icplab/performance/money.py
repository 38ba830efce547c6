"""Reads won opportunities, subscriptions and spend of one level, makes its money figures: ACV, CAC, payback, LTV, retention."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from icplab.core.stats.resample import order_draws, quantiles_of, trimmed_of
from icplab.performance import rows
from icplab.performance.columns import Columns
from icplab.performance.cost import ALLOCATIONS, cac, monthly_margin, payback
from icplab.performance.facts import Slice
from icplab.performance.figures import Array, Figure, as_row, over
from icplab.performance.lifetime import constant_churn, discounted_value, life_of, no_subscriptions, payback_with_churn
from icplab.performance.rows import Row
from icplab.performance.winning import by_quarter

TRIMMED = 0.10  # share of won deals dropped at either end
YEAR = pd.DateOffset(months=12)
MONEY_KPIS = (
    *(("cac", basis, "money") for basis in (*ALLOCATIONS, "blended")),
    ("payback_months", "simple", "months"),
    ("payback_months", "survival", "months"),
    ("ltv", "discounted", "money"),
    ("ltv", "constant_churn", "money"),
    ("ltv_cac", "discounted", "ratio"),
    ("grr", "12m", "fraction"),
    ("nrr", "12m", "fraction"),
    ("expansion", "12m", "fraction"),
)
_UNITS = {(kpi, basis): unit for kpi, basis, unit in MONEY_KPIS}


def measure_money(piece: Slice) -> Iterator[Row]:
    """Rows of won_amount, acv, cac, payback_months, ltv, ltv_cac, grr, nrr and expansion of one level."""
    deals = piece.tables["opportunities"]
    won = deals[deals["won"] & deals["closed_in"]]
    yield from measure_won(piece)
    if not piece.facts.by_account:
        # Spend is shared by opportunities, so the cost of a customer can be told; what accounts are worth cannot.
        yield as_row(piece, "cac", "new_logo", cac(piece, "new_logo"), "money")
        for kpi, basis, unit in MONEY_KPIS[1:]:
            yield rows.not_measured(piece, kpi, basis, unit, "the cut describes opportunities, not accounts")
        return
    yield from _acquisition(piece, won)
    yield from _retention(piece)


def measure_won(piece: Slice) -> Iterator[Row]:
    """Rows of won_amount and acv: what the won opportunities of a level bring."""
    deals = piece.tables["opportunities"]
    yield from _won_amount(piece, deals[deals["won"] & deals["closed_in"]])
    yield from measure_acv(piece)


def _won_amount(piece: Slice, won: Columns) -> Iterator[Row]:
    """Annual value won, by close date: a total of facts, so without interval."""
    everything = piece.facts.whole("opportunities")
    if np.isnan(everything["acv"][everything["won"]]).all():
        yield rows.not_measured(piece, "won_amount", "closed", "money", "no won opportunity has an amount", n=len(won))
        return
    blank = int(np.isnan(won["acv"]).sum())
    note = rows.join(f"closed in {piece.facts.window}", f"{blank} won without amount" if blank else "")
    yield rows.row(piece, "won_amount", "closed", float(np.nansum(won["acv"])), unit="money", n=len(won), note=note)
    deals = piece.tables["opportunities"]
    deals = deals[deals["won"] & (deals["quarter"] >= 0)]
    sums, sizes = (by_quarter(piece, deals, v).sum(axis=0) for v in (np.nan_to_num(deals["acv"]), None))
    for i, quarter in enumerate(piece.facts.quarters):
        yield rows.row(piece, "won_amount", "closed", float(sums[i]), unit="money", n=sizes[i], period=quarter)


def measure_acv(piece: Slice) -> Iterator[Row]:
    """Mean, median and trimmed mean of the annual value of won opportunities."""
    deals = piece.tables["opportunities"]
    known = deals[deals["won"] & deals["closed_in"] & ~np.isnan(deals["acv"])]
    n, minimum = len(known), piece.facts.settings.plan.minimum_n_money
    if not n:
        for basis in ("mean", "median", "trimmed"):
            yield rows.not_measured(piece, "acv", basis, "money", "no won opportunity with an amount in the window")
        return
    values = known["acv"]
    top = values.max() / values.sum() if values.sum() > 0 else np.nan
    note = f"won in {piece.facts.window}; largest deal is {top:.0%} of the total"
    amounts, heads = piece.total(known, values), piece.total(known)
    with np.errstate(divide="ignore", invalid="ignore"):
        piece.memory["acv"] = Figure(float(values.mean()), piece.drawn(amounts) / piece.drawn(heads), n)
    yield rows.mean_ratio(piece, "acv", "mean", amounts, heads, unit="money", scale="log", n=n, note=note)
    drawn = order_draws(values, piece.weights[:, known["unit"]])
    draws = quantiles_of(drawn, 0.5)
    value = float(np.median(values))
    yield rows.resampled(piece, "acv", "median", value, draws, unit="money", n=n, minimum=minimum)
    drop = int(TRIMMED * n + 1e-9)
    value = float(np.sort(values)[drop : n - drop].mean())
    note = f"without the largest and smallest {TRIMMED:.0%}"
    draws = trimmed_of(drawn, TRIMMED)
    yield rows.resampled(piece, "acv", "trimmed", value, draws, unit="money", n=n, minimum=minimum, note=note)


def _acquisition(piece: Slice, won: Columns) -> Iterator[Row]:
    """CAC, payback, LTV and their ratio, from the same resamples."""
    costs = {basis: cac(piece, basis) for basis in (*ALLOCATIONS, "blended")}
    if piece.cut == rows.ALL:  # nothing is shared out, so there is one figure
        costs = {b: c for b, c in costs.items() if b in ("new_logo", "blended")}
    cost, margin, life = costs["new_logo"], monthly_margin(piece, won), life_of(piece)
    discounted = discounted_value(piece, life)
    named: list[tuple[str, str, Figure]] = [("cac", basis, figure) for basis, figure in costs.items()]
    named += [
        ("payback_months", "simple", payback(cost, margin)),
        ("payback_months", "survival", payback_with_churn(piece, cost, margin, life)),
        ("ltv", "discounted", discounted),
        ("ltv", "constant_churn", constant_churn(piece, life)),
        ("ltv_cac", "discounted", over(discounted, cost)),
    ]
    for kpi, basis, figure in named:
        yield as_row(piece, kpi, basis, figure, _UNITS[kpi, basis])


def _retention(piece: Slice) -> Iterator[Row]:
    """GRR, NRR and expansion over twelve months, customers of a year ago, by family."""
    facts, subscriptions = piece.facts, piece.tables["subscriptions"]
    before = facts.as_of - YEAR
    reason = no_subscriptions(facts)
    then = _mrr_on(piece, subscriptions, before)
    n = int((then > 0).sum())
    if reason or not n:
        for kpi in ("grr", "nrr", "expansion"):
            why = reason or f"no subscription was running on {before:%Y-%m-%d}"
            yield rows.not_measured(piece, kpi, "12m", "fraction", why)
        return
    now = np.where(then > 0, _mrr_on(piece, subscriptions, facts.as_of), 0.0)
    note = f"families with recurring revenue on {before:%Y-%m-%d}, now {facts.as_of:%Y-%m-%d}"
    for kpi, above, scale in (
        ("grr", np.minimum(now, then), "logit"),
        ("nrr", now, "log"),
        ("expansion", np.maximum(now - then, 0), "log"),
    ):
        yield rows.mean_ratio(piece, kpi, "12m", above, then, unit="fraction", scale=scale, n=n, note=note)


def _mrr_on(piece: Slice, subscriptions: Columns, day: pd.Timestamp) -> Array:
    """Monthly recurring revenue in force at the end of a day, per family."""
    until = day.to_datetime64()
    running = subscriptions[(subscriptions["started_at"] <= until) & ~(subscriptions["ended_at"] <= until)]
    return piece.total(running, running["mrr"])
