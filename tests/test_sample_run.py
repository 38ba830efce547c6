"""The quarterly run on data/sample: complete, verifiable, the same bytes wherever and however often it is made."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from icplab.core.schema import ARTEFACTS, DOCUMENTS
from icplab.core.store import Store
from icplab.step import STEPS, open_step

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NOT_REPRODUCED = {"run.log", "timing.json"}  # they say when and how fast


def icplab(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "icplab", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


def make(folder: Path, **environment: str) -> Path:
    folder.mkdir(parents=True)
    done = icplab("run", str(ROOT / "data" / "sample"), folder=folder, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("index.html")
    return folder / "reports" / "2026Q2"


def hashes(run: Path) -> dict[str, str]:
    files = (p for p in run.rglob("*") if p.is_file() and p.name not in NOT_REPRODUCED)
    return {p.relative_to(run).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("run") / "one")


@pytest.fixture(scope="module")
def store(run) -> Store:
    return Store(run)


def test_a_run_holds_everything_the_contract_names(run):
    names = {p.relative_to(run).as_posix() for p in run.rglob("*")}
    assert {"index.html", "manifest.json", "model.json", "artifacts/findings.json"} <= names
    assert {f"{step}.html" for step in STEPS} <= names
    assert {f"notebooks/{step}.ipynb" for step in STEPS} <= names
    assert {f"artifacts/{name}.parquet" for name in ARTEFACTS} <= names
    assert {f"artifacts/{name}.json" for name in DOCUMENTS} <= names
    assert any(name.startswith("activation/") for name in names)


def test_every_column_of_an_artefact_is_declared(store):
    own = {"account_snapshot", "opportunity_snapshot"}  # one column per trait of the workspace
    undeclared = {n: set(store.read(n)) - set(t.by_name) for n, t in ARTEFACTS.items() if n not in own}
    assert {name: columns for name, columns in undeclared.items() if columns} == {}


def test_it_verifies(run):
    done = icplab("verify", str(run), folder=run.parent)
    assert done.returncode == 0, done.stderr


def test_the_same_input_gives_the_same_bytes_elsewhere(run, tmp_path):
    again = make(
        tmp_path / "ein anderer Ort",
        TZ="Pacific/Auckland",
        LC_ALL="C",
        OMP_NUM_THREADS="2",
        PYTHONHASHSEED="77",
    )
    first, second = hashes(run), hashes(again)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_the_planted_segments_are_on_the_map(store):
    assert store.read_json("segmentation")["verdict"] == "natural"
    assert len(store.read("segments")) == 4


def test_the_query_among_the_activation_files_gives_the_map_again(run, store, tmp_path):
    step = open_step("60_activation", workspace=str(ROOT / "data" / "sample"), run=str(tmp_path / "again"))
    with duckdb.connect() as connection:
        connection.register("accounts", step.accounts)
        told = connection.execute((run / "activation" / "segment_assigner.sql").read_text(encoding="utf-8")).df()
    told = told.sort_values("account_id")
    map_of_run = store.read("account_segments").sort_values("account_id")
    assert told["account_id"].tolist() == map_of_run["account_id"].tolist()
    assert told["segment_id"].tolist() == map_of_run["segment_id"].tolist()
    assert (run / "activation" / "segment_formulas.json").exists()


def test_every_account_has_one_segment_one_score_and_a_tier(store):
    segments, scores = store.read("account_segments"), store.read("scores")
    assert len(segments) == len(scores) == 1500
    assert set(segments["account_id"]) == set(scores["account_id"])
    assert {"tier_1", "tier_2"} <= set(scores["tier"])
    with_icp = scores[scores["icp"] == "yes"]
    assert with_icp["segment_id"].isin(store.read("segments")["segment_id"]).all(), "no ICP without a parent segment"


def test_reasons_add_up(store):
    scores = store.read("scores").dropna(subset=["win_probability"])
    totals = scores["reasons"].map(lambda text: sum(reason["points"] for reason in json.loads(text)))
    ordered = scores.assign(points=totals).sort_values("points")
    assert ordered.groupby(["points", "motion"])["win_probability"].nunique().max() == 1
    assert ordered["win_probability"].corr(ordered["points"], method="spearman") > 0.9


def test_the_pages_say_nothing_that_runs_or_loads(run):
    for page in run.glob("*.html"):
        text = page.read_text(encoding="utf-8").lower()
        assert "<script" not in text
        assert "content-security-policy" in text
        assert 'src="http' not in text


def test_the_planted_leak_is_set_aside_and_nothing_else_raises_an_alarm(store):
    traits = store.read("traits")
    assert set(traits.loc[traits["verdict"] == "quarantined", "trait"]) == {"rollout_package"}
    urgent = store.read("findings").query("severity != 'info'")
    assert set(urgent["code"]) == {"leak"}, urgent[["code", "subject", "sentence"]].to_string()
