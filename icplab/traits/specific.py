"""Reads the whole market's scope, makes how far the effect of each level in a segment differs from that in the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.stats.mixtures import fit_normal_mixture
from icplab.traits.adjust import Coded, Nuisance
from icplab.traits.levels import TREND
from icplab.traits.scopes import Scope

Floats = NDArray[np.floating]
Fit = Callable[[Scope, Floats, Nuisance, Floats, NDArray[np.intp] | None], tuple[pd.DataFrame, Floats]]
Prepare = Callable[[Scope, list[Coded]], tuple[Nuisance, NDArray[np.intp] | None]]

# Segment-specific: probability that the log ratio in a segment differs from that elsewhere by more than this.
DIFFERENT, SURE = np.log(1.25), 0.90
# Differences are idle or real: widths of their priors, and the share of real ones that is taken for granted at least.
IDLE, REAL, LEAST_SHARE = 0.05, 0.70, 0.05
CELLS = 2_000_000  # rows times columns fitted at once (16 MB)
COLUMNS = ["trait", "level", "scope", "difference", "difference_se"]


def measure_differences(
    scope: Scope, groups: Sequence[list[Coded]], prepare: Prepare, fit: Fit, asked: set[tuple[str, str, str]]
) -> pd.DataFrame:
    """Difference in log ratio between a segment and the rest, in one model of the whole market.

    The level enters twice: by itself, and times the probability that the account belongs to the segment. Probabilities instead
    of labels keep accounts between two segments from watering the difference down, and everything else is held equal with all
    observations. `prepare` gives the nuisance of a group of levels, `fit` the effects; `asked` are the (trait, level, segment)
    wanted.

    Returns one row per level asked for, trends left out: trait, level, scope, difference, difference_se.
    """
    tables = []
    for group in groups:
        names = [(c.trait.name, level) for c in group for level in c.trait.levels]
        wanted = [
            (j, k)
            for k, segment in enumerate(scope.segments)
            for j, name in enumerate(names)
            if name[1] != TREND and (*name, segment) in asked
        ]
        if not wanted:
            continue
        nuisance, twin = prepare(scope, group)
        x = np.hstack([c.x for c in group])
        most = max(1, CELLS // max(len(x), 1))  # fitted at once: they share the model without the level
        for start in range(0, len(wanted), most):
            column, segment = np.array(wanted[start : start + most]).T
            twins = None if twin is None else twin[column]
            fits, _ = fit(scope, x[:, column] * scope.soft[:, segment], nuisance, x[:, column], twins)
            named = [(*names[j], scope.segments[k]) for j, k in wanted[start : start + most]]
            tables.append(_differences(named, fits))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def _differences(named: list[tuple[str, str, str]], fits: pd.DataFrame) -> pd.DataFrame:
    """Estimates with their errors; no error where the estimate ran away."""
    usable = fits["converged"].to_numpy(dtype=bool) & ~fits["separated"].to_numpy(dtype=bool)
    table = pd.DataFrame(named, columns=["trait", "level", "scope"])
    se = fits["se"].where(usable).to_numpy(dtype=float)
    return table.assign(difference=fits["estimate"].to_numpy(dtype=float), difference_se=se)


def flag_specific(rows: pd.DataFrame) -> pd.Series:
    """Rows of a segment whose effect differs from that in the others with probability SURE.

    Differences are either idle (normal, IDLE wide) or real (normal, REAL wide); the share of real ones is estimated from all
    differences of the outcome, which is the partial pooling, and is LEAST_SHARE at least.
    """
    flagged = pd.Series(False, index=rows.index)
    usable = rows["enough"].astype(bool) & rows["difference"].notna() & (rows["difference_se"] > 0)
    for _, part in rows[usable].groupby("outcome", sort=True):
        difference = part["difference"].to_numpy(dtype=float)
        noise = part["difference_se"].to_numpy(dtype=float) ** 2
        share = max(float(fit_normal_mixture(difference, noise, (IDLE, REAL))[1]), LEAST_SHARE)
        real = _chance(difference, noise, share)
        far = _beyond(difference, noise, REAL) * real + _beyond(difference, noise, IDLE) * (1 - real)
        flagged.loc[part.index[far >= SURE]] = True
    return flagged


def _chance(difference: Floats, noise: Floats, share: float) -> Floats:
    """Probability that a difference is real rather than idle."""
    wide, narrow = noise + REAL**2, noise + IDLE**2
    log_odds = 0.5 * (np.log(narrow / wide) + difference**2 * (1 / narrow - 1 / wide)) + np.log(share / (1 - share))
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


def _beyond(difference: Floats, noise: Floats, prior: float) -> Floats:
    """Posterior probability that a difference exceeds DIFFERENT in size, under a normal prior."""
    from scipy import special

    pull = prior**2 / (prior**2 + noise)
    mean, spread = difference * pull, np.sqrt(noise * pull)
    return special.ndtr((mean - DIFFERENT) / spread) + special.ndtr((-DIFFERENT - mean) / spread)
