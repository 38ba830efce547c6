"""Reads the blocks and a label per account, makes how much better the market is described by those groups than by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icplab.segments.blocks import Blocks
from icplab.segments.design import Market
from icplab.segments.em import iterate


def gain_of_labels(blocks: Blocks, label: np.ndarray, ids: Sequence[str]) -> float:
    """Penalised log likelihood per account of the groups named, over one single group.

    Parameters
    ----------
    blocks : the market
    label : (n,) group of each account; accounts of no group in `ids` are left out
    ids : the groups

    Notes
    -----
    The types' parameters are those of the groups as given: one M step, no refit. So a segmentation that ignores what the
    accounts are gains nothing, whoever made it.
    """
    from threadpoolctl import threadpool_limits

    placed = np.isin(label, list(ids))
    if placed.sum() < 2 or len(ids) < 2:
        return float("nan")
    market = Market(blocks.take(np.flatnonzero(placed)))
    member = (label[placed][market.order][None, :] == np.array(list(ids), dtype=object)[:, None]).astype(float)
    with threadpool_limits(1):  # sums come out the same whatever the machine
        several = iterate(market, member[None], 1, 0.0).score[0]
        one = iterate(market, np.ones((1, 1, market.n)), 30, 1e-4).score[0]
    return float((several - one) / market.total)
