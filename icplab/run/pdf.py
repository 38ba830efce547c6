"""Reads the council pack of a published run, makes it a PDF with the Chromium that is there; never part of a run itself.

A PDF holds the time it was printed, so it would differ each time: a run stays the same bytes on every machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from icplab.core.errors import BadInput, Problem
from icplab.run.publish import verify_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 120
# No sandbox only where the user is root; no background traffic in any case.
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-pdf-header-footer",
)  # fmt: skip


def print_pack(run: Path | str, target: Path | str) -> Path:
    """Print `index.html` of a run that verifies.

    Parameters
    ----------
    run : published run
    target : PDF to write; one that is there is never replaced

    Raises
    ------
    BadInput
        There is no Chromium, it failed, or the target exists.
    DoesNotVerify
        The run was changed after it was published.
    """
    run, target = Path(run), Path(target)
    verify_run(run)
    if target.exists():
        raise BadInput(Problem("ICP-E100", "is there already", fix="name a new file with --out", file=str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="icplab-", dir=target.parent) as scratch:
        made = Path(scratch) / "pack.pdf"
        _print(find_browser(), run / "index.html", made, Path(scratch))
        os.replace(made, target)
    return target


def find_browser() -> str:
    """The Chromium that `ICPLAB_CHROMIUM` names, else the first that is installed."""
    named = os.environ.get("ICPLAB_CHROMIUM")
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        fix = "install Chromium, or name it in the environment variable ICPLAB_CHROMIUM; or print index.html from any browser"
        raise BadInput(Problem("ICP-E100", "needs Chromium, and none was found", fix=fix, file="--to", value="pdf"))
    return found


def _print(browser: str, page: Path, made: Path, scratch: Path) -> None:
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    profile = f"--user-data-dir={scratch / 'profile'}"
    command = [browser, *FLAGS, *root, profile, f"--print-to-pdf={made}", page.resolve().as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadInput(Problem("ICP-E100", f"could not be used: {error}", file="--to", value=browser)) from error
    if not made.is_file():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise BadInput(Problem("ICP-E100", f"printed nothing: {' '.join(said)}", file="--to", value=browser))
