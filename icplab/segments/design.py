"""Reads the blocks of `blocks`, makes what fitting a mixture needs: rows by pattern of known numbers, and the fitted values."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from icplab.segments.blocks import Blocks

START_DIMENSIONS = 8
RARE_PATTERN = 0.01  # share of accounts below which a pattern of known numbers gives up a value and joins another


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

    def reweighted(self, weights: np.ndarray) -> Pattern:
        """The same accounts with other weights."""
        x = self.features[:, 1 : 1 + len(self.known)]
        return replace(self, weight=float(weights.sum()), square=(x * weights[:, None]).T @ x)

    def with_values(self, numbers: np.ndarray) -> Pattern:
        """The same known cells with other values in them, all accounts of weight one."""
        x = numbers[:, self.known]
        return replace(self, features=_features(x, self.pairs, self.features.dtype), square=x.T @ x)


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; the leading axis runs over starts until the best one is taken.

    Attributes
    ----------
    weight : (s, k) share of each class
    mean : (s, k, d) means of the normal scores
    covariance : (s, 1, d, d) shared by the classes, or (s, k, d, d) one for each
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
    def shared(self) -> bool:
        """Whether the classes share one covariance."""
        return self.covariance.shape[1] == 1

    @property
    def bic(self) -> float:
        """−2 × (log likelihood − ½ log n × parameters): the lower the better."""
        return float(-2 * self.score[0])


class Market:
    """Blocks prepared for fitting: what no iteration changes, and row weights.

    With `exact` every pattern of known numbers is kept, with `listed` those named (kinds, numbers): so an account is read the
    same way whatever its company. `single` holds the design in single precision: half the time, for comparisons of fits.
    """

    def __init__(
        self,
        blocks: Blocks,
        weights: np.ndarray | None = None,
        *,
        exact: bool = False,
        listed: np.ndarray | None = None,
        single: bool = False,
    ) -> None:
        self.dtype: type[np.floating] = np.float32 if single else np.float64
        self.n, self.d = blocks.numbers.shape
        label, kinds = _pattern_labels(blocks.numbers, 0 if exact else RARE_PATTERN * self.n, listed)
        self.order = np.argsort(label, kind="stable")
        self.levels: np.ndarray = np.ascontiguousarray(blocks.levels[self.order], dtype=self.dtype)
        self.numbers = blocks.numbers[self.order]
        self.weights = np.ones(self.n) if weights is None else weights[self.order]
        self.even = weights is None
        self.number_weight = 1.0  # how much the numbers' log density counts; a preview may change it
        self.total = float(self.weights.sum())
        self.kinds = kinds
        self.patterns = _patterns(self.numbers, self.weights, label[self.order], kinds, self.dtype)
        self.variable = blocks.variable
        self.starts = np.flatnonzero(np.diff(self.variable, prepend=-1))
        self.size = np.diff(np.append(self.starts, len(self.variable)))
        self._count()

    def _count(self) -> None:
        """What follows from the levels and the weights alone."""
        counts = self.weights @ self.levels
        self.known = self.per_variable(counts)
        self.pooled = (counts + 0.5) / (self.known + 0.5 * self.size)[self.variable]
        self.log_n = np.log(np.maximum(self.known, 2.0))

    def reweighted(self, weights: np.ndarray) -> Market:
        """The same market with other weights (n,), in its own order of rows; what does not depend on them is shared."""
        new = copy(self)
        new.__dict__.pop("scores", None)  # cached, and the market's own
        new.weights, new.even, new.total = weights, False, float(weights.sum())
        new.patterns = [p.reweighted(weights[p.rows]) for p in self.patterns]
        new._count()
        return new

    def with_values(self, blocks: Blocks) -> Market:
        """A market with the same known cells, of weight one, and other values in them; what does not depend on these is shared."""
        new = copy(self)
        new.__dict__.pop("scores", None)
        new.levels = np.ascontiguousarray(blocks.levels[self.order], dtype=self.dtype)
        new.numbers = blocks.numbers[self.order]
        new.patterns = [p.with_values(new.numbers[p.rows]) for p in self.patterns]
        new._count()
        return new

    def per_variable(self, values: np.ndarray) -> np.ndarray:
        """Sums over the levels of each variable, along the first axis."""
        return np.add.reduceat(values, self.starts, axis=0) if len(self.starts) else values[:0]

    @cached_property
    def scores(self) -> np.ndarray:
        """(n, dimensions) leading principal scores, in which starts are drawn."""
        return _scores(self)

    @cached_property
    def known_cells(self) -> np.ndarray:
        """(n, c) 1 where the variable of a level is known."""
        known = np.add.reduceat(self.levels, self.starts, axis=1) if len(self.starts) else self.levels
        return known[:, self.variable]


def _pattern_labels(
    numbers: np.ndarray, least: float, listed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pattern of known numbers of each account, and which numbers each pattern knows.

    Accounts of a pattern that fewer than `least` have, or that is not `listed`, give up values until they fit one that is; the
    last pattern knows nothing.
    """
    known = ~np.isnan(numbers)
    if not numbers.shape[1]:
        return np.zeros(len(numbers), dtype=int), np.zeros((1, 0), dtype=bool)
    kinds, label, count = np.unique(known, axis=0, return_inverse=True, return_counts=True)
    if listed is not None:
        allowed = np.vstack([listed, np.zeros(numbers.shape[1], dtype=bool)])
    else:
        allowed = np.vstack([kinds[count >= least], np.zeros(numbers.shape[1], dtype=bool)])
    # The first of the largest patterns that know nothing more than the account does.
    fits = ~(allowed[None] & ~kinds[:, None]).any(axis=2)
    target = np.where(fits, allowed.sum(axis=1), -1).argmax(axis=1)
    return target[label.ravel()], allowed


def _patterns(
    numbers: np.ndarray, weights: np.ndarray, label: np.ndarray, kinds: np.ndarray, dtype: type[np.floating]
) -> list[Pattern]:
    """One entry per pattern that knows something, over rows sorted by label, and one for those that know nothing."""
    out = []
    for i in np.unique(label):
        first, last = np.searchsorted(label, [i, i + 1])
        out.append(pattern_of(numbers[first:last], weights[first:last], kinds[i], int(first), dtype))
    return out


def pattern_of(
    numbers: np.ndarray, weights: np.ndarray, kind: np.ndarray, first: int = 0, dtype: type[np.floating] = np.float64
) -> Pattern:
    """One pattern over the rows given, of which the numbers in `kind` are known; `first` is the place of the first row."""
    known = np.flatnonzero(kind)
    x = numbers[:, known]
    pairs = np.triu_indices(len(known))
    rows = slice(first, first + len(numbers))
    square = (x * weights[:, None]).T @ x
    features = _features(x, pairs, dtype)
    return Pattern(rows, known, np.flatnonzero(~kind), features, pairs, float(weights.sum()), square)


def _features(x: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], dtype: np.dtype | type[np.floating]) -> np.ndarray:
    return np.hstack([np.ones((len(x), 1)), x, x[:, pairs[0]] * x[:, pairs[1]]]).astype(dtype, copy=False)


def _scores(market: Market) -> np.ndarray:
    """Leading principal scores of numbers and levels together (FAMD scaling)."""
    from scipy.linalg import eigh

    numbers = np.nan_to_num(market.numbers).astype(market.dtype, copy=False)
    pooled = market.pooled.astype(market.dtype)
    centred = (market.levels - pooled * market.known_cells) / np.sqrt(pooled)
    both = np.hstack([numbers, centred])
    width = both.shape[1]
    first = max(width - START_DIMENSIONS, 0)
    top = eigh((both.T @ both).astype(float), subset_by_index=[first, width - 1])[1][:, ::-1]
    # The sign of an eigenvector is arbitrary: fix it, so that equal data give equal starts.
    top = top * np.where(top[np.abs(top).argmax(axis=0), np.arange(top.shape[1])] < 0, -1.0, 1.0)
    scores = both @ top.astype(market.dtype, copy=False)
    return scores / scores.std(axis=0).clip(1e-9).mean()
