"""Reads canonical tables, makes one row per account and one per opportunity, as known on a date.

Nothing dated after the as-of date reaches a feature. What is measured per account is defined once, as SQL
(`features.definitions`), and runs on DuckDB or Spark; what describes an account (traits and their kinds) is one row per account and
stays in pandas.
"""

from icplab.features.accounts import build_accounts
from icplab.features.catalogue import build_catalogue, type_values
from icplab.features.definitions import INTENT_HALF_LIFE_DAYS
from icplab.features.families import build_families
from icplab.features.kept import Kept
from icplab.features.known import BORN, LATER, Tables, known_table, view_on
from icplab.features.opportunities import build_opportunities
from icplab.features.state import Refresh
from icplab.features.summaries import count_early, decay_before, summarise_effort, summarise_plays, summarise_signals

__all__ = [
    "BORN",
    "INTENT_HALF_LIFE_DAYS",
    "LATER",
    "Kept",
    "Refresh",
    "Tables",
    "build_accounts",
    "build_catalogue",
    "build_families",
    "build_opportunities",
    "count_early",
    "decay_before",
    "known_table",
    "summarise_effort",
    "summarise_plays",
    "summarise_signals",
    "type_values",
    "view_on",
]
