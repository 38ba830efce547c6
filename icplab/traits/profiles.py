"""Reads traits, segments, opportunities and people, makes `icps`: one profile of the best-fit accounts per segment.

A profile says what is measured and where the evidence ends; nothing in it is written by hand except the problem statement,
which people keep in `playbook.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.errors import BadInput
from icplab.core.schema import ALL, UNASSIGNED
from icplab.core.stats.intervals import wilson
from icplab.traits.indicators import CountEarly, measure_leading_indicators
from icplab.traits.outcomes import BY_CUSTOMER, observe
from icplab.traits.pain import NOT_ENOUGH, describe_pain, list_shares
from icplab.traits.people import link_personas, measure_roles
from icplab.traits.rules import draft_rule

Tables = Mapping[str, pd.DataFrame]


def draft_icps(
    traits: pd.DataFrame,
    segments: pd.DataFrame,
    account_segments: pd.DataFrame,
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    *,
    as_of: pd.Timestamp,
    tables: Tables | None = None,
    count_early: CountEarly | None = None,
    early: pd.DataFrame | None = None,
    kpis: pd.DataFrame | None = None,
) -> list[dict]:
    """Ideal customer profile of every segment, as the JSON artefact `icps`.

    Parameters
    ----------
    traits
        The artefact `traits`.
    segments, account_segments
        Artefacts of the map. Without segments the one row is `S0`, the whole market, and the profile belongs to it.
    opportunities, accounts, catalogue
        As `features` builds them.
    settings
        `playbook` holds the problem statements, `plan.minimum_n` the least evidence, `economics` the value of a win.
    as_of
        Date everything is known on.
    tables
        Canonical tables; reads contacts, opportunity_contacts, leads, subscriptions, usage and activities where there are any.
    count_early
        Counts activities of accounts (index) from their dates (values) for a number of days, as `step.count_early` does, where
        they would be too many to load; by default they are counted in `tables`.
    early
        From `measure_leading_indicators`, where it was measured already.
    kpis
        The artefact `kpis` with the cut `segment`, for the lifetime value of a customer.

    Returns
    -------
    list of dict
        Per segment: `segment_id`, `segment`, `as_of`, `status` (`ok` or `not enough evidence`), `fit` (rule of the segment,
        supported traits, accounts, how many were never worked: their fit is a projection), `pain`, `potential`, `key_roles`,
        `personas` (people of the playbook, linked to the roles they play), `drivers`, `risks`, `leading_indicators`,
        `qualification_rule`, `anti_traits`. Sorted by segment_id.

    Raises
    ------
    BadInput
        When an account lies in a segment that the table of segments does not hold: an ICP needs a parent segment.
    """
    rows = segments[segments["segment_id"] != UNASSIGNED].sort_values("segment_id", kind="stable")
    strange = set(account_segments["segment_id"].dropna()) - set(rows["segment_id"]) - {UNASSIGNED}
    if strange:
        raise BadInput(f"an ICP needs a parent segment: {sorted(strange)} are not in the table of segments")
    accounts = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    tables = tables or {}
    if early is None:
        early = measure_leading_indicators(opportunities, accounts, tables, as_of=as_of, count_early=count_early)
    customers = {o: observe(o, opportunities, tables.get("subscriptions"), as_of) for o in BY_CUSTOMER}
    frames = (traits, account_segments, opportunities, accounts, catalogue)
    profiles = [_draft(row, *frames, settings, as_of, tables, early, customers) for row in rows.to_dict("records")]
    for profile in profiles:
        profile["potential"]["lifetime_value"] = _lifetime_value(kpis, profile["segment_id"])
    return profiles


def _draft(
    row: dict,
    traits: pd.DataFrame,
    account_segments: pd.DataFrame,
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    as_of: pd.Timestamp,
    tables: Tables,
    early: pd.DataFrame,
    customers: Tables,
) -> dict:
    """One profile."""
    segment_id = str(row["segment_id"])
    members = set(account_segments.loc[account_segments["segment_id"] == segment_id, "account_id"])
    inside = opportunities[opportunities["account_id"].isin(members)]
    sold = inside[inside["type"] != "renewal"]
    closed = sold[sold["status"].isin(["won", "lost"])].sort_values("opportunity_id", kind="stable")
    won = (closed["status"] == "won").to_numpy()
    place = (
        pd.Series(np.arange(len(accounts)), index=accounts["account_id"])
        .reindex(closed["account_id"])
        .to_numpy(dtype=int)
    )
    winning = _traits_of(traits, segment_id, "win")
    own = accounts[accounts["account_id"].isin(members)]
    roles = measure_roles(inside, tables, settings.plan.minimum_n)
    rule = draft_rule(winning, accounts, won.astype(int), place) if won.any() and not won.all() else {}
    return {
        "segment_id": segment_id,
        "segment": str(row["segment"]),
        "as_of": f"{as_of:%Y-%m-%d}",
        "status": "ok" if winning else NOT_ENOUGH,
        "fit": {
            "segment_rule": _text(row.get("rule")),
            "accounts": len(members),
            "never_worked": len(members) - inside["account_id"].nunique(),
            "traits": [t for t in winning if t["direction"] == "+"] or NOT_ENOUGH,
        },
        "anti_traits": [t for t in winning if t["direction"] == "-"] or NOT_ENOUGH,
        "pain": describe_pain(segment_id, own, accounts, closed, catalogue, settings, tables),
        "potential": _potential(
            closed, won, {o: c[c["account_id"].isin(members)] for o, c in customers.items()}, settings
        ),
        "key_roles": _records(roles),
        "personas": link_personas(settings, roles) or "not in playbook.toml",
        "drivers": [
            t for o in ("value", "margin", "retention", "expansion") for t in _traits_of(traits, segment_id, o, "+")
        ]
        or NOT_ENOUGH,
        "risks": _risks(traits, segment_id, closed),
        "leading_indicators": _records(early[early["associated"].astype(bool)]),
        "qualification_rule": rule,
    }


def _traits_of(traits: pd.DataFrame, segment_id: str, outcome: str, direction: str = "") -> list[dict]:
    """Supported traits of a segment: those of the whole market, except where its own effect is known to differ.

    A segment's own estimate rests on fewer observations, so that it counts only where it is specific or stands alone.
    """
    found = traits[(traits["outcome"] == outcome) & traits["scope"].isin([ALL, segment_id])]
    specific = found["flags"].str.contains("segment_specific") & (found["scope"] == segment_id)
    differs = pd.MultiIndex.from_frame(found.loc[specific, ["trait", "level"]])
    here = pd.MultiIndex.from_frame(found[["trait", "level"]]).isin(differs)
    supported = found[(found["verdict"] == "supported") & ~((found["scope"] == ALL) & here)]
    rows = supported.sort_values("scope", key=lambda s: s != ALL, kind="stable").drop_duplicates(["trait", "level"])
    rows = rows[(rows["direction"] == direction) | (direction == "")]
    rows = rows.assign(size=np.abs(np.log(rows["shrunken"].astype("float64"))))
    rows = rows.sort_values(["size", "trait", "level"], ascending=[False, True, True])
    return [
        {
            "trait": str(r["trait"]),
            "level": str(r["level"]),
            "outcome": outcome,
            "scope": str(r["scope"]),
            "family": str(r["family"]),
            "direction": str(r["direction"]),
            "odds_ratio": round(float(r["shrunken"]), 4),
            "low": round(float(r["adjusted_low"]), 4),
            "high": round(float(r["adjusted_high"]), 4),
            "rate_difference": None if pd.isna(r["rate_diff"]) else round(float(r["rate_diff"]), 4),
            "support": int(r["support"]),
            "n": int(r["n"]),
            "q_value": round(float(r["q_value"]), 6),
        }
        for r in rows.to_dict("records")
    ]


def _potential(closed: pd.DataFrame, won: NDArray[np.bool_], customers: Tables, settings: Settings) -> dict:
    """Win rate, annual value and margin of a win, margin per closed opportunity, cycle, and what customers do in a year."""
    minimum = settings.plan.minimum_n
    value = closed.loc[won, "acv"].dropna().astype("float64")
    margin = closed["acv"].astype("float64") * closed["margin_rate"].astype("float64")
    per_opportunity = margin.where(won, 0.0)
    return {
        "win_rate": _rate(won, minimum),
        "acv_median": _median(value, minimum),
        "annual_margin_median": _median(margin[won].dropna(), minimum),
        "margin_per_opportunity": _mean(per_opportunity.dropna(), closed["family_id"], minimum),
        "cycle_days_median": _median(closed.loc[won, "cycle_days"].dropna().astype("float64"), minimum),
        "kept_after_a_year": _rate(customers["retention"]["y"].to_numpy() == 1, minimum),
        "larger_after_a_year": _rate(customers["expansion"]["y"].to_numpy() == 1, minimum),
        "products": list_shares(closed.loc[won, "product"]) or NOT_ENOUGH,
    }


def _lifetime_value(kpis: pd.DataFrame | None, segment_id: str) -> dict | str:
    """Discounted lifetime value of a customer of the segment as the key figures hold it, with its interval and its basis."""
    if kpis is None:
        return NOT_ENOUGH
    wanted = {"cut": "segment", "level": segment_id, "period": ALL, "kpi": "ltv", "basis": "discounted", "status": "ok"}
    rows = kpis[np.logical_and.reduce([(kpis[c] == v).fillna(False).to_numpy(dtype=bool) for c, v in wanted.items()])]
    if rows.empty or rows[["value", "low", "high", "n"]].iloc[0].isna().any():
        return NOT_ENOUGH
    row = rows.iloc[0]
    figure = _figure(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]), 2)
    return figure | {"basis": _text(row["note"])}


def _rate(events: NDArray[np.bool_], minimum: int) -> dict | str:
    """Share with its Wilson interval."""
    if len(events) < max(minimum, 1):
        return NOT_ENOUGH
    low, high = wilson(float(events.sum()), float(len(events)))
    return _figure(float(events.mean()), float(low), float(high), len(events), 4)


def _mean(values: pd.Series, families: pd.Series, minimum: int) -> dict | str:
    """Mean with its 95 % interval, rows of a family taken as one draw."""
    from scipy import special

    by_family = (values - values.mean()).groupby(families.reindex(values.index)).sum()
    if len(values) < minimum or len(by_family) < 2:
        return NOT_ENOUGH
    error = float(np.sqrt((by_family**2).sum() * len(by_family) / (len(by_family) - 1))) / len(values)
    width = float(special.stdtrit(len(by_family) - 1, 0.975)) * error
    middle = float(values.mean())
    return _figure(middle, middle - width, middle + width, len(values), 2)


def _median(values: pd.Series, minimum: int) -> dict | str:
    """Median with its distribution-free 95 % interval from order statistics."""
    from scipy import stats

    if len(values) < minimum:
        return NOT_ENOUGH
    ordered = np.sort(values.to_numpy())
    rank = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    low, high = ordered[max(rank - 1, 0)], ordered[min(len(ordered) - rank, len(ordered) - 1)]
    return _figure(float(np.median(ordered)), float(low), float(high), len(ordered), 2)


def _figure(value: float, low: float, high: float, n: int, digits: int) -> dict:
    return {"value": round(value, digits), "low": round(low, digits), "high": round(high, digits), "n": n}


def _risks(traits: pd.DataFrame, segment_id: str, closed: pd.DataFrame) -> dict:
    """Traits that go with leaving or with small or slow wins, and the leading reasons for losing."""
    against = [t for o in ("retention", "expansion", "value", "margin") for t in _traits_of(traits, segment_id, o, "-")]
    slow = _traits_of(traits, segment_id, "cycle", "+")
    return {
        "traits": against + slow or NOT_ENOUGH,
        "loss_reasons": list_shares(closed.loc[closed["status"] == "lost", "loss_reason"])[:3] or NOT_ENOUGH,
    }


def _records(table: pd.DataFrame) -> list[dict] | str:
    """Rows as plain dictionaries, or the words for nothing."""
    if table.empty:
        return NOT_ENOUGH
    numbers = table.select_dtypes("number").columns
    rounded = table.assign(**{c: table[c].round(4) for c in numbers})
    return [
        {str(k): (v.item() if isinstance(v, np.generic) else v) for k, v in r.items()}
        for r in rounded.to_dict("records")
    ]


def _text(value: object) -> str:
    return str(value) if isinstance(value, str) and value else ""
