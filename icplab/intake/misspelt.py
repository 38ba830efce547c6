"""Reads the column names of a file, tells those that look like a canonical column the file lacks (ICP-W027).

An optional column that is misspelt would be taken for a trait, and what rests on it would be missing without a word.
"""

from __future__ import annotations

from collections.abc import Iterable

from icplab.core.errors import Problem
from icplab.core.schema import Table
from icplab.intake.records import plain_name

_ONE_SLIP, _TWO_SLIPS = 5, 9  # letters a name needs before one or two slips still leave it recognisable


def misspelt(table: Table, file: str, further: Iterable[str], present: set[str]) -> list[Problem]:
    """A warning for each further column that is a slip or two away from a column of `table` that is not `present`.

    A letter left out, put in, exchanged, or swapped with its neighbour is one slip (optimal string alignment);
    short names are left alone, because `type` and `tier` are both names in their own right.
    """
    absent = [c for c in table.by_name if c not in present]
    return [_told(table, file, c, meant) for c in further if (meant := _meant(c, absent)) is not None]


def _meant(column: str, absent: list[str]) -> str | None:
    """The missing column that `column` most probably is, or None."""
    from rapidfuzz.distance import OSA

    given = plain_name(column)
    slips = {name: OSA.distance(given, plain_name(name)) for name in absent}
    close = [name for name, n in slips.items() if n <= _allowed(plain_name(name))]
    return min(close, key=lambda name: (slips[name], name), default=None)


def _allowed(name: str) -> int:
    return (len(name) >= _ONE_SLIP) + (len(name) >= _TWO_SLIPS)


def _told(table: Table, file: str, column: str, meant: str) -> Problem:
    taken = "it is read as a trait of its own" if table.open_ended else "it is not used"
    message = f'looks like "{meant}", which the file lacks; {taken}'
    fix = f'if it is meant, say [columns.{table.name}] {meant} = "{column}" or rename it in the file'
    return Problem("ICP-W027", message, fix, file, column=column)
