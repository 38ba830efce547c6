"""Reads traits, profiles and matches, makes the tables and estimate tables that the page shows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.schema import ALL
from icplab.traits.sentences import OUTCOME_WORDS, level_words

SHORT = {
    "win": "winning", "value": "annual value", "cycle": "sales cycle", "retention": "kept after a year",
    "expansion": "larger after a year", "margin": "gross margin",
}  # fmt: skip
UNITS = {
    "win": "fraction", "retention": "fraction", "expansion": "fraction", "value": "money", "margin": "money", "cycle": "days",
}  # fmt: skip


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
    found = traits[(traits["outcome"] == "win") & (traits["scope"] == ALL)].sort_values(["q_value", "trait", "level"])
    label = [level_words(t, v) for t, v in zip(found["trait"], found["level"], strict=True)]
    columns = [
        "family",
        "verdict",
        "adjusted",
        "adjusted_low",
        "adjusted_high",
        "shrunken",
        "later",
        "rate_diff",
        "n",
        "support",
        "q_value",
    ]
    return found[[*columns, "flags"]].assign(level=label)[["level", *columns, "flags"]].reset_index(drop=True)


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


def other_outcomes(traits: pd.DataFrame, *, rows: int = 3) -> pd.DataFrame:
    """Outcomes other than winning: what is supported, and otherwise the strongest levels of the whole market with their verdict."""
    others = traits[(traits["outcome"] != "win") & traits["adjusted"].notna()]
    order = ["outcome", "q_value", "scope", "trait", "level"]
    supported = others[others["verdict"] == "supported"].sort_values(order)
    rest = others[(others["scope"] == ALL) & (others["verdict"] != "supported") & others["q_value"].notna()]
    first = rest.sort_values(order).groupby("outcome", sort=True).head(rows)
    found = pd.concat([supported, first[~first["outcome"].isin(supported["outcome"])]])
    found = found.sort_values(order)
    return pd.DataFrame(
        {
            "outcome": found["outcome"].map(OUTCOME_WORDS),
            "scope": found["scope"].replace(ALL, "whole market"),
            "level": [level_words(t, v) for t, v in zip(found["trait"], found["level"], strict=True)],
            **{c: found[c] for c in ("verdict", "adjusted", "adjusted_low", "adjusted_high", "support", "q_value")},
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


def delta_points(delta: pd.DataFrame) -> pd.DataFrame:
    """Inside against outside on every outcome of the whole market, crude and adjusted: an estimate table for the chart."""
    rows = delta[(delta["scope"] == ALL) & (delta["status"] == "ok")]
    label = rows["outcome"].map(SHORT)
    parts = [
        pd.DataFrame(
            {
                "outcome": label,
                "what": what,
                "value": rows[value],
                "low": rows[low],
                "high": rows[high],
                "n": rows["n_yes"],
            }
        )
        for what, value, low, high in (
            ("among alike", "adjusted", "adjusted_low", "adjusted_high"),
            ("crude", "ratio", "low", "high"),
        )
    ]
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def delta_table(delta: pd.DataFrame, currency: str = "") -> pd.DataFrame:
    """All outcomes and scopes: what accounts inside and outside the ICP show, raw and among alike, in the outcome's unit."""
    shown = [_delta_row(r, currency) for r in delta.to_dict("records")]
    return pd.DataFrame(shown, columns=["outcome", "scope", "inside", "outside", "crude", "among alike", "n"])


def _delta_row(row: dict, currency: str) -> dict:
    """One line of the table; what cannot be measured says so."""
    unit = UNITS[row["outcome"]]
    said = {"outcome": OUTCOME_WORDS[row["outcome"]], "scope": "whole market" if row["scope"] == ALL else row["scope"]}
    if row["status"] != "ok":
        return {**said, "inside": row["status"].replace("_", " ")}
    figure = {k: fmt.quantity(row[k], unit, currency) for k in ("yes", "no", "adjusted_yes", "adjusted_no")}
    ratio = {
        k: f"× {fmt.ratio(row[k])} ({fmt.ratio(row[low])}–{fmt.ratio(row[high])})"
        for k, low, high in (("ratio", "low", "high"), ("adjusted", "adjusted_low", "adjusted_high"))
    }
    return {
        **said,
        "inside": figure["yes"],
        "outside": figure["no"],
        "crude": ratio["ratio"],
        "among alike": f"{figure['adjusted_yes']} against {figure['adjusted_no']}, {ratio['adjusted']}",
        "n": f"{fmt.integer(row['n_yes'])} + {fmt.integer(row['n_no'])}",
    }


def list_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs as lines to read: both levels, what was won, what was to be expected, and the test over the whole search."""
    both = [
        f"{level_words(r['first'], r['first_level'])} and {level_words(r['second'], r['second_level'])}"
        for r in pairs.to_dict("records")
    ]
    kept = ["support", "rate", "expected", "odds_ratio", "low", "high", "p_value", "verdict"]
    return pairs[kept].assign(pair=both)[["pair", *kept]]


def list_signals(early: pd.DataFrame) -> pd.DataFrame:
    """Early signals, one line per outcome and signal, with the odds ratio at each landmark."""
    words = [
        f"× {fmt.ratio(r['odds_ratio'])} ({fmt.ratio(r['low'])}–{fmt.ratio(r['high'])})"
        + (" *" if r["associated"] else "")
        for r in early.to_dict("records")
    ]
    frame = early.assign(said=words, by=["by day " + str(int(d)) for d in early["day"]])
    if frame.empty:
        return pd.DataFrame(columns=["outcome", "signal"])
    wide = frame.pivot_table(index=["outcome", "signal"], columns="by", values="said", aggfunc="first")
    return wide.reset_index().rename_axis(columns=None).assign(outcome=lambda f: f["outcome"].map(OUTCOME_WORDS))
