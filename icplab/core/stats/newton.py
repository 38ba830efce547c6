"""Reads designs and outcomes as arrays, makes Newton steps: one logistic regression, or hundreds that share nuisance columns.

The kernels behind `logistic`. Candidates share the nuisance columns, so each needs only its own border of the information
matrix: iterations keep the nuisance block of the null model (a chord step), and exact steps are left for the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Codes = NDArray[np.intp]

MAX_STEPS = 40
TOLERANCE = 1e-9  # largest change of a coefficient at which a fit has converged
CLOSE = 1e-5  # size of a full Newton step that leaves an error of its square
SMALL_STEP = 0.5  # log odds: steps below this cannot overshoot, and are taken without looking
MAX_CHORDS, CHORD_CLOSE = 20, 1e-6
LARGEST_STEP = 2.0  # in log odds: keeps early steps of strong effects from overshooting
FEW = 24  # nuisance columns up to which every candidate gets its own nuisance block from the first step
NOTHING = 1e-9  # information below which a column says nothing
STRONG = 1.0  # log odds ratio above which the nuisance block of the null model is not near enough for a variance
BLOCK_CELLS = 2_000_000  # cells of the pairwise design products held at once (16 MB)


@dataclass(frozen=True)
class Task:
    """What all candidates share: outcome, nuisance columns, their ridge, cluster of each row."""

    y: Floats
    z: Floats
    penalty: Floats
    codes: Codes
    clustered: bool
    exact: bool
    influence: bool = True
    """Whether the influence of rows is asked for; without clusters most callers have no use for it."""

    @property
    def parameters(self) -> int:
        return self.z.shape[1]


@dataclass
class Block:
    """Some candidates: own columns (1 or 2, rows, candidates), the ridge on them, the nuisance column each repeats."""

    own: Floats
    ridge: Floats
    twins: Codes

    def part(self, chosen: NDArray) -> Block:
        return Block(self.own[:, :, chosen], self.ridge[:, chosen], self.twins[chosen])


def newton(y: Floats, z: Floats, penalty: Floats, start: ArrayLike | None = None) -> tuple[Floats, bool]:
    """Coefficients of one penalised logistic regression, and whether they settled."""
    theta = np.zeros(z.shape[1]) if start is None else np.array(start, dtype=float)
    for _ in range(MAX_STEPS):
        mu = expit(z @ theta)
        gradient = z.T @ (y - mu) - penalty * theta
        step = _solve((z * (mu * (1 - mu))[:, None]).T @ z + np.diag(penalty), gradient)
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
    return theta, False


def fit_block(task: Task, block: Block, null: Floats) -> tuple[Floats, Floats, Floats, Flags]:
    """Estimates, model-based variances, cluster influences (clusters x candidates) and whether each converged."""
    if task.parameters <= FEW:
        beta, variance, influence, converged = _finish(task, block, *_first_step(task, block, null))
    else:
        gamma, beta, variance, influence = _chord(task, block, null)
        converged = ~np.isnan(variance)
        todo = np.flatnonzero(~converged | task.exact | (np.abs(beta[0]) > STRONG))
        if len(todo):
            done = _finish(task, block.part(todo), gamma[:, todo], beta[:, todo])
            beta[:, todo], variance[todo], influence[:, todo], converged[todo] = done
    if not task.influence:
        return beta[0], variance, np.zeros((1, len(variance))), converged
    scale = correction(task.codes.max() + 1, len(task.y), task.parameters + len(block.own)) if task.clustered else 1.0
    return beta[0], variance, sum_by_cluster(influence, task.codes) * np.sqrt(scale), converged


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
    inverse = invert(weighted.T @ z + np.diag(penalty))
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


def _first_step(task: Task, block: Block, null: Floats) -> tuple[Floats, Floats]:
    """Coefficients after one Newton step from the null model, for which no candidate needs a model of its own."""
    m = block.own.shape[2]
    gamma, beta = np.repeat(null[:, None], m, axis=1), np.zeros((len(block.own), m))
    alone = np.flatnonzero((block.twins < 0) & ~block.ridge.any(axis=0))
    if len(alone):
        part = block.own if len(alone) == m else block.own[:, :, alone]
        reduced, schur, solved, _ = _projected(task.y, task.z, part, task.penalty, null)
        beta[:, alone] = _solve_small(schur, reduced)
        gamma[:, alone] -= np.einsum("qpm,qm->pm", solved, beta[:, alone])
    return gamma, beta


def expit(eta: Floats) -> Floats:
    """Logistic function, safe for large arguments."""
    odds = np.negative(eta)
    with np.errstate(over="ignore"):  # an infinite number of odds against is a probability of nought
        np.exp(odds, out=odds)
    odds += 1
    return np.reciprocal(odds, out=odds)


def invert(matrix: Floats) -> Floats:
    """Inverse; the pseudo-inverse where columns repeat each other."""
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True)
    return inverse if np.abs(inverse).max() < 1e8 else np.linalg.pinv(matrix, hermitian=True)


def sum_by_cluster(rows: Floats, codes: Codes) -> Floats:
    """Sums of rows by cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def correction(groups: int, n: int, parameters: int) -> float:
    """Finite-sample factor of the cluster-robust covariance (as statsmodels and Stata use it)."""
    return groups / (groups - 1) * (n - 1) / max(n - parameters, 1) if groups > 1 else np.nan


def _loss(y: Floats, eta: Floats, theta: Floats, penalty: Floats) -> float:
    return float(np.sum(np.logaddexp(0, eta) - y * eta) + 0.5 * np.sum(penalty * theta**2))


def _solve(matrix: Floats, right: Floats) -> Floats:
    """Solution; the smallest one where columns repeat each other."""
    try:
        solution = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True) @ right
    return solution if np.abs(solution).max() < 1e8 else np.linalg.pinv(matrix, hermitian=True) @ right


def _chord(task: Task, whole: Block, null: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Steps with the nuisance block of the null model throughout: coefficients, variances (NaN: not settled), influences."""
    y, z, m = task.y, task.z, whole.own.shape[2]
    mu = expit(z @ null)
    inverse = invert((z * (mu * (1 - mu))[:, None]).T @ z + np.diag(task.penalty))
    gamma, beta = np.repeat(null[:, None], m, axis=1), np.zeros((len(whole.own), m))
    has = np.flatnonzero(whole.twins >= 0)
    gamma[whole.twins[has], has] = 0
    variance, influence = np.full(m, np.nan), np.zeros((len(y), m))
    active = np.arange(m)
    for _ in range(MAX_CHORDS):
        block, b, g = whole.part(active), beta[:, active], gamma[:, active]
        mu = expit(_predictor(z, block.own, g, b))
        weight, residual = mu * (1 - mu), y[:, None] - mu
        gradient = z.T @ residual - task.penalty[:, None] * g
        cross = np.stack([z.T @ (weight * x) for x in block.own])  # (q, p, active)
        solved = np.stack([_without_twin(inverse, c, block.twins) for c in cross])
        schur = _own_information(block.own, weight, block.ridge) - np.einsum("qpm,rpm->mqr", cross, solved)
        right = np.stack([(x * residual).sum(axis=0) for x in block.own]) - block.ridge * b
        step = _solve_small(schur, right - np.einsum("qpm,pm->qm", solved, gradient))
        step_gamma = _without_twin(inverse, gradient, block.twins) - np.einsum("qpm,qm->pm", solved, step)
        gamma[:, active] += step_gamma
        beta[:, active] += step
        size = np.maximum(np.abs(step).max(axis=0), np.abs(step_gamma).max(axis=0, initial=0.0))
        done = size < CHORD_CLOSE
        if done.any():
            small = _invert_small(schur[done])
            variance[active[done]] = small[:, 0, 0]
            rest = [x[:, done] - z @ solved[q][:, done] for q, x in enumerate(block.own)]
            influence[:, active[done]] = residual[:, done] * sum(small[:, 0, q] * r for q, r in enumerate(rest))
        active = active[~done & (size < 1e3)]
        if not len(active):
            break
    return gamma, beta, variance, influence


def _finish(task: Task, block: Block, gamma: Floats, beta: Floats) -> tuple[Floats, Floats, Floats, Flags]:
    """Full Newton steps from here: coefficients, variances, row influences, and which settled.

    Variances and influences are those before the last step, which is smaller than CLOSE.
    """
    gamma, beta, m = gamma.copy(), beta.copy(), beta.shape[1]
    gamma[block.twins[block.twins >= 0], np.flatnonzero(block.twins >= 0)] = 0
    converged, variance = np.zeros(m, dtype=bool), np.zeros(m)
    influence = np.zeros((len(task.y) if task.influence else 0, m))
    todo = np.arange(m)
    for turn in range(MAX_STEPS):
        part = block.part(todo) if len(todo) < m else block
        steps, small, by_own, residual = _exact_step(task, part, gamma[:, todo], beta[:, todo])
        gamma[:, todo] += steps[0]
        beta[:, todo] += steps[1]
        size = np.maximum(np.abs(steps[1]).max(axis=0), np.abs(steps[0]).max(axis=0, initial=0.0))
        done = size < CLOSE
        last = done | (turn == MAX_STEPS - 1)
        variance[todo[last]] = small[last, 0, 0]
        if task.influence and last.any():
            influence[:, todo[last]] = _influence(task.z, part.part(last), small[last], by_own[last], residual[:, last])
        converged[todo[done]] = True
        todo = todo[~done]
        if not len(todo):
            break
    return beta, variance, influence, converged


def _exact_step(
    task: Task, block: Block, gamma: Floats, beta: Floats
) -> tuple[tuple[Floats, Floats], Floats, Floats, Floats]:
    """Newton step with each candidate's own nuisance block; the inverse of its own information; what nuisance explains
    of it (candidates, p, q); residuals."""
    z, own = task.z, block.own
    mu = expit(_predictor(z, own, gamma, beta))
    residual = task.y[:, None] - mu
    weight = np.multiply(mu, 1 - mu, out=mu)
    information = _weighted_products(z, weight) + np.diag(task.penalty)
    weighted = [weight * x for x in own]
    cross = np.stack([z.T @ w for w in weighted])  # (q, p, m)
    gradient = z.T @ residual - task.penalty[:, None] * gamma
    has = np.flatnonzero(block.twins >= 0)
    t = block.twins[has]
    information[has, t, :], information[has, :, t], information[has, t, t] = 0, 0, 1
    cross[:, t, has], gradient[t, has] = 0, 0
    solved = _solve_many(information, np.concatenate([cross.transpose(2, 1, 0), gradient.T[:, :, None]], axis=2))
    by_own, by_gradient = solved[:, :, :-1], solved[:, :, -1]
    schur = _products(own, weighted, block.ridge) - np.einsum("qpm,mpr->mqr", cross, by_own)
    right = np.stack([np.einsum("ij,ij->j", x, residual) for x in own]) - block.ridge * beta
    step = _solve_small(schur, right - np.einsum("qpm,mp->qm", cross, by_gradient))
    step_gamma = by_gradient.T - np.einsum("mpq,qm->pm", by_own, step)
    return (step_gamma, step), _invert_small(schur), by_own, residual


def _influence(z: Floats, block: Block, small: Floats, by_own: Floats, residual: Floats) -> Floats:
    """Influence of each row on the candidates' coefficients: what is left of the candidate, times the residual."""
    influence = np.zeros_like(residual)
    for q, x in enumerate(block.own):  # the candidate less what the nuisance columns explain of it
        influence += small[:, 0, q] * (x - z @ by_own[:, :, q].T)
    return influence * residual


def _predictor(z: Floats, own: Floats, gamma: Floats, beta: Floats) -> Floats:
    """Log odds per row and candidate."""
    eta = z @ gamma
    for x, b in zip(own, beta, strict=True):
        eta += x * b
    return eta


def _without_twin(inverse: Floats, columns: Floats, twins: Codes) -> Floats:
    """Inverse of the nuisance block times columns, the twin of each candidate taken out (a rank-one downdate)."""
    product = inverse @ columns
    has = np.flatnonzero(twins >= 0)
    t = twins[has]
    product[:, has] -= inverse[:, t] * (product[t, has] / inverse[t, t])
    return product


def _weighted_products(z: Floats, weight: Floats) -> Floats:
    """Z' diag(w_j) Z for every column w_j: (candidates, p, p).

    Many candidates: from the products of pairs of columns, half the arithmetic. Few: one product each.
    """
    p = z.shape[1]
    if weight.shape[1] < p:
        return np.stack([(z * w[:, None]).T @ z for w in weight.T])
    left, right = np.triu_indices(p)
    flat = np.zeros((weight.shape[1], len(left)))
    size = max(1, BLOCK_CELLS // max(len(left), 1))
    for start in range(0, len(z), size):
        rows = z[start : start + size]
        flat += weight[start : start + size].T @ (rows[:, left] * rows[:, right])
    full = np.empty((weight.shape[1], p, p))
    full[:, left, right] = flat
    full[:, right, left] = flat
    return full


def _own_information(own: Floats, weight: Floats, ridge: Floats) -> Floats:
    """Information of the candidates' own columns: (candidates, q, q)."""
    return _products(own, [weight * x for x in own], ridge)


def _products(own: Floats, weighted: list[Floats], ridge: Floats) -> Floats:
    """Sums of products of own columns with weighted ones, and the ridge: (candidates, q, q)."""
    q = len(own)
    information = np.empty((own.shape[2], q, q))
    for i in range(q):
        for j in range(i, q):
            information[:, i, j] = information[:, j, i] = np.einsum("ij,ij->j", weighted[i], own[j])
    index = np.arange(q)
    information[:, index, index] += ridge.T
    return information


def _solve_many(matrices: Floats, right: Floats) -> Floats:
    """Batched solution; falls back to the pseudo-inverse where columns repeat each other."""
    try:
        solution = np.linalg.solve(matrices, right)
        if np.abs(solution).max(initial=0.0) < 1e8:
            return solution
    except np.linalg.LinAlgError:
        pass
    return np.linalg.pinv(matrices, hermitian=True) @ right


def _solve_small(schur: Floats, right: Floats) -> Floats:
    """Steps of the own coefficients, of at most LARGEST_STEP; 0 where the column holds no information."""
    step = np.einsum("mqr,rm->qm", _invert_small(schur), right)
    return step * np.minimum(1, LARGEST_STEP / np.maximum(np.abs(step).max(axis=0), 1e-300))


def _invert_small(schur: Floats) -> Floats:
    """Inverses of (candidates, q, q), q at most 2; a column without information (constant, or all zero) gets zeros."""
    first = schur[:, 0, 0]
    if schur.shape[1] == 1:
        return np.where(first > NOTHING, 1 / np.maximum(first, NOTHING), 0.0)[:, None, None]
    second, mixed = schur[:, 1, 1], schur[:, 0, 1]
    slope = np.where(second > NOTHING, mixed / np.maximum(second, NOTHING), 0.0)
    rest = first - slope * mixed
    top = np.where(rest > NOTHING, 1 / np.maximum(rest, NOTHING), 0.0)
    inverse = np.empty_like(schur)
    inverse[:, 0, 0] = top
    inverse[:, 0, 1] = inverse[:, 1, 0] = -slope * top
    inverse[:, 1, 1] = np.where(second > NOTHING, 1 / np.maximum(second, NOTHING), 0.0) + slope**2 * top
    return inverse
