"""Scoring a file with a frozen model: the model's own arithmetic, and everything it did not know is counted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import cli
from icplab.core.errors import BadInput
from icplab.core.model import Input, Model, Value, to_document
from icplab.core.store import read_parquet
from icplab.run.score import describe_scores, input_kinds, score_file, write_scores

WHOLE = {
    "kind": "whole",
    "ids": ["S0"],
    "names": ["whole market"],
    "recipe": {"numbers": [], "discrete": [], "left_out": []},
}
ACCOUNTS = (
    "account_id,account_type,cloud_first,employees,industry\n"
    'A3,partner,yes,10,Retail\nA1,,Yes,500,Retail\n"A2",customer,no,,Space\n'
)


@pytest.fixture
def model() -> Model:
    """Ten points for the cloud, five for size; each point adds 0.1 to the log-odds of winning, from −2."""
    inputs = (
        Input("cloud_first", "accounts", "flag", ("no", "yes"), (0.0, 10.0), missing=4.0),
        Input("employees", "accounts", "number", ("below 100", "100 or more"), (0.0, 5.0), edges=(100.0,)),
        Input("industry", "accounts", "category", ("Retail", "Software"), (0.0, 3.0), missing=1.0),
    )
    return Model(
        "2026-06-30",
        "icplab test",
        "",
        365,
        "EUR",
        "usable",
        0.2,
        inputs=inputs,
        calibration=(-2.0, 0.1),
        value=Value("amount", intercept=7.0),
        cuts={"tier_1": 300.0, "tier_2": 150.0, "tier_3": 10.0},
        segments=WHOLE,
    )


@pytest.fixture
def accounts(tmp_path):
    path = tmp_path / "accounts.csv"
    path.write_text(ACCOUNTS, encoding="utf-8")
    return path


def test_points_become_probabilities_by_the_frozen_calibration(accounts, model):
    scores = score_file(accounts, model).scores.set_index("account_id")
    assert list(scores.index) == ["A1", "A2", "A3"]
    # 10 for the cloud, 5 for the size, 0 for retail: 1 / (1 + exp(2 − 1.5))
    assert scores.loc["A1", "win_probability"] == pytest.approx(0.3775, abs=5e-4)
    # 0 for no cloud, 0 for unknown size, 1 for an industry never seen: 1 / (1 + exp(2 − 0.1))
    assert scores.loc["A2", "win_probability"] == pytest.approx(0.1301, abs=5e-4)


def test_type_says_who_is_a_customer_and_who_is_out_of_the_market(accounts, model):
    scores = score_file(accounts, model).scores.set_index("account_id")
    assert scores["motion"].to_dict() == {"A1": "new", "A2": "expansion", "A3": "new"}
    assert scores.loc["A3", "tier"] == "not_icp"


def test_what_the_model_did_not_know_is_counted(accounts, model, tmp_path):
    scored = score_file(accounts, model)
    assert scored.unknown == {"employees": 1}
    assert scored.unseen == {"industry": 1}
    assert scored.missing == []
    accounts.write_text("account_id,cloud_first\nA1,yes\n")
    assert score_file(accounts, model).missing == ["employees", "industry"]
    assert "read as unknown: employees, industry" in describe_scores(score_file(accounts, model), model)


def test_row_order_and_file_format_change_nothing(accounts, model, tmp_path):
    first = score_file(accounts, model).scores
    head, *rows = ACCOUNTS.splitlines()
    accounts.write_text("\n".join([head, *reversed(rows)]) + "\n")
    pd.testing.assert_frame_equal(score_file(accounts, model).scores, first)
    pd.read_csv(accounts, dtype="str").to_parquet(tmp_path / "accounts.parquet")
    pd.testing.assert_frame_equal(score_file(tmp_path / "accounts.parquet", model).scores, first)


def test_every_input_is_read_in_the_kind_it_was_fitted_in(model):
    assert input_kinds(model) == {"cloud_first": "flag", "employees": "number", "industry": "category"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acount_id,industry\nA1,x\n", 'did you mean "acount_id"'),
        ("account_id\nA1\nA1\n", '"A1" is there twice'),
        ("account_id,industry\nA1,x\n,y\n", "record 2.*is blank"),
        ("account_id,industry\nA1,x,y\n", "record 1.*has more fields than the header"),
        ("account_id,account_id\nA1,x\n", "two columns have this name"),
        ('account_id,industry\nA1,"x\n', "line"),
        ("", "is empty"),
    ],
)
def test_a_file_that_can_be_read_in_two_ways_is_refused(accounts, model, text, message):
    accounts.write_text(text)
    with pytest.raises(BadInput, match=message):
        score_file(accounts, model)


def test_an_id_that_a_spreadsheet_would_execute_is_never_written_as_csv(accounts, model, tmp_path):
    accounts.write_text("account_id,industry\n=1+1,Retail\n")
    scored = score_file(accounts, model)
    with pytest.raises(BadInput, match="would take account ids for formulas"):
        write_scores(scored, tmp_path / "out.csv", "csv")
    assert read_parquet(write_scores(scored, tmp_path / "out.parquet", "parquet"))["account_id"].tolist() == ["=1+1"]


def test_the_command_writes_beside_the_accounts_and_never_over_a_file(accounts, model, tmp_path, capsys):
    (tmp_path / "model.json").write_text(json.dumps(to_document(model)))
    arguments = ["score", str(accounts), "--model", str(tmp_path / "model.json")]
    assert cli.main(arguments) == 0
    assert len(pd.read_csv(tmp_path / "accounts_scored.csv")) == 3
    assert cli.main(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def scored_alike(path, model, accounts):
    """Points and tiers of a file are those of the same accounts as written for icplab."""
    found, expected = score_file(path, model).scores, score_file(accounts, model).scores
    return found[["points", "tier"]].equals(expected[["points", "tier"]])


OTHER_LAYOUTS = {
    "semicolons": ACCOUNTS.replace(",", ";"),
    "another spelling": ACCOUNTS.replace("account_id,account_type,cloud_first", "Account ID,Account Type,Cloud First"),
    "utf-16": ACCOUNTS.encode("utf-16"),
    "salesforce": "Account ID,Account Name,Type,Cloud_First__c,Employees,Industry\n"
    "A3,c,partner,yes,10,Retail\nA1,a,,Yes,500,Retail\nA2,b,customer,no,,Space\n",
}


@pytest.mark.parametrize("name", list(OTHER_LAYOUTS))
def test_accounts_in_another_layout_are_scored_as_a_run_would_read_them(name, accounts, model, tmp_path):
    path, content = tmp_path / "export.csv", OTHER_LAYOUTS[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert scored_alike(path, model, accounts)
    assert score_file(path, model).notes


def test_columns_are_mapped_by_the_settings_of_a_workspace(accounts, model, tmp_path):
    from icplab.core.config import read_settings

    path = tmp_path / "export.csv"
    path.write_text(ACCOUNTS.replace("account_id", "Kundennummer").replace("employees", "Mitarbeiter"))
    with pytest.raises(BadInput, match="ICP-E027"):
        score_file(path, model)
    (tmp_path / "icplab.toml").write_text(
        '[columns.accounts]\naccount_id = "Kundennummer"\nemployees = "Mitarbeiter"\n'
    )
    scored = score_file(path, model, read_settings(tmp_path)).scores
    assert scored["points"].tolist() == score_file(accounts, model).scores["points"].tolist()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"account_id,industry\n", "holds a header and no records"),
        (b"account_id,industry\nA1,Retail,5\nA2\n", "record has more fields"),
        ("account_id,name\nA1,Müller\n".encode("latin-1"), "is not UTF-8"),
        (b"name,parent_account_id\nx,A1\n", "account_id"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_in_words(content, said, model, tmp_path):
    path = tmp_path / "accounts.csv"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=said):
        score_file(path, model)


def test_a_model_without_segments_is_refused(accounts, model):
    with pytest.raises(BadInput, match="holds no segments"):
        score_file(accounts, replace(model, segments={}))


@pytest.mark.parametrize(("form", "key"), [("salesforce", "Id"), ("hubspot", "Record ID")])
def test_scores_of_new_accounts_are_written_as_a_crm_imports_them(accounts, model, tmp_path, form, key):
    (tmp_path / "model.json").write_text(json.dumps(to_document(model)))
    given = ["score", str(accounts), "--model", str(tmp_path / "model.json"), "--format", form]
    assert cli.main(given) == 0
    table = pd.read_csv(tmp_path / f"accounts_{form}.csv", dtype="str", keep_default_na=False)
    scored = score_file(accounts, model).scores
    assert table[key].tolist() == scored["account_id"].tolist()
    tier = "ICP_Tier__c" if form == "salesforce" else "hs_ideal_customer_profile"
    ranked = scored["tier"].isin(["tier_1", "tier_2", "tier_3"])
    assert table[tier][ranked.to_numpy()].tolist() == scored["tier"][ranked].tolist()
    (tmp_path / "model.json").write_text(json.dumps(to_document(replace(model, verdict="no-usable-ranking"))))
    assert cli.main([*given, "--out", str(tmp_path / "none.csv")]) == 2
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize("kind", ["whole", "by block"])
def test_the_short_form_of_large_files_gives_the_same_points_values_and_tiers(kind, model, tmp_path, monkeypatch):
    from icplab.run import score_large

    names = ["account_type", "cloud_first", "employees", "industry"]
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "account_id": [f"A{i:04d}" for i in range(3000)],
            "account_type": pd.array(rng.choice(["customer", "partner", "prospect"], 3000), dtype="str"),
            "cloud_first": pd.array(rng.choice([True, False, None], 3000), dtype="boolean"),
            "employees": rng.choice([5.0, 100.0, 99.9, np.nan], 3000),
            "industry": pd.array(rng.choice(["Retail", "Software", "Space", None], 3000), dtype="str"),
        }
    )
    monkeypatch.setattr(score_large, "BLOCK", 700)
    if kind == "by block":
        frame = frame.astype({"employees": "str"})  # text cannot be read as numbers as it stands
    path, out = tmp_path / "accounts.parquet", tmp_path / "scored.parquet"
    frame.to_parquet(path, index=False, row_group_size=1000)
    slow = score_file(path, model)
    counted = score_large.score_parquet(path, model, input_kinds(model), out)
    short = pd.read_parquet(out).astype({"account_id": "str"})
    columns = ["account_id", "segment_id", "motion", "tier"]
    assert short[columns].astype("str").equals(slow.scores[columns].astype("str").reset_index(drop=True))
    assert short["points"].tolist() == slow.scores["points"].tolist()
    for column in ("win_probability", "expected_value"):
        exact = kind != "by block"
        tolerance = 0.0 if exact else 0.011 if column == "expected_value" else 2e-6
        assert np.allclose(short[column], slow.scores[column], rtol=0, atol=tolerance)
    assert counted.tiers == slow.scores["tier"].value_counts().to_dict()
    assert counted.unseen == slow.unseen
    assert set(counted.unknown) | {names[1]} == set(slow.unknown) | {names[1]}


def test_the_short_form_refuses_an_account_that_is_there_twice(model, tmp_path):
    from icplab.run.score_large import score_parquet

    path = tmp_path / "accounts.parquet"
    for ids in (["A", "A", "B"], ["A", "B", "A"], ["B", "C", "A", "C"]):
        pd.DataFrame({"account_id": ids}).to_parquet(path, row_group_size=2)
        with pytest.raises(BadInput, match="ICP-E042"):
            score_parquet(path, model, input_kinds(model), tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet").exists()
    pd.DataFrame({"account_id": ["B", None, "A"]}).to_parquet(path)
    with pytest.raises(BadInput, match="ICP-E043"):
        score_parquet(path, model, input_kinds(model), tmp_path / "out.parquet")


def test_the_short_form_keeps_the_order_of_the_file_and_takes_ids_in_any_order(model, tmp_path):
    from icplab.run.score_large import score_parquet

    path, out = tmp_path / "accounts.parquet", tmp_path / "out.parquet"
    ids = [f"A{i * 7 % 101:03d}" for i in range(101)]
    pd.DataFrame({"account_id": ids}).to_parquet(path, row_group_size=10)
    score_parquet(path, model, input_kinds(model), out)
    assert pd.read_parquet(out)["account_id"].tolist() == ids
    pd.DataFrame({"account_id": pd.Categorical(ids)}).to_parquet(path)
    score_parquet(path, model, input_kinds(model), tmp_path / "coded.parquet")
    assert pd.read_parquet(tmp_path / "coded.parquet")["account_id"].tolist() == ids
    pd.DataFrame({"account_id": pd.Series([], dtype="str")}).to_parquet(path)
    assert score_parquet(path, model, input_kinds(model), tmp_path / "none.parquet").tiers == {}
    assert len(pd.read_parquet(tmp_path / "none.parquet")) == 0
