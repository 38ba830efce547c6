"""Tiny notebooks and workspaces, so that tests of the run take fractions of a second per step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nbformat

import icplab

PARAMETERS = (
    'workspace: str = "../data/sample"  # folder of exports\n'
    'run: str = "../reports/lab"  # run folder\n'
    'as_of: str = ""  # date\n'
    "seed: int = -1  # negative takes the seed of the workspace"
)
CLOSE = (
    "from pathlib import Path\n"
    "import json\n"
    "folder = Path(run) / 'steps' / {name!r}\n"
    "folder.mkdir(parents=True, exist_ok=True)\n"
    "(folder / 'done.json').write_text(json.dumps({{'step': {name!r}, 'seed': seed}}))"
)


def write_notebook(folder: Path, name: str, *cells: str, parameters: str = PARAMETERS, title: str = "") -> Path:
    """A notebook whose first code cell is tagged `parameters`; the cells follow."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(metadata={**metadata, "title": title or name})
    first = nbformat.v4.new_code_cell(parameters, id="c01", metadata={"tags": ["parameters"]})
    rest = [nbformat.v4.new_code_cell(source, id=f"c{i:02d}") for i, source in enumerate(cells, start=2)]
    book.cells = [first, *rest]
    path = folder / f"{name}.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path


def write_step(folder: Path, name: str, *cells: str, parameters: str = PARAMETERS, title: str = "") -> Path:
    """A notebook that also closes its step."""
    return write_notebook(folder, name, *cells, CLOSE.format(name=name), parameters=parameters, title=title)


def write_workspace(folder: Path) -> Path:
    """Two accounts, two opportunities: the smallest workspace that a run takes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accounts.csv").write_text("account_id,name\nA1,One\nA2,Two\n", encoding="utf-8")
    (folder / "opportunities.csv").write_text(
        "opportunity_id,account_id,created_at,closed_at,status,amount\n"
        "O1,A1,2026-01-05,2026-03-31,won,100\nO2,A2,2026-02-01,2026-03-01,lost,50\n",
        encoding="utf-8",
    )
    return folder


def light_environment(folder: Path) -> dict[str, str]:
    """Environment in which `python -m icplab` runs the notebooks of a folder, from a copy of the code.

    The copy loads no libraries before the fork, which dummies do not need, and stays as it is while somebody edits the
    code: kept results would rightly be stale after that.
    """
    code = folder / "code" / "icplab"
    if not code.exists():
        shutil.copytree(Path(icplab.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
        with (code / "run" / "kernels.py").open("a", encoding="utf-8") as file:
            file.write("\nLIBRARIES = ()\n")
    (folder / "tmp").mkdir(exist_ok=True)
    own = {
        "ICPLAB_NOTEBOOKS": str(folder / "notebooks"),
        "PYTHONPATH": str(folder / "code"),
        "TMPDIR": str(folder / "tmp"),
    }
    return {**os.environ, **own}
