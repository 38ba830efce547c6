"""Chromium for the tests that need a browser; where it is missing they are left out, and the reason is printed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# No sandbox: CI runs as root. No background traffic: a test counts requests.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Debian's Chromium, or the one that ICPLAB_CHROMIUM names."""
    named = os.environ.get("ICPLAB_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def find_axe() -> Path | None:
    """axe-core as npm installs it: beside the project, or in the folder that NODE_PATH names."""
    places = [ROOT / "node_modules", *(Path(p) for p in os.environ.get("NODE_PATH", "").split(os.pathsep) if p)]
    found = [place / "axe-core" / "axe.min.js" for place in places]
    return next((path for path in found if path.is_file()), None)


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="left out: the package playwright is not installed")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("left out: no Chromium found (apt-get install chromium, or set ICPLAB_CHROMIUM)")
    with playwright.sync_playwright() as tool:
        program = tool.chromium.launch(executable_path=chromium, chromium_sandbox=False, args=FLAGS)
        yield program
        program.close()


@pytest.fixture(scope="session")
def axe() -> str:
    path = find_axe()
    if path is None:
        pytest.skip("left out: axe-core not found (npm install axe-core)")
    return path.read_text(encoding="utf-8")
