"""Reads the account table and the catalogue, makes the segmentation: k, verdict, memberships and a frozen assigner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.config import Settings
from icplab.core.progress import track
from icplab.core.schema import WHOLE_MARKET
from icplab.segments.assign import EXACT_NUMBERS, assign_segments, assignments_of, model_of, posteriors_of
from icplab.segments.blocks import Blocks, draft_column, read_blocks, write_recipe
from icplab.segments.existence import MIN_TEST_ACCOUNTS, Existence, measure_existence
from icplab.segments.mixture import Market, Mixture, entropy, fit_mixture, posterior
from icplab.segments.naming import measure_profile, name_bands, name_segments
from icplab.segments.stability import (
    VALID_JACCARD,
    jaccard_of_bands,
    jaccard_of_refits,
    resample_each_k,
    stability_table,
)

MIN_SEGMENT_SHARE = 0.05  # method.md §3: smaller groups are not a motion a team can repeat
MIN_KNOWN_SHARE = 0.2  # accounts with a smaller share of their traits known are not assigned
FIT_ACCOUNTS = 20_000  # fitted on a sample of this size, then assigned to all: time does not grow with the market
NULLS, STARTS, RESAMPLES = 99, 16, 100
CHOICE_RESAMPLES = 20  # refits behind the stability of each number of segments
GIVE_UP_AFTER = 2  # values of k in a row without a better BIC, after which larger ones are not tried
WHOLE_MARKET_NAME = "whole market"
BAND_SHARES = (1 / 3, 2 / 3)
VERDICTS = ("natural", "reproducible", "constructive", "none")


@dataclass(frozen=True)
class Segmentation:
    """What `fit_segments` found.

    Attributes
    ----------
    assignments : artefact `account_segments`: account_id, segment_id, segment, membership
    posteriors : account_id, then one column per segment: probability of membership (null when unassigned)
    profile : segment_id, segment, trait, level, share (inside), share_outside, lift, n: what is over-represented
    choice : k, log_likelihood, parameters, bic, icl, smallest, passes (the gate of size), chosen
    verdict : natural, reproducible, constructive or none
    evidence : plain values behind the verdict
    assigner : plain values that assign accounts to segments again
    """

    assignments: pd.DataFrame
    posteriors: pd.DataFrame
    profile: pd.DataFrame
    choice: pd.DataFrame
    verdict: str
    evidence: dict
    assigner: dict

    @property
    def segment_ids(self) -> list[str]:
        """Ids of the segments, in order."""
        return list(self.assigner["ids"])

    def document(self) -> dict:
        """The artefact `segmentation`: verdict, k and evidence."""
        k = len(self.segment_ids) if self.verdict != "none" else 1
        return {"verdict": self.verdict, "k": k, "evidence": self.evidence, "assigner": self.assigner}


def fit_segments(
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    *,
    settings: Settings,
    seed: int,
    nulls: int = NULLS,
    starts: int = STARTS,
    resamples: int = RESAMPLES,
) -> Segmentation:
    """Groups of accounts that look alike, or the answer that there are none.

    A mixture of account types: numbers share one covariance, so that size and revenue may go together inside a segment;
    categories, yes/no traits and tools are independent inside a segment; a variable gets rates of its own in a segment only
    where that pays for its parameters; what is unknown is left out of the likelihood. No outcome is read.

    Parameters
    ----------
    accounts : account table (`features.build_accounts`); reads account_id, family_id and the trait columns
    catalogue : catalogue of traits; those of opportunities, excluded and forbidden ones are left out
    settings : reads plan.max_segments and plan.min_segment_accounts
    seed : source of starts, null markets and resamples
    nulls : most null markets of the existence test; p = 0.05 needs at least 19
    starts : random starts per k
    resamples : refits behind the stability of each segment

    Returns
    -------
    Segmentation, with ids S1, S2, … from the largest segment to the smallest.

    Notes
    -----
    Verdicts: *natural* when the existence test rejects a market without groups; *reproducible* when it does not but refits
    find the same groups; *constructive* when bands of one number are offered instead; *none* when one group describes the
    market best, or it is too small to be cut. See docs/methodology/segments.md.
    Selection of variables inside EM: Marbac, Patin & Sedki (2019), J. Classification 36, §3.
    """
    from threadpoolctl import threadpool_limits

    # One thread: sums come out the same whatever the machine, and small products do not wait for each other.
    with threadpool_limits(1):
        return _fit(accounts, catalogue, settings, seed, nulls, starts, resamples)


def measure_stability(
    segmentation: Segmentation, accounts: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """How often refits on resampled account families find the same segments: whether membership is firm or doubtful.

    It is no evidence that the segments exist: one correlated cloud is cut the same way again and again.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    accounts : the accounts it was fitted to; reads account_id, family_id and the traits
    seed : source of the resamples
    resamples : number of refits from fresh starts

    Returns
    -------
    One row per segment: segment_id, segment, jaccard (mean similarity with the best match, 0–1), low, high (5th and 95th
    percentile of the refits), resamples, membership (firm from 0.85, fair from 0.75, else doubtful). With verdict none the
    one segment is found again by definition and jaccard is null.

    Notes
    -----
    Hennig (2007), Cluster-wise assessment of cluster stability, Comput. Stat. Data Anal. 52.
    """
    from threadpoolctl import threadpool_limits

    assigner = segmentation.assigner
    ids, names = list(assigner["ids"]), dict(zip(assigner["ids"], assigner["names"], strict=True))
    if assigner["kind"] == "whole":
        found = np.full((1, 1), np.nan)
    else:
        with threadpool_limits(1):
            found = _refits(assigner, accounts.sort_values("account_id", ignore_index=True), seed, resamples)
    return stability_table(found, ids, names)


def resample_choice(
    segmentation: Segmentation, accounts: pd.DataFrame, *, seed: int, resamples: int = CHOICE_RESAMPLES
) -> pd.DataFrame:
    """What each number of segments would give, and whether resampled account families would choose it again.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    accounts : the accounts it was fitted to; reads account_id, family_id and the traits
    seed, resamples : source and number of the resamples

    Returns
    -------
    `Segmentation.choice` with jaccard (mean over segments and resamples), weakest (the segment found again least) and chosen_in
    (share of resamples in which this k has the lowest BIC of those that pass); without rows where nothing was tried.
    """
    from threadpoolctl import threadpool_limits

    ks = segmentation.choice["k"].tolist()
    if not ks:
        return segmentation.choice.assign(jaccard=np.nan, weakest=np.nan, chosen_in=np.nan)
    frame = accounts.sort_values("account_id", ignore_index=True)
    allowed = segmentation.choice["passes"].to_numpy(dtype=bool)
    with threadpool_limits(1):
        blocks = read_blocks(segmentation.assigner["recipe"], frame)
        rows = _sample(np.flatnonzero(blocks.known_share() >= MIN_KNOWN_SHARE), seed)
        family = frame["family_id" if "family_id" in frame else "account_id"].to_numpy(dtype=object)[rows]
        again = resample_each_k(blocks.take(rows), ks, allowed, seed=seed, resamples=resamples, family=family)
    return segmentation.choice.merge(again, on="k", how="left")


def _fit(
    accounts: pd.DataFrame,
    catalogue: pd.DataFrame,
    settings: Settings,
    seed: int,
    nulls: int,
    starts: int,
    resamples: int,
) -> Segmentation:
    frame = accounts.sort_values("account_id", ignore_index=True)
    recipe = _recipe(frame, catalogue, settings)
    everyone = read_blocks(recipe, frame)
    known = np.flatnonzero(everyone.known_share() >= MIN_KNOWN_SHARE)
    gate = max(settings.plan.min_segment_accounts, int(np.ceil(MIN_SEGMENT_SHARE * len(known))))
    if len(known) < 2 * gate or not everyone.known_share().any():
        reason = (
            f"{len(known)} accounts cannot be cut into segments of at least {gate}"
            if len(known)
            else "the accounts carry no column to cut them by"
        )
        return _whole_market(frame, recipe, _no_choice(), {"reason": reason, "accounts": len(known)})
    blocks = everyone.take(_sample(known, seed))
    market = Market(blocks)
    models = _fit_each_k(market, settings.plan.max_segments, seed, starts)
    choice = _choice(market, models, gate * len(blocks.account_id) / len(known))
    k = int(choice.loc[choice["chosen"], "k"].iloc[0])
    if k == 1:
        reason = "one single group describes the market best"
        return _whole_market(frame, recipe, choice, {"reason": reason, "accounts": len(known)})
    existence = measure_existence(one_of_each(blocks, frame), models[k], seed=seed, nulls=nulls)
    evidence = _evidence(existence, len(known), k)
    assigner = _mixture_assigner(recipe, models[k], market)
    verdict = "natural"
    if not existence.exists:
        lowest = _lowest_jaccard(assigner, frame, seed, resamples)
        evidence["lowest_jaccard"] = round(lowest, 4)
        verdict = "reproducible" if lowest >= VALID_JACCARD else "constructive"
    if verdict == "constructive":
        return _bands(frame, recipe, choice, evidence)
    return _finish(frame, assigner, choice, verdict, evidence)


def _recipe(frame: pd.DataFrame, catalogue: pd.DataFrame, settings: Settings) -> dict:
    """How traits are read; the team's own segmentation is kept out, or it would be found again."""
    column = draft_column(settings)
    recipe = write_recipe(frame, catalogue[catalogue["trait"] != column])
    if column in set(catalogue["trait"]):
        recipe["left_out"].append(
            {"trait": column, "why": "is the team's own segmentation, compared with the one found"}
        )
    return recipe


def one_of_each(blocks: Blocks, frame: pd.DataFrame) -> Blocks:
    """The blocks without records that repeat another of their family in everything: copies lie together like a group."""
    rows = pd.DataFrame(np.hstack([np.nan_to_num(blocks.numbers, nan=-99.0), blocks.levels]))
    if "family_id" in frame:
        rows["family"] = frame.set_index("account_id")["family_id"].reindex(blocks.account_id).to_numpy(dtype=object)
    else:
        rows["family"] = blocks.account_id
    return blocks.take(np.flatnonzero(~rows.duplicated().to_numpy()))


def _fit_each_k(market: Market, most: int, seed: int, starts: int) -> dict[int, Mixture]:
    """Best fit per k, until BIC has not improved GIVE_UP_AFTER times in a row."""
    models: dict[int, Mixture] = {}
    best, worse = np.inf, 0
    for k in track(range(1, most + 1), "trying numbers of segments"):
        rng = np.random.default_rng([seed, 10 + k])
        models[k] = fit_mixture(market, k, rng, starts, smaller=models.get(k - 1), target=-best / 2, shapes=True)
        worse = 0 if models[k].bic < best else worse + 1
        best = min(best, models[k].bic)
        if worse >= GIVE_UP_AFTER:
            break
    return models


def _choice(market: Market, models: Mapping[int, Mixture], gate: float) -> pd.DataFrame:
    """What each k would give; chosen is the lowest BIC among those whose smallest segment passes the gate."""
    rows = []
    for k, model in models.items():
        resp = posterior(market, model)
        smallest = int(np.bincount(resp.argmax(axis=1), minlength=k).min())
        rows.append(
            {
                "k": k,
                "log_likelihood": round(float(model.log_likelihood[0]), 3),
                "parameters": int(model.parameters[0]),
                "bic": round(model.bic, 3),
                "icl": round(model.bic + 2 * entropy(resp), 3),
                "smallest": smallest,
                "passes": bool(k == 1 or smallest >= gate),
            }
        )
    table = pd.DataFrame(rows)
    table["chosen"] = table.index == table["bic"].where(table["passes"]).idxmin()
    return table


def _no_choice() -> pd.DataFrame:
    columns = {"k": "int64", "log_likelihood": "float64", "parameters": "int64", "bic": "float64", "icl": "float64"}
    more = {"smallest": "int64", "passes": "bool", "chosen": "bool"}
    return pd.DataFrame({c: pd.Series([], dtype=t) for c, t in {**columns, **more}.items()})


def _sample(known: np.ndarray, seed: int) -> np.ndarray:
    if len(known) <= FIT_ACCOUNTS:
        return known
    return np.sort(np.random.default_rng([seed, 3]).choice(known, FIT_ACCOUNTS, replace=False))


def _refits(assigner: Mapping, frame: pd.DataFrame, seed: int, resamples: int) -> np.ndarray:
    """(resamples, k) Jaccard similarities, on the sample of accounts that a fit would take."""
    label = posteriors_of(assigner, frame)[list(assigner["ids"])].to_numpy()
    rows = _sample(np.flatnonzero(~np.isnan(label).any(axis=1)), seed)
    family = frame["family_id" if "family_id" in frame else "account_id"].to_numpy(dtype=object)[rows]
    if assigner["kind"] == "bands":
        values = frame[assigner["trait"]].to_numpy(dtype=float)[rows]
        edges = list(assigner["edges"])
        return jaccard_of_bands(values, BAND_SHARES, edges, seed=seed, resamples=resamples, family=family)
    blocks = read_blocks(assigner["recipe"], frame).take(rows)
    best, known = label[rows].argmax(axis=1), model_of(assigner)
    return jaccard_of_refits(blocks, best, known, seed=seed, resamples=resamples, family=family)


def _lowest_jaccard(assigner: Mapping, frame: pd.DataFrame, seed: int, resamples: int) -> float:
    return float(_refits(assigner, frame, seed, resamples).mean(axis=0).min())


def _evidence(existence: Existence, accounts: int, k: int) -> dict:
    number = lambda x: None if not np.isfinite(x) else round(float(x), 4)  # noqa: E731
    return {
        "accounts": accounts,
        "k_of_mixture": k,
        "p_value": number(existence.p_value),
        "gain_ratio": number(existence.ratio),
        "gain": number(existence.gain),
        "null_gain_mean": number(np.mean(existence.null_gain)) if existence.null_gain else None,
        "null_gain_max": number(np.max(existence.null_gain)) if existence.null_gain else None,
        "null_gain_95": number(np.quantile(existence.null_gain, 0.95)) if existence.null_gain else None,
        "null_markets": len(existence.null_gain),
        "continuum": number(existence.continuum),
        "telling": existence.telling,
        "min_test_accounts": MIN_TEST_ACCOUNTS,
        "reason": existence.reason,
    }


def _mixture_assigner(recipe: dict, model: Mixture, market: Market) -> dict:
    """Plain values of a fitted mixture, classes from the largest to the smallest."""
    size = np.bincount(posterior(market, model).argmax(axis=1), minlength=model.k)
    order = np.argsort(-size, kind="stable")
    return {
        "kind": "mixture",
        "recipe": recipe,
        "weight": model.weight[0][order].tolist(),
        "mean": model.mean[0][order].tolist(),
        "covariance": (model.covariance[0] if model.shared else model.covariance[0][order]).tolist(),
        "rate": model.rate[0][:, order].tolist(),
        "own": model.own[0][:, order].tolist(),
        "patterns": market.kinds[:-1].tolist() if market.d > EXACT_NUMBERS else [],
        "min_known_share": MIN_KNOWN_SHARE,
        "ids": [f"S{i + 1}" for i in range(model.k)],
        "names": [f"S{i + 1}" for i in range(model.k)],
    }


def _bands(frame: pd.DataFrame, recipe: dict, choice: pd.DataFrame, evidence: dict) -> Segmentation:
    """Three bands of the number that is best known: an openly constructed cut."""
    trait = _band_trait(frame, recipe)
    if trait is None:
        evidence = {**evidence, "reason": "no groups, and no number to cut the market by"}
        return _whole_market(frame, recipe, choice, evidence)
    values = frame[trait].dropna().to_numpy(dtype=float)
    edges = sorted({float(f"{e:.2g}") for e in np.quantile(values, BAND_SHARES)})
    ids = [f"S{i + 1}" for i in range(len(edges) + 1)]
    assigner = {"kind": "bands", "recipe": recipe, "trait": trait, "edges": edges, "ids": ids, "names": ids}
    return _finish(frame, assigner, choice, "constructive", {**evidence, "cut_by": trait, "edges": edges})


def _band_trait(frame: pd.DataFrame, recipe: dict) -> str | None:
    numbers = [e["trait"] for e in recipe["numbers"]]
    # Size is what a team can read; any other number only where there is none.
    preferred = [t for t in ("employees", "annual_revenue") if t in numbers]
    by_fill = sorted(numbers, key=lambda t: (-frame[t].notna().mean(), t))
    return next(iter([*preferred, *by_fill]), None)


def _whole_market(frame: pd.DataFrame, recipe: dict, choice: pd.DataFrame, evidence: dict) -> Segmentation:
    assigner = {"kind": "whole", "recipe": recipe, "ids": [WHOLE_MARKET], "names": [WHOLE_MARKET_NAME]}
    return _finish(frame, assigner, choice, "none", evidence)


def _finish(frame: pd.DataFrame, assigner: dict, choice: pd.DataFrame, verdict: str, evidence: dict) -> Segmentation:
    """Names from the profile, then everything through the frozen assigner, so that it cannot differ from the fit."""
    assignments = assign_segments(assigner, frame)
    profile = measure_profile(frame, assignments, assigner["recipe"])
    if verdict != "none":
        banded = assigner["kind"] == "bands"
        names = name_bands(assigner) if banded else name_segments(profile, assigner["ids"])
        assigner = {**assigner, "names": [names[i] for i in assigner["ids"]]}
        profile["segment"] = profile["segment_id"].map(names).astype("str")
    posteriors = posteriors_of(assigner, frame)
    return Segmentation(assignments_of(assigner, posteriors), posteriors, profile, choice, verdict, evidence, assigner)
