"""Reads a workspace, makes a published run: intake, seven notebooks, pages, artefacts, manifest, one rename."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from icplab.core.config import settings_from_json
from icplab.core.engine import ENGINE_VARIABLE
from icplab.core.errors import BadInput, DoesNotVerify, Problem, StageFailed
from icplab.core.store import code_hash, sha256_of
from icplab.run.execute import Outcome, execute_notebook
from icplab.run.gather import gather_run, manifest_facts
from icplab.run.kernels import KernelsAhead, Zygote
from icplab.run.lock import hold_lock
from icplab.run.notebooks import Notebook
from icplab.run.order import read_needs, with_needs
from icplab.run.plan import Run, RunOptions, check_date, period_of, plan_run, title_of
from icplab.run.progress import from_here
from icplab.run.publish import find_runs, heal_reports, publish_run, remove_folder, verify_run, write_manifest
from icplab.run.state import finished_steps, forget_step, record_step, step_key

FAILED = ".failed"
PARTIAL = "-partial"
# Of the work folder, what outlives a run: results of finished steps, never tables of the export.
KEPT = ("steps", "state", "notebooks", "activation", "csv", "run.log")
# What a run makes of the exports before its first notebook; never from the run before.
MADE_OF_EXPORTS = (
    *("tables", "events", "features", "previous", "history"),
    *("inputs.json", "settings.json", "decisions.jsonl"),
)
# Of the run to compare with, what governance reads.
COMPARED = ("artifacts", "events", "model.json", "manifest.json")


def run_quarter(options: RunOptions) -> Path:
    """The quarterly run: check, notebooks, pages, council pack, files, published in one rename.

    Parameters
    ----------
    options : what was asked for

    Returns
    -------
    Path
        `index.html` of the published run.

    Raises
    ------
    BadInput
        Options, settings or exports that cannot be used; nothing is left behind.
    Locked
        Another run writes to the same reports folder.
    StageFailed
        A notebook failed; its page is kept under `.failed/`, the last published run is untouched.
    """
    run = plan_run(options)
    with hold_lock(run.reports):
        healed = heal_reports(run.reports)
        if healed:
            run.progress.say(healed)
        if not (options.resume or options.start or options.only):
            remove_folder(run.work)
        run.work.mkdir(parents=True, exist_ok=True)
        with _kept_when_resumable(run.work), Zygote(run.work / "run.log") as zygote:
            _take_in(run)
            zygote.environment[ENGINE_VARIABLE] = run.options.engine
            zygote.environment["SOURCE_DATE_EPOCH"] = str(_seconds(run.as_of))
            _run_notebooks(run, zygote)
            return _publish(run)


def _seconds(as_of: str) -> int:
    """Seconds from 1970 to the as-of date: what tools that stamp files are told the time is."""
    return (dt.date.fromisoformat(as_of) - dt.date(1970, 1, 1)).days * 86400


@contextmanager
def _kept_when_resumable(work: Path) -> Iterator[None]:
    """Keep the finished steps, for `--resume` and `--from`; what holds raw data goes however the run ends."""
    try:
        yield
    finally:
        for path in work.iterdir():
            if path.name not in KEPT and path.suffix != ".html":
                remove_folder(path) if path.is_dir() else path.unlink()
        if not any(work.glob("state/*.json")):
            remove_folder(work)


def _take_in(run: Run) -> None:
    """Read the exports; then everything that depends on them is known."""
    from icplab.intake import take_in
    from icplab.run.history import add_own_history
    from icplab.step import resolve_as_of

    for name in MADE_OF_EXPORTS:
        path = run.work / name
        remove_folder(path) if path.is_dir() else path.unlink(missing_ok=True)
    with run.progress.step("intake", "reading and checking the exports"):
        take_in(run.options.workspace, run.work)
    run.inputs = json.loads((run.work / "inputs.json").read_text(encoding="utf-8"))
    run.settings = settings_from_json((run.work / "settings.json").read_text(encoding="utf-8"))
    problems: list[Problem] = []
    run.as_of = check_date(f"{resolve_as_of(run.as_of, run.settings, run.inputs):%Y-%m-%d}", "as_of", problems)
    if problems:
        raise BadInput(problems)
    run.target = (
        run.options.out.absolute()
        if run.options.out
        else run.reports / (period_of(run.as_of) + ("" if run.complete else PARTIAL))
    )
    run.previous = _previous(run)
    if run.previous:
        _copy_compared(run.previous[0], run.work / "previous")
    add_own_history(run.work, run.settings, run.as_of, run.previous[1]["as_of"] if run.previous else "")


def _previous(run: Run) -> tuple[Path, dict] | None:
    """The run to compare with: as named, else the latest verifying one beside the target with an earlier as-of date."""
    if run.options.previous:
        return run.options.previous, verify_run(run.options.previous)
    earlier = [(f, m) for f, m in find_runs(run.reports) if m.get("complete") and m["as_of"] < run.as_of]
    for folder, _ in reversed(earlier):
        try:
            return folder, verify_run(folder)
        except DoesNotVerify:
            run.progress.say(f"{folder.name} does not verify and is not compared with")
    return None


def _copy_compared(source: Path, target: Path) -> None:
    target.mkdir()
    for name in COMPARED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, copy_function=shutil.copyfile)
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _run_notebooks(run: Run, zygote: Zygote) -> None:
    """Run every notebook that is due, in order; its page is made while the next one runs."""
    todo = _unfinished(run)
    kernels = KernelsAhead(zygote, run.work, len(todo))
    with ThreadPoolExecutor(1, "pages") as renderer:
        pages: list[Future] = []
        for notebook in todo:
            outcome = _run_one(run, kernels.take, notebook)
            pages.append(renderer.submit(_render_page, run, notebook, outcome, first=not pages))
            if not outcome.ok:
                pages[-1].result()
                raise StageFailed(_keep_failed(run, notebook, outcome))
        for page in pages:
            page.result()


def _render_page(run: Run, notebook: Notebook, outcome: Outcome, first: bool) -> None:
    """Make the page of an executed notebook; only then is the step finished."""
    from icplab.report import render_failure, render_page

    page = run.work / f"{notebook.name}.html"
    if not outcome.ok:
        render_failure(outcome.notebook, page, _context(run), message=outcome.failure)
        return
    render_page(outcome.notebook, page, _context(run))
    record_step(run.work, notebook.name, run.keys[notebook.name])
    if first:
        run.progress.say(f"{'':<15} first page to read: {from_here(page)}")


def _unfinished(run: Run) -> list[Notebook]:
    """The notebooks to run: those asked for, and those they need whose kept results are not from this very input."""
    wanted = {n.name for n in run.selected}
    run.needs = read_needs(run.notebooks)
    run.keys = _keys(run)
    finished = finished_steps(run.work, run.keys)
    forced = wanted if (run.options.only or run.options.start) else set()
    due = with_needs(wanted, run.needs) if run.options.only else {n.name for n in run.notebooks}
    todo = [n for n in run.notebooks if n.name in due and (n.name not in finished or n.name in forced)]
    for name in sorted(finished - {n.name for n in todo}):
        run.progress.say(f"{name:<15} kept from the interrupted run")
    for notebook in run.notebooks:
        if notebook in todo or notebook.name not in finished:
            forget_step(run.work, notebook.name)
    return todo


def _keys(run: Run) -> dict[str, str]:
    """Per step, a hash of everything its results depend on, the earlier steps' hashes among them."""
    base = {
        "inputs": run.inputs,
        "settings": sha256_of(run.work / "settings.json"),
        "previous": run.previous[1]["run_id"] if run.previous else "",
        "decisions": sha256_of(run.work / "decisions.jsonl") if (run.work / "decisions.jsonl").exists() else "",
        "code": code_hash(),
        "engine": run.options.engine,
    }
    keys: dict[str, str] = {}
    for notebook in run.notebooks:
        own = {
            "source": sha256_of(notebook.path),
            "parameters": run.parameters(notebook),
            "before": [keys[name] for name in run.needs[notebook.name]],
        }
        keys[notebook.name] = step_key(base, own)
    return keys


def _run_one(run: Run, kernel: Callable[[], Any], notebook: Notebook) -> Outcome:
    """Execute one notebook; a step counts as done when its notebook ran to the end and closed its step."""
    target = run.work / "notebooks" / f"{notebook.name}.ipynb"
    target.parent.mkdir(exist_ok=True)
    with run.progress.step(notebook.name, title_of(notebook)) as shown:
        outcome = execute_notebook(notebook, target, run.parameters(notebook), kernel)
        if outcome.ok and not (run.work / "steps" / notebook.name / "done.json").is_file():
            outcome = Outcome(target, "ran to its end but did not close its step (step.finish is missing)")
        shown.failed = not outcome.ok
    return outcome


def _keep_failed(run: Run, notebook: Notebook, outcome: Outcome) -> str:
    """Keep the pages made so far where they can be read; returns the message that names the failed one."""
    place = run.reports / FAILED / run.target.name
    remove_folder(place)
    (place / "notebooks").mkdir(parents=True)
    for page in [*run.work.glob("*.html"), *run.work.glob("notebooks/*.ipynb")]:
        shutil.copyfile(page, place / page.relative_to(run.work))
    if (run.work / "csv").is_dir():
        shutil.copytree(run.work / "csv", place / "csv", copy_function=shutil.copyfile)
    where = f" in cell [{outcome.cell}]" if outcome.cell else ""
    return (
        f"{notebook.name} failed{where}: {outcome.failure}\n"
        f"Its page: {from_here(place / f'{notebook.name}.html')}\n"
        f"Nothing was published. The finished steps are kept: repeat the command with --resume to go on from here."
    )


def _publish(run: Run) -> Path:
    """Gather the folder to publish, write its manifest, put it in place."""
    from icplab.report import render_comparison, render_index, render_runs
    from icplab.run.compare import comparison_of

    with run.progress.step("publish", "council pack, artefacts, manifest"):
        _check_unchanged(run)
        folder = gather_run(run)
        facts = manifest_facts(run)
        if run.previous:
            render_comparison(comparison_of(run.previous, (folder, facts)), folder / "compare.html", inside=True)
        render_index(folder, _context(run))
        write_manifest(folder, facts)
        publish_run(folder, run.target)
        render_runs(run.reports)
    return run.target / "index.html"


def _check_unchanged(run: Run) -> None:
    """Raise `BadInput` naming every export that is no longer what the intake read."""
    changed = [
        Problem("ICP-E018", "was changed while the run was going on", fix="run again", file=entry["file"])
        for entry in run.inputs["files"]
        if not (path := run.options.workspace / entry["file"]).is_file() or sha256_of(path) != entry["sha256"]
    ]
    if changed:
        raise BadInput(changed)


def _context(run: Run) -> dict[str, object]:
    """What the pages say about their run."""
    return {
        "workspace": run.settings.workspace.name,
        "period": period_of(run.as_of),
        "as_of": run.as_of,
        "seed": run.settings.workspace.seed,
        "currency": run.settings.workspace.currency,
        "inputs": run.inputs,
        "pages": [(n.name, title_of(n)) for n in run.notebooks],
    }
