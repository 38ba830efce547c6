"""Reads subscriptions of one level, makes its retention curve, lifetime value and payback among those who stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from icplab.core.stats.intervals import LEVEL
from icplab.core.stats.resample import degrees_of_freedom
from icplab.core.stats.survival import retention_curve
from icplab.performance.columns import Columns
from icplab.performance.facts import DAYS_PER_MONTH, Facts, Slice
from icplab.performance.figures import Array, Figure


@dataclass(frozen=True)
class Life:
    """Retention of customers by month of life, with resamples, and recurring revenue of those there now."""

    kept: Array
    kept_draws: Array
    churned: Array
    exposed: Array
    mrr: Array
    heads: Array
    customers: int
    margin: float
    reason: str = ""


def no_subscriptions(facts: Facts) -> str:
    if not len(facts.subscriptions):
        return "there is no subscriptions table"
    return facts.unmeasured.get("subscriptions", "")


def life_of(piece: Slice) -> Life:
    """Retention curve of the level: months of life lived and ended, per family, fitted in each resample."""
    facts, subscriptions = piece.facts, piece.tables["subscriptions"]
    nothing = np.zeros(0)
    reason = no_subscriptions(facts) or ("" if len(subscriptions) else "no subscription at this level")
    if reason:
        return Life(nothing, nothing, nothing, nothing, nothing, nothing, 0, np.nan, reason)
    months = facts.settings.economics.ltv_months
    today = facts.as_of.to_datetime64()
    running = np.isnat(subscriptions["ended_at"]) | (subscriptions["ended_at"] > today)
    units, days, active = _lives(subscriptions, running, today)
    whole = np.minimum(np.floor((days / DAYS_PER_MONTH).clip(min=0)).astype(int), months)
    last = max(int(min(whole.max() + 1, months)), 1)
    churned, exposed = _life_table(whole, ~active, units, piece.units, last)
    now = subscriptions[running]
    margin = _margin(piece, now)
    curve = retention_curve(churned.sum(axis=0), exposed.sum(axis=0), months)
    return Life(
        curve.kept,
        retention_curve(piece.weights @ churned, piece.weights @ exposed, months, near=curve).kept,
        churned.sum(axis=1),
        exposed.sum(axis=1),
        piece.total(now, now["mrr"]),
        np.bincount(units[active], minlength=piece.units).astype(float),
        int(active.sum()),
        margin,
    )


def _lives(
    subscriptions: Columns, running: npt.NDArray[np.bool_], today: np.datetime64
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Unit, whole days from first start to last end, and whether still there, of each account in the order of numbers."""
    order = np.argsort(subscriptions["account"], kind="stable")
    _, first = np.unique(subscriptions["account"][order], return_index=True)
    active = np.logical_or.reduceat(running[order], first)
    started = np.fmin.reduceat(subscriptions["started_at"][order], first)
    ended = np.where(active, today, np.fmax.reduceat(subscriptions["ended_at"][order], first))
    return subscriptions["unit"][order][first], (ended - started) // np.timedelta64(1, "D"), active


def _life_table(
    whole: npt.NDArray[np.int64], left: npt.NDArray[np.bool_], units: npt.NDArray[np.int64], n_units: int, last: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Customers who left in, and who were there through or left in, each month of life, per family."""
    month = np.arange(last)
    leaves = left[:, None] & (month == whole[:, None])
    there = (month < whole[:, None]) | leaves
    churned, exposed = np.zeros((n_units, last), np.float32), np.zeros((n_units, last), np.float32)
    np.add.at(churned, units, leaves)
    np.add.at(exposed, units, there)
    return churned, exposed


def _margin(piece: Slice, now: Columns) -> float:
    """Gross margin of recurring revenue: its own, else of what the level has won, by value."""
    own = now[~np.isnan(now["gross_margin"]) & (now["mrr"] > 0)]
    if len(own) and len(own) == len(now):
        return float(np.average(own["gross_margin"], weights=own["mrr"]))
    known = _won_with_margin(piece.tables["opportunities"])
    known = known if len(known) else _won_with_margin(piece.facts.whole("opportunities"))
    return float(np.average(known["margin_rate"], weights=known["acv"])) if len(known) else np.nan


def _won_with_margin(deals: Columns) -> Columns:
    return deals[deals["won"] & (deals["acv"] > 0) & ~np.isnan(deals["margin_rate"])]


def _no_value(life: Life) -> str:
    if life.reason:
        return life.reason
    if not life.customers or life.mrr.sum() <= 0:
        return "no customer with recurring revenue now"
    return "" if np.isfinite(life.margin) else "gross margin is not known"


def discounted_value(piece: Slice, life: Life) -> Figure:
    """Expected gross margin of a customer over the cap, discounted: sum of kept x revenue x margin / (1+d)^(m/12)."""
    if reason := _no_value(life):
        return Figure(reason=reason, n=life.customers)
    economics = piece.facts.settings.economics
    discount = (1 + economics.discount_rate) ** (-np.arange(1, economics.ltv_months + 1) / 12)
    with np.errstate(divide="ignore", invalid="ignore"):
        revenue = piece.drawn(life.mrr) / piece.drawn(life.heads)
    value = life.mrr.sum() / life.heads.sum() * life.margin * float(life.kept[1:] @ discount)
    draws = revenue * life.margin * (life.kept_draws[:, 1:] @ discount)
    note = f"{economics.ltv_months} months, discounted {economics.discount_rate:.0%} a year, margin {life.margin:.0%}"
    return Figure(value, draws, life.customers, note, units=_telling(life))


def _telling(life: Life) -> float:
    """Families of equal revenue that would know as much of the mean revenue as these."""
    gap = life.mrr - life.mrr.sum() / life.heads.sum() * life.heads
    freedom = degrees_of_freedom(gap)
    return 0.0 if np.isnan(freedom) else freedom + 1


def constant_churn(piece: Slice, life: Life) -> Figure:
    """Revenue x margin / monthly churn: the common heuristic, kept beside the curve for comparison."""
    if reason := _no_value(life):
        return Figure(reason=reason, n=life.customers)
    if not life.churned.sum():
        return Figure(reason=_nobody_left(life), n=life.customers)
    with np.errstate(divide="ignore", invalid="ignore"):
        revenue = piece.drawn(life.mrr) / piece.drawn(life.heads)
        draws = revenue * life.margin * piece.drawn(life.exposed) / piece.drawn(life.churned)
    value = life.mrr.sum() / life.heads.sum() * life.margin * life.exposed.sum() / life.churned.sum()
    return Figure(
        value, draws, life.customers, "heuristic: constant churn, no cap, not discounted", units=_telling(life)
    )


def _nobody_left(life: Life) -> str:
    """Churn of 0 makes no value infinite: what the months lived still rule out bounds it from below."""
    lived = float(life.exposed.sum())
    most = 1 - ((1 - LEVEL) / 2) ** (1 / lived) if lived else 1.0
    least = life.mrr.sum() / life.heads.sum() * life.margin / most
    return f"nobody has left yet in {lived:,.0f} customer months: churn is below {most:.1%} a month, the value above {least:,.0f}"


def payback_with_churn(piece: Slice, cac: Figure, margin: Figure, life: Life) -> Figure:
    """First month by which the margin of those still there has paid the cost."""
    if cac.draws is None or margin.draws is None:
        return Figure(reason=cac.reason or margin.reason, n=min(cac.n, margin.n))
    if life.reason:
        return Figure(reason=life.reason, n=min(cac.n, margin.n))
    paid = np.cumsum(life.kept[1:]) * margin.value >= cac.value
    drawn = np.cumsum(life.kept_draws[:, 1:], axis=1) * margin.draws[:, None] >= cac.draws[:, None]
    n, months = min(cac.n, margin.n), piece.facts.settings.economics.ltv_months
    if not paid.any():
        return Figure(reason=f"not paid back within {months} months", n=n)
    # A resample that never pays back counts as one month beyond the cap.
    draws = np.where(drawn.any(axis=1), np.argmax(drawn, axis=1) + 1.0, months + 1.0)
    return Figure(float(np.argmax(paid) + 1), draws, n, "only those who stay pay")
