"""Reads a recipe and its classes, makes the draws of one market as arrays: accounts, opportunities, subscriptions."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.simulate.latent import MARGINS, T4_SCALE, Classes
from icplab.simulate.recipe import REFERRAL, Planted, Recipe

REGIONS = 5
ACCOUNTS_PER_SELLER = 250
REVENUE_BASE = np.log(150_000.0)  # shifts log revenue to money; says nothing about anyone
DAYS_PER_MONTH = 365.25 / 12
STAR_INDUSTRY = 7  # index of the industry that the star seller owns


class Streams:
    """One random stream per named part, so that changing one part leaves the draws of the others alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, part: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(part.encode())])


@dataclass(frozen=True)
class Clock:
    """Days counted from the first day of history; `last` is `as_of`."""

    start: pd.Timestamp
    last: int
    drift: int
    """First day on which late parameters hold."""

    @classmethod
    def of(cls, recipe: Recipe) -> Clock:
        as_of = pd.Timestamp(recipe.as_of).normalize()
        start = as_of + pd.Timedelta(days=1) - pd.DateOffset(months=recipe.months)
        drift = (start + pd.DateOffset(months=recipe.drift_month) - start).days
        return cls(start, (as_of - start).days, drift)

    def dates(self, days: np.ndarray, missing: np.ndarray | None = None) -> pd.Series:
        """Midnight timestamps of day numbers; `missing` marks what has no date."""
        whole = self.start.to_datetime64().astype("datetime64[D]") + np.asarray(days).astype("timedelta64[D]")
        dates = pd.Series(whole.astype("datetime64[us]"))
        return dates if missing is None else dates.mask(pd.Series(missing))

    def month(self, days: np.ndarray) -> np.ndarray:
        """Months since the first month of history, of day numbers."""
        return self._months(days) - (self.start.year * 12 + self.start.month - 1)

    def quarter(self, days: np.ndarray) -> np.ndarray:
        """Calendar quarters since the first quarter of history, of day numbers."""
        return self._months(days) // 3 - (self.start.year * 12 + self.start.month - 1) // 3

    def _months(self, days: np.ndarray) -> np.ndarray:
        whole = self.start.to_datetime64().astype("datetime64[D]") + np.asarray(days).astype("timedelta64[D]")
        return whole.astype("datetime64[M]").astype(int) + 1970 * 12


@dataclass(frozen=True)
class Accounts:
    """Draws per account. `missing` holds, per visible column, which values are blank in the export."""

    cls: np.ndarray
    employees: np.ndarray
    revenue: np.ndarray
    industry: np.ndarray
    need: np.ndarray
    region: np.ndarray
    founded: np.ndarray
    tools: np.ndarray
    codes: np.ndarray
    """Level of each planted column (accounts x columns)."""
    numbers: np.ndarray
    source: np.ndarray
    owner: np.ndarray
    created: np.ndarray
    worked: np.ndarray
    partner: np.ndarray
    contacts: np.ndarray
    churn: np.ndarray
    """Monthly churn probability of the account."""
    opportunities: np.ndarray
    parent: np.ndarray
    """Index of the parent account; -1 without one."""
    family_odds: np.ndarray
    """Log odds shared within the account's family; 0 outside of families."""
    in_family: np.ndarray
    missing: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.cls)


@dataclass(frozen=True)
class Opportunities:
    """Draws per opportunity, oldest first; days count from the start of history."""

    account: np.ndarray
    created: np.ndarray
    closed: np.ndarray
    """Day it closes, also when that lies after the as-of date."""
    won: np.ndarray
    """Whether it is won in the end."""
    expansion: np.ndarray
    acv: np.ndarray
    product: np.ndarray
    urgency: np.ndarray
    is_closed: np.ndarray
    """Closed on or before the as-of date."""
    intercept: float

    def __len__(self) -> int:
        return len(self.account)


@dataclass(frozen=True)
class Subscriptions:
    """One row per won opportunity whose subscription started by the as-of date."""

    opportunity: np.ndarray
    started: np.ndarray
    ended: np.ndarray
    """Day it ends, also when that lies after the as-of date."""
    is_ended: np.ndarray
    months: np.ndarray
    """Whole months it lasts in the end."""


def draw_accounts(
    recipe: Recipe, classes: Classes, columns: tuple[Planted, ...], clock: Clock, streams: Streams
) -> Accounts:
    """Everything about accounts that does not depend on their opportunities."""
    n = recipe.accounts
    rng = streams("accounts")
    cls = rng.choice(len(classes), n, p=classes.weight)
    noise = T4_SCALE * rng.standard_t(4, n) if classes.heavy else recipe.employees_sd * rng.standard_normal(n)
    employees = np.maximum(np.round(np.exp(classes.log_employees[cls] + noise)), 1)
    log_revenue = REVENUE_BASE + recipe.revenue_slope * np.log(employees) + recipe.revenue_sd * rng.standard_normal(n)
    industry = pick(classes.industry[cls], rng)
    source = rng.choice(len(recipe.source_shares), n, p=recipe.source_shares)
    partner = rng.random(n) < recipe.partners
    worked = (streams("worked").random(n) < recipe.worked) & ~partner
    opportunities = np.where(worked, 1 + streams("counts").poisson(recipe.more_opportunities, n), 0)
    created = np.floor(_spread(streams("first").random(n), recipe) * (clock.last + 1)).astype(int)
    churn_rng = streams("churn")
    return Accounts(
        cls=cls,
        employees=employees,
        revenue=np.round(np.exp(log_revenue), -3),
        industry=industry,
        need=pick(classes.need[cls], rng),
        region=rng.integers(0, REGIONS, n),
        founded=2024 - np.minimum(np.round(rng.gamma(2.0, 12.0, n)), 150).astype(int),
        tools=_draw_tools(recipe, classes, cls, created, clock, streams("tools")),
        codes=_draw_columns(columns, source, streams("columns")),
        numbers=np.round(np.exp(streams("numbers").normal(1.5, 0.8, (n, recipe.idle_numbers)))),
        source=source,
        owner=_draw_owners(recipe, industry, streams("owners")),
        created=created,
        worked=worked,
        partner=partner,
        contacts=1 + streams("contacts").poisson(classes.contacts[cls]),
        churn=churn_rng.beta(classes.churn_a[cls], classes.churn_b[cls]),
        opportunities=opportunities,
        **_draw_families(recipe, streams("families")),
        missing=_draw_missing(recipe, len(columns), log_revenue, streams("missing")),
    )


def draw_opportunities(
    recipe: Recipe, classes: Classes, columns: tuple[Planted, ...], accounts: Accounts, clock: Clock, streams: Streams
) -> Opportunities:
    """One to a few sales cycles per worked account; sorted by the day they were opened."""
    account, created = _openings(recipe, accounts, clock, streams("openings"))
    n, rng = len(account), streams("outcomes")
    cls = accounts.cls[account]
    known = log_odds(recipe, classes, columns, accounts, account, created >= clock.drift)
    known = known + np.asarray(recipe.source_win)[accounts.source[account]]
    if recipe.star_rep:
        known = known + recipe.star_rep * (accounts.owner[account] == 0)
    spread = float(np.hypot(recipe.rep_sd, recipe.quarter_sd))
    intercept = 0.0 if recipe.win_rate is None else solve_intercept(known, spread, recipe.win_rate)
    rep = recipe.rep_sd * streams("reps").standard_normal(sellers(recipe))
    quarter = recipe.quarter_sd * streams("quarters").standard_normal(int(clock.quarter(np.array([clock.last]))[0]) + 1)
    log_odds_new = intercept + known + rep[accounts.owner[account]] + quarter[clock.quarter(created)]

    luck, urgency = rng.random(n), rng.standard_normal(n)
    rho = recipe.urgency_on_cycle
    pace = -rho * urgency + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    cycle = classes.cycle_median[cls] * np.exp(recipe.cycle_sd * pace)
    if_won = np.maximum(np.round(recipe.won_cycle * cycle), 1).astype(int)
    expansion = _after_first_win(account, created, created + if_won, luck < sigmoid(log_odds_new), len(accounts))
    won = luck < sigmoid(log_odds_new + recipe.expansion_win * expansion)
    closed = created + np.where(won, if_won, np.maximum(np.round(cycle), 1).astype(int))
    acv = np.exp(classes.acv_log[cls] + recipe.acv_sd * rng.standard_normal(n))
    acv = np.maximum(np.round(acv * np.where(expansion, recipe.expansion_acv, 1.0), -1), 10.0)
    return Opportunities(
        account=account,
        created=created,
        closed=closed,
        won=won,
        expansion=expansion,
        acv=acv,
        product=pick(classes.buys[cls], rng),
        urgency=urgency,
        is_closed=closed <= clock.last,
        intercept=intercept,
    )


def draw_subscriptions(accounts: Accounts, deals: Opportunities, clock: Clock, streams: Streams) -> Subscriptions:
    """Won opportunities become subscriptions that end with the account's own monthly probability."""
    opportunity = np.flatnonzero(deals.won & (deals.closed + 7 <= clock.last))
    started = deals.closed[opportunity] + 7
    churn = np.clip(accounts.churn[deals.account[opportunity]], 1e-6, 1 - 1e-6)
    months = streams("tenure").geometric(churn)
    ended = started + np.round(np.minimum(months, 2000) * DAYS_PER_MONTH).astype(int)
    return Subscriptions(opportunity, started, ended, ended <= clock.last, months)


def log_odds(
    recipe: Recipe,
    classes: Classes,
    columns: tuple[Planted, ...],
    accounts: Accounts,
    account: np.ndarray,
    late: np.ndarray,
) -> np.ndarray:
    """Log odds of winning from class and planted columns alone, per row of `account`; without the intercept."""
    cls = accounts.cls[account]
    total = np.where(late, classes.late_win[cls], classes.win[cls]) + accounts.family_odds[account]
    for j, column in enumerate(columns):
        early, after = np.asarray(column.effects), np.asarray(column.late_effects or column.effects)
        codes = accounts.codes[account, j]
        total = total + np.where(late, after[codes], early[codes])
    return total


def solve_intercept(known: np.ndarray, spread: float, rate: float) -> float:
    """Intercept that makes the mean win probability of these opportunities `rate`."""
    from scipy.optimize import brentq

    return float(brentq(lambda a: mean_sigmoid(a + known, spread).mean() - rate, -15, 15, xtol=1e-8))


def mean_sigmoid(center: np.ndarray, spread: np.ndarray | float) -> np.ndarray:
    """Mean of the logistic function of a normal variable, by Gauss-Hermite quadrature with nine points."""
    points, weights = np.polynomial.hermite_e.hermegauss(9)
    total = np.zeros(np.broadcast_shapes(np.shape(center), np.shape(spread)))
    for point, weight in zip(points, weights / weights.sum(), strict=True):
        total += weight * sigmoid(center + spread * point)
    return total


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def pick(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One level per row of a matrix of shares."""
    draws = rng.random((len(shares), 1))
    return np.minimum((draws > np.cumsum(shares, axis=1)).sum(axis=1), shares.shape[1] - 1)


def sellers(recipe: Recipe) -> int:
    """Number of sellers."""
    return max(6, recipe.accounts // ACCOUNTS_PER_SELLER)


def margins(product: np.ndarray) -> np.ndarray:
    """Gross margin of products."""
    return np.asarray(MARGINS)[product]


def _spread(u: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Uniform draws bent so that volume grows by `growth` a month; still between 0 and 1."""
    if not recipe.growth:
        return u
    total = (1 + recipe.growth) ** recipe.months
    return np.log1p(u * (total - 1)) / np.log(total)


def _openings(
    recipe: Recipe, accounts: Accounts, clock: Clock, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    account = np.repeat(np.arange(len(accounts)), accounts.opportunities)
    first = np.r_[True, account[1:] != account[:-1]] if len(account) else np.zeros(0, bool)
    created = np.floor(_spread(rng.random(len(account)), recipe) * (clock.last + 1)).astype(int)
    # The first draw of an account is also what dates the account, so that late accounts are late in both.
    created = np.where(first, accounts.created[account], created)
    order = np.lexsort((account, created))
    return account[order], created[order]


def _after_first_win(
    account: np.ndarray, created: np.ndarray, closes: np.ndarray, won: np.ndarray, accounts: int
) -> np.ndarray:
    """True where the account had won an opportunity before this one was opened."""
    first_win = np.full(accounts, np.iinfo(np.int64).max)
    np.minimum.at(first_win, account[won], closes[won])
    return created > first_win[account]


def _draw_tools(
    recipe: Recipe, classes: Classes, cls: np.ndarray, created: np.ndarray, clock: Clock, rng: np.random.Generator
) -> np.ndarray:
    draws = rng.random((len(cls), recipe.tools))
    if recipe.vendors:
        return _vendor_tools(classes, cls, created, clock, draws, rng)
    marked = draws < classes.tools[cls]
    if recipe.late_tools:
        marked = np.where((created >= clock.drift)[:, None], draws < classes.late_tools[cls], marked)
    return marked


def _vendor_tools(
    classes: Classes, cls: np.ndarray, created: np.ndarray, clock: Clock, draws: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Six bundles: three that only the first data vendor sees, three that only the second sees."""
    bundle = np.arange(draws.shape[1]) * 6 // draws.shape[1]
    first_vendor = created < clock.last / 2
    seen = np.where(first_vendor[:, None], np.arange(6) < 3, np.arange(6) >= 3)
    held = seen & (rng.random((len(cls), 6)) < 0.5)
    return draws < np.where(held[:, bundle], 0.6, 0.02)


def _draw_columns(columns: tuple[Planted, ...], source: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    codes = np.empty((len(source), len(columns)), dtype=np.int64)
    for j, column in enumerate(columns):
        shares = np.tile(column.shares, (len(source), 1))
        if column.in_referral:
            shares[source == REFERRAL] = (1 - column.in_referral, column.in_referral)
        codes[:, j] = pick(shares, rng)
        if column.counts:
            chosen = rng.permutation(len(source))[: sum(column.counts)]
            codes[chosen, j] = np.repeat(np.arange(len(column.counts)), column.counts)[: len(chosen)]
    return codes


def _draw_owners(recipe: Recipe, industry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not recipe.star_rep:
        return rng.integers(0, sellers(recipe), len(industry))
    return np.where(industry == STAR_INDUSTRY, 0, rng.integers(1, sellers(recipe), len(industry)))


def _draw_families(recipe: Recipe, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n, children = recipe.accounts, round(recipe.family_share * recipe.accounts)
    order, parent = rng.permutation(n), np.full(n, -1)
    parents, members = order[: recipe.families], order[recipe.families : recipe.families + children]
    if recipe.families:
        parent[members] = parents[rng.integers(0, recipe.families, len(members))]
    in_family = np.isin(np.arange(n), order[: recipe.families + len(members)]) & bool(recipe.families)
    shared = recipe.family_sd * rng.standard_normal(n)
    root = np.where(parent >= 0, parent, np.arange(n))
    return {"parent": parent, "family_odds": np.where(in_family, shared[root], 0.0), "in_family": in_family}


def _draw_missing(
    recipe: Recipe, columns: int, log_revenue: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    n = len(log_revenue)
    names = ("employees", "revenue", "industry", "need", "region", "founded", "tools")
    missing = {name: rng.random(n) < recipe.missing for name in names}
    missing["columns"] = rng.random((n, columns)) < recipe.missing
    missing["numbers"] = rng.random((n, recipe.idle_numbers)) < recipe.missing
    if recipe.missing_depends:
        z = (log_revenue - log_revenue.mean()) / log_revenue.std()
        missing["revenue"] = rng.random(n) < sigmoid(-1.5 + 0.8 * z)
    return missing
