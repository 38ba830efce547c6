"""Reads what failed and why, makes the cause of failure of a channel, segment or campaign: pain, channel or audience."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core.config import Settings
from icplab.performance.signals import FALSE_ALARM, KINDS, UNKNOWN, compared_levels, rates_of
from icplab.performance.tally import OK, contrast

# What a written reason points at. The first that fits counts; `[reasons]` of the playbook overrules it word for word.
CAUSES: Mapping[str, str] = {
    "channel": r"no[ _-]?(response|answer|reply)|unreach|not reach|never answer|bounce|invalid|spam|fake|duplicate|\bbots?\b"
    r"|bad (data|contact|number)|wrong (number|address|channel)",
    "audience": r"wrong (role|person|industry|audience|fit)|not (a|our|the) (fit|icp|target)|no authority|not decision"
    r"|too (small|large|big)|student|job ?seeker|not their problem|out of (scope|territory)|consumer|no use ?case",
    "pain": r"timing|budget|not now|no[ _-]?(decision|need|pain|priority|urgency|project)|priorit|urgen|later|postpone"
    r"|status[ _-]?quo|stalled|went dark|on hold",
}
WORDS = {
    "pain": "the pain is not urgent",
    "channel": "the channel is poor",
    "audience": "the message attracts the wrong ones",
}
COLUMNS = {
    **dict.fromkeys(("of", "level"), "str"),
    **dict.fromkeys(("leads", "conversations"), "float64"),
    "fails_at": "str",
    "failed": "float64",
    **dict.fromkeys(WORDS, "float64"),
    "other": "float64",
    "cause": "str",
}
QUALITY = ("qualified", "accepted", "won", "good fit")
NOTHING = "does not fail more than others"


def classify_reasons(reasons: pd.Series, playbook: Mapping[str, object]) -> pd.Series:
    """Cause that each written reason points at: pain, channel, audience or other; null where none was given."""
    said = reasons.astype("str").str.strip().str.lower()
    known = said.dropna().unique()
    given = playbook.get("reasons")
    own = {str(k).strip().lower(): str(v) for k, v in given.items()} if isinstance(given, Mapping) else {}
    found = {r: own.get(r) or next((c for c, words in CAUSES.items() if re.search(words, r)), "other") for r in known}
    return said.map(found)


def name_causes(evidence: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Why a channel, segment or campaign fails more than others, once campaigns and conversations have given evidence.

    Parameters
    ----------
    evidence : from `place_evidence`
    settings : `[plan] minimum_n`; the playbook's `[reasons]`

    Returns
    -------
    DataFrame
        One row per level: `of, level, leads` (decided), `conversations` (closed or judged), `fails_at` (what is lower than
        elsewhere beyond chance: qualified, accepted, won, good fit), `failed` (with a reason), the share of them that
        points at `pain, channel, audience, other`, and `cause`: one that is named more often than elsewhere, "not enough
        evidence" where none is or too little was tried, or that the level does not fail more than others.

    Notes
    -----
    Both tests are one-sided at 5 % over all levels (Bonferroni), families as units. Reasons are what people chose from a
    list: a cause is where to look, not what caused the failure.
    """
    written = evidence[(evidence["measure"] == "failed") & evidence["reason"].notna()]
    written = written.assign(points=classify_reasons(written["reason"], settings.playbook))
    levels = {kind: compared_levels(evidence, kind, settings) for kind in KINDS}
    tests = max(sum(map(len, levels.values())), 1)
    parts = [_of_kind(evidence, written, kind, names, settings, tests) for kind, names in levels.items() if names]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c: [] for c in COLUMNS})
    return table[list(COLUMNS)].astype(COLUMNS)


def _of_kind(
    evidence: pd.DataFrame, written: pd.DataFrame, kind: str, levels: list[str], settings: Settings, tests: int
) -> pd.DataFrame:
    """Causes of all levels of a kind."""
    counts = evidence.groupby([kind, "measure"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=levels, columns=["qualified", "won", "good fit"]).fillna(0)
    talks = counts["won"] + counts["good fit"]
    lower = {m: _lower(rates_of(evidence, kind, m, levels, settings), tests * len(QUALITY)) for m in QUALITY}
    fails = pd.DataFrame(lower, index=levels).apply(lambda row: ", ".join(row.index[row]), axis=1)
    placed = written[written[kind].notna()]
    shares = pd.crosstab(placed[kind], placed["points"], normalize="index").reindex(levels)
    found = {c: contrast(placed, kind, placed["points"] == c, settings.plan.minimum_n).reindex(levels) for c in WORDS}
    p = pd.DataFrame({c: t["p_above"].where(t["status"] == OK) for c, t in found.items()}) * tests * len(WORDS)
    named = p.fillna(np.inf).idxmin(axis=1).map(WORDS).where(p.min(axis=1) <= FALSE_ALARM, f"{UNKNOWN} to name one")
    least = settings.plan.minimum_n
    tried, early = (
        np.minimum(counts["qualified"], talks) >= least,
        f"{UNKNOWN}: review it after {least} leads and conversations",
    )
    cause = named.where(fails != "", NOTHING).where(tried, early)
    columns = {c: shares.get(c, 0.0) for c in (*WORDS, "other")}
    table = pd.DataFrame({"leads": counts["qualified"], "conversations": talks, "fails_at": fails.where(tried, "")})
    table = table.assign(failed=placed.groupby(kind).size().reindex(levels).fillna(0), **columns, cause=cause, of=kind)
    return table.rename_axis("level").reset_index()


def _lower(rates: pd.DataFrame, tests: int) -> npt.NDArray[np.bool_]:
    """Whether each level's rate is below that of all others beyond chance."""
    return ((rates["status"] == OK) & (rates["p_below"] * tests <= FALSE_ALARM)).to_numpy(dtype=bool)
