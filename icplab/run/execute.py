"""Reads a notebook and its parameters, makes its executed copy, and judges by itself whether that went well."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icplab.core.imports import without_uri_grammar
from icplab.run.notebooks import Notebook

if TYPE_CHECKING:
    pass

ENGINE = "icplab"
CELL_TIMEOUT = 3600
"""Seconds one cell may run; far above what a quarter's data needs, so that a hanging cell ends the run by itself."""
START_TIMEOUT = 120
INJECTED = "injected-parameters"
ERROR_MARKER = "papermill-error-cell-tag"
# Warnings name the file of the cell, which holds the process id.
_CELL_FILE = re.compile(r"[^\s\"']*ipykernel_\d+[/\\]\d+\.py")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Outcome:
    """How the execution of a notebook ended. `failure` is empty when every cell ran, in order, without an error."""

    notebook: Path
    failure: str = ""
    cell: int | None = None
    """Execution number of the cell that failed."""

    @property
    def ok(self) -> bool:
        return not self.failure


def execute_notebook(
    notebook: Notebook,
    target: Path,
    parameters: Mapping[str, object],
    kernel: Callable[[], Any],
    timeout: int = CELL_TIMEOUT,
) -> Outcome:
    """Run a notebook through Papermill and store its executed copy.

    Parameters
    ----------
    notebook : what to run
    target : where the executed copy goes; without anything that differs from run to run
    parameters : values to inject; those the notebook does not declare are left out
    kernel : gives a started kernel manager (`Zygote.start_kernel`)
    timeout : seconds one cell may run

    Returns
    -------
    Outcome
        Judged from execution counts and outputs. Papermill's own status is not read: it says "completed" after a
        kernel was killed and after a timeout.
    """
    papermill = _papermill()
    ended: dict[str, str] = {}
    known = {k: v for k, v in parameters.items() if k in notebook.parameters}
    # A failing cell raises once the executed copy is written, and is judged below.
    with suppress(papermill.PapermillExecutionError):
        papermill.execute_notebook(
            str(notebook.path),
            str(target),
            parameters=known,
            engine_name=ENGINE,
            kernel_name="python3",
            request_save_on_cell_execute=False,
            autosave_cell_every=0,
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            execution_timeout=timeout,
            kernel=kernel,
            ended=ended,
        )
    book = json.loads(target.read_text(encoding="utf-8"))
    started = sum(bool(c["metadata"]["papermill"]["start_time"]) for c in _code_cells(book))
    book = clean_notebook(book)
    _write_notebook(book, target)
    if ended:
        return Outcome(target, ended["why"], max(started, 1))
    return judge_notebook(book, target)


def judge_notebook(book: Mapping, path: Path) -> Outcome:
    """Whether every code cell of an executed notebook ran, in order, without an error output."""
    for number, cell in enumerate(_code_cells(book), start=1):
        errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
        if errors:
            return Outcome(path, _one_line(f"{errors[0]['ename']}: {errors[0]['evalue']}"), number)
        if cell["execution_count"] != number:
            return Outcome(path, "the cell did not run", number)
    return Outcome(path)


def clean_notebook(book: dict) -> dict:
    """An executed notebook without anything that differs between two runs on the same input.

    Goes: Papermill's metadata (paths, times), execution times, the random id of the injected cell, error markers,
    process ids in the file names of warnings. Consecutive stream outputs of the same name are joined, as where they
    are cut depends on timing.
    """
    book["metadata"].pop("papermill", None)
    book["metadata"].pop("widgets", None)
    book["cells"] = [c for c in book["cells"] if ERROR_MARKER not in c["metadata"].get("tags", [])]
    for number, cell in enumerate(book["cells"], start=1):
        for key in ("papermill", "execution", "ExecuteTime"):
            cell["metadata"].pop(key, None)
        injected = INJECTED in cell["metadata"].get("tags", [])
        cell["id"] = "injected" if injected else cell.get("id", f"n{number:02d}")
        if cell["cell_type"] == "code":
            cell["outputs"] = [_clean_output(o) for o in _join_streams(cell["outputs"])]
    return book


def _code_cells(book: Mapping) -> list[dict]:
    """Cells that are executed; empty ones are skipped by the client."""
    return [c for c in book["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]


def _join_streams(outputs: list[dict]) -> list[dict]:
    joined: list[dict] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] = [*last["text"], *output["text"]]
        else:
            joined.append(output)
    return joined


def _clean_output(output: dict) -> dict:
    if output["output_type"] == "stream":
        text = _CELL_FILE.sub("<cell>", "".join(output["text"]))
        output["text"] = text.splitlines(keepends=True)
    if output["output_type"] == "error":
        output["traceback"] = [_CELL_FILE.sub("<cell>", line) for line in output["traceback"]]
    return output


def _one_line(text: str, limit: int = 300) -> str:
    """The message without escape sequences and line breaks."""
    return " ".join(_ESCAPES.sub("", text).split())[:limit]


def _write_notebook(book: Mapping, path: Path) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def _papermill() -> Any:
    """Papermill with our engine registered."""
    import logging

    with without_uri_grammar():
        import papermill
    from papermill.engines import papermill_engines

    from icplab.run.engine import ForkedEngine

    papermill_engines.register(ENGINE, ForkedEngine)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    return papermill
