"""Notebooks are thin, told in sentences, and hold no result of their own."""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from icplab.step import STEPS

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATHS = [NOTEBOOKS / f"{step}.ipynb" for step in STEPS]
COMMON = {"workspace": "../data/sample", "run": "../reports/lab", "as_of": "", "seed": -1}
MAX_LINES_A_CELL = 10
MAX_LINES = 100


def load(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def test_every_step_has_its_notebook_and_nothing_else_is_there():
    assert sorted(p.stem for p in NOTEBOOKS.glob("[0-9]*.ipynb")) == list(STEPS)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
class TestNotebook:
    def test_it_opens_with_its_question_and_who_decides(self, path):
        first = load(path).cells[0]
        assert first.cell_type == "markdown"
        assert first.source.startswith("# ")
        assert "?" in first.source
        assert "decides" in first.source.lower()

    def test_it_has_one_parameters_cell_with_the_common_parameters(self, path):
        tagged = [c for c in load(path).cells if "parameters" in c.metadata.get("tags", [])]
        assert len(tagged) == 1
        body = ast.parse(tagged[0].source).body
        assert all(isinstance(node, ast.AnnAssign) for node in body), "one annotated assignment a line"
        values = {node.target.id: ast.literal_eval(node.value) for node in body}
        assert {k: values[k] for k in COMMON} == COMMON
        for line in tagged[0].source.splitlines():
            assert "#" in line, f"{line} has no help text"
            assert "=" not in line.split("#", 1)[1], "papermill reads help text with an equals sign wrongly"

    def test_it_is_thin(self, path):
        cells = code_cells(load(path))
        lengths = [len([line for line in c.source.splitlines() if line.strip()]) for c in cells]
        imports = [c for c in cells if c.source.lstrip().startswith(("import", "from"))]
        long = [c.source for c, n in zip(cells, lengths, strict=True) if n > MAX_LINES_A_CELL and c not in imports]
        assert not long
        assert sum(lengths) <= MAX_LINES
        for cell in cells:
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda | ast.While), cell.source
                assert not isinstance(node, ast.For), f"a loop: {cell.source}"

    def test_code_is_led_by_sentences(self, path):
        cells = load(path).cells
        led = [b.cell_type == "code" and a.cell_type == "markdown" for a, b in pairwise(cells)]
        walk = [c for c in code_cells(load(path)) if "parameters" not in c.metadata.get("tags", [])]
        walk = [c for c in walk if not c.source.lstrip().startswith(("import", "from", "step = open_step"))]
        assert sum(led) >= 0.7 * len(walk)

    def test_it_says_its_findings_and_its_caveats(self, path):
        text = "\n".join(c.source for c in load(path).cells if c.cell_type == "markdown")
        assert "## Findings" in text
        assert "would change the answer" in text
        assert "## Caveats" in text

    def test_it_is_committed_without_outputs_and_with_stable_ids(self, path):
        notebook = load(path)
        for cell in code_cells(notebook):
            if "nbval-check-output" not in cell.metadata.get("tags", []):
                assert not cell.outputs
                assert cell.execution_count is None
        assert [c.id for c in notebook.cells] == [f"c{i:02d}" for i in range(1, len(notebook.cells) + 1)]
        assert notebook.metadata.title

    def test_it_closes_its_step(self, path):
        assert "step.finish(" in code_cells(load(path))[-1].source


EXPLORERS = sorted(NOTEBOOKS.glob("explore_*.ipynb"))


@pytest.mark.parametrize("path", EXPLORERS, ids=lambda p: p.stem)
def test_an_explorer_asks_a_question_says_what_it_saves_and_is_thin(path):
    notebook = load(path)
    first, *_ = notebook.cells
    assert first.source.startswith("# ")
    assert "?" in first.source
    assert "decides" in first.source.lower()
    assert any("*Save this choice*" in c.source for c in notebook.cells if c.cell_type == "markdown")
    assert sum(len(c.source.splitlines()) for c in code_cells(notebook)) <= 10
    assert [c.id for c in notebook.cells] == [f"c{i:02d}" for i in range(1, len(notebook.cells) + 1)]
    assert all(not c.outputs and c.execution_count is None for c in code_cells(notebook))


def test_there_is_an_explorer_of_goals():
    assert "explore_goals" in [p.stem for p in EXPLORERS]
