"""Reads the blocks of a market, makes the answer to "are there segments at all?".

Stability is no evidence of existence: one correlated cloud is cut the same way again and again. So the gain of a mixture over
one single group is compared with its gain on markets that keep every margin and the dependence between variables, and that
have no groups: draws from a Gaussian copula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icplab.core.progress import track
from icplab.segments.blocks import Blocks
from icplab.segments.curve import score_of_continuum
from icplab.segments.em import iterate, log_density, memberships
from icplab.segments.mixture import Market, Mixture, fit_mixture
from icplab.segments.twins import copula_null

ALPHA = 0.05
MIN_RATIO = (
    1.25  # gain over the mean gain of null markets below which a rejection is not taken as groups; see segments.md
)
MOST_TEST_CLASSES = 4  # the gain of more classes says no more about whether there are any
TEST_ACCOUNTS = 3000  # more accounts do not change the answer, only the time
MIN_TEST_ACCOUNTS = 200
# The effort of a fit, the same on the market and on its null twins: what counts is the comparison, not the last digit.
TEST_STARTS, TEST_ROUNDS, TEST_TOLERANCE = 6, (8, 40), 1e-3
MOST_RATIO = 99.0
MOST_CONTINUUM = 0.95  # share of the groups' gain that a continuum may reach; planted groups stay below .85
MIN_TELLING = 3  # traits; fewer that go together are an association, and their classes are not identified
TELLING = 0.01  # nats that a trait tells about the group: as a number of whose variance 2 % lie between groups


@dataclass(frozen=True)
class Existence:
    """Answer of the existence test.

    `gain` and `null_gain` are penalised log likelihood per account over one single group; `p_value` is (1 + null markets with
    at least that gain) / (1 + null markets); `ratio` is gain over mean null gain; `continuum` is the gain of one smooth continuum as
    a share of the groups' (null where the twins already decide); `telling` traits tell the groups apart. `exists` needs
    p ≤ ALPHA, ratio ≥ MIN_RATIO, continuum < MOST_CONTINUUM and telling ≥ MIN_TELLING; `reason` says what else stood against it.
    """

    gain: float
    null_gain: tuple[float, ...]
    p_value: float
    ratio: float
    exists: bool
    reason: str = ""
    continuum: float = float("nan")
    telling: int = 0


def measure_existence(blocks: Blocks, model: Mixture, *, seed: int, nulls: int) -> Existence:
    """Whether the market gains more from being split than a twin without groups would.

    Parameters
    ----------
    blocks : the market
    model : the mixture chosen; the gain of min(k, MOST_TEST_CLASSES) classes is compared, the same number on both sides
    seed : source of the null markets and the starts
    nulls : most null markets drawn; the test stops as soon as it can no longer reject

    Notes
    -----
    p is the Monte-Carlo p-value of Davison & Hinkley (1997, §4.2.1); stopping early on exceedances follows Besag & Clifford (1991).
    Latent classes need three variables to be identified (Allman, Matias & Rhodes 2009, Ann. Statist. 37).
    """
    if len(blocks.levels) < MIN_TEST_ACCOUNTS:
        reason = f"{len(blocks.levels)} accounts are too few to test for groups (at least {MIN_TEST_ACCOUNTS})"
        return Existence(float("nan"), (), float("nan"), float("nan"), False, reason)
    rng = np.random.default_rng([seed, 1])
    if len(blocks.levels) > TEST_ACCOUNTS:
        blocks = blocks.take(np.sort(rng.choice(len(blocks.levels), TEST_ACCOUNTS, replace=False)))
    k = min(model.k, MOST_TEST_CLASSES)
    market = Market(blocks, single=True)
    gain = _gain(market, k, np.random.default_rng([seed, 2]))
    if gain <= 0:
        return Existence(gain, (), 1.0, 0.0, False, "one single group describes the market best")
    draw = copula_null(blocks)
    null: list[float] = []
    for _ in track(range(nulls), "comparing with markets without groups"):
        null.append(_gain(market.with_values(draw(rng)), k, rng))
        if (1 + sum(g >= gain for g in null)) / (1 + nulls) > ALPHA:
            break
    exceeding = sum(g >= gain for g in null)
    p = (1 + exceeding) / (1 + len(null))
    # Twins often gain nothing at all; how many times nothing the market gains says no more than "many".
    ratio = min(gain / max(float(np.mean(null)), 1e-9), MOST_RATIO) if null else float("nan")
    if p > ALPHA or not ratio >= MIN_RATIO:
        return Existence(gain, tuple(null), p, ratio, False)
    continuum, telling = _continuum(market, model), count_telling(market, model)
    reason = _otherwise(continuum, telling)
    return Existence(gain, tuple(null), p, ratio, not reason, reason, continuum, telling)


def count_telling(market: Market, model: Mixture) -> int:
    """Traits (tools one by one) that tell the classes apart: mutual information of at least TELLING nats and log n / n."""
    weight, mean = model.weight[0], model.mean[0]
    between = weight @ (mean - weight @ mean) ** 2
    within = weight @ np.broadcast_to(np.diagonal(model.covariance[0], axis1=1, axis2=2), mean.shape)
    of_numbers = 0.5 * np.log1p(between / within)
    rate = model.rate[0]
    of_levels = (weight * rate * np.log(rate / (rate @ weight)[:, None])).sum(axis=1)
    told = np.concatenate([of_numbers, market.per_variable(of_levels)])
    return int((told >= max(TELLING, np.log(market.total) / market.total)).sum())


def _continuum(market: Market, model: Mixture) -> float:
    """Gain of one smooth continuum over one class, as a share of the gain of the classes chosen."""
    resp = memberships(log_density(market, model))
    groups = iterate(market, resp, TEST_ROUNDS[1], TEST_TOLERANCE, shared=model.shared).score[0]
    one = fit_mixture(market, 1, np.random.default_rng(0), tolerance=TEST_TOLERANCE).score[0]
    return float((score_of_continuum(market) - one) / max(groups - one, 1e-9))


def _otherwise(continuum: float, telling: int) -> str:
    """What explains the gain over twins other than groups; empty where nothing does."""
    if telling < MIN_TELLING:
        return f"only {telling} traits tell the groups apart: traits that go together are an association, not groups"
    if continuum >= MOST_CONTINUUM:
        return f"one smooth continuum reaches {continuum:.0%} of what the groups gain"
    return ""


def _gain(market: Market, k: int, rng: np.random.Generator) -> float:
    """Penalised log likelihood per account of a mixture of k classes over one class."""
    one = fit_mixture(market, 1, rng, tolerance=TEST_TOLERANCE).score[0]
    several = fit_mixture(market, k, rng, TEST_STARTS, tolerance=TEST_TOLERANCE, rounds=TEST_ROUNDS).score[0]
    return float((several - one) / market.total)
