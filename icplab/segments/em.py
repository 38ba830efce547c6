"""Reads a prepared market and memberships, makes the mixture that the EM algorithm finds from them.

Everything that depends on the memberships is a product of a fixed design with them, so an iteration of many starts at once is a
few matrix products. Arrays run over starts, then classes, then accounts: sums over classes stay along contiguous rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from icplab.segments.design import Market, Mixture, Pattern

PRIOR_ACCOUNTS = 1.0  # weight of the whole market's rates in each segment's: keeps a rate off 0 and 1
RIDGE = 0.01  # floor of a number's variance within segments, in units of its variance over the market
SHAPE_ACCOUNTS = (
    5.0  # weight of the common covariance in a class's own, per number: keeps small classes from collapsing
)


def iterate(
    market: Market, resp: np.ndarray, rounds: int, tolerance: float, target: float = -np.inf, *, shared: bool = True
) -> Mixture:
    """EM from memberships (s, k, n) until no start gains more than the tolerance per account, or can still reach the target."""
    s, k, _ = resp.shape
    before = np.full(s, -np.inf)
    groups = 1 if shared else k
    moments = np.zeros((s, k, market.d)), np.tile(np.eye(market.d), (s, groups, 1, 1))
    for left in range(rounds - 1, -1, -1):
        model = _maximise(market, resp, moments)
        moments = model.mean, model.covariance
        resp, likelihood = _expect(market, log_density(market, model))
        if not left:
            break
        gain = likelihood - before
        before = likelihood
        out_of_reach = likelihood - model.score + left * np.maximum(gain, 0) < target
        if ((np.abs(gain) < tolerance * market.total) | out_of_reach).all():
            break
    score = likelihood - model.score  # _maximise left the penalty there
    return replace(model, score=score, log_likelihood=likelihood)


def log_density(market: Market, model: Mixture) -> np.ndarray:
    """(s, k, n) log of class weight × density of what is known of each account, in the market's order of rows."""
    s, k = model.weight.shape
    flat = np.log(model.rate).transpose(0, 2, 1).reshape(s * k, -1).astype(market.dtype, copy=False)
    out = flat @ market.levels.T
    out += np.log(model.weight).reshape(-1, 1).astype(market.dtype, copy=False)
    for pattern in market.patterns:
        coefficient = market.number_weight * gaussian(pattern, model).reshape(s * k, -1)
        out[:, pattern.rows] += coefficient.astype(market.dtype, copy=False) @ pattern.features.T
    return out.reshape(s, k, market.n)


def memberships(density: np.ndarray) -> np.ndarray:
    """(s, k, n) probability of each class from log densities."""
    resp = np.exp(density - density.max(axis=1, keepdims=True))
    resp /= resp.sum(axis=1, keepdims=True)
    return resp


def log_sums(density: np.ndarray) -> np.ndarray:
    """(s, n) log density of each account under the whole mixture, from log densities by class."""
    top = density.max(axis=1)
    return np.log(np.exp(density - top[:, None]).sum(axis=1)) + top


def gaussian(pattern: Pattern, model: Mixture) -> np.ndarray:
    """(s, k, features) coefficients of the log density of the known numbers on the pattern's features."""
    o, (i, j) = pattern.known, pattern.pairs
    s, k = model.weight.shape
    covariance = model.covariance[:, :, o[:, None], o]
    mean = model.mean[:, :, o]
    inverse = np.linalg.inv(covariance)  # (s, 1 or k, o, o)
    _, logdet = np.linalg.slogdet(covariance)
    linear = (inverse @ mean[..., None])[..., 0]
    out = np.empty((s, k, 1 + len(o) + len(i)))
    out[:, :, 0] = -0.5 * ((linear * mean).sum(axis=2) + logdet + len(o) * np.log(2 * np.pi))
    out[:, :, 1 : 1 + len(o)] = linear
    out[:, :, 1 + len(o) :] = -inverse[:, :, i, j] * np.where(i == j, 0.5, 1.0)
    return out


def _expect(market: Market, density: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Memberships and the log likelihood of each start; `density` is overwritten."""
    top = density.max(axis=1)
    density -= top[:, None]
    np.exp(density, out=density)
    total = density.sum(axis=1)
    density /= total[:, None]
    return density, (np.log(total) + top) @ market.weights


def _maximise(market: Market, resp: np.ndarray, before: tuple[np.ndarray, np.ndarray]) -> Mixture:
    """M step of all starts. `score` carries the penalty until the likelihood is known."""
    s, k, n = resp.shape
    flat = (resp if market.even else (resp * market.weights).astype(market.dtype, copy=False)).reshape(s * k, n)
    rate, own = _rates(market, (flat @ market.levels).astype(float, copy=False).T.reshape(-1, s, k))
    size, mean, covariance = measure_moments(market, flat, before)
    free = own.sum(axis=2) * (market.size - 1)  # (s, v): rates beyond those shared
    numeric = market.d * k + covariance.shape[1] * market.d * (market.d + 1) / 2 + k - 1
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


def measure_moments(
    market: Market, flat: np.ndarray, before: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class sizes, means and covariances from memberships (s × k, n) times weights, and the means and covariances before.

    Unknown numbers enter by their expectation under the fit before.
    """
    mean, covariance = before
    s, k, d = mean.shape
    shared = covariance.shape[1] == 1 and k > 1
    size, first = np.zeros((s, k)), np.zeros((s, k, d))
    second = np.zeros((s, 1 if shared else k, d, d))
    for pattern in market.patterns:
        o, m = pattern.known, pattern.unknown
        used = 1 + len(o) + (0 if shared else len(pattern.pairs[0]))
        sums = (flat[:, pattern.rows] @ pattern.features[:, :used]).astype(float, copy=False).reshape(s, k, used)
        count, known = sums[:, :, 0], sums[:, :, 1 : 1 + len(o)]
        square = pattern.square if shared else _square(pattern, sums[:, :, 1 + len(o) :])
        weight = pattern.weight if shared else count[:, :, None, None]
        spread, offset, left = _filling(mean, covariance, o, m)
        second[:, :, m[:, None], m] += left * weight
        filled = (spread @ known[..., None])[..., 0]
        first += count[:, :, None] * offset + filled
        size += count
        cross = offset[..., :, None] * (filled + 0.5 * count[..., None] * offset)[..., None, :]
        cross = cross + cross.swapaxes(2, 3)
        second += spread @ square @ spread.swapaxes(2, 3) + (cross.sum(1, keepdims=True) if shared else cross)
    new = first / np.maximum(size, 1e-9)[:, :, None]
    return size, new, _covariance(market, second, size, new)


def _square(pattern: Pattern, sums: np.ndarray) -> np.ndarray:
    """(s, k, o, o) sums of outer products from the sums of products of pairs."""
    o, (i, j) = len(pattern.known), pattern.pairs
    out = np.empty((*sums.shape[:2], o, o))
    out[:, :, i, j] = sums
    out[:, :, j, i] = sums
    return out


def _filling(
    mean: np.ndarray, covariance: np.ndarray, o: np.ndarray, m: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All numbers as spread @ known + offset, and the covariance that the unknown ones keep."""
    s, k, d = mean.shape
    spread = np.zeros((s, covariance.shape[1], d, len(o)))
    spread[:, :, o, np.arange(len(o))] = 1.0
    offset = np.zeros((s, k, d))
    left = covariance[:, :, m[:, None], m]
    if len(m) and len(o):
        slope = covariance[:, :, m[:, None], o] @ np.linalg.inv(covariance[:, :, o[:, None], o])
        spread[:, :, m] = slope
        left = left - slope @ covariance[:, :, o[:, None], m]
        offset[:, :, m] = mean[:, :, m] - (slope @ mean[:, :, o, None])[..., 0]
    elif len(m):
        offset = mean.copy()
    return spread, offset, left


def _covariance(market: Market, second: np.ndarray, size: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(s, 1 or k, d, d) covariance within classes, with a floor; a class's own leans towards the common one."""
    around = (mean * size[:, :, None])[..., None] * mean[:, :, None, :]
    floor = RIDGE * np.eye(mean.shape[2])
    if second.shape[1] == 1:
        return (second - around.sum(axis=1, keepdims=True)) / market.total + floor
    within = second - around
    common = within.sum(axis=1, keepdims=True) / market.total
    pull = SHAPE_ACCOUNTS * mean.shape[2]
    return (within + pull * common) / (size[..., None, None] + pull) + floor
