"""Reads a world, makes what the business itself keeps: marketing, products, sellers, plan, market, content."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.simulate.draw import log_odds, mean_sigmoid, sellers
from icplab.simulate.exports import PRODUCTS, REGIONS
from icplab.simulate.latent import INDUSTRIES, MARGINS
from icplab.simulate.names import choose, number_ids
from icplab.simulate.oracle import mean_acv
from icplab.simulate.recipe import CHANNEL_COSTS, CHANNELS
from icplab.simulate.world import CURRENCY, World, typed

TERMS = ("invoice software", "closing checklist", "planning tool")
LANDING = ("/demo", "/customers", "/pricing", "/events", "/partners", "/")  # one per channel
MARKET_FACTOR = 5  # the addressable market, as a multiple of the accounts in the CRM
# The plan asks for a tenth less than the recipe yields: sellers and quarters are drawn, so a market of twelve sellers
# lies 6 % off its own expectation (one standard deviation), and a clean market must not miss its plan.
PLAN_SHARE = 0.90
# Capacity of the sellers together, as a share of all accounts; tiers 1 and 2 hold half of them, unevenly spread.
SELLER_CAPACITY = 0.70


def campaigns_table(world: World) -> pd.DataFrame:
    """One campaign per channel and half-year, each aimed at one segment of the playbook in turn."""
    halves = int(world.clock.quarter(np.array([world.clock.last]))[0]) // 2 + 1
    half, channel = np.divmod(np.arange(halves * len(CHANNELS)), len(CHANNELS))
    first = world.clock.start.to_period("Q").start_time
    starts = pd.DatetimeIndex([first + pd.DateOffset(months=6 * h) for h in range(halves + 1)])
    columns = {
        "campaign_id": number_ids("K", half * 10 + channel + 1, 4),
        "name": choose(CHANNELS, channel) + " " + pd.Series(starts[half].strftime("%Y-%m")).astype("str"),
        "channel": choose(CHANNELS, channel),
        "segment": choose(_segments(world), (half + channel) % len(_segments(world))),
        "started_at": starts[half],
        "ended_at": starts[half + 1] - pd.Timedelta(days=1),
    }
    return typed("campaigns", columns, len(half))


def spend_table(world: World) -> pd.DataFrame:
    """Cost per month and channel: so much per opportunity, with noise."""
    month, channel, opened = _opened_by_month(world)
    noise = np.exp(world.streams("spend").normal(0, 0.1, len(month)))
    cost = np.asarray(CHANNEL_COSTS)[channel] * (opened + 0.5) * noise
    columns = {
        "month": _month_starts(world)[month],
        "channel": choose(CHANNELS, channel),
        "amount": np.round(cost, 0),
        "currency": CURRENCY,
    }
    return typed("spend", columns, len(month))


def traffic_table(world: World) -> pd.DataFrame:
    """Visits and forms per month and entry point; paid search by term."""
    month, channel, opened = _opened_by_month(world)
    paid = CHANNELS.index("paid search")
    parts = np.where(channel == paid, len(TERMS), 1)
    row = np.repeat(np.arange(len(month)), parts)
    term = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    term = np.where(channel[row] == paid, term, -1)
    rng = world.streams("traffic")
    visits = rng.poisson(60 * (opened[row] + 1) / parts[row])
    columns = {
        "month": _month_starts(world)[month[row]],
        "channel": choose(CHANNELS, channel[row]),
        "visits": visits,
        "forms": rng.binomial(visits, 0.03),
        "landing_page": choose(LANDING, channel[row]),
        "search_term": choose(TERMS, term),
        "segment": choose(_segments(world), channel[row] % len(_segments(world))),
    }
    return typed("traffic", columns, len(row))


def market_table(world: World) -> pd.DataFrame:
    """The addressable market as counts by industry and region, with its yearly value."""
    industry, region = np.divmod(np.arange(INDUSTRIES * len(REGIONS)), len(REGIONS))
    c, total = world.classes, MARKET_FACTOR * world.recipe.accounts
    by_class = c.weight[:, None] * c.industry / len(REGIONS)
    accounts = world.streams("market").poisson(total * by_class.sum(axis=0)[industry])
    value = (by_class * mean_acv(world.recipe, c)[:, None]).sum(axis=0) / by_class.sum(axis=0)
    columns = {
        "industry": choose(world.naming.industries, industry),
        "region": choose(REGIONS, region),
        "accounts": accounts,
        "value": np.round(accounts * value[industry], -3),
    }
    return typed("market", columns, len(industry))


def products_table(world: World) -> pd.DataFrame:
    """What is sold."""
    value = world.deals.acv
    price = [np.median(value[world.deals.product == p]) if (world.deals.product == p).any() else 0.0 for p in range(3)]
    columns = {
        "product": list(PRODUCTS),
        "name": ["Core", "Plus", "Complete"],
        "family": ["suite"] * 3,
        "list_price": np.round(price, -2),
        "gross_margin": list(MARGINS),
    }
    return typed("products", columns, len(PRODUCTS))


def owners_table(world: World) -> pd.DataFrame:
    """Sellers with capacity and quota; together they can work seven of ten accounts in a quarter."""
    n = sellers(world.recipe)
    yearly = targets_table(world).query("metric == 'won_amount'")["target"].tail(4).sum()
    columns = {
        "owner": world.owner_names,
        "team": choose(("north", "south"), np.arange(n) % 2),
        "region": choose(REGIONS, np.arange(n) % len(REGIONS)),
        "role": "seller",
        "capacity": np.full(n, round(SELLER_CAPACITY * world.recipe.accounts / n)),
        "quota": np.full(n, np.round(yearly / n, -3)),
        "active_from": world.clock.start - pd.DateOffset(years=1),
    }
    columns["active_from"] = pd.Series([columns["active_from"]] * n)
    return typed("owners", columns, n)


def rates_table(world: World) -> pd.DataFrame:
    """Exchange rates to the reporting currency."""
    return typed("rates", {"currency": [CURRENCY], "valid_from": [world.clock.start], "rate": [1.0]}, 1)


def targets_table(world: World) -> pd.DataFrame:
    """The plan per quarter: a tenth less than what the recipe yields on average; the next four quarters a little more."""
    won, lost, amount = _expected_by_quarter(world)
    first = world.clock.start.to_period("Q")
    periods = [str(first + i) for i in range(len(won) + 4)]
    ahead = np.r_[np.arange(len(won)), np.full(4, -1)]
    columns = {}
    for metric, values, digits in (("won", won, 0), ("won_amount", amount, -3), ("win_rate", won / (won + lost), 3)):
        later = values[-4:].mean() * (1.0 if metric == "win_rate" else 1.05)
        plan = PLAN_SHARE * np.where(ahead < 0, later, values[ahead])
        columns[metric] = np.round(plan, digits)
    frame = pd.DataFrame(columns).assign(period=periods).melt("period", var_name="metric", value_name="target")
    return typed("targets", frame, len(frame))


def content_table(world: World) -> pd.DataFrame:
    """Content assets: one per segment of the playbook and journey stage."""
    segments, stages = _segments(world), ("evaluation", "purchase", "expansion")
    kinds = ("guide", "reference story", "value review")
    segment, stage = np.divmod(np.arange(len(segments) * len(stages)), len(stages))
    name = choose(kinds, stage).str.capitalize() + " for " + choose(segments, segment)
    columns = {
        "asset_id": number_ids("M", np.arange(len(segment)) + 1, 3),
        "name": name,
        "type": choose(kinds, stage),
        "segment": choose(segments, segment),
        "tier": choose(("tier_1", "tier_2", "tier_1"), stage),
        "stage": choose(stages, stage),
        "url": "https://content.example/" + name.str.lower().str.replace(" ", "-"),
    }
    return typed("content", columns, len(segment))


def events_table(world: World) -> pd.DataFrame:
    """One release early in history, without any effect."""
    columns = {
        "happened_at": [world.clock.start + pd.DateOffset(months=3)],
        "kind": ["product"],
        "description": ["Release of the new planning board"],
    }
    return typed("events", columns, 1)


def _segments(world: World) -> tuple[str, ...]:
    """Ids that a first run gives to its segments; the playbook and the campaigns speak of these."""
    return tuple(f"S{i + 1}" for i in range(len(world.classes) if "none" not in world.classes.names else 4))


def _opened_by_month(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d, months = world.deals, len(_month_starts(world))
    cell = world.clock.month(d.created) * len(CHANNELS) + world.accounts.source[d.account]
    opened = np.bincount(cell, minlength=months * len(CHANNELS))
    used = np.flatnonzero(np.tile(np.asarray(world.recipe.source_shares) > 0, months))
    month, channel = np.divmod(used, len(CHANNELS))
    return month, channel, opened[used]


def _month_starts(world: World) -> np.ndarray:
    count = int(world.clock.month(np.array([world.clock.last]))[0]) + 1
    first = world.clock.start.to_datetime64().astype("datetime64[M]")
    return (first + np.arange(count).astype("timedelta64[M]")).astype("datetime64[us]")


def _expected_by_quarter(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected won, lost and won amount per calendar quarter of closing, from the recipe."""
    from scipy.special import ndtr

    r, d, c = world.recipe, world.deals, world.classes
    cls = world.accounts.cls[d.account]
    known = log_odds(r, c, world.columns, world.accounts, d.account, d.created >= world.clock.drift)
    known = (
        known + d.intercept + np.asarray(r.source_win)[world.accounts.source[d.account]] + r.expansion_win * d.expansion
    )
    p = mean_sigmoid(known, np.hypot(r.rep_sd, r.quarter_sd))
    days = np.arange(world.clock.last + 1)
    edges = np.r_[0, np.flatnonzero(np.diff(world.clock.quarter(days))) + 1, world.clock.last + 1]
    worth = mean_acv(r, c)[cls] * np.where(d.expansion, r.expansion_acv, 1.0)
    sums = []
    for factor, weight in ((r.won_cycle, p), (1.0, 1 - p), (r.won_cycle, p * worth)):
        age = np.maximum(edges - d.created[:, None], 1e-9)
        done = ndtr((np.log(age) - np.log(factor * c.cycle_median[cls])[:, None]) / r.cycle_sd)
        sums.append((weight[:, None] * np.diff(done, axis=1)).sum(axis=0))
    return sums[0], sums[1], sums[2]
