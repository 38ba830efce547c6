"""Reads a folder of notebooks, runs them in forked kernels: the part of `icplab run` that is compared in `speed`."""

from __future__ import annotations

import sys
from pathlib import Path

from icplab.run.execute import execute_notebook
from icplab.run.kernels import KernelsAhead, Zygote
from icplab.run.notebooks import find_notebooks


def main(folder: Path, cwd: Path) -> None:
    """Run all notebooks in order; stop at the first that fails."""
    notebooks = find_notebooks(folder)
    with Zygote() as zygote:
        kernels = KernelsAhead(zygote, cwd, len(notebooks))
        for notebook in notebooks:
            given = {"workspace": "", "run": ".", "seed": 1}
            outcome = execute_notebook(notebook, cwd / f"forked_{notebook.name}.ipynb", given, kernels.take)
            if not outcome.ok:
                raise SystemExit(f"{notebook.name} failed: {outcome.failure}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
