"""Reads the work folder of a run, makes the folder to publish and the facts of its manifest."""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from icplab.core.store import Store, code_hash, sha256_of
from icplab.run.plan import Run, period_of
from icplab.run.publish import remove_folder

REPORTED_PACKAGES = ("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "statsmodels", "duckdb", "papermill")


def gather_run(run: Run) -> Path:
    """Copy what a published run holds into a folder of its own; work in progress and raw tables stay behind."""
    folder = run.work / "publish"
    remove_folder(folder)
    (folder / "notebooks").mkdir(parents=True)
    Store(run.work).assemble()
    (run.work / "artifacts").rename(folder / "artifacts")
    for name in ("model.json", "activation", "events", "csv"):
        source = run.work / name
        if source.is_dir():
            shutil.copytree(source, folder / name, copy_function=shutil.copyfile)
        elif source.is_file():
            shutil.copyfile(source, folder / name)
    for path in sorted(run.work.glob("history/*.parquet")):
        shutil.copyfile(path, folder / "artifacts" / path.name)
    for name in ("rejects.csv", "duplicates.csv"):
        if (run.work / name).is_file():
            shutil.copyfile(run.work / name, folder / "artifacts" / name)
    for page in [*run.work.glob("[0-9]*.html"), *run.work.glob("notebooks/*.ipynb")]:
        shutil.copyfile(page, folder / page.relative_to(run.work))
    log = run.work / "run.log"
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    (folder / "run.log").write_text("\n".join([*run.progress.lines, said]), encoding="utf-8")
    (folder / "timing.json").write_text(json.dumps(run.progress.times, indent=1) + "\n", encoding="utf-8")
    return folder


def manifest_facts(run: Run) -> dict[str, object]:
    """What a run was made from, and its verdicts. Nothing in it depends on the day, the machine's paths or the user."""
    done = sorted(run.work.glob("steps/*/done.json"))
    seeds = {p.parent.name: json.loads(p.read_text(encoding="utf-8")).get("seed") for p in done}
    return {
        "icplab": version("icplab"),
        "code": code_hash(),
        "lock": _lock_hash(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in REPORTED_PACKAGES},
        "period": period_of(run.as_of),
        "as_of": run.as_of,
        "engine": run.options.engine,
        "complete": run.complete,
        "parameters": {n.name: run.parameters(n) for n in run.notebooks if n.name in seeds},
        "seed": run.settings.workspace.seed,
        "seeds": seeds,
        "settings": sha256_of(run.work / "settings.json"),
        "plan_hash": run.settings.plan_hash(),
        "inputs": run.inputs,
        "verdicts": _verdicts(run),
        "parent": run.previous[1]["run_id"] if run.previous else "",
        "parent_as_of": run.previous[1]["as_of"] if run.previous else "",
    }


def _lock_hash() -> str:
    lock = Path(__file__).parents[2] / "requirements.lock"
    return sha256_of(lock) if lock.is_file() else ""


def _verdicts(run: Run) -> dict[str, object]:
    """The segmentation's verdict and how often each finding code was raised at which severity."""
    store = Store(run.work)
    verdicts: dict[str, object] = {"findings": {}}
    if store.has("findings"):
        found = store.read("findings")
        counts = (found["severity"] + "/" + found["code"]).value_counts().sort_index()
        verdicts["findings"] = {str(k): int(n) for k, n in counts.items()}
    if store.has("segmentation"):
        verdicts["segmentation"] = store.read_json("segmentation").get("verdict")
    return verdicts
