"""Reads the sample's recipe, makes the committed workspace: one believable business with readable names."""

from __future__ import annotations

from pathlib import Path

from icplab.simulate.market import Market, simulate_market
from icplab.simulate.recipe import Recipe
from icplab.simulate.workspace import write_workspace

SAMPLE_ACCOUNTS = 1500
SAMPLE_MONTHS = 33  # eleven whole quarters, so that eight remain after the first year
SAMPLE_SEED = 7
# What a report reader should meet: accounts nobody has worked, partners, stronger and weaker channels, customers
# that are easier to win again, a field that is filled in only when an opportunity is won (a leak the report must set
# aside), and fewer events so that the folder stays small.
SAMPLE = Recipe(
    names="plausible",
    worked=0.75,
    partners=0.01,
    more_opportunities=0.9,
    win_rate=0.25,
    trait_effect=0.55,
    idle_flags=8,
    expansion_win=0.35,
    expansion_acv=0.5,
    source_win=(0.0, 0.45, -0.2, 0.0, 0.25, 0.0),
    families=30,
    family_share=0.06,
    family_sd=0.4,
    cost_of_touch=900.0,
    activity=0.45,
    leaks=("written_at_win",),
    segment_win=(-0.5, 0.0, 0.45, 0.8),
    acv_median=(9000.0, 16000.0, 28000.0, 45000.0),
)


def sample_market() -> Market:
    """The market of `data/sample`, with its truth."""
    return simulate_market(accounts=SAMPLE_ACCOUNTS, seed=SAMPLE_SEED, months=SAMPLE_MONTHS, recipe=SAMPLE)


def write_sample(folder: Path) -> Path:
    """Write the sample workspace, without its truth."""
    return write_workspace(sample_market(), folder)
