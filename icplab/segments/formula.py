"""Reads a frozen assigner, makes the same assignment as one SQL query, as a table of points and as CRM formula fields.

Everything is relative to the first segment, whose points are 0: what tells no two segments apart drops out. An account belongs to
the segment with the most points; the points are log odds against the first segment, so that memberships follow from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from icplab.core.schema import UNASSIGNED
from icplab.segments.assign import DECIMALS, frozen_kinds, model_of
from icplab.segments.blocks import NO, OTHER, YES
from icplab.segments.design import pattern_of
from icplab.segments.em import gaussian

FORMULA_CHARACTERS = 3900  # of one Salesforce formula field
LARGEST = "1.7976931348623157e308"


def write_sql(assigner: Mapping, table: str = "accounts") -> str:
    """One SELECT that gives account_id, segment_id and membership of every row of an account table; portable SQL.

    Parameters
    ----------
    assigner : `Segmentation.assigner`
    table : name of the account table, with a column per trait of the recipe; multi-valued traits separated by ";"
    """
    if assigner["kind"] == "whole":
        return f"SELECT account_id, {_text(assigner['ids'][0])} AS segment_id, 1e0 AS membership FROM {_name(table)}"
    if assigner["kind"] == "bands":
        return _sql_of_bands(assigner, table)
    recipe, ids = assigner["recipe"], list(assigner["ids"])
    scores = [f"{_sql_score(e)} AS {_name(_z(e['trait']))}" for e in recipe["numbers"]]
    points = [
        f"{' + '.join([*_sql_numbers(assigner, c), *_sql_levels(assigner, c)]) or '0e0'} AS {_name('points ' + i)}"
        for c, i in enumerate(ids)
    ]
    known = [f"CASE WHEN {_name(_z(e['trait']))} IS NULL THEN 0 ELSE 1 END" for e in recipe["numbers"]]
    known += [f"CASE WHEN {_sql_known(e)} THEN 1 ELSE 0 END" for e in recipe["discrete"]]
    most = [_name("points " + i) for i in ids]
    top = most[0] if len(most) == 1 else f"greatest({', '.join(most)})"
    total = " + ".join(f"exp({m} - top)" for m in most)
    share = [f"round(exp({m} - top) / total, {DECIMALS}) AS {_name('p ' + i)}" for m, i in zip(most, ids, strict=True)]
    best = ", ".join(_name("p " + i) for i in ids)
    chosen = " ".join(f"WHEN {_name('p ' + i)} = best THEN {_text(i)}" for i in ids)
    enough = _number(assigner["min_known_share"] * len(known))
    return "\n".join(
        [
            f"WITH scored AS (SELECT *{''.join(', ' + s for s in scores)} FROM {_name(table)}),",
            f"pointed AS (SELECT account_id, {' + '.join(known) or '0'} AS known, {', '.join(points)} FROM scored),",
            f"topped AS (SELECT *, {top} AS top FROM pointed),",
            f"summed AS (SELECT *, {total} AS total FROM topped),",
            f"shared AS (SELECT account_id, known, {', '.join(share)} FROM summed),",
            f"ranked AS (SELECT *, greatest({best}) AS best FROM shared)",
            f"SELECT account_id, CASE WHEN known < {enough} THEN {_text(UNASSIGNED)} {chosen} END AS segment_id,",
            f"CASE WHEN known < {enough} THEN NULL ELSE best END AS membership FROM ranked",
        ]
    )


def write_points(assigner: Mapping) -> pd.DataFrame:
    """What each fact about an account is worth for each segment.

    Returns
    -------
    One row per segment × trait × level that has points: segment_id, trait, level, points (log odds against the first
    segment). Numbers count by their normal score z: "z", "z × z of …" rows hold the factor, per pattern of known numbers in
    `given` (the numbers that are known); the row "start" holds the constant. Empty for bands and for the whole market.
    """
    columns = ["segment_id", "trait", "level", "given", "points"]
    if assigner["kind"] != "mixture":
        return pd.DataFrame({c: pd.Series([], dtype="str" if c != "points" else "float64") for c in columns})
    rows = []
    traits = [e["trait"] for e in assigner["recipe"]["numbers"]]
    for known, terms in number_terms(assigner):
        given = ", ".join(traits[i] for i in known) or "no number"
        for about, values in terms:
            trait = "start" if not about else traits[about[0]]
            level = "" if not about else "z" if len(about) == 1 else f"z × z of {traits[about[1]]}"
            rows += [(i, trait, level, given, v) for i, v in zip(assigner["ids"], values, strict=True)]
    for entry, points in level_points(assigner):
        name = entry["trait"] if entry["kind"] != "tool" else f"{entry['trait']}: {entry['tool']}"
        for level, values in zip(entry["levels"], points, strict=True):
            rows += [(i, name, level, "", v) for i, v in zip(assigner["ids"], values, strict=True)]
    table = pd.DataFrame(rows, columns=columns)
    return table[(table["points"] != 0) | (table["trait"] == "start")].reset_index(drop=True)


def write_formulas(assigner: Mapping) -> pd.DataFrame:
    """The assigner as Salesforce formula fields that build on each other: scores of numbers, points, and the segment.

    Returns
    -------
    One row per field in the order in which they must be made: field, returns (number or text), formula, characters. No
    formula is longer than a field may hold: long sums are spread over several fields. Empty for the whole market.
    """
    made: list[tuple[str, str, str]] = []
    if assigner["kind"] == "bands":
        made.append(("icp_segment", "text", _formula_of_bands(assigner)))
    elif assigner["kind"] == "mixture":
        recipe, ids = assigner["recipe"], list(assigner["ids"])
        for e in recipe["numbers"]:
            made += _formula_score(e)
        every = [f"IF({_formula_known(e)}, 1, 0)" for e in recipe["discrete"]]
        every += [f"IF(ISBLANK({e['trait']}), 0, 1)" for e in recipe["numbers"]]
        made += _spread("icp_known", every)
        made.append(("icp_pattern", "number", _formula_pattern(assigner)))
        for c, i in enumerate(ids[1:], 1):
            made += _spread(f"icp_points_{i}", [*_formula_numbers(assigner, c), *_formula_levels(assigner, c)])
        choice = f'"{ids[0]}"'
        for place in range(len(ids) - 1, 0, -1):
            others = ["0", *(f"icp_points_{i}" for i in ids[1:])]
            ahead = [f"{others[place]} > {o}" for o in others[:place]]
            after = [f"{others[place]} >= {o}" for o in others[place + 1 :]]
            choice = f'IF(AND({", ".join([*ahead, *after])}), "{ids[place]}", {choice})'
        enough = assigner["min_known_share"] * len(every)
        made.append(("icp_segment", "text", f'IF(icp_known < {enough!r}, "{UNASSIGNED}", {choice})'))
    table = pd.DataFrame(made, columns=["field", "returns", "formula"]).astype("str")
    return table.assign(characters=table["formula"].str.len().astype("int64"))


def number_terms(assigner: Mapping) -> list[tuple[np.ndarray, list[tuple[tuple[int, ...], np.ndarray]]]]:
    """Per pattern of known numbers, largest first: (which are known, [(numbers of the term, points per segment)])."""
    d = len(assigner["recipe"]["numbers"])
    model = model_of(assigner)
    kinds = frozen_kinds(assigner)
    out = []
    for kind in kinds[np.argsort(-kinds.sum(axis=1), kind="stable")]:
        known = np.flatnonzero(kind)
        pattern = pattern_of(np.zeros((0, d)), np.zeros(0), kind)
        coefficient = gaussian(pattern, model)[0] if len(known) else np.zeros((model.k, 1))
        coefficient[:, 0] += np.log(model.weight[0])
        coefficient = coefficient - coefficient[0]
        about = [(), *((int(i),) for i in known)]
        about += [(int(known[i]), int(known[j])) for i, j in zip(*pattern.pairs, strict=True)]
        terms = [
            (a, coefficient[:, t]) for t, a in enumerate(about) if not a or np.abs(coefficient[:, t]).max() > 1e-12
        ]
        out.append((known, terms))
    return out


def level_points(assigner: Mapping) -> list[tuple[dict, np.ndarray]]:
    """Per discrete variable that tells segments apart: its entry of the recipe and points (levels, segments)."""
    rate = np.array(assigner["rate"], dtype=float).reshape(-1, len(assigner["ids"]))
    points = np.log(rate) - np.log(rate[:, :1])
    out, start = [], 0
    for entry in assigner["recipe"]["discrete"]:
        part = points[start : start + len(entry["levels"])]
        start += len(entry["levels"])
        if np.abs(part).max() > 1e-12:
            out.append((entry, part))
    return out


def _sql_numbers(assigner: Mapping, c: int) -> list[str]:
    traits = [_name(_z(e["trait"])) for e in assigner["recipe"]["numbers"]]
    cases = []
    for known, terms in number_terms(assigner):
        worth = " + ".join(
            " * ".join([_number(values[c]), *(traits[i] for i in about)]) for about, values in terms if values[c] != 0
        )
        when = " AND ".join(f"{traits[i]} IS NOT NULL" for i in known)
        cases.append(f"WHEN {when} THEN {worth or '0e0'}" if when else f"ELSE {worth or '0e0'}")
    only = len(cases) == 1
    return [cases[0].removeprefix("ELSE ")] if only else [f"CASE {' '.join(cases)} END"]


def _sql_levels(assigner: Mapping, c: int) -> list[str]:
    out = []
    for entry, points in level_points(assigner):
        worth = [float(p) for p in points[:, c]]
        if not any(worth):
            continue
        column = _name(entry["trait"])
        if entry["kind"] == "band":
            cases = [
                f"WHEN {column} < {_number(e)} THEN {_number(w)}" for e, w in zip(entry["edges"], worth, strict=False)
            ]
            out.append(f"CASE WHEN {column} IS NULL THEN 0e0 {' '.join(cases)} ELSE {_number(worth[-1])} END")
            continue
        if entry["kind"] == "tool":
            out.append(
                f"CASE WHEN {column} IS NULL THEN 0e0 WHEN {_sql_holds(entry)} THEN {_number(worth[1])} ELSE {_number(worth[0])} END"
            )
            continue
        if entry["kind"] == "flag":
            out.append(
                f"CASE WHEN {column} THEN {_number(worth[1])} WHEN NOT {column} THEN {_number(worth[0])} ELSE 0e0 END"
            )
            continue
        named = [(v, w) for v, w in zip(entry["levels"], worth, strict=True) if v != OTHER]
        cases = [f"WHEN {column} = {_text(v)} THEN {_number(w)}" for v, w in named]
        rest = worth[entry["levels"].index(OTHER)] if OTHER in entry["levels"] else 0.0
        out.append(f"CASE WHEN {column} IS NULL THEN 0e0 {' '.join(cases)} ELSE {_number(rest)} END")
    return out


def _sql_known(entry: Mapping) -> str:
    column = _name(entry["trait"])
    if entry["kind"] == "category" and OTHER not in entry["levels"]:
        return f"{column} IN ({', '.join(_text(v) for v in entry['levels'])})"
    return f"{column} IS NOT NULL"


def _sql_holds(entry: Mapping) -> str:
    spaced = f"replace(replace({_name(entry['trait'])}, '; ', ';'), ' ;', ';')"
    return f"position({_text(';' + entry['tool'] + ';')} IN ';' || {spaced} || ';') > 0"


def _sql_score(entry: Mapping) -> str:
    """Linear between knots, flat outside them; unknown for what is no finite number."""
    column = _name(entry["trait"])
    values, scores = entry["values"], entry["scores"]
    cases = [f"WHEN NOT {column} BETWEEN -{LARGEST} AND {LARGEST} OR {column} IS NULL THEN NULL"]
    cases.append(f"WHEN {column} <= {_number(values[0])} THEN {_number(scores[0])}")
    for (low, high), (a, b) in zip(pairwise(values), pairwise(scores), strict=True):
        slope = (b - a) / (high - low)
        cases.append(
            f"WHEN {column} < {_number(high)} THEN ({column} - {_number(low)}) * {_number(slope)} + {_number(a)}"
        )
    return f"CASE {' '.join(cases)} ELSE {_number(scores[-1])} END"


def _sql_of_bands(assigner: Mapping, table: str) -> str:
    column, edges = _name(assigner["trait"]), assigner["edges"]
    cases = [f"WHEN {column} < {_number(e)} THEN {_text(i)}" for e, i in zip(edges, _band_ids(assigner), strict=False)]
    last = _text(_band_ids(assigner)[-1])
    unknown = f"WHEN {column} IS NULL OR {column} <> {column} THEN"
    return (
        f"SELECT account_id, CASE {unknown} {_text(UNASSIGNED)} {' '.join(cases)} ELSE {last} END AS segment_id,\n"
        f"CASE {unknown} NULL ELSE 1e0 END AS membership FROM {_name(table)}"
    )


def _band_ids(assigner: Mapping) -> list[str]:
    """Ids from the lowest band to the highest."""
    place = assigner.get("place", list(range(len(assigner["ids"]))))
    return [i for _, i in sorted(zip(place, assigner["ids"], strict=True))]


def _formula_of_bands(assigner: Mapping) -> str:
    trait, ids = assigner["trait"], _band_ids(assigner)
    text = f'"{ids[-1]}"'
    for edge, i in reversed(list(zip(assigner["edges"], ids, strict=False))):
        text = f'IF({trait} < {edge!r}, "{i}", {text})'
    return f'IF(ISBLANK({trait}), "{UNASSIGNED}", {text})'


def _formula_score(entry: Mapping) -> list[tuple[str, str, str]]:
    """A sum of clipped steps, one term per stretch between knots: it may be spread over several fields."""
    trait, values, scores = entry["trait"], entry["values"], entry["scores"]
    terms = [f"{scores[0]!r}"]
    for (low, high), (a, b) in zip(pairwise(values), pairwise(scores), strict=True):
        slope = (b - a) / (high - low)
        terms.append(f"{slope!r} * (MIN(MAX({trait}, {low!r}), {high!r}) - {low!r})")
    return _spread(_z(trait), terms)


def _formula_pattern(assigner: Mapping) -> str:
    """Which pattern of known numbers an account has: the first, largest, of which every number is there."""
    traits = [e["trait"] for e in assigner["recipe"]["numbers"]]
    kinds = [known for known, _ in number_terms(assigner)]
    text = str(len(kinds))
    for place in range(len(kinds) - 1, 0, -1):
        there = ", ".join(f"NOT(ISBLANK({traits[i]}))" for i in kinds[place - 1])
        text = f"IF(AND({there}), {place}, {text})"
    return text


def _formula_numbers(assigner: Mapping, c: int) -> list[str]:
    """What each pattern of known numbers is worth."""
    traits = [_z(e["trait"]) for e in assigner["recipe"]["numbers"]]
    out = []
    for place, (_, terms) in enumerate(number_terms(assigner), 1):
        worth = [" * ".join([repr(float(v[c])), *(traits[i] for i in about)]) for about, v in terms if v[c] != 0]
        out.append(f"IF(icp_pattern = {place}, {' + '.join(worth) or '0'}, 0)")
    return out


def _formula_levels(assigner: Mapping, c: int) -> list[str]:
    out = []
    for entry, points in level_points(assigner):
        worth, trait = [float(p) for p in points[:, c]], entry["trait"]
        if not any(worth):
            continue
        if entry["kind"] == "band":
            text = f"{worth[-1]!r}"
            for edge, w in reversed(list(zip(entry["edges"], worth, strict=False))):
                text = f"IF({trait} < {edge!r}, {w!r}, {text})"
            out.append(f"IF(ISBLANK({trait}), 0, {text})")
        elif entry["kind"] == "tool":
            out.append(
                f"IF(ISBLANK({trait}), 0, IF(INCLUDES({trait}, {_quoted(entry['tool'])}), {worth[1]!r}, {worth[0]!r}))"
            )
        else:
            said = {YES: "Yes", NO: "No"} if entry["kind"] == "flag" else {}
            named = [(said.get(v, v), w) for v, w in zip(entry["levels"], worth, strict=True) if v != OTHER]
            rest = worth[entry["levels"].index(OTHER)] if OTHER in entry["levels"] else 0.0
            cases = ", ".join(f"{_quoted(v)}, {w!r}" for v, w in named)
            out.append(f"IF(ISBLANK({trait}), 0, CASE({trait}, {cases}, {rest!r}))")
    return out


def _formula_known(entry: Mapping) -> str:
    trait = entry["trait"]
    if entry["kind"] == "category" and OTHER not in entry["levels"]:
        return f"OR({', '.join(f'{trait} = {_quoted(v)}' for v in entry['levels'])})"
    return f"NOT(ISBLANK({trait}))"


def _spread(field: str, terms: list[str]) -> list[tuple[str, str, str]]:
    """A sum as one field, or as parts that each fit and a field that adds them up."""
    parts: list[list[str]] = [[]]
    length = 0
    for term in terms:
        if parts[-1] and length + len(term) + 3 > FORMULA_CHARACTERS:
            parts, length = [*parts, []], 0
        parts[-1].append(term)
        length += len(term) + 3
    if len(parts) == 1:
        return [(field, "number", " + ".join(parts[0]) or "0")]
    names = [f"{field}_part{n}" for n in range(1, len(parts) + 1)]
    made = [(n, "number", " + ".join(p)) for n, p in zip(names, parts, strict=True)]
    return [*made, (field, "number", " + ".join(names))]


def _z(trait: str) -> str:
    return f"z_{trait}"


def _number(value: float) -> str:
    """A double in any SQL: a plain decimal would be read as an exact number of few digits."""
    text = repr(float(value))
    text = text if "e" in text else f"{text}e0"
    return f"({text})" if value < 0 else text


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
