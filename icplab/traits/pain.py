"""Reads a segment's accounts, opportunities and leads, makes what hurts them, why deals are lost, and a check of what the team says."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings

NOT_ENOUGH = "not enough evidence"
MOST = 5  # entries of a list on the card
# Reasons that speak about when, not about whether: such an account may fit as well as any.
TIMING = re.compile(
    r"timing|too (early|late|soon)|not now|no decision|postpon|delay|on hold|freeze|frozen|project (stopped|cancel)|"
    r"next (year|quarter)|later|priorit|stalled|went (dark|silent)|unrespons|no response",
    re.IGNORECASE,
)
STEM, LONG = 4, 4  # letters of a word that count, and the least letters of a word that says anything
CLEAR = 1.96
Tables = Mapping[str, pd.DataFrame]


def describe_pain(
    segment_id: str,
    own: pd.DataFrame,
    accounts: pd.DataFrame,
    closed: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    tables: Tables,
) -> dict:
    """Needs of the segment against the market, why opportunities and leads were lost, and the team's statement checked.

    Parameters
    ----------
    own, accounts
        Accounts of the segment, and all.
    closed
        Closed opportunities of the segment.

    Returns
    -------
    dict
        `problem_statement` and `statement_check` (see `check_statement`); `needs` (values of columns with the role need, share
        in segment and market); `loss_reasons` and `disqualification_reasons` about fit, and the same about timing in
        `timing_reasons`, each with shares of all reasons given.
    """
    columns = catalogue[(catalogue["role"] == "need") & (catalogue["table"] == "accounts")]["trait"]
    playbook = settings.playbook.get("segments", {})
    said = playbook.get(segment_id, {}) if isinstance(playbook, dict) else {}
    statement = str(said.get("problem_statement", ""))
    leads = tables.get("leads", pd.DataFrame(columns=["account_id", "disqualification_reason"]))
    dropped = leads[leads["account_id"].isin(own["account_id"])]["disqualification_reason"]
    lost = closed.loc[closed["status"] == "lost", "loss_reason"]
    by_loss, by_lead = list_shares(lost, most=None), list_shares(dropped, most=None)
    return {
        "problem_statement": statement or "not in playbook.toml",
        "statement_check": check_statement(statement, own, accounts, sorted(columns)),
        "needs": [n for c in sorted(columns) for n in list_shares(own[c], accounts[c], c)] or NOT_ENOUGH,
        "loss_reasons": _about(by_loss, timing=False) or NOT_ENOUGH,
        "disqualification_reasons": _about(by_lead, timing=False) or NOT_ENOUGH,
        "timing_reasons": [
            {**e, "from": source} for source, part in (("lost", by_loss), ("leads", by_lead)) for e in _about(part, timing=True)
        ]
        or NOT_ENOUGH,
    }  # fmt: skip


def check_statement(statement: str, own: pd.DataFrame, accounts: pd.DataFrame, columns: list[str]) -> dict:
    """Whether the needs that a problem statement names are more frequent in the segment than in the rest of the market.

    A recorded need is named when at least half of its words begin like words of the statement. Returns `verdict` (`borne out`,
    `contradicted`, `cannot be told`, `not checkable`), `named` (trait, value, share here, share elsewhere, n) and `leading`
    (the need that stands out most here). Two proportions are told apart at 95 %.
    """
    nothing: dict = {"verdict": "not checkable", "named": [], "leading": None}
    compared = [e for c in columns for e in _against_rest(c, own, accounts)]
    if not statement or not compared:
        return nothing
    leading = max(compared, key=lambda e: (e["z"], e["value"]))
    named = [e for e in compared if _names(statement, e["value"])]
    if not named:
        return {**nothing, "leading": _plain(leading)}
    best = max(named, key=lambda e: e["z"])["z"]
    verdict = "borne out" if best > CLEAR else "contradicted" if best < -CLEAR else "cannot be told"
    return {"verdict": verdict, "named": [_plain(e) for e in named], "leading": _plain(leading)}


def list_shares(
    values: pd.Series, market: pd.Series | None = None, trait: str = "", most: int | None = MOST
) -> list[dict]:
    """Most frequent values with their share of the known ones, beside the share in the market."""
    known = values.dropna().astype("str").str.split(";").explode().str.strip()
    if known.empty:
        return []
    n = int(values.notna().sum())
    counts = known.value_counts().rename_axis("value").reset_index(name="count")
    counts = counts.sort_values(["count", "value"], ascending=[False, True]).head(most or len(counts))
    entries: list[dict] = [
        {"value": str(v), "share": round(float(c) / n, 4), "n": n}
        for v, c in zip(counts["value"], counts["count"], strict=True)
    ]
    if market is None:
        return entries
    everywhere = market.dropna().astype("str").str.split(";").explode().str.strip().value_counts()
    total = max(int(market.notna().sum()), 1)
    return [{"trait": trait, **e, "share_in_market": round(float(everywhere[e["value"]]) / total, 4)} for e in entries]


def _about(entries: list[dict], *, timing: bool) -> list[dict]:
    return [e for e in entries if bool(TIMING.search(e["value"])) == timing][:MOST]


def _against_rest(column: str, own: pd.DataFrame, accounts: pd.DataFrame) -> list[dict]:
    """Each value's share in the segment and in the rest of the market, with the z of their difference."""
    rest = accounts.loc[~accounts["account_id"].isin(own["account_id"]), column].dropna().astype("str")
    here = own[column].dropna().astype("str")
    if not len(here) or not len(rest):
        return []
    found = []
    for value in sorted(set(here.str.split(";").explode().str.strip())):
        held = [float((";" + v + ";").str.contains(f";{value};", regex=False).mean()) for v in (here, rest)]
        pooled = (held[0] * len(here) + held[1] * len(rest)) / (len(here) + len(rest))
        error = np.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / len(here) + 1 / len(rest)))
        entry = {"trait": column, "value": str(value), "share": held[0], "share_elsewhere": held[1], "n": len(here)}
        found.append({**entry, "z": (held[0] - held[1]) / error})
    return found


def _names(statement: str, value: str) -> bool:
    said = {w[:STEM] for w in re.findall(r"\w+", statement.lower()) if len(w) >= LONG}
    words = [w[:STEM] for w in re.findall(r"\w+", value.lower()) if len(w) >= LONG]
    return bool(words) and sum(w in said for w in words) * 2 >= len(words)


def _plain(entry: dict) -> dict:
    kept = {k: v for k, v in entry.items() if k != "z"}
    return {**kept, "share": round(entry["share"], 4), "share_elsewhere": round(entry["share_elsewhere"], 4)}
