"""The readers under mutated files: no traceback, whole ledgers, nothing changed without a word. `make fuzz` runs thousands."""

from __future__ import annotations

from benchmarks.fuzz_intake import fuzz


def test_no_mutated_workspace_ends_in_a_traceback_or_a_silent_change(tmp_path):
    outcome = fuzz(32, 2024, tmp_path)
    assert not outcome.broken, "\n".join(outcome.broken)
    assert set(outcome.ended) <= {"error", "noted", "as it stands"}
    assert outcome.ended["error"] >= 5
    assert outcome.ended.total() == 32


def test_the_same_seed_makes_the_same_workspaces(tmp_path):
    assert fuzz(2, 7, tmp_path).ended == fuzz(2, 7, tmp_path).ended
