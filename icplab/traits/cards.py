"""Reads profiles, makes the card of each segment: lines that a salesperson reads."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from icplab.core import formats as fmt
from icplab.traits.pain import NOT_ENOUGH
from icplab.traits.sentences import OUTCOME_WORDS, level_words

PARTS = (
    "fit", "anti_traits", "pain", "potential", "key_roles", "personas", "drivers", "risks", "leading_indicators",
)  # fmt: skip

POTENTIAL = {
    "win_rate": ("win rate", "fraction"),
    "acv_median": ("median annual value of a win", "money"),
    "annual_margin_median": ("median annual margin of a win", "money"),
    "margin_per_opportunity": ("annual margin per closed opportunity", "money"),
    "lifetime_value": ("lifetime value of a customer", "money"),
    "cycle_days_median": ("median days to a win", "days"),
    "kept_after_a_year": ("still a customer after a year", "fraction"),
    "larger_after_a_year": ("larger after a year", "fraction"),
}


def card_table(icps: Sequence[dict]) -> pd.DataFrame:
    """Profiles as lines to read: `segment, part, says`, one row per segment and part of the card."""
    rows = []
    for icp in icps:
        name = f"{fmt.plain(icp['segment_id'])} {fmt.plain(icp['segment'])}"
        rows += [(name, part.replace("_", " "), _SAYS[part](icp[part])) for part in PARTS]
        rule = icp["qualification_rule"]
        rows.append((name, "qualification rule", rule_words(rule) if rule else NOT_ENOUGH))
    return pd.DataFrame(rows, columns=["segment", "part", "says"])


def _trait_words(entries: object) -> str:
    if not isinstance(entries, list):
        return str(entries)
    return "; ".join(
        f"{level_words(e['trait'], e['level'])} × {fmt.ratio(e['odds_ratio'])} ({fmt.ratio(e['low'])}–{fmt.ratio(e['high'])})"
        for e in entries[:6]
    )


def share_words(entries: object) -> str:
    """The most frequent values with their shares."""
    if not isinstance(entries, list):
        return str(entries)
    return ", ".join(f"{fmt.plain(e['value'])} {fmt.percent(e['share'])}" for e in entries[:3])


def _pain_words(pain: dict) -> str:
    return (
        f"{fmt.plain(pain['problem_statement'])} {_check_words(pain['statement_check'])} · needs: "
        f"{share_words(pain['needs'])} · lost because: {share_words(pain['loss_reasons'])} · disqualified because: "
        f"{share_words(pain['disqualification_reasons'])} · only the timing: {share_words(pain['timing_reasons'])}"
    )


def _check_words(check: dict) -> str:
    """Whether the data bear the problem statement out."""
    named, leading = check["named"], check["leading"]
    if named:
        best = max(named, key=lambda e: e["share"] - e["share_elsewhere"])
        return f"({check['verdict']}: {_need(best)})"
    if leading is not None:
        return f"(names none of the recorded needs; {_need(leading)} stands out most)"
    return "(cannot be checked: no needs are recorded)"


def _need(entry: dict) -> str:
    shares = f"{fmt.percent(entry['share'])} here, {fmt.percent(entry['share_elsewhere'])} elsewhere"
    return f"{fmt.plain(entry['value'])} {shares}, n {fmt.integer(entry['n'])}"


def _fit_words(fit: dict) -> str:
    """Traits, and how many accounts of the segment nobody ever worked."""
    never = f"{fmt.integer(fit['never_worked'])} of {fmt.integer(fit['accounts'])} accounts were never worked"
    return f"{_trait_words(fit['traits'])} · {never}: their fit is a projection"


def _persona_words(personas: object) -> str:
    if not isinstance(personas, list):
        return str(personas)
    said = []
    for p in personas:
        seen = [
            f"{fmt.plain(e['role'])} {fmt.percent(e['share_won'])}/{fmt.percent(e['share_lost'])}"
            for e in p["evidence"]
        ]
        said.append(f"{fmt.plain(p['persona'])} ({', '.join(seen) or 'roles not recorded'})")
    return "; ".join(said) + " of won/lost" if said else NOT_ENOUGH


def _potential_words(potential: dict) -> str:
    said = "; ".join(f"{words} {figure_words(potential[k], unit)}" for k, (words, unit) in POTENTIAL.items())
    return f"{said} · bought: {share_words(potential['products'])}"


def figure_words(figure: object, unit: str) -> str:
    """An estimate with its interval and n, or why there is none."""
    if not isinstance(figure, dict):
        return str(figure)
    said = f"{fmt.estimate(figure['value'], figure['low'], figure['high'], unit)}, n {fmt.integer(figure['n'])}"
    return f"{said} ({fmt.plain(figure['basis'])})" if figure.get("basis") else said


def _signal_words(entries: object, name: str) -> str:
    if not isinstance(entries, list):
        return str(entries)
    found = [e for e in entries if e["associated"]]
    words = [
        f"{fmt.plain(e[name])}{_when(e)} × {fmt.ratio(e['odds_ratio'])} ({fmt.ratio(e['low'])}–{fmt.ratio(e['high'])})"
        for e in found
    ]
    return "; ".join(words) or f"none of {len(entries)} told apart"


def _when(entry: dict) -> str:
    """Landmark and outcome of a leading indicator."""
    return f" by day {int(entry['day'])}, {OUTCOME_WORDS[entry['outcome']]}," if "day" in entry else ""


def _risk_words(risks: dict) -> str:
    return f"{_trait_words(risks['traits'])} · lost most often, timing included: {share_words(risks['loss_reasons'])}"


def rule_words(rule: dict) -> str:
    """A qualification rule, how many it meets, and how they win."""
    reached = f" · met by {fmt.integer(rule['n_met'])} of {fmt.integer(rule['n'])} closed opportunities"
    if rule["precision"] is None:
        return fmt.plain(rule["text"]) + reached
    rates = f", {fmt.percent(rule['precision'])} of them won against {fmt.percent(rule['base_rate'])} in the segment"
    return fmt.plain(rule["text"]) + reached + rates


_SAYS = {
    "fit": _fit_words,
    "anti_traits": _trait_words,
    "pain": _pain_words,
    "potential": _potential_words,
    "key_roles": lambda entries: _signal_words(entries, "role"),
    "personas": _persona_words,
    "drivers": _trait_words,
    "risks": _risk_words,
    "leading_indicators": lambda entries: _signal_words(entries, "signal"),
}
