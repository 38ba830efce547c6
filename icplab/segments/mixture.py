"""Reads the blocks of `blocks`, makes a mixture: one covariance for all numbers, rates per segment where they pay.

Everything that depends on the responsibilities is a product of a fixed design with them, so an iteration of many starts at
once is a few matrix products. Rows are held in the order of their pattern of known numbers; results come back as given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from icplab.segments.blocks import Blocks

PRIOR_ACCOUNTS = 1.0  # weight of the whole market's rates in each segment's: keeps a rate off 0 and 1
RIDGE = 0.01  # floor of a number's variance within segments, in units of its variance over the market
RARE_PATTERN = 0.01  # share of accounts below which a pattern of known numbers gives up a value and joins another
START_DIMENSIONS = 8
SHORT_RUN, LONG_RUN = 12, 80  # EM iterations of every start, and of the best quarter
TOLERANCE = 1e-5  # gain of log likelihood per account and iteration below which a fit has converged


@dataclass(frozen=True)
class Pattern:
    """Accounts with the same numbers known: their rows, and the features on which a Gaussian log density is linear.

    `features` (rows, 1 + known + pairs) holds one, the values, and the products of values; `square` is the weighted sum of
    outer products of the values.
    """

    rows: slice
    known: np.ndarray
    unknown: np.ndarray
    features: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]
    weight: float
    square: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; the leading axis runs over starts until the best one is taken.

    Attributes
    ----------
    weight : (s, k) share of each class
    mean : (s, k, d) means of the normal scores
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
        """Some of the starts."""
        return Mixture(*(getattr(self, f)[starts] for f in self.__dataclass_fields__))

    @property
    def k(self) -> int:
        """Number of classes."""
        return self.weight.shape[1]

    @property
    def bic(self) -> float:
        """−2 × (log likelihood − ½ log n × parameters): the lower the better."""
        return float(-2 * self.score[0])


class Market:
    """Blocks prepared for fitting: what no iteration changes, and row weights.

    With `exact` every pattern of known numbers is kept, so that an account is read the same way whatever its company.
    """

    def __init__(self, blocks: Blocks, weights: np.ndarray | None = None, *, exact: bool = False) -> None:
        self.n, self.d = blocks.numbers.shape
        label, kinds = _pattern_labels(blocks.numbers, 0 if exact else RARE_PATTERN * self.n)
        self.order = np.argsort(label, kind="stable")
        self.levels = np.ascontiguousarray(blocks.levels[self.order])
        self.numbers = blocks.numbers[self.order]
        self.weights = np.ones(self.n) if weights is None else weights[self.order]
        self.total = float(self.weights.sum())
        self.patterns = _patterns(self.numbers, self.weights, label[self.order], kinds)
        self.variable = blocks.variable
        self.starts = np.flatnonzero(np.diff(self.variable, prepend=-1))
        self.size = np.diff(np.append(self.starts, len(self.variable)))
        counts = self.weights @ self.levels
        self.known = self.per_variable(counts)
        self.pooled = (counts + 0.5) / (self.known + 0.5 * self.size)[self.variable]
        self.log_n = np.log(np.maximum(self.known, 2.0))

    def per_variable(self, values: np.ndarray) -> np.ndarray:
        """Sums over the levels of each variable, along the first axis."""
        return np.add.reduceat(values, self.starts, axis=0) if len(self.starts) else values[:0]


def fit_mixture(
    market: Market,
    k: int,
    rng: np.random.Generator,
    starts: int = 16,
    *,
    smaller: Mixture | None = None,
    tolerance: float = TOLERANCE,
    target: float = -np.inf,
) -> Mixture:
    """The best of many starts: short runs of all, long runs of the best quarter.

    Parameters
    ----------
    market : prepared blocks
    k : number of classes
    rng : source of the starts
    starts : random starts
    smaller : a fit with one class less; each of its classes, cut in two, gives a further start
    tolerance : gain of log likelihood per account and iteration below which a fit has converged
    target : score to beat; a run stops as soon as it could not reach it at its present pace
    """
    if k == 1:
        return _iterate(market, np.ones((market.n, 1, 1)), 30, tolerance)
    resp = draw_starts(market, k, rng, starts)
    if smaller is not None:
        resp = np.concatenate([resp, cut_starts(market, smaller, rng)], axis=1)
    short = _iterate(market, resp, SHORT_RUN, tolerance)
    order = np.argsort(-short.score, kind="stable")[: max(1, starts // 4)]
    best: Mixture | None = None
    for start in order:
        resp = _softmax(log_density(market, short.take(np.array([start]))))
        long = _iterate(market, resp, LONG_RUN, tolerance, target)
        if best is None or long.score[0] > best.score[0]:
            best = long
            target = max(target, float(long.score[0]))
    assert best is not None
    return best


def log_density(market: Market, model: Mixture) -> np.ndarray:
    """(n, s, k) log of class weight × density of what is known of each account, in the market's order of rows."""
    s, k = model.weight.shape
    flat = np.log(model.rate).transpose(1, 0, 2).reshape(-1, s * k)
    out = market.levels @ flat + np.log(model.weight).reshape(-1)
    for pattern in market.patterns:
        out[pattern.rows] += pattern.features @ _gaussian(pattern, model).reshape(-1, s * k)
    return out.reshape(market.n, s, k)


def posterior(market: Market, model: Mixture) -> np.ndarray:
    """(n, k) probability of each class for each account, of the first start, in the order of the blocks."""
    out = np.empty((market.n, model.k))
    out[market.order] = _softmax(log_density(market, model.take(np.array([0]))))[:, 0]
    return out


def entropy(resp: np.ndarray) -> float:
    """Entropy of membership, summed over accounts: what ICL adds to BIC."""
    return float(-(resp * np.log(np.maximum(resp, 1e-300))).sum())


def draw_starts(market: Market, k: int, rng: np.random.Generator, starts: int) -> np.ndarray:
    """(n, starts, k) soft labels from a few rounds of k-means around random accounts, in random directions of the scores."""
    scores = _scores(market)
    out = np.empty((market.n, starts, k))
    for s in range(starts):
        view = scores * rng.uniform(0.3, 1.0, scores.shape[1])
        out[:, s] = _lloyd(view, k, rng)
    return out


def cut_starts(market: Market, model: Mixture, rng: np.random.Generator) -> np.ndarray:
    """(n, k, k + 1) the memberships of a fit with one of its classes cut in two, once for each class."""
    resp = _softmax(log_density(market, model))[:, 0]
    scores = _scores(market)
    out = np.empty((market.n, model.k, model.k + 1))
    for c in range(model.k):
        members = np.flatnonzero(resp.argmax(axis=1) == c)
        halves = np.full((market.n, 2), 0.5)
        if len(members) > 1:
            halves[members] = _lloyd(scores[members], 2, rng)
        out[:, c] = np.hstack([np.delete(resp, c, axis=1), resp[:, [c]] * halves])
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


def _pattern_labels(numbers: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Pattern of known numbers of each account, and which numbers each pattern knows.

    Patterns of fewer than `least` accounts give up values until they fit a frequent one; the last pattern knows nothing.
    """
    known = ~np.isnan(numbers)
    if not numbers.shape[1]:
        return np.zeros(len(numbers), dtype=int), np.zeros((1, 0), dtype=bool)
    kinds, label, count = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    kinds = np.vstack([kinds, np.zeros(numbers.shape[1], dtype=bool)])
    target = np.arange(len(kinds))
    frequent = np.flatnonzero(np.append(count >= least, True))
    for rare in np.flatnonzero(count < least):
        inside = frequent[~(kinds[frequent] & ~kinds[rare]).any(axis=1)]
        target[rare] = inside[np.argmax(kinds[inside].sum(axis=1))]
    return target[label.ravel()], kinds


def _patterns(numbers: np.ndarray, weights: np.ndarray, label: np.ndarray, kinds: np.ndarray) -> list[Pattern]:
    """One entry per pattern that knows something, over rows sorted by label, and one for those that know nothing."""
    out = []
    for i in np.unique(label):
        first, last = np.searchsorted(label, [i, i + 1])
        known = np.flatnonzero(kinds[i])
        x, w = numbers[first:last][:, known], weights[first:last]
        pairs = np.triu_indices(len(known))
        features = np.hstack([np.ones((len(x), 1)), x, x[:, pairs[0]] * x[:, pairs[1]]])
        square = (x * w[:, None]).T @ x
        unknown = np.flatnonzero(~kinds[i])
        out.append(Pattern(slice(first, last), known, unknown, features, pairs, float(w.sum()), square))
    return out


def _gaussian(pattern: Pattern, model: Mixture) -> np.ndarray:
    """(features, s, k) coefficients of the log density of the known numbers on the pattern's features."""
    o, (i, j) = pattern.known, pattern.pairs
    s, k = model.weight.shape
    covariance = model.covariance[:, o[:, None], o]
    mean = model.mean[:, :, o]
    inverse = np.linalg.inv(covariance)
    _, logdet = np.linalg.slogdet(covariance)
    linear = mean @ inverse  # (s, k, o)
    constant = -0.5 * ((linear * mean).sum(axis=2) + (logdet + len(o) * np.log(2 * np.pi))[:, None])
    quadratic = -inverse[:, i, j] * np.where(i == j, 0.5, 1.0)  # (s, pairs)
    out = np.empty((1 + len(o) + len(i), s, k))
    out[0] = constant
    out[1 : 1 + len(o)] = linear.transpose(2, 0, 1)
    out[1 + len(o) :] = quadratic.T[:, :, None]
    return out


def _softmax(density: np.ndarray) -> np.ndarray:
    resp = np.exp(density - density.max(axis=2, keepdims=True))
    resp /= resp.sum(axis=2, keepdims=True)
    return resp


def _iterate(market: Market, resp: np.ndarray, rounds: int, tolerance: float, target: float = -np.inf) -> Mixture:
    """EM from responsibilities until no start gains more than the tolerance per account, or can still reach the target."""
    _, s, k = resp.shape
    before = np.full(s, -np.inf)
    moments = np.zeros((s, k, market.d)), np.tile(np.eye(market.d), (s, 1, 1))
    for left in range(rounds - 1, -1, -1):
        model = _maximise(market, resp, moments)
        moments = model.mean, model.covariance
        density = log_density(market, model)
        top = density.max(axis=2)
        resp = np.exp(density - top[:, :, None])
        total = resp.sum(axis=2)
        resp /= total[:, :, None]
        likelihood = market.weights @ (np.log(total) + top)
        gain = likelihood - before
        before = likelihood
        out_of_reach = likelihood - model.score + left * np.maximum(gain, 0) < target
        if ((np.abs(gain) < tolerance * market.total) | out_of_reach).all():
            break
    score = likelihood - model.score  # _maximise left the penalty there
    return replace(model, score=score, log_likelihood=likelihood)


def _maximise(market: Market, resp: np.ndarray, before: tuple[np.ndarray, np.ndarray]) -> Mixture:
    """M step of all starts. `score` carries the penalty until the likelihood is known."""
    _, s, k = resp.shape
    flat = (resp * market.weights[:, None, None]).reshape(market.n, s * k)
    rate, own = _rates(market, (market.levels.T @ flat).reshape(-1, s, k))
    size, mean, covariance = _moments(market, flat, before)
    free = own.sum(axis=2) * (market.size - 1)  # (s, v): rates beyond those shared
    numeric = market.d * k + market.d * (market.d + 1) / 2 + k - 1
    shared = (market.size - 1) * market.log_n
    penalty = 0.5 * ((free * market.log_n).sum(axis=1) + shared.sum() + numeric * np.log(market.total))
    parameters = free.sum(axis=1) + (market.size - 1).sum() + numeric
    weight = np.maximum(size, 1e-9)
    weight = weight / weight.sum(axis=1, keepdims=True)
    return Mixture(weight, mean, covariance, rate, own, penalty, np.zeros(s), parameters)


def _rates(market: Market, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates per level and class, and which classes have their own, from counts (levels, s, k).

    For each variable the classes are ordered by how far their rates are from everybody else's; the first m get rates of
    their own, the others share one set, and m is what the penalised likelihood chooses (0: the variable tells nothing).
    """
    _, s, k = counts.shape
    if not len(counts):
        return np.zeros((s, 0, k)), np.zeros((s, 0, k), dtype=bool)
    everyone = counts.sum(axis=2, keepdims=True)
    alone = _fit_of(market, counts) + _fit_of(market, everyone - counts)  # (v, s, k)
    order = np.argsort(-alone, axis=2, kind="stable")
    ranked = np.take_along_axis(counts, order[market.variable], axis=2)
    ahead = np.cumsum(_fit_of(market, ranked), axis=2)  # own rates for the first m
    behind = _fit_of(market, everyone - np.cumsum(ranked, axis=2))
    fit = np.concatenate([_fit_of(market, everyone), (ahead + behind)[:, :, : k - 1]], axis=2)  # m = 0 … k − 1
    cost = 0.5 * ((market.size - 1) * market.log_n)[:, None, None] * np.arange(k)
    best = (fit - cost).argmax(axis=2)  # (v, s)
    own = np.argsort(order, axis=2, kind="stable") < best[:, :, None]
    mask = own[market.variable]
    rest = (counts * ~mask).sum(axis=2, keepdims=True)
    used = np.where(mask, counts, rest) + PRIOR_ACCOUNTS * market.pooled[:, None, None]
    rate = used / market.per_variable(used)[market.variable]
    return rate.transpose(1, 0, 2), own.transpose(1, 0, 2)


def _fit_of(market: Market, counts: np.ndarray) -> np.ndarray:
    """(v, s, k) multinomial log likelihood at the maximum."""
    counts = np.maximum(counts, 1e-12)
    total = market.per_variable(counts)
    return market.per_variable(counts * np.log(counts)) - total * np.log(total)


def _moments(
    market: Market, flat: np.ndarray, before: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class sizes and means and the shared covariance; unknown numbers enter by their expectation under the fit before."""
    mean, covariance = before
    s, k, d = mean.shape
    size, first, second = np.zeros((s, k)), np.zeros((s, k, d)), np.zeros((s, d, d))
    for pattern in market.patterns:
        o, m = pattern.known, pattern.unknown
        sums = (pattern.features[:, : 1 + len(o)].T @ flat[pattern.rows]).reshape(-1, s, k).transpose(1, 2, 0)
        count, known = sums[:, :, 0], sums[:, :, 1:]
        spread = np.zeros((s, d, len(o)))
        spread[:, o, np.arange(len(o))] = 1.0
        offset = np.zeros((s, k, d))
        if len(m):
            slope = covariance[:, m[:, None], o] @ np.linalg.inv(covariance[:, o[:, None], o])
            spread[:, m] = slope
            offset[:, :, m] = mean[:, :, m] - mean[:, :, o] @ slope.transpose(0, 2, 1)
            left = covariance[:, m[:, None], m] - slope @ covariance[:, o[:, None], m]
            second[:, m[:, None], m] += left * pattern.weight
        filled = known @ spread.transpose(0, 2, 1)
        first += count[:, :, None] * offset + filled
        size += count
        cross = offset.transpose(0, 2, 1) @ filled
        second += spread @ pattern.square @ spread.transpose(0, 2, 1) + cross + cross.transpose(0, 2, 1)
        second += (offset * count[:, :, None]).transpose(0, 2, 1) @ offset
    new = first / np.maximum(size, 1e-9)[:, :, None]
    within = (second - (new * size[:, :, None]).transpose(0, 2, 1) @ new) / market.total
    return size, new, within + RIDGE * np.eye(d)
