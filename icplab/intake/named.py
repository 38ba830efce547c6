"""Reads the names of traits in the settings and the columns that came in, makes a problem of each name that no column has."""

from __future__ import annotations

from icplab.core.config import Settings
from icplab.core.errors import Problem, nearest
from icplab.intake.batch import Batch

TRAIT_TABLES = ("accounts", "opportunities")


def unknown_traits(batches: dict[str, Batch], settings: Settings) -> list[Problem]:
    """Names of traits in `[traits]` and `[plan]` that no column has (ICP-E100, ICP-W100).

    A name close to a column's is a slip, and it stops: the column meant would be used although it was forbidden, or left out
    although it was asked for. Any other name may be a column that this quarter's export does not have, and is said.
    """
    read = [batches[t] for t in TRAIT_TABLES if t in batches]
    there = {str(c) for b in read for c in b.frame} | {c for b in read for c in b.table.by_name}
    left_out = {c for t in TRAIT_TABLES for c in settings.source(t).ignore}
    return [_unknown(where, name, sorted(there)) for where, name in _named(settings) if name not in there | left_out]


def _named(settings: Settings) -> list[tuple[str, str]]:
    """Where each trait is named, and how."""
    plan = settings.plan
    lists = {"plan.candidates": plan.candidates, "plan.excluded": plan.excluded, "plan.cuts": plan.cuts}
    return [(f"traits.{n}", n) for n in settings.traits] + [(w, n) for w, names in lists.items() for n in names]


def _unknown(where: str, name: str, there: list[str]) -> Problem:
    meant = nearest(name, there)
    message = f"is no column of {' or '.join(TRAIT_TABLES)}{meant or '; the setting changes nothing'}"
    section = where.split(".")[0] if meant else where
    fix = f"correct [{section}]" if meant else f"take it out of [{where}], or export the column"
    return Problem("ICP-E100" if meant else "ICP-W100", message, fix, "icplab.toml", column=where, value=name)
