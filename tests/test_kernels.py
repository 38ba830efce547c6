"""Forked kernels: isolated, fixed in what could vary, honest about how they ended, gone when their parent is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icplab.run import kernels
from icplab.run.execute import Outcome, clean_notebook, execute_notebook, judge_notebook
from icplab.run.kernels import Zygote
from icplab.run.notebooks import find_notebooks
from tests.dummy_notebooks import write_notebook


@pytest.fixture(scope="module")
def zygote():
    """One warm process for the whole module, which has imported no more than a kernel needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "LIBRARIES", ())
        with Zygote() as warm:
            yield warm


@pytest.fixture
def run_cells(tmp_path, zygote):
    """Run cells as one notebook; returns how it ended and the executed copy."""

    def run(*cells: str, timeout: int = 60, **parameters: object) -> tuple[Outcome, dict]:
        write_notebook(tmp_path / "notebooks", "10_dummy", *cells)
        notebook = find_notebooks(tmp_path / "notebooks")[0]
        target = tmp_path / "10_dummy.ipynb"
        outcome = execute_notebook(notebook, target, parameters, lambda: zygote.start_kernel(tmp_path), timeout)
        return outcome, json.loads(target.read_text(encoding="utf-8"))

    return run


def printed(book: dict) -> str:
    """Everything that the notebook printed."""
    outputs = [o for c in book["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


def test_parameters_arrive_and_the_working_directory_is_the_run_folder(run_cells, tmp_path):
    outcome, book = run_cells("import os; print(as_of, seed, os.getcwd())", as_of="2026-06-30", seed=7)
    assert outcome.ok
    assert printed(book) == f"2026-06-30 7 {tmp_path}\n"


def test_names_and_modules_do_not_leak_from_one_notebook_to_the_next(run_cells):
    run_cells("leaked = 1", "import json; json.leaked = True", "import os; os.environ['LEAKED'] = '1'")
    _, book = run_cells(
        "import json, os", "print('leaked' in globals(), hasattr(json, 'leaked'), 'LEAKED' in os.environ)"
    )
    assert printed(book) == "False False False\n"


def test_each_notebook_has_a_process_of_its_own(run_cells):
    first = printed(run_cells("import os; print(os.getpid())")[1])
    second = printed(run_cells("import os; print(os.getpid())")[1])
    assert first != second
    assert str(os.getpid()) not in (first.strip(), second.strip())


def test_what_varies_between_machines_is_fixed(run_cells):
    _, book = run_cells(
        "import os, time",
        "print(hash('x') == hash('x'), os.environ['PYTHONHASHSEED'], time.tzname[0], os.environ['OMP_NUM_THREADS'])",
        "print('ICPLAB_WORKSPACE' in os.environ, os.environ.get('LANG'))",
    )
    assert printed(book) == "True 0 UTC 1\nFalse None\n"


def test_hashes_of_text_are_the_same_in_every_kernel(run_cells):
    assert printed(run_cells("print(hash('text'))")[1]) == printed(run_cells("print(hash('text'))")[1])


def test_a_killed_kernel_fails_the_notebook_although_papermill_calls_its_cells_completed(run_cells):
    outcome, book = run_cells("a = 1", "import os; os.kill(os.getpid(), 9)", "print('never')")
    assert not outcome.ok
    assert "SIGKILL" in outcome.failure
    assert outcome.cell == 3  # parameters, a = 1, then the one that killed it
    assert "never" not in printed(book)


def test_a_kernel_that_exits_by_itself_fails_the_notebook(run_cells):
    outcome, _ = run_cells("import os; os._exit(5)", "print('never')")
    assert outcome.failure == "the kernel ended with exit code 5"


def test_a_cell_that_hangs_fails_the_notebook(run_cells):
    outcome, _ = run_cells("import time; time.sleep(60)", timeout=1)
    assert outcome.failure == "a cell ran longer than 1 s"


def test_an_exception_fails_the_notebook_and_names_the_cell_in_one_line(run_cells):
    outcome, book = run_cells("a = 1", "raise ValueError('two\\nlines')", "print('never')")
    assert outcome.failure == "ValueError: two lines"
    assert outcome.cell == 3
    assert not any("papermill" in json.dumps(c) for c in book["cells"])


def test_a_polite_exit_inside_a_cell_does_not_pass_for_success(run_cells):
    outcome, _ = run_cells("raise SystemExit(0)", "print('next')")
    assert not outcome.ok


def test_two_executions_store_the_same_bytes(run_cells, tmp_path):
    cells = (
        "import warnings; warnings.warn('careful')",
        "import sys; print('a'); print('b', file=sys.stderr); print({'x', 'y', 'z'})",
        "import time; time.sleep(0.02); print('c'); 1 + 1",
    )
    run_cells(*cells)
    first = (tmp_path / "10_dummy.ipynb").read_bytes()
    run_cells(*cells)
    assert (tmp_path / "10_dummy.ipynb").read_bytes() == first
    assert b"careful" in first
    assert str(tmp_path).encode() not in first


def test_a_plain_figure_is_shown_although_pyplot_may_be_loaded_before_the_fork(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "LIBRARIES", ("matplotlib.pyplot",))
    write_notebook(tmp_path / "notebooks", "10_dummy", "import matplotlib.pyplot as plt", "plt.plot([1, 2]);")
    with Zygote() as warm:
        target = tmp_path / "out.ipynb"
        outcome = execute_notebook(
            find_notebooks(tmp_path / "notebooks")[0], target, {}, lambda: warm.start_kernel(tmp_path)
        )
    assert outcome.ok
    shown = [o for c in json.loads(target.read_text())["cells"] for o in c.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in shown)


def test_nothing_is_left_of_a_closed_zygote(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "LIBRARIES", ())
    with Zygote() as warm:
        pid = warm.start_kernel(tmp_path).provisioner.pid
        assert warm.poll(pid) is None
        folder = warm.folder
    assert not folder.exists()
    assert _gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the operating system ends kernels with their parent only on Linux")
@pytest.mark.parametrize("victim", ["orchestrator", "zygote"])
def test_kernels_die_when_their_parent_is_killed(tmp_path, victim):
    script = (
        "import sys, time; from pathlib import Path; from icplab.run import kernels\n"
        "kernels.LIBRARIES = ()\n"
        "z = kernels.Zygote(); k = z.start_kernel(Path(sys.argv[1]))\n"
        "print(z._process.pid, k.provisioner.pid, z.folder, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            zygote_pid, kernel_pid, folder = parent.stdout.readline().split()
            time.sleep(0.3)
            assert not _gone(int(kernel_pid))
            os.kill(parent.pid if victim == "orchestrator" else int(zygote_pid), signal.SIGKILL)
            assert _gone(int(kernel_pid))
        finally:
            parent.kill()
    for path in sorted(Path(folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    Path(folder).rmdir()


def test_the_zygote_has_a_single_thread_when_it_forks(tmp_path):
    if sys.platform != "linux":
        pytest.skip("threads are counted in /proc")
    with Zygote() as warm:  # with everything that a run preloads
        pid = warm.start_kernel(tmp_path).provisioner.pid
        assert warm.poll(pid) is None
        assert len(list(Path(f"/proc/{warm._process.pid}/task").iterdir())) == 1


@pytest.mark.parametrize(
    ("counts", "ok"), [([1, 2, 3], True), ([1, None, None], False), ([1, 3, 4], False), ([None, None, None], False)]
)
def test_a_notebook_counts_as_run_only_when_every_cell_has_its_turn(counts, ok, tmp_path):
    cells = [
        {
            "cell_type": "code",
            "source": "x",
            "outputs": [],
            "execution_count": n,
            "metadata": {"papermill": "completed"},
        }
        for n in counts
    ]
    assert judge_notebook({"cells": cells}, tmp_path).ok is ok


def test_cleaning_leaves_nothing_of_time_place_or_process():
    book = {
        "metadata": {"papermill": {"input_path": "/a/place", "start_time": "now"}},
        "cells": [
            {
                "cell_type": "code",
                "id": "a8f3",
                "source": "x",
                "metadata": {"tags": ["injected-parameters"], "papermill": {"duration": 1}, "execution": {"t": 1}},
                "execution_count": 1,
                "outputs": [
                    {"output_type": "stream", "name": "stderr", "text": ["/tmp/ipykernel_12/34.py:1: UserWarning\n"]},
                    {"output_type": "stream", "name": "stderr", "text": ["more\n"]},
                ],
            }
        ],
    }
    cleaned = clean_notebook(book)
    assert cleaned["metadata"] == {}
    assert cleaned["cells"][0]["id"] == "injected"
    assert cleaned["cells"][0]["metadata"] == {"tags": ["injected-parameters"]}
    assert cleaned["cells"][0]["outputs"] == [
        {"output_type": "stream", "name": "stderr", "text": ["<cell>:1: UserWarning\n", "more\n"]}
    ]


def _gone(pid: int, patience: float = 5) -> bool:
    """Whether a process ends within a few seconds; a zombie has ended."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.05)
    return False
