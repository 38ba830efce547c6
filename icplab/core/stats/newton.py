"""Reads designs and outcomes as arrays, makes Newton steps: one logistic regression, or hundreds that share nuisance columns.

The kernels behind `logistic`. Candidates share the nuisance columns, so each needs only its own border of the information
matrix: iterations keep the nuisance block of the null model (a chord step), and exact steps are left for the end. With many
nuisance columns not even those form a block per candidate: they solve for it from the null model's by conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from icplab.core.stats.blocks import (
    BLOCK_CELLS,
    LARGEST_STEP,
    NOTHING,
    correction,
    expit,
    gram,
    invert,
    invert_small,
    pair_products,
    products_of,
    solve_like,
    solve_many,
    solve_small,
    sum_by_cluster,
    weighted_products,
    without_twin,
)

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Codes = NDArray[np.intp]

MAX_STEPS = 40
TOLERANCE = 1e-9  # largest change of a coefficient at which a fit has converged
CLOSE = 1e-5  # size of a full Newton step that leaves an error of its square
NEARLY, MOVED = (
    5e-4,
    2e-3,
)  # where no influences are asked for: of a step, and of what it moves the log odds of any row by
SMALL_STEP = 0.5  # log odds: steps below this cannot overshoot, and are taken without looking
MAX_CHORDS, CHORD_CLOSE = 20, 1e-6
RUNAWAY = 8  # full steps after which one that is still large belongs to an estimate without end
FEW = 24  # nuisance columns up to which every candidate gets its own nuisance block from the first step
STRONG = 1.0  # log odds ratio above which the nuisance block of the null model is not near enough for a variance
STALE = 0.1  # a step larger than this share of the one before: the information matrix has to be made anew


@dataclass(frozen=True)
class Task:
    """What all candidates share: outcome, nuisance columns, their ridge, cluster of each row."""

    y: Floats
    z: Floats
    penalty: Floats
    codes: Codes
    clustered: bool
    exact: bool
    null: Floats
    """Coefficients of the model without candidates."""
    influence: bool = True
    """Whether the influence of rows is asked for; without clusters most callers have no use for it."""

    @cached_property
    def pairs(self) -> Floats | None:
        """Products of all pairs of nuisance columns, where they are few enough to keep."""
        cells = len(self.z) * self.parameters * (self.parameters + 1) // 2
        return pair_products(self.z) if cells <= BLOCK_CELLS else None

    @cached_property
    def inverse(self) -> Floats | None:
        """Of the null model's information, where nuisance columns are many; None where they are few."""
        if self.parameters <= FEW:
            return None
        mu = expit(self.z @ self.null)
        return invert(gram(self.z, mu * (1 - mu)) + np.diag(self.penalty))

    @property
    def parameters(self) -> int:
        return self.z.shape[1]


@dataclass
class Block:
    """Some candidates: own columns (1 or 2, rows, candidates), the ridge on them, the nuisance column each repeats."""

    own: Floats
    ridge: Floats
    twins: Codes

    def part(self, chosen: NDArray | slice) -> Block:
        return Block(np.ascontiguousarray(self.own[:, :, chosen]), self.ridge[:, chosen], self.twins[chosen])


def newton(y: Floats, z: Floats, penalty: Floats, start: ArrayLike | None = None) -> tuple[Floats, bool]:
    """Coefficients of one penalised logistic regression, and whether they settled.

    The information matrix is kept as long as steps with it shrink fast (Shamanskii 1967): it is what costs.
    """
    theta = np.zeros(z.shape[1]) if start is None else np.array(start, dtype=float)
    inverse, before = None, np.inf
    for _ in range(MAX_STEPS):
        mu = expit(z @ theta)
        gradient = z.T @ (y - mu) - penalty * theta
        if inverse is None:
            inverse = invert(gram(z, mu * (1 - mu)) + np.diag(penalty))
        step = inverse @ gradient
        size = float(np.abs(z @ step).max(initial=0.0))
        if size > SMALL_STEP:
            loss = _loss(y, z @ theta, theta, penalty)
            for _ in range(10):
                if _loss(y, z @ (theta + step), theta + step, penalty) <= loss + 1e-10:
                    break
                step = step / 2
        theta = theta + step
        if np.abs(step).max(initial=0.0) < TOLERANCE:
            return theta, True
        if size > STALE * min(before, SMALL_STEP):
            inverse = None
        before = size
    return theta, False


def fit_block(task: Task, block: Block) -> tuple[Floats, Floats, Floats, Floats, Flags]:
    """Estimates, model-based variances, influences and leverages of clusters (clusters x candidates), and whether each
    converged."""
    if task.inverse is None:
        beta, variance, influence, leverage, converged = _finish(task, block, *_first_step(task, block))
    else:
        gamma, beta, variance, influence, leverage = _chord(task, block, task.inverse)
        converged = ~np.isnan(variance)
        todo = np.flatnonzero(~converged | task.exact | (np.abs(beta[0]) > STRONG))
        if len(todo):
            done = _finish(task, block.part(todo), gamma[:, todo], beta[:, todo])
            beta[:, todo], variance[todo], influence[:, todo], leverage[:, todo], converged[todo] = done
    if not task.influence:
        nothing = np.zeros((1, len(variance)))
        return beta[0], variance, nothing, nothing, converged
    shares = sum_by_cluster(leverage, task.codes) if task.clustered else np.zeros((1, len(variance)))
    return beta[0], variance, _by_cluster(task, block, influence), shares, converged


def score_alone(task: Task, block: Block) -> tuple[Floats, Floats]:
    """Score tests, each candidate at the null model without the column that repeats it: z_score, z_cluster."""
    gamma = _null_without(task, block.twins)
    beta = np.zeros(block.own.shape[::2])
    free = Block(block.own, beta, block.twins)  # a score test needs no prior
    (_, step), small, by_own, residual = _exact_step(task, free, gamma, beta, largest=np.inf)
    spread = np.sqrt(np.where(small[:, 0, 0] > 0, small[:, 0, 0], np.nan))
    if not task.clustered:
        return step[0] / spread, np.full(len(spread), np.nan)
    sums = _by_cluster(task, block, _left_of(task.z, free, small, by_own) * residual)
    clustered = np.sqrt((sums**2).sum(axis=0))
    return step[0] / spread, step[0] / np.where(clustered > NOTHING, clustered, np.nan)


def _by_cluster(task: Task, block: Block, influence: Floats) -> Floats:
    """Influences of rows summed by cluster, so that their squares sum to the cluster-robust variance."""
    scale = correction(task.codes.max() + 1, len(task.y), task.parameters + len(block.own)) if task.clustered else 1.0
    return sum_by_cluster(influence, task.codes) * np.sqrt(scale)


def _null_without(task: Task, twins: Codes) -> Floats:
    """Coefficients of the null model with one column left out, for every candidate: (p, candidates)."""
    has = np.flatnonzero(twins >= 0)
    gamma = np.repeat(task.null[:, None], len(twins), axis=1)
    gamma[twins[has], has] = 0
    for _ in range(MAX_CHORDS):
        if task.inverse is None:
            break
        gradient = task.z.T @ (task.y[:, None] - expit(task.z @ gamma)) - task.penalty[:, None] * gamma
        step = without_twin(task.inverse, gradient, twins)
        gamma += step
        if np.abs(step).max(initial=0.0) < CHORD_CLOSE:
            return gamma
    for j in has:
        keep = np.arange(task.parameters) != twins[j]
        gamma[keep, j] = newton(task.y, task.z[:, keep], task.penalty[keep], gamma[keep, j])[0]
    return gamma


def score_block(
    y: Floats, z: Floats, own: Floats, penalty: Floats, codes: Codes | None, start: ArrayLike | None
) -> pd.DataFrame:
    """Score tests at the null model: one_step, z_score, z_cluster."""
    null, _ = newton(y, z, penalty, start)
    reduced, schur, solved, residual = _projected(y, z, own, penalty, null)
    # The missing indicator is nuisance too: the candidate is tested given it.
    helped = schur[:, 0, 1] / np.maximum(schur[:, 1, 1], NOTHING) if len(own) == 2 else np.zeros(own.shape[2])
    score, variance = reduced[0], schur[:, 0, 0]
    if len(own) == 2:
        score, variance = score - helped * reduced[1], variance - helped * schur[:, 1, 0]
    variance = np.where(variance > NOTHING, variance, np.nan)
    spread = np.full(len(score), np.nan)
    if codes is not None:
        rest = own[0] - z @ solved[0]
        if len(own) == 2:
            rest = rest - helped * (own[1] - z @ solved[1])
        sums = sum_by_cluster(rest * residual[:, None], codes)
        spread = np.sqrt((sums**2).sum(axis=0) * correction(len(sums), len(y), z.shape[1] + len(own)))
    return pd.DataFrame(
        {
            "one_step": score / variance,
            "z_score": score / np.sqrt(variance),
            "z_cluster": score / np.where(spread > 1e-12, spread, np.nan),
        }
    )


def _projected(
    y: Floats, z: Floats, own: Floats, penalty: Floats, theta: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Scores and information of own columns once nuisance is projected out, its weights on them, and residuals."""
    mu = expit(z @ theta)
    weight, residual = mu * (1 - mu), y - mu
    weighted = z * weight[:, None]
    inverse = invert(gram(z, weight) + np.diag(penalty))
    both = np.vstack([weighted.T, residual])
    products = np.stack([both @ x for x in own])  # one pass over the columns
    cross, direct = products[:, :-1], products[:, -1]
    solved = np.stack([inverse @ c for c in cross])
    q = len(own)
    schur = np.empty((own.shape[2], q, q))
    for i in range(q):
        for j in range(i, q):
            schur[:, i, j] = schur[:, j, i] = weight @ (own[i] * own[j]) - np.einsum("pm,pm->m", cross[i], solved[j])
    reduced = direct - np.einsum("qpm,p->qm", solved, z.T @ residual - penalty * theta)
    return reduced, schur, solved, residual


def _first_step(task: Task, block: Block) -> tuple[Floats, Floats]:
    """Coefficients after one Newton step from the null model, for which no candidate needs a model of its own."""
    m = block.own.shape[2]
    gamma, beta = np.repeat(task.null[:, None], m, axis=1), np.zeros((len(block.own), m))
    alone = np.flatnonzero((block.twins < 0) & ~block.ridge.any(axis=0))
    if len(alone):
        part = block.own if len(alone) == m else block.own[:, :, alone]
        reduced, schur, solved, _ = _projected(task.y, task.z, part, task.penalty, task.null)
        beta[:, alone] = solve_small(schur, reduced)
        gamma[:, alone] -= np.einsum("qpm,qm->pm", solved, beta[:, alone])
    return gamma, beta


def _loss(y: Floats, eta: Floats, theta: Floats, penalty: Floats) -> float:
    return float(np.sum(np.logaddexp(0, eta) - y * eta) + 0.5 * np.sum(penalty * theta**2))


def _chord(task: Task, whole: Block, inverse: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Steps with the nuisance block of the null model throughout: coefficients, variances (NaN: not settled), influences
    and leverages of rows."""
    y, z, m = task.y, task.z, whole.own.shape[2]
    gamma, beta = np.repeat(task.null[:, None], m, axis=1), np.zeros((len(whole.own), m))
    has = np.flatnonzero(whole.twins >= 0)
    gamma[whole.twins[has], has] = 0
    variance, influence = np.full(m, np.nan), np.zeros((len(y), m))
    leverage = np.zeros((len(y) if task.clustered else 1, m))
    active = np.arange(m)
    for _ in range(MAX_CHORDS):
        block, b, g = whole.part(active), beta[:, active], gamma[:, active]
        mu = expit(_predictor(z, block.own, g, b))
        weight, residual = mu * (1 - mu), y[:, None] - mu
        gradient = z.T @ residual - task.penalty[:, None] * g
        weighted = [weight * x for x in block.own]
        cross = np.stack([z.T @ w for w in weighted])  # (q, p, active)
        solved = np.stack([without_twin(inverse, c, block.twins) for c in cross])
        schur = products_of(block.own, weighted, block.ridge) - np.einsum("qpm,rpm->mqr", cross, solved)
        right = np.stack([(x * residual).sum(axis=0) for x in block.own]) - block.ridge * b
        step = solve_small(schur, right - np.einsum("qpm,pm->qm", solved, gradient))
        step_gamma = without_twin(inverse, gradient, block.twins) - np.einsum("qpm,qm->pm", solved, step)
        gamma[:, active] += step_gamma
        beta[:, active] += step
        size = np.maximum(np.abs(step).max(axis=0), np.abs(step_gamma).max(axis=0, initial=0.0))
        done = size < CHORD_CLOSE
        if done.any():
            small = invert_small(schur[done])
            variance[active[done]] = small[:, 0, 0]
            rest = [x[:, done] - z @ solved[q][:, done] for q, x in enumerate(block.own)]
            left = np.asarray(sum(small[:, 0, q] * r for q, r in enumerate(rest)))
            influence[:, active[done]] = residual[:, done] * left
            if task.clustered:
                leverage[:, active[done]] = _leverage(weight[:, done], left, small)
        active = active[~done & (size < 1e3)]
        if not len(active):
            break
    return gamma, beta, variance, influence, leverage


def _leverage(weight: Floats, left: Floats, small: Floats) -> Floats:
    """Share of each row in what is known of a candidate's coefficient; the shares of a candidate sum to 1."""
    return weight * left**2 / np.maximum(small[:, 0, 0], NOTHING)


def _finish(task: Task, block: Block, gamma: Floats, beta: Floats) -> tuple[Floats, Floats, Floats, Floats, Flags]:
    """Full Newton steps from here: coefficients, variances, influences and leverages of rows, and which settled.

    Influences, and variances with them, are those before the last step, which is smaller than CLOSE. Variances alone follow
    the last step to first order, so that it may be as large as NEARLY.
    """
    gamma, beta, m = gamma.copy(), beta.copy(), beta.shape[1]
    gamma[block.twins[block.twins >= 0], np.flatnonzero(block.twins >= 0)] = 0
    converged, variance = np.zeros(m, dtype=bool), np.zeros(m)
    influence = np.zeros((len(task.y) if task.influence else 0, m))
    leverage = np.zeros((len(task.y) if task.influence and task.clustered else 1, m))
    todo = np.arange(m)
    for turn in range(MAX_STEPS):
        part = block.part(todo) if len(todo) < m else block
        steps, small, by_own, residual = _exact_step(task, part, gamma[:, todo], beta[:, todo])
        gamma[:, todo] += steps[0]
        beta[:, todo] += steps[1]
        size = np.maximum(np.abs(steps[1]).max(axis=0), np.abs(steps[0]).max(axis=0, initial=0.0))
        done = size < (CLOSE if task.influence else NEARLY)
        after = small[:, 0, 0].copy()
        if not task.influence and done.any():
            own = (steps[0][:, done], steps[1][:, done])
            after[done], moved = _variance_after(
                task, part.part(done), own, small[done], by_own[done], residual[:, done]
            )
            done[done] = moved < MOVED
        last = done | (turn == MAX_STEPS - 1)
        variance[todo[last]] = after[last]
        if task.influence and last.any():
            rest = residual[:, last]
            left = _left_of(task.z, part.part(last), small[last], by_own[last])
            influence[:, todo[last]] = left * rest
            if task.clustered:
                mu = task.y[:, None] - rest
                leverage[:, todo[last]] = _leverage(mu * (1 - mu), left, small[last])
        converged[todo[done]] = True
        todo = todo[~done & ((size < SMALL_STEP) | (turn < RUNAWAY))]
        if not len(todo):
            break
    return beta, variance, influence, leverage, converged


def _exact_step(
    task: Task, block: Block, gamma: Floats, beta: Floats, largest: float = LARGEST_STEP
) -> tuple[tuple[Floats, Floats], Floats, Floats, Floats]:
    """Newton step with each candidate's own nuisance block; the inverse of its own information; what nuisance explains
    of it (candidates, p, q); residuals."""
    z, own = task.z, block.own
    mu = expit(_predictor(z, own, gamma, beta))
    residual = task.y[:, None] - mu
    weight = np.multiply(mu, 1 - mu, out=mu)
    weighted = [weight * x for x in own]
    cross = np.stack([z.T @ w for w in weighted])  # (q, p, m)
    gradient = z.T @ residual - task.penalty[:, None] * gamma
    has = np.flatnonzero(block.twins >= 0)
    t = block.twins[has]
    cross[:, t, has], gradient[t, has] = 0, 0
    right = np.concatenate([cross, gradient[None]])  # (q + 1, p, m)
    if task.inverse is None:
        information = weighted_products(z, weight, task.pairs) + np.diag(task.penalty)
        information[has, t, :], information[has, :, t], information[has, t, t] = 0, 0, 1
        solved = solve_many(information, right.transpose(2, 1, 0))
    else:
        solved = solve_like(task.inverse, z, weight, task.penalty, right, block.twins).transpose(2, 1, 0)
    by_own, by_gradient = solved[:, :, :-1], solved[:, :, -1]
    schur = products_of(own, weighted, block.ridge) - np.einsum("qpm,mpr->mqr", cross, by_own)
    right = np.stack([np.einsum("ij,ij->j", x, residual) for x in own]) - block.ridge * beta
    step = solve_small(schur, right - np.einsum("qpm,mp->qm", cross, by_gradient), largest)
    step_gamma = by_gradient.T - np.einsum("mpq,qm->pm", by_own, step)
    return (step_gamma, step), invert_small(schur), by_own, residual


def _left_of(z: Floats, block: Block, small: Floats, by_own: Floats) -> Floats:
    """The candidate less what the nuisance columns explain of it, over its information: (rows, candidates)."""
    left = 0.0
    for q, x in enumerate(block.own):
        part = x - z @ by_own[:, :, q].T
        part *= small[:, 0, q]
        left = left + part if q else part
    return np.asarray(left)


def _variance_after(
    task: Task, block: Block, steps: tuple[Floats, Floats], small: Floats, by_own: Floats, residual: Floats
) -> tuple[Floats, Floats]:
    """Variances once the step is taken, to first order in it, and the most it moves the log odds of a row.

    What nuisance explains of the candidate minimises what is left of it, so that to this order only the rows' weights move.
    """
    moves = _predictor(task.z, block.own, *steps)
    moved = np.maximum(moves.max(axis=0), -moves.min(axis=0))
    mu = task.y[:, None] - residual
    moves *= mu
    np.subtract(1, mu, out=mu)
    moves *= mu
    mu *= 2
    mu -= 1
    moves *= mu  # the change of each weight, mu (1 - mu)
    left = _left_of(task.z, block, small, by_own)
    return small[:, 0, 0] - np.einsum("ij,ij,ij->j", moves, left, left), moved


def _predictor(z: Floats, own: Floats, gamma: Floats, beta: Floats) -> Floats:
    """Log odds per row and candidate."""
    eta = z @ gamma
    for x, b in zip(own, beta, strict=True):
        eta += x * b
    return eta
