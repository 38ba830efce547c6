"""Reads a frozen assigner of plain values and accounts, makes the segment of each account again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import Blocks, read_blocks
from icplab.segments.mixture import Market, Mixture, posterior

EXACT_NUMBERS = 5  # numbers up to which every pattern of known ones is told apart by the assigner
DECIMALS = 6  # of memberships: beyond them only the solver's noise differs
UNASSIGNED_NAME = "too little data"


def assign_segments(assigner: Mapping, accounts: pd.DataFrame, catalogue: pd.DataFrame | None = None) -> pd.DataFrame:
    """The segment of each account under a frozen assigner; on the accounts it was fitted to, exactly the fitted one.

    Parameters
    ----------
    assigner : `Segmentation.assigner`, or the same read back from JSON
    accounts : account table; trait columns that are missing altogether are read as unknown
    catalogue : not needed; the assigner carries its own recipe

    Returns
    -------
    Artefact `account_segments`, sorted by account_id.
    """
    return assignments_of(assigner, posteriors_of(assigner, accounts))


def posteriors_of(assigner: Mapping, accounts: pd.DataFrame) -> pd.DataFrame:
    """account_id and the probability of each segment, null where too little is known, sorted by account_id."""
    from threadpoolctl import threadpool_limits

    frame = _with_traits(assigner["recipe"], accounts)
    with threadpool_limits(1):
        blocks = read_blocks(assigner["recipe"], frame)
        probability = _PROBABILITY[assigner["kind"]](assigner, blocks, frame).round(DECIMALS)
    table = pd.DataFrame(probability, columns=list(assigner["ids"]))
    table.insert(0, "account_id", pd.Series(blocks.account_id, dtype="str"))
    return table


def assignments_of(assigner: Mapping, posteriors: pd.DataFrame) -> pd.DataFrame:
    probability = posteriors[list(assigner["ids"])].to_numpy()
    known = ~np.isnan(probability).any(axis=1)
    best = np.where(known, np.nan_to_num(probability).argmax(axis=1), -1)
    ids = np.append(np.array(assigner["ids"], dtype=object), UNASSIGNED)[best]
    names = np.append(np.array(assigner["names"], dtype=object), UNASSIGNED_NAME)[best]
    return pd.DataFrame(
        {
            "account_id": posteriors["account_id"],
            "segment_id": pd.Series(ids, dtype="str"),
            "segment": pd.Series(names, dtype="str"),
            "membership": np.where(known, np.nan_to_num(probability).max(axis=1), np.nan),
        }
    )


def _with_traits(recipe: Mapping, accounts: pd.DataFrame) -> pd.DataFrame:
    """`accounts` with every column of the recipe; one that is not there is unknown for everybody."""
    kinds = {e["trait"]: e["kind"] for e in [*recipe["numbers"], *recipe["discrete"]]}
    dtypes = {"number": "float64", "band": "float64", "flag": "boolean"}
    absent = {
        t: pd.Series(index=accounts.index, dtype=dtypes.get(k, "str")) for t, k in kinds.items() if t not in accounts
    }
    return accounts.assign(**absent)


def model_of(assigner: Mapping) -> Mixture:
    """The fitted mixture that an assigner holds as plain values."""
    k, d = len(assigner["ids"]), len(assigner["recipe"]["numbers"])
    return Mixture(
        np.array([assigner["weight"]]),
        np.array([assigner["mean"]], dtype=float).reshape(1, k, d),
        # Runs of the first version hold one covariance without the axis of the classes.
        np.array(assigner["covariance"], dtype=float).reshape(1, -1, d, d) if d else np.zeros((1, 1, 0, 0)),
        np.array(assigner["rate"], dtype=float).reshape(1, -1, k),
        np.array([assigner["own"]]),
        *(np.zeros(1),) * 3,
    )


def frozen_kinds(assigner: Mapping) -> np.ndarray:
    """(patterns, numbers) which patterns of known numbers the assigner tells apart: all, or the frequent ones of many."""
    d = len(assigner["recipe"]["numbers"])
    if d <= EXACT_NUMBERS or "patterns" not in assigner:
        return (np.arange(2**d)[:, None] >> np.arange(d) & 1).astype(bool)
    return np.vstack([np.array(assigner["patterns"], dtype=bool).reshape(-1, d), np.zeros(d, dtype=bool)])


def _mixture_probability(assigner: Mapping, blocks: Blocks, frame: pd.DataFrame) -> np.ndarray:
    probability = posterior(Market(blocks, listed=frozen_kinds(assigner)), model_of(assigner))
    probability[blocks.known_share() < assigner["min_known_share"]] = np.nan
    return probability


def _band_probability(assigner: Mapping, blocks: Blocks, frame: pd.DataFrame) -> np.ndarray:
    values = frame.sort_values("account_id")[assigner["trait"]].to_numpy(dtype=float)
    band = np.searchsorted(assigner["edges"], values, side="right")
    # Bands lie in the order of their edges; ids kept from an earlier run may stand in another.
    place = assigner.get("place", list(range(len(assigner["ids"]))))
    probability = (band[:, None] == np.array(place)).astype(float)
    probability[np.isnan(values)] = np.nan
    return probability


def _whole_probability(assigner: Mapping, blocks: Blocks, frame: pd.DataFrame) -> np.ndarray:
    return np.ones((len(frame), 1))


_PROBABILITY = {"mixture": _mixture_probability, "bands": _band_probability, "whole": _whole_probability}
