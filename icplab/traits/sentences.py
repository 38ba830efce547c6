"""Reads the leak audit, traits and profiles, makes findings: what is associated with winning, and what only looks like it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.findings import Finding
from icplab.core.schema import ALL

STEP = "40_traits"
_BAND = re.compile(r"\[(-?inf|-?[\d.]+(?:e[+-]?\d+)?), (-?inf|-?[\d.]+(?:e[+-]?\d+)?)\)")
SHOWN = 8  # findings of one kind that get a sentence each; the tables hold all
OUTCOME_WORDS = {
    "win": "winning",
    "value": "the annual value of a won opportunity",
    "cycle": "the length of the sales cycle",
    "retention": "still being a customer after a year",
    "expansion": "expanding within a year",
    "margin": "the gross margin of a won opportunity",
}


def findings(
    traits: pd.DataFrame,
    audit: pd.DataFrame,
    icps: Sequence[dict],
    *,
    pairs: pd.DataFrame | None = None,
    delta: pd.DataFrame | None = None,
) -> list[Finding]:
    """Findings of the step: leaks first, then what is supported, what only looks like it, and what cannot be told.

    `pairs` from `search_pairs` and `delta` from `measure_icp_delta` add what traits do together, and what the ICP is worth.
    """
    return [
        *_leaks(audit),
        *_supported(traits),
        *(_pairs(pairs) if pairs is not None else []),
        *(_delta(delta) if delta is not None else []),
        *_reversals(traits),
        *_confounded(traits),
        *_segment_specific(traits),
        *_evidence(traits, audit),
        *_single(icps, traits),
    ]


def level_words(trait: object, level: object) -> str:
    """A trait level as a reader sees it, safe in one line: `employees 50 to under 200`, `c07 is n2`, `c12`."""
    name, value = fmt.plain(trait), fmt.plain(level)
    if value == "yes":
        return name
    if value == "trend":
        return f"higher {name}"
    return f"{name} {_band_words(value)}" if value.startswith("[") else f"{name} is {value}"


def _band_words(band: str) -> str:
    """`[50, 200)` in words; as it stands where it is no band of numbers."""
    match = _BAND.fullmatch(band)
    if match is None:
        return band
    low, high = (_end_words(float(end)) for end in match.groups())
    return (
        f"{low} or more" if high == fmt.MISSING else f"under {high}" if low == fmt.MISSING else f"{low} to under {high}"
    )


def _end_words(end: float) -> str:
    """An end of a band; a number that may be a year has no gap."""
    return f"{end:.0f}" if 1000 < abs(end) < 3000 else fmt.number(end)


def _leaks(audit: pd.DataFrame) -> list[Finding]:
    """One finding per quarantined column, and per column that a person signed in."""
    found = []
    for row in audit[audit["quarantined"].astype(bool)].to_dict("records"):
        blank_only = "leak" not in str(row["flags"]).split(";")
        numbers = {k: _plain(row[k]) for k in ("fill_won", "fill_lost", "fill_open", "auc", "missing_auc", "open_z")}
        found.append(
            Finding(
                "missingness-leak" if blank_only else "leak",
                STEP,
                "watch",
                fmt.plain(row["trait"]),
                f"{fmt.plain(row['trait'])} is quarantined, because it looks filled in once the outcome was known: {row['evidence']} (filled in {fmt.percent(row['fill_won'])} of won, "
                f"{fmt.percent(row['fill_lost'])} of lost and {fmt.percent(row['fill_open'])} of open opportunities).",
                numbers,
                action='Find out when it is filled. If it is known at creation, sign it in: [traits.<column>] known_at = "created", reason = "…".',
            )
        )
    for row in audit[audit["signed"].astype(bool)].to_dict("records"):
        reason = fmt.plain(row["reason"]) if row.get("reason") else "no reason is given"
        sentence = f"{fmt.plain(row['trait'])} was signed in as known at creation although {row['evidence']}: {reason}."
        action = "" if row.get("reason") else "Write the reason: [traits.<column>] reason."
        found.append(Finding("leak", STEP, "info", fmt.plain(row["trait"]), sentence, action=action))
    return found


def _supported(traits: pd.DataFrame) -> list[Finding]:
    """The strongest supported traits of the whole market; or that nothing is supported."""
    rows = traits[(traits["verdict"] == "supported") & (traits["scope"] == ALL)]
    if not (traits["verdict"] == "supported").any():
        judged = traits[traits["scope"] == ALL]
        tested = int(judged["q_value"].notna().sum())
        least = judged["q_value"].min()
        tail = f"; the smallest false-discovery rate is {fmt.p_value(least)}" if tested else ""
        sentence = f"No trait is supported: {tested} levels were tested over all outcomes{tail}."
        return [
            Finding(
                "nothing-supported", STEP, "info", "all traits", sentence, {"tested": tested, "least_q": _plain(least)}
            )
        ]
    found = []
    for outcome, part in rows.groupby("outcome", sort=True):
        ordered = part.assign(z=part["q_value"]).sort_values(["z", "trait", "level"])
        found += [_supported_one(r, str(outcome)) for r in ordered.head(SHOWN).to_dict("records")]
    return found


def _supported_one(row: dict, outcome: str) -> Finding:
    ratio = "odds" if outcome in ("win", "retention", "expansion") else "ratio of means"
    rates = ""
    if outcome in ("win", "retention", "expansion") and not pd.isna(row["rate"]):
        rates = f" Crude: {fmt.percent(row['rate'])} with it, {fmt.percent(row['rate_without'])} without."
    sentence = (
        f"{level_words(row['trait'], row['level'])} is associated with {_side(row, outcome)}: {ratio} × "
        f"{fmt.ratio(row['adjusted'])} ({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])}) against accounts "
        f"without it that are alike in segment, size, source, region, time and seller; × {fmt.ratio(row['shrunken'])} is the "
        f"one to quote, because the strongest of many are flattered; n {fmt.integer(row['n'])}, "
        f"{fmt.integer(row['support'])} with it.{rates}"
    )
    keys = ("n", "support", "adjusted", "adjusted_low", "adjusted_high", "shrunken", "q_value", "rate", "rate_without")
    numbers = {k: _plain(row[k]) for k in keys}
    return Finding("supported-trait", STEP, "info", level_words(row["trait"], row["level"]), sentence, numbers)


def _side(row: dict, outcome: str) -> str:
    """More or less of the outcome."""
    less, words = row["adjusted"] < 1, OUTCOME_WORDS[outcome]
    if outcome in ("win", "retention", "expansion"):
        return f"{words} {'less' if less else 'more'} often"
    if outcome == "cycle":
        return f"a {'shorter' if less else 'longer'} sales cycle"
    return f"a {'lower' if less else 'higher'} {words.removeprefix('the ')}"


def _pairs(pairs: pd.DataFrame) -> list[Finding]:
    """Pairs that win more or less together than both lead to expect."""
    found = []
    for row in pairs[pairs["verdict"] == "supported"].head(SHOWN).to_dict("records"):
        both = f"{level_words(row['first'], row['first_level'])} and {level_words(row['second'], row['second_level'])}"
        sentence = (
            f"{both} together are associated with winning beyond what each is: {fmt.percent(row['rate'])} won where "
            f"{fmt.percent(row['expected'])} was to be expected (odds × {fmt.ratio(row['odds_ratio'])}, "
            f"{fmt.ratio(row['low'])}–{fmt.ratio(row['high'])}), n {fmt.integer(row['support'])} with both; p "
            f"{fmt.p_value(row['p_value'])} over all {fmt.integer(row['pairs'])} pairs."
        )
        keys = ("support", "rate", "expected", "odds_ratio", "low", "high", "p_value", "pairs")
        found.append(Finding("combined-traits", STEP, "info", both, sentence, {k: _plain(row[k]) for k in keys}))
    return found


def _delta(delta: pd.DataFrame) -> list[Finding]:
    """Inside against outside the ICP, in the whole market, on the outcomes that tell them apart."""
    rows = delta[(delta["scope"] == ALL) & (delta["status"] == "ok")]
    found = []
    for row in rows.to_dict("records"):
        if row["adjusted_low"] <= 1 <= row["adjusted_high"]:
            continue
        ratio = "odds" if row["outcome"] in ("win", "retention", "expansion") else "ratio of means"
        sentence = (
            f"Accounts inside their segment's ICP differ in {OUTCOME_WORDS[row['outcome']]}: {ratio} × "
            f"{fmt.ratio(row['adjusted'])} ({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])}) among alike, "
            f"× {fmt.ratio(row['ratio'])} in the plain figures, n {fmt.integer(row['n_yes'])} inside and "
            f"{fmt.integer(row['n_no'])} outside."
        )
        keys = ("n_yes", "n_no", "ratio", "low", "high", "adjusted", "adjusted_low", "adjusted_high")
        found.append(
            Finding("icp-delta", STEP, "info", str(row["outcome"]), sentence, {k: _plain(row[k]) for k in keys})
        )
    return found


def _reversals(traits: pd.DataFrame) -> list[Finding]:
    """Effects of the whole market that change sides once alike is compared with alike."""
    found = []
    for row in _flagged(traits, "reversal").head(SHOWN).to_dict("records"):
        sentence = (
            f"{level_words(row['trait'], row['level'])} looks like odds × {fmt.ratio(row['odds_ratio'])} "
            f"({fmt.ratio(row['low'])}–{fmt.ratio(row['high'])}) in the plain figures, and is × {fmt.ratio(row['adjusted'])} "
            f"({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])}) among accounts that are alike in channel, "
            f"seller, segment and size, n {fmt.integer(row['n'])}."
        )
        action = "Read the adjusted figure; do not act on the plain one."
        found.append(
            Finding(
                "reversal",
                STEP,
                "watch",
                level_words(row["trait"], row["level"]),
                sentence,
                _effect(row),
                action=action,
            )
        )
    return found


def _confounded(traits: pd.DataFrame) -> list[Finding]:
    """Traits that only ride on a channel or a seller (to watch), and how many only ride on segment and size."""
    apart = _flagged(traits, "inseparable")
    apart = apart[((apart["low"] > 1) | (apart["high"] < 1)) & (apart["verdict"] != "supported")]
    rows = _flagged(traits, "confounded").drop(apart.index, errors="ignore")
    rows = rows[~(";" + rows["flags"] + ";").str.contains(";reversal;", regex=False)]
    by_channel = rows[rows["flags"].str.contains("by_channel")]
    found = [_inseparable(row) for row in apart.head(SHOWN).to_dict("records")]
    for row in by_channel.head(SHOWN).to_dict("records"):
        sentence = (
            f"{level_words(row['trait'], row['level'])} looks associated with winning (odds × {fmt.ratio(row['odds_ratio'])}), "
            f"but goes along with a channel, seller, region or quarter: × {fmt.ratio(row['adjusted'])} "
            f"({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])}) once those are equal, n {fmt.integer(row['n'])}."
        )
        found.append(
            Finding("confounded-trait", STEP, "watch", level_words(row["trait"], row["level"]), sentence, _effect(row))
        )
    rest = rows.drop(by_channel.index)
    if len(rest):
        names = ", ".join(level_words(t, v) for t, v in zip(rest["trait"][:3], rest["level"][:3], strict=True))
        sentence = (
            f"{len(rest)} levels look associated with winning only because they go along with segment, size or other traits "
            f"({names}{', …' if len(rest) > 3 else ''})."
        )
        found.append(Finding("confounded-trait", STEP, "info", "segment and size", sentence, {"levels": len(rest)}))
    return found


def _inseparable(row: dict) -> Finding:
    """A level that hardly any other seller, channel, region or quarter has."""
    name = level_words(row["trait"], row["level"])
    sentence = (
        f"{name} looks associated with winning (odds × {fmt.ratio(row['odds_ratio'])}, {fmt.ratio(row['low'])}–"
        f"{fmt.ratio(row['high'])}), but cannot be told from who sold to these accounts, through which channel, where or "
        f"when: hardly any are alike in that and differ in this, n {fmt.integer(row['n'])}."
    )
    action = "Let other sellers work some of these accounts before building on it."
    return Finding("confounded-trait", STEP, "watch", name, sentence, _effect(row), action=action)


def _segment_specific(traits: pd.DataFrame) -> list[Finding]:
    """Effects that differ between segments."""
    rows = traits[
        traits["flags"].str.contains("segment_specific")
        & (traits["outcome"] == "win")
        & (traits["verdict"] == "supported")
    ]
    return [
        Finding(
            "segment-specific-trait",
            STEP,
            "info",
            f"{level_words(row['trait'], row['level'])} in {fmt.plain(row['scope'])}",
            f"{level_words(row['trait'], row['level'])} is associated with winning differently in segment {fmt.plain(row['scope'])}: "
            f"odds × {fmt.ratio(row['adjusted'])} ({fmt.ratio(row['adjusted_low'])}–{fmt.ratio(row['adjusted_high'])}) there, "
            f"n {fmt.integer(row['n'])}.",
            _effect(row),
        )
        for row in rows.sort_values(["q_value", "scope", "trait", "level"]).head(SHOWN).to_dict("records")
    ]


def _evidence(traits: pd.DataFrame, audit: pd.DataFrame) -> list[Finding]:
    """How much of winning cannot be told at this number of observations."""
    rows = traits[(traits["outcome"] == "win") & (traits["scope"] == ALL) & (traits["verdict"] != "quarantined")]
    if rows.empty:
        sentence = (
            "There is no column that could be a trait: nothing can be said about what goes with winning."
            if audit.empty
            else "Too few opportunities won, or too few lost, to say anything about traits and winning."
        )
        return [Finding("insufficient-evidence", STEP, "watch", "winning", sentence, {"levels": 0})]
    short = rows[rows["verdict"] == "insufficient"]
    if short.empty:
        return []
    needed = short["n_needed"].median()
    told = f"; half of them would need {fmt.integer(needed)} observations or fewer" if needed == needed else ""
    sentence = (
        f"{len(short)} of {len(rows)} trait levels have too few observations to find an odds ratio of 1.6{told}. "
        "They are not known to be idle."
    )
    nothing = len(short) == len(rows)
    numbers = {"short": len(short), "levels": len(rows), "median_needed": _plain(needed)}
    return [Finding("insufficient-evidence", STEP, "watch" if nothing else "info", "winning", sentence, numbers)]


def _single(icps: Sequence[dict], traits: pd.DataFrame) -> list[Finding]:
    """Several segments, one profile: either shown to be the same, or not yet told apart."""
    several = [i for i in icps if i["status"] == "ok"]
    specific = traits["flags"].str.contains("segment_specific") & (traits["verdict"] == "supported")
    if len(several) < 2 or specific.any():
        return []
    sentence = (
        f"The {len(several)} segments share one profile: no trait is associated with winning differently in any of them, "
        "as far as the data can tell. Messages may still differ, because needs do."
    )
    return [Finding("single-icp", STEP, "info", "all segments", sentence, {"segments": len(several)})]


def _flagged(traits: pd.DataFrame, flag: str) -> pd.DataFrame:
    """Rows about winning in the whole market with this flag, largest crude effect first."""
    rows = traits[(traits["scope"] == ALL) & (traits["outcome"] == "win") & (traits["verdict"] != "quarantined")]
    rows = rows[(";" + rows["flags"] + ";").str.contains(f";{flag};", regex=False)]
    size = (rows["rate_diff"].abs()).fillna(0)
    return rows.assign(size=size).sort_values(["size", "trait", "level"], ascending=[False, True, True])


def _effect(row: dict) -> dict:
    keys = ("n", "support", "odds_ratio", "low", "high", "adjusted", "adjusted_low", "adjusted_high")
    return {k: _plain(row[k]) for k in keys}


def _plain(value: object) -> float | None:
    """A number for JSON; nothing for missing."""
    number = float(value)  # type: ignore[arg-type]
    return None if number != number else round(number, 6)
