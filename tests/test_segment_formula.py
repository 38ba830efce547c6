"""The frozen assigner as SQL, as points and as CRM formulas gives every account the segment that the assigner gives it."""

from __future__ import annotations

import json
import re

import duckdb
import numpy as np
import pandas as pd
import pytest

from benchmarks.segment_markets import make_continuum, make_planted
from icplab import segments
from icplab.core.config import Settings
from icplab.segments.formula import FORMULA_CHARACTERS
from tests.test_segments import QUICK, opened

SETTINGS = {**QUICK, "settings": Settings()}


def odd(accounts: pd.DataFrame) -> pd.DataFrame:
    """The accounts, some with cells emptied, far out, never seen or full of quotes."""
    frame = accounts.copy()
    rng = np.random.default_rng(4)
    for column in frame.columns.drop(["account_id", "family_id", "created_at"]):
        frame.loc[rng.random(len(frame)) < 0.1, column] = None
        if frame[column].dtype == "float64":
            frame.loc[frame.index % 37 == 0, column] = 1e9
            frame.loc[frame.index % 41 == 0, column] = -5.0
        elif frame[column].dtype == "str":
            frame.loc[frame.index % 43 == 0, column] = 'it\'s "new"; never, seen'
    return frame


def by_sql(assigner: dict, frame: pd.DataFrame) -> pd.DataFrame:
    with duckdb.connect() as connection:
        connection.register("accounts", frame)
        told = connection.execute(segments.write_sql(assigner)).df()
    return told.sort_values("account_id", ignore_index=True)


@pytest.fixture(scope="module", params=["own shapes", "simulated", "many numbers"])
def fitted(request):
    if request.param == "simulated":
        accounts, catalogue, *_ = opened("clean", 700, 12)
        traits = catalogue.loc[catalogue["table"] == "accounts", "trait"]
        accounts = accounts[["account_id", "family_id", "created_at", *[t for t in traits if t in accounts]]]
    else:
        made = make_planted(700, 3)
        accounts, catalogue = made.accounts, made.catalogue
    if request.param == "many numbers":
        rng = np.random.default_rng(1)
        first = catalogue.loc[catalogue["kind"] == "number", "trait"].iloc[0]
        for i in range(3):
            accounts[f"more{i}"] = (accounts[first].rank() + rng.normal(0, 200, 700)).where(rng.random(700) > 0.1)
            catalogue = pd.concat([catalogue, catalogue.tail(1).assign(trait=f"more{i}", kind="number")])
        catalogue = catalogue.reset_index(drop=True)
    found = segments.fit_segments(accounts, catalogue, **SETTINGS)
    assert found.assigner["kind"] == "mixture"
    return accounts, json.loads(json.dumps(found.assigner))


def test_the_query_gives_every_account_the_segment_of_the_assigner(fitted):
    accounts, assigner = fitted
    for frame in (accounts, odd(accounts)):
        expected = segments.assign_segments(assigner, frame)
        told = by_sql(assigner, frame)
        assert told["segment_id"].tolist() == expected["segment_id"].tolist()
        np.testing.assert_allclose(told["membership"], expected["membership"], atol=2e-6)


def test_the_odd_accounts_are_among_the_unassigned_and_the_assigned(fitted):
    accounts, assigner = fitted
    emptied = odd(accounts)
    emptied.loc[emptied.index % 10 == 0, emptied.columns.drop("account_id")] = None
    told = by_sql(assigner, emptied)
    assert (told["segment_id"] == "unassigned").sum() >= len(accounts) / 10
    assert told["segment_id"].tolist() == segments.assign_segments(assigner, emptied)["segment_id"].tolist()


def test_what_tells_no_segments_apart_has_no_points(fitted):
    _, assigner = fitted
    points = segments.write_points(assigner)
    names = [
        f"{e['trait']}: {e['tool']}" if e["kind"] == "tool" else e["trait"] for e in assigner["recipe"]["discrete"]
    ]
    idle = {n for n, own in zip(names, assigner["own"], strict=True) if not any(own)}
    assert idle
    assert not idle & set(points["trait"])
    first = assigner["ids"][0]
    assert (points.loc[points["segment_id"] == first, "points"] == 0).all()


def evaluate(formulas: pd.DataFrame, row: dict) -> str:
    """The formula fields of one account, evaluated as Salesforce would."""
    blank = lambda v: v is None or v != v  # noqa: E731
    names = {
        "IF": lambda a, b, c: b if a else c,
        "AND": lambda *a: all(a),
        "OR": lambda *a: any(a),
        "NOT": lambda a: not a,
        "ISBLANK": blank,
        "MIN": min,
        "MAX": max,
        "INCLUDES": lambda field, value: not blank(field) and value in field.split(";"),
        "CASE": lambda value, *rest: dict(zip(rest[:-1:2], rest[1::2], strict=True)).get(value, rest[-1]),
    }
    for field in formulas.itertuples():
        parts = re.split(r'("(?:[^"\\]|\\.)*")', field.formula)
        text = "".join(
            p if i % 2 else re.sub(r"(?<![<>])=(?!=)", "==", p).replace("====", "==") for i, p in enumerate(parts)
        )
        text = text.replace(">==", ">=")
        row[field.field] = eval(text, names, row)
    return row["icp_segment"]


def test_the_formula_fields_give_the_segment_of_the_assigner_and_fit_a_field(fitted):
    accounts, assigner = fitted
    formulas = segments.write_formulas(assigner)
    assert formulas["characters"].max() <= FORMULA_CHARACTERS
    frame = odd(accounts).sort_values("account_id").iloc[::7]
    expected = segments.assign_segments(assigner, frame).set_index("account_id")["segment_id"]
    yes_no = {e["trait"] for e in assigner["recipe"]["discrete"] if e["kind"] == "flag"}
    for record in frame.to_dict("records"):
        row = {k: None if pd.isna(v) else v for k, v in record.items()}
        row |= {t: {True: "Yes", False: "No"}.get(row[t]) for t in yes_no}
        numbers = {e["trait"] for e in assigner["recipe"]["numbers"]}
        row |= {t: float("nan") for t in numbers if row[t] is None}
        stacks = {e["trait"] for e in assigner["recipe"]["discrete"] if e["kind"] == "tool"}
        row |= {t: ";".join(p.strip() for p in row[t].split(";")) for t in stacks if row[t] is not None}
        assert evaluate(formulas, row) == expected[record["account_id"]]


@pytest.mark.parametrize("shape", ["uniform factor", "independent"])
def test_bands_and_the_whole_market_have_a_query_too(shape):
    made = make_continuum(600, 3, shape)
    found = segments.fit_segments(made.accounts, made.catalogue, **{**SETTINGS, "resamples": 2})
    frame = odd(made.accounts)
    expected = segments.assign_segments(found.assigner, frame)
    assert by_sql(found.assigner, frame)["segment_id"].tolist() == expected["segment_id"].tolist()
