"""Reads a world, makes the tables a CRM would export about accounts, sales cycles, people and customers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.simulate.draw import DAYS_PER_MONTH, margins
from icplab.simulate.names import choose, join_marked, number_ids, organisations
from icplab.simulate.world import CURRENCY, World, typed

STAGES = ("discovery", "qualified", "proposal", "negotiation")
STAGE_AT = np.array([0.0, 0.2, 0.5, 0.8])  # share of the sales cycle at which each stage is entered
LOST_IN = np.array([0.25, 0.30, 0.30, 0.15])  # share of lost opportunities that get no further than this stage
LOSS_REASONS = ("no decision", "price", "competitor", "missing function", "timing")
LOSS_SHARES = (0.30, 0.25, 0.20, 0.15, 0.10)
PRODUCTS = ("core", "plus", "complete")
COUNTRIES = ("Germany", "France", "Netherlands", "Sweden", "Poland")  # one per region
REGIONS = ("central", "west", "benelux", "nordics", "east")
PLAYS = ("workshop", "trial", "reference visit")
ROLES = ("decision maker", "champion", "finance", "IT", "user", "procurement")
TITLES = ("Managing Director", "Head of Operations", "Finance Director", "IT Manager", "Team Lead", "Buyer")
SENIORITY = ("executive", "director", "director", "manager", "manager", "specialist")
DEPARTMENTS = ("management", "operations", "finance", "IT", "operations", "procurement")
ON_DEAL = 0.7  # share of an account's people who take part in one of its opportunities
USAGE_METRICS = ("active_users", "tasks_completed")
USAGE_BEFORE_END = 0.55  # usage of the last three months of a subscription, as a share of what it was


def accounts_table(world: World) -> pd.DataFrame:
    """Accounts with every candidate trait under its visible name; blank where the recipe leaves it out."""
    a, naming, n = world.accounts, world.naming, len(world.accounts)
    who = organisations(n, world.streams("organisations"))
    region = np.where(a.missing["region"], -1, a.region)
    columns: dict[str, object] = {
        "account_id": world.account_id,
        **{str(c): who[c] for c in who},
        "industry": choose(naming.industries, np.where(a.missing["industry"], -1, a.industry)),
        "employees": pd.Series(a.employees).mask(pd.Series(a.missing["employees"])),
        "annual_revenue": pd.Series(a.revenue).mask(pd.Series(a.missing["revenue"])),
        "country": choose(COUNTRIES, region),
        "region": choose(REGIONS, region),
        "founded_year": pd.Series(a.founded.astype(float)).mask(pd.Series(a.missing["founded"])),
        "parent_account_id": choose(world.account_id, a.parent),
        "created_at": world.clock.dates(world.account_created),
        "account_type": _account_types(world),
        "owner": world.seller_of(np.arange(n)),
    }
    traits = _planted_columns(world)
    traits[naming.need] = choose(naming.needs, np.where(_need_missing(world), -1, a.need))
    traits[naming.tools_column] = join_marked(a.tools & ~a.missing["tools"][:, None], naming.tools)
    # Neutral names stand in their own order, so that position tells nothing either.
    order = sorted(traits) if world.recipe.names == "neutral" else list(traits)
    return typed("accounts", columns | {c: traits[c] for c in order}, n)


def opportunities_table(world: World) -> pd.DataFrame:
    """Opportunities as exported on the as-of date: what closes later is open."""
    d, n, rng = world.deals, len(world.deals), world.streams("opportunity details")
    status = np.where(~d.is_closed, 2, np.where(d.won, 0, 1))
    reached = stage_reached(world)
    stage = np.where(status < 2, len(STAGES) + status, reached)
    reason = np.where(status == 1, rng.choice(len(LOSS_REASONS), n, p=LOSS_SHARES), -1)
    columns = {
        "opportunity_id": world.opportunity_id,
        "account_id": choose(world.account_id, d.account),
        "created_at": world.clock.dates(d.created),
        "closed_at": world.clock.dates(d.closed, missing=~d.is_closed),
        "status": choose(("won", "lost", "open"), status),
        "stage": choose((*STAGES, "closed won", "closed lost"), stage),
        "amount": d.acv,
        "currency": CURRENCY,
        "type": choose(("new", "expansion"), d.expansion.astype(int)),
        "source": world.channel_of(d.account),
        "campaign_id": _campaign_of(world),
        "owner": world.seller_of(d.account),
        "loss_reason": choose(LOSS_REASONS, reason),
        "product": choose(PRODUCTS, d.product),
        "play": choose(PLAYS, rng.integers(0, len(PLAYS), n)),
    }
    return typed("opportunities", columns, n)


def stage_reached(world: World) -> np.ndarray:
    """Index of the furthest stage each opportunity has entered by the as-of date."""
    d, rng = world.deals, world.streams("stages")
    furthest = np.where(d.won, len(STAGES) - 1, rng.choice(len(STAGES), len(d), p=LOST_IN))
    passed = (_stage_days(world) <= world.clock.last).sum(axis=1) - 1
    return np.minimum(furthest, passed)


def stage_history_table(world: World) -> pd.DataFrame:
    """Every stage an opportunity entered, with its day."""
    days, reached = _stage_days(world), stage_reached(world)
    opportunity, stage = np.nonzero(np.arange(len(STAGES)) <= reached[:, None])
    columns = {
        "opportunity_id": choose(world.opportunity_id, opportunity),
        "stage": choose(STAGES, stage),
        "entered_at": world.clock.dates(days[opportunity, stage]),
    }
    return typed("stage_history", columns, len(opportunity))


def contacts_table(world: World) -> pd.DataFrame:
    """People at accounts; how many grows with the segment."""
    account, place = _people(world)
    n, rng = len(account), world.streams("contact details")
    role, told = _roles(world, place)
    contact = number_ids("C", np.arange(n) + 1)
    columns = {
        "contact_id": contact,
        "account_id": choose(world.account_id, account),
        "title": choose(TITLES, role),
        "role": choose(ROLES, told),
        "seniority": choose(SENIORITY, role),
        "department": choose(DEPARTMENTS, role),
        "email": contact.str.lower() + "@contact.example",
        "opted_out": rng.random(n) < 0.06,
    }
    return typed("contacts", columns, n)


def opportunity_contacts_table(world: World) -> pd.DataFrame:
    """Buying committees: the first contact leads, each of the others joins with the same chance."""
    people = world.accounts.contacts
    first = np.r_[0, np.cumsum(people)[:-1]]
    size = people[world.deals.account]
    opportunity = np.repeat(np.arange(len(size)), size)
    place = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    keep = (place == 0) | (world.streams("committees").random(len(place)) < ON_DEAL)
    opportunity, place = opportunity[keep], place[keep]
    contact = first[world.deals.account[opportunity]] + place
    columns = {
        "opportunity_id": choose(world.opportunity_id, opportunity),
        "contact_id": number_ids("C", contact + 1),
        "role": choose(ROLES, _roles(world, _people(world)[1])[1][contact]),
        "is_primary": place == 0,
    }
    return typed("opportunity_contacts", columns, len(opportunity))


def subscriptions_table(world: World) -> pd.DataFrame:
    """Recurring revenue from won opportunities, a week after closing."""
    s, d = world.subscriptions, world.deals
    columns = {
        "subscription_id": number_ids("U", s.opportunity + 1),
        "account_id": choose(world.account_id, d.account[s.opportunity]),
        "started_at": world.clock.dates(s.started),
        "ended_at": world.clock.dates(np.minimum(s.ended, world.clock.last), missing=~s.is_ended),
        "mrr": np.round(d.acv[s.opportunity] / 12, 2),
        "currency": CURRENCY,
        "product": choose(PRODUCTS, d.product[s.opportunity]),
        "gross_margin": margins(d.product[s.opportunity]),
    }
    return typed("subscriptions", columns, len(s.opportunity))


def usage_table(world: World) -> pd.DataFrame:
    """Monthly product usage per customer; it falls in the three months before a customer's last subscription ends."""
    rng, clock = world.streams("usage"), world.clock
    account, start, end = _customer_spells(world)
    months = np.maximum(clock.month(np.minimum(end, clock.last)) - clock.month(start), 0)
    row = np.repeat(np.arange(len(account)), months)
    step = np.arange(months.sum()) - np.repeat(np.cumsum(months) - months, months)
    month = clock.month(start)[row] + 1 + step
    first = clock.start.to_datetime64().astype("datetime64[M]") + month.astype("timedelta64[M]")
    left = (
        end[row] - (first.astype("datetime64[D]") - clock.start.to_datetime64().astype("datetime64[D]")).astype(int)
    ) / DAYS_PER_MONTH
    level = np.exp(rng.normal(2.5, 0.5, len(account)))[row] * np.where(left < 3, USAGE_BEFORE_END, 1.0)
    frames = []
    for metric, scale in zip(USAGE_METRICS, (1.0, 14.0), strict=True):
        value = np.round(level * scale * np.exp(rng.normal(0, 0.15, len(row))), 0)
        columns = {
            "account_id": choose(world.account_id, account[row]),
            "period": first.astype("datetime64[us]"),
            "metric": metric,
            "value": value,
        }
        frames.append(typed("usage", columns, len(row)))
    return pd.concat(frames, ignore_index=True)


def _account_types(world: World) -> pd.Series:
    partner = np.where(world.account_id.str[-1].isin(list("01234")), 3, 4)
    kind = np.where(world.is_customer, np.where(world.last_end >= 0, 2, 1), 0)
    former = (kind == 2) & (world.last_end > world.clock.last)
    kind = np.where(former, 1, kind)
    return choose(
        ("prospect", "customer", "former", "partner", "competitor"), np.where(world.accounts.partner, partner, kind)
    )


def _planted_columns(world: World) -> dict[str, pd.Series]:
    a, naming = world.accounts, world.naming
    flags, categories = iter(naming.flags), iter(zip(naming.categories, naming.category_levels, strict=True))
    traits = {}
    for j, column in enumerate(world.columns):
        codes = np.where(a.missing["columns"][:, j], -1, a.codes[:, j])
        if column.kind == "flag":
            traits[next(flags)] = choose(("no", "yes"), codes)
        else:
            name, levels = next(categories)
            traits[name] = choose(levels, codes)
    for j, name in enumerate(naming.numbers):
        traits[name] = pd.Series(a.numbers[:, j]).mask(pd.Series(a.missing["numbers"][:, j]))
    return traits


def _need_missing(world: World) -> np.ndarray:
    missing = world.accounts.missing["need"]
    if not world.recipe.missing_depends:
        return missing
    lost = np.zeros(len(missing), bool)
    lost[world.deals.account[world.deals.is_closed & ~world.deals.won]] = True
    half = world.streams("need of the lost").random(len(missing)) < 0.5
    return missing | (lost & ~world.is_customer & half)


def _campaign_of(world: World) -> pd.Series:
    """The campaign of the opportunity's channel that ran in the half-year it was opened in; some are not attributed."""
    d = world.deals
    half_year = world.clock.quarter(d.created) // 2
    attributed = world.streams("attribution").random(len(d)) < 0.6
    return number_ids("K", np.where(attributed, half_year * 10 + world.accounts.source[d.account] + 1, -1), 4)


def _stage_days(world: World) -> np.ndarray:
    d = world.deals
    cycle = np.minimum(d.closed - d.created, 3000)
    return d.created[:, None] + np.floor(cycle[:, None] * STAGE_AT).astype(int)


def _people(world: World) -> tuple[np.ndarray, np.ndarray]:
    people = world.accounts.contacts
    account = np.repeat(np.arange(len(people)), people)
    return account, np.arange(people.sum()) - np.repeat(np.cumsum(people) - people, people)


def _roles(world: World, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True role of each person, and the role as the CRM holds it; the first person of an account decides."""
    rng = world.streams("roles")
    role = np.where(place == 0, 0, 1 + (place - 1 + rng.integers(0, 2, len(place))) % (len(ROLES) - 1))
    return role, np.where(rng.random(len(place)) < 0.15, -1, role)


def _customer_spells(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per customer: account, first start and last end of its subscriptions."""
    s = world.subscriptions
    account = world.deals.account[s.opportunity]
    start = np.full(len(world.accounts), np.iinfo(np.int64).max)
    end = np.full(len(world.accounts), -1)
    np.minimum.at(start, account, s.started)
    np.maximum.at(end, account, s.ended)
    customers = np.flatnonzero(end >= 0)
    return customers, start[customers], end[customers]
