"""Whole runs on workspaces of unusual shape end with pages that say what cannot be said; more of them: `make fuzz-runs`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from icplab.core.store import Store
from tests.odd_shapes import SHAPES, some_of_the_sample, write


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["only ids", "all open"])
def test_a_run_ends_with_all_its_pages(shape, tmp_path):
    workspace = write(SHAPES[shape](some_of_the_sample(240)), tmp_path / "workspace")
    command = [sys.executable, "-m", "icplab", "run", str(workspace), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    run = Store(tmp_path / "run")
    assert len(list((tmp_path / "run").glob("*.html"))) == 8
    assert run.read("findings")["code"].isin(["insufficient-evidence", "no-usable-ranking"]).any()
    assert set(run.read("scores")["tier"]) <= {"insufficient", "not_icp"}
