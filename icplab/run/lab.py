"""Reads a workspace's path, makes a JupyterLab on the notebooks that reads this workspace; for this machine only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from icplab.core.errors import BadInput, Problem, no_folder
from icplab.core.progress import SHOWN
from icplab.run.notebooks import find_notebooks

ADDRESS = "127.0.0.1"
# JupyterLab asks the network for news and newer versions otherwise, and the user whether it may.
CONFIG = Path(__file__).parent / "jupyter"
QUIET = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")


def open_lab(workspace: Path | str, port: int = 8888, *, browser: bool = True) -> int:
    """Open JupyterLab on the notebooks; they read `workspace` and write to `reports/lab` under the current folder.

    It listens on this machine only and keeps the token that JupyterLab makes. Returns JupyterLab's exit code.
    """
    folder = Path(workspace)
    if not folder.is_dir():
        raise BadInput(Problem("ICP-E001", no_folder(folder), fix="name a folder of exports", file=str(workspace)))
    return subprocess.call(lab_command(port, browser=browser), env=lab_environment(folder))


def lab_command(port: int, *, browser: bool) -> list[str]:
    """The command that starts JupyterLab in the folder of the notebooks."""
    folder = find_notebooks()[0].path.parent.resolve()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.ip={ADDRESS}", f"--ServerApp.port={port}"]
    return [*command, *QUIET, f"--ServerApp.root_dir={folder}", *([] if browser else ["--no-browser"])]


def lab_environment(workspace: Path) -> dict[str, str]:
    """The environment of the lab: which workspace the notebooks read, and where they write."""
    run = (Path.cwd() / "reports" / "lab").absolute()
    run.parent.mkdir(parents=True, exist_ok=True)
    config = os.pathsep.join(filter(None, [str(CONFIG), os.environ.get("JUPYTER_CONFIG_PATH", "")]))
    own = {"ICPLAB_WORKSPACE": str(workspace.resolve()), "ICPLAB_RUN": str(run), "JUPYTER_CONFIG_PATH": config}
    return {**os.environ, **own, SHOWN: "1"}
