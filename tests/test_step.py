"""A step shows its tables as known on its date, and closes with the hashes of what it made."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from icplab.core.config import Settings, settings_from_json
from icplab.core.errors import BadInput, ContractBroken
from icplab.core.findings import Finding
from icplab.core.store import sha256_of
from icplab.step import open_step, resolve_as_of
from tests.conftest import HAND


@pytest.fixture
def step(tmp_path):
    return open_step("30_segments", workspace=str(HAND), run=str(tmp_path / "run"))


def test_the_workspace_is_taken_in_when_the_run_folder_is_empty(step):
    assert step.as_of == pd.Timestamp("2026-03-31")
    assert len(step.tables["accounts"]) == 8
    assert len(step.tables["opportunities"]) == 12
    assert step.tables["usage"].empty
    assert step.settings.workspace.name == "Hand"


def test_tables_are_as_known_on_the_date(tmp_path):
    step = open_step("30_segments", workspace=str(HAND), run=str(tmp_path), as_of="2025-06-30")
    assert len(step.tables["opportunities"]) == 7
    assert step.opportunities.set_index("opportunity_id").at["o07", "status"] == "open"
    with pytest.raises(ValueError, match="2025-07-01 is later than the step's as-of date 2025-06-30"):
        step.opportunities_on(pd.Timestamp("2025-07-01"))
    assert len(step.opportunities_on(pd.Timestamp("2025-01-31"))) == 2


def test_each_step_has_its_own_seed_from_the_workspace(tmp_path):
    opened = [open_step(n, workspace=str(HAND), run=str(tmp_path)).seed for n in ("30_segments", "40_traits")]
    assert opened[0] != opened[1]
    assert opened[0] == open_step("30_segments", workspace="", run=str(tmp_path)).seed


def test_finishing_writes_findings_and_hashes(step):
    frame = pd.DataFrame({"account_id": step.known_accounts, "segment_id": "S1", "segment": "x", "membership": 1.0})
    step.write("account_segments", frame)
    step.finish([Finding("segments-none", "30_segments", "info", "market", "No segments were found.")])
    folder = step.folder / "steps" / "30_segments"
    done = json.loads((folder / "done.json").read_text())
    assert done["outputs"]["account_segments.parquet"] == sha256_of(folder / "account_segments.parquet")
    assert step.read("findings")["code"].tolist() == ["segments-none"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda ids: ids[1:], "7 accounts of 8 known ones: 1 missing"),
        (lambda ids: [*ids, "a99"], "1 not known on the date"),
        (lambda ids: [*ids, ids[0]], "1 there more than once"),
    ],
)
def test_an_artefact_of_all_accounts_is_refused_when_one_is_lost_made_up_or_doubled(step, change, fault):
    ids = change(list(step.known_accounts))
    frame = pd.DataFrame({"account_id": ids, "segment_id": "S1", "segment": "x", "membership": 1.0})
    with pytest.raises(ContractBroken, match=fault):
        step.write("account_segments", frame)
    assert not step.has("account_segments")


def test_accounts_created_after_the_date_are_not_known(tmp_path):
    step = open_step("30_segments", workspace=str(HAND), run=str(tmp_path), as_of="2025-06-30")
    assert list(step.known_accounts) == list(step.tables["accounts"]["account_id"])


def test_an_empty_run_folder_without_workspace_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no tables"):
        open_step("30_segments", workspace="", run=str(tmp_path))


def test_a_malformed_date_is_refused_by_name():
    with pytest.raises(BadInput, match=r'column "as_of": "2026-13-01" is not a calendar date.*2026-06-30'):
        resolve_as_of("2026-13-01", Settings(), {"as_of": "2026-01-01"})


def test_a_date_before_anything_was_known_is_refused():
    inputs = {"as_of": "2026-01-01", "dates": {"opportunities": {"created_at": ["2024-03-01", "2025-12-30"]}}}
    with pytest.raises(BadInput, match=r'"1999-01-01" is earlier than the first opportunity \(2024-03-01\)'):
        resolve_as_of("1999-01-01", Settings(), inputs)
    assert resolve_as_of("2024-03-01", Settings(), inputs) == pd.Timestamp("2024-03-01")


def test_the_date_is_given_else_the_workspace_says_else_the_data():
    declared = settings_from_json(json.dumps({**json.loads(SETTINGS), "workspace": {"as_of": "2026-02-01"}}))
    inputs = {"as_of": "2026-01-15"}
    assert resolve_as_of("2025-12-31", declared, inputs) == pd.Timestamp("2025-12-31")
    assert resolve_as_of("", declared, inputs) == pd.Timestamp("2026-02-01")
    assert resolve_as_of("", Settings(), inputs) == pd.Timestamp("2026-01-15")


SETTINGS = json.dumps({"workspace": {}, "playbook": {}, "defaults_taken": []})
