"""The report of a broken workspace: short, the gravest first, columns with one problem on one line, all on request."""

from __future__ import annotations

from icplab.intake import check_workspace
from tests.catalogue.workspace import Workspace

DIRT = ("N/A", " x ", "2025-02-30", "#REF!", "abc", "-5", "A99", "1e400")


def _dirty() -> Workspace:
    workspace = Workspace()
    for rows in workspace.tables.values():
        for number, row in enumerate(rows):
            for place, name in enumerate(list(row)[1:]):
                if (number * 7 + place * 3) % 11 == 0:
                    row[name] = DIRT[(number + place) % len(DIRT)]
    return workspace


def test_the_report_of_a_dirty_workspace_is_short_and_says_what_is_left_out(tmp_path):
    report = check_workspace(_dirty().write(tmp_path / "w"))
    text = report.as_text()
    lines = text.splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("w: a run would stop. Mend ")
    assert lines[2].startswith("Stops a run")
    assert text.index("Stops a run") < text.index("What was read") < text.index("Kept, with a warning")
    assert "See all with icplab check --all" in text
    assert "docs/messages/README.md (for example #icp-e" in lines[-1]
    assert all(len(line) <= 118 for line in lines)
    assert len(report.as_text(everything=True).splitlines()) > len(lines)


def test_columns_with_the_same_problem_share_a_line(tmp_path):
    workspace = Workspace()
    for name in ("created_at", "closed_at"):
        workspace.row("opportunities", "O007")[name] = "2023-02-31"
    text = check_workspace(workspace.write(tmp_path / "w")).as_text()
    assert text.count("ICP-E049") == 1
    assert 'columns "created_at, closed_at"' in text
    assert "Mend 1 problem, listed" in text


def test_a_clean_workspace_is_said_to_be_clean_in_a_few_lines(tmp_path):
    text = check_workspace(Workspace().write(tmp_path / "w")).as_text()
    assert "a run would go ahead, using 144 of 146 records" in text
    assert len(text.splitlines()) <= 6
    assert "docs/messages" not in text
