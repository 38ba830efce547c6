"""Reads canonical tables held in memory, makes the account table the way pandas does: the oracle and the speed peer.

What is measured is written apart from `icplab.features`, so that one can be wrong without the other. The list of traits is one row
per account and pandas there as well: it is taken from there.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.errors import BadInput, Problem
from icplab.core.schema import CANONICAL
from icplab.features import BORN, LATER, build_catalogue, type_values

Tables = dict[str, pd.DataFrame]

INTENT_HALF_LIFE_DAYS = 30  # method.md §5 offers 7, 14, 30, 60; chosen forward by the tiers step later
ACTIVITY_WINDOWS = (30, 90, 365)
DECISION_MAKERS = re.compile(r"decision|economic|executive|sponsor|budget", re.IGNORECASE)


def view_on(tables: Tables, as_of: pd.Timestamp) -> Tables:
    """Canonical tables as known on `as_of` (inclusive).

    Rows born later are gone; dates after `as_of` are blank; an opportunity that closed later is open again, without loss
    reason; account values changed later (per `field_history`) are back at their old value. Rows without a birth date stay.
    """
    view = {name: _born_until(name, frame, as_of) for name, frame in tables.items()}
    for name, columns in LATER.items():
        if name in view:
            view[name] = _blank_later(name, view[name], columns, as_of)
    if "field_history" in tables and len(tables["field_history"]):
        view["accounts"] = _roll_back(view["accounts"], "accounts", "account_id", tables["field_history"], as_of)
    return view


def build_opportunities(tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """One row per opportunity known on `as_of`, with its annual value in the reporting currency.

    Returns
    -------
    DataFrame sorted by opportunity_id: opportunity_id, account_id (may be null), family_id, created_at, closed_at, status,
    type, motion (new or expansion), stage, source, campaign_id, owner, product, loss_reason, play, term_months, amount (as
    exported), acv (per year), tcv, margin_rate (fraction; NaN when nowhere given), cycle_days, age_days (open only), then
    every further column of the export, typed by the catalogue.

    Raises
    ------
    BadInput
        ICP-E065 when an amount is in a currency without a rate on its date.
    """
    view = view_on(tables, as_of)
    frame = view["opportunities"].sort_values("opportunity_id", ignore_index=True)
    frame["type"] = frame["type"].fillna("new")
    frame["motion"] = frame["type"].where(frame["type"] == "new", "expansion")
    families = build_families(view, settings)
    # An opportunity without account is its own family: nothing links it to another.
    frame["family_id"] = frame["account_id"].map(families).fillna("~" + frame["opportunity_id"]).astype("str")
    frame["acv"] = _annual(frame, settings) * _exchange(frame, view["rates"], settings, as_of)
    frame["tcv"] = frame["acv"] * frame["term_months"].fillna(12) / 12
    frame["margin_rate"] = _margin_rate(frame, view["products"], settings)
    frame["cycle_days"] = (frame["closed_at"] - frame["created_at"]).dt.days.astype("float64")
    age = (as_of - frame["created_at"]).dt.days.astype("float64")
    frame["age_days"] = age.where(frame["status"] == "open")
    catalogue = build_catalogue(view, settings)
    frame = _typed(frame, catalogue[catalogue["table"] == "opportunities"])
    first = [
        *(
            "opportunity_id",
            "account_id",
            "family_id",
            "created_at",
            "closed_at",
            "status",
            "type",
            "motion",
            "stage",
        ),
        *(
            "source",
            "campaign_id",
            "owner",
            "product",
            "loss_reason",
            "play",
            "term_months",
            "amount",
            "acv",
            "tcv",
        ),
        *("margin_rate", "cycle_days", "age_days"),
    ]
    further = [str(c) for c in frame.columns if c not in first and c not in CANONICAL["opportunities"].by_name]
    return frame[first + sorted(further)]


def build_accounts(tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """One row per account known on `as_of`: identity, candidate traits (typed), and what was measured until then.

    Counts from a table that was delivered are 0 where an account has no row; figures from a table that was not are null.
    Columns: see docs/architecture.md. Sorted by account_id.
    """
    view = view_on(tables, as_of)
    frame = view["accounts"].sort_values("account_id", ignore_index=True)
    catalogue = build_catalogue(view, settings)
    traits = catalogue.loc[catalogue["table"] == "accounts", "trait"].tolist()
    frame = _typed(frame, catalogue[catalogue["table"] == "accounts"])
    frame["family_id"] = frame["account_id"].map(build_families(view, settings)).astype("str")
    identity = [
        "account_id",
        "family_id",
        "name",
        "account_type",
        "owner",
        "domain",
        "linkedin_url",
        "created_at",
    ]
    frame = frame[identity + [c for c in traits if c not in identity]]
    measured = [
        _from_opportunities(build_opportunities(tables, settings, as_of)),
        _from_contacts(view["contacts"]),
        _from_roles(view["opportunity_contacts"], view["opportunities"]),
        _from_activities(view["activities"], as_of),
        _from_usage(view["usage"], as_of),
        _from_subscriptions(view["subscriptions"], view["rates"], settings, as_of),
    ]
    for part in measured:
        counts = [str(c) for c in part.columns if re.match(r"n_|activities_|contacts_90d", str(c))]
        frame = frame.merge(part, left_on="account_id", right_index=True, how="left")
        if len(part):
            frame[counts] = frame[counts].fillna(0)
        frame[counts] = frame[counts].astype("float64")
    frame["n_opportunities"] = frame["n_opportunities"].fillna(0)
    frame["n_technologies"] = _technologies(frame, catalogue[catalogue["table"] == "accounts"])
    frame["is_customer"] = (frame["n_won"].fillna(0) > 0).astype("boolean")
    return frame.copy()


def build_families(tables: Tables, settings: Settings) -> pd.Series:
    """Family of each account (index account_id): the root of its parent chain, the unit of resampling.

    Exports without identifiers (`row_id`) cannot say whether two identical records are one organisation, so records
    that agree in everything but their result share a family.
    """
    accounts = tables["accounts"]
    ids = pd.Index(accounts["account_id"])
    if settings.source("accounts").row_id:
        return _identical(tables, ids)
    parent = pd.Series(accounts["parent_account_id"].to_numpy(), index=ids)
    parent = parent.where(parent.isin(ids), pd.Series(ids, index=ids))
    # Pointer jumping: each round doubles the distance; 20 rounds reach any real hierarchy, and a loop cannot hang it.
    for _ in range(20):
        parent = pd.Series(parent.reindex(parent.to_numpy()).to_numpy(), index=ids)
    return parent.astype("str")


def _born_until(name: str, frame: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    if name not in BORN:
        return frame.copy()
    born = frame[BORN[name]]
    return frame[born.isna() | (born <= as_of)].copy()


def _blank_later(name: str, frame: pd.DataFrame, columns: tuple[str, ...], as_of: pd.Timestamp) -> pd.DataFrame:
    if name == "opportunities":
        reopened = frame["closed_at"] > as_of
        frame["status"] = frame["status"].mask(reopened, "open")
        frame["loss_reason"] = frame["loss_reason"].mask(reopened)
    for column in columns:
        frame[column] = frame[column].where(frame[column] <= as_of)
    return frame


def _roll_back(frame: pd.DataFrame, table: str, key: str, history: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Values as they were on `as_of`: the old value of the first change after it."""
    later = history[(history["object"] == table) & (history["changed_at"] > as_of)]
    first = later.sort_values("changed_at", kind="stable").drop_duplicates(["record_id", "field"])
    for field, changes in first.groupby("field"):
        if field in frame and field != key:
            back = changes.set_index("record_id")["old_value"]
            known = frame[key].isin(back.index)
            old = frame.loc[known, key].map(back)
            frame.loc[known, field] = pd.to_numeric(old) if frame[field].dtype == "float64" else old
    return frame


def _typed(frame: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    kinds = dict(zip(catalogue["trait"], catalogue["kind"], strict=True))
    typed = {str(column): type_values(frame[str(column)], kind) for column, kind in kinds.items()}
    return frame.assign(**typed)


def _annual(frame: pd.DataFrame, settings: Settings) -> pd.Series:
    """Annual value: amount × 12 / term where a term is given, else as [value] amount_is says."""
    factor = {"annual": 1.0, "total": 1.0, "monthly": 12.0}[settings.value.amount_is]
    per_term = 12.0 / frame["term_months"].where(frame["term_months"] > 0)
    return frame["amount"] * per_term.fillna(factor)


def _exchange(
    frame: pd.DataFrame,
    rates: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    dated: str = "closed_at",
) -> pd.Series:
    """Worth of one unit of each row's currency in the reporting currency, on its date (else created, else as_of)."""
    home = settings.workspace.currency
    foreign = frame["currency"].notna() & (frame["currency"] != home) & (frame["currency"].nunique() > 1 or bool(home))
    if not foreign.any() or (not home and frame["currency"].nunique() == 1):
        return pd.Series(1.0, index=frame.index)
    dates = frame[dated]
    if "created_at" in frame:
        dates = dates.fillna(frame["created_at"])
    wanted = pd.DataFrame({"currency": frame["currency"], "at": dates.fillna(as_of), "row": frame.index})
    wanted = wanted[foreign].sort_values("at", kind="stable")
    known = rates.rename(columns={"valid_from": "at"})[["currency", "at", "rate"]].sort_values("at", kind="stable")
    found = pd.merge_asof(wanted, known, on="at", by="currency")
    missing = found[found["rate"].isna()]
    if len(missing):
        first = missing.iloc[0]
        raise BadInput(
            Problem(
                "ICP-E065",
                f"has no exchange rate to {home or 'a reporting currency'} on {first['at']:%Y-%m-%d}",
                fix="add a rates table (currency, valid_from, rate) and [workspace] currency",
                column="currency",
                value=str(first["currency"]),
                count=len(missing),
            )
        )
    return pd.Series(1.0, index=frame.index).where(~foreign, found.set_index("row")["rate"].reindex(frame.index))


def _margin_rate(frame: pd.DataFrame, products: pd.DataFrame, settings: Settings) -> pd.Series:
    """Gross margin of the row, else of its product, else of [economics]; NaN when nowhere given."""
    by_product = products.drop_duplicates("product").set_index("product")["gross_margin"]
    rate = frame["gross_margin"].astype("float64").fillna(frame["product"].map(by_product).astype("float64"))
    default = settings.economics.gross_margin
    return rate if default is None else rate.fillna(default)


def _identical(tables: Tables, ids: pd.Index) -> pd.Series:
    """Accounts whose records agree in everything but ids and results share a family: that of the first such record."""
    accounts = tables["accounts"].drop(columns=["name", "domain", "parent_account_id"], errors="ignore")
    result = ["opportunity_id", "status", "closed_at", "stage", "loss_reason"]
    opportunities = tables["opportunities"].drop(columns=result, errors="ignore")
    records = accounts.merge(opportunities, on="account_id", how="left", suffixes=("", "_opportunity"))
    records = records.sort_values("account_id", kind="stable")
    code = records.drop(columns="account_id").astype("str").fillna("").agg("\x1f".join, axis=1)
    code = code.groupby(records["account_id"]).agg("\x1e".join)
    first = pd.Series(code.index, index=code.index).groupby(code).transform("min")
    return first.reindex(ids).astype("str")


def _from_opportunities(frame: pd.DataFrame) -> pd.DataFrame:
    known = frame[frame["account_id"].notna()]
    won, still_open = known[known["status"] == "won"], known[known["status"] == "open"]
    counts = pd.crosstab(known["account_id"], known["status"]).reindex(columns=["won", "lost", "open"], fill_value=0)
    of_won = won.groupby("account_id")
    bought = won.groupby(["account_id", "product"]).size().reset_index(name="n")
    top = bought.sort_values(["account_id", "n", "product"], ascending=[True, False, True]).drop_duplicates(
        "account_id"
    )
    return pd.DataFrame(
        {
            "n_opportunities": counts.sum(axis=1),
            "n_won": counts["won"],
            "n_lost": counts["lost"],
            "n_open": counts["open"],
            "last_closed_at": known.groupby("account_id")["closed_at"].max(),
            "won_acv": of_won["acv"].sum(min_count=1),
            "open_acv": still_open.groupby("account_id")["acv"].sum(min_count=1),
            "median_won_acv": of_won["acv"].median(),
            "median_cycle_days": of_won["cycle_days"].median(),
            "first_won_at": of_won["closed_at"].min(),
            "last_won_at": of_won["closed_at"].max(),
            "n_products": of_won["product"].nunique(),
            "top_product": top.set_index("account_id")["product"],
        }
    ).rename_axis("account_id")


def _from_contacts(contacts: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"n_contacts": contacts.groupby("account_id")["contact_id"].nunique()})


def _from_roles(roles: pd.DataFrame, opportunities: pd.DataFrame) -> pd.DataFrame:
    """Roles on opportunities count only where the opportunity is known."""
    on_known = roles[roles["opportunity_id"].isin(opportunities["opportunity_id"])]
    owner = opportunities.set_index("opportunity_id")["account_id"]
    on_known = on_known.assign(account_id=on_known["opportunity_id"].map(owner))
    deciding = on_known[on_known["role"].fillna("").str.contains(DECISION_MAKERS)]
    return pd.DataFrame(
        {
            "n_roles": on_known.groupby("account_id")["role"].nunique(),
            "n_decision_makers": deciding.groupby("account_id")["contact_id"].nunique(),
        }
    ).rename_axis("account_id")


def _from_activities(activities: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Events in windows before `as_of`, in all and by type, and their weight halved every INTENT_HALF_LIFE_DAYS."""
    account = activities["account_id"]
    age = (as_of - activities["occurred_at"]).dt.days.astype("float64")
    weight = activities["weight"].fillna(1.0) * np.exp2(-age / INTENT_HALF_LIFE_DAYS)
    events = activities.groupby("account_id")
    columns = {f"activities_{days}d": (age < days).astype("int64").groupby(account).sum() for days in ACTIVITY_WINDOWS}
    year = activities[age < max(ACTIVITY_WINDOWS)]
    name = year["type"].map(
        {t: re.sub(r"[^a-z0-9]+", "_", t.lower()).strip("_") for t in year["type"].dropna().unique()}
    )
    frequent = set(
        name.value_counts().reset_index().sort_values(["count", "type"], ascending=[False, True])["type"][:12]
    )
    name = name.where(name.isin(frequent) | name.isna(), "other")
    for days in ACTIVITY_WINDOWS:
        table = pd.crosstab(year["account_id"], name.where(age.loc[year.index] < days))
        for kind in sorted(name.dropna().unique()):
            columns[f"activities_{days}d_{kind}"] = table[kind] if kind in table else pd.Series(dtype="int64")
    recent = activities[age < 90].dropna(subset="contact_id")
    columns["contacts_90d"] = recent.groupby("account_id")["contact_id"].nunique()
    columns["n_activities"] = events.size()
    columns["intent_30d"] = weight.groupby(account).sum().round(9)
    columns["first_activity_at"] = events["occurred_at"].min()
    columns["last_activity_at"] = events["occurred_at"].max()
    return pd.DataFrame(columns).rename_axis("account_id")


def _from_usage(usage: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    day = pd.Timedelta(days=1)
    recent = usage[usage["period"] > as_of - 90 * day].groupby("account_id")["value"].sum(min_count=1)
    earlier = usage[(usage["period"] > as_of - 180 * day) & (usage["period"] <= as_of - 90 * day)]
    earlier = earlier.groupby("account_id")["value"].sum(min_count=1)
    return pd.DataFrame(
        {
            "usage_90d": recent,
            "usage_trend": (recent / earlier.where(earlier > 0) - 1),
            "last_usage_at": usage.groupby("account_id")["period"].max(),
        }
    ).rename_axis("account_id")


def _from_subscriptions(
    subscriptions: pd.DataFrame, rates: pd.DataFrame, settings: Settings, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Recurring revenue in force on `as_of`, in the reporting currency."""
    running = subscriptions[subscriptions["ended_at"].isna()]
    monthly = running["mrr"] * _exchange(running, rates, settings, as_of, dated="started_at")
    mrr = monthly.groupby(running["account_id"]).sum(min_count=1)
    all_ended = ~subscriptions["account_id"].isin(running["account_id"])
    periods = subscriptions.groupby("account_id")
    return pd.DataFrame(
        {
            "mrr": mrr,
            "arr": mrr * 12,
            "n_subscriptions": subscriptions["ended_at"]
            .isna()
            .astype("int64")
            .groupby(subscriptions["account_id"])
            .sum(),
            "subscribed_at": periods["started_at"].min(),
            "churned_at": subscriptions[all_ended].groupby("account_id")["ended_at"].max(),
        }
    ).rename_axis("account_id")


def _technologies(frame: pd.DataFrame, catalogue: pd.DataFrame) -> pd.Series:
    """Items of lists and technology flags that say yes, among what is not blank."""
    parts = []
    for trait, kind, role in zip(catalogue["trait"], catalogue["kind"], catalogue["role"], strict=True):
        if kind == "multi":
            parts.append(frame[trait].map(lambda v: float(len([i for i in v.split(";") if i])), na_action="ignore"))
        elif kind == "flag" and role == "technology":
            parts.append(frame[trait].astype("Float64").astype("float64"))
    if not parts:
        return pd.Series(np.nan, index=frame.index)
    return pd.concat([p.astype("float64") for p in parts], axis=1).sum(axis=1, min_count=1)
