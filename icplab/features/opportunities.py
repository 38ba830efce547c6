"""Reads opportunities, rates and products, makes one row per opportunity known on a date, with its annual value."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.engine import DUCKDB, open_session
from icplab.core.schema import CANONICAL
from icplab.features import definitions as d
from icplab.features.catalogue import describe_traits, typed_traits
from icplab.features.families import build_families
from icplab.features.known import Tables, frame_of, known_frame, rolled_back
from icplab.features.measure import check_rates

FIRST = (
    *("opportunity_id", "account_id", "family_id", "created_at", "closed_at", "status", "type", "motion", "stage"),
    *("source", "campaign_id", "owner", "product", "loss_reason", "play", "term_months", "amount", "acv", "tcv"),
    *("margin_rate", "cycle_days", "age_days"),
)
_COMPUTED = ("closed_at", "status", "type", "motion", "loss_reason", "acv", "cycle_days", "age_days")


def build_opportunities(tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """One row per opportunity known on `as_of`, with its annual value in the reporting currency.

    Every row comes back as a frame, so this always runs on DuckDB; the account table takes the same queries to any engine.

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
    given = frame_of(tables, "opportunities").sort_values("opportunity_id", ignore_index=True)
    computed = _compute(given, tables, settings, as_of)
    frame = given.iloc[computed["place"].to_numpy()].reset_index(drop=True)
    frame = frame.assign(**{c: computed[c] for c in _COMPUTED}, tcv=computed["acv"] * computed["years"])
    described = describe_traits("opportunities", frame, settings, _known_history(tables, as_of))
    frame["family_id"] = _families(frame, tables, settings, as_of)
    frame["margin_rate"] = _margin_rate(frame, frame_of(tables, "products"), settings)
    frame = typed_traits(frame, described)
    further = [str(c) for c in frame.columns if c not in FIRST and c not in CANONICAL["opportunities"].by_name]
    return frame[[*FIRST, *sorted(further)]]


def _compute(given: pd.DataFrame, tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.DataFrame:
    """What the queries say of each known opportunity; `place` is its row in `given`."""
    declared = given[list(CANONICAL["opportunities"].by_name)]
    with open_session(DUCKDB) as session:
        session.give("opportunities", declared.assign(place=np.arange(len(given))))
        session.give("rates", frame_of(tables, "rates"))
        session.give("money", pd.DataFrame({"home": pd.Series([settings.workspace.currency or ""], dtype="str")}))
        for name, query in d.opportunity_views(as_of, settings.value.amount_is, "place").items():
            session.view(name, query)
        check_rates(session, "valued_opportunities", settings)
        columns = ", ".join(("place", "years", *_COMPUTED))
        return session.fetch(f"SELECT {columns} FROM valued_opportunities ORDER BY place")


def _families(frame: pd.DataFrame, tables: Tables, settings: Settings, as_of: pd.Timestamp) -> pd.Series:
    """Family of the account; an opportunity without account is its own family: nothing links it to another."""
    accounts = rolled_back(
        known_frame("accounts", frame_of(tables, "accounts"), as_of), frame_of(tables, "field_history"), as_of
    )
    known = {"accounts": accounts, "opportunities": frame_of(tables, "opportunities")}
    if settings.source("accounts").row_id:
        known["opportunities"] = known_frame("opportunities", known["opportunities"], as_of)
    families = build_families(known, settings)
    return frame["account_id"].map(families).fillna("~" + frame["opportunity_id"]).astype("str")


def _margin_rate(frame: pd.DataFrame, products: pd.DataFrame, settings: Settings) -> pd.Series:
    """Gross margin of the row, else of its product, else of [economics]; NaN when nowhere given."""
    by_product = products.sort_values(["product", "gross_margin"], kind="stable").drop_duplicates("product")
    margin = by_product.set_index("product")["gross_margin"]
    rate = frame["gross_margin"].astype("float64").fillna(frame["product"].map(margin).astype("float64"))
    default = settings.economics.gross_margin
    return rate if default is None else rate.fillna(default)


def _known_history(tables: Tables, as_of: pd.Timestamp) -> pd.DataFrame:
    return known_frame("field_history", frame_of(tables, "field_history"), as_of)
