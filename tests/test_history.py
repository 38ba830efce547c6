"""The tool's own history: values seen to change between runs are known at their time, and never earlier."""

import pandas as pd
import pytest

from icplab import features
from icplab.core.config import Settings, read_settings
from icplab.core.schema import CANONICAL, check_artefact
from icplab.core.store import read_parquet, write_parquet
from icplab.intake import check_workspace, take_in
from icplab.run.history import add_own_history, find_changes, join_history, take_snapshot
from tests.conftest import typed

MARCH, JUNE, SEPTEMBER = (pd.Timestamp(d).as_unit("us") for d in ("2026-03-31", "2026-06-30", "2026-09-30"))


def tables(tier=("gold", "", "tin"), employees=("10", "20", "30")):
    """Three accounts with a further column, and one opportunity each."""
    ids = ["A", "B", "C"]
    accounts = pd.DataFrame(
        {"account_id": ids, "name": ids, "employees": employees, "care": tier, "created_at": ["2025-01-01"] * 3}
    )
    deals = pd.DataFrame(
        {
            "opportunity_id": ["1", "2", "3"],
            "account_id": ids,
            "created_at": ["2025-02-01"] * 3,
            "status": ["open"] * 3,
            "pack": ["x"] * 3,
        }
    )
    made = {name: table.empty() for name, table in CANONICAL.items()}
    return made | {"accounts": typed("accounts", accounts), "opportunities": typed("opportunities", deals)}


def test_a_snapshot_holds_every_candidate_trait_as_text_and_no_name():
    taken = take_snapshot(tables(), Settings())
    assert taken["accounts"].columns.tolist() == ["account_id", "care", "employees"]
    assert taken["accounts"]["employees"].tolist() == ["10", "20", "30"]
    assert taken["accounts"]["care"].isna().tolist() == [False, True, False]
    check_artefact("account_snapshot", taken["accounts"])
    check_artefact("opportunity_snapshot", taken["opportunities"])


def test_changes_are_found_with_both_bounds_of_their_date():
    before, now = (take_snapshot(t, Settings()) for t in (tables(), tables(("gold", "iron", ""), ("10", "25", "30"))))
    changes = find_changes(now, before, as_of=JUNE, before_as_of=MARCH)
    told = changes[["record_id", "field", "old_value", "new_value"]].fillna("").to_numpy().tolist()
    assert sorted(told) == [["B", "care", "", "iron"], ["B", "employees", "20", "25"], ["C", "care", "tin", ""]]
    assert set(changes["changed_at"]) == {JUNE}
    assert set(changes["not_before"]) == {pd.Timestamp("2026-04-01")}
    check_artefact("trait_history", changes)


def test_records_and_fields_of_one_snapshot_only_say_nothing():
    before, now = take_snapshot(tables(), Settings()), take_snapshot(tables(), Settings())
    before["accounts"] = before["accounts"].drop(columns="care").iloc[1:]
    assert find_changes(now, before, as_of=JUNE, before_as_of=MARCH).empty


def test_the_crm_s_own_history_goes_before_ours_for_the_same_field():
    own = find_changes(
        take_snapshot(tables(("iron", "iron", "iron"), ("11", "20", "30")), Settings()),
        take_snapshot(tables(), Settings()), as_of=JUNE, before_as_of=MARCH,
    )  # fmt: skip
    delivered = CANONICAL["field_history"].empty()
    delivered.loc[0] = ["accounts", "A", "care", MARCH, "", "gold", pd.NaT]
    joined = join_history(delivered, own)
    assert joined.loc[joined["field"] == "care", "changed_at"].tolist() == [MARCH]
    assert joined.loc[joined["field"] == "employees", "record_id"].tolist() == ["A"]


@pytest.fixture
def three_runs(tmp_path):
    """Work folders of three quarters; each finds the artefacts of the one before."""
    values = {MARCH: ("gold", "", "tin"), JUNE: ("gold", "iron", "tin"), SEPTEMBER: ("zinc", "iron", "tin")}
    before = ""
    for as_of, care in values.items():
        work = tmp_path / f"{as_of:%m}"
        (work / "tables").mkdir(parents=True)
        for name, frame in tables(care).items():
            if len(frame):
                write_parquet(frame, work / "tables" / f"{name}.parquet")
        if before:
            (work / "previous").mkdir()
            (tmp_path / f"{pd.Timestamp(before):%m}" / "history").rename(work / "previous" / "artifacts")
        add_own_history(work, Settings(), f"{as_of:%Y-%m-%d}", before)
        before = f"{as_of:%Y-%m-%d}"
    return work


def test_from_the_second_run_on_an_earlier_date_shows_the_earlier_value(three_runs):
    held = tables(("zinc", "iron", "tin")) | {
        "field_history": read_parquet(three_runs / "tables" / "field_history.parquet")
    }
    on = {
        d: features.view_on(held, d)["accounts"].set_index("account_id")["care"].fillna("").tolist()
        for d in (MARCH, JUNE, SEPTEMBER)
    }
    assert on == {MARCH: ["gold", "", "tin"], JUNE: ["gold", "iron", "tin"], SEPTEMBER: ["zinc", "iron", "tin"]}
    catalogue = features.build_catalogue(held, Settings()).set_index("trait")
    assert catalogue.loc["care", "known_at"] == "history"
    assert catalogue.loc["employees", "known_at"] == "snapshot"


def test_between_two_runs_the_new_value_is_not_yet_known(three_runs):
    held = tables(("zinc", "iron", "tin")) | {
        "field_history": read_parquet(three_runs / "tables" / "field_history.parquet")
    }
    may = features.view_on(held, pd.Timestamp("2026-05-15"))["accounts"].set_index("account_id")["care"]
    assert pd.isna(may["B"]) or may["B"] == ""


def test_a_first_run_leaves_the_tables_as_they_are(tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("accounts", "opportunities"):
        write_parquet(tables()[name], tmp_path / "tables" / f"{name}.parquet")
    add_own_history(tmp_path, Settings(), "2026-03-31", "")
    assert not (tmp_path / "tables" / "field_history.parquet").exists()
    assert sorted(p.name for p in (tmp_path / "history").iterdir()) == [
        "account_snapshot.parquet", "opportunity_snapshot.parquet", "trait_history.parquet",
    ]  # fmt: skip


DATED = '[traits.pack]\nknown_at = "pack_set"\n'
ACCOUNTS = "account_id,name,pack,pack_set,created_at\nA,Aa,gold,2026-02-01,2025-01-01\nB,Bb,tin,2026-05-01,2025-01-01\nC,Cc,tin,,2025-01-01\n"
DEALS = "opportunity_id,account_id,created_at,closed_at,status\n1,A,2025-02-01,2026-03-01,won\n2,B,2025-02-01,2026-06-01,lost\n"


def dated_workspace(folder, settings=DATED, accounts=ACCOUNTS):
    folder.mkdir()
    for name, text in {"accounts.csv": accounts, "opportunities.csv": DEALS, "icplab.toml": settings}.items():
        (folder / name).write_text(text)
    return folder


def test_a_trait_with_a_date_of_its_own_is_blank_until_that_day(tmp_path):
    take_in(dated_workspace(tmp_path / "shop"), tmp_path / "run")
    held = {
        n: read_parquet(tmp_path / "run" / "tables" / f"{n}.parquet")
        for n in ("accounts", "opportunities", "field_history")
    }
    for day, pack in {
        "2026-01-31": ["", "", "tin"],
        "2026-02-01": ["gold", "", "tin"],
        "2026-06-01": ["gold", "tin", "tin"],
    }.items():
        view = features.view_on(held, pd.Timestamp(day))["accounts"].set_index("account_id")["pack"]
        assert view.fillna("").tolist() == pack, day
    settings = read_settings(tmp_path / "shop")
    assert features.build_catalogue(held, settings).set_index("trait").loc["pack", "known_at"] == "pack_set"


def test_a_date_column_that_is_not_there_or_not_a_date_is_named(tmp_path):
    missing = check_workspace(dated_workspace(tmp_path / "a", DATED.replace("pack_set", "pack_sett")))
    stop = next(p for p in missing.stops if p.code == "ICP-E100")
    assert 'did you mean "pack_set"' in stop.message
    assert stop.column == "traits.pack.known_at"
    wrong = check_workspace(dated_workspace(tmp_path / "b", accounts=ACCOUNTS.replace("2026-05-01", "2026-02-31")))
    stop = next(p for p in wrong.stops if p.code == "ICP-E049")
    assert (stop.column, stop.record) == ("pack_set", 2)
