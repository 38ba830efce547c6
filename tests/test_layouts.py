"""Native exports: recognised by their headers, read without a mapping, and never guessed where they do not say enough."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from icplab.core.store import read_parquet
from icplab.intake import check_workspace, take_in
from icplab.intake.identity import full_ids
from icplab.intake.layouts import header_of, recognise, recognise_file
from icplab.intake.layouts.guide import PROPERTIES, QUERIES
from icplab.intake.layouts.recognise import OBJECTS
from icplab.run.starter import describe_exports, init_workspace
from icplab.simulate import LAYOUTS, simulate_market, write_workspace

ROOT = Path(__file__).parents[1]
DATASETS = os.environ.get("ICPLAB_DATASETS", "")
needs_datasets = pytest.mark.skipif(not DATASETS, reason="set ICPLAB_DATASETS to the folder of public datasets")

ACCOUNT = """Id,IsDeleted,MasterRecordId,Name,Type,Website,Industry,NumberOfEmployees,CreatedDate,OwnerId,SystemModstamp,Tech_Stack__c
001C000000o4OOIIA2,0,,Acme,Customer - Direct,https://www.Acme.example/en,Retail,120,2023-01-25T09:42:24.000+0000,ann,2024-01-01T00:00:00.000+0000,red
001C000000o4OoiIAE,0,,Beta,Prospect,beta.example,Software,30,2023-02-05T09:42:24.000+0000,bob,2024-01-01T00:00:00.000+0000,blue
0014000000LmabcAAB,0,,Gamma,,gamma.example,Software,45,2023-03-05T09:42:24.000+0000,bob,2024-01-01T00:00:00.000+0000,red
"""
OPPORTUNITY = """Id,IsDeleted,AccountId,Name,StageName,Amount,Probability,CloseDate,Type,LeadSource,IsClosed,IsWon,OwnerId,CreatedDate,Fit__c
006C000000AAAAAIA5,,001C000000o4OOIIA2,Acme 1,Closed Won,1000.5,100,2024-03-21,New Business,Web,1,1,ann,2024-01-10T08:00:00.000+0000,high
006C000000AAAABIA5,,001C000000o4OOIIA2,Acme 2,Closed Lost,500,0,2024-04-15,Existing Customer - Upgrade,Web,1,,ann,2024-02-01T08:00:00.000+0000,low
006C000000AAAACIA5,,001C000000o4OoiIAE,Beta 1,Prospecting,700,10,2024-09-05,,Event,,,bob,2024-02-20T08:00:00.000+0000,
006C000000AAAADIA5,,0014000000LmabcAAB,Gamma 1,Closed Won,90,100,2024-06-30,Renewal,Event,1,1,bob,2024-03-09T08:00:00.000+0000,low
"""
COMPANIES = """Record ID,Company name,Company Domain Name,Industry,Number of Employees,Lifecycle Stage,Type,Create Date,Total Revenue,Tools,Merged object IDs
11,Acme,acme.example,RETAIL,120,Customer,,2023-01-05 09:42,1000,crm;erp,
12,Beta,beta.example,COMPUTER_SOFTWARE,30,Lead,Partner,2023-02-05 09:42,,crm,91;92
"""
DEALS = '''Record ID,Deal Name,Deal Stage,Amount,Amount in company currency,Currency,Create Date,Close Date,Deal Type,Associated Company IDs,Associated Contact IDs,Is Closed Won,Is Deal Closed?,Closed Lost Reason,hs_closed_lost_reason,Deal probability,"Date entered ""Demo (Sales Pipeline)""","Date entered ""Closed won (Sales Pipeline)""",Team size
501,Acme 1,Closed won,900,1000,USD,2024-01-10 10:00,2024-03-21 10:00,New Business,11;12,71;72,true,true,,,1,2024-01-20 10:00,2024-03-21 10:00,small
502,Acme 2,Closed lost,500,520,USD,2024-02-01 10:00,2024-04-15 10:00,Existing Business,11,,false,true,,price,0,2024-02-10 10:00,,large
503,Beta 1,Demo,700,710,USD,2024-02-20 10:00,2024-09-05 10:00,,92,,false,false,,,0.4,2024-02-21 10:00,,large
'''
PEOPLE = """Record ID,First Name,Last Name,Email,Job Title,Associated Company IDs
71,A,B,a@acme.example,Buyer,11
72,C,D,c@acme.example,Director,11
"""


def fill(folder: Path, settings: str = "", **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    if settings:
        (folder / "icplab.toml").write_text(settings, encoding="utf-8")
    return folder


def taken(folder: Path) -> dict[str, pd.DataFrame]:
    run = folder.parent / f"{folder.name}_run"
    take_in(folder, run)
    return {p.stem: read_parquet(p) for p in sorted((run / "tables").glob("*.parquet"))}


def found(folder: Path, code: str) -> list:
    report = check_workspace(folder)
    assert_accounted(report)
    problems = [p for p in report.problems if p.code == code]
    assert problems, f"{code} is not in:\n{report.as_text()}"
    return problems


def assert_accounted(report) -> None:
    """Every table and file closes its ledger, whatever became of the records."""
    sizes = report.ledger.groupby(["table", "file"], sort=False)["records"].sum()
    assert (sizes > 0).all()


def salesforce(tmp_path: Path, account: str = ACCOUNT, opportunity: str = OPPORTUNITY, settings: str = "", **more: str):
    return fill(tmp_path / "org", settings, Account=account, Opportunity=opportunity, **more)


@pytest.fixture(params=["careful", "blocks"])
def either_reader(request, monkeypatch) -> None:
    """Small files are read with care, and once more as large ones are, with coded columns."""
    if request.param == "blocks":
        monkeypatch.setattr("icplab.intake.large.LEAST_BYTES", 0)
        monkeypatch.setattr("icplab.intake.large.CODED_SHARE", 1.0)
        monkeypatch.setattr("icplab.intake.typed.PIECE", 1)


# One market in three layouts


@pytest.mark.usefixtures("either_reader")
def test_the_same_market_in_three_layouts_gives_the_same_tables_byte_for_byte(tmp_path):
    market = simulate_market(accounts=80, seed=5)
    for layout in LAYOUTS:
        write_workspace(market, tmp_path / layout, layout)
        doubts = {p.code for p in check_workspace(tmp_path / layout).problems if p.outcome in "EQW"}
        assert doubts <= {"ICP-W089"}  # eighty accounts have few wins
        take_in(tmp_path / layout, tmp_path / f"{layout}_run")
    tables = {p.name: p.read_bytes() for p in (tmp_path / "canonical_run" / "tables").iterdir()}
    settings = (tmp_path / "canonical_run" / "settings.json").read_text()
    assert not (tmp_path / "salesforce" / "accounts.csv").exists()
    assert not (tmp_path / "hubspot" / "opportunities.csv").exists()
    for layout in LAYOUTS:
        run = tmp_path / f"{layout}_run"
        assert {p.name for p in (run / "tables").iterdir()} == set(tables)
        assert [p.name for p in (run / "tables").iterdir() if p.read_bytes() != tables[p.name]] == []
        assert (run / "settings.json").read_text() == settings


@pytest.mark.slow
def test_the_same_market_in_three_layouts_gives_the_same_artefacts(tmp_path):
    market = simulate_market(accounts=300, seed=3)
    for layout in LAYOUTS:
        write_workspace(market, tmp_path / layout, layout)
        command = [
            sys.executable,
            "-m",
            "icplab.cli",
            "run",
            str(tmp_path / layout),
            "--out",
            str(tmp_path / f"{layout}_out"),
        ]
        subprocess.run(
            command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
        )
    first = tmp_path / "canonical_out"
    files = [p.relative_to(first) for d in ("artifacts", "activation") for p in (first / d).rglob("*") if p.is_file()]
    assert len(files) >= 15
    for layout in ("salesforce", "hubspot"):
        out = tmp_path / f"{layout}_out"
        differing = [str(f) for f in files if (first / f).read_bytes() != (out / f).read_bytes()]
        assert differing == ["artifacts/ledger.parquet"]
        assert (out / "model.json").read_bytes() == (first / "model.json").read_bytes()
        ours, theirs = (json.loads((d / "manifest.json").read_text()) for d in (out, first))
        assert sorted(ours) == sorted(theirs)


def test_a_report_with_labels_short_ids_and_footer_equals_the_data_export(tmp_path):
    api = taken(salesforce(tmp_path))
    labels = {
        "Id": "Account ID", "Name": "Account Name", "CreatedDate": "Created Date", "NumberOfEmployees": "Employees",
        "OwnerId": "Account Owner", "Tech_Stack__c": "Tech_Stack",
    }  # fmt: skip
    accounts = as_report(ACCOUNT, labels, drop=["IsDeleted", "MasterRecordId", "SystemModstamp"])
    labels = {
        "Id": "Opportunity ID", "AccountId": "Account ID", "Name": "Opportunity Name", "StageName": "Stage",
        "CloseDate": "Close Date", "LeadSource": "Lead Source", "IsClosed": "Closed", "IsWon": "Won",
        "OwnerId": "Opportunity Owner", "CreatedDate": "Created Date", "Probability": "Probability (%)", "Fit__c": "Fit",
    }  # fmt: skip
    deals = as_report(OPPORTUNITY, labels, drop=["IsDeleted"])
    folder = fill(tmp_path / "reports", report1728000000000=accounts, report1728000000001=deals)
    report = taken(folder)
    assert list(report) == list(api)
    for name, table in api.items():
        pd.testing.assert_frame_equal(report[name], table)
        path = f"tables/{name}.parquet"
        assert (tmp_path / "reports_run" / path).read_bytes() == (tmp_path / "org_run" / path).read_bytes()
    codes = {p.code for p in check_workspace(folder).problems}
    assert {"ICP-R022", "ICP-R026", "ICP-R038", "ICP-R050"} <= codes


def as_report(text: str, labels: dict[str, str], drop: list[str]) -> str:
    """A Data Export as the report a user of the United States would save: labels, 15-character ids, m/d/yyyy, footer."""
    lines = [line.split(",") for line in text.splitlines()]
    frame = pd.DataFrame(lines[1:], columns=lines[0]).drop(columns=drop)
    for column in frame:
        long = frame[column].str.fullmatch("[A-Za-z0-9]{18}")
        frame[column] = frame[column].where(~long, frame[column].str[:15])
        if column in ("CreatedDate", "CloseDate"):
            day = pd.to_datetime(frame[column].str[:10])
            frame[column] = day.dt.month.astype(str) + "/" + day.dt.day.astype(str) + "/" + day.dt.year.astype(str)
    body = frame.rename(columns=labels).to_csv(index=False)
    return (
        body
        + '\n\n"Pipeline for icplab"\n"Copyright (c) 2000-2026 salesforce.com, inc. All rights reserved."\n'
        + ('"Confidential Information - Do Not Distribute"\n"Generated By:  Ann  1/2/2025"\n')
    )


# Salesforce


def test_a_data_export_needs_no_settings_and_says_what_it_took(tmp_path):
    folder = salesforce(tmp_path)
    tables = taken(folder)
    accounts, opportunities = tables["accounts"], tables["opportunities"]
    assert sorted(accounts["domain"]) == ["acme.example", "beta.example", "gamma.example"]
    assert accounts.set_index("name")["account_type"].fillna("").to_dict() == {
        "Acme": "customer", "Beta": "prospect", "Gamma": "",
    }  # fmt: skip
    assert list(opportunities["status"]) == ["won", "lost", "open", "won"]
    assert list(opportunities["type"].fillna("")) == ["new", "expansion", "", "renewal"]
    assert opportunities["closed_at"].isna().sum() == 1  # the planned date of the open one is no close date
    said = [str(p) for p in check_workspace(folder).problems if p.code == "ICP-R026"]
    assert "read as Salesforce accounts into accounts: Id → account_id, Name → name" in said[0]


def test_custom_fields_are_traits_and_bookkeeping_and_restated_outcomes_are_not(tmp_path):
    folder = salesforce(tmp_path)
    tables = taken(folder)
    assert list(tables["accounts"].columns[14:]) == ["Tech_Stack"]
    assert list(tables["opportunities"].columns[17:]) == ["Fit"]
    problem = found(folder, "ICP-R028")[0]
    assert (problem.file, "Probability" in problem.message) == ("Opportunity.csv", True)


def test_a_custom_field_named_like_a_canonical_column_fills_it(tmp_path):
    text = OPPORTUNITY.replace("Fit__c", "Loss_Reason__c")
    assert "price" in set(
        taken(salesforce(tmp_path, opportunity=text.replace(",low", ",price")))["opportunities"]["loss_reason"]
    )


def test_stages_without_flags_tell_the_status_and_unknown_ones_stop_with_a_block_to_copy(tmp_path):
    frame = pd.read_csv(io.StringIO(OPPORTUNITY), dtype=str, keep_default_na=False)
    text = frame.drop(columns=["IsWon", "IsClosed"]).to_csv(index=False)
    assert list(taken(salesforce(tmp_path, opportunity=text))["opportunities"]["status"]) == [
        "won",
        "lost",
        "open",
        "won",
    ]
    problem = found(salesforce(tmp_path, opportunity=text.replace("Prospecting", "Kick-off")), "ICP-E076")[0]
    assert '"Kick-off" (1×)' in problem.message
    assert '[values.opportunities.status]\n  "Kick-off" = ' in problem.fix
    settings = '[values.opportunities.status]\n"Kick-off" = "open"\n'
    folder = salesforce(tmp_path, opportunity=text.replace("Prospecting", "Kick-off"), settings=settings)
    assert list(taken(folder)["opportunities"]["status"]) == ["won", "lost", "open", "won"]


def test_a_partial_override_keeps_the_rest_of_the_layout(tmp_path):
    settings = """[columns.opportunities]
amount = "Probability"
[values.opportunities.type]
"Renewal" = "expansion"
[sources.accounts]
file = "Account.csv"
"""
    tables = taken(salesforce(tmp_path, settings=settings))
    assert list(tables["opportunities"]["amount"]) == [100, 0, 10, 100]
    assert list(tables["opportunities"]["type"].fillna("")) == ["new", "expansion", "", "expansion"]
    assert list(tables["accounts"]["account_type"].fillna("")) == ["", "customer", "prospect"]


def test_layout_none_leaves_a_file_to_the_mapping(tmp_path):
    settings = '[sources.accounts]\nfile = "Account.csv"\nlayout = "none"\n'
    assert {p.column for p in found(salesforce(tmp_path, settings=settings), "ICP-E027")} == {"account_id"}


def test_tasks_reach_their_account_through_the_opportunity_or_the_person(tmp_path):
    contact = "Id,AccountId,LastName,Email,Title\n003C000000CCCCCIAA,0014000000LmabcAAB,X,x@gamma.example,Buyer\n"
    contact = contact.replace("003C000000CCCCCIAA", full("003C000000CCCCC"))
    task = f"""Id,WhoId,WhatId,AccountId,ActivityDate,Status,TaskSubtype,Type,CallDurationInSeconds
00TC00000000001,,001C000000o4OOIIA2,,2024-02-01,Completed,Call,,600
00TC00000000002,,006C000000AAAACIA5,,2024-02-02,Completed,Task,Demo,
00TC00000000003,{full("003C000000CCCCC")},,,2024-02-03,Completed,Email,,
"""
    activities = taken(salesforce(tmp_path, Contact=contact, Task=task))["activities"].sort_values("occurred_at")
    assert list(activities["account_id"]) == ["001C000000o4OOIIA2", "001C000000o4OoiIAE", "0014000000LmabcAAB"]
    assert list(activities["type"]) == ["Call", "Demo", "Email"]
    assert list(activities["minutes"].fillna(0)) == [10, 0, 0]
    assert list(activities["contact_id"].fillna("")) == ["", "", full("003C000000CCCCC")]


def test_history_rows_in_which_the_stage_stays_are_no_stage_entered(tmp_path):
    history = "Id,OpportunityId,StageName,Amount,CreatedDate\n" + "".join(
        f"{i},006C000000AAAAAIA5,{stage},{i},2024-0{i}-01T00:00:00.000+0000\n"
        for i, stage in enumerate(["Prospecting", "Prospecting", "Closed Won"], start=1)
    )
    folder = salesforce(tmp_path, OpportunityHistory=history)
    assert list(taken(folder)["stage_history"]["stage"]) == ["Closed Won", "Prospecting"]  # in key order
    ledger = check_workspace(folder).ledger
    assert ledger[ledger["file"] == "OpportunityHistory.csv"].set_index("outcome")["records"].to_dict() == {
        "used": 3, "header": 1,
    }  # fmt: skip


# Identifiers


def full(short: str) -> str:
    return full_ids(pd.Series([short], dtype="str")).iloc[0]


def test_the_long_form_of_ids_is_that_of_salesforce():
    assert full("001C000000o4OOI") == "001C000000o4OOIIA2"
    assert full("0014000000Lmabc") == "0014000000LmabcAAB"


@pytest.mark.datasets
def test_every_id_of_a_real_export_has_the_suffix_computed_here(datasets):
    ids = pd.read_csv(datasets / "sfdc_native" / "Opportunity.csv", dtype="str", encoding="utf-8-sig")["Id"]
    assert full_ids(ids.str[:15]).equals(ids)


def test_short_and_long_ids_mixed_become_long_in_every_linking_column(tmp_path):
    mixed = OPPORTUNITY.replace("001C000000o4OOIIA2", "001C000000o4OOI").replace(
        "006C000000AAAACIA5", "006C000000AAAAC"
    )
    first, second = taken(salesforce(tmp_path / "a")), taken(salesforce(tmp_path / "b", opportunity=mixed))
    pd.testing.assert_frame_equal(first["opportunities"], second["opportunities"])
    counts = {p.column: p.count for p in found(tmp_path / "b" / "org", "ICP-R038")}
    assert counts == {"account_id": 2, "opportunity_id": 1}


def test_an_id_whose_letters_changed_case_stops_with_its_record(tmp_path):
    problem = found(salesforce(tmp_path, ACCOUNT.replace("001C000000o4OoiIAE", "001C000000O4OOIIAE")), "ICP-E039")[0]
    assert (problem.file, problem.record, problem.column) == ("Account.csv", 2, "account_id")
    assert problem.value == "001C000000O4OOIIAE"
    assert "18-character id" in problem.fix


def test_short_ids_all_in_capitals_stop(tmp_path):
    head, *rows = ACCOUNT.splitlines()
    body = rows[0].split(",", 1)[1]
    ids = [f"001C00000{a}{b}O4OI" for a in "ABCD" for b in "XYZ"]
    text = "\n".join([head, *(f"{i},{body}" for i in ids)]) + "\n"
    opportunity = (
        OPPORTUNITY.splitlines()[0] + "\n" + OPPORTUNITY.splitlines()[1].replace("001C000000o4OOIIA2", ids[0]) + "\n"
    )
    assert found(salesforce(tmp_path, text, opportunity), "ICP-E039")[0].count == 12


@pytest.mark.parametrize(
    ("ids", "bad"),
    [
        (["1234567890123450000", "1234567890123460000", "1234567890123470000"], 3),
        (["0012345", "0098765", "98765"], 1),
    ],
)
def test_ids_that_a_spreadsheet_damaged_stop(tmp_path, ids, bad):
    accounts = "account_id,name\n" + "".join(f"{i},N{i}\n" for i in ids)
    opportunities = f"opportunity_id,account_id,created_at,status\nO1,{ids[0]},2024-01-01,won\n"
    problem = found(fill(tmp_path / "w", accounts=accounts, opportunities=opportunities), "ICP-E040")[0]
    assert problem.count == bad
    assert "spreadsheet" in problem.fix


@pytest.mark.usefixtures("either_reader")
def test_deleted_records_are_left_out_and_merged_ones_followed(tmp_path):
    loser = "001C000000DDDDD"
    account = ACCOUNT + f"{full(loser)},1,001C000000o4OOIIA2,Acme old,,,,,2023-01-01T00:00:00.000+0000,,,\n"
    account += f"{full('001C000000EEEEE')},1,,Gone,Strange type,,,many,not a date,,,\n"
    opportunity = OPPORTUNITY.replace("006C000000AAAABIA5,,001C000000o4OOIIA2", f"006C000000AAAABIA5,,{loser}")
    folder = salesforce(tmp_path, account, opportunity)
    tables = taken(folder)
    assert len(tables["accounts"]) == 3
    assert list(tables["opportunities"]["account_id"][:2]) == ["001C000000o4OOIIA2"] * 2
    messages = {(p.file, p.count) for p in found(folder, "ICP-R045")}
    assert messages == {("Account.csv", 2), ("Opportunity.csv", 1)}
    report = check_workspace(folder)
    assert report.exit_code() == 0
    ledger = report.ledger.query("file == 'Account.csv'").set_index("outcome")["records"].to_dict()
    assert ledger == {"used": 3, "header": 1, "quarantined": 2}
    assert list(report.rejects["code"]) == ["ICP-R045", "ICP-R045"]


def test_mergers_that_run_in_a_circle_stop(tmp_path):
    one, two = full("001C000000DDDDD"), full("001C000000EEEEE")
    account = ACCOUNT + f"{one},1,{two},X,,,,,2023-01-01,,,\n{two},1,{one},Y,,,,,2023-01-01,,,\n"
    problem = found(salesforce(tmp_path, account), "ICP-E045")[0]
    assert (problem.count, problem.column) == (2, "account_id")


# Names instead of ids


def report_by_name(opportunity: str = OPPORTUNITY) -> str:
    frame = pd.read_csv(io.StringIO(opportunity), dtype=str, keep_default_na=False)
    names = {"001C000000o4OOIIA2": "Acme", "001C000000o4OoiIAE": "Beta", "0014000000LmabcAAB": "Gamma"}
    frame["Account Name"] = frame["AccountId"].map(names)
    return frame.drop(columns=["AccountId", "Id"]).rename(columns={"Name": "Opportunity Name"}).to_csv(index=False)


def test_a_report_without_ids_links_by_names_that_are_unique(tmp_path):
    folder = salesforce(tmp_path, opportunity=report_by_name())
    opportunities = taken(folder)["opportunities"]
    assert list(opportunities["opportunity_id"]) == ["Acme 1", "Acme 2", "Beta 1", "Gamma 1"]
    assert opportunities["account_id"].str.len().eq(18).all()
    assert {p.column for p in found(folder, "ICP-R044")} == {"opportunity_id", "account_id"}


def test_a_name_of_two_records_stops_and_asks_for_the_id(tmp_path):
    twice = ACCOUNT.replace(",Beta,", ",Acme,")
    problem = found(salesforce(tmp_path / "a", twice, report_by_name()), "ICP-E044")[0]
    assert (problem.value, problem.count) == ("Acme", 2)
    assert "add the id of the account" in problem.fix
    problem = found(salesforce(tmp_path / "b", opportunity=report_by_name().replace("Acme 2", "Acme 1")), "ICP-E042")[0]
    assert (problem.value, problem.count) == ("Acme 1", 2)
    assert "add the id of the opportunity" in problem.fix


# Several files of one table


def test_of_two_files_with_the_same_record_the_newest_counts(tmp_path):
    old = OPPORTUNITY.replace("IsDeleted", "LastModifiedDate").replace("5,,001", "5,2024-07-01T00:00:00.000+0000,001")
    old = old.replace("5,,0014", "5,2024-07-01T00:00:00.000+0000,0014")
    new = old.replace("2024-07-01T00", "2024-07-02T00").replace("1000.5", "2000")
    new = "\n".join(new.splitlines()[:2]) + "\n"
    folder = salesforce(tmp_path, opportunity=old, Opportunity_2=new)
    assert taken(folder)["opportunities"]["amount"].iloc[0] == 2000
    assert found(folder, "ICP-R036")[0].count == 1
    ledger = check_workspace(folder).ledger
    assert ledger.query("file == 'Opportunity.csv' and outcome == 'duplicate'")["records"].sum() == 1
    same_time = salesforce(tmp_path, opportunity=old, Opportunity_2=new.replace("2024-07-02", "2024-07-01"))
    assert sum(p.count for p in found(same_time, "ICP-Q036")) == 2


def test_the_order_of_records_changes_no_byte_of_a_native_export(tmp_path):
    def turned(text: str) -> str:
        head, *rows = text.splitlines()
        return "\n".join([head, *reversed(rows)]) + "\n"

    for folder, change in (("a", str), ("b", turned)):
        taken(salesforce(tmp_path / folder, change(ACCOUNT), change(OPPORTUNITY)))
        taken(
            fill(tmp_path / folder / "hub", companies=change(COMPANIES), deals=change(DEALS), contacts=change(PEOPLE))
        )
    for table in (tmp_path / "a").glob("*_run/tables/*.parquet"):
        assert table.read_bytes() == (tmp_path / "b" / table.relative_to(tmp_path / "a")).read_bytes()


# Money and dates


@pytest.mark.usefixtures("either_reader")
def test_the_converted_amount_is_used_with_its_currency(tmp_path):
    text = OPPORTUNITY.replace("Amount,", "Amount Currency,Amount,Amount (converted) Currency,Amount (converted),")
    for raw, converted in (("1000.5", "EUR,920"), ("500", "EUR,460"), ("700", "EUR,644"), ("90", "EUR,83")):
        text = text.replace(f",{raw},", f",USD,{raw},{converted},")
    folder = salesforce(tmp_path, opportunity=text, settings='[workspace]\ncurrency = "EUR"\n')
    opportunities = taken(folder)["opportunities"]
    assert list(opportunities["amount"]) == [920, 460, 644, 83]
    assert set(opportunities["currency"]) == {"EUR"}
    assert found(folder, "ICP-R065")[0].count == 4
    raw = text.replace("Amount (converted)", "Amount in euros")
    assert found(salesforce(tmp_path, opportunity=raw, settings='[workspace]\ncurrency = "EUR"\n'), "ICP-E065")


def test_dated_rates_are_turned_round(tmp_path):
    rates = "Id,IsoCode,StartDate,NextStartDate,ConversionRate\n1,USD,2020-01-01,,1.25\n2,EUR,2020-01-01,,1\n"
    assert list(taken(salesforce(tmp_path, DatedConversionRate=rates))["rates"]["rate"]) == [1.0, 0.8]


def test_one_column_of_a_report_proves_the_order_of_all_its_dates(tmp_path):
    text = OPPORTUNITY
    for day in ("2024-01-10", "2024-02-01", "2024-02-20", "2024-03-09"):
        y, m, d = day.split("-")
        text = text.replace(f"{day}T08:00:00.000+0000", f"{int(m)}/{int(d)}/{y} 8:00 AM")
    for day in ("2024-03-21", "2024-04-15", "2024-09-05", "2024-06-30"):
        text = text.replace(day, "3/4/2024" if day == "2024-04-15" else f"{int(day[5:7])}/{int(day[8:])}/2024")
    tables = taken(salesforce(tmp_path, opportunity=text))
    assert list(tables["opportunities"]["closed_at"].dt.strftime("%m-%d").fillna("")) == ["03-21", "03-04", "", "06-30"]


# HubSpot


def test_a_hubspot_export_with_labels_needs_no_settings(tmp_path):
    folder = fill(tmp_path / "hub", companies=COMPANIES, deals=DEALS, contacts=PEOPLE)
    tables = taken(folder)
    accounts, opportunities = tables["accounts"], tables["opportunities"]
    assert list(accounts["account_type"]) == ["customer", "partner"]
    assert list(accounts.columns[14:]) == ["Tools"]
    assert list(opportunities["status"]) == ["won", "lost", "open"]
    assert list(opportunities["account_id"]) == ["11", "11", "12"]  # 92 was merged into 12
    assert list(opportunities["amount"]) == [1000, 520, 710]
    assert list(opportunities["loss_reason"].fillna("")) == ["", "price", ""]
    assert list(opportunities.columns[17:]) == ["Team size"]
    assert tables["stage_history"].astype(str).to_numpy().tolist() == [
        ["501", "Closed won", "2024-03-21"],
        ["501", "Demo", "2024-01-20"],
        ["502", "Demo", "2024-02-10"],
        ["503", "Demo", "2024-02-21"],
    ]
    assert tables["opportunity_contacts"][["opportunity_id", "contact_id"]].to_numpy().tolist() == [
        ["501", "71"],
        ["501", "72"],
    ]
    ledger = check_workspace(folder).ledger.query("file == 'deals.csv'")
    assert ledger.groupby("table")["records"].sum().to_dict() == {
        "opportunities": 4, "opportunity_contacts": 4, "stage_history": 4,
    }  # fmt: skip
    assert {p.column for p in found(folder, "ICP-R045")} == {"account_id"}


# Recognition


@pytest.mark.parametrize("source", OBJECTS, ids=lambda o: o.title)
def test_the_columns_of_every_object_are_recognised_as_that_object(source):
    for sign in source.signs:
        names = {n for feed in source.feeds for many in feed.columns.values() for n in many[:1]}
        header = [n for n in names if n.lower() not in source.without] + sorted(sign)
        seen = recognise(header, system=source.system.lower(), file=f"{source.files[0]}.csv")
        assert seen.found is source


def test_snake_case_is_nobodys_report(tmp_path):
    assert recognise(["opportunity_id", "account_id", "stage", "amount", "close_date"]).found is None


def test_an_unread_file_is_said_with_what_it_looks_like(tmp_path):
    folder = fill(
        tmp_path / "w",
        accounts="account_id,name\n1,A\n",
        opportunities=("opportunity_id,account_id,created_at,closed_at,status\nO1,1,2024-01-01,2024-02-01,won\n"),
        Opportunity=OPPORTUNITY,
        old_deals="opportunity_id,account_id,created_at,status\nO9,1,2024-01-01,won\n",
    )
    message = found(folder, "ICP-W001")[0].message
    assert "Opportunity.csv (looks like Salesforce opportunities for opportunities)" in message
    assert "old_deals.csv (looks like the table opportunities" in message


def test_the_header_of_a_damaged_file_is_no_reason_to_fail(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04")
    (tmp_path / "x.csv.gz").write_bytes(b"\x1f\x8b")
    assert [header_of(p) for p in sorted(tmp_path.iterdir())] == [()] * 4


# What to export


@pytest.mark.parametrize("name", QUERIES)
def test_the_fields_of_every_query_are_recognised_as_its_object(name):
    header = QUERIES[name].split(", ")
    seen = recognise(header)
    assert seen.found is not None, seen.rivals
    assert name.lower() in seen.found.files
    assert seen.found.system == "Salesforce"


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_properties_named_for_hubspot_are_recognised_as_their_object(name):
    seen = recognise(PROPERTIES[name].split(", and all")[0].split(", "))
    assert seen.found is not None, seen.rivals
    assert seen.found.title == f"HubSpot {name}"


@pytest.mark.parametrize("system", ["salesforce", "hubspot"])
def test_init_says_what_to_export_and_writes_nothing_that_stops(tmp_path, system):
    init_workspace(tmp_path / "new", system)
    text = (tmp_path / "new" / "EXPORT.md").read_text(encoding="utf-8")
    assert ("FROM Opportunity\n" if system == "salesforce" else "**deals**") in text
    assert not (tmp_path / "new" / "templates").exists()


def test_init_on_a_folder_of_exports_writes_what_it_recognised_and_changes_no_result(tmp_path):
    files = {"companies": COMPANIES, "deals": DEALS, "contacts": PEOPLE}
    before = taken(fill(tmp_path / "before", **files))
    folder = fill(tmp_path / "after", **files)
    assert "deals.csv: HubSpot deals, into stage_history" in describe_exports(folder)
    init_workspace(folder, "hubspot")
    text = (folder / "icplab.toml").read_text(encoding="utf-8")
    assert '[sources.opportunities]\nfile = "deals.csv"\nlayout = "hubspot"\n# [columns.opportunities]' in text
    assert '# closed_at = "Close Date"' in text
    after = taken(folder)
    assert list(before) == list(after)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table, after[name])
    (folder / "icplab.toml").write_text(uncommented(text), encoding="utf-8")
    assert list(taken(folder)["opportunities"]["status"]) == ["won", "lost", "open"]


def uncommented(text: str) -> str:
    """The recognised mapping with its comments taken away, as an analyst would who wants to change it."""
    head, tail = text.split("# Recognised in this folder.")
    lines = tail.splitlines()[1:]
    return head + "\n".join(line.removeprefix("# ") for line in lines) + "\n"


# Real native output


@needs_datasets
@pytest.mark.datasets
def test_real_salesforce_output_is_read_as_it_is(tmp_path):
    folder = tmp_path / "bank"
    shutil.copytree(Path(DATASETS, "sfdc_native"), folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    assert {p.name for p in folder.glob("*.csv") if recognise_file(p).found is None} == set()
    report = check_workspace(folder)
    assert report.exit_code() == 0
    tables = taken(folder)
    assert {n: len(t) for n, t in tables.items()} == {
        "accounts": 22, "activities": 93, "campaigns": 8, "contacts": 18, "leads": 60, "opportunities": 50,
    }  # fmt: skip
    assert tables["opportunities"]["status"].value_counts().to_dict() == {"open": 35, "won": 12, "lost": 3}
    assert tables["leads"]["account_id"].notna().sum() == 60  # Company holds account ids
    assert found(folder, "ICP-W056")[0].count == 15
    assert tables["opportunities"][["created_at", "closed_at"]].isna().all(axis=None)
    assert np.isclose(tables["opportunities"]["amount"].sum(), 53_000_000, rtol=1)
