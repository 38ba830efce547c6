"""Reads numbers and outcomes, makes bins: the monotone ones of highest information value, exactly, by dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PREBINS, FINE = 64, 16  # quantiles between which bins are found, and how many finer ones in each then move their ends
SAMPLE = 100_000  # values that quantiles are taken from
MAX_BINS, MIN_SHARE = 6, 0.05


@dataclass(frozen=True)
class Bins:
    """Bins of one number.

    `edges` cut it into bins [edge, next edge), open at both ends; `rates` and `shares` are event rate and share of rows per bin;
    `information` is the information value, Σ (share of events − share of others) × log of their ratio. Without two bins that
    can be told apart `edges` is empty.
    """

    edges: tuple[float, ...]
    rates: tuple[float, ...]
    shares: tuple[float, ...]
    information: float

    def rate_of(self, values: npt.ArrayLike) -> np.ndarray:
        """Event rate of the bin of each value; NaN where the value is unknown or there are no bins."""
        numbers = np.asarray(values, dtype="float64")
        if not self.rates:
            return np.full(len(numbers), np.nan)
        rates = np.asarray(self.rates)[np.searchsorted(self.edges, numbers, side="right")]
        return np.where(np.isnan(numbers), np.nan, rates)


def monotone_bins(
    columns: Sequence[npt.ArrayLike],
    outcome: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    max_bins: int = MAX_BINS,
    min_share: float = MIN_SHARE,
    threads: int = 1,
) -> list[Bins]:
    """Bins whose event rate only rises or only falls and whose information value no other such bins on the grid exceed.

    Parameters
    ----------
    columns : numbers, one array of rows per variable; NaN is unknown and counts in no bin
    outcome : 0 or 1 per row
    weight : per row; 1 for all where it is not given
    max_bins : bins at most
    min_share : of the known rows that a bin must hold
    threads : that count rows, one variable each; the result is the same

    Returns
    -------
    list of Bins, one per variable

    Notes
    -----
    Each number is cut at PREBINS quantiles (of at most SAMPLE values, evenly taken); over that grid the best bins of each
    direction are found exactly: the best chain of bins that ends with a given one extends the best chain that ends where it
    begins with a lower (higher) rate. Then each end moves to the best of FINE times as many quantiles, the others held, until
    none moves. Bins hold at least one event and one other. Navas-Palencia 2020 states the problem as an
    integer programme; on a grid of one dimension it needs none.
    """
    y = np.asarray(outcome, dtype="float64")
    w = None if weight is None else np.asarray(weight, dtype="float64")
    with ThreadPoolExecutor(threads) as pool:
        tables = list(pool.map(lambda c: _count(np.asarray(c, dtype="float64"), y, w), columns))
    if not tables:
        return []
    coarse = [_coarse(len(edges)) for edges, _ in tables]
    counts = np.zeros((len(tables), 2, max(map(len, coarse))))
    for k, ((_, table), begins) in enumerate(zip(tables, coarse, strict=True)):
        counts[k, :, : len(begins)] = np.add.reduceat(table, begins, axis=1)
    best = {sign: _best_chains(counts, sign, max_bins, min_share) for sign in (1, -1)}
    found = []
    for k, (edges, table) in enumerate(tables):
        sign = max(best, key=lambda s: best[s][k][0])
        starts = _polish(table, [int(coarse[k][s]) for s in best[sign][k][1]], sign, min_share)
        found.append(_bins(edges, table, starts))
    return found


def _count(values: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Candidate edges of one number, and others and events (2 × cells) between them."""
    known = ~np.isnan(values)
    if not known.all():
        values, y, w = values[known], y[known], None if w is None else w[known]
    if not len(values):
        return np.array([]), np.zeros((2, 1))
    part = np.sort(values[:: max(len(values) // SAMPLE, 1)])
    cuts = part[np.arange(1, PREBINS * FINE) * len(part) // (PREBINS * FINE)]
    edges = np.unique(cuts[cuts > part[0]])
    cell = np.searchsorted(edges, values, side="right")
    mass = y if w is None else w * y
    events = np.bincount(cell, mass, len(edges) + 1)
    return edges, np.vstack([np.bincount(cell, w, len(edges) + 1) - events, events])


def _coarse(edges: int) -> np.ndarray:
    """Fine cells at which the coarse ones begin: all of them where there are few."""
    cells = edges + 1
    return np.unique(np.arange(PREBINS) * cells // PREBINS) if cells > PREBINS else np.arange(cells)


def _polish(table: np.ndarray, starts: list[int], sign: int, min_share: float) -> list[int]:
    """Beginnings of bins moved one at a time over the fine cells, while the information value grows and limits hold."""
    sums = np.concatenate([np.zeros((2, 1)), table.cumsum(axis=1)], axis=1)
    total = np.maximum(sums[:, -1], 1e-12)

    def look(begin: int | np.ndarray, end: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gain and rate of bins; what is no bin gains −∞."""
        first, last = np.broadcast_arrays(np.atleast_1d(begin), np.atleast_1d(end))
        others, events = sums[:, last] - sums[:, first]
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = others / total[0], events / total[1]
            gain = (b - a) * np.log(b / a)
            rate = sign * events / (others + events)
        fits = (others > 0) & (events > 0) & (others + events >= min_share * total.sum() * (1 - 1e-12))
        return np.where(fits, gain, -np.inf), rate

    ends, moved = [0, *starts, table.shape[1]], bool(starts)
    while moved:
        moved = False
        for k in range(1, len(ends) - 1):
            places = np.arange(ends[k - 1] + 1, ends[k + 1])
            (left, low), (right, high) = look(ends[k - 1], places), look(places, ends[k + 1])
            fits = low < high
            if k > 1:
                fits &= look(ends[k - 2], ends[k - 1])[1] < low
            if k < len(ends) - 2:
                fits &= high < look(ends[k + 1], ends[k + 2])[1]
            gain = np.where(fits, left + right, -np.inf)
            best = int(gain.argmax())
            if gain[best] > gain[ends[k] - ends[k - 1] - 1] * (1 + 1e-9) + 1e-15:
                ends[k], moved = int(places[best]), True
    return ends[1:-1]


def _best_chains(counts: np.ndarray, sign: int, max_bins: int, min_share: float) -> list[tuple[float, list[int]]]:
    """Per variable the highest information value of bins with rates in one direction, and where each of them ends.

    `counts` is variables × (others, events) × cells. `gain[v, i, j]` is what a bin of cells i to j − 1 adds; a chain is extended by
    the bin that begins where its last one ends.
    """
    variables, _, cells = counts.shape
    sums = np.concatenate([np.zeros((variables, 2, 1)), counts.cumsum(axis=2)], axis=2)
    others, events = (sums[:, k, None, :] - sums[:, k, :, None] for k in (0, 1))  # [v, i, j]: cells i to j − 1
    total = np.maximum(sums[:, :, -1], 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = others / total[:, 0, None, None], events / total[:, 1, None, None]
        gain = (b - a) * np.log(b / a)
        rate = sign * events / (others + events)
    mass = others + events
    allowed = (others > 0) & (events > 0) & (mass >= min_share * total.sum(axis=1)[:, None, None] * (1 - 1e-12))
    gain = np.where(allowed, gain, -np.inf)
    # best[k][v, i, j]: chains of k + 1 bins whose last one is cells i to j − 1; before[k]: where the last but one began.
    best, before = [np.where(np.arange(cells + 1)[None, :, None] == 0, gain, -np.inf)], []
    for _ in range(max_bins - 1):
        chains, begun = np.full_like(gain, -np.inf), np.zeros(gain.shape, dtype=np.int16)
        for i in range(1, cells):
            last, next_rate = best[-1][:, :i, i], rate[:, i, i + 1 :]
            fits = rate[:, :i, i, None] < next_rate[:, None, :]
            joined = np.where(fits, last[:, :, None], -np.inf)
            place = joined.argmax(axis=1)
            chains[:, i, i + 1 :] = np.take_along_axis(joined, place[:, None, :], axis=1)[:, 0] + gain[:, i, i + 1 :]
            begun[:, i, i + 1 :] = place
        best.append(chains)
        before.append(begun)
    return [_trace(v, best, before, cells) for v in range(variables)]


def _trace(variable: int, best: list[np.ndarray], before: list[np.ndarray], cells: int) -> tuple[float, list[int]]:
    """The best chain of one variable: its value, and the cells at which its bins begin, from the second on."""
    ended = np.array([b[variable, :, cells] for b in best])
    k, start = np.unravel_index(int(np.argmax(ended)), ended.shape)
    value = float(ended[k, start])
    if not np.isfinite(value):
        return -np.inf, []
    starts, i, j = [], int(start), cells
    for step in range(int(k) - 1, -1, -1):
        starts.append(i)
        i, j = int(before[step][variable, i, j]), i
    return value, starts[::-1]


def _bins(edges: np.ndarray, counts: np.ndarray, starts: list[int]) -> Bins:
    """A chain in terms of values; none where fewer than two bins can be told apart."""
    if not starts:
        return Bins((), (), (), 0.0)
    parts = np.add.reduceat(counts, [0, *starts], axis=1)
    mass = parts.sum(axis=0)
    a, b = parts / parts.sum(axis=1, keepdims=True)
    return Bins(
        tuple(float(edges[s - 1]) for s in starts),
        tuple(float(r) for r in parts[1] / mass),
        tuple(float(s) for s in mass / mass.sum()),
        float(((b - a) * np.log(b / a)).sum()),
    )
