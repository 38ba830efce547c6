"""Reads traffic, leads, feedback and opportunities, makes the four review signals of channels and segments, and why they fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.performance.tally import OK, contrast

STEP = "70_governance"
FALSE_ALARM = 0.05  # over all levels and signals of a run
MANY, FEW = 1.25, 0.75  # of the visits or forms of an average level
WORSE, BETTER = 0.8, 1.1  # of the rate of all others, from which on a difference is worth acting on
SLOWER = 1.25  # of the cycle of all others
YES, NO, UNKNOWN = "yes", "no", "not enough evidence"
KINDS = ("channel", "segment", "campaign")


@dataclass(frozen=True)
class Signal:
    """One of the four patterns: what it is made of, what it teaches and what to do."""

    code: str
    name: str
    volume: str
    busy: bool | None
    """Whether the volume is high (True) or low (False); None: it does not matter."""
    measure: str
    higher: bool
    learn: str
    act: str


SIGNALS = (
    Signal("high-traffic-low-qualification", "high traffic, low qualification", "visits", True, "qualified", False,
           "the topic is too broad", "Narrow the message and add cues that put the wrong ones off."),
    Signal("low-traffic-high-acceptance", "low traffic, high sales acceptance", "visits", False, "accepted", True,
           "it needs reach", "Distribute more, or test paid capture."),
    Signal("high-forms-low-fit", "many forms, low sales fit", "forms", True, "poor fit", True,
           "the offer attracts the wrong audience", "Adjust the qualifying fields and the copy of the page."),
    Signal("strong-talks-slow-cycles", "strong conversations, slow cycles", "", None, "good fit", True,
           "the buying process needs education", "Offer a comparison, proof and material for the talk inside the account."),
)  # fmt: skip
COLUMNS = {
    "of": "str",
    "level": "str",
    "signal": "str",
    "verdict": "str",
    "volume": "float64",
    "measure": "str",
    **dict.fromkeys(("value", "low", "high", "rest", "n"), "float64"),
    "learn": "str",
    "act": "str",
}


def place_evidence(
    tables: Mapping[str, pd.DataFrame], opportunities: pd.DataFrame, accounts: pd.DataFrame, segments: pd.DataFrame
) -> pd.DataFrame:
    """Everything that speaks about the quality of a channel, segment or campaign, one row per observation.

    Parameters
    ----------
    tables : canonical tables `traffic, leads, feedback`
    opportunities, accounts : the tables of the run
    segments : artefact `account_segments`

    Returns
    -------
    DataFrame
        `measure` (visits, forms, qualified, accepted, good fit, poor fit, won, cycle, failed), `value` (a count, 0 or 1, days), `reason`
        (of what failed), `family_id, channel, segment, campaign`. A lead is qualified or not once it was qualified or
        disqualified, accepted or not once sales decided; failed are disqualified leads, lost opportunities and poor fit.
    """
    named = dict(zip(segments["segment_id"], segments["segment"], strict=True))
    segment = segments.set_index("account_id")["segment"]
    family = accounts.set_index("account_id")["family_id"]
    deals = _placed(opportunities, opportunities["source"], segment, family)
    judged = _judged(tables["feedback"], opportunities, segment, family)
    leads = tables["leads"].reset_index(drop=True)
    asked = _placed(leads, leads["source"], segment, family)
    asked["family_id"] = asked["family_id"].fillna("company " + leads["company"].astype("str").str.strip().str.lower())
    parts = [
        *_of_traffic(tables["traffic"], named),
        *_of_leads(leads, asked),
        *_of_feedback(judged),
        *_of_deals(opportunities, deals),
    ]
    return pd.concat(parts, ignore_index=True)


def review_signals(evidence: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The four signals for every channel, segment and campaign against all others of its kind.

    Parameters
    ----------
    evidence : from `place_evidence`
    settings : `[plan] minimum_n`, below which the answer is "not enough evidence"

    Returns
    -------
    DataFrame
        One row per level and signal: `of` (channel, segment, campaign), `level, signal, verdict` (yes, no, not enough
        evidence), `volume` (visits or forms, 1 is an average level), `measure, value, low, high, rest, n, learn, act`.

    Notes
    -----
    A rate is called lower (higher) when it is at most 0.8 (at least 1.1) times that of all others and the difference is
    beyond chance, 5 % over all levels and signals (Bonferroni), families as units. Cycles are compared by the mean of
    log days. Levels are compared with each other, so a signal says where to look first, not that anything went wrong.
    """
    levels = {kind: compared_levels(evidence, kind, settings) for kind in KINDS}
    tests = max(sum(map(len, levels.values())) * len(SIGNALS), 1)
    parts = [
        _judge(signal, kind, levels[kind], evidence, settings, tests)
        for kind in KINDS
        for signal in SIGNALS
        if len(levels[kind])
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c: [] for c in COLUMNS})
    order = table["of"].map({kind: i for i, kind in enumerate(KINDS)})
    table = table.assign(place=order).sort_values(["place", "level"], kind="stable", ignore_index=True)
    return table[list(COLUMNS)].astype(COLUMNS)


def find_signals(signals: pd.DataFrame) -> Iterator[Finding]:
    """One note per signal that is there: levels differ in every business, so none is an alarm."""
    codes = {s.name: s.code for s in SIGNALS}
    for row in signals[signals["verdict"] == YES].to_dict("records"):
        volume = f"{row['volume']:.1f} times the usual volume, " if row["volume"] == row["volume"] else ""
        shown = formats.estimate(row["value"], row["low"], row["high"], "fraction")
        level = formats.plain(row["level"], 60)
        yield Finding(
            codes[row["signal"]],
            STEP,
            "info",
            f"{row['of']} {row['level']}",
            f"The {row['of']} “{level}” shows {row['signal']}: {volume}{row['measure']} {shown}, n = {row['n']:,.0f}, "
            f"all others {formats.percent(row['rest'])}. It usually means that {row['learn']}.",
            {c: row[c] for c in ("volume", "value", "low", "high", "rest", "n")},
            owner="Sales / Marketing / CS",
            action=row["act"],
        )


def _placed(frame: pd.DataFrame, source: pd.Series, segment: pd.Series, family: pd.Series) -> pd.DataFrame:
    """Where each row belongs: its family, channel, segment and campaign."""
    account = frame["account_id"]
    return pd.DataFrame(
        {
            "family_id": account.map(family).astype("str"),
            "channel": _cleaned(source),
            "segment": account.map(segment).astype("str"),
            "campaign": frame["campaign_id"].astype("str"),
        }
    )


def _judged(feedback: pd.DataFrame, opportunities: pd.DataFrame, segment: pd.Series, family: pd.Series) -> pd.DataFrame:
    """Feedback with the place of its opportunity, else of its account."""
    by = opportunities.drop_duplicates("opportunity_id").set_index("opportunity_id")
    of = {c: feedback["opportunity_id"].map(by[c]) for c in ("account_id", "source", "campaign_id")}
    account = of["account_id"].astype("str").fillna(feedback["account_id"].astype("str"))
    frame = pd.DataFrame({"account_id": account, "campaign_id": of["campaign_id"]})
    return _placed(frame, of["source"], segment, family).assign(fit=feedback["fit"], reason=feedback["reason"])


def _cleaned(names: pd.Series) -> pd.Series:
    return names.astype("str").str.strip().str.lower()


def _of_traffic(traffic: pd.DataFrame, named: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    segment = traffic["segment"].astype("str")
    place = {
        "family_id": None,
        "channel": _cleaned(traffic["channel"]),
        "segment": segment.map(named).astype("str").fillna(segment),
        "campaign": traffic["campaign_id"].astype("str"),
    }
    for measure in ("visits", "forms"):
        yield pd.DataFrame({**place, "measure": measure, "value": traffic[measure], "reason": None})


def _of_leads(leads: pd.DataFrame, place: pd.DataFrame) -> Iterator[pd.DataFrame]:
    qualified, accepted = leads["qualified_at"].notna() | leads["accepted_at"].notna(), leads["accepted_at"].notna()
    dropped = leads["disqualified_at"].notna() & ~accepted
    yield _seen(place, "qualified", qualified, qualified | dropped)
    yield _seen(place, "accepted", accepted, accepted | (qualified & dropped))
    yield _seen(place, "failed", dropped, dropped, leads["disqualification_reason"])


def _of_feedback(judged: pd.DataFrame) -> Iterator[pd.DataFrame]:
    place, known = judged[["family_id", "channel", "segment", "campaign"]], judged["fit"].notna()
    yield _seen(place, "good fit", judged["fit"] == "good", known)
    yield _seen(place, "poor fit", judged["fit"] == "poor", known)
    yield _seen(place, "failed", known, judged["fit"] == "poor", judged["reason"])


def _of_deals(opportunities: pd.DataFrame, place: pd.DataFrame) -> Iterator[pd.DataFrame]:
    won, lost = opportunities["status"] == "won", opportunities["status"] == "lost"
    yield _seen(place, "won", won, won | lost)
    yield _seen(place, "failed", lost, lost, opportunities["loss_reason"])
    days = opportunities["cycle_days"]
    yield _seen(place, "cycle", days, won & days.notna())


def _seen(
    place: pd.DataFrame, measure: str, value: pd.Series, known: pd.Series, reason: pd.Series | None = None
) -> pd.DataFrame:
    rows = place.assign(measure=measure, value=value.astype("float64"), reason=None if reason is None else reason)
    return rows[known.fillna(False).astype(bool)]


def compared_levels(evidence: pd.DataFrame, kind: str, settings: Settings) -> list[str]:
    """Levels of a kind, where there are two to compare; campaigns only where decided leads or judgements suffice."""
    rows = evidence[evidence[kind].notna() & evidence["measure"].isin(("qualified", "good fit", "won"))]
    counts = rows.groupby([kind, "measure"]).size().unstack(fill_value=0)
    if kind == "campaign":
        counts = counts[counts.drop(columns="won", errors="ignore").max(axis=1) >= settings.plan.minimum_n]
    return sorted(counts.index) if len(counts) > 1 else []


def rates_of(evidence: pd.DataFrame, kind: str, measure: str, levels: list[str], settings: Settings) -> pd.DataFrame:
    """`contrast` of one measure over the levels of a kind; a level without a row of it has no value."""
    rows = evidence[(evidence["measure"] == measure) & evidence[kind].notna()]
    return contrast(rows, kind, rows["value"], settings.plan.minimum_n).reindex(levels)


def _judge(
    signal: Signal, kind: str, levels: list[str], evidence: pd.DataFrame, settings: Settings, tests: int
) -> pd.DataFrame:
    """One signal for all levels of a kind."""
    rates = rates_of(evidence, kind, signal.measure, levels, settings)
    volume = _volume(evidence, kind, signal.volume).reindex(levels) if signal.volume else pd.Series(np.nan, levels)
    known = rates["value"].notna() & rates["rest"].notna() & (volume.notna() | (signal.busy is None))
    p = rates["p_above" if signal.higher else "p_below"] * tests
    far = rates["value"] >= BETTER * rates["rest"] if signal.higher else rates["value"] <= WORSE * rates["rest"]
    sure = p <= FALSE_ALARM
    if signal.busy is None:  # conversations are strong; are cycles slow as well?
        slow = np.array([_slower(evidence, kind, level, tests) for level in levels])
        far, sure = far & slow[:, 0], sure & slow[:, 1]
        there = pd.Series(True, levels)
    else:
        there = volume >= MANY if signal.busy else volume <= FEW
    enough = rates["status"] == OK
    verdict = np.select([~known, ~there, ~enough, far & sure, far], [UNKNOWN, NO, UNKNOWN, YES, UNKNOWN], NO)
    said = {"of": kind, "signal": signal.name, "measure": signal.measure, "learn": signal.learn, "act": signal.act}
    found = rates[["value", "low", "high", "rest", "n"]].assign(level=levels, verdict=verdict, volume=volume, **said)
    return found.reset_index(drop=True)


def _volume(evidence: pd.DataFrame, kind: str, measure: str) -> pd.Series:
    """Visits or forms of each level against the average level."""
    sums = evidence[evidence["measure"] == measure].groupby(kind)["value"].sum()
    return sums / sums.mean() if len(sums) > 1 and sums.sum() > 0 else sums * np.nan


def _slower(evidence: pd.DataFrame, kind: str, level: str, tests: int) -> tuple[bool, bool]:
    """Whether the cycle of the level's wins is longer than the others' by a quarter, and beyond chance."""
    from scipy.special import ndtr

    rows = evidence[(evidence["measure"] == "cycle") & (evidence["value"] >= 0) & evidence[kind].notna()]
    logs, inside = np.log(rows["value"] + 1), rows[kind] == level
    if min(inside.sum(), (~inside).sum()) < 2:
        return False, False
    means = logs.groupby(inside).transform("mean")
    share = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
    gap, spread = float((logs * share).sum()), ((logs - means) * share).groupby(rows["family_id"]).sum()
    error = float(np.sqrt((spread**2).sum() * len(spread) / max(len(spread) - 1, 1)))
    sure = error > 0 and float(ndtr(-gap / error)) * tests <= FALSE_ALARM
    return bool(np.exp(gap) >= SLOWER), bool(sure)
