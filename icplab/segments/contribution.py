"""Reads a segmentation, accounts and the catalogue, makes what each kind of trait contributes to telling the segments apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.assign import frozen_kinds, model_of
from icplab.segments.blocks import Blocks, read_blocks
from icplab.segments.fit import Segmentation
from icplab.segments.mixture import Market, posterior

NEED_ROLES = ("need", "use_case")
COLUMNS = ("block", "traits", "share", "alone", "moved_without")


def measure_blocks(segmentation: Segmentation, accounts: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    """How much firmographic, technographic, behavioural traits and needs tell the segments apart, each block as a whole.

    Parameters
    ----------
    segmentation : result of `fit_segments`
    accounts : account table; reads account_id and the traits of the recipe
    catalogue : reads trait, family and role

    Returns
    -------
    One row per block, the strongest first: block, traits (variables that entered; each tool counts), share (of what all blocks
    contribute; sums to 1), alone (of the accounts, those that the block alone would put into their segment; the largest
    segment's share where it tells nothing), moved_without (of the accounts, those that would sit in another segment if the
    block were unknown). Empty unless the segments come from a mixture.

    Notes
    -----
    A block's contribution is the mean information about membership that it holds by itself: the Kullback–Leibler
    divergence of the membership it gives an account from the segments' shares. Blocks that say the same thing each count
    with all they say, so a block can have a large share and move nobody.
    """
    assigner = segmentation.assigner
    if assigner["kind"] != "mixture":
        return pd.DataFrame({c: pd.Series([], dtype="str" if c == "block" else "float64") for c in COLUMNS})
    from threadpoolctl import threadpool_limits

    frame = accounts.sort_values("account_id", ignore_index=True)
    member = segmentation.assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)
    placed = np.flatnonzero(member != UNASSIGNED)
    with threadpool_limits(1):
        everything = read_blocks(assigner["recipe"], frame).take(placed)
        own = pd.Index(assigner["ids"]).get_indexer(pd.Index(member[placed]))
        numbers, discrete = _blocks_of(assigner["recipe"], catalogue)
        rows = [
            _row(block, assigner, everything, own, numbers == block, discrete == block)
            for block in sorted({*numbers, *discrete})
        ]
    table = pd.DataFrame(rows, columns=[*COLUMNS[:2], "information", *COLUMNS[3:]])
    share = (table["information"] / max(table["information"].sum(), 1e-12)).round(4)
    table = table.drop(columns="information").assign(share=share)[list(COLUMNS)].astype({"block": "str"})
    return table.sort_values(["share", "block"], ascending=[False, True], ignore_index=True)


def say_blocks(table: pd.DataFrame) -> str:
    """The table in one sentence; empty without blocks."""
    if table.empty:
        return ""
    parts = [f"{row['block']} {row['share']:.0%}" for row in table.to_dict("records")]
    most = table.sort_values(["moved_without", "block"], ascending=[False, True]).iloc[0]
    return (
        f"Of what tells the segments apart, {', '.join(parts)}. Without {most['block']} traits {most['moved_without']:.0%} of the"
        " accounts would sit in another segment."
    )


def _blocks_of(recipe: Mapping, catalogue: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Block of each number and of each discrete variable."""
    known = catalogue.drop_duplicates("trait").set_index("trait")
    block = known["family"].astype("str").where(~known["role"].isin(NEED_ROLES), "needs").to_dict()
    numbers, discrete = (
        np.array([block.get(e["trait"], "firmographic") for e in recipe[part]], dtype=object)
        for part in ("numbers", "discrete")
    )
    return numbers, discrete


def _row(
    block: str, assigner: Mapping, everything: Blocks, own: np.ndarray, numbers: np.ndarray, discrete: np.ndarray
) -> tuple[str, int, float, float, float]:
    weight = np.array(assigner["weight"], dtype=float)
    alone = _membership(assigner, everything, ~numbers, ~discrete)
    without = _membership(assigner, everything, numbers, discrete)
    information = float((alone * np.log(np.maximum(alone, 1e-12) / weight)).sum(axis=1).mean())
    right = round(float((alone.argmax(axis=1) == own).mean()), 4)
    moved = round(float((without.argmax(axis=1) != own).mean()), 4)
    return block, int(numbers.sum() + discrete.sum()), max(information, 0.0), right, moved


def _membership(assigner: Mapping, blocks: Blocks, numbers: np.ndarray, discrete: np.ndarray) -> np.ndarray:
    """(n, k) memberships with some variables read as unknown."""
    x = blocks.numbers.copy()
    x[:, numbers] = np.nan
    levels = blocks.levels * ~discrete[blocks.variable] if len(blocks.variable) else blocks.levels
    hidden = replace(blocks, numbers=x, levels=levels)
    return posterior(Market(hidden, listed=frozen_kinds(assigner)), model_of(assigner))
