"""Reads won opportunities, subscriptions and spend of one level, makes ACV, CAC, payback, retention and LTV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.stats.resample import quantile_draws, trimmed_draws
from icplab.core.stats.survival import retention_curve
from icplab.performance import rows
from icplab.performance.facts import DAYS_PER_MONTH, Facts, Slice
from icplab.performance.rows import Row
from icplab.performance.winning import NO_DATES, by_quarter

TRIMMED = 0.10  # share of won deals dropped at either end
YEAR = pd.DateOffset(months=12)
MONEY_KPIS = (
    ("cac", "new_logo", "money"),
    ("cac", "blended", "money"),
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

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A statistic, its draws, its n and a note; `reason` says why there is none."""

    value: float = np.nan
    draws: Array | None = None
    n: float = 0
    note: str = ""
    reason: str = ""


def measure_money(piece: Slice) -> Iterator[Row]:
    """Rows of won_amount, acv, cac, payback_months, ltv, ltv_cac, grr, nrr and expansion of one level."""
    deals = piece.tables["opportunities"]
    won = deals[deals["won"] & piece.facts.inside(deals["closed_at"])]
    yield from _won_amount(piece, won)
    yield from _acv(piece, won)
    if not piece.facts.by_account:
        for kpi, basis, unit in MONEY_KPIS:
            yield rows.not_measured(piece, kpi, basis, unit, "the cut describes opportunities, not accounts")
        return
    yield from _acquisition(piece, won)
    yield from _retention(piece)


def _won_amount(piece: Slice, won: pd.DataFrame) -> Iterator[Row]:
    """Annual value won, by close date: a total of facts, so without interval."""
    everything = piece.facts.opportunities
    if not everything.loc[everything["won"], "acv"].notna().any():
        yield rows.not_measured(piece, "won_amount", "closed", "money", "no won opportunity has an amount", n=len(won))
        return
    blank = int(won["acv"].isna().sum())
    note = rows.join(f"closed in {piece.facts.window}", f"{blank} won without amount" if blank else "")
    yield rows.row(piece, "won_amount", "closed", float(won["acv"].sum()), unit="money", n=len(won), note=note)
    deals = piece.tables["opportunities"]
    deals = deals[deals["won"] & (deals["quarter"] >= 0)]
    sums, sizes = (by_quarter(piece, deals, v).sum(axis=0) for v in (deals["acv"].fillna(0.0), None))
    for i, quarter in enumerate(piece.facts.quarters):
        yield rows.row(piece, "won_amount", "closed", float(sums[i]), unit="money", n=sizes[i], period=quarter)


def _acv(piece: Slice, won: pd.DataFrame) -> Iterator[Row]:
    known = won[won["acv"].notna()]
    n, minimum = len(known), piece.facts.settings.plan.minimum_n_money
    if not n:
        for basis in ("mean", "median", "trimmed"):
            yield rows.not_measured(piece, "acv", basis, "money", "no won opportunity with an amount in the window")
        return
    values = known["acv"].to_numpy()
    top = values.max() / values.sum() if values.sum() > 0 else np.nan
    note = f"won in {piece.facts.window}; largest deal is {top:.0%} of the total"
    amounts, deals = piece.total(known, values), piece.total(known)
    yield rows.mean_ratio(piece, "acv", "mean", amounts, deals, unit="money", scale="log", n=n, note=note)
    weights = piece.weights[:, known["unit"].to_numpy()]
    draws = quantile_draws(values, weights, 0.5)
    value = float(np.median(values))
    yield rows.resampled(piece, "acv", "median", value, draws, unit="money", n=n, minimum=minimum)
    drop = int(TRIMMED * n + 1e-9)
    value = float(np.sort(values)[drop : n - drop].mean())
    note = f"without the largest and smallest {TRIMMED:.0%}"
    draws = trimmed_draws(values, weights, TRIMMED)
    yield rows.resampled(piece, "acv", "trimmed", value, draws, unit="money", n=n, minimum=minimum, note=note)


def _acquisition(piece: Slice, won: pd.DataFrame) -> Iterator[Row]:
    """CAC, payback, LTV and their ratio, from the same resamples."""
    cac, blended = _cac(piece, "new_logo"), _cac(piece, "blended")
    margin = _monthly_margin(piece, won)
    life = _life(piece)
    discounted = _ltv(piece, life, won)
    yield _as_row(piece, "cac", "new_logo", cac)
    yield _as_row(piece, "cac", "blended", blended)
    yield _as_row(piece, "payback_months", "simple", _payback(cac, margin))
    yield _as_row(piece, "payback_months", "survival", _payback_with_churn(piece, cac, margin, life))
    yield _as_row(piece, "ltv", "discounted", discounted)
    yield _as_row(piece, "ltv", "constant_churn", _ltv_constant(piece, life, won))
    yield _as_row(piece, "ltv_cac", "discounted", _over(discounted, cac))


def _as_row(piece: Slice, kpi: str, basis: str, figure: Figure) -> Row:
    unit = _UNITS[kpi, basis]
    if figure.reason or figure.draws is None:
        return rows.not_measured(piece, kpi, basis, unit, figure.reason, n=figure.n)
    minimum = piece.facts.settings.plan.minimum_n_money
    return rows.resampled(
        piece, kpi, basis, figure.value, figure.draws, unit=unit, n=figure.n, minimum=minimum, note=figure.note
    )


@dataclass(frozen=True)
class _Period:
    """Months of spend, and the days on which the customers they won may have closed."""

    spend: float
    first: pd.Timestamp
    last: pd.Timestamp
    lag: int


def _cac(piece: Slice, basis: str) -> Figure:
    """Cost of sales and marketing per customer won, lagged by the median cycle; shared by opportunities worked."""
    facts = piece.facts
    if reason := _no_spend(facts):
        return Figure(reason=reason)
    if "period" not in facts.memory:
        facts.memory["period"] = spend_period(facts)
    period = facts.memory["period"]
    if period is None:
        return Figure(reason="spend does not reach back one cycle before the customers won")
    worked, share_draws = _worked_in_all(facts, period, basis)
    deals = piece.tables["opportunities"]
    here = deals[_worked(deals, facts, period, basis)]
    closing = deals["closed_at"].between(period.first, period.last) & deals["won"]
    won = deals[closing & (deals["new_logo"] if basis == "new_logo" else True)]
    if not len(won) or not worked:
        return Figure(reason="no customer won in the months that the spend covers", n=len(won))
    share = len(here) / worked
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = piece.drawn(piece.total(here)) / share_draws if piece.level != "all" else 1.0
        draws = period.spend * drawn / piece.drawn(piece.total(won))
    what = "customers won for the first time" if basis == "new_logo" else "won opportunities, expansions too"
    note = f"{what} {period.first:%Y-%m-%d} to {period.last:%Y-%m-%d} against spend {period.lag} days earlier" + (
        "" if piece.level == "all" else "; shared by opportunities worked"
    )
    return Figure(period.spend * share / len(won), np.asarray(draws), len(won), note)


def spend_period(facts: Facts) -> _Period | None:
    """The longest stretch in which months of spend and, one median cycle later, wins are both known."""
    deals, spend = facts.opportunities, facts.spend
    cycles = deals.loc[deals["won"] & deals["new_logo"], "days"].dropna()
    if not len(cycles):
        return None
    lag = int(np.median(cycles))
    shift = pd.Timedelta(days=lag)
    ends = spend["month"] + pd.offsets.MonthEnd(0)
    inside = (ends + shift <= facts.as_of) & (True if facts.start is None else spend["month"] + shift > facts.start)
    if not inside.any():
        return None
    first, last = spend.loc[inside, "month"].min() + shift, ends[inside].max() + shift
    return _Period(float(spend.loc[inside, "amount"].sum()), first, last, lag)


def _no_spend(facts: Facts) -> str:
    if not facts.settings.dated:
        return NO_DATES
    if not len(facts.spend):
        return "there is no spend table"
    return facts.unmeasured.get("spend", "") or _missing_months(facts.spend["month"])


def _missing_months(month: pd.Series) -> str:
    """Why spend with holes measures no cost of a customer: the months without any, between the first and the last."""
    months = month.dt.to_period("M")
    missing = pd.period_range(months.min(), months.max(), freq="M").difference(months.unique())
    return f"no cost is given for {', '.join(map(str, missing[:6]))}" if len(missing) else ""


def _worked(deals: pd.DataFrame, facts: Facts, period: _Period, basis: str) -> pd.Series:
    """Opportunities that the spend was for: created in its months, new business only unless blended."""
    shift = pd.Timedelta(days=period.lag)
    created = deals["created_at"].between(period.first - shift, period.last - shift)
    return created & (deals["new"] if basis == "new_logo" else True)


def _worked_in_all(facts: Facts, period: _Period, basis: str) -> tuple[int, Array]:
    """Opportunities of all levels that the spend was for, and the same in each resample."""
    if basis not in facts.memory:
        deals = facts.opportunities
        worked = deals.loc[_worked(deals, facts, period, basis), "unit"]
        counts = np.bincount(worked, minlength=facts.weights.shape[1]).astype(np.float32)
        facts.memory[basis] = len(worked), (facts.weights @ counts).astype(float)
    return facts.memory[basis]


def _monthly_margin(piece: Slice, won: pd.DataFrame) -> Figure:
    """Gross margin that a new customer brings per month: annual value x margin / 12."""
    logos = won[won["new_logo"] & won["acv"].notna()]
    if not len(logos):
        return Figure(reason="no new customer with an amount in the window")
    if logos["margin_rate"].isna().any():
        return Figure(reason="gross margin is not known for every new customer", n=len(logos))
    margin, heads = piece.total(logos, logos["acv"] * logos["margin_rate"] / 12), piece.total(logos)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = piece.drawn(margin) / piece.drawn(heads)
    return Figure(float(margin.sum() / heads.sum()), draws, len(logos))


def _payback(cac: Figure, margin: Figure) -> Figure:
    figure = _over(cac, margin)
    return Figure(figure.value, figure.draws, figure.n, "no churn assumed", figure.reason)


def _over(above: Figure, below: Figure) -> Figure:
    """Ratio of two figures from the same resamples."""
    if above.draws is None or below.draws is None:
        return Figure(reason=above.reason or below.reason, n=min(above.n, below.n))
    if not below.value > 0:
        return Figure(reason="the denominator is not positive", n=min(above.n, below.n))
    with np.errstate(divide="ignore", invalid="ignore"):
        return Figure(above.value / below.value, above.draws / below.draws, min(above.n, below.n))


@dataclass(frozen=True)
class _Life:
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


def _no_subscriptions(facts: Facts) -> str:
    if not len(facts.subscriptions):
        return "there is no subscriptions table"
    return facts.unmeasured.get("subscriptions", "")


def _life(piece: Slice) -> _Life:
    """Retention curve of the level: months of life lived and ended, per family, fitted in each resample."""
    facts, subscriptions = piece.facts, piece.tables["subscriptions"]
    nothing = np.zeros(0)
    reason = _no_subscriptions(facts) or ("" if len(subscriptions) else "no subscription at this level")
    if reason:
        return _Life(nothing, nothing, nothing, nothing, nothing, nothing, 0, np.nan, reason)
    months = facts.settings.economics.ltv_months
    by_account = subscriptions.groupby("account")
    lives = pd.DataFrame({"unit": by_account["unit"].first(), "started_at": by_account["started_at"].min()})
    running = subscriptions["ended_at"].isna() | (subscriptions["ended_at"] > facts.as_of)
    active = running.groupby(subscriptions["account"]).any()
    ended = by_account["ended_at"].max().where(~active, facts.as_of)
    lived = ((ended - lives["started_at"]).dt.days / DAYS_PER_MONTH).clip(lower=0)
    whole = np.minimum(np.floor(lived).astype(int), months).to_numpy()
    last = max(int(min(whole.max() + 1, months)), 1)
    churned, exposed = _life_table(whole, (~active).to_numpy(), lives["unit"].to_numpy(), piece.units, last)
    now = subscriptions[running]
    margin = _margin(piece, now)
    curve = retention_curve(churned.sum(axis=0), exposed.sum(axis=0), months)
    return _Life(
        curve.kept,
        retention_curve(piece.weights @ churned, piece.weights @ exposed, months, near=curve).kept,
        churned.sum(axis=1),
        exposed.sum(axis=1),
        piece.total(now, now["mrr"]),
        np.bincount(lives["unit"][active], minlength=piece.units).astype(float),
        int(active.sum()),
        margin,
    )


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


def _margin(piece: Slice, now: pd.DataFrame) -> float:
    """Gross margin of recurring revenue: its own, else of what the level has won, by value."""
    own = now[now["gross_margin"].notna() & (now["mrr"] > 0)]
    if len(own) and len(own) == len(now):
        return float(np.average(own["gross_margin"], weights=own["mrr"]))
    deals = piece.facts.opportunities
    won = deals[deals["won"] & (deals["acv"] > 0) & deals["margin_rate"].notna()]
    here = piece.tables["opportunities"]
    here = here[here["won"] & (here["acv"] > 0) & here["margin_rate"].notna()]
    known = here if len(here) else won
    return float(np.average(known["margin_rate"], weights=known["acv"])) if len(known) else np.nan


def _no_value(life: _Life) -> str:
    if life.reason:
        return life.reason
    if not life.customers or life.mrr.sum() <= 0:
        return "no customer with recurring revenue now"
    return "" if np.isfinite(life.margin) else "gross margin is not known"


def _ltv(piece: Slice, life: _Life, won: pd.DataFrame) -> Figure:
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
    return Figure(value, draws, life.customers, note)


def _ltv_constant(piece: Slice, life: _Life, won: pd.DataFrame) -> Figure:
    """Revenue x margin / monthly churn: the common heuristic, kept beside the curve for comparison."""
    if reason := _no_value(life):
        return Figure(reason=reason, n=life.customers)
    if not life.churned.sum():
        return Figure(reason="nobody has left yet, so a constant churn cannot be told", n=life.customers)
    with np.errstate(divide="ignore", invalid="ignore"):
        revenue = piece.drawn(life.mrr) / piece.drawn(life.heads)
        draws = revenue * life.margin * piece.drawn(life.exposed) / piece.drawn(life.churned)
    value = life.mrr.sum() / life.heads.sum() * life.margin * life.exposed.sum() / life.churned.sum()
    return Figure(value, draws, life.customers, "heuristic: constant churn, no cap, not discounted")


def _payback_with_churn(piece: Slice, cac: Figure, margin: Figure, life: _Life) -> Figure:
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


def _retention(piece: Slice) -> Iterator[Row]:
    """GRR, NRR and expansion over twelve months, customers of a year ago, by family."""
    facts, subscriptions = piece.facts, piece.tables["subscriptions"]
    before = facts.as_of - YEAR
    reason = _no_subscriptions(facts)
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


def _mrr_on(piece: Slice, subscriptions: pd.DataFrame, day: pd.Timestamp) -> Array:
    """Monthly recurring revenue in force at the end of a day, per family."""
    running = (subscriptions["started_at"] <= day) & ~(subscriptions["ended_at"] <= day)
    return piece.total(subscriptions[running], subscriptions.loc[running, "mrr"])
