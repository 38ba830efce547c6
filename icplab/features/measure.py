"""Reads canonical tables on an engine, makes what was measured per account until a date."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from icplab.core.config import Settings
from icplab.core.engine import Session
from icplab.core.errors import BadInput, Problem
from icplab.core.schema import CANONICAL
from icplab.features import definitions as d
from icplab.features.known import Source, Tables
from icplab.features.state import Refresh, keep_events

MEASURED_TABLES = (
    *("opportunities", "rates", "contacts", "opportunity_contacts", "activities", "usage", "subscriptions"),
)
MAX_TYPES = 12  # types of activity with columns of their own; the rest is counted as "other"
# Relation of each part, its key in `ids`, and its columns: those that count are 0 where the table was delivered.
PARTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "of_opportunities": (
        "account_id",
        ("n_opportunities", "n_won", "n_lost", "n_open"),
        *(
            (
                *("last_closed_at", "won_acv", "open_acv", "median_won_acv", "median_cycle_days"),
                *("first_won_at", "last_won_at"),
            ),
        ),
    ),
    "of_products": ("account_id", ("n_products",), ("top_product",)),
    "of_contacts": ("account_id", ("n_contacts",), ()),
    "of_roles": ("account_id", ("n_roles", "n_decision_makers"), ()),
    "of_activities": ("account_key", ("n_activities",), ("first_activity_at", "last_activity_at", "intent_30d")),
    "of_active_contacts": ("account_key", ("contacts_90d",), ()),
    "of_usage": ("account_id", (), ("usage_90d", "last_usage_at", "usage_trend")),
    "of_subscriptions": ("account_id", ("n_subscriptions",), ("mrr", "arr", "subscribed_at", "churned_at")),
}
# Columns in the order of the account table; events of the windows, in all and by type, follow `n_activities`.
COLUMNS = (
    *("n_opportunities", "n_won", "n_lost", "n_open", "last_closed_at", "won_acv", "open_acv", "median_won_acv"),
    *("median_cycle_days", "first_won_at", "last_won_at", "n_products", "top_product"),
    *("n_contacts", "n_roles", "n_decision_makers", "contacts_90d"),
    *(
        "n_activities",
        "intent_30d",
        "first_activity_at",
        "last_activity_at",
        "usage_90d",
        "usage_trend",
        "last_usage_at",
    ),
    *("mrr", "arr", "n_subscriptions", "subscribed_at", "churned_at"),
)


def measure_accounts(
    session: Session,
    tables: Tables,
    account_ids: pd.Series,
    settings: Settings,
    as_of: pd.Timestamp,
    refresh: Refresh | None = None,
) -> pd.DataFrame:
    """What was measured per account until `as_of`, rows as in `account_ids` (all accounts of the table, in its order).

    Counts are float64, 0 where the table was delivered and null where it was not (no row of it was known on the date);
    money, medians, dates and names are null where there is nothing to say.

    Raises
    ------
    BadInput
        ICP-E065 when an amount is in a currency without a rate on its date.
    """
    events = give_tables(session, tables, account_ids, settings, as_of)
    for name, query in d.opportunity_views(as_of, settings.value.amount_is).items():
        session.view(name, query)
    for name, query in d.subscription_views(as_of).items():
        session.view(name, query)
    check_rates(session, "valued_opportunities", settings)
    check_rates(session, "valued_subscriptions", settings)
    activities = d.activity_queries(as_of)
    usage = d.usage_queries(as_of)
    session.view("known_usage", usage["known_usage"])
    parts = {
        "of_opportunities": d.OF_OPPORTUNITIES,
        "of_products": d.OF_PRODUCTS,
        "of_contacts": d.OF_CONTACTS,
        "of_roles": d.role_query(),
        "of_activities": activities["of_activities"],
        "of_active_contacts": activities["of_active_contacts"],
        "of_usage": usage["of_usage"],
        "of_subscriptions": d.OF_SUBSCRIPTIONS,
    }
    if events is not None and keep_events(session, events, as_of, refresh or Refresh()):
        del parts["of_activities"]
    for name, query in parts.items():
        session.keep(name, query)
    counted = count_types(session, activities["types"], as_of, len(account_ids))
    return _joined(session, counted)


def give_tables(
    session: Session, tables: Tables, account_ids: pd.Series, settings: Settings, as_of: pd.Timestamp
) -> Path | None:
    """Everything the queries name: canonical tables, the keys of accounts, the reporting currency, the weights of days.

    Returns the file of events where the engine reads one whose keys can be believed.
    """
    day = pd.date_range(d.oldest_day(as_of), as_of.normalize(), unit="s")
    halved = np.exp2(-np.arange(len(day))[::-1] / d.INTENT_HALF_LIFE_DAYS)
    _keep_small(session, "decay", pa.table({"day": pa.array(day).cast(pa.date32()), "halved": halved}))
    session.give("money", pa.table({"home": pa.array([settings.workspace.currency or ""], pa.string())}))
    ids = {"account_key": pa.array(np.arange(len(account_ids)), pa.int32()), "account_id": _text(account_ids)}
    session.give("ids", pa.table(ids))
    for name in MEASURED_TABLES:
        if name != "activities":
            session.give(name, _given(name, tables.get(name)))
    return _give_activities(session, tables.get("activities"), account_ids)


def check_rates(session: Session, table: str, settings: Settings) -> None:
    """Refuse amounts that cannot be converted."""
    missing = session.fetch(d.MISSING_RATES.format(table=table))
    if missing.empty:
        return
    first, home = missing.iloc[0], settings.workspace.currency
    raise BadInput(
        Problem(
            "ICP-E065",
            f"has no exchange rate to {home or 'a reporting currency'} on {first['worth_on']:%Y-%m-%d}",
            fix="add a rates table (currency, valid_from, rate) and [workspace] currency",
            column="currency",
            value=str(first["currency"]),
            count=int(first["n"]),
        )
    )


def name_types(types: pd.DataFrame) -> pd.DataFrame:
    """Types of activity (most frequent first) with the name and code of their columns; spellings of one name are one."""
    types = types.assign(name=[_slug(t) for t in types["type"]])
    counts = types.groupby("name", sort=True)["n"].sum().sort_values(ascending=False, kind="stable")
    own = counts.index[:MAX_TYPES] if len(counts) > MAX_TYPES else counts.index
    types["name"] = types["name"].where(types["name"].isin(own), "other").astype("str")
    ordered = sorted(types["name"].unique())
    types["code"] = types["name"].map({n: i for i, n in enumerate(ordered)}).astype("int32")
    return types


def count_types(session: Session, types: str, as_of: pd.Timestamp, accounts: int) -> pd.DataFrame:
    """Events of each window in all and by type: one row per account in the order of keys, columns as in the account table.

    The engine counts cells; they are spread over columns here, as a sum per column in a query costs more than all the counting.
    """
    typed = name_types(session.fetch(types))
    _keep_small(session, "kinds", typed[["type", "code"]])
    names = typed.drop_duplicates("code").sort_values("code")["name"].tolist()
    codes = len(names) + 1  # the last one: events without a type
    cells = session.fetch(d.cell_query(as_of, codes))
    place, code = np.divmod(cells["cell"].to_numpy(dtype="int64"), codes)
    windows = len(d.ACTIVITY_WINDOWS)
    spread = np.zeros((windows * codes, accounts))
    for i, window in enumerate(d.ACTIVITY_WINDOWS):
        count = cells[f"n_{window}"].to_numpy(dtype="float64")
        spread[windows + code * windows + i, place] = count
        spread[i] = np.bincount(place, weights=count, minlength=accounts)
    columns = [f"activities_{w}d{n}" for n in ("", *(f"_{name}" for name in names)) for w in d.ACTIVITY_WINDOWS]
    return pd.DataFrame(spread[: len(columns)].T, columns=columns)


def _joined(session: Session, counted: pd.DataFrame) -> pd.DataFrame:
    """All parts beside the accounts, columns in the order of the table."""
    flags = ", ".join(f"(SELECT count(*) FROM {part}) > 0 AS {part}" for part in PARTS)
    there = session.fetch(f"SELECT {flags}").iloc[0]
    there["of_active_contacts"], there["of_products"] = there["of_activities"], there["of_opportunities"]
    chosen, joins = {}, []
    for part, (key, counts, others) in PARTS.items():
        joins.append(f"LEFT JOIN {part} ON {part}.{key} = ids.{key}")
        for name in counts:
            number = f"CAST({part}.{name} AS DOUBLE)"
            zero = bool(there[part]) or name == "n_opportunities"
            chosen[name] = f"coalesce({number}, 0)" if zero else number
        chosen |= {c: f"{part}.{c}" for c in others}
    selected = ", ".join(f"{chosen[name]} AS {name}" for name in COLUMNS)
    frame = session.fetch(f"SELECT {selected} FROM ids {' '.join(joins)} ORDER BY ids.account_key")
    frame["intent_30d"] = frame["intent_30d"].round(9)
    if not there["of_activities"]:
        counted = counted * np.nan
    after = COLUMNS.index("n_activities") + 1
    return pd.concat([frame.iloc[:, :after], counted, frame.iloc[:, after:]], axis=1)


def _keep_small(session: Session, name: str, rows: pd.DataFrame | pa.Table) -> None:
    """Give rows as a table of the engine's own: of that it knows the range of each column, and joins by place instead of hash."""
    session.give(f"{name}_given", rows)
    session.keep(name, f"SELECT * FROM {name}_given")


def _given(name: str, source: Source | None) -> Source:
    """A table for the engine: a file as it is, a frame with declared columns in an order that is not the caller's."""
    table = CANONICAL[name]
    if source is None:
        return table.empty()
    if isinstance(source, Path):
        return source
    declared = list(table.by_name)
    return source[declared].sort_values(declared, kind="stable", ignore_index=True)


def _give_activities(session: Session, source: Source | None, account_ids: pd.Series) -> Path | None:
    """Events with the keys the intake wrote; where these are not of these accounts, keys are found by joining text."""
    given = _given("activities", source)
    if isinstance(given, Path) and has_keys(given, account_ids):
        session.give("activities", given)
        return given
    session.give("events_given", given)
    columns = ", ".join(f"e.{c}" for c in CANONICAL["activities"].by_name)
    session.view(
        "activities",
        f"SELECT {columns}, ids.account_key, e.contact_id AS contact_key "
        "FROM events_given AS e LEFT JOIN ids ON ids.account_id = e.account_id",
    )
    return None


def has_keys(path: Path, account_ids: pd.Series) -> bool:
    """Whether a file of events carries keys, and they are places in this very list of accounts (by the first events)."""
    file = pq.ParquetFile(path)
    if not {"account_key", "contact_key"} <= set(file.schema_arrow.names):
        return False
    first: Iterable[pa.RecordBatch] = file.iter_batches(batch_size=10_000, columns=["account_id", "account_key"])
    for batch in first:
        held = batch.to_pandas()
        key = held["account_key"].to_numpy(dtype="float64", na_value=-1).astype("int64")
        if key.max(initial=-1) >= len(account_ids):
            return False
        expected = account_ids.reindex(key).to_numpy()
        return bool((pd.Series(expected) == held["account_id"]).where(key >= 0, True).all())
    return True


def _slug(text: str) -> str:
    """A type of activity as part of a column name: small letters, digits and underscores; `unnamed` where none is left."""
    plain = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[^\w]+", "_", plain).strip("_") or "unnamed"


def _text(values: pd.Series) -> pa.Array:
    return pa.array(values.astype(object).where(values.notna(), None), pa.string())
