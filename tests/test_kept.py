"""What is made from a run's tables is made once, and never taken for what other tables, settings or code would make."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from icplab import features
from icplab.core.config import Workspace
from icplab.core.store import read_parquet, write_parquet
from icplab.features import kept as module
from icplab.features import summaries
from icplab.step import open_step
from tests.conftest import HAND

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
EARLY_DAYS = 90
MADE = ("accounts", "opportunities", "catalogue", "signals", "effort")


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run"


def opened(run, name="30_segments", **options):
    return open_step(name, workspace=str(HAND), run=str(run), **options)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return open_step("40_traits", workspace=str(SAMPLE), run=str(tmp_path_factory.mktemp("sample") / "run"))


@pytest.fixture
def made(monkeypatch):
    """How often the account table was built."""
    counted = []
    build = features.build_accounts
    monkeypatch.setattr(features, "build_accounts", lambda *a, **k: counted.append(a[2]) or build(*a, **k))
    return counted


def test_the_second_notebook_of_a_run_takes_what_the_first_made(run, made):
    first, second = opened(run, "10_align"), opened(run, "50_tiers")
    pd.testing.assert_frame_equal(first.accounts, second.accounts)
    assert len(made) == 1


def test_what_is_kept_is_what_was_made_in_columns_kinds_and_values(sample):
    step = sample
    given = (step.settings, step.as_of)
    pd.testing.assert_frame_equal(step.accounts, features.build_accounts(step.sources, *given))
    pd.testing.assert_frame_equal(step.opportunities, features.build_opportunities(step.all_tables, *given))
    pd.testing.assert_frame_equal(step.catalogue, features.build_catalogue(step.tables, step.settings))
    pd.testing.assert_frame_equal(step.signals, features.summarise_signals(step.sources, step.as_of))
    pd.testing.assert_frame_equal(step.effort, features.summarise_effort(step.sources, step.as_of))
    names = sorted(p.name.split("-")[0] for p in (step.folder / "features").rglob("*.parquet"))
    assert names == sorted(MADE)


def test_another_date_is_another_table(run, made):
    today, before = opened(run), opened(run, as_of="2025-06-30")
    assert today.accounts["n_won"].sum() > before.accounts["n_won"].sum()
    pd.testing.assert_frame_equal(today.accounts_on(before.as_of), before.accounts)
    assert len(made) == 2


def test_changed_tables_are_read_anew_and_what_came_of_the_old_ones_is_removed(run):
    before = opened(run).accounts
    path = run / "tables" / "opportunities.parquet"
    write_parquet(read_parquet(path).iloc[1:], path)
    after = opened(run).accounts
    assert after["n_opportunities"].sum() == before["n_opportunities"].sum() - 1
    assert len(list((run / "features").iterdir())) == 1


def test_tables_replaced_under_an_open_notebook_leave_nothing_behind(run):
    step, path = opened(run), run / "tables" / "opportunities.parquet"
    assert step.kept.tables
    write_parquet(read_parquet(path).iloc[1:], path)
    assert step.accounts["n_opportunities"].sum() == len(read_parquet(path))
    assert not list(run.glob("features/*/*"))


def test_other_settings_are_other_frames(run):
    step = opened(run)
    other = dataclasses.replace(step, settings=dataclasses.replace(step.settings, workspace=Workspace(name="other")))
    assert step.accounts.equals(other.accounts)
    assert step.kept.base != other.kept.base


def test_other_code_is_not_believed(run, made, monkeypatch):
    assert len(opened(run).accounts) == 8
    monkeypatch.setattr(module, "code_hash", lambda: "edited since this kernel began")
    assert len(opened(run).accounts) == 8
    monkeypatch.setattr(module, "LOADED", "edited since this kernel began")
    assert len(opened(run).accounts) == 8
    assert len(made) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_made_anew(run, made, damage):
    before = opened(run).accounts
    (path,) = run.glob("features/*/accounts-*.parquet")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    else:
        data[60] ^= 0xFF
    path.write_bytes(data)
    pd.testing.assert_frame_equal(opened(run).accounts, before)
    assert len(made) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(run, made):
    run.mkdir()
    (run / "features").write_text("not a folder")
    assert len(opened(run).accounts) == len(opened(run).accounts) == 8
    assert len(made) == 2
    assert (run / "features").is_file()


def test_a_kind_that_a_file_would_change_is_not_kept(run):
    step = opened(run)
    frame = pd.DataFrame({"x": pd.Series([1, "a"], dtype=object)})
    assert step.kept.frame("odd", lambda: frame) is frame
    assert not list(run.glob("features/*/odd*"))


def test_early_activities_counted_by_the_engine_are_those_counted_in_memory(sample):
    step = sample
    held = step.tables["activities"]
    starts = held.groupby("account_id")["occurred_at"].min() + pd.Timedelta(days=3)
    starts.loc["never seen"] = pd.Timestamp("2025-01-01")
    since = (held["occurred_at"] - held["account_id"].map(starts)).dt.days
    early = held[(since >= 0) & (since < EARLY_DAYS)]
    expected = early.groupby("account_id").size().reindex(starts.index).fillna(0)
    found = step.count_early(starts, EARLY_DAYS)
    pd.testing.assert_series_equal(found, expected.astype(float), check_names=False)
    assert found.sum() > 100
    assert found["never seen"] == 0
    pd.testing.assert_series_equal(summaries.count_early(step.tables, starts, EARLY_DAYS, step.as_of), found)
    assert summaries.count_early({}, starts, EARLY_DAYS, step.as_of) is None
    assert summaries.count_early(step.sources, starts.iloc[:0], EARLY_DAYS, step.as_of).empty
