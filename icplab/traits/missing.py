"""Reads an outcome and who is known to have a level, makes the band an effect moves in if blanks are not blank at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Odds of the level among unknown won records against known won ones, and the inverse among lost: twice is a strong claim.
DELTA = np.log(2)
HALF = 0.5  # added to each cell, so that an empty one has a logarithm


def missing_shifts(y: Floats, has: NDArray[np.bool_], known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """How far a log odds ratio moves when blanks hide the level in the least and in the most favourable way.

    Parameters
    ----------
    y
        0/1 per row.
    has, known
        Rows by levels.

    Returns
    -------
    tuple
        Two arrays, one number per level, at most 0 and at least 0. Both are 0 where nothing is unknown.

    Notes
    -----
    Delta adjustment of a pattern mixture (Little 1993, JASA 88(421)): among unknown won records the odds of the level are
    those among the known ones times exp(±DELTA), among unknown lost ones times exp(∓DELTA). Blanks like the rest: no shift.
    """
    sides = [y == 1, y == 0]
    with_it = np.array([has[s].sum(axis=0) for s in sides]) + HALF
    without = np.array([(known[s] & ~has[s]).sum(axis=0) for s in sides]) + HALF
    unknown = np.array([(~known[s]).sum(axis=0) for s in sides], dtype=float)
    plain = _log_ratio(with_it, without)
    ends = []
    for turn in (-1, 1):
        odds = with_it / without * np.exp(turn * DELTA * np.array([[1.0], [-1.0]]))
        share = odds / (1 + odds)
        ends.append(_log_ratio(with_it + unknown * share, without + unknown * (1 - share)) - plain)
    return ends[0], ends[1]


def _log_ratio(with_it: Floats, without: Floats) -> Floats:
    logs = np.log(with_it) - np.log(without)
    return logs[0] - logs[1]
