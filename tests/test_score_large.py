"""Scoring large files: memberships and scores over Arrow columns are those of the ordinary way, to the last digit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from icplab.core.model import Columns, Input, Model, Value
from icplab.core.model.decode import add_worth, join_codes
from icplab.run.score import input_kinds, score_file
from icplab.run.score_large import score_parquet
from icplab.segments import ColumnAssigner, posteriors_of

NUMBERS = ("revenue", "employees", "age")
TOOLS = ("erp", "crm", "mail", *(f"tool {k}" for k in range(8)))  # more than eight: they are looked up by the eight


def made_accounts(n: int = 2500, seed: int = 1) -> pd.DataFrame:
    """Accounts with blanks everywhere, levels nobody knows, lists with doubles and spaces, and some that are all blank."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"account_id": [f"A{i:05d}" for i in range(n)]})
    for name in NUMBERS:
        frame[name] = np.where(rng.random(n) < 0.3, np.nan, rng.lognormal(3, 1.5, n).round(1))
    frame.loc[rng.random(n) < 0.01, "revenue"] = np.inf
    frame["sites"] = np.where(rng.random(n) < 0.2, np.nan, rng.integers(1, 9, n))
    frame["industry"] = pd.array(rng.choice(["Retail", " Software", "Space", "Steel", None], n), dtype="str")
    frame["country"] = pd.array(rng.choice(["FR", "DE", "XX", None], n), dtype="str")
    frame["cloud"] = pd.array(rng.choice([True, False, None], n), dtype="boolean")
    stacks = ["erp;crm", "crm; mail ;crm", "", ";", "fax", "mail", "erp;fax;mail;tool 7", "tool 0;tool 6", None]
    frame["stack"] = pd.array(rng.choice(stacks, n), dtype="str")
    frame["account_type"] = pd.array(rng.choice(["customer", "partner", "prospect", None], n), dtype="str")
    traits = [*NUMBERS, "sites", "industry", "country", "cloud", "stack"]
    frame.loc[rng.random(n) < 0.05, traits] = None
    return frame


def made_assigner(shared: bool, seed: int = 2) -> dict:
    """Three segments of a mixture, with a covariance for all or one for each; the last category has no level for the rest."""
    rng = np.random.default_rng(seed)
    scores = np.linspace(-2, 2, 9)
    recipe = {
        "numbers": [
            {"kind": "number", "trait": t, "values": np.exp(3 + 1.5 * scores).tolist(), "scores": scores.tolist()}
            for t in NUMBERS
        ],
        "discrete": [
            {"kind": "flag", "trait": "cloud", "levels": ["no", "yes"]},
            {"kind": "category", "trait": "country", "levels": ["FR", "DE"]},
            {"kind": "category", "trait": "industry", "levels": ["Retail", "Software", "other"]},
            {"kind": "band", "trait": "sites", "edges": [2.0, 5.0], "levels": ["a", "b", "c"]},
            *({"kind": "tool", "trait": "stack", "tool": t, "levels": ["no", "yes"]} for t in TOOLS),
        ],
        "left_out": [],
    }
    rate = np.vstack([rng.dirichlet(np.full(len(e["levels"]), 4.0), 3).T for e in recipe["discrete"]])
    spread = [0.5 * np.eye(3) + 0.1 * k for k in (1, 2, 3)]
    return {
        "kind": "mixture",
        "ids": ["S1", "S2", "S3"],
        "names": ["one", "two", "three"],
        "recipe": recipe,
        "weight": [0.5, 0.3, 0.2],
        "mean": rng.normal(0, 1, (3, 3)).tolist(),
        "covariance": (spread[0] if shared else np.array(spread)).tolist(),
        "rate": rate.tolist(),
        "own": np.ones((15, 3), dtype=bool).tolist(),
        "min_known_share": 0.35,
    }


BANDS = {
    "kind": "bands",
    "ids": ["S2", "S1", "S3"],
    "names": ["middle", "small", "large"],
    "trait": "sites",
    "edges": [3.0, 6.0],
    "place": [1, 0, 2],
    "recipe": {
        "numbers": [],
        "discrete": [{"kind": "band", "trait": "sites", "edges": [3.0, 6.0], "levels": ["a", "b", "c"]}],
        "left_out": [],
    },
}


def made_model(assigner: dict) -> Model:
    ids = tuple(sorted(assigner["ids"]))
    inputs = (
        Input("motion", "accounts", "category", ("new", "expansion"), (0.0, -4.0)),
        Input("segment", "accounts", "posterior", ids, (3.0, 6.0, 9.0), missing=5.0),
        Input("segment_id", "accounts", "category", ("S1", "S2", "S3"), (0.0, 1.0, 2.0), missing=1.0),
        Input("revenue", "accounts", "number", ("low", "mid", "high"), (0.0, 2.0, 5.0), 1.0, edges=(20.0, 50.0)),
        Input("cloud", "accounts", "flag", ("no", "yes"), (0.0, 7.0), missing=3.0),
        Input("industry", "accounts", "category", ("Retail", "Software", "(other)"), (0.0, 3.0, 1.0), missing=1.0),
        Input("country", "accounts", "category", ("FR", "DE"), (0.0, 2.0), missing=1.0),
        Input("stack", "accounts", "item", ("no", "yes"), (0.0, 6.0), missing=2.0, item="crm"),
        Input("unheard_of", "accounts", "flag", ("no", "yes"), (0.0, 6.0), missing=2.0),
    )
    effects = (Input("segment", "accounts", "posterior", ids, (-0.3, 0.1, 0.5), missing=0.05), inputs[3])
    value = Value("margin", 6.0, effects, 1.2, 0.7, {"": 2.0, "S1": 1.8, "S3": 2.5}, 300.0)
    return Model(
        *("2026-06-30", "icplab test", "", 365, "EUR", "usable", 0.2, 5, inputs, (-2.0, 0.05)),
        value=value,
        cuts={"tier_1": 400.0, "tier_2": 150.0, "tier_3": 10.0},
        segments=assigner,
    )  # fmt: skip


ASSIGNERS = {"shared": made_assigner(True), "own": made_assigner(False), "bands": BANDS}
ASSIGNERS["few known"] = {**made_assigner(False), "min_known_share": 0.9}
ASSIGNERS["without numbers"] = made_assigner(True) | {"covariance": [], "mean": [[], [], []]}
ASSIGNERS["without numbers"] |= {"recipe": {**ASSIGNERS["shared"]["recipe"], "numbers": []}}


@pytest.mark.parametrize("name", list(ASSIGNERS))
def test_memberships_over_columns_are_those_of_the_assigner(name):
    frame = made_accounts().assign(industry=lambda t: t["industry"].str.strip())
    expected = posteriors_of(ASSIGNERS[name], frame).drop(columns="account_id").to_numpy().T
    found = ColumnAssigner(ASSIGNERS[name]).memberships(Columns(pa.RecordBatch.from_pandas(frame)))
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.isnan(found).any()
    assert not np.isnan(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.1e-6)
    assert (found == expected)[~np.isnan(found)].mean() > 0.999


def test_more_numbers_than_patterns_are_told_apart_by_the_frequent_ones():
    rng, traits = np.random.default_rng(5), [f"n{k}" for k in range(6)]
    frame = pd.DataFrame({t: np.where(rng.random(900) < 0.2, np.nan, rng.normal(size=900)) for t in traits})
    frame["account_id"] = [f"A{i:05d}" for i in range(900)]
    numbers = [{"kind": "number", "trait": t, "values": [-3.0, 3.0], "scores": [-3.0, 3.0]} for t in traits]
    patterns = [[True] * 6, [True] * 5 + [False], [False] * 3 + [True] * 3]
    assigner = {**made_assigner(True), "mean": rng.normal(0, 1, (3, 6)).tolist(), "covariance": np.eye(6).tolist()}
    assigner |= {"recipe": {"numbers": numbers, "discrete": [], "left_out": []}, "rate": [], "patterns": patterns}
    expected = posteriors_of(assigner, frame).drop(columns="account_id").to_numpy().T
    found = ColumnAssigner(assigner).memberships(Columns(pa.RecordBatch.from_pandas(frame)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.1e-6)


@pytest.mark.parametrize("texts", [False, True], ids=["typed", "as text"])
@pytest.mark.parametrize("name", list(ASSIGNERS))
def test_large_files_are_scored_as_small_ones_are_to_the_last_point(name, texts, tmp_path, monkeypatch):
    monkeypatch.setattr("icplab.run.score_large.BLOCK", 300)
    model, frame = made_model(ASSIGNERS[name]), made_accounts()
    if texts:
        monkeypatch.setattr("icplab.core.model.decode.SAMPLE", 4)  # lists are then read one by one
        columns = [*NUMBERS, "sites", "cloud"]
        frame = frame.assign(**{c: frame[c].astype("str").where(frame[c].notna()) for c in columns})
    path, out = tmp_path / "accounts.parquet", tmp_path / "out.parquet"
    frame.to_parquet(path, row_group_size=1000)
    slow = score_file(path, model)
    counted = score_parquet(path, model, input_kinds(model), out)
    short = pd.read_parquet(out)
    for column in ("account_id", "segment_id", "motion", "points", "tier"):
        assert short[column].astype("str").tolist() == slow.scores[column].astype("str").tolist()
    for column, digit in (("win_probability", 1e-6), ("expected_value", 0.01)):
        np.testing.assert_allclose(short[column], slow.scores[column], rtol=0, atol=1.01 * digit)
    assert counted.tiers == slow.scores["tier"].value_counts().to_dict()
    assert {"insufficient", "not_icp"} <= set(counted.tiers)
    assert counted.unseen == slow.unseen
    assert counted.unknown == slow.unknown
    assert counted.missing == slow.missing == ["unheard_of"]


def test_columns_with_many_and_few_texts_add_up_alike():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({f"c{k}": rng.integers(0, top, 4000).astype(str) for k, top in enumerate([3, 5000, 7, 2, 90])})
    columns, total, expected = Columns(pa.RecordBatch.from_pandas(frame)), np.zeros(4000, dtype=np.int32), 0
    parts = []
    for name in frame:
        levels = sorted(frame[name].unique())[:-1]
        worth = rng.integers(-9, 9, len(levels) + 2).astype(np.int32)
        parts.append((columns.levels(name, levels), worth))
        expected = expected + frame[name].map(dict(zip(levels, worth, strict=False))).fillna(worth[-1]).to_numpy()
    add_worth(total, join_codes(parts))
    assert total.tolist() == expected.tolist()
