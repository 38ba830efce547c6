"""Reads traits, profiles and matches, makes the tables and estimate tables that the page shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.schema import ALL
from icplab.core.stats.intervals import clustered_proportion
from icplab.traits.profiles import NOT_ENOUGH
from icplab.traits.sentences import OUTCOME_WORDS, level_words

PARTS = ("fit", "anti_traits", "pain", "potential", "key_roles", "drivers", "risks", "leading_indicators")


def forest_table(traits: pd.DataFrame, *, outcome: str = "win", rows: int = 12) -> pd.DataFrame:
    """Crude and adjusted ratios of the levels with the strongest evidence, two rows per level: an estimate table.

    Returns `level, what (crude, adjusted), value, low, high, n, verdict`, supported levels first, then by q-value.
    """
    found = traits[(traits["scope"] == ALL) & (traits["outcome"] == outcome) & traits["q_value"].notna()]
    found = (
        found.assign(order=found["verdict"] != "supported")
        .sort_values(["order", "q_value", "trait", "level"])
        .head(rows)
    )
    label = [level_words(t, v) for t, v in zip(found["trait"], found["level"], strict=True)]
    parts = [
        pd.DataFrame(
            {
                "level": label,
                "what": what,
                "value": found[value].to_numpy(),
                "low": found[low].to_numpy(),
                "high": found[high].to_numpy(),
                "n": found["n"].to_numpy(),
                "verdict": found["verdict"].to_numpy(),
                "place": np.arange(len(found)),
            }
        )
        for what, value, low, high in (
            ("adjusted", "adjusted", "adjusted_low", "adjusted_high"),
            ("crude", "odds_ratio", "low", "high"),
        )
    ]
    return pd.concat(parts).sort_values(["place", "what"], ignore_index=True).drop(columns="place")


def list_winning(traits: pd.DataFrame) -> pd.DataFrame:
    """Every level of the whole market and its association with winning, the strongest evidence first."""
    columns = [
        "trait",
        "level",
        "n",
        "support",
        "rate_diff",
        "adjusted",
        "adjusted_low",
        "adjusted_high",
        "shrunken",
        "q_value",
        "verdict",
        "flags",
    ]
    found = traits[(traits["outcome"] == "win") & (traits["scope"] == ALL)]
    return found.sort_values(["q_value", "trait", "level"])[columns].reset_index(drop=True)


def list_audit(audit: pd.DataFrame) -> pd.DataFrame:
    """What is known of the timing of each column: quarantined ones first, then those that tell won from lost best."""
    columns = ["trait", "fill_won", "fill_lost", "fill_open", "missing_auc", "auc", "open_z", "evidence", "flags"]
    found = audit.sort_values(["quarantined", "auc", "trait"], ascending=[False, False, True])
    return found[columns].reset_index(drop=True)


def count_verdicts(traits: pd.DataFrame) -> pd.DataFrame:
    """Levels per outcome, scope and verdict: `outcome, scope, supported, not_supported, insufficient, quarantined`."""
    order = ["supported", "not_supported", "insufficient", "quarantined"]
    counts = (
        traits.groupby(["outcome", "scope", "verdict"])
        .size()
        .unstack(fill_value=0)
        .reindex(columns=order, fill_value=0)
    )
    return counts.reset_index().rename_axis(columns=None)


def other_outcomes(traits: pd.DataFrame) -> pd.DataFrame:
    """Supported levels of outcomes other than winning, one row each, the strongest first."""
    found = traits[(traits["verdict"] == "supported") & (traits["outcome"] != "win")].sort_values(
        ["outcome", "q_value", "scope", "trait", "level"]
    )
    return pd.DataFrame(
        {
            "outcome": found["outcome"].map(OUTCOME_WORDS),
            "scope": found["scope"],
            "level": [level_words(t, v) for t, v in zip(found["trait"], found["level"], strict=True)],
            **{c: found[c] for c in ("adjusted", "adjusted_low", "adjusted_high", "support", "q_value")},
        }
    ).reset_index(drop=True)


def compare_segments(traits: pd.DataFrame, *, rows: int = 12) -> pd.DataFrame:
    """Adjusted odds ratios of winning side by side: one row per level supported anywhere and scope.

    Returns `level, scope, value, low, high, n, specific`; levels in order of evidence in the whole market.
    """
    winning = traits[(traits["outcome"] == "win") & traits["adjusted"].notna()]
    anywhere = winning[winning["verdict"] == "supported"].groupby(["trait", "level"])["q_value"].min()
    chosen = anywhere.reset_index().sort_values(["q_value", "trait", "level"]).head(rows)[["trait", "level"]]
    found = chosen.assign(place=range(len(chosen))).merge(winning, on=["trait", "level"], how="left")
    found = found.sort_values(["place", "scope"], key=lambda s: s if s.name == "place" else s.where(s != ALL, " "))
    return pd.DataFrame(
        {
            "level": [level_words(t, v) for t, v in zip(found["trait"], found["level"], strict=True)],
            "scope": found["scope"].replace(ALL, "whole market"),
            "value": found["adjusted"],
            "low": found["adjusted_low"],
            "high": found["adjusted_high"],
            "n": found["n"],
            "specific": found["flags"].str.contains("segment_specific"),
        }
    ).reset_index(drop=True)


def card_table(icps: Sequence[dict]) -> pd.DataFrame:
    """Profiles as lines to read: `segment, part, says`, one row per segment and part of the card."""
    rows = []
    for icp in icps:
        name = f"{fmt.plain(icp['segment_id'])} {fmt.plain(icp['segment'])}"
        rows += [(name, part.replace("_", " "), _SAYS[part](icp[part])) for part in PARTS]
        rule = icp["qualification_rule"]
        rows.append((name, "qualification rule", _rule_words(rule) if rule else NOT_ENOUGH))
    return pd.DataFrame(rows, columns=["segment", "part", "says"])


def measure_icp(matches: pd.DataFrame, opportunities: pd.DataFrame) -> pd.DataFrame:
    """Win rate (closed basis) inside and outside the ICP of each segment, with 95 % intervals clustered by family.

    Returns `segment_id, icp, n, won, value, low, high`. The rule was drafted on these opportunities, so that the difference is
    flattering; the next quarter's is the one to believe.
    """
    closed = opportunities[opportunities["status"].isin(["won", "lost"])].merge(matches, on="account_id")
    closed = closed[closed["icp"] != "unknown"].assign(won=lambda f: (f["status"] == "won").astype("float64"))
    families = closed.groupby(["segment_id", "icp", "family_id"])["won"].agg(["sum", "size"]).reset_index()
    rows = []
    for (segment_id, icp), part in families.groupby(["segment_id", "icp"], sort=True):
        n, won = float(part["size"].sum()), float(part["sum"].sum())
        rows.append(
            {"segment_id": segment_id, "icp": icp, "n": n, "won": won, "value": won / n, **_bounds(part, won / n, n)}
        )
    return pd.DataFrame(rows, columns=["segment_id", "icp", "n", "won", "value", "low", "high"])


def _bounds(part: pd.DataFrame, rate: float, n: float) -> dict:
    """Wilson interval on the trials that would be as good as these, if they were independent."""
    spread = float(((part["sum"] - rate * part["size"]) ** 2).sum()) / n**2
    low, high = clustered_proportion(rate, spread, n, len(part))
    return {"low": float(low), "high": float(high)}


def _trait_words(entries: object) -> str:
    if not isinstance(entries, list):
        return str(entries)
    return "; ".join(
        f"{level_words(e['trait'], e['level'])} × {fmt.ratio(e['odds_ratio'])} ({fmt.ratio(e['low'])}–{fmt.ratio(e['high'])})"
        for e in entries[:6]
    )


def _share_words(entries: object) -> str:
    if not isinstance(entries, list):
        return str(entries)
    return ", ".join(f"{fmt.plain(e['value'])} {fmt.percent(e['share'])}" for e in entries[:3])


def _pain_words(pain: dict) -> str:
    return (
        f"{fmt.plain(pain['problem_statement'])} · needs: {_share_words(pain['needs'])} · lost because: "
        f"{_share_words(pain['loss_reasons'])} · disqualified because: {_share_words(pain['disqualification_reasons'])}"
    )


def _potential_words(potential: dict) -> str:
    units = {
        "win_rate": "fraction",
        "acv_median": "money",
        "annual_margin_median": "money",
        "cycle_days_median": "days",
    }
    return "; ".join(f"{k.replace('_', ' ')} {_figure(potential[k], unit)}" for k, unit in units.items())


def _figure(figure: object, unit: str) -> str:
    if not isinstance(figure, dict):
        return str(figure)
    return f"{fmt.estimate(figure['value'], figure['low'], figure['high'], unit)}, n {fmt.integer(figure['n'])}"


def _signal_words(entries: object, name: str) -> str:
    if not isinstance(entries, list):
        return str(entries)
    found = [e for e in entries if e["associated"]]
    words = [
        f"{fmt.plain(e[name])} × {fmt.ratio(e['odds_ratio'])} ({fmt.ratio(e['low'])}–{fmt.ratio(e['high'])})"
        for e in found
    ]
    return "; ".join(words) or f"none of {len(entries)} told apart"


def _risk_words(risks: dict) -> str:
    return f"{_trait_words(risks['traits'])} · lost because: {_share_words(risks['loss_reasons'])}"


def _rule_words(rule: dict) -> str:
    reached = f" · met by {fmt.integer(rule['n_met'])} of {fmt.integer(rule['n'])} closed opportunities"
    if rule["precision"] is None:
        return fmt.plain(rule["text"]) + reached
    rates = f", {fmt.percent(rule['precision'])} of them won against {fmt.percent(rule['base_rate'])} in the segment"
    return fmt.plain(rule["text"]) + reached + rates


_SAYS = {
    "fit": lambda fit: _trait_words(fit["traits"]),
    "anti_traits": _trait_words,
    "pain": _pain_words,
    "potential": _potential_words,
    "key_roles": lambda entries: _signal_words(entries, "role"),
    "drivers": _trait_words,
    "risks": _risk_words,
    "leading_indicators": lambda entries: _signal_words(entries, "signal"),
}
