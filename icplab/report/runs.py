"""Reads the manifests of all runs, makes `reports/index.html`: which runs there are, and what each found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icplab.core import formats as fmt
from icplab.report.page import environment
from icplab.report.provenance import HASH_SHOWN, read_json

FAILED = ".failed"


def render_runs(reports_folder: Path | str) -> Path:
    """Write `index.html` of a reports folder: every published run, newest first, and attempts that failed.

    Returns
    -------
    Path
        `reports_folder/index.html`.
    """
    folder = Path(reports_folder)
    manifests = {p.parent.name: read_json(p) for p in sorted(folder.glob("[!.]*/manifest.json"))}
    runs = [_run(folder, name, manifest) for name, manifest in manifests.items() if manifest]
    runs.sort(key=lambda r: (r["sort"], r["name"]), reverse=True)
    view = {"runs": runs, "failed": _failed(folder)}
    path = folder / "index.html"
    path.write_text(environment().get_template("runs.html.j2").render(view), encoding="utf-8")
    return path


def _run(folder: Path, name: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    verdicts = manifest.get("verdicts") or {}
    counts = verdicts.get("findings") or {}
    parent = str(manifest.get("parent_as_of") or "")
    return {
        "name": name,
        "href": f"{name}/index.html" if (folder / name / "index.html").is_file() else "",
        "as_of": fmt.date(manifest.get("as_of")),
        "sort": str(manifest.get("as_of") or ""),
        "act": sum(n for key, n in counts.items() if key.startswith("act/")),
        "watch": sum(n for key, n in counts.items() if key.startswith("watch/")),
        "segmentation": fmt.plain(verdicts.get("segmentation") or fmt.MISSING),
        "compared": fmt.date(parent) if parent else fmt.MISSING,
        "version": fmt.plain(manifest.get("icplab") or ""),
        "id": fmt.plain(manifest.get("run_id") or "")[:HASH_SHOWN],
        "complete": bool(manifest.get("complete", True)),
    }


def _failed(folder: Path) -> list[dict[str, str]]:
    """Attempts that failed since: the page of the step they failed in."""
    places = sorted(p for p in (folder / FAILED).glob("*") if p.is_dir())
    pages = [(place, sorted(place.glob("[0-9]*.html"))) for place in places]
    return [
        {"name": place.name, "href": f"{FAILED}/{place.name}/{found[-1].name}", "step": found[-1].stem}
        for place, found in pages
        if found
    ]
