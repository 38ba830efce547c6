"""The card in every form gives the same points as the model itself, to the last one."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec

import duckdb
import numpy as np
import pandas as pd
import pytest

from icplab.activation.dialects import DIALECTS, PROVED, card_in
from icplab.activation.formulas import MAX_BYTES, MAX_CHARACTERS, field_names, hubspot_rules, salesforce_fields
from icplab.activation.scorecard import chance_by_points, write_scorecard
from icplab.core.model import Input, account_points, apply_model, card_query, points_columns, points_of, win_probability
from tests import postgres_server
from tests.made_cards import evaluate_formula, holds, made_accounts, made_model

MODEL, ACCOUNTS = made_model(), made_accounts()
SEEDS = (1, 2, 3)
no_java = not (shutil.which("java") or os.environ.get("JAVA_HOME")) or find_spec("pyspark") is None


def compare(got: pd.DataFrame, model=MODEL) -> None:
    """Rows of a query against the model: points and tiers equal, floats to 1e-9."""
    scored = apply_model(model, ACCOUNTS).set_index("account_id")
    got = got.set_index("account_id").loc[scored.index]
    assert got["points"].astype("int64").tolist() == account_points(model, ACCOUNTS).tolist()
    for column, item in zip(points_columns(model), model.inputs, strict=True):
        assert got[column].astype("int64").tolist() == points_of(item, ACCOUNTS).tolist(), column
    assert got["tier"].tolist() == scored["tier"].tolist()
    assert np.allclose(got["win_probability"].astype(float), scored["win_probability"], atol=6e-7)
    assert np.allclose(got["expected_value"].astype(float), scored["expected_value"], atol=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_duckdb_gives_the_model_s_points(seed):
    model = made_model(seed)
    with duckdb.connect() as connection:
        connection.register("accounts", ACCOUNTS.astype({"cloud first?": object}))
        compare(connection.sql(card_in("duckdb", model)).df(), model)


@pytest.mark.skipif(postgres_server.programs() is None, reason="PostgreSQL is left out: it is not installed")
def test_postgresql_gives_the_model_s_points():
    server = postgres_server.server()
    kinds = {"float64": "double precision", "boolean": "boolean", "str": "text"}
    rows = ACCOUNTS.astype(object).where(ACCOUNTS.notna(), None).to_numpy().tolist()
    server.fill("accounts", [n.replace('"', '""') for n in ACCOUNTS], [kinds[str(t)] for t in ACCOUNTS.dtypes], rows)
    import psycopg

    for seed in SEEDS:
        model = made_model(seed)
        with psycopg.connect(server.url()) as connection:
            cursor = connection.execute(card_in("postgres", model).encode())
            names = [c.name for c in cursor.description or ()]
            compare(pd.DataFrame(cursor.fetchall(), columns=names), model)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.skipif(no_java, reason="Spark is left out: Java 17 or pyspark is not installed")
@pytest.mark.filterwarnings("default")
def test_spark_gives_the_model_s_points():
    from icplab.core.engine import _arrow, _spark

    spark = _spark(os.environ.get("ICPLAB_SPARK_MASTER", "local[2]"))
    try:
        spark.createDataFrame(_arrow(ACCOUNTS)).createOrReplaceTempView("accounts")
        for seed in SEEDS:
            model = made_model(seed)
            compare(spark.sql(card_in("spark", model).rstrip().rstrip(";")).toPandas(), model)
    finally:
        spark.stop()


def test_the_other_dialects_read_back_and_say_that_they_were_not_run():
    from sqlglot import exp, parse_one

    for dialect in set(DIALECTS) - set(PROVED):
        text = card_in(dialect, MODEL)
        assert "not run" in text.splitlines()[0]
        tree, ours = parse_one(text, read=dialect), parse_one(card_query(MODEL), read="duckdb")
        for kind in (exp.Case, exp.If):
            assert len(list(tree.find_all(kind))) == len(list(ours.find_all(kind)))
        literals = [sorted(n.this for n in t.find_all(exp.Literal) if n.is_string) for t in (tree, ours)]
        assert literals[0] == literals[1]


def test_salesforce_formula_fields_add_up_to_the_model_s_points():
    fields = {row["field"]: row["formula"] for row in salesforce_fields(MODEL)}
    names = {row["trait"]: row["field"] for row in field_names(MODEL)}
    expected = account_points(MODEL, ACCOUNTS)
    segment = points_of(MODEL.inputs[-1], ACCOUNTS)
    frame = ACCOUNTS.drop(columns="segment_id").assign(segment=segment)
    frame["cloud first?"] = frame["cloud first?"].map({True: "yes", False: "no"}).astype(object)
    for row, points in list(zip(frame.to_dict("records"), expected, strict=True))[:400]:
        record = {names[t]: None if pd.isna(v) else v for t, v in row.items() if t in names}
        for name, formula in fields.items():
            record[name] = evaluate_formula(formula, record)
        assert record["ICP_Points__c"] == points


def test_long_formulas_are_split_within_the_platform_s_limits_and_still_add_up():
    levels = tuple(f"a rather long level of the industry, number {k:03d} of many, größer" for k in range(120))
    wide = Input(
        "industry", "accounts", "category", (*levels, "(other)"), (*(float(k % 7 - 3) for k in range(120)), 2.0), 1.0
    )
    model = replace(MODEL, inputs=(*MODEL.inputs[:4], wide), base_points=5)
    fields = salesforce_fields(model)
    assert len(fields) > 3
    assert all(f["characters"] <= MAX_CHARACTERS and f["bytes"] <= MAX_BYTES for f in fields)
    plain = {row["field"]: None for row in field_names(model)}
    for level, points in [(levels[0], -3), (levels[119], 119 % 7 - 3), ("elsewhere", 2), (None, 1)]:
        record = {**plain, "Industry": level}
        for field in fields:
            record[field["field"]] = evaluate_formula(field["formula"], record)
        unknown = sum(i.missing for i in MODEL.inputs[:4])
        assert record["ICP_Points__c"] == 5 + unknown + points


def test_exactly_one_hubspot_rule_per_input_holds_and_the_points_add_up():
    rules = hubspot_rules(MODEL)["rules"]
    segment = points_of(MODEL.inputs[-1], ACCOUNTS)
    frame = ACCOUNTS.assign(
        name="x", icp_segment_points=segment.astype(object), numberofemployees=ACCOUNTS["employees"]
    )
    frame["cloud first?"] = frame["cloud first?"].map({True: "true", False: "false"}).astype(object)
    frame = frame.rename(columns={"cloud first?": "cloud_first", 'need "now"': "need_now"})
    for row, points in list(zip(frame.to_dict("records"), account_points(MODEL, ACCOUNTS), strict=True))[:400]:
        company = {k: None if pd.isna(v) else v for k, v in row.items()}
        met = [r for r in rules if all(holds(c, company) for c in r["filters"])]
        assert len({r["input"] for r in met}) == len(met)
        assert sum(r["points"] for r in met) == points


def test_the_table_of_chances_needs_no_exponential_and_covers_every_total():
    table = chance_by_points(MODEL).set_index("points")["win_probability"]
    points = account_points(MODEL, ACCOUNTS)
    assert set(points) <= set(table.index)
    assert np.allclose(table.loc[points], win_probability(MODEL, points), atol=6e-5)


def test_forms_are_written_with_hashes_and_what_was_proved(tmp_path):
    written = write_scorecard(MODEL, tmp_path)
    notes = {row["file"]: row["note"] for row in written}
    assert set(notes) == {*(f"scorecard_{d}.sql" for d in DIALECTS), "salesforce_formulas.json", "hubspot_score.json"}
    assert "not run" in notes["scorecard_snowflake.sql"]
    assert "equal" in notes["scorecard_duckdb.sql"]
    fields = json.loads((tmp_path / "salesforce_formulas.json").read_text(encoding="utf-8"))
    assert fields["model_version"] == MODEL.version
