"""Reads traits, segments, opportunities and people, makes `icps`: one profile of the best-fit accounts per segment.

A profile says what is measured and where the evidence ends; nothing in it is written by hand except the problem statement,
which people keep in `playbook.toml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.config import Settings
from icplab.core.errors import BadInput
from icplab.core.schema import ALL, UNASSIGNED
from icplab.core.stats.intervals import wilson
from icplab.core.stats.logistic import fit_candidates
from icplab.core.stats.multiplicity import benjamini_hochberg
from icplab.traits.outcomes import observe
from icplab.traits.rules import draft_rule

NOT_ENOUGH = "not enough evidence"
EARLY_DAYS = 90  # landmark: what is seen by then may speak about what follows
MIN_CUSTOMERS = 60
MOST = 5  # entries of a list on the card
Tables = Mapping[str, pd.DataFrame]
CountEarly = Callable[[pd.Series, int], pd.Series | None]  # activities by account, from a date of its own for some days


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

    Returns
    -------
    list of dict
        Per segment: `segment_id`, `segment`, `as_of`, `status` (`ok` or `not enough evidence`), `fit` (rule of the segment,
        supported traits), `pain`, `potential`, `key_roles`, `drivers`, `risks`, `leading_indicators`, `qualification_rule`,
        `anti_traits`. Sorted by segment_id.

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
    early = measure_leading_indicators(opportunities, accounts, tables, as_of=as_of, count_early=count_early)
    return [
        _draft(row, traits, account_segments, opportunities, accounts, catalogue, settings, as_of, tables, early)
        for row in rows.to_dict("records")
    ]


def measure_roles(opportunities: pd.DataFrame, tables: Tables, minimum: int) -> pd.DataFrame:
    """How much more often a role took part in won than in lost opportunities.

    Returns one row per role: `role, n, share_won, share_lost, odds_ratio, low, high, q_value, associated` (q at most .10),
    intervals clustered by account family; empty without roles on at least `minimum` closed opportunities.
    """
    columns = ["role", "n", "share_won", "share_lost", "odds_ratio", "low", "high", "q_value", "associated"]
    people, contacts = tables.get("opportunity_contacts"), tables.get("contacts")
    closed = opportunities[opportunities["status"].isin(["won", "lost"])].sort_values("opportunity_id", kind="stable")
    if people is None or people.empty:
        return pd.DataFrame(columns=columns)
    if contacts is not None and len(contacts):
        by_contact = contacts.drop_duplicates("contact_id").set_index("contact_id")["role"]
        people = people.assign(role=people["role"].fillna(people["contact_id"].map(by_contact)))
    people = people[people["role"].notna() & people["opportunity_id"].isin(closed["opportunity_id"])]
    closed = closed[closed["opportunity_id"].isin(people["opportunity_id"])].reset_index(drop=True)
    won = (closed["status"] == "won").to_numpy(dtype=float)
    if len(closed) < minimum or won.std() == 0:
        return pd.DataFrame(columns=columns)
    presence = pd.crosstab(people["opportunity_id"], people["role"]).reindex(closed["opportunity_id"]) > 0
    presence = presence.loc[:, presence.sum() >= minimum // 2]
    x, families = presence.to_numpy(dtype=float), closed["family_id"].to_numpy()
    fits = fit_candidates(won, x, np.ones((len(won), 1)), clusters=families)
    return _ratios(fits, 0.10).assign(
        role=presence.columns.to_numpy(),
        n=x.sum(axis=0),
        share_won=x[won == 1].mean(axis=0),
        share_lost=x[won == 0].mean(axis=0),
    )[columns]


def measure_leading_indicators(
    opportunities: pd.DataFrame,
    accounts: pd.DataFrame,
    tables: Tables,
    *,
    as_of: pd.Timestamp,
    count_early: CountEarly | None = None,
) -> pd.DataFrame:
    """Signals of a customer's first 90 days that go with being a customer after a year.

    Landmarking: only customers still active on day 90 count, so that leaving early cannot pass for a quiet start. A signal is
    the mean of a usage metric, or the number of activities, in those days, in standard deviations of log(1 + x).

    Returns one row per signal: `signal, n, odds_ratio, low, high, q_value, associated`, intervals clustered by family; empty
    without subscriptions, signals or MIN_CUSTOMERS customers.
    """
    columns = ["signal", "n", "odds_ratio", "low", "high", "q_value", "associated"]
    nothing = pd.DataFrame(columns=columns)
    subscriptions = tables.get("subscriptions")
    kept = observe("retention", opportunities, subscriptions, as_of)
    if subscriptions is None or len(kept) < MIN_CUSTOMERS:
        return nothing
    kept = kept[kept["account_id"].isin(_active_on_landmark(subscriptions, kept))].reset_index(drop=True)
    signals = _early_signals(kept, tables, count_early)
    y = kept["y"].to_numpy()
    if len(kept) < MIN_CUSTOMERS or signals.empty or min(y.sum(), (1 - y).sum()) < 10:
        return nothing
    scaled = np.log1p(signals.to_numpy(dtype=float).clip(0))
    scaled = (scaled - scaled.mean(axis=0)) / np.maximum(scaled.std(axis=0), 1e-9)
    fits = fit_candidates(y, scaled, np.ones((len(y), 1)), clusters=kept["family_id"].to_numpy())
    return _ratios(fits, 0.10).assign(signal=signals.columns.to_numpy(), n=float(len(y)))[columns]


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
) -> dict:
    """One profile."""
    segment_id = str(row["segment_id"])
    members = set(account_segments.loc[account_segments["segment_id"] == segment_id, "account_id"])
    inside = opportunities[opportunities["account_id"].isin(members)]
    closed = inside[inside["status"].isin(["won", "lost"])].sort_values("opportunity_id", kind="stable")
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
            "traits": [t for t in winning if t["direction"] == "+"] or NOT_ENOUGH,
        },
        "anti_traits": [t for t in winning if t["direction"] == "-"] or NOT_ENOUGH,
        "pain": _pain(segment_id, own, accounts, closed, catalogue, settings, tables),
        "potential": _potential(closed, won, settings),
        "key_roles": _records(roles),
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


def _pain(
    segment_id: str,
    own: pd.DataFrame,
    accounts: pd.DataFrame,
    closed: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    tables: Tables,
) -> dict:
    """Needs of the segment against the market, why opportunities and leads were lost, and what the team says the problem is."""
    needs = catalogue[(catalogue["role"] == "need") & (catalogue["table"] == "accounts")]["trait"]
    playbook = settings.playbook.get("segments", {})
    said = playbook.get(segment_id, {}) if isinstance(playbook, dict) else {}
    leads = tables.get("leads", pd.DataFrame(columns=["account_id", "disqualification_reason"]))
    dropped = leads[leads["account_id"].isin(own["account_id"])]["disqualification_reason"]
    return {
        "problem_statement": str(said.get("problem_statement", "")) or "not in playbook.toml",
        "needs": [n for trait in sorted(needs) for n in _shares(own[trait], accounts[trait], trait)] or NOT_ENOUGH,
        "loss_reasons": _shares(closed.loc[closed["status"] == "lost", "loss_reason"]) or NOT_ENOUGH,
        "disqualification_reasons": _shares(dropped) or NOT_ENOUGH,
    }


def _shares(values: pd.Series, market: pd.Series | None = None, trait: str = "") -> list[dict]:
    """Most frequent values with their share of the known ones, beside the share in the market."""
    known = values.dropna().astype("str").str.split(";").explode().str.strip()
    if known.empty:
        return []
    n = int(values.notna().sum())
    counts = known.value_counts().rename_axis("value").reset_index(name="count")
    counts = counts.sort_values(["count", "value"], ascending=[False, True]).head(MOST)
    entries: list[dict] = [
        {"value": str(v), "share": round(float(c) / n, 4), "n": n}
        for v, c in zip(counts["value"], counts["count"], strict=True)
    ]
    if market is None:
        return entries
    everywhere = market.dropna().astype("str").str.split(";").explode().str.strip().value_counts() / max(
        market.notna().sum(), 1
    )
    return [{"trait": trait, **e, "share_in_market": round(float(everywhere[e["value"]]), 4)} for e in entries]


def _potential(closed: pd.DataFrame, won: NDArray[np.bool_], settings: Settings) -> dict:
    """Win rate, annual value and margin of a won opportunity, and its expected margin over the horizon of [economics]."""
    minimum = settings.plan.minimum_n
    low, high = wilson(float(won.sum()), float(max(len(won), 1)))
    value = closed.loc[won, "acv"].dropna().astype("float64")
    margin = (closed.loc[won, "acv"] * closed.loc[won, "margin_rate"]).dropna().astype("float64")
    enough = len(closed) >= minimum
    return {
        "win_rate": {
            "value": round(float(won.mean()), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "n": len(won),
        }
        if enough
        else NOT_ENOUGH,
        "acv_median": _median(value, minimum),
        "annual_margin_median": _median(margin, minimum),
        "cycle_days_median": _median(closed.loc[won, "cycle_days"].dropna().astype("float64"), minimum),
    }


def _median(values: pd.Series, minimum: int) -> dict | str:
    """Median with its distribution-free 95 % interval from order statistics."""
    from scipy import stats

    if len(values) < minimum:
        return NOT_ENOUGH
    ordered = np.sort(values.to_numpy())
    rank = int(stats.binom.ppf(0.025, len(ordered), 0.5))
    low, high = ordered[max(rank - 1, 0)], ordered[min(len(ordered) - rank, len(ordered) - 1)]
    return {
        "value": round(float(np.median(ordered)), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
        "n": len(ordered),
    }


def _risks(traits: pd.DataFrame, segment_id: str, closed: pd.DataFrame) -> dict:
    """Traits that go with leaving or with small or slow wins, and the leading reasons for losing."""
    against = [t for o in ("retention", "expansion", "value", "margin") for t in _traits_of(traits, segment_id, o, "-")]
    slow = _traits_of(traits, segment_id, "cycle", "+")
    return {
        "traits": against + slow or NOT_ENOUGH,
        "loss_reasons": _shares(closed.loc[closed["status"] == "lost", "loss_reason"])[:3] or NOT_ENOUGH,
    }


def _ratios(fits: pd.DataFrame, fdr: float) -> pd.DataFrame:
    """Odds ratios with intervals and q-values."""
    from scipy import stats

    width = stats.t.ppf(0.975, fits["df"]) * fits["se"]
    q = benjamini_hochberg(fits["p_value"])
    ends = {
        name: np.exp((fits["estimate"] + s * width).clip(-20, 20))
        for name, s in (("odds_ratio", 0), ("low", -1), ("high", 1))
    }
    return pd.DataFrame({**ends, "q_value": q, "associated": q <= fdr})


def _active_on_landmark(subscriptions: pd.DataFrame, kept: pd.DataFrame) -> NDArray:
    day = subscriptions["account_id"].map(kept.set_index("account_id")["created_at"]) + pd.Timedelta(days=EARLY_DAYS)
    active = (subscriptions["started_at"] <= day) & ~(subscriptions["ended_at"] <= day)
    return subscriptions.loc[active, "account_id"].unique()


def _early_signals(kept: pd.DataFrame, tables: Tables, count_early: CountEarly | None) -> pd.DataFrame:
    """One column per signal, rows as in `kept`; no record in a delivered table counts as zero."""
    start = kept.set_index("account_id")["created_at"]
    columns = {}
    usage = _early(tables.get("usage"), "period", start)
    if len(usage):
        means = usage.groupby(["metric", "account_id"])["value"].mean()
        for metric in sorted(usage["metric"].unique()):
            columns[f"usage: {metric}"] = means[metric].reindex(start.index).fillna(0).to_numpy()
    if count_early is not None:
        counts = count_early(start, EARLY_DAYS)
    else:
        counts = _early(tables.get("activities"), "occurred_at", start).groupby("account_id").size()
        counts = counts.reindex(start.index).fillna(0)
    if counts is not None:
        columns["activities"] = counts.to_numpy(dtype=float)
    signals = pd.DataFrame(columns)
    return signals.loc[:, signals.std() > 0] if len(signals.columns) else signals


def _early(table: pd.DataFrame | None, dated: str, start: pd.Series) -> pd.DataFrame:
    """Rows of each account's first EARLY_DAYS days."""
    if table is None:
        return pd.DataFrame(columns=["account_id", "metric"])
    since = (table[dated] - table["account_id"].map(start)).dt.days
    return table[(since >= 0) & (since < EARLY_DAYS)]


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
