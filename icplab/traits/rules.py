"""Reads supported traits, makes qualification rules of at most four conditions, and says which accounts meet them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.schema import UNASSIGNED
from icplab.traits.levels import TREND, YES, parse_band

MAX_FOR, MAX_AGAINST = 3, 1  # conditions of a rule: what it asks for, and what it rules out
OUT_OF_MARKET = ("partner", "competitor")
Flags = NDArray[np.bool_]


def draft_rule(traits: Sequence[dict], accounts: pd.DataFrame, won: NDArray, place: NDArray) -> dict:
    """Qualification rule from traits of one ICP: at least so many of up to three conditions, and none ruled out.

    Parameters
    ----------
    traits
        Supported account traits with trait, level, direction, odds_ratio (shrunken).
    accounts
        Account table.
    won, place
        Result (1 won, 0 lost) of closed opportunities of the segment, and the row of their account.

    Returns
    -------
    dict
        `conditions` (trait, operator, value, wanted), `at_least`, `text`, `precision` (win rate of opportunities that meet
        it), `recall` (share of wins that meet it), `base_rate`, `n`, `n_met`. The number asked for is the one that
        separates won from lost best, on the same opportunities, so that precision and recall are flattering. Empty without
        traits.
    """
    chosen = _choose(traits, accounts)
    if not chosen:
        return {}
    wanted = sum(c["wanted"] for c in chosen)
    held = [_hits({"conditions": chosen, "at_least": k}, accounts)[0][place] for k in range(min(1, wanted), wanted + 1)]
    gain = [float(h[won == 1].mean() - h[won == 0].mean()) for h in held]
    at_least = int(np.argmax(gain)) + min(1, wanted)
    met = held[int(np.argmax(gain))]
    rule = {"conditions": chosen, "at_least": at_least}
    return {
        **rule,
        "text": _in_words(rule),
        "precision": _share(won, met),
        "recall": _share(met, won == 1),
        "base_rate": float(won.mean()),
        "n": len(won),
        "n_met": int(met.sum()),
    }


def match_icp(icps: Sequence[dict], accounts: pd.DataFrame, account_segments: pd.DataFrame) -> pd.DataFrame:
    """Which accounts are inside the ICP of their segment.

    Parameters
    ----------
    icps
        From `draft_icps`.
    accounts
        Account table.
    account_segments
        The artefact of that name.

    Returns
    -------
    DataFrame
        One row per account, sorted: account_id, segment_id, icp (`yes`, `no`, `unknown`) and `matched` (conditions met,
        joined by ";"). `unknown`: the segment's ICP has no rule yet, the account is unassigned, or blanks leave it open.
        Partners and competitors are `no`.
    """
    frame = accounts.sort_values("account_id", kind="stable", ignore_index=True)
    segment = account_segments.set_index("account_id")["segment_id"].reindex(frame["account_id"]).to_numpy(dtype=object)
    icp, matched = np.full(len(frame), "unknown", dtype=object), np.full(len(frame), "", dtype=object)
    for document in icps:
        inside = (segment == document["segment_id"]) & (segment != UNASSIGNED)
        rule = document["qualification_rule"]
        if not inside.any() or not rule:
            continue
        part = frame[inside]
        met, open_to_doubt, words = _hits(rule, part)
        icp[inside] = np.where(met & ~open_to_doubt, "yes", np.where(open_to_doubt, "unknown", "no"))
        matched[inside] = words
    if "account_type" in frame:
        icp[frame["account_type"].isin(OUT_OF_MARKET).to_numpy(dtype=bool)] = "no"
    table = {"account_id": frame["account_id"], "segment_id": segment, "icp": icp, "matched": matched}
    return pd.DataFrame(table).astype("str")


def holds(values: pd.Series, level: str) -> tuple[Flags, Flags]:
    """Which values have a level, and which are unknown."""
    unknown = values.isna().to_numpy(dtype=bool)
    if values.dtype == "boolean":
        return values.fillna(False).to_numpy(dtype=bool) & (level == YES), unknown
    if values.dtype == "float64":
        low, high = parse_band(level)
        return ((values >= low) & (values < high)).to_numpy(dtype=bool), unknown
    text = values.fillna("").astype("str")
    return (text == level).to_numpy(dtype=bool) | (";" + text + ";").str.contains(f";{level};", regex=False).to_numpy(
        dtype=bool
    ), unknown


def _choose(traits: Sequence[dict], accounts: pd.DataFrame) -> list[dict]:
    """Conditions that move most accounts most: |log odds ratio| times the spread of the level among accounts."""
    usable = [t for t in traits if t["level"] != TREND and t["trait"] in accounts]
    if not usable:
        return []
    share = [float(holds(accounts[t["trait"]], t["level"])[0].mean()) for t in usable]
    weight = [abs(np.log(t["odds_ratio"])) * np.sqrt(s * (1 - s)) for t, s in zip(usable, share, strict=True)]
    ranked = [usable[i] for i in np.argsort(-np.asarray(weight), kind="stable")]
    conditions = []
    for direction, most in (("+", MAX_FOR), ("-", MAX_AGAINST)):
        seen: set[str] = set()
        for t in ranked:
            if t["direction"] == direction and t["trait"] not in seen and len(seen) < most:
                seen.add(t["trait"])
                conditions.append({"trait": t["trait"], "level": t["level"], "wanted": direction == "+"})
    return conditions


def _hits(rule: dict, accounts: pd.DataFrame) -> tuple[Flags, Flags, NDArray]:
    """Whether accounts meet a rule as far as known, whether blanks leave it open, and the conditions met in words."""
    n = len(accounts)
    wanted, maybe, against, maybe_against = (np.zeros(n, dtype=int) for _ in range(4))
    words = np.full(n, "", dtype=object)
    for condition in rule["conditions"]:
        has, unknown = holds(accounts[condition["trait"]], condition["level"])
        if condition["wanted"]:
            wanted, maybe = wanted + has, maybe + unknown
            words = np.where(has, words + f"{condition['trait']}={condition['level']};", words)
        else:
            against, maybe_against = against + has, maybe_against + unknown
    met = (wanted >= rule["at_least"]) & (against == 0)
    possible = (wanted + maybe >= rule["at_least"]) & (against == 0)
    return met, possible & (~met | (maybe_against > 0)), pd.Series(words, dtype="str").str.strip(";").to_numpy()


def _share(of: NDArray, where: NDArray) -> float | None:
    return float(of[where].mean()) if where.any() else None


def _in_words(rule: dict) -> str:
    """The rule as one would type it into a CRM filter."""
    wanted = [_condition(c) for c in rule["conditions"] if c["wanted"]]
    against = [_condition(c) for c in rule["conditions"] if not c["wanted"]]
    parts = []
    if wanted:
        head = "" if rule["at_least"] == len(wanted) == 1 else f"at least {rule['at_least']} of: "
        parts.append(head + ", ".join(wanted))
    if against:
        parts.append("not " + " or ".join(against))
    return "; ".join(parts)


def _condition(condition: dict) -> str:
    level = str(condition["level"])
    if level == YES:
        return str(condition["trait"])
    return f"{condition['trait']} {level if level.startswith('[') else 'is ' + level}"
