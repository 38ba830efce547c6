"""Reads last quarter's tiers and people's overrides, makes tiers that do not jump for nothing and that people may correct."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.model import RANKED
from icplab.core.schema import TIERS
from icplab.core.stats.intervals import wilson
from icplab.tiers.cuts import capacity_of

STEP = "50_tiers"
SURE = 0.70  # tier confidence from which an account moves at once; below it, it keeps last quarter's neighbouring tier
HELD, OVERRIDDEN = "held_tier", "override"
FIELDS = ("account_id", "tier", "reason", "by", "set_on", "expires")


def hold_tiers(scored: pd.DataFrame, before: pd.DataFrame | None, settings: Settings) -> pd.DataFrame:
    """Scores in which an account leaves last quarter's tier only when that is sure enough.

    Parameters
    ----------
    scored : from `set_tiers`
    before : the artefact `scores` of the run before; None leaves everything as it is
    settings : reads [capacity], which holding back never exceeds

    Returns
    -------
    `scored` with the flag `held_tier` where an account keeps the neighbouring tier it had, because its new one is right with
    a probability below SURE. Who enters a full tier by being held gives way first, the lowest expected value first.

    Notes
    -----
    Only tiers that are in use now can be kept. The frozen model knows nothing of last quarter: `icplab score` places by its cut
    points alone.
    """
    if before is None or before.empty:
        return scored
    used = [t for t in (*RANKED, "not_icp") if (scored["tier"] == t).any()]
    place = {t: k for k, t in enumerate(used)}
    old = scored["account_id"].map(before.set_index("account_id")["tier"]).map(place)
    new = scored["tier"].map(place)
    unsure = scored["tier_confidence"] < SURE
    kept = ((old - new).abs() == 1) & unsure
    for tier in used[:2]:
        kept = _within_capacity(scored, kept, old == place[tier], new == place[tier], capacity_of(tier, settings))
    final = scored["tier"].where(~kept, old.map(dict(enumerate(used))))
    return scored.assign(tier=final.astype("str"), flags=flagged(scored["flags"], kept, HELD))


def read_overrides(settings: Settings, accounts: pd.Series) -> tuple[pd.DataFrame, list[Finding]]:
    """People's corrections from `[[overrides]]` of playbook.toml, and what is wrong with any of them.

    Each needs account_id, tier, reason, by, set_on and expires (dates). One that is incomplete, names an unknown account or
    tier, or expires before it was set is left out and said.
    """
    given = settings.playbook.get("overrides", [])
    entries = [dict(e) for e in given if isinstance(e, Mapping)] if isinstance(given, list) else []
    table = pd.DataFrame(
        [{f: str(e.get(f, "") or "") for f in FIELDS} for e in entries], columns=list(FIELDS), dtype="str"
    )
    dates = {c: pd.to_datetime(table[c], errors="coerce").astype("datetime64[us]") for c in ("set_on", "expires")}
    table = table.assign(set_on=dates["set_on"], expires=dates["expires"])
    why = pd.Series("", index=table.index, dtype="str")
    why = why.mask((table["reason"] == "") | (table["by"] == ""), "has no reason or no name of who decided")
    why = why.mask(table["set_on"].isna() | table["expires"].isna(), "has no valid set_on or expires")
    why = why.mask(table["expires"] < table["set_on"], "expires before it was set")
    why = why.mask(~table["tier"].isin(TIERS), "names no tier")
    why = why.mask(~table["account_id"].isin(accounts), "names an account that is not there")
    why = why.mask(table["account_id"].duplicated(keep="last") & (why == ""), "is replaced by a later one")
    wrong = [_unusable(r) for r in table.assign(why=why)[why != ""].to_dict("records")]
    return table[why == ""].reset_index(drop=True), wrong


def override_tiers(scored: pd.DataFrame, overrides: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Scores with the tiers people set, from the day they were set until they expire; flagged `override`."""
    running = overrides[(overrides["set_on"] <= as_of) & (overrides["expires"] >= as_of)]
    tier = scored["account_id"].map(running.set_index("account_id")["tier"])
    changed = tier.notna() & (tier != scored["tier"])
    confidence = scored["tier_confidence"].mask(changed)
    return scored.assign(
        tier=scored["tier"].mask(changed, tier).astype("str"),
        tier_confidence=confidence,
        flags=flagged(scored["flags"], changed, OVERRIDDEN),
    )


def check_overrides(overrides: pd.DataFrame, scored: pd.DataFrame, opportunities: pd.DataFrame) -> pd.DataFrame:
    """Were people right? Opportunities opened while an override ran, against what the score expected of them.

    Parameters
    ----------
    overrides : from `read_overrides`
    scored : before `override_tiers`: the tiers and probabilities of the score
    opportunities : account_id, created_at, status

    Returns
    -------
    One row per direction (raised, lowered): overrides, n (closed opportunities), won, observed with 95 % Wilson interval (low,
    high), predicted (mean probability of the score) and verdict: people, score, or not enough evidence.
    """
    own = scored.set_index("account_id")
    given = overrides[overrides["account_id"].isin(own.index)]
    rank = {t: k for k, t in enumerate((*RANKED, "not_icp", "insufficient"))}
    place = [tier.map(rank).astype("float64") for tier in (given["tier"], given["account_id"].map(own["tier"]))]
    change = place[0] - place[1]
    rows = []
    for name, part in (("raised", given[change < 0]), ("lowered", given[change > 0])):
        deals = opportunities.merge(part[["account_id", "set_on", "expires"]], on="account_id")
        during = (deals["created_at"] >= deals["set_on"]) & (deals["created_at"] <= deals["expires"])
        closed = deals[during & deals["status"].isin(["won", "lost"])]
        won, n = int((closed["status"] == "won").sum()), len(closed)
        expected = float(closed["account_id"].map(own["win_probability"]).mean()) if n else np.nan
        low, high = wilson(won, n) if n else (np.nan, np.nan)
        better, worse = (low > expected, high < expected) if n else (False, False)
        people = better if name == "raised" else worse
        verdict = "people" if people else "score" if (worse if name == "raised" else better) else "not enough evidence"
        rows.append((name, len(part), n, won, won / n if n else np.nan, low, high, expected, verdict))
    columns = ["direction", "overrides", "n", "won", "observed", "low", "high", "predicted", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _within_capacity(
    scored: pd.DataFrame, kept: pd.Series, old: pd.Series, new: pd.Series, capacity: float | None
) -> pd.Series:
    """Fewer held accounts where a tier would take more than its capacity."""
    if capacity is None:
        return kept
    entering = kept & old
    size = int((new & ~kept).sum() + entering.sum())
    if size <= capacity:
        return kept
    worth = scored["expected_value"].fillna(scored["win_probability"])[entering]
    first = worth.to_frame("worth").assign(account_id=scored["account_id"]).sort_values(["worth", "account_id"])
    return kept & ~kept.index.isin(first.index[: max(int(np.ceil(size - capacity)), 0)])


def flagged(flags: pd.Series, rows: pd.Series, name: str) -> pd.Series:
    """Flags with one more name in some rows."""
    text = flags.astype("str").where(flags.notna(), "")
    return text.where(~rows, (text + ";" + name).str.lstrip(";")).astype("str")


def _unusable(row: dict) -> Finding:
    return Finding(
        "override-unusable",
        STEP,
        "watch",
        str(row["account_id"]) or "override",
        f"An override of {row['account_id'] or '(no account)'} {row['why']}, so it is not followed.",
        {},
        action="Correct it in playbook.toml: account_id, tier, reason, by, set_on, expires.",
    )
