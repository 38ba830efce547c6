"""Reads what the segment step made, makes its findings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import read_blocks, variable_names
from icplab.segments.counts import count_pairs
from icplab.segments.existence import MIN_RATIO, MOST_CONTINUUM
from icplab.segments.fit import Segmentation
from icplab.segments.motion import MIN_DEALS_A_YEAR, MIN_WINS
from icplab.segments.rules import DESCRIBABLE
from icplab.segments.universe import ALL

STEP = "30_segments"
PLAYBOOK_SAYS = ("message", "offer_angle", "qualification_rule")
SAME_AS_INDUSTRY = 0.8  # share of the segmentation that industry alone explains
INCOMPLETE = 1.1  # CRM accounts over the upper end of the market's from which the market file cannot be complete
SAME_AS_SOURCE = 0.5  # Cramér's V of segment and where, when or how completely a record was made


def findings(
    segmentation: Segmentation,
    segments: pd.DataFrame,
    rules: pd.DataFrame,
    differences: pd.DataFrame,
    accounts: pd.DataFrame,
    *,
    settings: Settings,
    matches: pd.DataFrame | None = None,
    market: pd.DataFrame | None = None,
    motion: pd.DataFrame | None = None,
    focus: pd.DataFrame | None = None,
) -> list[Finding]:
    """Findings of the segment step: the verdict in words, and every reason not to act on a segment.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    segments : artefact segments
    rules : result of `describe_segments`
    differences : result of `measure_differences`
    accounts : account table
    settings : reads playbook [segments]
    matches : result of `match_segments`, when there is an earlier run
    market : result of `measure_market`
    motion : result of `measure_motion`
    focus : result of `judge_focus`
    """
    found = [_verdict(segmentation, segments)]
    if segmentation.verdict != "none":
        found += _not_describable(rules)
        found += _evidence_poor(segments)
        found += _industry_only(segmentation, accounts)
        found += _label_only(differences)
        found += _source_artefact(segmentation, accounts)
        found += _too_many(motion)
        found += _one_icp_for_all(segmentation, settings)
        found += _focus(focus)
    found += _changes(matches)
    found += _whitespace(market)
    return found


def measure_source_dependence(segmentation: Segmentation, accounts: pd.DataFrame) -> pd.DataFrame:
    """How closely the segments follow the way records came in.

    Returns
    -------
    One row per circumstance (the year a record was created, whether a trait is known), closest first: circumstance,
    cramers_v (0–1), n.
    """
    frame = accounts.sort_values("account_id", ignore_index=True)
    segment = segmentation.assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)
    assigned = segment != UNASSIGNED
    recipe = segmentation.assigner["recipe"]
    blocks = read_blocks(recipe, frame)
    known = {e["trait"]: ~np.isnan(blocks.numbers[:, i]) for i, e in enumerate(recipe["numbers"])}
    for j, name in enumerate(variable_names(recipe)):
        known[name.split(": ")[0]] = blocks.levels[:, blocks.variable == j].sum(axis=1) > 0
    made = {f"{trait} is known": values for trait, values in known.items()}
    if "created_at" in frame and frame["created_at"].notna().any():
        made["year the record was created"] = frame["created_at"].dt.year.fillna(0).astype(int).to_numpy()
    rows = [
        (name, _cramers_v(values[assigned], segment[assigned]), int(assigned.sum())) for name, values in made.items()
    ]
    table = pd.DataFrame(rows, columns=["circumstance", "cramers_v", "n"]).astype({"circumstance": "str"})
    return table.sort_values(["cramers_v", "circumstance"], ascending=[False, True], ignore_index=True)


def _verdict(segmentation: Segmentation, segments: pd.DataFrame) -> Finding:
    e, k = segmentation.evidence, len(segments)
    numbers = {"k": k, "accounts": e["accounts"], "p_value": e.get("p_value"), "gain_ratio": e.get("gain_ratio")}
    test = ""
    if e.get("gain_ratio") and e.get("p_value") is not None:
        test = (
            f" Splitting the market gains {e['gain_ratio']:.2f} times what it gains on {e['null_markets']} twin markets"
            f" without groups (p = {e['p_value']:.3f}; {MIN_RATIO:g} times and p ≤ 0.05 are asked for)."
        )
        numbers["null_markets"] = e["null_markets"]
        numbers["continuum"] = e.get("continuum")
        if e.get("reason"):
            test += f" But {e['reason']}."
        elif e.get("continuum") is not None:
            reached = f"{e['continuum']:.0%}" if e["continuum"] > 0 else "nothing"
            test += f" One smooth continuum reaches {reached} of the groups' gain (less than {MOST_CONTINUUM:.0%} is asked for)."
    sentence = {
        "natural": f"The {e['accounts']:,} accounts fall into {k} natural segments.{test}",
        "reproducible": (
            f"{k} segments are found again in resampled accounts, but they are a cut of a continuum, not natural groups.{test}"
        ),
        "constructive": (
            f"There are no natural segments: the market is a continuum, cut here into {k} bands of"
            f" {e.get('cut_by', 'one number')} because a plan needs a cut.{test}"
        ),
        "none": f"No segments: {e.get('reason') or 'one group describes the market best'}. One profile covers the whole market.",
    }[segmentation.verdict]
    action = {
        "natural": "Plan by these segments; check firm and doubtful membership before moving accounts.",
        "reproducible": "Use them where a cut is needed, and expect accounts near a border to change sides.",
        "constructive": "Set the borders where sales capacity changes; they are a decision, not a discovery.",
        "none": "Prioritise by traits and tiers; collect needs, size and tools for more accounts before cutting again.",
    }[segmentation.verdict]
    return Finding(f"segments-{segmentation.verdict}", STEP, "info", "market", sentence, numbers, action=action)


def _not_describable(rules: pd.DataFrame) -> list[Finding]:
    return [
        Finding(
            "not-describable",
            STEP,
            "watch",
            row["segment_id"],
            f"No filter of up to four conditions describes {row['segment_id']} ({row['segment']}) well: the best reaches F1"
            f" {row['f1']:.2f} (precision {row['precision']:.2f}, recall {row['recall']:.2f}).",
            {"f1": row["f1"], "precision": row["precision"], "recall": row["recall"], "limit": DESCRIBABLE},
            action="Send the assigned segment to the CRM as a field instead of rebuilding it as a list filter.",
        )
        for row in rules[rules["f1"] < DESCRIBABLE].to_dict("records")
    ]


def _evidence_poor(segments: pd.DataFrame) -> list[Finding]:
    poor = segments[segments["wins"].fillna(0) < MIN_WINS]
    found = [
        Finding(
            "evidence-poor",
            STEP,
            "watch",
            row["segment_id"],
            f"{row['segment_id']} ({row['segment']}) has {row['wins']:.0f} wins; below {MIN_WINS} its figures cannot carry a decision.",
            {"wins": row["wins"], "limit": MIN_WINS, "accounts": row["accounts"]},
            action="Borrow the figures of the whole market until more opportunities have closed.",
        )
        for row in poor.fillna({"wins": 0}).to_dict("records")
    ]
    if len(segments) > 2 and 2 * len(poor) > len(segments):
        found.append(
            Finding(
                "too-many-segments",
                STEP,
                "watch",
                "market",
                f"{len(poor)} of {len(segments)} segments have fewer than {MIN_WINS} wins: there are more segments than evidence.",
                {"poor": len(poor), "segments": len(segments), "limit": MIN_WINS},
                action="Lower [plan] max_segments, or work with the whole market until there are more wins.",
            )
        )
    return found


def industry_share(segmentation: Segmentation, accounts: pd.DataFrame) -> float:
    """Share of the segmentation (of its entropy) that the account's industry alone explains; 0 without industries."""
    if "industry" not in accounts or len(segmentation.segment_ids) < 2:
        return 0.0
    frame = segmentation.assignments.merge(accounts[["account_id", "industry"]], on="account_id")
    frame = frame[(frame["segment_id"] != UNASSIGNED) & frame["industry"].notna()]
    return _explained(frame["segment_id"].to_numpy(dtype=object), frame["industry"].to_numpy(dtype=object))


def _industry_only(segmentation: Segmentation, accounts: pd.DataFrame) -> list[Finding]:
    share = industry_share(segmentation, accounts)
    if share < SAME_AS_INDUSTRY:
        return []
    return [
        Finding(
            "industry-only",
            STEP,
            "watch",
            "market",
            f"Industry alone explains {share:.0%} of the segmentation of {len(accounts):,} accounts: urgency and buying process do not enter.",
            {"share": round(share, 4), "accounts": len(accounts), "limit": SAME_AS_INDUSTRY},
            action="Add needs, tools and buying process to the account records, or say openly that the cut is by industry.",
        )
    ]


def _too_many(motion: pd.DataFrame | None) -> list[Finding]:
    """More segments than a team can work: most of them too small for a motion that repeats, or more than there are sellers."""
    if motion is None or len(motion) < 3:
        return []
    small = int((~motion["repeatable"].astype(bool)).sum())
    sellers = int(motion["sellers"].max())
    if 2 * small <= len(motion) and (not sellers or len(motion) <= sellers):
        return []
    numbers = {"small": small, "segments": len(motion), "sellers": sellers, "deals": MIN_DEALS_A_YEAR, "wins": MIN_WINS}
    sentence = (
        f"{small} of {len(motion)} segments are too small for a motion that repeats (at least {MIN_DEALS_A_YEAR} opportunities a"
        f" year and {MIN_WINS} wins); no segment has more than {sellers} sellers: there are more segments than can be executed."
    )
    action = "Lower [plan] max_segments, or name the few that get a motion of their own."
    return [Finding("too-many-segments", STEP, "watch", "execution", sentence, numbers, action=action)]


def _one_icp_for_all(segmentation: Segmentation, settings: Settings) -> list[Finding]:
    """Segments that the playbook treats alike: one message, one offer and one rule of qualification for all."""
    given = settings.playbook.get("segments", {})
    given = given if isinstance(given, Mapping) else {}
    names = dict(zip(segmentation.segment_ids, segmentation.assigner["names"], strict=True))
    entries = [given.get(i, given.get(n)) for i, n in names.items()]
    said = [tuple(_plain_text(e.get(key)) for key in PLAYBOOK_SAYS) for e in entries if isinstance(e, Mapping)]
    said = [s for s in said if any(s)]
    if len(said) < 2 or len(set(said)) > 1:
        return []
    numbers = {"segments": len(said), "different": 1}
    sentence = f"The playbook treats {len(said)} segments as one: the same message, offer and qualification rule for all of them."
    action = "Write for each segment what it hears and who qualifies, or merge the segments."
    return [Finding("single-icp", STEP, "watch", "playbook", sentence, numbers, action=action)]


def _plain_text(value: object) -> str:
    return " ".join(str(value).lower().split()) if value else ""


def _focus(focus: pd.DataFrame | None) -> list[Finding]:
    """Which segments deserve more focus, which less, and of which that is not known."""
    if focus is None or focus.empty:
        return []
    groups = {word: focus.loc[focus["focus"] == word, "segment_id"].tolist() for word in ("yes", "no", "not yet known")}
    parts = [f"{word}: {', '.join(ids)}" for word, ids in groups.items() if ids]
    numbers = {word: len(ids) for word, ids in groups.items()}
    sentence = f"Deserves more focus, from conversion, accepted leads and sales feedback against the other segments – {'; '.join(parts)}."
    action = "Shift effort towards the first; collect judgements of sales where it is not yet known."
    return [Finding("where-to-focus", STEP, "info", "market", sentence, numbers, action=action)]


def _label_only(differences: pd.DataFrame) -> list[Finding]:
    if differences.empty or bool(differences["differs"].any()):
        return []
    return [
        Finding(
            "label-only",
            STEP,
            "watch",
            "market",
            f"None of {len(differences)} measured differences between segments is large enough to change a decision.",
            {"measured": len(differences)},
            action="Do not plan by these segments until one of them needs another message, channel or qualification rule.",
        )
    ]


def _source_artefact(segmentation: Segmentation, accounts: pd.DataFrame) -> list[Finding]:
    table = measure_source_dependence(segmentation, accounts)
    close = table[table["cramers_v"] >= SAME_AS_SOURCE]
    return [
        Finding(
            "source-artefact",
            STEP,
            "watch",
            str(row["circumstance"]),
            f"The segments follow how records were made: Cramér's V with “{row['circumstance']}” is {row['cramers_v']:.2f}.",
            {"cramers_v": row["cramers_v"], "limit": SAME_AS_SOURCE, "n": row["n"]},
            owner="RevOps",
            action="Leave the columns of that source out in [plan] excluded, and segment again.",
        )
        for row in close.head(1).to_dict("records")
    ]


def _changes(matches: pd.DataFrame | None) -> list[Finding]:
    if matches is None:
        return []
    changed = matches[matches["change"].isin(["split", "merged", "ended"])]
    words = {
        "split": "was split off {previous_id}",
        "merged": "took in most of another segment",
        "ended": "has dissolved: no segment of now holds half of it",
    }
    return [_change(row, words[row["change"]]) for row in changed.to_dict("records")]


def _change(row: Mapping, words: str) -> Finding:
    ended = row["change"] == "ended"
    subject = str(row["previous_id"] if ended else row["new_id"])
    return Finding(
        "retire-segment" if ended else "segments-changed",
        STEP,
        "watch",
        subject,
        f"{subject} {words.format(previous_id=row['previous_id'])} (Jaccard {row['jaccard']:.2f} on common accounts).",
        {"jaccard": round(float(row["jaccard"]), 4)},
        action="Decide in the council whether plays and targets follow.",
    )


def _whitespace(market: pd.DataFrame | None) -> list[Finding]:
    """Where most of the addressable market is untouched, and whether the market file can be right at all."""
    if market is None or market.empty:
        return []
    whole = market[market["segment_id"] == ALL].iloc[0]
    share = whole["whitespace_accounts"] / max(whole["market_accounts"], 1)
    numbers = {c: float(whole[c]) for c in ("market_accounts", "customers", "whitespace_accounts")} | {"share": share}
    sentence = (
        f"Of {whole['market_accounts']:,.0f} accounts of the addressable market {whole['customers']:,.0f} are customers and"
        f" {whole['whitespace_accounts']:,.0f} ({share:.0%}) are not in the CRM."
    )
    own = market[~market["segment_id"].isin([ALL, UNASSIGNED])]
    if len(own) > 1:
        top = own.sort_values(["whitespace_accounts", "segment_id"], ascending=[False, True]).iloc[0]
        numbers |= {
            "segment_whitespace": float(top["whitespace_accounts"]),
            "segment_market": float(top["market_accounts"]),
        }
        sentence += (
            f" The largest part is in {top['segment_id']} ({top['segment']}): {top['whitespace_accounts']:,.0f} of its"
            f" {top['market_accounts']:,.0f}."
        )
    action = "Add these accounts to the CRM, or leave them out of the plan, before more effort goes to known ones."
    found = [Finding("whitespace", STEP, "info", "market", sentence, numbers, action=action)]
    too_small = own[own["crm_accounts"] > INCOMPLETE * own["high"]]
    for row in too_small.to_dict("records"):
        numbers = {"crm_accounts": row["crm_accounts"], "market_accounts": row["market_accounts"], "high": row["high"]}
        sentence = (
            f"The market file holds {row['market_accounts']:,.0f} accounts for {row['segment_id']} ({row['segment']}), the CRM"
            f" {row['crm_accounts']:,.0f}: penetration and whitespace of this segment cannot be trusted."
        )
        action = "Check the market file's borders (regions, sizes) against what the CRM holds."
        found.append(Finding("market-incomplete", STEP, "watch", row["segment_id"], sentence, numbers, action=action))
    return found


def _cramers_v(values: np.ndarray, groups: np.ndarray) -> float:
    """Cramér's V, less what chance alone would give (Bergsma 2013)."""
    counts = count_pairs(values, groups)
    n, (r, c) = counts.sum(), counts.shape
    if min(r, c) < 2 or n < 2:
        return 0.0
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / n
    phi = max(((counts - expected) ** 2 / expected).sum() / n - (r - 1) * (c - 1) / (n - 1), 0.0)
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    return round(float(np.sqrt(phi / max(smaller, 1e-9))), 4)


def _explained(target: np.ndarray, by: np.ndarray) -> float:
    """Share of the entropy of `target` that `by` explains."""
    counts = count_pairs(target, by)
    p = counts / max(counts.sum(), 1)
    log = np.log(np.where(p > 0, p, 1))
    rows, columns = p.sum(1), p.sum(0)
    joint = -(p * log).sum()
    own = -(rows * np.log(np.maximum(rows, 1e-300))).sum()
    other = -(columns * np.log(np.maximum(columns, 1e-300))).sum()
    return float((own + other - joint) / own) if own > 0 else 0.0


def left_out(segmentation: Segmentation) -> pd.DataFrame:
    """Traits that did not enter the grouping, one row per trait and reason: trait, why, variables (tools of a stack count each)."""
    entries = segmentation.assigner["recipe"]["left_out"]
    table = pd.DataFrame(entries, columns=["trait", "why"]).astype("str")
    table["trait"] = table["trait"].str.split(": ").str[0]
    return table.groupby(["trait", "why"], as_index=False).size().rename(columns={"size": "variables"})
