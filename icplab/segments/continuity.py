"""Reads two assignments of the same accounts, makes which segment continues which, and ids that outlive a refit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED, WHOLE_MARKET
from icplab.segments.assign import assign_segments, posteriors_of
from icplab.segments.fit import Segmentation
from icplab.segments.naming import measure_profile

KEEP_JACCARD = 0.5  # method.md §3: below it a segment has dissolved
FROZEN_JACCARD = 0.75  # from which every segment must be found again for the earlier assigner to go on
PART_SHARE = 0.5  # share of a segment's accounts that makes it a part of another


def match_segments(previous: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    """Which segment of now continues which of before, on the accounts that both know.

    Parameters
    ----------
    previous, current : artefacts account_segments; the best previous one is that of the *frozen* assigner on today's accounts

    Returns
    -------
    One row per segment of now, then one per segment of before that ended: segment_id (as it is now; null when ended),
    previous_id, new_id (the id it should carry), jaccard (on common accounts), overlap (share of the new segment that comes
    from the previous one), change: kept, split (its accounts come mostly from a segment that lives on elsewhere), merged
    (it took in most of another), new, ended.

    Notes
    -----
    Pairs by the assignment with the largest total Jaccard similarity (Hungarian method); a pair below KEEP_JACCARD is no
    continuation. An id that ended is not used again.
    """
    both = previous.merge(current, on="account_id", suffixes=("_before", "_now"))
    both = both[(both["segment_id_before"] != UNASSIGNED) & (both["segment_id_now"] != UNASSIGNED)]
    now = _ids(current)
    before = _ids(previous)
    counts = pd.crosstab(both["segment_id_now"], both["segment_id_before"])
    common = counts.reindex(index=now, columns=before, fill_value=0).to_numpy(dtype=float)
    similar = _jaccard(common)
    pairs = _pairs(similar)
    taken = [int(n) for n in re.findall(r"\bS(\d+)\b", " ".join([*before, *now]))]
    fresh = iter(f"S{n}" for n in range(max([0, *taken]) + 1, max([0, *taken]) + 1 + len(now)))
    rows = [_row_now(i, now, before, common, similar, pairs, fresh) for i in range(len(now))]
    rows += [_row_ended(j, before, similar) for j in range(len(before)) if j not in pairs.values()]
    columns = ["segment_id", "previous_id", "new_id", "jaccard", "overlap", "change"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(dict.fromkeys(("segment_id", "previous_id", "new_id", "change"), "str"))


def keep_ids(segmentation: Segmentation, matches: pd.DataFrame) -> Segmentation:
    """The same segmentation with the ids of `match_segments`; segments appear in the order of their new ids."""
    now = matches[matches["segment_id"].notna()]
    new = dict(zip(now["segment_id"], now["new_id"], strict=True))
    if all(old == kept for old, kept in new.items()):
        return segmentation
    ids = list(segmentation.assigner["ids"])
    order = sorted(range(len(ids)), key=lambda i: _number(new[ids[i]]))
    assigner = _reordered(segmentation.assigner, order, [new[ids[i]] for i in order])
    renamed = segmentation.posteriors.rename(columns=new)[["account_id", *assigner["ids"]]]
    swap = {**new, UNASSIGNED: UNASSIGNED}
    assignments = segmentation.assignments.assign(
        segment_id=segmentation.assignments["segment_id"].map(swap).astype("str")
    )
    profile = segmentation.profile.assign(segment_id=segmentation.profile["segment_id"].map(new).astype("str"))
    place = profile["segment_id"].map({s: i for i, s in enumerate(assigner["ids"])})
    profile = profile.iloc[np.argsort(place.to_numpy(), kind="stable")].reset_index(drop=True)
    return replace(segmentation, assignments=assignments, posteriors=renamed, profile=profile, assigner=assigner)


def continue_segments(
    segmentation: Segmentation, document: Mapping | None, accounts: pd.DataFrame
) -> tuple[Segmentation, pd.DataFrame | None]:
    """The segmentation under the ids of an earlier run, and what became of that run's segments.

    Parameters
    ----------
    segmentation : result of `fit_segments` on today's accounts
    document : artefact `segmentation` of the earlier run; None, or without segments, when there is nothing to continue
    accounts : today's accounts; the earlier run's frozen assigner is applied to them

    Returns
    -------
    The segmentation and the result of `match_segments` (None without an earlier run). Where the refit finds every segment again
    (all kept, Jaccard ≥ 0.75), it stays in the shadow and the earlier assigner goes on deciding; else the refit decides, under
    the ids that continue.
    """
    frozen = (document or {}).get("assigner")
    if not frozen or frozen["kind"] == "whole" or segmentation.verdict == "none":
        return segmentation, None
    matches = match_segments(assign_segments(frozen, accounts), segmentation.assignments)
    if _still_holds(segmentation, frozen, matches):
        return _frozen(segmentation, frozen, accounts), matches
    return keep_ids(segmentation, matches), matches


def _still_holds(segmentation: Segmentation, frozen: Mapping, matches: pd.DataFrame) -> bool:
    """Whether the earlier assigner may go on: the same segments, by traits that are still in use today."""
    found_again = set(matches["change"]) == {"kept"} and matches["jaccard"].min() >= FROZEN_JACCARD
    same_kind = frozen["kind"] == segmentation.assigner["kind"]
    return bool(found_again and same_kind and _traits(frozen) <= _traits(segmentation.assigner))


def _traits(assigner: Mapping) -> set[str]:
    recipe = assigner["recipe"]
    return {e["trait"] for e in [*recipe["numbers"], *recipe["discrete"]]}


def _frozen(segmentation: Segmentation, frozen: Mapping, accounts: pd.DataFrame) -> Segmentation:
    """The earlier run's assigner on today's accounts: where a refit finds the same segments, nobody changes sides because of it."""
    assignments = assign_segments(frozen, accounts)
    profile = measure_profile(accounts, assignments, frozen["recipe"])
    posteriors = posteriors_of(frozen, accounts)
    return replace(segmentation, assignments=assignments, posteriors=posteriors, profile=profile, assigner=dict(frozen))


def rand_index(counts: np.ndarray) -> float:
    """Adjusted Rand index of two partitions, from their cross table; 1 where both hold one group only."""
    pairs = lambda c: float((c * (c - 1) / 2).sum())  # noqa: E731
    n = counts.sum()
    rows, columns = pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = rows * columns / max(n * (n - 1) / 2, 1)
    most = (rows + columns) / 2
    return round((pairs(counts) - expected) / (most - expected), 4) if most > expected else 1.0


def _ids(table: pd.DataFrame) -> list[str]:
    return sorted(set(table["segment_id"].dropna()) - {UNASSIGNED}, key=_number)


def _number(segment_id: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", segment_id)
    return (int(digits) if digits else 0, segment_id)


def _jaccard(common: np.ndarray) -> np.ndarray:
    either = common.sum(axis=1, keepdims=True) + common.sum(axis=0, keepdims=True) - common
    return common / np.maximum(either, 1)


def _pairs(similar: np.ndarray) -> dict[int, int]:
    """now -> before, for pairs similar enough to be the same segment."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-similar)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if similar[i, j] >= KEEP_JACCARD}


def _row_now(
    i: int,
    now: list[str],
    before: list[str],
    common: np.ndarray,
    similar: np.ndarray,
    pairs: Mapping[int, int],
    fresh,
) -> tuple:
    from_where = common[i] / max(common[i].sum(), 1)
    if i in pairs:
        j = pairs[i]
        given_up = common[i] / np.maximum(common.sum(axis=0), 1)
        took_in = any(given_up[o] >= PART_SHARE for o in range(len(before)) if o != j)
        return (now[i], before[j], before[j], similar[i, j], from_where[j], "merged" if took_in else "kept")
    if now[i] == WHOLE_MARKET:
        return (now[i], None, WHOLE_MARKET, 0.0, 0.0, "new")
    source = int(from_where.argmax()) if len(before) else -1
    if source >= 0 and from_where[source] >= PART_SHARE:
        return (now[i], before[source], next(fresh), similar[i, source], from_where[source], "split")
    return (now[i], None, next(fresh), 0.0, 0.0, "new")


def _row_ended(j: int, before: list[str], similar: np.ndarray) -> tuple:
    return (None, before[j], None, float(similar[:, j].max()) if len(similar) else 0.0, 0.0, "ended")


def _reordered(assigner: Mapping, order: list[int], ids: list[str]) -> dict:
    """The assigner with its classes in another order, under other ids."""
    out = {**assigner, "ids": ids, "names": [assigner["names"][i] for i in order]}
    if assigner["kind"] == "mixture":
        out["weight"] = [assigner["weight"][i] for i in order]
        out["mean"] = [assigner["mean"][i] for i in order]
        if len(assigner["covariance"]) > 1:
            out["covariance"] = [assigner["covariance"][i] for i in order]
        out["rate"] = [[row[i] for i in order] for row in assigner["rate"]]
        out["own"] = [[row[i] for i in order] for row in assigner["own"]]
    if assigner["kind"] == "bands":
        out["place"] = [assigner.get("place", list(range(len(order))))[i] for i in order]
    return out
