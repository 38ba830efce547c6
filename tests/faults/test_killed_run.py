"""A run that is killed outright: nothing is published, nothing stays locked or alive, and `--resume` ends it as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icplab.core.store import sha256_of
from icplab.run.publish import verify_run
from tests.dummy_notebooks import light_environment, write_step, write_workspace


@pytest.fixture
def project(tmp_path):
    """Two steps; the second waits for as long as a file says so."""
    write_workspace(tmp_path / "ws")
    write_step(tmp_path / "notebooks", "10_align", "print(as_of)")
    here, wait = str(tmp_path / "pid"), str(tmp_path / "wait")
    cell = (
        "import os, time; from pathlib import Path\n"
        f"Path({here!r}).write_text(str(os.getpid())) if Path({wait!r}).exists() else None\n"
        f"while Path({wait!r}).exists(): time.sleep(0.1)"
    )
    write_step(tmp_path / "notebooks", "30_segments", cell)
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "icplab", "run", "ws", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=light_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def published(folder: Path) -> dict[str, str]:
    run = folder / "reports" / "2026Q1"
    verify_run(run)
    return {p.relative_to(run).as_posix(): sha256_of(p) for p in run.rglob("*") if p.is_file()}


def wait_for(path: Path, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not path.exists() or not path.read_text():
        assert time.monotonic() < until, f"{path.name} did not come"
        time.sleep(0.05)


def gone(pid: int, seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_killed_in_the_second_step_a_run_is_resumed_from_the_first_with_the_same_bytes(project):
    whole = start(project)
    assert whole.wait(120) == 0, whole.communicate()[1]
    whole.communicate()
    expected = published(project)

    (project / "wait").touch()
    with start(project) as killed:
        wait_for(project / "pid")
        wait_for(project / "reports/.staging/work/state/10_align.json")
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    assert gone(int((project / "pid").read_text())), "the kernel outlived its run"
    assert published(project) == expected, "the last published run was touched"

    (project / "wait").unlink()
    with start(project, "--resume") as resumed:
        out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert "10_align" in out
    assert "kept from the interrupted run" in out
    differing = {k for k, v in published(project).items() if expected.get(k) != v}
    assert differing <= {"run.log", "timing.json"}
