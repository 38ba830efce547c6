"""Reads and writes the frozen model (`model.json`) and applies it: points, probability, value and tier of any account.

Scoring in a run and scoring later by `icplab score` are this one package, so they cannot differ. The parts: `card` (the model as a
document), `levels` (which level a row has), `worth` (points, probability, money), `apply` (the artefact `scores`), `sql` (the card as a
query), `decode` and `columns` (the card over Arrow columns, for files of any size).
"""

from icplab.core.model.apply import apply_model, place_accounts
from icplab.core.model.card import (
    FORMAT,
    MISSING,
    OTHER,
    OUT_OF_MARKET,
    POSTERIOR,
    RANKED,
    UNSEEN,
    Input,
    Model,
    Value,
    from_document,
    points_table,
    read_model,
    to_document,
    with_cuts,
    write_model,
)
from icplab.core.model.columns import Block, Tally, score_block
from icplab.core.model.decode import Codes, Columns, add_worth, join_codes
from icplab.core.model.levels import (
    add_segments,
    effect_of,
    level_codes,
    level_of,
    points_of,
    weights_of,
    whole_points,
    with_posteriors,
)
from icplab.core.model.sql import card_query, points_columns
from icplab.core.model.worth import (
    account_points,
    expected_value_draws,
    opportunity_points,
    probability_draws,
    value_of,
    win_probability,
)

__all__ = [
    "FORMAT",
    "MISSING",
    "OTHER",
    "OUT_OF_MARKET",
    "POSTERIOR",
    "RANKED",
    "UNSEEN",
    "Block",
    "Codes",
    "Columns",
    "Input",
    "Model",
    "Tally",
    "Value",
    "account_points",
    "add_segments",
    "add_worth",
    "apply_model",
    "card_query",
    "effect_of",
    "expected_value_draws",
    "from_document",
    "join_codes",
    "level_codes",
    "level_of",
    "opportunity_points",
    "place_accounts",
    "points_columns",
    "points_of",
    "points_table",
    "probability_draws",
    "read_model",
    "score_block",
    "to_document",
    "value_of",
    "weights_of",
    "whole_points",
    "win_probability",
    "with_cuts",
    "with_posteriors",
    "write_model",
]
