"""Reads the frozen model, makes its scorecard as Salesforce formula fields and as HubSpot score rules."""

from __future__ import annotations

import re

import numpy as np

from icplab.core.model import OTHER, Input, Model

# Limits of a Salesforce formula: characters, and bytes once saved. The compiled size (5,000 bytes) includes every field that is
# referred to and is only known to the platform.
MAX_CHARACTERS, MAX_BYTES = 3_900, 4_000
MAX_NAME = 40  # characters of a Salesforce field's API name, without __c
SEGMENT_POINTS = "ICP_Segment_Points__c"  # a stored number: memberships come from the assigner, not from a formula
STANDARD = {
    "industry": "Industry",
    "employees": "NumberOfEmployees",
    "annual_revenue": "AnnualRevenue",
    "country": "BillingCountry",
    "founded_year": "YearStarted",
    "motion": "ICP_Motion__c",
    "segment_id": "ICP_Segment__c",
}
TEXTS = (
    "BillingCountry",
    "YearStarted",
    "ICP_Motion__c",
    "ICP_Segment__c",
)  # text fields; other categories are picklists
FIELD_TYPES = {
    "number": "Number or Currency",
    "flag": "Picklist with yes and no (a checkbox has no unknown state)",
    "category": "Picklist",
    "item": "Multi-Select Picklist",
    "posterior": "Number, filled by the account import",
}


def field_names(model: Model) -> list[dict]:
    """Input, trait, Salesforce field and its type, one per input; names unique within the platform's length."""
    taken: dict[str, str] = {}
    rows = []
    for item in model.inputs:
        if item.trait not in taken:
            taken[item.trait] = _field(item, set(taken.values()))
        field = taken[item.trait]
        kind = "Text" if field in TEXTS else FIELD_TYPES[item.kind]
        rows.append({"input": item.name, "trait": item.trait, "field": field, "type": kind})
    return rows


def salesforce_fields(model: Model) -> list[dict]:
    """Formula fields that add up to the points of an account: name, formula, characters, bytes.

    Terms are packed into as few fields as the limits allow; a single term that is too long is split over its levels. The last
    field, ICP_Points__c, adds the others to the base.
    """
    names = {row["input"]: row["field"] for row in field_names(model)}
    terms = [part for item in model.inputs for part in _fitting(item, names[item.name])]
    packed: list[list[str]] = []
    for term in terms:
        if packed and _fits(" + ".join([*packed[-1], term])):
            packed[-1].append(term)
        else:
            packed.append([term])
    parts = [(f"ICP_Points_{k}__c", " + ".join(part)) for k, part in enumerate(packed, start=1)]
    total = " + ".join([str(int(model.base_points)), *(name for name, _ in parts)])
    return [
        {"field": name, "returns": "Number(18, 0)", "formula": text, "characters": len(text), "bytes": _bytes(text)}
        for name, text in [*parts, ("ICP_Points__c", total)]
    ]


def hubspot_rules(model: Model) -> dict:
    """Score rules: each adds points where its filter holds; exactly one rule of an input holds for a company.

    Operators are those of HubSpot's filters. The base is a rule that every company meets.
    """
    rules = [{"input": "base", "filters": [_filter("name", "HAS_PROPERTY")], "points": int(model.base_points)}]
    for item in model.inputs:
        name = _property(item)
        for filters, points in _conditions(item, name):
            rules.append({"input": item.name, "filters": filters, "points": int(points)})
    return {
        "property": "icp_points",
        "how": "sum of the points of all rules whose filters all hold",
        "rules": [r for r in rules if r["points"] or r["input"] == "base"],
    }


def _conditions(item: Input, name: str) -> list[tuple[list[dict], float]]:
    """Filters and points of every level of an input, the unknown one last."""
    unknown = ([_filter(name, "NOT_HAS_PROPERTY")], np.rint(item.missing))
    if item.kind == "posterior":  # points are stored per company: one rule per possible number of points
        low, high = int(min(*item.points, item.missing)), int(max(*item.points, item.missing))
        return [*(([_filter(name, "EQ", str(p))], p) for p in range(low, high + 1)), unknown]
    if item.kind == "number":
        return [*_ranges(item, name), unknown]
    if item.kind == "item":
        has = [_filter(name, "CONTAINS_TOKEN", item.item)]
        lacks = [_filter(name, "HAS_PROPERTY"), _filter(name, "NOT_CONTAINS_TOKEN", item.item)]
        return [(lacks, item.points[0]), (has, item.points[1]), unknown]
    values = ["false", "true"] if item.kind == "flag" else list(item.levels)
    rows = [([_filter(name, "EQ", v)], p) for v, p in zip(values, item.points, strict=True) if v != OTHER]
    if item.kind == "category":
        rest = item.points[item.levels.index(OTHER)] if OTHER in item.levels else np.rint(item.missing)
        others = [_filter(name, "HAS_PROPERTY"), _filter(name, "NOT_IN", *(v for v in item.levels if v != OTHER))]
        rows.append((others, rest))
    return [*rows, unknown]


def _ranges(item: Input, name: str) -> list[tuple[list[dict], float]]:
    edges = [f"{e:.17g}" for e in item.edges]
    rows: list[tuple[list[dict], float]] = [([_filter(name, "LT", edges[0])], item.points[0])]
    for low, high, points in zip(edges[:-1], edges[1:], item.points[1:-1], strict=True):
        rows.append(([_filter(name, "GTE", low), _filter(name, "LT", high)], points))
    return [*rows, ([_filter(name, "GTE", edges[-1])], item.points[-1])]


def _filter(name: str, operator: str, *values: str) -> dict:
    if operator in ("IN", "NOT_IN"):
        return {"propertyName": name, "operator": operator, "values": list(values)}
    return {"propertyName": name, "operator": operator, **({"value": values[0]} if values else {})}


def _property(item: Input) -> str:
    """HubSpot property of an input: its own for what companies have by default."""
    standard = {"employees": "numberofemployees", "annual_revenue": "annualrevenue", "segment": "icp_segment_points"}
    if item.kind == "posterior":
        return "icp_segment_points"
    plain = re.sub(r"[^a-z0-9_]+", "_", item.trait.lower()).strip("_")
    return standard.get(item.trait, plain)


def _field(item: Input, taken: set[str]) -> str:
    """API name of the field that holds a trait."""
    if item.kind == "posterior":
        return SEGMENT_POINTS
    if item.trait in STANDARD:
        return STANDARD[item.trait]
    plain = re.sub(r"[^A-Za-z0-9]+", "_", item.trait).strip("_") or "Trait"
    plain = plain if plain[0].isalpha() else f"T_{plain}"
    stem, name, k = plain[:MAX_NAME].strip("_"), "", 1
    while not name or name in taken:
        suffix = f"_{k}" if k > 1 else ""
        name, k = f"{stem[: MAX_NAME - len(suffix)].strip('_')}{suffix}__c", k + 1
    return name


def _fitting(item: Input, field: str) -> list[str]:
    """The formula of an input, in as many terms as the limits ask for; together they give its points."""
    whole = _term(item, field)
    if _fits(whole):
        return [whole]
    # Only lists of levels grow that long: each part adds what its own levels earn above the rest.
    rest, levels = _rest(item), [(v, p) for v, p in zip(item.levels, item.points, strict=True) if v != OTHER]
    parts: list[list[tuple[str, float]]] = [[]]
    for level in levels:
        if not _fits(_extra(field, [*parts[-1], level], rest)) and parts[-1]:
            parts.append([])
        parts[-1].append(level)
    start = f"IF({_blank(item, field)}, {_whole(item.missing)}, {_whole(rest)})"
    return [start, *(_extra(field, part, rest) for part in parts)]


def _extra(field: str, levels: list[tuple[str, float]], rest: float) -> str:
    cases = ", ".join(f"{_text(v)}, {_whole(p - rest)}" for v, p in levels)
    return f"CASE({_read(field)}, {cases}, 0)"


def _term(item: Input, field: str) -> str:
    """Points of one input as one formula."""
    missing, blank = _whole(item.missing), _blank(item, field)
    if item.kind == "posterior":
        return f"IF({blank}, {missing}, {field})"
    if item.kind == "number":
        nested = _whole(item.points[-1])
        for edge, points in reversed(list(zip(item.edges, item.points, strict=False))):
            nested = f"IF({field} < {_decimal(edge)}, {_whole(points)}, {nested})"
        return f"IF({blank}, {missing}, {nested})"
    if item.kind == "item":
        return f"IF({blank}, {missing}, IF(INCLUDES({field}, {_text(item.item)}), {_whole(item.points[1])}, {_whole(item.points[0])}))"
    if item.kind == "flag":
        return f'CASE({_read(field)}, "yes", {_whole(item.points[1])}, "no", {_whole(item.points[0])}, {missing})'
    rest = _rest(item)
    cases = [(v, p) for v, p in zip(item.levels, item.points, strict=True) if v != OTHER and _whole(p) != _whole(rest)]
    listed = "".join(f"{_text(v)}, {_whole(p)}, " for v, p in cases)
    of_level = f"CASE({_read(field)}, {listed}{_whole(rest)})" if cases else _whole(rest)
    return of_level if _whole(rest) == missing else f"IF({blank}, {missing}, {of_level})"


def _rest(item: Input) -> float:
    """Points of a level that the card does not name."""
    return item.points[item.levels.index(OTHER)] if OTHER in item.levels else item.missing


def _blank(item: Input, field: str) -> str:
    picklist = item.kind in ("flag", "category") and field not in TEXTS
    return f"ISBLANK(TEXT({field}))" if picklist else f"ISBLANK({field})"


def _read(field: str) -> str:
    return field if field in TEXTS else f"TEXT({field})"


def _text(value: str) -> str:
    """A text literal; line breaks cannot stand in one."""
    plain = re.sub(r"[\r\n\t]+", " ", value)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _whole(points: float) -> str:
    return str(int(np.rint(points)))


def _decimal(edge: float) -> str:
    """A number as Salesforce reads it: digits and a point, never an exponent."""
    return np.format_float_positional(edge, trim="-")


def _bytes(text: str) -> int:
    return len(text.encode())


def _fits(text: str) -> bool:
    return len(text) <= MAX_CHARACTERS and _bytes(text) <= MAX_BYTES
