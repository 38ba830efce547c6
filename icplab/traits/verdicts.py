"""Reads effects with their errors, makes q-values, intervals, verdicts, shrunken effects and flags."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from icplab.core.schema import ALL, ARTEFACTS
from icplab.core.stats.mixtures import fit_normal_mixture, posterior_means
from icplab.core.stats.multiplicity import benjamini_hochberg, global_test, open_families
from icplab.traits.outcomes import LOGGED
from icplab.traits.specific import flag_specific

Floats = NDArray[np.floating]

LEVEL = 0.05  # of global tests, and of intervals
RELEVANT_ODDS, RELEVANT_RATIO = np.log(1.6), np.log(1.25)  # effects a team would act on; power is judged against them
POWER = 2.8  # standard errors that an effect must have to be found with 80 % power at 5 %: 1.96 + 0.84
# Widths of the priors that effects are shrunken with, and how many idle effects are added to what the data hold: the first
# width is idle for all that anybody would act on.
WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
IDLE_COUNT = 10.0
VISIBLE = (
    1.28  # standard errors (p = 0.2) that the crude effect must have, on either side, for an adjusted one to be claimed
)
Z95 = 1.96
CLEAR_TURN = (
    3.0  # standard errors from which an adjusted effect of the other sign is a reversal whatever caused the shift
)
FROM_CHANNEL = 0.5  # share of a crude effect that goes when channels are held equal, from which the channel explains it
LARGEST = 20.0  # log ratios beyond this are printed as this


def judge(rows: pd.DataFrame, audit: pd.DataFrame | None, *, fdr: float) -> pd.DataFrame:
    """Rows of the artefact `traits` from measured effects; see `measure_traits` for the rule."""
    rows = _with_q(rows)
    rows = _with_intervals(rows)
    clear = (rows["adjusted_low"] > 1) | (rows["adjusted_high"] < 1)
    enough = rows["enough"].astype(bool) & rows["estimate"].notna()
    replicates = rows["replicates"].eq(True)
    claimed = enough & rows["opened"] & (rows["q_value"] <= fdr) & clear & replicates
    # What nobody can see in the plain figures rests on the adjustment alone: it is flagged, not claimed.
    masked = claimed & (rows["crude"].abs() < VISIBLE * rows["crude_se"])
    supported = claimed & ~masked
    relevant = np.where(rows["outcome"].isin(LOGGED).to_numpy(), RELEVANT_RATIO, RELEVANT_ODDS)
    shortfall = rows["se"].to_numpy(dtype=float) * POWER / relevant
    powerless = ~enough | masked | (shortfall > 1)
    rows["verdict"] = np.select(
        [rows["quarantined"], supported, powerless], ["quarantined", "supported", "insufficient"], "not_supported"
    )
    rows["n_needed"] = (rows["n"] * shortfall**2).round().where(rows["verdict"] == "insufficient")
    sign = pd.Series(np.where(rows["estimate"] >= 0, "+", "-"), index=rows.index, dtype="str")
    rows["direction"] = sign.where(rows["estimate"].notna())
    rows["rate_diff"] = rows["rate"] - rows["rate_without"]
    rows["shrunken"] = _shrink(rows)
    rows["later"] = np.exp(rows["later"].astype("float64").clip(-LARGEST, LARGEST))
    for end in ("low", "high"):
        moved = rows["estimate"].astype("float64") + rows[f"shift_{end}"].astype("float64")
        rows[f"missing_{end}"] = np.exp(moved.clip(-LARGEST, LARGEST))
    rows["flags"] = _flags(rows, masked, audit)
    return _finish(rows)


def _with_q(rows: pd.DataFrame) -> pd.DataFrame:
    """q-values over all traits and levels of an outcome in a scope, and whether the scope was opened for it."""
    by = [rows["outcome"], rows["scope"]]
    asked = rows["p_value"].where(rows["enough"].astype(bool)).astype("float64")
    families = asked.groupby(by, sort=False).agg(global_test).rename("p_global").reset_index()
    opened = open_families(families, root=ALL, level=LEVEL).set_index(["outcome", "scope"])["opened"]
    here = pd.MultiIndex.from_arrays(by)
    return rows.assign(
        q_value=asked.groupby(by, sort=False).transform(benjamini_hochberg),
        opened=opened.reindex(here).to_numpy(dtype=bool),
    )


def _with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    from scipy import special

    for value, se, df, names in (
        ("crude", "crude_se", "crude_df", ("odds_ratio", "low", "high")),
        ("estimate", "se", "df", ("adjusted", "adjusted_low", "adjusted_high")),
    ):
        middle, error = rows[value].astype("float64"), rows[se].astype("float64")
        width = special.stdtrit(rows[df].astype("float64").fillna(1e6), 1 - LEVEL / 2) * error
        for name, end in zip(names, (middle, middle - width, middle + width), strict=True):
            rows[name] = np.exp(end.clip(-LARGEST, LARGEST))
    return rows


def _shrink(rows: pd.DataFrame) -> pd.Series:
    """Adjusted ratios pulled towards 1: posterior means under a mixture of normal priors fitted to all effects of a scope.

    One normal prior for all would pull the few real effects as hard as the many idle ones.
    """
    estimate = rows["estimate"].to_numpy(dtype=float)
    noise = rows["se"].to_numpy(dtype=float) ** 2
    judged = rows["enough"].to_numpy(dtype=bool) & np.isfinite(estimate) & (noise > 0)
    shrunken = np.full(len(rows), np.nan)
    for place in rows.groupby(["outcome", "scope"], sort=True).indices.values():
        part = place[judged[place]]
        weights = fit_normal_mixture(estimate[part], noise[part], WIDTHS, idle=IDLE_COUNT)
        shrunken[place] = posterior_means(estimate[place], noise[place], WIDTHS, weights)
    return pd.Series(np.exp(shrunken), index=rows.index)


def _flags(rows: pd.DataFrame, masked: pd.Series, audit: pd.DataFrame | None) -> pd.Series:
    """Flags per row, joined by ";"."""
    enough = rows["enough"].astype(bool)
    crude, adjusted, channel = (rows[c].astype("float64") for c in ("crude", "estimate", "by_channel"))
    crude_clear = ((rows["low"] > 1) | (rows["high"] < 1)) & enough & (rows["shift_z"].abs() > Z95)
    adjusted_clear = (rows["adjusted_low"] > 1) | (rows["adjusted_high"] < 1)
    # Of many effects that vanish when adjusted, half change their sign by chance. A reversal is clear by itself, or the
    # channel alone (source, seller, region, quarter) already turns it.
    turned = crude_clear & (np.sign(crude) != np.sign(adjusted))
    clear_turn = adjusted.abs() > CLEAR_TURN * rows["se"].astype("float64")
    channel_turn = np.sign(channel) == -np.sign(crude)
    marks = {
        "reversal": turned & (clear_turn | channel_turn),
        "confounded": crude_clear & ~adjusted_clear,
        "by_channel": crude_clear & (channel.abs() < (1 - FROM_CHANNEL) * crude.abs()) | (turned & channel_turn),
        "segment_specific": flag_specific(rows),
        "masked": masked,
        "inseparable": rows["inseparable"].eq(True),
        "separated": rows["separated"].eq(True),
        "missing_sensitive": adjusted_clear & (rows["missing_low"] < 1) & (rows["missing_high"] > 1),
    }
    flags = pd.Series("", index=rows.index, dtype="str")
    for name, mark in marks.items():
        flags = flags.where(~mark.fillna(False).astype(bool), flags + name + ";")
    if audit is not None:
        said = audit.set_index("trait")["flags"].fillna("")
        extra = rows["trait"].map(said).fillna("").astype("str")
        flags = flags + extra.where(extra == "", extra + ";")
    return flags.str.strip(";")


def _finish(rows: pd.DataFrame) -> pd.DataFrame:
    """Declared columns first; rounded below what a solver's noise could show; sorted by key."""
    kept = rows[[c.name for c in ARTEFACTS["traits"].columns]].copy()
    for column in kept.columns[kept.dtypes.isin([np.dtype("float64"), np.dtype("object")])]:
        if column not in ("verdict", "direction", "flags", "trait", "level", "family", "scope", "outcome"):
            kept[column] = kept[column].astype("float64").round(9)
    return kept.sort_values(["outcome", "scope", "trait", "level"], ignore_index=True)
