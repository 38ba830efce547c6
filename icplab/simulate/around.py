"""Reads a world, makes what happens around the sales cycles: leads, activities, feedback, changes of fields."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.simulate.draw import pick
from icplab.simulate.exports import PLAYS
from icplab.simulate.names import choose, number_ids
from icplab.simulate.oracle import Evidence
from icplab.simulate.recipe import CHANNELS
from icplab.simulate.world import World, typed

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
FEEDBACK_SHARE = 0.3  # closed opportunities that a seller judges


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


def field_history_table(world: World) -> pd.DataFrame:
    """Changes of an account's owner, of its type once it buys, and of an opportunity's amount."""
    rng, a, d = world.streams("history"), world.accounts, world.deals
    moved = np.flatnonzero(rng.random(len(a)) < 0.05)
    before = (a.owner[moved] + 1) % len(world.owner_names)
    owner = _changes("accounts", "owner", choose(world.account_id, moved), _between(world, moved, rng))
    owner = owner.assign(old_value=choose(world.owner_names, before), new_value=world.seller_of(moved))
    first_win = np.full(len(a), world.clock.last + 1)
    won = d.won & d.is_closed
    np.minimum.at(first_win, d.account[won], d.closed[won])
    bought = np.flatnonzero(world.is_customer)
    kind = _changes("accounts", "account_type", choose(world.account_id, bought), first_win[bought])
    kind = kind.assign(old_value="prospect", new_value="customer")
    raised = np.flatnonzero(rng.random(len(d)) < 0.10)
    when = d.created[raised] + (np.minimum(d.closed[raised], world.clock.last) - d.created[raised]) // 2
    amount = _changes("opportunities", "amount", choose(world.opportunity_id, raised), when)
    old = np.round(d.acv[raised] * rng.uniform(0.8, 1.2, len(raised)), -1)
    amount = amount.assign(old_value=pd.Series(old).astype("str"), new_value=pd.Series(d.acv[raised]).astype("str"))
    frame = pd.concat([owner, kind, amount], ignore_index=True)
    frame["changed_at"] = world.clock.dates(frame["changed_at"].to_numpy())
    frame = frame.sort_values(["changed_at", "object", "record_id", "field"], ignore_index=True, kind="stable")
    return typed("field_history", frame, len(frame))


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


def _changes(table: str, column: str, records: pd.Series, days: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"record_id": records, "changed_at": days})
    return frame.assign(object=table, field=column)


def _between(world: World, accounts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start = np.maximum(world.account_created[accounts], 0)
    return start + np.floor(rng.random(len(accounts)) * (world.clock.last + 1 - start)).astype(int)
