"""Reads a recipe's parameters and the visible values of a market, makes the truth and the Bayes oracle of every account.

The oracle knows the generator's parameters, never its draws: what is hidden is integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from icplab.simulate.draw import (
    DAYS_PER_MONTH,
    REVENUE_BASE,
    Accounts,
    Clock,
    Opportunities,
    Subscriptions,
    log_odds,
    mean_sigmoid,
)
from icplab.simulate.latent import INDUSTRIES, MARGINS, T4_SCALE, Classes
from icplab.simulate.recipe import Planted, Recipe

DISCOUNT = 0.10  # the default of [economics] discount_rate
VALUE_MONTHS = 36  # the default of [economics] months


@dataclass(frozen=True)
class Evidence:
    """Visible facts that the surrounding tables add: per kind, the account and the level of each record."""

    account: np.ndarray
    level: np.ndarray
    shares: np.ndarray
    """Share of each level per class (classes x levels)."""


def account_truth(
    recipe: Recipe,
    classes: Classes,
    columns: tuple[Planted, ...],
    accounts: Accounts,
    deals: Opportunities,
    subscriptions: Subscriptions,
    evidence: list[Evidence],
    clock: Clock,
) -> pd.DataFrame:
    """One row per account: true and oracle probabilities, values and segments; see docs/simulation.md."""
    everyone, late = np.arange(len(accounts)), np.full(len(accounts), recipe.drift_month < recipe.months)
    latent = deals.intercept + log_odds(recipe, classes, columns, accounts, everyone, late)
    finished = won_by_horizon(recipe, classes)
    unit = unit_values(recipe, classes)
    is_customer = np.zeros(len(accounts), bool)
    is_customer[deals.account[deals.won & deals.is_closed]] = True

    by_traits = _normalise(np.log(classes.weight) + trait_evidence(recipe, classes, accounts, clock))
    visible = np.log(by_traits) + deal_evidence(recipe, classes, columns, accounts, deals, clock)
    visible += subscription_evidence(classes, accounts, deals, subscriptions, clock)
    for fact in evidence:
        np.add.at(visible, fact.account, np.log(fact.shares).T[fact.level])
    posterior = _normalise(visible)

    known, spread = _visible_columns(recipe, columns, accounts, everyone, late)
    win = classes.late_win if late.all() else classes.win
    center = deals.intercept + known[:, None] + win
    noise = np.sqrt(recipe.rep_sd**2 + recipe.quarter_sd**2 + spread**2)[:, None]
    table: dict[str, Any] = {
        "segment": np.asarray(classes.names)[accounts.cls],
        "factor": classes.factor[accounts.cls],
        "is_customer": is_customer,
        "is_worked": accounts.worked,
        "log_odds": latent,
    }
    for motion, shift, factor in (("new", 0.0, 1.0), ("expansion", recipe.expansion_win, recipe.expansion_acv)):
        true = average_win(recipe, latent + shift, np.hypot(recipe.rep_sd, recipe.quarter_sd)) * finished[accounts.cls]
        oracle = average_win(recipe, center + shift, noise) * finished
        worth = unit_values(recipe, classes, factor)
        table[f"p_win_{motion}"] = true
        table[f"expected_value_{motion}"] = true * worth[accounts.cls]
        table[f"oracle_win_{motion}"] = (posterior * oracle).sum(axis=1)
        table[f"oracle_value_{motion}"] = (posterior * oracle * worth).sum(axis=1)
    for mine in ("p_win", "expected_value", "oracle_win", "oracle_value"):
        table[mine] = np.where(is_customer, table[f"{mine}_expansion"], table[f"{mine}_new"])
    table["unit_value"] = unit[accounts.cls]
    table |= _segment_posteriors(classes, by_traits, "oracle_segment", "oracle_best")
    table |= _segment_posteriors(classes, posterior, "oracle_all", "oracle_best_all")
    return pd.DataFrame(table)


def trait_evidence(recipe: Recipe, classes: Classes, accounts: Accounts, clock: Clock) -> np.ndarray:
    """Log likelihood of the account's own visible columns under each class (accounts x classes)."""
    missing = accounts.missing
    total = _size_evidence(recipe, classes, accounts)
    total += np.where(missing["industry"][:, None], 0.0, np.log(classes.industry).T[accounts.industry])
    total += np.where(missing["need"][:, None], 0.0, np.log(classes.need).T[accounts.need])
    if not recipe.vendors:
        late = (accounts.created >= clock.drift)[:, None]
        seen = np.where(
            late, _tool_evidence(accounts.tools, classes.late_tools), _tool_evidence(accounts.tools, classes.tools)
        )
        total += np.where(missing["tools"][:, None], 0.0, seen)
    return total


def deal_evidence(
    recipe: Recipe,
    classes: Classes,
    columns: tuple[Planted, ...],
    accounts: Accounts,
    deals: Opportunities,
    clock: Clock,
) -> np.ndarray:
    """Log likelihood of outcomes, cycle lengths, amounts and products of each account's own opportunities.

    Opportunities of one account are taken as independent given class and visible columns: the seller they share
    and the values that are missing in common are integrated out one opportunity at a time.
    """
    late = deals.created >= clock.drift
    known, spread = _visible_columns(recipe, columns, accounts, deals.account, late)
    known = known + deals.intercept + recipe.expansion_win * deals.expansion
    known = known + np.asarray(recipe.source_win)[accounts.source[deals.account]]
    known = known + recipe.star_rep * (accounts.owner[deals.account] == 0)
    win = np.where(late[:, None], classes.late_win, classes.win)
    noise = np.sqrt(recipe.rep_sd**2 + recipe.quarter_sd**2 + spread**2)[:, None]
    p = mean_sigmoid(known[:, None] + win, noise)

    center = np.log(classes.cycle_median)
    days = np.where(deals.is_closed, deals.closed, clock.last + 1) - deals.created
    z_won = (np.log(np.maximum(days, 0.5))[:, None] - center - np.log(recipe.won_cycle)) / recipe.cycle_sd
    z_lost = (np.log(np.maximum(days, 0.5))[:, None] - center) / recipe.cycle_sd
    still_open = p * _upper_tail(z_won) + (1 - p) * _upper_tail(z_lost)
    closed = np.where(deals.won[:, None], np.log(p) - z_won**2 / 2, np.log1p(-p) - z_lost**2 / 2)
    total = np.where(deals.is_closed[:, None], closed, np.log(still_open))

    factor = np.where(deals.expansion, recipe.expansion_acv, 1.0)
    z_acv = (np.log(deals.acv / factor)[:, None] - classes.acv_log) / recipe.acv_sd
    total += -(z_acv**2) / 2 + np.log(classes.buys).T[deals.product]
    summed = np.zeros((len(accounts), len(classes)))
    np.add.at(summed, deals.account, total)
    return summed


def subscription_evidence(
    classes: Classes, accounts: Accounts, deals: Opportunities, subscriptions: Subscriptions, clock: Clock
) -> np.ndarray:
    """Log likelihood of how long each account's subscriptions lasted: beta-geometric, one probability per account."""
    from scipy.special import betaln

    whole = (clock.last - subscriptions.started) // DAYS_PER_MONTH
    survived = np.where(subscriptions.is_ended, subscriptions.months - 1, whole)
    account = deals.account[subscriptions.opportunity]
    ends = np.bincount(account, subscriptions.is_ended, len(accounts))[:, None]
    months = np.bincount(account, survived, len(accounts))[:, None]
    a, b = classes.churn_a, classes.churn_b
    return betaln(a + ends, b + months) - betaln(a, b)


def won_by_horizon(recipe: Recipe, classes: Classes) -> np.ndarray:
    """Share of eventual wins that come within the horizon, per class."""
    late = (np.log(recipe.horizon_days) - np.log(recipe.won_cycle * classes.cycle_median)) / recipe.cycle_sd
    return 1 - _upper_tail(late)


def average_win(recipe: Recipe, center: np.ndarray, spread: np.ndarray | float) -> np.ndarray:
    """Win probability with an average seller, the market's mix of channels and a future quarter."""
    sellers = ((1 / INDUSTRIES, recipe.star_rep), (1 - 1 / INDUSTRIES, 0.0)) if recipe.star_rep else ((1.0, 0.0),)
    total = np.zeros(np.broadcast_shapes(np.shape(center), np.shape(spread)))
    effects = pd.Series(recipe.source_shares, dtype=float).groupby(list(recipe.source_win)).sum()
    for effect, share in effects.items():
        for part, star in sellers:
            total += share * part * mean_sigmoid(center + float(effect) + star, spread)  # type: ignore[arg-type]
    return total


def survival(classes: Classes, months: np.ndarray) -> np.ndarray:
    """Share of subscriptions alive after so many months (classes x months): shifted-beta-geometric."""
    from scipy.special import betaln

    a, b = classes.churn_a[:, None], classes.churn_b[:, None]
    return np.exp(betaln(a, b + months) - betaln(a, b))


def unit_values(recipe: Recipe, classes: Classes, acv_factor: float = 1.0) -> np.ndarray:
    """Discounted margin of one won opportunity over 36 months less cost to serve, per class."""
    months = np.arange(1, VALUE_MONTHS + 1)
    years = (survival(classes, months) * (1 + DISCOUNT) ** (-months / 12)).sum(axis=1) / 12
    margin = classes.buys @ np.asarray(MARGINS)
    return (mean_acv(recipe, classes) * acv_factor * margin - recipe.cost_to_serve) * years


def mean_acv(recipe: Recipe, classes: Classes) -> np.ndarray:
    """Mean annual contract value of a new opportunity, per class."""
    return np.exp(classes.acv_log + recipe.acv_sd**2 / 2)


def segment_truth(
    recipe: Recipe, classes: Classes, accounts: pd.DataFrame, opportunity_account: np.ndarray
) -> pd.DataFrame:
    """One row per planted segment with its true key figures; empty when the market has no segments."""
    names = pd.Series(classes.names)
    if (names == "none").any():
        return pd.DataFrame({"segment": pd.Series([], dtype="str")})
    of_deals = accounts.iloc[opportunity_account].groupby("segment")["p_win"].mean()
    months = np.array([12])
    return pd.DataFrame(
        {
            "segment": names.astype("str"),
            "share": classes.weight,
            "accounts": accounts.groupby("segment").size().reindex(names, fill_value=0).to_numpy(),
            "win_365": of_deals.reindex(names).to_numpy(),
            "p_win_new": accounts.groupby("segment")["p_win_new"].mean().reindex(names).to_numpy(),
            "cycle_days_won_median": recipe.won_cycle * classes.cycle_median,
            "cycle_days_lost_median": classes.cycle_median,
            "acv_median": np.exp(classes.acv_log),
            "acv_mean": mean_acv(recipe, classes),
            "gross_margin": classes.buys @ np.asarray(MARGINS),
            "monthly_churn_mean": classes.churn_a / (classes.churn_a + classes.churn_b),
            "retention_12m": survival(classes, months)[:, 0],
            "unit_value": unit_values(recipe, classes),
        }
    )


def _visible_columns(
    recipe: Recipe, columns: tuple[Planted, ...], accounts: Accounts, account: np.ndarray, late: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Known part of the planted log odds, and the standard deviation of what families and missing values leave open."""
    known, variance = np.zeros(len(account)), recipe.family_sd**2 * accounts.in_family[account]
    for j, column in enumerate(columns):
        if not any((*column.effects, *column.late_effects)):
            continue
        shares, blank = np.asarray(column.shares), accounts.missing["columns"][account, j]
        codes = accounts.codes[account, j]
        for when, effects in ((~late, column.effects), (late, column.late_effects or column.effects)):
            effect = np.asarray(effects)
            mean = shares @ effect
            known += when * np.where(blank, mean, effect[codes])
            variance += when * blank * (shares @ (effect - mean) ** 2)
    return known, np.sqrt(variance)


def _size_evidence(recipe: Recipe, classes: Classes, accounts: Accounts) -> np.ndarray:
    """Employees where known; else revenue, whose noise adds to that of employees; given employees it adds nothing."""
    size = (np.log(accounts.employees)[:, None] - classes.log_employees) / (
        T4_SCALE if classes.heavy else recipe.employees_sd
    )
    by_employees = -2.5 * np.log1p(size**2 / 4) if classes.heavy else -(size**2) / 2
    # A t(4) variable has variance 2; the sum with normal noise is taken as normal.
    size_sd = T4_SCALE * np.sqrt(2) if classes.heavy else recipe.employees_sd
    spread = np.hypot(recipe.revenue_slope * size_sd, recipe.revenue_sd)
    center = REVENUE_BASE + recipe.revenue_slope * classes.log_employees
    by_revenue = -(((np.log(np.maximum(accounts.revenue, 500.0))[:, None] - center) / spread) ** 2) / 2
    no_size, no_revenue = (accounts.missing[c][:, None] for c in ("employees", "revenue"))
    return np.where(~no_size, by_employees, np.where(~no_revenue, by_revenue, 0.0))


def _tool_evidence(tools: np.ndarray, shares: np.ndarray) -> np.ndarray:
    odds = np.log(shares) - np.log1p(-shares)
    return tools.astype(float) @ odds.T + np.log1p(-shares).sum(axis=1)


def _segment_posteriors(classes: Classes, posterior: np.ndarray, prefix: str, best: str) -> dict[str, np.ndarray]:
    """Posterior columns per named segment and the most probable one; nothing for a market without segments."""
    if "none" in classes.names:
        return {}
    columns = {f"{prefix}_{name}": posterior[:, i] for i, name in enumerate(classes.names)}
    return {**columns, best: np.asarray(classes.names)[posterior.argmax(axis=1)]}


def _upper_tail(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(-z)


def _normalise(log_weights: np.ndarray) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return np.maximum(weights / weights.sum(axis=1, keepdims=True), 1e-300)
