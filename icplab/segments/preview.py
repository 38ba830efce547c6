"""Reads accounts once, makes quick looks at other numbers of segments, other variables and other weights, for an explorer.

A look is fitted to a sample with few starts and then assigned to every account: quick enough for a slider, and not the segmentation.
Nothing is written and no state is kept: the same arguments give the same tables.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.segments.blocks import NO, Blocks, read_blocks, variable_names
from icplab.segments.design import Market, Mixture
from icplab.segments.em import iterate, log_density, memberships
from icplab.segments.fit import MIN_SEGMENT_SHARE, Segmentation
from icplab.segments.starts import draw_starts

LOOK_ACCOUNTS = 1000  # accounts that a look is fitted to
LOOK_STARTS, LOOK_ROUNDS, LOOK_TOLERANCE = 3, (5, 12), 2e-3
TELLING_LEVELS = 3
MAX_WEIGHT = 10.0


@dataclass(frozen=True)
class Looks:
    """What looks are taken at: everybody's blocks, the sample, and the segments found, to compare with."""

    blocks: Blocks
    sample: np.ndarray
    numbers: tuple[str, ...]
    variables: tuple[str, ...]
    traits: tuple[str, ...]
    levels: tuple[tuple[str, str], ...]
    label: np.ndarray | None
    min_accounts: int

    @property
    def choices(self) -> list[str]:
        """Traits that a look can use and weigh."""
        return sorted({*self.numbers, *self.traits})


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes
    ----------
    segments : segment (1 … k, largest first), accounts, share, sure (mean probability of membership), large_enough
    telling : segment, trait, level, share, share_outside, lift: the levels that set each segment apart most
    moves : segment_id (of the segmentation found), segment (of the look), accounts; empty without one
    quality : k, variables, gain (penalised log likelihood per account over one group, on the sample), sure, smallest,
        agreement (adjusted Rand index with the segmentation found, null without one)
    label : (n,) segment of each account, by sorted account_id
    """

    segments: pd.DataFrame
    telling: pd.DataFrame
    moves: pd.DataFrame
    quality: pd.DataFrame
    label: np.ndarray


def prepare_preview(
    segmentation: Segmentation, accounts: pd.DataFrame, *, min_accounts: int = 50, seed: int = 0
) -> Looks:
    """Reads the accounts once, under the recipe of a segmentation.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    accounts : the accounts it was fitted to
    min_accounts : `plan.min_segment_accounts`
    seed : source of the sample
    """
    recipe = segmentation.assigner["recipe"]
    blocks = read_blocks(recipe, accounts)
    n = len(blocks.account_id)
    sample = np.sort(np.random.default_rng([seed, 6]).choice(n, min(n, LOOK_ACCOUNTS), replace=False))
    assigned = segmentation.assignments.set_index("account_id")["segment_id"].reindex(blocks.account_id)
    names = variable_names(recipe)
    levels = tuple((name, level) for name, e in zip(names, recipe["discrete"], strict=True) for level in e["levels"])
    return Looks(
        blocks,
        sample,
        tuple(e["trait"] for e in recipe["numbers"]),
        tuple(names),
        tuple(e["trait"] for e in recipe["discrete"]),
        levels,
        assigned.to_numpy(dtype=object),
        max(min_accounts, int(np.ceil(MIN_SEGMENT_SHARE * n))),
    )


def preview_segments(
    looks: Looks,
    *,
    k: int,
    variables: Collection[str] | None = None,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Look:
    """What k segments would be, on some variables, with some counting more than others.

    Parameters
    ----------
    looks : result of `prepare_preview`
    k : number of segments, 1 to 12
    variables : traits to use (`looks.choices`); None takes all
    weights : per trait how much its log likelihood counts, 0 to 10; 1 where not named. Numbers share one covariance, so they
        share one weight: the mean of theirs
    seed : source of the starts

    Raises
    ------
    ValueError
        For a k outside 1 … 12, a trait that is not there, no trait at all, or a weight outside 0 … 10.
    """
    from threadpoolctl import threadpool_limits

    weights = {} if weights is None else dict(weights)
    chosen = _checked(looks, k, variables, weights)
    part, number_weight = _weighted(looks, chosen, weights)
    with threadpool_limits(1):
        gain, model, market = _fit(part.take(looks.sample), k, seed, number_weight)
        everyone = Market(part, listed=market.kinds)
        everyone.number_weight = number_weight
        probability = np.empty((len(part.account_id), k))
        probability[everyone.order] = memberships(log_density(everyone, model))[0].T
        return _told(looks, probability, gain, len(chosen))  # small products: threads would wait for each other


def _checked(looks: Looks, k: int, variables: Collection[str] | None, weights: Mapping[str, float]) -> set[str]:
    """The traits to use, or an error that names what cannot be used."""
    if not 1 <= k <= 12:
        raise ValueError(f"k is {k}; a look has 1 to 12 segments")
    given = set(looks.choices) if variables is None else set(variables)
    unknown = sorted((given | set(weights)) - set(looks.choices))
    if unknown:
        raise ValueError(f"no trait {', '.join(unknown)}; there are {', '.join(looks.choices)}")
    wrong = sorted(t for t, w in weights.items() if not 0 <= w <= MAX_WEIGHT)
    if wrong:
        raise ValueError(f"weight of {', '.join(wrong)} is not between 0 and {MAX_WEIGHT:g}")
    used = {t for t in given if weights.get(t, 1.0) > 0}
    if not used:
        raise ValueError("no trait is left to group accounts by")
    return used


def _weighted(looks: Looks, chosen: set[str], weights: Mapping[str, float]) -> tuple[Blocks, float]:
    """Blocks of the traits chosen; the weight of a discrete trait scales its 0/1 columns, and so its log likelihood."""
    numbers = [i for i, t in enumerate(looks.numbers) if t in chosen]
    kept = np.array([t in chosen for t in looks.traits], dtype=bool)
    weight = np.array([weights.get(t, 1.0) for t in looks.traits], dtype=float)
    blocks = looks.blocks
    columns = kept[blocks.variable] if len(kept) else np.zeros(0, dtype=bool)
    variable = np.cumsum(kept)[blocks.variable[columns]] - 1 if len(kept) else blocks.variable
    scaled = blocks.levels[:, columns]
    if (weight[kept] != 1).any():
        scaled = scaled * weight[blocks.variable[columns]]
    of_numbers = [weights.get(looks.numbers[i], 1.0) for i in numbers]
    part = Blocks(blocks.account_id, blocks.numbers[:, numbers], scaled, variable)
    return part, float(np.mean(of_numbers)) if of_numbers else 1.0


def _fit(sample: Blocks, k: int, seed: int, number_weight: float) -> tuple[float, Mixture, Market]:
    """The best of few short fits, and what it gains over one group."""
    market = Market(sample)
    market.number_weight = number_weight
    one = iterate(market, np.ones((1, 1, market.n)), 5, LOOK_TOLERANCE)
    if k == 1:
        return 0.0, one, market
    starts = draw_starts(market, k, np.random.default_rng([seed, k]), LOOK_STARTS)
    short = iterate(market, starts, LOOK_ROUNDS[0], LOOK_TOLERANCE)
    best = short.take(np.array([int(np.argmax(short.score))]))
    long = iterate(market, memberships(log_density(market, best)), LOOK_ROUNDS[1], LOOK_TOLERANCE)
    return float((long.score[0] - one.score[0]) / market.total), long, market


def _told(looks: Looks, probability: np.ndarray, gain: float, variables: int) -> Look:
    label = probability.argmax(axis=1)
    k = probability.shape[1]
    size = np.bincount(label, minlength=k)
    order = np.argsort(-size, kind="stable")
    place = np.argsort(order, kind="stable")
    label, size = place[label], size[order]
    member = (label[:, None] == np.arange(k)).astype(float)
    sure = probability.max(axis=1)
    segments = pd.DataFrame(
        {
            "segment": np.arange(1, k + 1),
            "accounts": size,
            "share": (size / max(len(label), 1)).round(4),
            "sure": (sure @ member / np.maximum(size, 1)).round(4),
            "large_enough": size >= looks.min_accounts,
        }
    )
    moves, agreement = _moves(looks.label, label)
    quality = pd.DataFrame(
        {
            "k": [k],
            "variables": [variables],
            "gain": [round(gain, 4)],
            "sure": [round(float(sure.mean()), 4)],
            "smallest": [int(size.min())],
            "agreement": [agreement],
        }
    )
    return Look(segments, _telling(looks, member), moves, quality, label + 1)


def _telling(looks: Looks, member: np.ndarray) -> pd.DataFrame:
    """The levels with the largest share × log lift of each segment; numbers as high or low thirds of their normal score."""
    thirds = 0.4307  # the upper third of a standard normal begins here
    numbers = looks.blocks.numbers
    with np.errstate(invalid="ignore"):
        extra = np.hstack([numbers >= thirds, numbers <= -thirds]).astype(float)
    known = ~np.isnan(numbers)
    has = np.hstack([looks.blocks.levels, extra])
    starts = np.flatnonzero(np.diff(looks.blocks.variable, prepend=-1))
    of_level = np.add.reduceat(looks.blocks.levels, starts, axis=1) if len(starts) else looks.blocks.levels
    count = member.T @ has
    there = np.hstack([(member.T @ of_level)[:, looks.blocks.variable], np.tile(member.T @ known, 2)])
    share = count / np.maximum(there, 1)
    outside = (count.sum(0) - count) / np.maximum(there.sum(0) - there, 1)
    lift = (share + 1e-3) / (outside + 1e-3)
    labels = [*looks.levels, *((t, "high") for t in looks.numbers), *((t, "low") for t in looks.numbers)]
    says = np.array([level != NO for _, level in labels], dtype=bool)
    worth = np.where(says, share * np.log2(lift), -np.inf)
    rows = []
    for s, row in enumerate(worth):
        for a in np.argsort(-row, kind="stable")[:TELLING_LEVELS]:
            if np.isfinite(row[a]):
                rows.append((s + 1, *labels[a], round(share[s, a], 4), round(outside[s, a], 4), round(lift[s, a], 2)))
    return pd.DataFrame(rows, columns=["segment", "trait", "level", "share", "share_outside", "lift"])


def _moves(found: np.ndarray | None, label: np.ndarray) -> tuple[pd.DataFrame, float | None]:
    """Accounts by segment found and segment of the look, and their adjusted Rand index."""
    from icplab.segments.continuity import rand_index

    if found is None:
        return pd.DataFrame({"segment_id": [], "segment": [], "accounts": []}), None
    counts = pd.crosstab(found, label + 1)
    table = pd.DataFrame({"accounts": counts.stack()}).reset_index()
    table.columns = pd.Index(["segment_id", "segment", "accounts"])
    return table[table["accounts"] > 0].reset_index(drop=True), rand_index(counts.to_numpy(dtype=float))
