"""Reads a frozen assigner and Arrow columns of accounts, makes their memberships: `posteriors_of` for files of any size.

Log odds against the first segment are summed over the levels of discrete variables, which are looked up once per distinct text,
and over the terms of the known numbers (`formula.number_terms`): what tells no two segments apart costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from icplab.core.model import Codes, Columns, add_worth, join_codes
from icplab.segments.assign import DECIMALS
from icplab.segments.blocks import OTHER
from icplab.segments.formula import number_terms

PART = 16_384  # accounts at a time: what is computed for them stays in the cache


class ColumnAssigner:
    """A frozen assigner with everything that does not depend on the accounts worked out once."""

    def __init__(self, assigner: Mapping) -> None:
        self.assigner, self.ids = assigner, tuple(assigner["ids"])
        self.recipe = assigner["recipe"]

    @property
    def shared(self) -> bool:
        """Whether an account may belong to several segments, each with a probability."""
        return bool(self.assigner["kind"] == "mixture")

    def memberships(self, columns: Columns) -> np.ndarray | None:
        """(segments, rows) probability of each segment, NaN where too little is known; None where there is one for all."""
        kind = self.assigner["kind"]
        if kind == "whole":
            return None
        share = self._of_bands(columns) if kind == "bands" else self._of_mixture(columns)
        return share.round(DECIMALS)

    def _of_bands(self, columns: Columns) -> np.ndarray:
        place = self.assigner.get("place", list(range(len(self.ids))))
        codes = columns.bins(self.assigner["trait"], self.assigner["edges"])
        band = np.broadcast_to(codes.places[codes.rows], columns.rows)
        share = (band == np.array(place)[:, None]).astype("float64")
        share[:, band < 0] = np.nan
        return share

    def _of_mixture(self, columns: Columns) -> np.ndarray:
        levels = join_codes(self._levels(columns))
        numbers = [columns.number(trait) for trait, _ in self._scales]
        share = np.empty((len(self.ids), columns.rows))
        for start in range(0, columns.rows, PART):
            part = slice(start, start + PART)
            self._fill(share[:, part], levels, [values[part] for values in numbers], part)
        return share

    def _fill(
        self, share: np.ndarray, levels: list[tuple[np.ndarray, np.ndarray]], numbers: list[np.ndarray], part: slice
    ) -> None:
        """Memberships of a part of the rows."""
        total = np.zeros(share.shape)  # log odds of all but the first, and how many variables are known
        add_worth(total, levels, part)
        known, odds = total[-1], total[:-1]
        known += self._add_numbers(numbers, odds)
        share[0], share[1:] = 0.0, odds
        share -= share.max(axis=0)
        np.exp(share, out=share)
        share /= share.sum(axis=0)
        variables = len(self.recipe["discrete"]) + len(self.recipe["numbers"])
        too_little = known / max(variables, 1) < self.assigner["min_known_share"]
        if too_little.any():
            share[:, too_little] = np.nan

    def _levels(self, columns: Columns) -> list[tuple[Codes, np.ndarray]]:
        """Codes of every discrete variable and their worth; the tools of one column are one variable."""
        parts = []
        for entry, worth in self._worth:
            if entry["kind"] == "band":
                codes = columns.bins(entry["trait"], entry["edges"])
            elif entry["kind"] == "flag":
                codes = columns.flag(entry["trait"])
            else:
                codes = columns.levels(entry["trait"], entry["levels"], OTHER)
            parts.append((codes, worth))
        return parts + [part for trait in self._tools for part in self._held(columns, trait)]

    def _held(self, columns: Columns, trait: str) -> list[tuple[Codes, np.ndarray]]:
        """Every combination of eight tools as a level of one variable."""
        names, present, absent = self._tools[trait]
        parts = []
        for k, (codes, held) in enumerate(columns.items(trait, names)):
            eight = slice(8 * k, 8 * k + 8)
            worth = held @ (present[eight] - absent[eight]) + absent[eight].sum(axis=0)
            parts.append((codes, np.pad(worth, ((0, 2), (0, 0)))))
        return parts

    def _add_numbers(self, numbers: list[np.ndarray], odds: np.ndarray) -> np.ndarray:
        """Add what the known numbers are worth; how many of each row are known."""
        scores, known, pattern = [], np.zeros(odds.shape[1]), np.zeros(odds.shape[1], dtype=np.int64)
        for place, (values, (_, scale)) in enumerate(zip(numbers, self._scales, strict=True)):
            finite = np.isfinite(values)
            scores.append(scale.read(values if finite.all() else np.where(finite, values, 0.0)))
            known += finite
            pattern += finite.astype(np.int64) << place
        for kind, rows in self._by_pattern(pattern):
            for about, worth in self._terms[kind][1]:
                product = np.ones(1)
                for i in about:
                    product = product * scores[i][rows]
                for c in np.flatnonzero(worth[1:]):
                    odds[c, rows] += worth[1 + c] * product
        return known

    def _by_pattern(self, pattern: np.ndarray) -> Iterator[tuple[int, np.ndarray | slice]]:
        """The patterns of known numbers in a block, and the rows of each."""
        if not len(pattern):
            return
        if (pattern == pattern[0]).all():
            yield self._first(int(pattern[0])), slice(None)
            return
        taken, label = np.unique(pattern, return_inverse=True)
        terms = np.array([self._first(int(code)) for code in taken])[label]
        order = np.argsort(terms.astype(np.int16), kind="stable")
        kinds, starts = np.unique(terms[order], return_index=True)
        for kind, rows in zip(kinds, np.split(order, starts[1:]), strict=True):
            yield int(kind), rows

    def _first(self, code: int) -> int:
        """The first, largest pattern of which every number is known."""
        return next(k for k, (known, _) in enumerate(self._terms) if all(code >> int(i) & 1 for i in known))

    @cached_property
    def _terms(self) -> list[tuple[np.ndarray, list[tuple[tuple[int, ...], np.ndarray]]]]:
        return number_terms(self.assigner)

    @cached_property
    def _scales(self) -> list[tuple[str, Scale]]:
        return [(e["trait"], Scale(e["values"], e["scores"])) for e in self.recipe["numbers"]]

    @cached_property
    def _rates(self) -> list[tuple[Mapping, np.ndarray]]:
        """Per discrete variable: log odds of each level against the first segment, and a one for being known."""
        rate = np.array(self.assigner["rate"], dtype=float).reshape(-1, len(self.ids))
        odds = np.column_stack([(np.log(rate) - np.log(rate[:, :1]))[:, 1:], np.ones(len(rate))])
        sizes = [len(e["levels"]) for e in self.recipe["discrete"]]
        return list(zip(self.recipe["discrete"], np.split(odds, np.cumsum(sizes)[:-1]), strict=True)) if sizes else []

    @cached_property
    def _worth(self) -> list[tuple[Mapping, np.ndarray]]:
        """Variables but tools, with a row of nothing for unknown and one for unseen."""
        return [(e, np.pad(w, ((0, 2), (0, 0)))) for e, w in self._rates if e["kind"] != "tool"]

    @cached_property
    def _tools(self) -> dict[str, tuple[list[str], np.ndarray, np.ndarray]]:
        """Per column of lists: its tools, and what each is worth where an account has it, and where it has not."""
        traits = dict.fromkeys(e["trait"] for e, _ in self._rates if e["kind"] == "tool")
        entries = {
            t: [(e["tool"], w) for e, w in self._rates if e["kind"] == "tool" and e["trait"] == t] for t in traits
        }
        return {
            t: ([tool for tool, _ in held], np.array([w[1] for _, w in held]), np.array([w[0] for _, w in held]))
            for t, held in entries.items()
        }


class Scale:
    """Values and scores between which a number is read, as `np.interp` does, to the last digit and several times as fast.

    The bits of a double that is not negative, read as a whole number, rise with it: the leading ones say between which values
    it lies, but for a step or two. Scales with negative values are left to `np.interp`.
    """

    PLACES = 1 << 14

    def __init__(self, values: Sequence[float], scores: Sequence[float]) -> None:
        self.values, self.scores = np.asarray(values, dtype=float) + 0.0, np.asarray(scores, dtype=float)
        self.slopes = np.append(np.diff(self.scores) / np.diff(self.values), 0.0)
        self.after = np.append(self.values[1:], np.inf)
        edges = self.values.view(np.int64)
        self.low, span = edges[0], int(edges[-1] - edges[0]) if self.values[0] >= 0 else 0
        self.shift = max(span.bit_length() - self.PLACES.bit_length() + 1, 0)
        starts = (np.arange((span >> self.shift) + 1) << self.shift) + self.low
        self.guess = (np.searchsorted(edges, starts, side="right") - 1).astype(np.int16)
        ends = np.searchsorted(edges, starts + ((1 << self.shift) - 1), side="right") - 1
        self.steps = int((ends - self.guess).max())

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The score of each finite number."""
        if self.values[0] < 0:
            return np.interp(numbers, self.values, self.scores)
        inside = np.clip(numbers, self.values[0], self.values[-1]) + 0.0  # of two zeros the one without a sign
        place = self.guess.take((inside.view(np.int64) - self.low) >> self.shift)
        for _ in range(self.steps):
            place += inside >= self.after.take(place)
        inside -= self.values.take(place)
        inside *= self.slopes.take(place)
        inside += self.scores.take(place)
        return inside
