"""Each explorer in a real JupyterLab: opened, run, a control moved, the answer changed, the choice saved."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from icplab.run.lab import lab_command, lab_environment

pytestmark = [pytest.mark.browser, pytest.mark.slow]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TOKEN = "for-this-test-only"
PATIENCE = 120_000  # ms: CI machines are slow, and the first kernel loads everything
SCREENSHOTS = Path(os.environ.get("ICPLAB_SCREENSHOTS", "")).absolute()  # the tests change the folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A simulated market with a published run beside it, as a user has after `icplab run`."""
    place = tmp_path_factory.mktemp("lab")
    for command in (["simulate", "market", "--accounts", "600"], ["run", "market", "--out", "reports/2026Q2"]):
        done = subprocess.run([sys.executable, "-m", "icplab", *command], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return place / "market"


@pytest.fixture(scope="module")
def lab(workspace) -> Iterator[str]:
    """Address of a JupyterLab opened on the workspace by the command of `icplab lab`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = workspace.parent / "home"
    os.chdir(workspace.parent)  # pytest's own folder is restored by the fixture below
    shutil.copytree(NOTEBOOKS, home / "notebooks")  # JupyterLab saves what it ran
    os.environ["ICPLAB_NOTEBOOKS"] = str(home / "notebooks")
    keep = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {**lab_environment(workspace), **keep, "JUPYTER_TOKEN": TOKEN, "IPYTHONDIR": str(home / "ipython")}
    command = [*lab_command(port, browser=False), "--allow-root"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module", autouse=True)
def _back() -> Iterator[None]:
    here = Path.cwd()
    yield
    os.chdir(here)
    os.environ.pop("ICPLAB_NOTEBOOKS", None)


def _wait_for(address: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        assert server.poll() is None, "JupyterLab ended before it answered"
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError("JupyterLab did not answer within 90 seconds")


@pytest.fixture
def page(browser, lab):
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    opened = context.new_page()
    yield opened
    context.close()


def run_all(page, lab: str, notebook: str) -> None:
    """Open a notebook and run all of its cells by the menu, as an analyst does."""
    page.goto(f"{lab}/lab/tree/{notebook}.ipynb?token={TOKEN}&reset")
    page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=PATIENCE)
    page.get_by_text("| Idle").first.wait_for(timeout=PATIENCE)
    page.wait_for_timeout(3000)  # cells sent while the kernel settles are dropped by JupyterLab
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    page.get_by_text("answered in").first.wait_for(timeout=PATIENCE)


def answer_of(page) -> str:
    """The text of the explorer's answer."""
    return page.locator(".icp-answer").first.inner_text()


@pytest.mark.parametrize("notebook", sorted(p.stem for p in NOTEBOOKS.glob("explore_*.ipynb")))
def test_an_explorer_runs_answers_a_moved_slider_and_saves(page, lab, workspace, notebook):
    before = shutil.copyfile(workspace / "icplab.toml", workspace.parent / "before.toml").read_text(encoding="utf-8")
    run_all(page, lab, notebook)
    first = answer_of(page)
    handle = page.locator(".noUi-handle").first
    handle.focus()
    for _ in range(6):  # until the answer is another
        handle.press("ArrowRight")
        page.wait_for_timeout(500)
        if answer_of(page) != first:
            break
    page.wait_for_function(
        "was => document.querySelector('.icp-answer').innerText !== was", arg=first, timeout=PATIENCE
    )
    if os.environ.get("ICPLAB_SCREENSHOTS"):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{notebook}.png")
    page.get_by_role("button", name="Save this choice").click()
    page.get_by_text("Saved in icplab.toml").wait_for(timeout=PATIENCE)
    after = (workspace / "icplab.toml").read_text(encoding="utf-8")
    assert after != before
    (workspace / "icplab.toml").write_text(before, encoding="utf-8")
    assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
