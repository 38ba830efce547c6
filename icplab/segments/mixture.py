"""Reads the blocks of `blocks`, makes a mixture: one covariance for all numbers, rates per segment where they pay.

Several starts are fitted at once along a leading axis, so that everything is a few matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icplab.segments.blocks import Blocks

PRIOR_ACCOUNTS = 1.0  # weight of the whole market's rates in each segment's: keeps a rate off 0 and 1
RIDGE = 0.01  # floor of a number's variance within segments, in units of its variance over the market
MAX_PATTERNS = 24  # distinct patterns of known numbers told apart; rarer ones give up a value
START_DIMENSIONS = 8
SHORT_RUN, LONG_RUN = 12, 80  # EM iterations of every start, and of the best ones
TOLERANCE = 1e-5  # gain of log likelihood per account and iteration below which a fit has converged


@dataclass(frozen=True)
class Pattern:
    """Accounts with the same numbers known."""

    rows: np.ndarray
    known: np.ndarray
    unknown: np.ndarray
    values: np.ndarray  # (rows, known)
    weight: float
    square: np.ndarray  # (known, known) weighted sum of squares and products


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; the leading axis runs over starts until the best one is taken.

    Attributes
    ----------
    weight : (s, k) share of each class
    mean : (s, k, d) means of the standardised numbers
    covariance : (s, d, d) shared by the classes
    rate : (s, c, k) probability of each level
    own : (s, v, k) whether a class has rates of its own for a variable (else it shares the rest's)
    score : (s,) log likelihood less ½ log n per parameter
    log_likelihood : (s,)
    parameters : (s,)
    """

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    rate: np.ndarray
    own: np.ndarray
    score: np.ndarray
    log_likelihood: np.ndarray
    parameters: np.ndarray

    def take(self, starts: np.ndarray) -> Mixture:
        return Mixture(*(getattr(self, f)[starts] for f in self.__dataclass_fields__))

    @property
    def k(self) -> int:
        return self.weight.shape[1]

    @property
    def bic(self) -> float:
        """−2 × (log likelihood − ½ log n × parameters): the lower the better."""
        return float(-2 * self.score[0])


class Market:
    """Blocks prepared for fitting: sufficient statistics that no iteration changes, and row weights."""

    def __init__(self, blocks: Blocks, weights: np.ndarray | None = None) -> None:
        self.levels = np.ascontiguousarray(blocks.levels)
        self.variable = blocks.variable
        self.n_variables = blocks.n_variables
        self.starts = np.flatnonzero(np.diff(self.variable, prepend=-1))
        self.size = np.diff(np.append(self.starts, len(self.variable)))
        self.numbers = blocks.numbers
        self.n = len(blocks.levels)
        self.weights = np.ones(self.n) if weights is None else weights
        self.total = float(self.weights.sum())
        self.patterns = _patterns(blocks.numbers, self.weights)
        counts = self.weights @ self.levels
        self.known = self._per_variable(counts)
        self.pooled = (counts + 0.5) / (self.known + 0.5 * self.size)[self.variable]
        self.log_n = np.log(np.maximum(self.known, 2.0))

    def _per_variable(self, values: np.ndarray) -> np.ndarray:
        """Sum level columns (last but the trailing class axes: axis 0) within each variable."""
        return np.add.reduceat(values, self.starts, axis=0) if len(self.starts) else values[:0]

    @property
    def d(self) -> int:
        return self.numbers.shape[1]


def fit_mixture(
    market: Market,
    k: int,
    rng: np.random.Generator,
    starts: int = 16,
    *,
    tolerance: float = TOLERANCE,
) -> Mixture:
    """The best of many starts: short runs of all, long runs of the best quarter.

    Parameters
    ----------
    market : prepared blocks
    k : number of classes
    rng : source of the starts
    starts : random starts
    tolerance : gain of log likelihood per account and iteration below which a fit has converged
    """
    if k == 1:
        return _iterate(market, np.ones((1, market.n, 1)), 30, tolerance)
    short = _iterate(market, draw_starts(market, k, rng, starts), SHORT_RUN, tolerance)
    best = short.take(np.argsort(-short.score, kind="stable")[: max(1, starts // 4)])
    long = _iterate(market, _softmax(log_density(market, best)), LONG_RUN, tolerance)
    return long.take(np.array([int(np.argmax(long.score))]))


def log_density(market: Market, model: Mixture) -> np.ndarray:
    """(s, n, k) log of class weight × density of what is known of each account."""
    s, k = model.weight.shape
    flat = np.log(model.rate).transpose(1, 0, 2).reshape(-1, s * k)
    out = (market.levels @ flat).reshape(-1, s, k) if len(flat) else np.zeros((market.n, s, k))
    out = out.transpose(1, 0, 2) + np.log(model.weight)[:, None, :]
    for pattern in market.patterns:
        if len(pattern.known):
            out[:, pattern.rows] += _gaussian(pattern, model)
    return out


def posterior(market: Market, model: Mixture) -> np.ndarray:
    """(n, k) probability of each class for each account, of the first start."""
    return _softmax(log_density(market, model))[0]


def entropy(resp: np.ndarray, weights: np.ndarray) -> float:
    """Entropy of membership, summed over accounts: what ICL adds to BIC."""
    return float(-(weights[:, None] * resp * np.log(np.maximum(resp, 1e-300))).sum())


def draw_starts(market: Market, k: int, rng: np.random.Generator, starts: int) -> np.ndarray:
    """(starts, n, k) soft labels from a few rounds of k-means around random accounts, in random directions of the scores."""
    scores = _scores(market)
    out = np.empty((starts, market.n, k))
    for s in range(starts):
        view = scores * rng.uniform(0.3, 1.0, scores.shape[1])
        out[s] = _lloyd(view, k, rng)
    return out


def _lloyd(points: np.ndarray, k: int, rng: np.random.Generator, rounds: int = 4) -> np.ndarray:
    """k-means++ seeds and a few rounds; labels softened so that EM can leave them."""
    centre = points[[int(rng.integers(len(points)))]]
    for _ in range(k - 1):
        nearest = _distance(points, centre).min(axis=1)
        centre = np.vstack([centre, points[int(rng.choice(len(points), p=nearest / nearest.sum()))]])
    for _ in range(rounds):
        label = _distance(points, centre).argmin(axis=1)
        member = (label[:, None] == np.arange(k)).astype(float)
        size = member.sum(axis=0)
        centre = np.where(size[:, None] > 0, member.T @ points / np.maximum(size, 1)[:, None], centre)
    return 0.1 / k + 0.9 * member


def _distance(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    squared = (points**2).sum(1)[:, None] - 2 * points @ centre.T + (centre**2).sum(1)
    return np.maximum(squared, 1e-12)


def _scores(market: Market) -> np.ndarray:
    """Leading principal scores of numbers and levels together (FAMD scaling)."""
    numbers = np.nan_to_num(market.numbers)
    centred = (market.levels - market.pooled * _known(market)) / np.sqrt(market.pooled)
    both = np.hstack([numbers, centred])
    _, vectors = np.linalg.eigh(both.T @ both)
    top = vectors[:, ::-1][:, : min(START_DIMENSIONS, both.shape[1])]
    # The sign of an eigenvector is arbitrary: fix it, so that equal data give equal starts.
    top = top * np.where(top[np.abs(top).argmax(axis=0), np.arange(top.shape[1])] < 0, -1.0, 1.0)
    scores = both @ top
    return scores / scores.std(axis=0).clip(1e-9).mean()


def _known(market: Market) -> np.ndarray:
    known = np.add.reduceat(market.levels, market.starts, axis=1) if len(market.starts) else market.levels
    return known[:, market.variable]


def _patterns(numbers: np.ndarray, weights: np.ndarray) -> list[Pattern]:
    """Accounts grouped by which numbers are known; rare patterns give up values until they fit a frequent one."""
    if not numbers.shape[1]:
        return []
    known = ~np.isnan(numbers)
    kinds, label, count = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((np.arange(len(kinds)), -count))
    kept = list(order[: MAX_PATTERNS - 1])
    target = np.arange(len(kinds))
    for rare in order[MAX_PATTERNS - 1 :]:
        inside = [i for i in kept if not (kinds[i] & ~kinds[rare]).any()]
        target[rare] = max(inside, key=lambda i: (kinds[i].sum(), -i)) if inside else -1
    final = target[label.ravel()]
    out = []
    for i in [*kept, -1]:
        rows = np.flatnonzero(final == i)
        if len(rows):
            has = kinds[i] if i >= 0 else np.zeros(numbers.shape[1], dtype=bool)
            seen = np.flatnonzero(has)
            values, weight = numbers[np.ix_(rows, seen)], weights[rows]
            square = (values * weight[:, None]).T @ values
            out.append(Pattern(rows, seen, np.flatnonzero(~has), values, float(weight.sum()), square))
    return out


def _gaussian(pattern: Pattern, model: Mixture) -> np.ndarray:
    """(s, rows, k) log density of the known numbers."""
    x, o = pattern.values, pattern.known
    covariance = model.covariance[:, o[:, None], o]
    mean = model.mean[:, :, o]
    inverse = np.linalg.inv(covariance)
    _, logdet = np.linalg.slogdet(covariance)
    projected = mean @ inverse  # (s, k, o)
    cross = np.tensordot(x, projected, axes=(1, 2)).transpose(1, 0, 2)
    own = ((x @ inverse) * x).sum(axis=2)
    centre = (projected * mean).sum(axis=2)
    constant = len(o) * np.log(2 * np.pi) + logdet
    return -0.5 * (own[:, :, None] - 2 * cross + centre[:, None, :] + constant[:, None, None])


def _softmax(density: np.ndarray) -> np.ndarray:
    resp = np.exp(density - density.max(axis=2, keepdims=True))
    resp /= resp.sum(axis=2, keepdims=True)
    return resp


def _iterate(market: Market, resp: np.ndarray, rounds: int, tolerance: float) -> Mixture:
    """EM from responsibilities until no start gains more than the tolerance per account."""
    before = np.full(len(resp), -np.inf)
    s, _, k = resp.shape
    moments = np.zeros((s, k, market.d)), np.tile(np.eye(market.d), (s, 1, 1))
    for _ in range(rounds):
        model = _maximise(market, resp, moments)
        moments = model.mean, model.covariance
        density = log_density(market, model)
        top = density.max(axis=2)
        resp = np.exp(density - top[:, :, None])
        total = resp.sum(axis=2)
        resp /= total[:, :, None]
        likelihood = (np.log(total) + top) @ market.weights
        gain = (likelihood - before) / market.total
        before = likelihood
        if (np.abs(gain) < tolerance).all():
            break
    penalty = model.score  # ½ log n per parameter, as _maximise counted it
    return Mixture(
        model.weight,
        model.mean,
        model.covariance,
        model.rate,
        model.own,
        likelihood - penalty,
        likelihood,
        model.parameters,
    )


def _maximise(market: Market, resp: np.ndarray, before: tuple[np.ndarray, np.ndarray]) -> Mixture:
    """M step of all starts. `score` carries the penalty until the likelihood is known."""
    s, _, k = resp.shape
    resp = resp * market.weights[:, None]
    size = resp.sum(axis=1)
    rate, own = _rates(market, resp)
    mean, covariance = _moments(market, resp, before)
    log_n = np.log(market.total)
    free = own.sum(axis=2) * (market.size - 1)  # (s, v): rates beyond those shared
    numeric = market.d * k + market.d * (market.d + 1) / 2
    base = (market.size - 1).sum() + numeric + k - 1
    penalty = 0.5 * (
        (free * market.log_n).sum(axis=1) + ((market.size - 1) * market.log_n).sum() + (numeric + k - 1) * log_n
    )
    weight = np.maximum(size, 1e-9) / np.maximum(size, 1e-9).sum(axis=1, keepdims=True)
    return Mixture(weight, mean, covariance, rate, own, penalty, np.zeros(s), free.sum(axis=1) + base)


def _rates(market: Market, resp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates per level and class, and which classes have their own.

    For each variable the classes are ordered by how far their rates are from everybody else's; the first m get rates of
    their own, the others share one set, and m is what the penalised likelihood chooses (0: the variable tells nothing).
    """
    s, n, k = resp.shape
    counts = (market.levels.T @ resp.transpose(1, 0, 2).reshape(n, s * k)).reshape(-1, s, k)
    if not len(counts):
        return np.zeros((s, 0, k)), np.zeros((s, 0, k), dtype=bool)
    prior = PRIOR_ACCOUNTS * market.pooled[:, None, None]
    everyone = counts.sum(axis=2, keepdims=True)
    alone = _fit_of(market, counts) + _fit_of(market, everyone - counts)  # (v, s, k)
    order = np.argsort(-alone, axis=2, kind="stable")
    sorted_counts = np.take_along_axis(counts, order[market.variable], axis=2)
    ahead = np.cumsum(_fit_of(market, sorted_counts), axis=2)  # own rates for the first m
    remaining = everyone - np.cumsum(sorted_counts, axis=2)
    shared = _fit_of(market, remaining)
    fit = np.concatenate([_fit_of(market, everyone), (ahead + shared)[:, :, : k - 1]], axis=2)  # (v, s, m = 0 … k−1)
    cost = 0.5 * ((market.size - 1) * market.log_n)[:, None, None] * np.arange(k)
    best = (fit - cost).argmax(axis=2)  # (v, s)
    rank = np.argsort(order, axis=2, kind="stable")
    own = rank < best[:, :, None]  # (v, s, k)
    mask = own[market.variable]
    rest = (counts * ~mask).sum(axis=2, keepdims=True)
    used = np.where(mask, counts, rest) + prior
    rate = used / market._per_variable(used)[market.variable]
    return rate.transpose(1, 0, 2), own.transpose(1, 0, 2)


def _fit_of(market: Market, counts: np.ndarray) -> np.ndarray:
    """(v, s, k) multinomial log likelihood at the maximum."""
    counts = np.maximum(counts, 0.0)
    total = market._per_variable(counts)
    inner = market._per_variable(counts * np.log(np.maximum(counts, 1e-12)))
    return inner - total * np.log(np.maximum(total, 1e-12))


def _moments(market: Market, resp: np.ndarray, before: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Class means and the shared covariance; unknown numbers enter by their expectation under the fit before.

    Only per-class sums of the known numbers depend on the responsibilities, so an iteration costs one product per pattern.
    """
    s, _, k = resp.shape
    d = market.d
    mean, covariance = before
    size, first, second = np.zeros((s, k)), np.zeros((s, k, d)), np.zeros((s, d, d))
    for pattern in market.patterns:
        o, m = pattern.known, pattern.unknown
        r = resp[:, pattern.rows]
        count = r.sum(axis=1)
        sums = np.tensordot(r, pattern.values, axes=(1, 0))  # (s, k, o)
        spread = np.zeros((s, d, len(o)))
        spread[:, o, np.arange(len(o))] = 1.0
        offset = np.zeros((s, k, d))
        if len(m):
            slope = covariance[:, m[:, None], o] @ np.linalg.inv(covariance[:, o[:, None], o])
            spread[:, m] = slope
            offset[:, :, m] = mean[:, :, m] - mean[:, :, o] @ slope.transpose(0, 2, 1)
            left = covariance[:, m[:, None], m] - slope @ covariance[:, o[:, None], m]
            second[:, m[:, None], m] += left * pattern.weight
        filled = sums @ spread.transpose(0, 2, 1)
        first += count[:, :, None] * offset + filled
        size += count
        cross = offset.transpose(0, 2, 1) @ filled
        second += spread @ pattern.square @ spread.transpose(0, 2, 1) + cross + cross.transpose(0, 2, 1)
        second += (offset * count[:, :, None]).transpose(0, 2, 1) @ offset
    new = first / np.maximum(size, 1e-9)[:, :, None]
    within = (second - (new * size[:, :, None]).transpose(0, 2, 1) @ new) / market.total
    return new, within + RIDGE * np.eye(d)
