"""Reads accounts and their segments, makes a filter of at most four conditions per segment that a CRM list can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.blocks import OTHER, YES, read_blocks
from icplab.segments.refine import Candidates, Choice, Filter, Price, improve_filter

MAX_CONDITIONS = 4
DESCRIBABLE = 0.6  # F1 below which a filter does not describe the segment
CUTS = 15  # candidate borders per number
BEAM = 12  # partial filters kept per length
SEEDS = 6  # filters of the beam that are then improved condition by condition
MAX_SET = 4  # levels in one "is one of" before that
PLAIN_BONUS = 0.02  # F1 that "at least m of" must gain over "all of", which is easier to read
SHORT_BONUS = 0.005  # F1 that a further condition must gain
RULE_ACCOUNTS = 20_000
_PRICE = Price(SHORT_BONUS, PLAIN_BONUS, MAX_CONDITIONS)


@dataclass(frozen=True)
class _Atoms:
    """Candidate conditions: 0/1 per account, what they say, and which trait they are about.

    The first `len(conditions)` columns are single conditions; those after them are lists of the conditions in `lists`.
    """

    holds: np.ndarray  # (n, m + lists)
    conditions: list[dict]
    trait: np.ndarray  # (m + lists,) code of the trait
    lists: tuple[Choice, ...] = ()

    def choice(self, place: int) -> Choice:
        """The single conditions that a column joins."""
        m = len(self.conditions)
        return (place,) if place < m else self.lists[place - m]

    def together(self, operator: str) -> tuple[np.ndarray, ...]:
        """Places of the single conditions with an operator, per column of the account table."""
        of: dict[str, list[int]] = {}
        for a, condition in enumerate(self.conditions):
            if condition["operator"] == operator:
                of.setdefault(condition["trait"], []).append(a)
        return tuple(np.array(places) for places in of.values() if len(places) > 1)


def describe_segments(accounts: pd.DataFrame, assignments: pd.DataFrame, assigner: Mapping) -> pd.DataFrame:
    """The best readable filter of each segment, and how well it describes it.

    A filter is a list of at most four conditions, each about one trait, of which all or at least m must hold. It describes
    the assignment; it does not make it: the assigner does.

    Parameters
    ----------
    accounts : account table; reads account_id and the traits of the assigner's recipe
    assignments : artefact account_segments
    assigner : `Segmentation.assigner`

    Returns
    -------
    One row per segment, in the order of the assigner: segment_id, segment, rule (text), precision, recall, f1 (fractions
    of accounts; unknown values fail a condition), matched (accounts), describable (f1 ≥ DESCRIBABLE), needed (how many of the
    conditions must hold), conditions (JSON list of trait, operator, values).
    """
    from threadpoolctl import threadpool_limits

    frame = accounts.sort_values("account_id", ignore_index=True)
    segment = assignments.sort_values("account_id")["segment_id"].to_numpy(dtype=object)
    names = dict(zip(assigner["ids"], assigner["names"], strict=True))
    if assigner["kind"] == "bands":
        rows = [{"segment_id": i, **_band(assigner, p, frame, segment == i)} for p, i in enumerate(names)]
    else:
        atoms = _atoms(frame, assigner["recipe"])
        with threadpool_limits(1):  # counts are exact in any order; waiting for a second thread is what takes time
            rows = [{"segment_id": i, **_describe(atoms, segment == i, segment != UNASSIGNED)} for i in names]
    table = pd.DataFrame(rows)
    table.insert(1, "segment", table["segment_id"].map(names))
    table["describable"] = table["f1"] >= DESCRIBABLE
    return table.astype(dict.fromkeys(("segment_id", "segment", "rule", "conditions"), "str"))


def rule_holds(conditions: list[dict], needed: int, accounts: pd.DataFrame) -> pd.Series:
    """Whether each account passes a filter (True or False, in the order of `accounts`); unknown values fail a condition."""
    count = pd.Series(0, index=accounts.index)
    for condition in conditions:
        count = count + _holds(condition, accounts[condition["trait"]]).astype(int)
    return count >= needed


def _holds(condition: Mapping, values: pd.Series) -> pd.Series:
    operator, wanted = condition["operator"], condition["values"]
    if operator == "from":
        return (values >= wanted[0]).fillna(False)
    if operator == "below":
        return (values < wanted[0]).fillna(False)
    if operator == "between":
        return ((values >= wanted[0]) & (values < wanted[1])).fillna(False)
    if operator == "is one of":
        return values.isin(wanted)
    if operator == "is":
        return (values == (wanted[0] == YES)).fillna(False).astype(bool)
    listed = ";" + values.fillna("") + ";"
    return pd.concat([listed.str.contains(f";{w};", regex=False) for w in wanted], axis=1).any(axis=1)


def _atoms(frame: pd.DataFrame, recipe: Mapping) -> _Atoms:
    """Conditions that do not depend on a segment: number ranges, yes/no, tools, single levels."""
    holds: list[np.ndarray] = []
    conditions: list[dict] = []
    for entry in recipe["numbers"]:
        made, said = _ranges(entry["trait"], frame[entry["trait"]].to_numpy(dtype=float))
        holds += made
        conditions += said
    blocks = read_blocks(dict(recipe), frame)
    for j, entry in enumerate(recipe["discrete"]):
        block = blocks.levels[:, blocks.variable == j] > 0
        if entry["kind"] == "band":
            made, said = _ranges(entry["trait"], frame[entry["trait"]].to_numpy(dtype=float), entry["edges"])
            holds += made
            conditions += said
            continue
        for c, level in enumerate(entry["levels"]):
            condition = _level_condition(entry, level)
            if condition:
                holds.append(block[:, c])
                conditions.append(condition)
    names = pd.factorize(np.array([_about(c) for c in conditions], dtype=object))[0]
    matrix = np.column_stack(holds) if holds else np.zeros((len(frame), 0))
    return _Atoms(matrix.astype(np.float32), conditions, names)


def _about(condition: Mapping) -> str:
    """Conditions on different tools of one stack may stand together; two on one number may not."""
    return (
        f"{condition['trait']}: {condition['values'][0]}" if condition["operator"] == "contains" else condition["trait"]
    )


def _level_condition(entry: Mapping, level: str) -> dict | None:
    if entry["kind"] == "tool":
        return {"trait": entry["trait"], "operator": "contains", "values": [entry["tool"]]} if level == YES else None
    if entry["kind"] == "flag":
        return {"trait": entry["trait"], "operator": "is", "values": [level]}
    return None if level == OTHER else {"trait": entry["trait"], "operator": "is one of", "values": [level]}


def _ranges(trait: str, values: np.ndarray, edges: list[float] | None = None) -> tuple[list[np.ndarray], list[dict]]:
    """Every range between borders that a person would write: quantiles with two significant digits."""
    known = values[~np.isnan(values)]
    if edges is None:
        quantiles = np.quantile(known, np.arange(1, CUTS + 1) / (CUTS + 1)) if len(known) else []
        # Two digits would merge years into decades: round only as far as borders stay apart.
        digits = next((d for d in (2, 3, 4, 6) if len({f"{q:.{d}g}" for q in quantiles}) >= 0.8 * len(quantiles)), 6)
        edges = sorted({float(f"{q:.{digits}g}") for q in quantiles})
    with np.errstate(invalid="ignore"):
        above = [values >= e for e in edges]
    known_rows = ~np.isnan(values)
    holds, said = [], []
    for a, low in enumerate(edges):
        holds += [above[a], known_rows & ~above[a]]
        said += [
            {"trait": trait, "operator": "from", "values": [low]},
            {"trait": trait, "operator": "below", "values": [low]},
        ]
        for b in range(a + 1, len(edges)):
            holds.append(above[a] & ~above[b])
            said.append({"trait": trait, "operator": "between", "values": [low, edges[b]]})
    return holds, said


def _describe(atoms: _Atoms, inside: np.ndarray, counted: np.ndarray) -> dict:
    """The filter with the best F1, all-of preferred to at-least-m-of, shorter to longer."""
    if not atoms.conditions or inside.all() or not inside.any():
        return _told([], 0, np.ones(len(inside), dtype=bool), inside)
    # Large markets: every so-many-th account, evenly over the sorted ids.
    step = max(1, len(inside) // RULE_ACCOUNTS)
    few, member = _Atoms(atoms.holds[::step], atoms.conditions, atoms.trait), inside[::step].astype(np.float32)
    found = _search(_with_sets(few, member > 0, counted[::step]), member)
    candidates = Candidates(few.holds, few.trait, few.together("is one of"), few.together("contains"))
    improved = [improve_filter(f, candidates, member, _PRICE) for f in found]
    best = max(improved, key=lambda f: f.worth)
    passed = sum(atoms.holds[:, list(c)].max(axis=1) for c in best.lists) >= best.needed
    return _told([_joined(atoms, c) for c in best.lists], best.needed, passed, inside)


def _joined(atoms: _Atoms, choice: Choice) -> dict:
    """Single conditions on one trait as one condition with a list of values."""
    first = atoms.conditions[choice[0]]
    if len(choice) == 1:
        return first
    return {**first, "values": sorted(atoms.conditions[a]["values"][0] for a in choice)}


def _band(assigner: Mapping, position: int, frame: pd.DataFrame, inside: np.ndarray) -> dict:
    """The filter that a band of one number is."""
    edges, trait = assigner["edges"], assigner["trait"]
    place = assigner.get("place", list(range(len(edges) + 1)))[position]
    if place == 0:
        condition = {"trait": trait, "operator": "below", "values": [edges[0]]}
    elif place == len(edges):
        condition = {"trait": trait, "operator": "from", "values": [edges[-1]]}
    else:
        condition = {"trait": trait, "operator": "between", "values": edges[place - 1 : place + 1]}
    return _told([condition], 1, rule_holds([condition], 1, frame).to_numpy(), inside)


def _with_sets(atoms: _Atoms, inside: np.ndarray, counted: np.ndarray) -> _Atoms:
    """Adds lists: the levels of a category, or tools of a stack, most over-represented first, while they are over-represented."""
    base = inside[counted].mean() if counted.any() else 0.0
    holds, trait, lists = [atoms.holds], list(atoms.trait), []
    for members in (*atoms.together("is one of"), *atoms.together("contains")):
        among = atoms.holds[:, members]
        share = (among * inside[:, None]).sum(axis=0) / np.maximum(among.sum(axis=0), 1)
        ranked = [int(members[i]) for i in np.argsort(-share, kind="stable") if share[i] > base]
        for size in range(2, min(MAX_SET, len(ranked)) + 1):
            holds.append(atoms.holds[:, ranked[:size]].max(axis=1, keepdims=True))
            lists.append(tuple(sorted(ranked[:size])))
            trait.append(atoms.trait[ranked[0]])
    return _Atoms(np.hstack(holds), atoms.conditions, np.array(trait), tuple(lists))


def _search(atoms: _Atoms, inside: np.ndarray) -> list[Filter]:
    """Beam search over sets of conditions and how many of them must hold: the best of all lengths."""
    beam: list[tuple[int, ...]] = [()]
    found: list[Filter] = []
    for length in range(1, MAX_CONDITIONS + 1):
        worth = _worth(atoms.holds, inside, atoms.trait, beam, length)  # (beam, needed, conditions)
        seen: dict[tuple[int, ...], tuple[float, int]] = {}
        for b, needed, a in _largest(worth, BEAM * length * 2):
            key = tuple(sorted((*beam[b], a)))
            if worth[b, needed, a] > seen.get(key, (0.0, 0))[0]:
                seen[key] = (float(worth[b, needed, a]), needed + 1)
        ranked = sorted(seen.items(), key=lambda item: (-item[1][0], item[0]))[:BEAM]
        found += [Filter(tuple(atoms.choice(a) for a in key), m, w) for key, (w, m) in ranked]
        if not ranked:
            break
        beam = [key for key, _ in ranked]
    return sorted(found, key=lambda f: -f.worth)[:SEEDS]


def _worth(
    holds: np.ndarray, inside: np.ndarray, trait: np.ndarray, beam: list[tuple[int, ...]], length: int
) -> np.ndarray:
    """(beam, needed, conditions) F1 of adding each condition to each partial filter, less what is asked of longer ones.

    An account passes with the new condition when enough others hold already, or when exactly one lacks and it holds.
    """
    count = np.stack([holds[:, list(chosen)].sum(axis=1) for chosen in beam])  # (beam, n)
    needed = np.arange(1, length + 1)[None, :, None]
    # Flat in front, so that each product is one matrix product: (beam × needed, n) with (n, conditions).
    passes = (count[:, None] >= needed).astype(np.float32).reshape(-1, len(inside))
    lacks = (count[:, None] == needed - 1).astype(np.float32).reshape(-1, len(inside))
    hit = (passes @ inside)[:, None] + (lacks * inside) @ holds
    matched = passes.sum(axis=1)[:, None] + lacks @ holds
    f1 = (2 * hit / np.maximum(matched + inside.sum(), 1)).reshape(len(beam), length, -1)
    plain = np.where(np.arange(1, length + 1) < length, PLAIN_BONUS, 0.0)[None, :, None]
    taken = np.stack([np.isin(trait, trait[list(chosen)]) for chosen in beam])[:, None, :]
    return np.where(taken, -1.0, f1 - plain - SHORT_BONUS * (length - 1))


def _largest(worth: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Places of the largest entries, largest first; ties in the order of the array."""
    flat = worth.ravel()
    order = np.argsort(-flat, kind="stable")[:most]
    places = np.unravel_index(order, worth.shape)
    return [(int(b), int(m), int(a)) for b, m, a in zip(*places, strict=True)]


def _told(conditions: list[dict], needed: int, passed: np.ndarray, inside: np.ndarray) -> dict:
    hit, matched, total = float((passed & inside).sum()), float(passed.sum()), float(inside.sum())
    return {
        "rule": _text(conditions, needed),
        "precision": round(hit / max(matched, 1), 4),
        "recall": round(hit / max(total, 1), 4),
        "f1": round(2 * hit / max(matched + total, 1), 4),
        "matched": int(matched),
        "needed": needed,
        "conditions": json.dumps(conditions, sort_keys=True),
    }


def _text(conditions: list[dict], needed: int) -> str:
    if not conditions:
        return "every account"
    parts = [_condition_text(c) for c in conditions]
    if needed == len(parts):
        return " and ".join(parts)
    if needed == 1:
        return " or ".join(parts)
    return f"at least {needed} of: " + "; ".join(parts)


def _condition_text(condition: Mapping) -> str:
    trait, operator, values = condition["trait"], condition["operator"], condition["values"]
    shown = [f"{v:,.0f}" if isinstance(v, float) and v == int(v) and abs(v) >= 10_000 else _plain(v) for v in values]
    if operator == "from":
        return f"{trait} ≥ {shown[0]}"
    if operator == "below":
        return f"{trait} < {shown[0]}"
    if operator == "between":
        return f"{trait} from {shown[0]} to below {shown[1]}"
    if operator == "is one of":
        return f"{trait} is {' or '.join(shown)}"
    several = operator == "contains" and len(shown) > 1
    return f"{trait} {operator} any of {', '.join(shown)}" if several else f"{trait} {operator} {shown[0]}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
