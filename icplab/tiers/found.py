"""Reads tiers and their promise, makes findings: kept or broken promises, merged tiers, capacity that does not fit."""

from __future__ import annotations

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.model import RANKED, Model
from icplab.tiers.cuts import TOLD_APART, capacity_of
from icplab.tiers.promise import BAND

STEP = "50_tiers"
ALARM = 0.002  # p-value over all tiers together below which the promise counts as broken; three tiers a quarter


def findings(
    model: Model, scored: pd.DataFrame, table: pd.DataFrame, settings: Settings, owners: pd.DataFrame
) -> list[Finding]:
    """What the tiers hold and promise, whether they kept it before, and where capacity does not fit."""
    if not model.usable:
        return []
    now = table[table["period"] == "now"]
    past = table[(table["period"] != "now") & table["observed"].notna()]
    found = [_promise(now)]
    if len(past):
        found.append(_kept(past))
    found += [_merged(name) for name in model.draws.get("merged", [])]
    found += _capacity_conflicts(now, settings, owners)
    flagged = scored["flags"].str.contains("unknown_fit").sum()
    if flagged:
        found.append(_unknown(int(flagged), len(scored)))
    return found


def _promise(now: pd.DataFrame) -> Finding:
    ranked = now[now["tier"].isin(RANKED)]
    if ranked.empty:
        said = "No account is in a tier: each one is a partner, a competitor or otherwise outside the profile."
        return Finding(
            "tier-promise", STEP, "watch", "next quarter", said, {}, action="Check account_type in the export."
        )
    best = ranked.iloc[0]
    known = pd.notna(best["captured_value_share"])
    share = f" with {fmt.percent(best['captured_value_share'])} of the expected value" if known else ""
    numbers = {
        r["tier"]: {
            "accounts": r["accounts"],
            "predicted": round(r["predicted"], 4),
            "share": round(r["captured_value_share"], 4) if known else None,
        }
        for r in ranked.to_dict("records")
    }
    sentence = (
        f"{_named(best['tier'])} holds {best['accounts']:,.0f} accounts{share}; {fmt.percent(best['predicted'])} of their next "
        f"opportunities should be won ({fmt.interval(best['low'], best['high'], 'fraction', best['predicted'])}{fmt.THIN}% next quarter)."
    )
    return Finding(
        "tier-promise",
        STEP,
        "info",
        "next quarter",
        sentence,
        numbers,
        action="Staff the tiers to this promise and check it next quarter.",
    )


def _kept(past: pd.DataFrame) -> Finding:
    """Promise against delivery on the tested period; watch only when chance would hardly do it."""
    from scipy.special import chdtrc

    spread = ((past["high"] - past["low"]) / (2 * BAND)).clip(lower=1e-6)
    gaps = (past["observed"] - past["predicted"]) / spread
    p_value = float(chdtrc(len(past), (gaps**2).sum()))
    text = "; ".join(
        f"{fmt.name(r['tier'])} {fmt.percent(r['predicted'])} promised, {fmt.percent(r['observed'])} won"
        for r in past.to_dict("records")
    )
    inside = int(((past["observed"] >= past["low"]) & (past["observed"] <= past["high"])).sum())
    numbers = {"tiers": len(past), "inside": inside, "p_value": round(p_value, 4)}
    numbers |= {
        r["tier"]: {"predicted": round(r["predicted"], 4), "observed": round(r["observed"], 4), "n": r["n"]}
        for r in past.to_dict("records")
    }
    sentence = f"Tiers set on earlier data and tested on what followed: {text}; {inside} of {len(past)} inside their 90{fmt.THIN}% band."
    if p_value >= ALARM:
        return Finding("tier-promise", STEP, "info", "tested period", sentence, numbers)
    return Finding(
        "calibration",
        STEP,
        "watch",
        "tiers",
        sentence,
        numbers,
        action="Find out what moved before promising rates by tier.",
    )


def _merged(name: str) -> Finding:
    below = RANKED[RANKED.index(name) + 1]
    return Finding(
        "tiers-merged",
        STEP,
        "watch",
        name,
        f"{_named(name)} and {fmt.name(below)} cannot be told apart with {fmt.percent(TOLD_APART)} certainty, so they are one tier.",
        {"certainty": TOLD_APART},
        action="Work them alike; more closed opportunities or better-filled traits would separate them.",
    )


def _capacity_conflicts(now: pd.DataFrame, settings: Settings, owners: pd.DataFrame) -> list[Finding]:
    """Tiers larger than what the team can work."""
    size = now.set_index("tier")["accounts"]
    found = []
    for tier in ("tier_1", "tier_2"):
        capacity = capacity_of(tier, settings)
        if capacity is not None and size.get(tier, 0) > capacity:  # accounts of the same value stay together
            found.append(_over(tier, float(size[tier]), float(capacity), "[capacity] of icplab.toml"))
    team = owners["capacity"].sum() if len(owners) and "capacity" in owners else 0.0
    if team and size.get("tier_1", 0) > team:
        found.append(_over("tier_1", float(size["tier_1"]), float(team), "the sellers together"))
    return found


def _over(tier: str, accounts: float, capacity: float, whose: str) -> Finding:
    sentence = f"{_named(tier)} holds {accounts:,.0f} accounts, {whose} can work {capacity:,.0f} in a quarter."
    numbers = {"accounts": accounts, "capacity": capacity}
    return Finding(
        "over-capacity", STEP, "watch", tier, sentence, numbers, action="Lower the capacity of the tier, or staff it."
    )


def _named(tier: str) -> str:
    """A tier as a sentence begins with it."""
    return fmt.name(tier).capitalize()


def _unknown(flagged: int, accounts: int) -> Finding:
    sentence = f"{flagged:,} of {accounts:,} accounts were never worked and lie outside everything that was: their fit is unknown."
    return Finding(
        "insufficient-evidence",
        STEP,
        "info",
        "unknown fit",
        sentence,
        {"flagged": flagged, "accounts": accounts},
        action="Work a small sample of them before believing their score.",
    )
