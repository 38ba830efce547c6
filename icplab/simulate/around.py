"""Reads a world, makes the tables around the sales cycles: leads, activities, marketing, plan, market, feedback."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.simulate.draw import MARGINS, log_odds, mean_sigmoid, pick, sellers
from icplab.simulate.exports import PLAYS, PRODUCTS, REGIONS
from icplab.simulate.latent import INDUSTRIES
from icplab.simulate.names import choose, number_ids
from icplab.simulate.oracle import Evidence, mean_acv
from icplab.simulate.recipe import CHANNEL_COSTS, CHANNELS
from icplab.simulate.world import CURRENCY, World, typed

SURGE_DAYS = 60  # activity rises over this many days before an opportunity is opened
SURGE_MEAN = 2.2  # events in that time at urgency zero
SURGE_SLOPE = 0.5  # log events per standard deviation of urgency
BASE_PER_MONTH = 0.2  # events of an account that is up to nothing
SALES_MEAN = 2.0  # events logged by the seller during an opportunity
LOST_REASONS = ("too small", "no budget", "wrong timing", "uses a competitor")  # why leads are disqualified
FITS = ("good", "acceptable", "poor")
FIT_REASONS = ("knows the problem", "needs education", "not their problem")
SIGNALS = ("page visit", "download", "webinar", "search surge")
SIGNAL_SHARES = (0.5, 0.2, 0.15, 0.15)
SIGNAL_WEIGHTS = np.array([0.5, 1.0, 1.5, 2.0])
TOUCHES = ("call", "email", "meeting")
TOPICS = ("pricing", "integration", "security", "planning", "reporting")
TERMS = ("invoice software", "closing checklist", "planning tool")
LANDING = ("/demo", "/customers", "/pricing", "/events", "/partners", "/")
MARKET_FACTOR = 5  # the addressable market, as a multiple of the accounts in the CRM
FEEDBACK_SHARE = 0.3
PLAN_SHARE = 0.97  # the plan asks for slightly less than the recipe yields, so a clean market meets it


def evidence(world: World, tables: dict[str, pd.DataFrame]) -> list[Evidence]:
    """What the oracle may learn about classes from people, disqualification reasons and feedback."""
    from scipy.stats import poisson

    people = np.minimum(world.accounts.contacts - 1, 30)
    shares = poisson.pmf(np.arange(31), world.classes.contacts[:, None])
    found = [Evidence(np.arange(len(people)), people, np.maximum(shares, 1e-300))]
    for table, column, levels, by_class in (
        ("leads", "disqualification_reason", LOST_REASONS, world.classes.reasons),
        ("feedback", "fit", FITS, world.classes.fit),
    ):
        rows = tables[table]
        rows = rows[rows[column].notna() & rows["account_id"].notna()]
        account = rows["account_id"].str[1:].astype("int64").to_numpy() - 1
        found.append(Evidence(account, pd.Index(levels).get_indexer(pd.Index(rows[column])), by_class))
    return found


def leads_table(world: World) -> pd.DataFrame:
    """Inbound interest: what became opportunities, what was disqualified and why, what nobody could match."""
    frame = pd.concat([_converted(world), _dropped(world), _unmatched(world)], ignore_index=True)
    frame = frame.sort_values(
        ["created_at", "opportunity_id", "account_id", "company"], ignore_index=True, kind="stable"
    )
    frame["lead_id"] = number_ids("L", np.arange(len(frame)) + 1)
    return frame


def activities_table(world: World) -> pd.DataFrame:
    """Engagement of every account, more of it before an opportunity is opened, and what sellers logged.

    The more urgent the account, the more events in the 60 days before, and the shorter the cycle that follows.
    """
    frame = pd.concat([_signals(world), _touches(world)], ignore_index=True)
    frame = frame.sort_values(["occurred_at", "account_id", "type"], ignore_index=True, kind="stable")
    frame["activity_id"] = number_ids("E", np.arange(len(frame)) + 1, 7)
    return frame


def feedback_table(world: World) -> pd.DataFrame:
    """What sellers say about fit after some closed opportunities."""
    d, rng = world.deals, world.streams("feedback")
    given = d.closed + 5
    asked = np.flatnonzero((rng.random(len(d)) < FEEDBACK_SHARE) & (given <= world.clock.last))
    fit = pick(world.classes.fit[world.accounts.cls[d.account[asked]]], rng)
    columns = {
        "given_at": world.clock.dates(given[asked]),
        "account_id": choose(world.account_id, d.account[asked]),
        "opportunity_id": choose(world.opportunity_id, asked),
        "fit": choose(FITS, fit),
        "reason": choose(FIT_REASONS, fit),
        "given_by": world.seller_of(d.account[asked]),
    }
    return typed("feedback", columns, len(asked))


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
    """Sellers with capacity and quota; together they can work half of the accounts in a quarter."""
    n = sellers(world.recipe)
    yearly = targets_table(world).query("metric == 'won_amount'")["target"].tail(4).sum()
    columns = {
        "owner": world.owner_names,
        "team": choose(("north", "south"), np.arange(n) % 2),
        "region": choose(REGIONS, np.arange(n) % len(REGIONS)),
        "role": "seller",
        "capacity": np.full(n, round(0.5 * world.recipe.accounts / n)),
        "quota": np.full(n, np.round(yearly / n, -3)),
        "active_from": world.clock.start - pd.DateOffset(years=1),
    }
    columns["active_from"] = pd.Series([columns["active_from"]] * n)
    return typed("owners", columns, n)


def rates_table(world: World) -> pd.DataFrame:
    """Exchange rates to the reporting currency."""
    return typed("rates", {"currency": [CURRENCY], "valid_from": [world.clock.start], "rate": [1.0]}, 1)


def targets_table(world: World) -> pd.DataFrame:
    """The plan per quarter: what the recipe yields on average, slightly less; the next four quarters a little more."""
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


def field_history_table(world: World) -> pd.DataFrame:
    """Changes of owner, need and amount: what was known when."""
    rng, a, d = world.streams("history"), world.accounts, world.deals
    moved = np.flatnonzero(rng.random(len(a)) < 0.05)
    before = (a.owner[moved] + 1) % len(world.owner_names)
    owner = _changes("accounts", "owner", choose(world.account_id, moved), _between(world, moved, rng))
    owner = owner.assign(old_value=choose(world.owner_names, before), new_value=world.seller_of(moved))
    asked = np.flatnonzero((rng.random(len(a)) < 0.10) & ~a.missing["need"])
    need = _changes(
        "accounts", world.naming.need, choose(world.account_id, asked), np.maximum(world.account_created[asked], 0)
    )
    need = need.assign(new_value=choose(world.naming.needs, a.need[asked]))
    raised = np.flatnonzero(rng.random(len(d)) < 0.10)
    when = d.created[raised] + (np.minimum(d.closed[raised], world.clock.last) - d.created[raised]) // 2
    amount = _changes("opportunities", "amount", choose(world.opportunity_id, raised), when)
    old = np.round(d.acv[raised] * rng.uniform(0.8, 1.2, len(raised)), -1)
    amount = amount.assign(old_value=pd.Series(old).astype("str"), new_value=pd.Series(d.acv[raised]).astype("str"))
    frame = pd.concat([owner, need, amount], ignore_index=True)
    frame["changed_at"] = world.clock.dates(frame["changed_at"].to_numpy())
    frame = frame.sort_values(["changed_at", "object", "record_id", "field"], ignore_index=True, kind="stable")
    return typed("field_history", frame, len(frame))


def _converted(world: World) -> pd.DataFrame:
    d, rng = world.deals, world.streams("leads converted")
    inbound = world.accounts.source[d.account] != CHANNELS.index("outbound")
    rows = np.flatnonzero(inbound & (rng.random(len(d)) < 0.6))
    created = np.maximum(d.created[rows] - rng.integers(2, 30, len(rows)), 0)
    qualified = created + (d.created[rows] - created) // 3
    columns = {
        "lead_id": pd.Series([""] * len(rows), dtype="str"),
        "created_at": world.clock.dates(created),
        "account_id": choose(world.account_id, d.account[rows]),
        "source": world.channel_of(d.account[rows]),
        "status": "converted",
        "qualified_at": world.clock.dates(qualified),
        "accepted_at": world.clock.dates(d.created[rows]),
        "opportunity_id": choose(world.opportunity_id, rows),
    }
    return typed("leads", columns, len(rows))


def _dropped(world: World) -> pd.DataFrame:
    """Leads of known accounts that became nothing; reasons differ by segment."""
    rng, last = world.streams("leads dropped"), world.clock.last
    account = np.repeat(np.arange(len(world.accounts)), rng.poisson(0.4, len(world.accounts)))
    created = np.floor(rng.random(len(account)) * (last + 1)).astype(int)
    qualified = created + rng.integers(1, 15, len(account))
    is_qualified = (rng.random(len(account)) < 0.5) & (qualified <= last)
    dropped = created + rng.integers(15, 45, len(account))
    gone = dropped <= last
    reason = pick(world.classes.reasons[world.accounts.cls[account]], rng)
    columns = {
        "lead_id": pd.Series([""] * len(account), dtype="str"),
        "created_at": world.clock.dates(created),
        "account_id": choose(world.account_id, account),
        "source": world.channel_of(account),
        "status": choose(("new", "qualified", "disqualified"), np.where(gone, 2, is_qualified.astype(int))),
        "qualified_at": world.clock.dates(qualified, missing=~is_qualified),
        "disqualified_at": world.clock.dates(dropped, missing=~gone),
        "disqualification_reason": choose(LOST_REASONS, np.where(gone, reason, -1)),
    }
    return typed("leads", columns, len(account))


def _unmatched(world: World) -> pd.DataFrame:
    rng, last, n = world.streams("leads unmatched"), world.clock.last, len(world.accounts) // 10
    created = np.sort(rng.integers(0, last + 1, n))
    dropped = created + rng.integers(5, 30, n)
    gone = dropped <= last
    columns = {
        "lead_id": pd.Series([""] * n, dtype="str"),
        "created_at": world.clock.dates(created),
        "company": "Visitor " + pd.Series(np.arange(n) + 1).astype("str"),
        "source": choose(CHANNELS, rng.choice([2, 3, 5], n)),
        "status": choose(("new", "disqualified"), gone.astype(int)),
        "disqualified_at": world.clock.dates(dropped, missing=~gone),
        "disqualification_reason": choose(LOST_REASONS, np.where(gone, rng.integers(0, 4, n), -1)),
    }
    return typed("leads", columns, n)


def _signals(world: World) -> pd.DataFrame:
    rng, last, scale = world.streams("signals"), world.clock.last, world.recipe.activity
    months = (last - np.maximum(world.account_created, 0)) / 30.4
    base = np.repeat(np.arange(len(world.accounts)), rng.poisson(np.maximum(months, 0) * BASE_PER_MONTH * scale))
    base_day = np.maximum(world.account_created, 0)[base]
    base_day = base_day + np.floor(rng.random(len(base)) * (last + 1 - base_day)).astype(int)
    opening = np.r_[world.deals.created, world.next_opening]
    account = np.r_[world.deals.account, np.arange(len(world.accounts))]
    urgency = np.r_[world.deals.urgency, world.next_urgency]
    near = np.repeat(np.arange(len(opening)), rng.poisson(scale * SURGE_MEAN * np.exp(SURGE_SLOPE * urgency)))
    near_day = opening[near] - np.ceil(SURGE_DAYS * rng.random(len(near)) ** 1.5).astype(int)
    keep = (near_day >= 0) & (near_day <= last)
    who, day = np.r_[base, account[near][keep]], np.r_[base_day, near_day[keep]]
    kind = rng.choice(len(SIGNALS), len(who), p=SIGNAL_SHARES)
    columns = {
        "account_id": choose(world.account_id, who),
        "occurred_at": world.clock.dates(day),
        "type": choose(SIGNALS, kind),
        "topic": choose(TOPICS, rng.integers(0, len(TOPICS), len(who))),
        "weight": SIGNAL_WEIGHTS[kind],
    }
    return typed("activities", columns, len(who))


def _touches(world: World) -> pd.DataFrame:
    d, rng = world.deals, world.streams("touches")
    row = np.repeat(np.arange(len(d)), rng.poisson(SALES_MEAN * world.recipe.activity, len(d)))
    span = np.minimum(d.closed[row], world.clock.last) - d.created[row]
    day = d.created[row] + np.floor(rng.random(len(row)) * (span + 1)).astype(int)
    kind = rng.integers(0, len(TOUCHES), len(row))
    meeting = kind == TOUCHES.index("meeting")
    first = np.r_[0, np.cumsum(world.accounts.contacts)[:-1]]
    columns = {
        "account_id": choose(world.account_id, d.account[row]),
        "occurred_at": world.clock.dates(day),
        "type": choose(TOUCHES, kind),
        "contact_id": number_ids("C", first[d.account[row]] + 1),
        "play": choose(PLAYS, rng.integers(0, len(PLAYS), len(row))),
        "minutes": np.where(meeting, 45.0, 10.0),
        "outcome": choose(("held", "missed"), np.where(meeting, (rng.random(len(row)) < 0.15).astype(int), -1)),
    }
    return typed("activities", columns, len(row))


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


def _changes(table: str, column: str, records: pd.Series, days: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"record_id": records, "changed_at": days})
    return frame.assign(object=table, field=column)


def _between(world: World, accounts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start = np.maximum(world.account_created[accounts], 0)
    return start + np.floor(rng.random(len(accounts)) * (world.clock.last + 1 - start)).astype(int)
