"""Reads the sample, makes whole runs on workspaces of unusual shape: no error of ours, and bad input told as such.

`python -m benchmarks.fuzz_workspaces [--n N] [--seed SEED]` runs every named shape and N drawn ones (half a minute each). A run
may end with pages, or say with a code what is wrong with the workspace; anything else is printed, and the command fails.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from icplab.core.progress import track
from tests.odd_shapes import SAMPLE, SHAPES, Tables, drawn, some_of_the_sample, write

PAGES, BAD_INPUT = 8, 2  # pages of a finished run; exit status of a workspace that cannot be used
CODE = re.compile(r"ICP-[EQ]\d{3}")


def judge(tables: Tables, settings: bool, folder: Path) -> str:
    """What is wrong with the run on these tables; nothing when it is as it should be."""
    workspace = write(tables, folder / "workspace")
    if settings:
        shutil.copy(SAMPLE / "playbook.toml", workspace)
    command = [sys.executable, "-m", "icplab", "run", str(workspace), "--out", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stderr[-600:]
    if "Traceback" in done.stderr:
        return f"traceback: {said}"
    if done.returncode == BAD_INPUT:
        return "" if CODE.search(done.stderr) else f"stopped without a code: {said}"
    if done.returncode != 0:
        return f"status {done.returncode}: {said}"
    pages = len(list((folder / "run").glob("*.html")))
    return "" if pages == PAGES else f"{pages} pages"


def main() -> int:
    """Run the shapes, print what failed, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10, help="drawn workspaces beside the named ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--named", action="store_true", help="only the named shapes")
    given = parser.parse_args()
    work = [(name, shape(some_of_the_sample(240)), False) for name, shape in SHAPES.items()]
    for i in range(0 if given.named else given.n):
        rng = np.random.default_rng([given.seed, i])
        work.append((f"seed {given.seed}, {i}", drawn(rng), bool(rng.random() < 0.5)))
    failed = 0
    for name, tables, settings in track(work, "runs"):
        with tempfile.TemporaryDirectory() as folder:
            wrong = judge(tables, settings, Path(folder))
        if wrong:
            failed += 1
            print(f"{name}: {wrong}", flush=True)
    print(f"{len(work)} workspaces, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
