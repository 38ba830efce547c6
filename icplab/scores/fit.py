"""Reads design blocks and outcomes, makes a small regularised model: which traits enter, and with what effect."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.stats.multiplicity import benjamini_hochberg
from icplab.scores.training import Block

MAX_INPUTS = 12  # lines of a card that a person can still read; with the forced ones
BEND_P = 0.01  # a number keeps its bend only with evidence
PRIOR_SD, PRIOR_WEIGHT = 0.3, 2.0  # prior of the spread of effects within a block: worth two effects of 0.3 log odds
SINGLE_ROUNDS, MAX_ROUNDS = 3, 8  # rounds of selection that add one input; rounds in all
SPREAD_STEPS, ROUGH_STEPS, NEWTON_STEPS = 8, 4, 25  # of the variances in the fit that counts, and on the way to it
SELECT_ROWS, SELECT_WINS = 20_000, 2_000  # opportunities, and wins, that are enough to choose inputs; all are fitted
CLIP_LOGIT = 12.0


@dataclass(frozen=True)
class Strictness:
    """How much evidence an input needs to enter, to stay, and for a level of its own."""

    screen_fdr: float
    keep_p: float
    level_p: float


# For likelihood the strongest enter up to the cap and shrinkage does the rest: a doubtful trait is worth more for prediction than
# for a claim (claims: the traits step, 10 %). Money is multiplied up, so there an input must show itself.
GENEROUS, STRICT = Strictness(1.0, 1.0, 1.0), Strictness(0.35, 0.10, 0.10)
SCREENED = ["name", "p_value", "diffuse", "z"]  # of the score test, one row per candidate


@dataclass(frozen=True)
class Ridge:
    """A regression whose effects are shrunk by block. `offset_of` a row is design @ coefficients."""

    coefficients: np.ndarray
    covariance: np.ndarray
    fitted: np.ndarray  # mean per row
    scale: float  # residual variance (1 for a binomial outcome)


@dataclass(frozen=True)
class Fitted:
    """The chosen inputs with their effects.

    Attributes
    ----------
    blocks : inputs, forced ones first
    effects : per block one coefficient per column
    covariance : of all those coefficients, in that order
    intercept : at the mean of everything else
    nuisance : per row, what source, owner and quarter add
    linear : per row, intercept + inputs + nuisance
    screen : one row per candidate: name, p_value, q_value, z, entered
    """

    blocks: tuple[Block, ...]
    effects: tuple[np.ndarray, ...]
    covariance: np.ndarray
    intercept: float
    nuisance: np.ndarray
    linear: np.ndarray
    screen: pd.DataFrame


def fit_inputs(
    outcome: np.ndarray,
    weight: np.ndarray,
    forced: Sequence[Block],
    candidates: Sequence[Block],
    nuisance: Sequence[np.ndarray],
    clusters: np.ndarray,
    *,
    family: str = "binomial",
    max_inputs: int = MAX_INPUTS,
) -> Fitted:
    """Select traits by an adjusted test, then fit the few together.

    Parameters
    ----------
    outcome : 0/1 (or a number, family gaussian) per row
    weight : weight per row; rows with weight 0 are not looked at
    forced, candidates : inputs that are always in, and those that must show themselves
    nuisance : design columns that are adjusted for, shrunk block by block
    clusters : account family per row; the test takes the larger of the model's and the families' variance
    family : binomial or gaussian
    max_inputs : cap on forced and selected inputs together

    Returns
    -------
    Fitted

    Notes
    -----
    Forward selection by the adjusted score test with Benjamini-Hochberg among what is left: the strongest few
    enter one by one (what a segment explains is then explained), later all that pass together; backward, whatever shows
    nothing next to the others leaves. For likelihood both are generous: see the methodology for what that was measured to be worth. One ridge fit follows with a variance per block estimated from the data (empirical
    Bayes, MacKay's fixed point). Selecting first and fitting few inputs beats the lasso where effects are few and confounded
    with the segment (method.md §5).
    """
    task = _Task.of(outcome, weight, nuisance, clusters, family)
    part = task.part()
    how = GENEROUS if family == "binomial" else STRICT
    chosen, screen = _select(part, list(forced), list(candidates), max_inputs, how)
    fit = task.fit([*forced, *chosen])
    kept = _strongest(fit, (*forced, *chosen), max_inputs)
    # A forced input that is worth too little for a line of the card is still adjusted for.
    aside = [b.matrix() for b in forced if b not in kept]
    task = _Task.of(outcome, weight, [*nuisance, *aside], clusters, family)
    entered = {b.item.name for b in kept}
    screen = screen.assign(entered=screen["name"].isin(entered))
    return _unpack(task.fit(kept).ridge, tuple(kept), [*nuisance, *aside], len(outcome), screen)


@dataclass(frozen=True, eq=False)
class _Design:
    """A fit with the design it was made on."""

    matrix: np.ndarray
    ridge: Ridge
    penalty: np.ndarray


@dataclass(frozen=True, eq=False)
class _Task:
    """Rows with a known outcome, and what is adjusted for on them."""

    y: np.ndarray
    w: np.ndarray
    rows: np.ndarray
    nuisance: list[np.ndarray]
    order: np.ndarray  # rows by family
    starts: np.ndarray  # where each family starts in that order
    family: str

    @classmethod
    def of(
        cls, outcome: np.ndarray, weight: np.ndarray, nuisance: Sequence[np.ndarray], clusters: np.ndarray, family: str
    ) -> _Task:
        rows = np.flatnonzero(weight > 0)
        # Weighted rows carry less information than their sum: scale to the effective number.
        w = weight[rows] * (weight[rows].sum() / max((weight[rows] ** 2).sum(), 1e-12))
        codes = pd.factorize(clusters[rows], sort=True)[0]
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        return cls(outcome[rows], w, rows, [z[rows] for z in nuisance], order, starts, family)

    def part(self) -> _Task:
        """Enough whole families for the choice of inputs; all of them where there are not many."""
        rate = max(float(np.average(self.y, weights=self.w)), 1e-3) if self.family == "binomial" else 1.0
        wanted = max(SELECT_ROWS, int(SELECT_WINS / rate))
        if len(self.rows) <= wanted:
            return self
        # Families are numbered in the order of their ids: every k-th is a fair sample.
        return self.only(self.families() % (-(-len(self.rows) // wanted)) == 0)

    def families(self) -> np.ndarray:
        """Number of the family of each row."""
        number = np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, len(self.rows))))
        place = np.empty(len(self.rows), dtype="int64")
        place[self.order] = number
        return place

    def only(self, which: np.ndarray) -> _Task:
        """Some of the rows."""
        kept = np.flatnonzero(which)
        place = self.families()[kept]
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        nuisance = [z[kept] for z in self.nuisance]
        return _Task(self.y[kept], self.w[kept], self.rows[kept], nuisance, order, starts, self.family)

    def fit(self, blocks: Sequence[Block], steps: int = SPREAD_STEPS) -> _Design:
        matrix = self.design(blocks)
        wide = [*(b.basis.shape[1] for b in blocks), *(z.shape[1] for z in self.nuisance)]
        groups = np.repeat(np.arange(len(wide)), wide)
        ridge, penalty = fit_ridge(self.y, self.w, matrix, groups, self.family, steps)
        return _Design(matrix, ridge, penalty)

    def design(self, blocks: Sequence[Block]) -> np.ndarray:
        """Intercept, inputs and what is adjusted for."""
        return np.hstack([np.ones((len(self.y), 1)), *(b.matrix(self.rows) for b in blocks), *self.nuisance])


def _select(
    task: _Task, forced: list[Block], candidates: list[Block], most: int, how: Strictness
) -> tuple[list[Block], pd.DataFrame]:
    """Chosen candidates (with the columns that carry them), and the screen each candidate was last seen on."""
    chosen: dict[int, Block] = {}
    screen = pd.DataFrame(columns=[*SCREENED, "q_value"])
    for step in range(MAX_ROUNDS):
        left = [i for i in range(len(candidates)) if i not in chosen]
        if not left:
            break
        fresh = _screen(
            task, [candidates[i] for i in left], task.fit([*forced, *chosen.values()], ROUGH_STEPS)
        ).set_axis(left)
        screen = fresh.combine_first(screen) if len(screen) else fresh
        passed = fresh[fresh["q_value"] <= how.screen_fdr].sort_values(["p_value", "name"], kind="stable")
        passed = passed.head(1 if step < SINGLE_ROUNDS else max(most - len(chosen), 0))
        if passed.empty:
            break
        chosen |= {int(i): _columns_of(candidates[int(i)], fresh.loc[i], how.level_p) for i in passed.index}
    return _drop_unneeded(task, forced, [chosen[i] for i in sorted(chosen)], how.keep_p), screen.sort_index()


def fit_ridge(
    y: np.ndarray,
    w: np.ndarray,
    matrix: np.ndarray,
    groups: np.ndarray,
    family: str = "binomial",
    spread_steps: int = SPREAD_STEPS,
) -> tuple[Ridge, np.ndarray]:
    """Weighted ridge regression with one variance per group of columns, estimated from the data.

    The first column is the intercept and is not shrunk. Returns the fit and the penalty per column.
    """
    k = int(groups.max(initial=-1)) + 1
    size = np.bincount(groups, minlength=k)
    variance = np.full(k, PRIOR_SD**2)
    beta = np.zeros(matrix.shape[1])
    mean = np.average(y, weights=w)
    beta[0] = (
        np.log(mean / (1 - mean)) if family == "binomial" and 0 < mean < 1 else (mean if family != "binomial" else 0.0)
    )
    scale = 1.0 if family == "binomial" else float(np.average((y - mean) ** 2, weights=w)) or 1.0
    gram = ((matrix * w[:, None]).T @ matrix, matrix.T @ (w * y)) if family != "binomial" else None
    for step in range(spread_steps):
        penalty = np.concatenate([[1e-9], 1 / variance[groups]])
        # Two steps are enough before the spreads move again; the last round goes to the end.
        if gram is None:
            beta, covariance = _newton(y, w, matrix, penalty, beta, NEWTON_STEPS if step == spread_steps - 1 else 2)
        else:
            covariance = np.linalg.inv(gram[0] / scale + np.diag(penalty))
            beta = covariance @ (gram[1] / scale)
        square = np.bincount(groups, beta[1:] ** 2, minlength=k)
        known = size - np.bincount(groups, np.diag(covariance)[1:], minlength=k) / variance
        variance = (square + PRIOR_WEIGHT * PRIOR_SD**2) / (np.maximum(known, 0) + PRIOR_WEIGHT)
        if family != "binomial":
            rest = y - matrix @ beta
            scale = float((w * rest**2).sum() / max(w.sum() - known.sum() - 1, 1)) or 1e-9
    linear = matrix @ beta
    fitted = _expit(linear) if family == "binomial" else linear
    return Ridge(beta, covariance, fitted, scale), penalty


def _newton(
    y: np.ndarray, w: np.ndarray, x: np.ndarray, penalty: np.ndarray, beta: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic coefficients and their covariance under given penalties."""
    for _ in range(steps):
        mean = _expit(x @ beta)
        information = (x * (w * mean * (1 - mean))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(information, x.T @ (w * (y - mean)) - penalty * beta)
        beta = beta + step * min(1.0, 3.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return beta, np.linalg.inv(information)


def _screen(task: _Task, candidates: Sequence[Block], base: _Design) -> pd.DataFrame:
    """Score test of every candidate given what is in already; one row per candidate."""
    mean, z, scale = base.ridge.fitted, base.matrix, base.ridge.scale
    binomial = task.family == "binomial"
    curve = task.w * mean * (1 - mean) if binomial else task.w / scale
    noise = task.w**2 * (mean * (1 - mean) if binomial else 1 / scale)
    pull = task.w * (task.y - mean) / scale
    inner = np.linalg.inv((z * curve[:, None]).T @ z + np.diag(base.penalty))
    x = np.hstack([b.matrix(task.rows) for b in candidates])
    rest = x - z @ (inner @ (z.T @ (x * curve[:, None])))
    score = rest.T @ pull
    by_family = np.add.reduceat((rest * pull[:, None])[task.order], task.starts, axis=0)
    clustered = (by_family**2).sum(axis=0)
    ends = np.cumsum([0, *(b.basis.shape[1] for b in candidates)])
    table = []
    for block, a, b in zip(candidates, ends[:-1], ends[1:], strict=True):
        part = rest[:, a:b]
        model = (part * noise[:, None]).T @ part
        # The larger variance per column: families make the model's too small, few wins make the families' too small.
        inflate = np.sqrt(np.maximum(clustered[a:b] / np.maximum(np.diag(model), 1e-12), 1.0))
        table.append((block.item.name, *_p_values(block, score[a:b], model * np.outer(inflate, inflate))))
    frame = pd.DataFrame(table, columns=SCREENED)
    return frame.assign(q_value=benjamini_hochberg(frame["p_value"].to_numpy("float64")))


def _p_values(block: Block, score: np.ndarray, variance: np.ndarray) -> tuple[float, bool, np.ndarray]:
    """p-value of a block (the better of "all columns together" and "one column", paid for), which it was, and z per column."""
    from scipy.special import chdtrc, ndtr

    spread = np.sqrt(np.maximum(np.diag(variance), 1e-12))
    z = np.where(spread > 1e-5, score / spread, 0.0)
    if len(z) == 1:
        return float(2 * ndtr(-abs(z[0]))), False, z
    # Levels of one trait sum to nothing: the last says what the others left out.
    some = slice(0, len(z) - (block.item.kind != "number"))
    solved = np.linalg.pinv(variance[some, some], rcond=1e-8, hermitian=True) @ score[some]
    p_all = float(chdtrc(max(len(z[some]), 1), max(float(score[some] @ solved), 0.0)))
    if block.item.kind == "posterior":
        return p_all, True, z
    trend = block.item.kind == "number"
    p_one = float(2 * ndtr(-abs(z[0]))) if trend else float(2 * ndtr(-np.abs(z).max())) * len(z)
    return min(1.0, 2 * min(p_all, p_one)), p_all <= p_one, z


def _columns_of(block: Block, row: pd.Series, level_p: float) -> Block:
    """The block with the columns that carry it: a bend, or single levels, only with evidence of their own."""
    from scipy.special import ndtr

    z = np.asarray(row["z"])
    p = 2 * ndtr(-np.abs(z))
    if block.item.kind == "number":
        return block.only(np.array([True, *(p[1:] < BEND_P)]))
    if row["diffuse"] or len(z) == 1:
        return block
    return block.only((p < level_p) | (p == p.min()))


def _drop_unneeded(task: _Task, forced: list[Block], chosen: list[Block], keep_p: float) -> list[Block]:
    """Chosen blocks without those that show nothing next to the others.

    One at a time: two traits that say the same thing are each unneeded given the other, but not both.
    """
    while (unneeded := _least_needed(task.fit([*forced, *chosen], ROUGH_STEPS), forced, chosen, keep_p)) is not None:
        chosen = [b for b in chosen if b is not unneeded]
    return chosen


def _least_needed(fit: _Design, forced: Sequence[Block], chosen: Sequence[Block], keep_p: float) -> Block | None:
    """The chosen block that shows least next to the others, if it shows too little to stay."""
    from scipy.special import chdtrc

    at = 1 + sum(b.basis.shape[1] for b in forced)
    p_values = []
    for block in chosen:
        part = slice(at, at + block.basis.shape[1])
        beta, cov = fit.ridge.coefficients[part], fit.ridge.covariance[part, part]
        p_values.append(float(chdtrc(len(beta), float(beta @ np.linalg.solve(cov, beta)))))
        at = part.stop
    worst = int(np.argmax(p_values)) if p_values else -1
    return chosen[worst] if p_values and p_values[worst] > keep_p else None


def _strongest(fit: _Design, blocks: Sequence[Block], most: int) -> list[Block]:
    """The inputs that move the prediction most, in their order; inputs of opportunities do not count towards the cap."""
    ends = np.cumsum([1, *(b.basis.shape[1] for b in blocks)])
    parts = [fit.matrix[:, a:b] @ fit.ridge.coefficients[a:b] for a, b in itertools.pairwise(ends)]
    spread = np.array(
        [part.std() if b.item.table == "accounts" else np.inf for part, b in zip(parts, blocks, strict=True)]
    )
    room = most + int(np.isinf(spread).sum())
    best = np.sort(np.argsort(-spread, kind="stable")[:room])
    return [blocks[i] for i in best]


def _unpack(
    ridge: Ridge, blocks: tuple[Block, ...], nuisance: Sequence[np.ndarray], n: int, screen: pd.DataFrame
) -> Fitted:
    """Effects by block, and linear predictors for all rows, also those whose outcome is not known yet."""
    beta = ridge.coefficients
    ends = np.cumsum([1, *(b.basis.shape[1] for b in blocks)])
    effects = tuple(beta[a:b] for a, b in itertools.pairwise(ends))
    other = np.hstack([np.zeros((n, 0)), *nuisance]) @ beta[ends[-1] :]
    linear = beta[0] + other + sum((b.matrix() @ e for b, e in zip(blocks, effects, strict=True)), np.zeros(n))
    inputs = slice(1, ends[-1])
    return Fitted(blocks, effects, ridge.covariance[inputs, inputs], float(beta[0]), other, linear, screen)


def _expit(linear: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(linear, -CLIP_LOGIT, CLIP_LOGIT)))
