"""Reads what the command was asked for, makes a run's plan; everything wrong with the command is found here, at once."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from icplab.core.config import Settings
from icplab.core.engine import DUCKDB, check_engine
from icplab.core.errors import BadInput, Problem, no_folder
from icplab.run.notebooks import Notebook, check_overrides, find_notebooks, select_notebooks
from icplab.run.progress import Progress

STAGING = ".staging"


@dataclass(frozen=True)
class RunOptions:
    """What `icplab run` was asked for. Empty values take the defaults of the contract."""

    workspace: Path
    as_of: str = ""
    out: Path | None = None
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    start: str = ""
    resume: bool = False
    previous: Path | None = None
    notebooks: Path | None = None
    quiet: bool = False
    engine: str = DUCKDB


@dataclass
class Run:
    """A run on its way: what the options mean, once the exports have been read."""

    options: RunOptions
    notebooks: list[Notebook]
    selected: list[Notebook]
    overrides: dict[str, dict[str, object]]
    reports: Path
    work: Path
    progress: Progress
    settings: Settings = field(default_factory=Settings)
    inputs: dict = field(default_factory=dict)
    as_of: str = ""
    target: Path = Path()
    previous: tuple[Path, dict] | None = None
    keys: dict[str, str] = field(default_factory=dict)
    needs: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.options.only

    def parameters(self, notebook: Notebook) -> dict[str, object]:
        """Values to inject into one notebook."""
        common = {"workspace": "", "run": ".", "as_of": self.as_of, "seed": self.settings.workspace.seed}
        chosen = {**common, **self.overrides.get(notebook.name, {})}
        return {k: v for k, v in chosen.items() if k in notebook.parameters}


def plan_run(options: RunOptions) -> Run:
    """Everything that can be wrong with the command itself, before anything is written."""
    problems: list[Problem] = []
    workspace = options.workspace
    if not workspace.is_dir():
        problems.append(_refused("WORKSPACE", str(workspace), no_folder(workspace), "name a folder of exports"))
    try:
        check_engine(options.engine)
    except BadInput as error:
        problems += error.problems
    as_of = check_date(options.as_of, "--as-of", problems) if options.as_of else ""
    notebooks = find_notebooks(options.notebooks)
    selected, wrong = select_notebooks(notebooks, options.only, options.start)
    overrides, wrong_values = check_overrides(options.overrides, notebooks)
    problems += wrong + wrong_values
    if options.previous and not (options.previous / "manifest.json").is_file():
        problems.append(
            _refused(
                "--previous", str(options.previous), "is not a published run", "name a folder with a manifest.json"
            )
        )
    if problems:
        raise BadInput(problems)
    reports = _reports_folder(options)
    return Run(
        options,
        notebooks,
        selected,
        overrides,
        reports,
        reports / STAGING / "work",
        Progress(quiet=options.quiet),
        as_of=as_of,
    )


def check_date(text: str, option: str, problems: list[Problem]) -> str:
    """A date as given on the command line, or a problem: malformed, or after today."""
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        problems.append(_refused(option, text, "is not a date", "write it like 2026-06-30"))
        return ""
    if date > dt.date.today():
        problems.append(_refused(option, text, "is after today", "name a date that data can already speak about"))
    return date.isoformat()


def _reports_folder(options: RunOptions) -> Path:
    """The folder that holds the runs; made when it is not there."""
    out = options.out.absolute() if options.out else None
    reports = out.parent if out else Path.cwd() / "reports"
    if out and out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(_refused("--out", str(options.out), "holds something that is not a run", "name a new folder"))
    try:
        (reports / STAGING).mkdir(parents=True, exist_ok=True)
        writable = os.access(reports, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise BadInput(
            _refused(
                "--out", str(options.out or reports), "cannot be written to", "name a folder that you may write to"
            )
        )
    return reports


def _refused(option: str, value: str, message: str, fix: str) -> Problem:
    return Problem("ICP-E100", message, fix=fix, file=option, value=value)


def title_of(notebook: Notebook) -> str:
    """The notebook's title, else its short name."""
    metadata = json.loads(notebook.path.read_text(encoding="utf-8")).get("metadata", {})
    return str(metadata.get("title") or notebook.short)


def period_of(as_of: str) -> str:
    """`2026Q2` for any day of April to June 2026."""
    date = dt.date.fromisoformat(as_of)
    return f"{date.year}Q{(date.month + 2) // 3}"
