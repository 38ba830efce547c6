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
from icplab.segments.mixture import Market, fit_mixture
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


@dataclass(frozen=True)
class Existence:
    """Answer of the existence test.

    `gain` and `null_gain` are penalised log likelihood per account over one single group; `p_value` is (1 + null markets with
    at least that gain) / (1 + null markets); `ratio` is gain over mean null gain; `exists` needs p ≤ ALPHA and ratio ≥ MIN_RATIO.
    """

    gain: float
    null_gain: tuple[float, ...]
    p_value: float
    ratio: float
    exists: bool
    reason: str = ""


def measure_existence(blocks: Blocks, k: int, *, seed: int, nulls: int) -> Existence:
    """Whether the market gains more from being split than a twin without groups would.

    Parameters
    ----------
    blocks : the market
    k : classes chosen; the gain of min(k, MOST_TEST_CLASSES) classes is compared, the same number on both sides
    seed : source of the null markets and the starts
    nulls : most null markets drawn; the test stops as soon as it can no longer reject

    Notes
    -----
    p is the Monte-Carlo p-value of Davison & Hinkley (1997, §4.2.1); stopping early on exceedances follows Besag & Clifford (1991).
    """
    if len(blocks.levels) < MIN_TEST_ACCOUNTS:
        reason = f"{len(blocks.levels)} accounts are too few to test for groups (at least {MIN_TEST_ACCOUNTS})"
        return Existence(float("nan"), (), float("nan"), float("nan"), False, reason)
    rng = np.random.default_rng([seed, 1])
    if len(blocks.levels) > TEST_ACCOUNTS:
        blocks = blocks.take(np.sort(rng.choice(len(blocks.levels), TEST_ACCOUNTS, replace=False)))
    k = min(k, MOST_TEST_CLASSES)
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
    return Existence(gain, tuple(null), p, ratio, bool(p <= ALPHA and ratio >= MIN_RATIO))


def _gain(market: Market, k: int, rng: np.random.Generator) -> float:
    """Penalised log likelihood per account of a mixture of k classes over one class."""
    one = fit_mixture(market, 1, rng, tolerance=TEST_TOLERANCE).score[0]
    several = fit_mixture(market, k, rng, TEST_STARTS, tolerance=TEST_TOLERANCE, rounds=TEST_ROUNDS).score[0]
    return float((several - one) / market.total)
