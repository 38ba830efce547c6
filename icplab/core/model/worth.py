"""Reads a model and accounts, makes points, win probability and money of each, and their draws under uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from icplab.core.model.card import Input, Model, Value
from icplab.core.model.levels import points_of, weights_of


def account_points(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Total of the card per account."""
    total = np.full(len(accounts), model.base_points, dtype="int64")
    for item in model.inputs:
        total += points_of(item, accounts)
    return total


def opportunity_points(model: Model, opportunities: pd.DataFrame, accounts: pd.DataFrame) -> np.ndarray:
    """Total of the opportunity card per row; `accounts` holds the account of each row, with the motion of that row."""
    total = np.full(len(opportunities), model.opportunity_base, dtype="int64")
    for item in model.opportunity_inputs:
        total += points_of(item, accounts if item.table == "accounts" else opportunities)
    return total


def win_probability(model: Model, points: np.ndarray, *, opportunity: bool = False) -> np.ndarray:
    """Probability of winning within the horizon for a total of points; the base rate where nothing ranks."""
    intercept, slope = model.opportunity_calibration if opportunity else model.calibration
    ranks = bool(model.opportunity_inputs) if opportunity else model.usable
    if not ranks:
        return np.full(len(points), np.nan if model.base_rate is None else model.base_rate)
    return 1 / (1 + np.exp(-(intercept + slope * points)))


def value_of(value: Value, accounts: pd.DataFrame) -> np.ndarray:
    """Expected value of a won opportunity per account, in the reporting currency; NaN when nothing was measured.

    Where membership is a probability the money is averaged over the segments, not its logarithm.
    """
    if value.basis == "not_measured":
        return np.full(len(accounts), np.nan)
    return _worth(value, accounts, np.zeros((1, sum(len(i.levels) + 1 for i in value.inputs))))[:, 0]


def probability_draws(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: win probability under each draw of the uncertain points."""
    shift = np.asarray(model.draws["points"])
    total = account_points(model, accounts)[:, None] + _shifts(model.inputs, shift, accounts)
    intercept, slope = model.calibration
    return 1 / (1 + np.exp(-(intercept + slope * total)))


def expected_value_draws(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: expected value under each draw of the uncertain points and values."""
    probability = probability_draws(model, accounts)
    if model.value.basis == "not_measured":
        return probability
    return probability * _worth(model.value, accounts, np.asarray(model.draws["value"]))


def _worth(value: Value, accounts: pd.DataFrame, draws: np.ndarray) -> np.ndarray:
    """Accounts × draws: money over the horizon, with the effects moved by each draw."""
    log = np.full((len(accounts), len(draws)), value.intercept)
    shares, by_segment, keep = _keep(value, accounts)
    at = 0
    for item in value.inputs:
        wide = len(item.levels) + 1
        effects = np.array([*item.points, item.missing])[:, None] + draws[:, at : at + wide].T
        weights = weights_of(item, accounts)
        if item.kind == "posterior":
            shares, by_segment = weights, effects
            keep = np.array(
                [*(value.keep.get(k, value.keep.get("", 1.0)) for k in item.levels), value.keep.get("", 1.0)]
            )
        else:
            log += weights @ effects
        at += wide
    base = np.exp(log) * value.smearing * value.margin
    return base * (shares @ (np.exp(by_segment) * keep[:, None])) - value.cost_per_year * (shares @ keep)[:, None]


def _keep(value: Value, accounts: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hard segments as shares (one 1 per row), no effect of their own, and discounted years kept of each."""
    names = [k for k in value.keep if k]
    codes = (
        pd.Index(names).get_indexer(pd.Index(accounts["segment_id"].astype("str")))
        if names
        else np.full(len(accounts), -1)
    )
    shares = np.zeros((len(accounts), len(names) + 1))
    shares[np.arange(len(accounts)), codes] = 1.0  # unknown segments are -1: the whole market stands last
    keep = np.array([*(value.keep[k] for k in names), value.keep.get("", 1.0)])
    return shares, np.zeros((len(names) + 1, 1)), keep


def _shifts(inputs: tuple[Input, ...], draws: np.ndarray, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: by how much each draw moves each account. `draws` is draws × levels of all inputs."""
    total = np.zeros((len(accounts), draws.shape[0]))
    at = 0
    for item in inputs:
        wide = len(item.levels) + 1
        total += weights_of(item, accounts) @ draws[:, at : at + wide].T
        at += wide
    return total
