"""Reads nothing, makes the queries that define what is measured per account: once, for DuckDB and for Spark.

Relations a query may name: the canonical tables; `ids` (account_key, account_id); `money` (one row: home, the reporting currency);
`decay` (day, weight 2^(-age / half-life) of an event of that day); `kinds` (type, code of each type of activity). No text of data
stands in a query.
"""

from __future__ import annotations

import pandas as pd

from icplab.features.known import known_sql, sql_day

INTENT_HALF_LIFE_DAYS = 30  # method.md §5 offers 7, 14, 30, 60; chosen forward by the tiers step later
OLDEST_DAYS = 20_000  # events older than this weigh what an event of that age does: nothing (2^-666)
ACTIVITY_WINDOWS = (30, 90, 365)
USAGE_WINDOW = 90
DECISION_WORDS = ("decision", "economic", "executive", "sponsor", "budget")
ANNUAL_FACTOR = {"annual": 1.0, "total": 1.0, "monthly": 12.0}

_OPPORTUNITY = (
    *("opportunity_id", "account_id", "created_at", "closed_at", "status", "type", "product", "currency"),
    *("amount", "term_months", "loss_reason"),
)
_SUBSCRIPTION = ("subscription_id", "account_id", "started_at", "ended_at", "mrr", "currency")
_RATE = ("currency", "valid_from", "rate")

# A rate holds from its date until the next of its currency. A foreign amount is one in another currency than the reporting one;
# without a reporting currency there is nothing to convert as long as all amounts are in the same.
RATE_SPANS = """
SELECT currency, rate, valid_from, lead(valid_from) OVER (PARTITION BY currency ORDER BY valid_from, rate) AS valid_until
FROM known_rates"""
_FOREIGN = """(t.currency IS NOT NULL AND t.currency <> (SELECT home FROM money)
    AND ((SELECT home FROM money) <> '' OR (SELECT count(DISTINCT currency) FROM {table}) > 1))"""
_CONVERTED = """
SELECT t.*, {foreign} AS is_foreign, r.rate
FROM (SELECT *, coalesce({dated}) AS worth_on FROM {table}) AS t
LEFT JOIN rate_spans AS r
  ON r.currency = t.currency AND r.valid_from <= t.worth_on AND (r.valid_until IS NULL OR t.worth_on < r.valid_until)"""

# One row per opportunity. An amount with a term is the total over the term; acv is per year in the reporting currency.
VALUED_OPPORTUNITIES = """
SELECT opportunity_id, account_id, created_at, closed_at, status, coalesce(type, 'new') AS type,
       CASE WHEN coalesce(type, 'new') = 'new' THEN 'new' ELSE 'expansion' END AS motion, product, loss_reason, worth_on, currency,
       is_foreign AND rate IS NULL AS rate_is_missing,
       amount * coalesce(12.0 / CASE WHEN term_months > 0 THEN term_months END, {factor})
              * CASE WHEN is_foreign THEN rate ELSE 1.0 END AS acv,
       coalesce(term_months, 12) / 12.0 AS years,
       CAST(date_diff('day', created_at, closed_at) AS DOUBLE) AS cycle_days,
       CASE WHEN status = 'open' THEN CAST(date_diff('day', created_at, {day}) AS DOUBLE) END AS age_days{further}
FROM converted_opportunities"""

VALUED_SUBSCRIPTIONS = """
SELECT subscription_id, account_id, started_at, ended_at, worth_on, currency, ended_at IS NULL AND is_foreign AND rate IS NULL
       AS rate_is_missing, mrr * CASE WHEN is_foreign THEN rate ELSE 1.0 END AS mrr
FROM converted_subscriptions"""

MISSING_RATES = """
SELECT currency, worth_on, count(*) OVER () AS n FROM {table} WHERE rate_is_missing ORDER BY worth_on, currency LIMIT 1"""

OF_OPPORTUNITIES = """
SELECT account_id,
       count(*) AS n_opportunities,
       count(*) FILTER (WHERE status = 'won') AS n_won,
       count(*) FILTER (WHERE status = 'lost') AS n_lost,
       count(*) FILTER (WHERE status = 'open') AS n_open,
       max(closed_at) AS last_closed_at,
       sum(CASE WHEN status = 'won' THEN acv END) AS won_acv,
       sum(CASE WHEN status = 'open' THEN acv END) AS open_acv,
       median(CASE WHEN status = 'won' THEN acv END) AS median_won_acv,
       median(CASE WHEN status = 'won' THEN cycle_days END) AS median_cycle_days,
       min(CASE WHEN status = 'won' THEN closed_at END) AS first_won_at,
       max(CASE WHEN status = 'won' THEN closed_at END) AS last_won_at
FROM valued_opportunities WHERE account_id IS NOT NULL GROUP BY account_id"""

# How many products were bought, and the one bought most often; of equally many, the first by name. Counted from one row per
# product: distinct products beside the sums above would cost as much as all of them.
OF_PRODUCTS = """
SELECT account_id, n_products, product AS top_product FROM (
  SELECT account_id, product, count(*) OVER (PARTITION BY account_id) AS n_products,
         row_number() OVER (PARTITION BY account_id ORDER BY bought DESC, product) AS place FROM (
    SELECT account_id, product, count(*) AS bought FROM valued_opportunities
    WHERE status = 'won' AND account_id IS NOT NULL AND product IS NOT NULL GROUP BY account_id, product) AS counted
) AS ranked WHERE place = 1"""

OF_CONTACTS = "SELECT account_id, count(DISTINCT contact_id) AS n_contacts FROM contacts GROUP BY account_id"

OF_ROLES = """
SELECT o.account_id, count(DISTINCT r.role) AS n_roles,
       count(DISTINCT CASE WHEN {decides} THEN r.contact_id END) AS n_decision_makers
FROM opportunity_contacts AS r JOIN valued_opportunities AS o ON o.opportunity_id = r.opportunity_id
WHERE o.account_id IS NOT NULL GROUP BY o.account_id"""

# One row per account that any event names: the only scan of all events. The weight of a day comes from a table by the day itself:
# to work out ages would take as long as the rest of the scan, and an exponential per event longer.
OF_ACTIVITIES = """
SELECT account_key, count(*) AS n_activities, min(occurred_at) AS first_activity_at, max(occurred_at) AS last_activity_at,
       sum(coalesce(weight, 1.0) * halved) AS intent_30d
FROM (SELECT account_key, occurred_at, weight, greatest(CAST(occurred_at AS DATE), {oldest}) AS day
      FROM activities WHERE occurred_at <= {day}{since}) AS e
JOIN decay USING (day) GROUP BY account_key"""

# These read recent row groups only, as events are stored in the order of time. A cell is an account and a type in one number.
TYPES = """
SELECT type, count(*) AS n FROM activities
WHERE occurred_at > {day_365} AND occurred_at <= {day} AND type IS NOT NULL GROUP BY type ORDER BY n DESC, type"""

BY_CELL = """
SELECT account_key * {codes} + coalesce(code, {codes} - 1) AS cell, count(*) AS n_365,
       count(CASE WHEN occurred_at > {day_90} THEN 1 END) AS n_90, count(CASE WHEN occurred_at > {day_30} THEN 1 END) AS n_30
FROM activities LEFT JOIN kinds USING (type)
WHERE occurred_at > {day_365} AND occurred_at <= {day} AND account_key IS NOT NULL GROUP BY 1"""

OF_ACTIVE_CONTACTS = """
SELECT account_key, count(*) AS contacts_90d FROM (
  SELECT DISTINCT account_key, contact_key FROM activities
  WHERE occurred_at > {day_90} AND occurred_at <= {day} AND contact_key IS NOT NULL) AS pairs GROUP BY account_key"""

OF_USAGE = """
SELECT account_id, sum(CASE WHEN period > {recent} THEN value END) AS usage_90d, max(period) AS last_usage_at,
       CASE WHEN sum(CASE WHEN period > {before} AND period <= {recent} THEN value END) > 0
            THEN sum(CASE WHEN period > {recent} THEN value END)
                 / sum(CASE WHEN period > {before} AND period <= {recent} THEN value END) - 1 END AS usage_trend
FROM known_usage GROUP BY account_id"""

OF_SUBSCRIPTIONS = """
SELECT account_id, sum(CASE WHEN ended_at IS NULL THEN mrr END) AS mrr,
       12 * sum(CASE WHEN ended_at IS NULL THEN mrr END) AS arr,
       count(*) FILTER (WHERE ended_at IS NULL) AS n_subscriptions, min(started_at) AS subscribed_at,
       CASE WHEN count(*) FILTER (WHERE ended_at IS NULL) = 0 THEN max(ended_at) END AS churned_at
FROM valued_subscriptions GROUP BY account_id"""


def opportunity_views(as_of: pd.Timestamp, amount_is: str, further: str = "") -> dict[str, str]:
    """Queries by the names they go under, in order: rates, opportunities as known on the date, their annual value."""
    columns = (*_OPPORTUNITY, *((further,) if further else ()))
    day = sql_day(as_of)
    return {
        "known_rates": known_sql("rates", _RATE, as_of),
        "rate_spans": RATE_SPANS,
        "known_opportunities": known_sql("opportunities", columns, as_of),
        "converted_opportunities": _converted("known_opportunities", f"closed_at, created_at, {day}"),
        "valued_opportunities": VALUED_OPPORTUNITIES.format(
            factor=ANNUAL_FACTOR[amount_is], day=day, further=f", {further}" if further else ""
        ),
    }


def subscription_views(as_of: pd.Timestamp) -> dict[str, str]:
    """As `opportunity_views`: recurring revenue as known on the date, in the reporting currency."""
    return {
        "known_subscriptions": known_sql("subscriptions", _SUBSCRIPTION, as_of),
        # Only what runs has to be converted, and only its currencies count.
        "running_subscriptions": "SELECT * FROM known_subscriptions WHERE ended_at IS NULL",
        "converted_subscriptions": _converted(
            "known_subscriptions", f"started_at, {sql_day(as_of)}", counted="running_subscriptions"
        ),
        "valued_subscriptions": VALUED_SUBSCRIPTIONS,
    }


def activity_queries(as_of: pd.Timestamp) -> dict[str, str]:
    """Queries on events: all until the date, types of the year before, people active in the last 90 days."""
    days = _windows(as_of)
    return {
        "of_activities": all_events(as_of),
        "types": TYPES.format(**days),
        "of_active_contacts": OF_ACTIVE_CONTACTS.format(**days),
    }


def all_events(as_of: pd.Timestamp, since: str = "") -> str:
    """What is counted and summed over all events; `since` is a further condition."""
    oldest = f"DATE '{oldest_day(as_of):%Y-%m-%d}'"
    return OF_ACTIVITIES.format(day=sql_day(as_of), oldest=oldest, since=since)


def cell_query(as_of: pd.Timestamp, codes: int) -> str:
    """Events of the windows by account and type: cell = key of the account * codes + code of the type, the last one for none."""
    return BY_CELL.format(codes=int(codes), **_windows(as_of))


def oldest_day(as_of: pd.Timestamp) -> pd.Timestamp:
    """The first day of `decay`."""
    return as_of.normalize() - pd.Timedelta(days=OLDEST_DAYS)


def _windows(as_of: pd.Timestamp) -> dict[str, str]:
    return {"day": sql_day(as_of), **{f"day_{w}": sql_day(as_of - pd.Timedelta(days=w)) for w in ACTIVITY_WINDOWS}}


def usage_queries(as_of: pd.Timestamp) -> dict[str, str]:
    """Queries on usage: the last 90 days, and how they compare with the 90 days before."""
    recent, before = (sql_day(as_of - pd.Timedelta(days=d)) for d in (USAGE_WINDOW, 2 * USAGE_WINDOW))
    return {
        "known_usage": known_sql("usage", ("account_id", "period", "value"), as_of),
        "of_usage": OF_USAGE.format(recent=recent, before=before),
    }


def role_query() -> str:
    """People and roles on known opportunities."""
    return OF_ROLES.format(decides=" OR ".join(f"lower(r.role) LIKE '%{word}%'" for word in DECISION_WORDS))


def _converted(table: str, dated: str, counted: str = "") -> str:
    return _CONVERTED.format(foreign=_FOREIGN.format(table=counted or table), table=table, dated=dated)
