"""Made-up scorecards with awkward names and values, accounts for them, and readers of the forms a card is exported in."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from icplab.core.model import Input, Model, Value

ODD = ('O\'Brien \\ "x"; --', "naïve, 50 % {a}", "(brackets) $1", "ends with space ")
ITEM = ODD[0].replace(";", "")  # an item cannot hold what items are separated by


def made_model(seed: int = 1) -> Model:
    """A card with every kind of input, levels that must be quoted, points drawn at random."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[float, ...]:
        return tuple(float(p) for p in rng.integers(-9, 13, n))

    inputs = (
        Input(
            "employees",
            "accounts",
            "number",
            ("a", "b", "c", "d"),
            draw(4),
            float(rng.integers(-2, 3)),
            (9.5, 0.1e3, 2e6),
        ),
        Input("cloud first?", "accounts", "flag", ("no", "yes"), draw(2), 2.0),
        Input("tools", "accounts", "item", ("no", "yes"), draw(2), -1.0, item=ITEM),
        Input("tools", "accounts", "item", ("no", "yes"), draw(2), 1.0, item="chat"),
        Input("industry", "accounts", "category", (*sorted(ODD), "retail", "(other)"), draw(6), 1.0),
        Input('need "now"', "accounts", "category", ("grow", "save"), draw(2), 3.0),
        Input("motion", "accounts", "category", ("new", "expansion"), draw(2), 0.0),
        Input("segment", "accounts", "posterior", ("S1", "S2", "S3"), draw(3), -2.0),
    )
    money = (
        Input("segment", "accounts", "posterior", ("S1", "S2", "S3"), (0.4, -0.1, 0.02), 0.1),
        Input("employees", "accounts", "number", ("a", "b"), (-0.2, 0.3), 0.05, (100.0,)),
    )
    value = Value("margin", 8.5, money, 1.2, 0.7, {"": 2.2, "S1": 2.0, "S2": 2.5, "S3": 1.9}, 250.0)
    base = -int(sum(min(*i.points, i.missing) for i in inputs))
    cuts = {"tier_1": 9000.0, "tier_2": 4000.0, "tier_3": 500.0}
    return Model(
        *("2026-06-30", "made", "", 365, "EUR", "usable", 0.2, base, inputs, (-3.0, 0.08)), value=value, cuts=cuts
    )


def made_accounts(n: int = 3000, seed: int = 2) -> pd.DataFrame:
    """Accounts with blanks everywhere, values on the edges, unseen levels and memberships that meet halves exactly."""
    rng = np.random.default_rng(seed)

    def some(values: list, share: float = 0.15) -> np.ndarray:
        drawn = np.array(values, dtype=object)[rng.integers(0, len(values), n)]
        return np.where(rng.random(n) < share, None, drawn)

    stacks = [";".join(pair) for pair in (("chat", "mail"), (ITEM, "chat"), ("chatter",), ("mail",))]
    memberships = rng.dirichlet([0.4, 0.4, 0.4], n).round(6)
    memberships[: n // 3] = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])[rng.integers(0, 3, n // 3)]
    memberships[rng.random(n) < 0.1] = np.nan
    customer = rng.random(n) < 0.3
    segment = np.array(["S1", "S2", "S3"], dtype=object)[np.nan_to_num(memberships).argmax(axis=1)]
    segment[np.isnan(memberships[:, 0])] = "unassigned"
    frame = pd.DataFrame(
        {
            "account_id": [f"A{i:05d}" for i in range(n)],
            "account_type": some(["prospect", "customer", "partner", "competitor"]),
            "segment_id": segment,
            "is_customer": customer,
            "motion": np.where(customer, "expansion", "new"),
            "n_opportunities": 1.0,
            "employees": some([0.0, 9.5, 9.499999, 100.0, 99.9, 2e6, 1e9]).astype("float64"),
            "cloud first?": some([True, False]),
            "tools": some(stacks),
            "industry": some([*ODD, "retail", "never seen"]),
            'need "now"': some(["grow", "save", "neither"]),
        }
    )
    texts = ["account_id", "account_type", "segment_id", "motion", "tools", "industry", 'need "now"']
    frame = frame.astype({**dict.fromkeys(texts, "str"), "cloud first?": "boolean", "is_customer": "boolean"})
    return frame.assign(**{f"posterior_S{k + 1}": memberships[:, k] for k in range(3)})


def evaluate_formula(text: str, fields: dict[str, object]) -> float:
    """A Salesforce formula of the kind the card is written in, for one record; `fields` holds None where a field is blank."""
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|[A-Za-z_]\w*|\d+(?:\.\d+)?|[-+<(),]', text)
    value, rest = _sum(tokens, fields)
    assert not rest, rest
    return value


def _sum(tokens: list[str], fields: dict) -> tuple[object, list[str]]:
    value, tokens = _comparison(tokens, fields)
    while tokens and tokens[0] == "+":
        other, tokens = _comparison(tokens[1:], fields)
        value = value + other
    return value, tokens


def _comparison(tokens: list[str], fields: dict) -> tuple[object, list[str]]:
    value, tokens = _atom(tokens, fields)
    if tokens and tokens[0] == "<":
        other, tokens = _atom(tokens[1:], fields)
        value = None if value is None else value < other
    return value, tokens


def _atom(tokens: list[str], fields: dict) -> tuple[object, list[str]]:
    first, tokens = tokens[0], tokens[1:]
    if first == "-":
        value, tokens = _atom(tokens, fields)
        return -value, tokens
    if first.startswith('"'):
        return re.sub(r"\\(.)", r"\1", first[1:-1]), tokens
    if first[0].isdigit():
        return float(first), tokens
    if not tokens or tokens[0] != "(":
        return fields[first], tokens
    arguments, tokens = [], tokens[1:]
    while True:
        value, tokens = _sum(tokens, fields)
        arguments.append(value)
        mark, tokens = tokens[0], tokens[1:]
        if mark == ")":
            return _call(first, arguments), tokens


def _call(name: str, given: list) -> object:
    if name == "IF":
        return given[1] if given[0] else given[2]
    if name == "ISBLANK":
        return given[0] in (None, "")
    if name == "TEXT":
        return given[0] or ""
    if name == "INCLUDES":
        return given[1] in (given[0] or "").split(";")
    assert name == "CASE"
    pairs = dict(zip(given[1:-1:2], given[2:-1:2], strict=True))
    return pairs.get(given[0], given[-1])


def holds(condition: dict, company: dict) -> bool:
    """Whether one filter of a HubSpot score rule holds; `company` holds None where a property is unknown."""
    own, operator = company.get(condition["propertyName"]), condition["operator"]
    if operator == "HAS_PROPERTY":
        return own is not None
    if operator == "NOT_HAS_PROPERTY" or own is None:
        return own is None and operator == "NOT_HAS_PROPERTY"
    value = condition.get("value")
    if operator in ("LT", "GTE"):
        return float(own) < float(value) if operator == "LT" else float(own) >= float(value)
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        return (value in str(own).split(";")) == (operator == "CONTAINS_TOKEN")
    if operator == "NOT_IN":
        return own not in condition["values"]
    assert operator == "EQ"
    return str(own) == value
