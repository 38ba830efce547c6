"""Reads the tables of a workspace, makes one account of several that are one organisation, and a list of what is doubtful.

The parts: `words` and `names` (what a spelling says), `fingerprint` (what accounts are compared by), `blocks` (which pairs),
`evidence` (how much each field tells), `decide` (what becomes of a pair), `merge`, `review` (the file the analyst answers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.intake.batch import Batch, shown_text
from icplab.intake.matching import review
from icplab.intake.matching.blocks import candidate_pairs
from icplab.intake.matching.decide import Pair, groups_of, join_answers, join_clear, judge_pairs
from icplab.intake.matching.evidence import FIELDS, compare_pairs
from icplab.intake.matching.fingerprint import build_fingerprints, word_table
from icplab.intake.matching.merge import Merged, link_groups, merge_accounts, survivor_order

SHOWN_PAIRS = 5  # in a message; all stand in duplicates.csv


@dataclass(frozen=True)
class Matching:
    """What became of accounts that look alike: the merging, and the rows of `duplicates.csv`."""

    merged: Merged = field(default_factory=lambda: Merged({}, {}, {}))
    review: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(review.REVIEW)))


def match_accounts(batches: dict[str, Batch], settings: Settings, folder: Path) -> Matching:
    """Find accounts that are one organisation, merge what is clear or answered, and list the rest, in place.

    Notes go to the accounts: ICP-R046 for what was merged, ICP-W046 for what is doubtful, ICP-E046 for answers that cannot be
    used (nothing is merged then).

    Parameters
    ----------
    batches : typed and checked tables; those with links to accounts are changed
    settings : reads [matching], and whether accounts have identifiers ([sources.accounts] row_id)
    folder : the workspace, for `duplicates.csv`
    """
    accounts = batches.get("accounts")
    if accounts is None or settings.matching.merge == "never" or settings.source("accounts").row_id:
        return Matching()
    live = accounts.frame[accounts.live]
    answers, problems = review.read_answers(folder, live["account_id"].dropna())
    roots, contradictions = join_answers(answers)
    problems += [review.contradiction_problem(c) for c in contradictions]
    if problems:
        accounts.problems += problems
        return Matching()
    found = find_pairs(live, settings)
    if found.empty and not answers:
        return Matching()
    found["said"] = [answers.get(pair, "") for pair in _pairs(found)]
    order = survivor_order(batches)
    _join(found, roots, answers, settings.matching.merge)
    listed = _listed(found, answers, live, order)
    link_groups(accounts, [p for p, said in sorted(answers.items()) if said == "group"], order)
    merged = merge_accounts(batches, groups_of(roots), order)
    _tell(accounts, listed, merged)
    return Matching(merged, review.review_table(listed))


def find_pairs(accounts: pd.DataFrame, settings: Settings | None = None) -> pd.DataFrame:
    """Pairs of accounts that may be one organisation or one group, with their evidence.

    Returns
    -------
    DataFrame, one row per pair that is not apart, by identifiers: account_id_1, account_id_2 (the smaller first), name_1, name_2, verdict
    (clear, ask, group), probability (0 to 1), and bits of evidence per field (`FIELDS`).
    """
    wanted = (settings or Settings()).matching
    accounts = accounts[accounts["account_id"].notna()].drop_duplicates("account_id")
    if len(accounts) < 2:
        return _no_pairs().copy()
    prints = build_fingerprints(accounts, wanted.columns)
    words = word_table(prints)
    candidates = candidate_pairs(prints, words)
    if candidates.empty:
        return _no_pairs().copy()
    found = compare_pairs(prints, words, candidates)
    found["verdict"] = judge_pairs(found, wanted.clear, wanted.ask)
    found = found[(found["verdict"] != "apart") & ~_one_family(accounts, prints, found)].reset_index(drop=True)
    names = accounts.set_index("account_id")["name"].reindex(prints["account_id"])
    for number, side in (("1", "left"), ("2", "right")):
        found[f"account_id_{number}"] = prints["account_id"].to_numpy()[found[side]]
        found[f"name_{number}"] = names.to_numpy()[found[side]]
    return found.sort_values(["account_id_1", "account_id_2"], ignore_index=True)


@cache
def _no_pairs() -> pd.DataFrame:
    texts, numbers = (*review.IDS, "name_1", "name_2", "verdict"), ("probability", *FIELDS)
    kinds = {**dict.fromkeys(texts, "str"), **dict.fromkeys(numbers, "float64")}
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in kinds.items()})


def _one_family(accounts: pd.DataFrame, prints: pd.DataFrame, found: pd.DataFrame) -> pd.Series:
    """Pairs with a common parent, or parent and child: the CRM knows already that they are a group."""
    known = set(accounts["account_id"])
    parent = prints["parent"].where(prints["parent"].isin(known), "")
    top = parent.where(parent != "", prints["account_id"]).to_numpy()
    siblings = (top[found["left"]] == top[found["right"]]) & (parent.to_numpy()[found["left"]] != "")
    return found["is_parent"] | pd.Series(siblings & (found["verdict"] == "group"), index=found.index)


def _pairs(found: pd.DataFrame) -> list[Pair]:
    return list(zip(found["account_id_1"], found["account_id_2"], strict=True))


def _join(found: pd.DataFrame, roots: dict[str, str], answers: dict[Pair, str], policy: str) -> None:
    """Join what is clear, unless it was answered otherwise; what is not joined is asked."""
    clear = found[(found["verdict"] == "clear") & (found["said"] == "")]
    clear = clear.sort_values(["probability", "account_id_1", "account_id_2"], ascending=[False, True, True])
    apart = [pair for pair, said in sorted(answers.items()) if said in ("no", "group")]
    apart += [p for p, v in zip(_pairs(found), found["verdict"], strict=True) if v == "group" and p not in answers]
    refused = set(join_clear(roots, _pairs(clear), apart)) if policy == "clear" else set(_pairs(clear))
    asked = pd.Series([pair in refused for pair in _pairs(found)], index=found.index, dtype=bool)
    found["verdict"] = found["verdict"].mask(asked, "ask")


def _listed(found: pd.DataFrame, answers: dict[Pair, str], live: pd.DataFrame, order: pd.Series) -> pd.DataFrame:
    """Rows of the review file: every pair found or answered; of a suggested group, each member beside its head only."""
    by_verdict = {"clear": review.MERGED, "ask": review.ASKED, "group": review.GROUP}
    by_answer = {"yes": review.ANSWERED_YES, "no": review.KEPT_APART, "group": review.IN_GROUP}
    found["what"] = found["said"].map(by_answer).fillna(found["verdict"].map(by_verdict))
    found["same"] = found["said"]
    found = found[~((found["what"] == review.GROUP) & ~_beside_head(found, order))]
    seen = set(_pairs(found))
    rest = [(*pair, said) for pair, said in sorted(answers.items()) if pair not in seen]
    more = pd.DataFrame(rest, columns=["account_id_1", "account_id_2", "same"])
    names = live.drop_duplicates("account_id").set_index("account_id")["name"]
    for number in "12":
        more[f"name_{number}"] = more[f"account_id_{number}"].map(names)
    more["what"], more["probability"] = more["same"].map(by_answer), np.nan
    columns = [*review.IDS, "name_1", "name_2", "what", "same", "probability", *FIELDS]
    return pd.concat([found[columns], more.reindex(columns=columns)], ignore_index=True) if rest else found[columns]


def _beside_head(found: pd.DataFrame, order: pd.Series) -> pd.Series:
    """Of the pairs of a group, whether they hold the member that comes first in the order of survival."""
    roots: dict[str, str] = {}
    groups = found[found["what"] == review.GROUP]
    join_clear(roots, _pairs(groups), [])
    member = groups_of(roots)
    head = member.map(order.reindex(member.index).groupby(member).idxmin()) if len(member) else member
    return pd.Series([head.get(a) in (a, b) for a, b in _pairs(found)], index=found.index, dtype=bool)


def _tell(accounts: Batch, listed: pd.DataFrame, merged: Merged) -> None:
    """Notes about what was merged and what is to be answered."""
    done = listed[listed["what"].isin([review.MERGED, review.ANSWERED_YES])]
    if merged.survivor_of:
        message = f"{_counted(len(merged.survivor_of), 'account')} merged into another one that is the same organisation: {_shown(done)}"
        message += f"{_columns('; values that differ and were dropped', merged.conflicts)}{_columns('; missing values filled', merged.filled)}"
        fix = f"to undo one, write no in its row of {review.REVIEW_FILE} and put the file into the workspace"
        accounts.say("ICP-R046", message, fix=fix, column="name", count=len(merged.survivor_of))
    for what, message in (
        (review.ASKED, "of accounts may be one organisation: kept apart until answered"),
        (review.GROUP, "of accounts may belong to one group: unrelated until answered"),
    ):
        open_pairs = listed[listed["what"] == what]
        if len(open_pairs):
            fix = f"answer yes, no or group in {review.REVIEW_FILE} of the run, and put the file into the workspace"
            text = f"{_counted(len(open_pairs), 'pair')} {message}: {_shown(open_pairs)}"
            accounts.say("ICP-W046", text, fix=fix, column="name", count=len(open_pairs))


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _shown(rows: pd.DataFrame) -> str:
    """The first pairs in words; every one stands in the review file."""
    first = rows.sort_values(["probability", *review.IDS], ascending=[False, True, True]).head(SHOWN_PAIRS)
    pairs = [
        f"{shown_text(r['name_1'])} ({r['account_id_1']}) and {shown_text(r['name_2'])} ({r['account_id_2']})"
        for r in first.to_dict("records")
    ]
    return "; ".join(pairs) + (f" and {len(rows) - len(first):,} more" if len(rows) > len(first) else "")


def _columns(heading: str, counts: dict[str, int]) -> str:
    return f"{heading}: {', '.join(f'{c} {n:,}' for c, n in sorted(counts.items()))}" if counts else ""


__all__ = ["FIELDS", "Matching", "find_pairs", "match_accounts"]
