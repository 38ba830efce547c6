"""Reads spend and won opportunities of one level, makes what a customer costs, under three ways of sharing costs out.

Costs that name a level are its own; what is left is shared. Sharing by customers won or by revenue would be circular, so
it is not offered: by opportunities worked (the default), by accounts worked, and by what sellers did.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.performance.columns import Columns
from icplab.performance.drivers import Period, sums_of, sums_of_all
from icplab.performance.facts import Facts, Slice
from icplab.performance.figures import Array, Figure, over
from icplab.performance.rows import ALL
from icplab.performance.winning import NO_DATES

ALLOCATIONS = {"new_logo": "opportunities", "new_logo_by_accounts": "accounts", "new_logo_by_activity": "activity"}
MATERIAL = 0.20  # an order of two levels that changes with the allocation counts from this difference on, either way
# What is added up for an allocation, by whether it is for new customers only.
DRIVERS = {
    ("opportunities", True): "worked_new",
    ("opportunities", False): "worked_all",
    ("accounts", True): "accounts_new",
    ("activity", True): "effort_spent",
}
# Columns of spend that name the level of a cut, so that its rows are direct costs.
DIRECT = {"segment": "segment", "source": "channel"}


def cac(piece: Slice, basis: str) -> Figure:
    """Cost of sales and marketing per customer won, the spend one median cycle earlier.

    `basis` is `new_logo` (customers won for the first time, shared by opportunities worked), `new_logo_by_accounts`,
    `new_logo_by_activity` (the same, shared otherwise) or `blended` (every won opportunity).
    """
    facts, first_time = piece.facts, basis != "blended"
    if reason := no_spend(facts):
        return Figure(reason=reason)
    period = known_period(facts)
    if period is None:
        return Figure(reason="spend does not reach back one cycle before the customers won")
    won, heads = _won_in(piece, period, first_time)
    if not len(won):
        return Figure(reason="no customer won in the months that the spend covers", n=len(won))
    cost = cost_of(piece, ALLOCATIONS.get(basis, "opportunities"), first_time=first_time)
    if cost.draws is None:
        return Figure(reason=cost.reason, n=len(won))
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = cost.draws / heads
    what = "customers won for the first time" if first_time else "won opportunities, expansions too"
    note = f"{what} {period.first:%Y-%m-%d} to {period.last:%Y-%m-%d} against spend {period.lag} days earlier"
    return Figure(cost.value / len(won), draws, len(won), f"{note}; {cost.note}" if cost.note else note)


def _won_in(piece: Slice, period: Period, first_time: bool) -> tuple[Columns, Array]:
    """Customers (or opportunities) that the spend won, and how many in each resample."""
    key = f"won {first_time}"
    if key not in piece.memory:
        deals = piece.tables["opportunities"]
        inside = (deals["closed_at"] >= period.first.to_datetime64()) & (
            deals["closed_at"] <= period.last.to_datetime64()
        )
        won = deals[inside & deals["won"] & (deals["new_logo"] if first_time else True)]
        piece.memory[key] = won, piece.drawn(piece.total(won))
    return piece.memory[key]


def cost_of(piece: Slice, allocation: str, *, first_time: bool = True) -> Figure:
    """Spend of a level: what names it, and its share of the rest; draws from the same resamples as its customers."""
    facts = piece.facts
    period = known_period(facts)
    if period is None:
        return Figure(reason="spend does not reach back one cycle before the customers won")
    ones = np.ones(len(piece.weights))
    if piece.cut == ALL:
        return Figure(period.spend, period.spend * ones)
    direct, named = _direct(piece, period)
    driver = DRIVERS[allocation, first_time]
    here, everywhere = sums_of(piece, period)[driver], sums_of_all(facts, period)[driver]
    if not everywhere.value:
        return Figure(reason=f"no {_WORDS[allocation]} in the months that the spend covers")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = here.drawn / everywhere.drawn
    shared = period.spend - named
    note = f"shared by {_WORDS[allocation]}" + (
        f"; {direct / period.spend:.0%} of all spend names it" if direct else ""
    )
    return Figure(direct + shared * here.value / everywhere.value, direct + shared * share, here.n, note)


def known_period(facts: Facts) -> Period | None:
    """`spend_period`, worked out once."""
    if "period" not in facts.common:
        facts.common["period"] = None if no_spend(facts) else spend_period(facts)
    return facts.common["period"]


def spend_period(facts: Facts) -> Period | None:
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
    return Period(float(spend.loc[inside, "amount"].sum()), first, last, lag)


def no_spend(facts: Facts) -> str:
    """Why spend measures no cost of a customer; empty where it does."""
    if "no_spend" not in facts.common:
        facts.common["no_spend"] = _why_no_spend(facts)
    return facts.common["no_spend"]


def monthly_margin(piece: Slice, won: Columns) -> Figure:
    """Gross margin that a new customer brings per month: annual value x margin / 12."""
    logos = won[won["new_logo"] & ~np.isnan(won["acv"])]
    if not len(logos):
        return Figure(reason="no new customer with an amount in the window")
    if np.isnan(logos["margin_rate"]).any():
        return Figure(reason="gross margin is not known for every new customer", n=len(logos))
    margin, heads = piece.total(logos, logos["acv"] * logos["margin_rate"] / 12), piece.total(logos)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = piece.drawn(margin) / piece.drawn(heads)
    return Figure(float(margin.sum() / heads.sum()), draws, len(logos))


def payback(cost: Figure, margin: Figure) -> Figure:
    """Months until the margin of a customer has paid what it cost, if nobody left."""
    figure = over(cost, margin)
    return Figure(figure.value, figure.draws, figure.n, "no churn assumed", figure.reason)


def compare_allocations(kpis: pd.DataFrame) -> pd.DataFrame:
    """CAC of each level under every allocation, and whether the order of the levels depends on it.

    Parameters
    ----------
    kpis : DataFrame
        Rows of `measure_kpis` of any cuts.

    Returns
    -------
    DataFrame
        `cut, level, n, new_logo, new_logo_by_accounts, new_logo_by_activity, low, high` (the band: smallest and largest of the three),
        `status`, `allocation_dependent`: this level changes places with another one of status ok, and the two differ by
        more than a fifth either way.
    """
    rows = kpis[(kpis["kpi"] == "cac") & (kpis["period"] == "all") & kpis["basis"].isin(list(ALLOCATIONS))]
    rows = rows[(rows["cut"] != "all") & rows["value"].notna()]
    if not len(rows):
        names = ["cut", "level", "n", *ALLOCATIONS, "low", "high", "status", "allocation_dependent"]
        return pd.DataFrame(
            {c: pd.Series([], dtype="str" if c in ("cut", "level", "status") else "float64") for c in names}
        )
    keys = ["cut", "level"]
    wide = rows.pivot(index=keys, columns="basis", values="value").reindex(columns=list(ALLOCATIONS))
    default = rows[rows["basis"] == "new_logo"].set_index(keys)[["n", "status"]]
    wide = wide.join(default).assign(low=wide.min(axis=1), high=wide.max(axis=1))
    moves = [_changes_places(part) for _, part in wide.groupby(level="cut", sort=True)]
    wide = wide.sort_index().assign(allocation_dependent=np.concatenate(moves)).reset_index()
    return wide[[*keys, "n", *ALLOCATIONS, "low", "high", "status", "allocation_dependent"]].rename_axis(columns=None)


_WORDS = {
    "opportunities": "opportunities worked",
    "accounts": "accounts worked",
    "activity": "what sellers did",
}


def _changes_places(part: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each level of a cut is dearer than another one by one allocation and cheaper by another."""
    logs = np.log(part.sort_index()[list(ALLOCATIONS)].to_numpy())
    gaps = logs[:, None] - logs[None]  # level x level x allocation
    with np.errstate(invalid="ignore"):
        dearer, cheaper = (gaps > np.log1p(MATERIAL)).any(axis=2), (gaps < -np.log1p(MATERIAL)).any(axis=2)
    usable = (part.sort_index()["status"] == "ok").to_numpy()
    return (dearer & cheaper & usable[:, None] & usable[None]).any(axis=1)


def _direct(piece: Slice, period: Period) -> tuple[float, float]:
    """Spend of the period that names this level, and that names any level of the cut."""
    column = DIRECT.get(piece.cut, "")
    if not column:
        return 0.0, 0.0
    spend = piece.facts.spend
    months = spend["month"].between(period.spent_from, period.spent_to)
    named = spend[months & spend[column].isin(piece.facts.levels)]
    return float(named.loc[named[column] == piece.level, "amount"].sum()), float(named["amount"].sum())


def _why_no_spend(facts: Facts) -> str:
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
