"""Reads nothing, makes a table of start-up and run times against their peers, measured in turns within the same run.

`python -m benchmarks.speed [--repeats N] [--no-sample]` prints the table and writes `benchmarks/results/speed.json`.
Only ratios within one run mean anything on a machine that others use too; each row shows every repeat.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import nbformat

from benchmarks.speed_resampling import measure_resampling
from benchmarks.speed_rows import Row, in_turns
from icplab.run.notebooks import Notebook, find_notebooks

RESULTS = Path(__file__).parent / "results" / "speed.json"
SAMPLE = Path(__file__).parents[1] / "data" / "sample"
TARGET = 5.0
"""Seven notebooks that import the typical set: how many times faster than the Papermill command line, one after another."""
HELP_TARGET = 3.0
"""`icplab --help` may take this many times what a bare Python takes."""
TYPICAL = (
    "import pandas as pd\nimport numpy as np",
    "import seaborn as sns\nimport matplotlib.pyplot as plt",
    "import statsmodels.api as sm\nimport statsmodels.formula.api as smf",
    "from sklearn.cluster import KMeans\nfrom sklearn.linear_model import LogisticRegression\n"
    "from sklearn.model_selection import cross_val_predict\nfrom sklearn.preprocessing import StandardScaler",
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-sample", action="store_true", help="leave out the sample's own notebooks (minutes)")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compile_everything()
    rows = [measure_help(max(options.repeats, 9)), measure_imports(options.repeats)]
    rows += measure_resampling(options.repeats)
    if not options.no_sample:
        rows.append(measure_sample(1))
    print(as_table(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(as_json(rows), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULTS.relative_to(RESULTS.parents[2])}")


def compile_everything() -> None:
    """Bytecode for everything that is timed, so that neither side pays for compiling."""
    import numpy

    compileall.compile_dir(Path(numpy.__file__).parents[1], quiet=2, workers=2)
    compileall.compile_dir(Path(__file__).parents[1] / "icplab", quiet=2)


def measure_help(repeats: int) -> Row:
    """`icplab --help` beside a Python that does nothing."""
    command = [str(Path(sys.executable).parent / "icplab"), "--help"]
    ours, theirs = in_turns([lambda: run(command), lambda: run([sys.executable, "-c", "pass"])], repeats)
    return Row("icplab --help", "python -c pass", ours, theirs, f"ratio ≥ {1 / HELP_TARGET:.2f}")


def measure_imports(repeats: int) -> Row:
    """Seven notebooks that import the typical set and do nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        write_notebooks(Path(folder))
        ours, theirs = in_turns(
            [lambda: run_forked(Path(folder)), lambda: run_papermill(find_notebooks(folder), Path(folder))], repeats
        )
    return Row(
        "7 notebooks that only import", "papermill command line, one by one", ours, theirs, f"ratio ≥ {TARGET:g}"
    )


def measure_sample(repeats: int) -> Row:
    """The sample's own seven notebooks, without pages and publication on either side."""
    from icplab.intake import take_in

    with tempfile.TemporaryDirectory() as folder:
        for place in ("ours", "theirs"):
            take_in(SAMPLE, Path(folder) / place)
        notebooks = find_notebooks()
        ours, theirs = in_turns(
            [
                lambda: run_forked(notebooks[0].path.parent, Path(folder) / "ours"),
                lambda: run_papermill(notebooks, Path(folder) / "theirs"),
            ],
            repeats,
        )
    return Row("the sample's 7 notebooks", "papermill command line, one by one", ours, theirs, "none: mostly computing")


def write_notebooks(folder: Path, count: int = 7) -> None:
    """Notebooks with a parameters cell and the imports of a typical one."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    parameters = 'run: str = "."  # run folder\nseed: int = -1  # seed'
    for number in range(1, count + 1):
        book = nbformat.v4.new_notebook(metadata=metadata)
        first = nbformat.v4.new_code_cell(parameters, id="c00", metadata={"tags": ["parameters"]})
        rest = [nbformat.v4.new_code_cell(source, id=f"c{i:02d}") for i, source in enumerate(TYPICAL, start=1)]
        book.cells = [first, *rest]
        nbformat.write(book, folder / f"{number}0_imports.ipynb")


def run_papermill(notebooks: list[Notebook], cwd: Path) -> None:
    """Every notebook through Papermill's own command line, one after the other."""
    for notebook in notebooks:
        given = {"workspace": "", "run": ".", "seed": "1"}
        parameters = [part for k, v in given.items() if k in notebook.parameters for part in ("-p", k, v)]
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", "--cwd", str(cwd)]
        run([*command, *parameters, str(notebook.path), str(cwd / f"papermill_{notebook.name}.ipynb")])


def run_forked(folder: Path, cwd: Path | None = None) -> None:
    """The same notebooks through our runner, in a process of its own: its imports and the warm-up count too."""
    command = [sys.executable, "-m", "benchmarks.speed_runner", str(folder), str(cwd or folder)]
    run(command)


def run(command: list[str]) -> None:
    """Run a command, silently; stop with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} … failed:\n{done.stderr[-2000:]}")


def as_table(rows: list[Row]) -> str:
    """The rows for people."""
    lines = [f"{'what':<30} {'ours':>9} {'peer':>9} {'ratio':>6}   target; peer"]
    for row in rows:
        ours, theirs = statistics.median(row.ours), statistics.median(row.theirs)
        lines.append(f"{row.what:<30} {ours:>7.2f} s {theirs:>7.2f} s {row.ratio:>6.2f}   {row.target}; {row.peer}")
    return "\n".join(lines)


def as_json(rows: list[Row]) -> dict:
    """The rows for machines, with what they were measured on."""
    return {
        "rows": [{**asdict(row), "ratio": round(row.ratio, 3)} for row in rows],
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load": list(os.getloadavg()),
    }


if __name__ == "__main__":
    main()
