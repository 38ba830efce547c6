"""Reads the playbook's scores and raters, makes human scores beside derived ones, their anchors, and how far raters agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.config import Settings

# What 5 and 1 mean, and what the derived score reads. Printed where scores are given, so that two people mean the same.
ANCHORS = {
    "strategic_fit": (
        "positioning and delivery strengths match what these accounts need",
        "serving them drags delivery or blurs the positioning",
        "partially pooled win rate over the market's",
    ),
    "problem_intensity": (
        "the problem is visible, costs money and comes back",
        "the problem is optional, or nobody owns it",
        "share of accounts with the segment's leading need",
    ),
    "path_clarity": (
        "the way from channel to sales conversation is clear",
        "nobody can tell how they reach sales",
        "share of opportunities with a known source",
    ),
    "revenue_potential": (
        "the economics carry the effort of winning them",
        "deals may be too small for the motion",
        "mean percentile of won ACV",
    ),
    "sales_feedback": (
        "sales sees a good fit quickly",
        "sales often disqualifies them later",
        "judgements of sales, else accepted leads",
    ),
}
AREAS = tuple(ANCHORS)
LOWEST, HIGHEST = 1, 5
GOOD_ALPHA, TENTATIVE_ALPHA = 0.8, 0.667  # Krippendorff (2004): conclusions, tentative conclusions


def score_anchors() -> pd.DataFrame:
    """The scale in words: area, five (what the highest score means), one (the lowest), derived_from."""
    rows = [(area, *words) for area, words in ANCHORS.items()]
    return pd.DataFrame(rows, columns=["area", "five", "one", "derived_from"]).astype("str")


def read_ratings(settings: Settings, ids: list[str], names: list[str]) -> pd.DataFrame:
    """Scores that people gave, one row per segment × area × rater; what is no number from 1 to 5 is not taken.

    Parameters
    ----------
    settings : reads playbook [segments.<id or name>] scores = {area = …} and raters.<who> = {area = …}
    ids, names : segments, as ids and as names

    Returns
    -------
    segment_id, area, rater ("" for the agreed score), score.
    """
    given = settings.playbook.get("segments", {})
    given = given if isinstance(given, Mapping) else {}
    rows = []
    for segment_id, name in zip(ids, names, strict=True):
        entry = given.get(segment_id, given.get(name, {}))
        entry = entry if isinstance(entry, Mapping) else {}
        raters = entry.get("raters", {})
        said = {"": entry.get("scores"), **(raters if isinstance(raters, Mapping) else {})}
        for rater, scores in said.items():
            for area in AREAS if isinstance(scores, Mapping) else ():
                score = scores.get(area)
                if isinstance(score, int | float) and LOWEST <= score <= HIGHEST and not isinstance(score, bool):
                    rows.append((segment_id, area, str(rater), float(score)))
    table = pd.DataFrame(rows, columns=["segment_id", "area", "rater", "score"])
    return table.astype({"segment_id": "str", "area": "str", "rater": "str", "score": "float64"})


def with_human_scores(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Scores of people in place of derived ones: the agreed score, else the median of the raters.

    Parameters
    ----------
    table : segments by id, with `segment` and a derived score per area

    Returns
    -------
    The table with `scored_by_people`: the areas that people scored, separated by ";".
    """
    ids = [str(i) for i in table.index]
    ratings = read_ratings(settings, ids, [str(n) for n in table["segment"]])
    scored: dict[str, list[str]] = {i: [] for i in ids}
    for (segment_id, area), part in ratings.groupby(["segment_id", "area"]):
        agreed = part[part["rater"] == ""]
        table.loc[segment_id, area] = float((agreed if len(agreed) else part)["score"].median())
        scored[str(segment_id)].append(str(area))
    return table.assign(
        scored_by_people=pd.Series([";".join(sorted(scored[i])) for i in ids], index=table.index, dtype="str")
    )


def compare_scores(segments: pd.DataFrame) -> pd.DataFrame:
    """Human beside derived scores.

    Parameters
    ----------
    segments : artefact segments

    Returns
    -------
    One row per segment × area: segment_id, segment, area, human (null where nobody scored), derived (null where not measured),
    difference, far (whether they are two or more apart), five, one (the anchors).
    """
    rows = []
    for row in segments.to_dict("records"):
        by_people = set(str(row["scored_by_people"]).split(";"))
        for area, (five, one, _) in ANCHORS.items():
            human = row[area] if area in by_people else np.nan
            rows.append((row["segment_id"], row["segment"], area, human, row[f"{area}_derived"], five, one))
    table = pd.DataFrame(rows, columns=["segment_id", "segment", "area", "human", "derived", "five", "one"])
    table.insert(5, "difference", (table["human"] - table["derived"]).round(2))
    table.insert(6, "far", table["difference"].abs() >= 2)
    return table


def measure_agreement(settings: Settings, ids: list[str], names: list[str]) -> pd.DataFrame:
    """How far raters agree, per area and over all.

    Returns
    -------
    One row per area with at least two raters, then `all`: area, raters, units (segment × area scored at least twice), apart
    (mean distance of two raters), alpha (Krippendorff's for intervals; null when everybody always gave one score), agree
    (`yes` from 0.8, `tentatively` from 0.667, else `no`). Empty with fewer than two raters.
    """
    ratings = read_ratings(settings, ids, names)
    ratings = ratings[ratings["rater"] != ""]
    columns = ["area", "raters", "units", "apart", "alpha", "agree"]
    rows = [_agreement(area, ratings[ratings["area"] == area]) for area in AREAS]
    rows = [r for r in [*rows, _agreement("all", ratings)] if r]
    return pd.DataFrame(rows, columns=columns)


def krippendorff_alpha(units: list[np.ndarray]) -> float:
    """Krippendorff's alpha with squared distances, from the scores of each unit (at least two each).

    Notes
    -----
    1 − observed / expected disagreement; Krippendorff (2004), Content Analysis, 2nd ed., ch. 11.
    """
    everything = np.concatenate(units)
    n = len(everything)
    # The sum of squared distances over ordered pairs is twice n times the sum of squares around the mean.
    observed = sum(2 * len(u) * ((u - u.mean()) ** 2).sum() / (len(u) - 1) for u in units) / n
    expected = 2 * n * ((everything - everything.mean()) ** 2).sum() / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _agreement(area: str, ratings: pd.DataFrame) -> tuple | None:
    groups = [part["score"].to_numpy() for _, part in ratings.groupby(["segment_id", "area"]) if len(part) > 1]
    if not groups:
        return None
    alpha = krippendorff_alpha(groups)
    apart = np.mean([np.abs(u[:, None] - u)[np.triu_indices(len(u), 1)].mean() for u in groups])
    word = "yes" if alpha >= GOOD_ALPHA or apart == 0 else "tentatively" if alpha >= TENTATIVE_ALPHA else "no"
    return (area, ratings["rater"].nunique(), len(groups), round(float(apart), 2), round(alpha, 3), word)
