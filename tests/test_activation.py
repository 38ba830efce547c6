"""Activation: files a CRM takes in, nothing that runs as a formula, counts and hashes that reconcile."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace

import pandas as pd
import pytest

from icplab.activation import DANGEROUS, findings, neutralise, plan_cells, write_files
from icplab.core.config import Privacy, Settings
from icplab.core.formats import harmless
from tests.made_market import make_market, tiered

PLAYBOOK = {
    "segments": {"S2": {"message": "Large ones plan together.", "content_path": ["guide", "workshop"]}},
    "plays": [
        {"tier": "any", "segment": "any", "intent": "any", "play": "newsletter", "owner": "Marketing"},
        {
            "tier": "tier_1",
            "segment": "any",
            "intent": "any",
            "play": "call",
            "steps": ["call", "visit"],
            "sla_days": 2,
        },
        {"tier": "tier_1", "segment": "S2", "intent": "low", "play": "executive letter"},
    ],
}


@pytest.fixture(scope="module")
def made():
    return make_market()


@pytest.fixture(scope="module")
def fitted(made):
    return tiered(made)


def write(made, fitted, folder, playbook=PLAYBOOK, **change):
    """Files of a made market."""
    settings = Settings(playbook=playbook, privacy=change.pop("privacy", Privacy()))
    accounts = change.pop("accounts", made.accounts)
    scored = change.pop("scored", fitted[2])
    model = change.pop("model", fitted[0])
    return write_files(scored, accounts, made.segments, model, settings, folder, **change)


def read(folder, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, dtype="str", keep_default_na=False)


@pytest.mark.parametrize("sign", list(DANGEROUS))
def test_a_leading_character_that_starts_a_formula_is_taken_away_and_counted(sign):
    clean, count = neutralise(pd.Series([f"{sign}cmd|' /C calc'!A0", "Plain & Sons", None], dtype="str"))
    assert clean[0] == "cmd|' /C calc'!A0"
    assert clean[1] == "Plain & Sons"
    assert pd.isna(clean[2])
    assert count == 1


def test_several_signs_in_front_and_line_breaks_inside_are_taken_away():
    clean, count = neutralise(pd.Series([" =+-@x", "a\r\n=b", "x - y = z"], dtype="str"))
    assert clean.tolist() == ["x", "a =b", "x - y = z"]
    assert count == 1


@pytest.mark.parametrize(
    "text", ["plain", " =1", "\t@x", "a\r\n=b", "－5 years", "x\x00y", "+ = -", "", " tail ", "\u00a0=1"]
)
def test_columns_and_single_texts_are_made_harmless_by_one_rule(text):
    clean, count = neutralise(pd.Series([text], dtype="str"))
    assert (clean[0], bool(count)) == harmless(text, keep=False)


def test_no_cell_of_any_file_starts_a_formula(made, fitted, tmp_path):
    accounts = made.accounts.assign(
        name=made.accounts["name"].where(made.accounts.index != 3, '=HYPERLINK("http://x")')
    )
    result = write(made, fitted, tmp_path, accounts=accounts)
    assert result.unsafe == {"name": 1}
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        numbers = [c for c in cells if c.replace(".", "").replace("-", "").replace("e", "").isdigit()]
        assert not [c for c in cells if c[:1] and c[:1] in DANGEROUS and c not in numbers], path.name
    said = [f for f in findings(result, PLAYBOOK) if f.code == "unsafe-value"]
    assert [f.severity for f in said] == ["watch"]


def test_identifiers_are_never_changed_and_a_dangerous_one_is_left_out(made, fitted, tmp_path):
    first = made.accounts["account_id"][0]
    scored = fitted[2].assign(account_id=fitted[2]["account_id"].replace({first: "=" + first}))
    accounts = made.accounts.assign(account_id=made.accounts["account_id"].replace({first: "=" + first}))
    result = write(made, fitted, tmp_path, accounts=accounts, scored=scored)
    ids = set(read(tmp_path, "salesforce_accounts.csv")["Id"])
    assert result.refused == 1
    assert ids == set(made.accounts["account_id"]) - {first}


def test_hubspot_gets_its_own_field_values_and_blank_where_nothing_is_known(made, fitted, tmp_path):
    tiers = fitted[2]["tier"].where(fitted[2].index != 0, "insufficient").where(fitted[2].index != 1, "not_icp")
    write(made, fitted, tmp_path, scored=fitted[2].assign(tier=tiers))
    table = read(tmp_path, "hubspot_companies.csv").set_index("Record ID")
    ids = fitted[2]["account_id"]
    assert table.loc[ids[0], ["hs_ideal_customer_profile", "hs_is_target_account"]].tolist() == ["", ""]
    assert table.loc[ids[1], ["hs_ideal_customer_profile", "hs_is_target_account"]].tolist() == ["", "false"]
    by_tier = table.groupby("hs_ideal_customer_profile")["hs_is_target_account"].unique().map(list).to_dict()
    assert by_tier["tier_1"] == by_tier["tier_2"] == ["true"]
    assert by_tier["tier_3"] == ["false"]


def test_what_is_read_back_is_what_was_scored(made, fitted, tmp_path):
    write(made, fitted, tmp_path)
    table = read(tmp_path, "salesforce_accounts.csv").set_index("Id").loc[fitted[2]["account_id"]]
    assert table["ICP_Tier__c"].tolist() == fitted[2]["tier"].tolist()
    assert table["ICP_Win_Probability__c"].astype(float).tolist() == fitted[2]["win_probability"].tolist()
    assert (table["ICP_Reasons__c"].str.len() <= 255).all()
    assert table["ICP_Model_Version__c"].unique().tolist() == [fitted[0].version]


def test_row_counts_and_hashes_reconcile(made, fitted, tmp_path):
    result = write(made, fitted, tmp_path)
    index = json.loads((tmp_path / "files.json").read_text())
    assert index["usable"] is True
    assert {f["file"] for f in index["files"]} == {p.name for p in tmp_path.iterdir()} - {"files.json"}
    for entry in index["files"]:
        content = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        if entry["file"].endswith(".csv"):
            assert len(read(tmp_path, entry["file"])) == entry["rows"]
    rows = result.files.set_index("file")["rows"]
    assert rows["hubspot_companies.csv"] == rows["salesforce_accounts.csv"] == len(fitted[2])


def test_files_of_other_steps_are_listed_with_hash_and_made_harmless_with_or_without_tiers(made, fitted, tmp_path):
    extra = {"query.sql": ("a query", "SELECT 1\n"), "levels.csv": ("levels", pd.DataFrame({"level": ["=1+1", "b"]}))}
    for folder, usable in ((tmp_path / "with", True), (tmp_path / "without", False)):
        model = replace(fitted[0], verdict="usable" if usable else "no-usable-ranking")
        files = write(made, fitted, folder, extra=extra, model=model).files.set_index("file")
        assert hashlib.sha256(b"SELECT 1\n").hexdigest() == files.loc["query.sql", "sha256"]
        assert files.loc["levels.csv", "rows"] == 2
        assert read(folder, "levels.csv")["level"].tolist() == ["1+1", "b"]
        assert json.loads((folder / "files.json").read_text())["usable"] is usable


def test_writing_twice_gives_the_same_bytes(made, fitted, tmp_path):
    one = write(made, fitted, tmp_path / "one").files["sha256"].tolist()
    shuffled = replace(made, accounts=made.accounts.sample(frac=1, random_state=1))
    other = write(shuffled, fitted, tmp_path / "other").files["sha256"].tolist()
    assert one == other


def test_a_tenth_of_the_target_accounts_is_held_out_of_plays_and_audiences(made, fitted, tmp_path):
    write(made, fitted, tmp_path)
    plays = read(tmp_path, "account_plays.csv")
    held = plays[plays["hold_out"] == "yes"]
    targets = plays["tier"].isin(["tier_1", "tier_2"])
    assert 0.05 < len(held) / targets.sum() < 0.15
    assert set(held["play"]) == {"business as usual"}
    names = set(read(tmp_path, "linkedin_companies.csv")["companyname"])
    assert not names & set(held["name"])
    assert "" in set(plays.loc[~targets, "hold_out"])


def test_customers_are_not_advertised_to(made, fitted, tmp_path):
    write(made, fitted, tmp_path)
    names = set(read(tmp_path, "linkedin_companies.csv")["companyname"])
    assert not names & set(made.accounts.loc[made.accounts["is_customer"], "name"])


def test_the_most_specific_play_wins(made, fitted, tmp_path):
    cells = write(made, fitted, tmp_path).cells
    unknown_intent = cells[cells["intent"] == "unknown"]  # no activities: treated like low, never like high
    chosen = unknown_intent.groupby(["segment_id", "tier"])["play"].first()
    assert chosen["S2", "tier_1"] == "executive letter"
    assert chosen["S2", "tier_2"] == "newsletter"
    assert read(tmp_path, "plays.csv")["segment_content_path"].str.contains("guide > workshop").any()


def test_a_cell_without_play_is_a_warning_and_an_empty_playbook_is_information(made, fitted, tmp_path):
    partial = {"plays": [{"tier": "tier_1", "play": "call"}]}
    said = [f for f in findings(write(made, fitted, tmp_path, playbook=partial), partial) if f.code == "uncovered-cell"]
    assert [f.severity for f in said] == ["watch"]
    empty = [f for f in findings(write(made, fitted, tmp_path, playbook={}), {}) if f.code == "uncovered-cell"]
    assert [f.severity for f in empty] == ["info"]
    full = findings(write(made, fitted, tmp_path), PLAYBOOK)
    assert {f.severity for f in full} == {"info"}


def test_a_playbook_of_another_shape_is_read_as_empty():
    rows = pd.DataFrame(
        {"segment_id": ["S1"], "segment": ["x"], "tier": ["tier_1"], "intent": ["low"], "motion": ["new"]}
    )
    for odd in ({}, {"plays": {"tier_1": "call"}}, {"plays": ["call"]}, {"plays": [{}]}):
        assert plan_cells(rows, odd)["play"].tolist() == [""]


def test_people_stay_out_unless_the_plan_lets_them_in(made, fitted, tmp_path):
    best = fitted[2].loc[fitted[2]["tier"] == "tier_1", "account_id"].tolist()
    contacts = pd.DataFrame(
        {
            "account_id": best[:40],
            "email": [f" Person{i}@Example.com " for i in range(40)],
            "opted_out": pd.array([i == 0 for i in range(40)], dtype="boolean"),
        }
    )
    write(made, fitted, tmp_path / "closed", contacts=contacts)
    assert not list((tmp_path / "closed").glob("contact*"))
    write(made, fitted, tmp_path / "open", contacts=contacts, privacy=Privacy(contacts=True))
    hashes = set(read(tmp_path / "open", "contact_audience.csv")["email"])
    assert hashlib.sha256(b"person0@example.com").hexdigest() not in hashes
    assert len(hashes & {hashlib.sha256(f"person{i}@example.com".encode()).hexdigest() for i in range(1, 40)}) > 30
    assert "example.com" not in (tmp_path / "open" / "contact_audience.csv").read_text()


def test_territories_count_every_seller_s_accounts_against_their_capacity(made, fitted, tmp_path):
    owners = pd.DataFrame({"owner": ["kim", "lee"], "capacity": [10.0, 5000.0]})
    write(made, fitted, tmp_path, owners=owners)
    table = read(tmp_path, "territories.csv").set_index("owner")
    assert table[["tier_1", "tier_2", "tier_3"]].astype(int).to_numpy().sum() == len(fitted[2])
    assert table["over_capacity"].to_dict() == {"kim": "yes", "lee": "no"}


def test_the_card_by_hand_gives_the_points_of_the_scores(made, fitted, tmp_path):
    write(made, fitted, tmp_path)
    card = read(tmp_path, "points.csv")
    base = int(float(card.loc[card["input"] == "base", "points"].iloc[0]))
    reasons = json.loads(fitted[2]["reasons"][0])
    worth = {(r.input, r.level): int(float(r.points)) for r in card.itertuples() if r.level not in ("a", "b", "")}
    total = base + sum(
        worth[r["trait"], "(unknown)" if r["level"] == "unknown" else r["level"].lstrip("=")]
        for r in reasons
        if r["trait"] != "base"
    )
    assert total == fitted[2]["points"][0]


def test_without_tiers_no_file_is_written_and_the_index_says_so(made, fitted, tmp_path):
    model = replace(fitted[0], verdict="no-usable-ranking")
    result = write(made, fitted, tmp_path, model=model, scored=fitted[2].assign(tier="insufficient"))
    assert [p.name for p in tmp_path.iterdir()] == ["files.json"]
    assert json.loads((tmp_path / "files.json").read_text())["usable"] is False
    assert [f.code for f in findings(result, PLAYBOOK)] == ["files-written"]
