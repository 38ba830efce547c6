"""The floors hold: imports go down, stages never import each other, heavy libraries stay in their place."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "icplab"
STAGES = {"align", "performance", "segments", "traits", "scores", "tiers", "activation", "governance"}
FLOOR = {
    "core.errors": 0,
    **dict.fromkeys(("core.schema", "core.stats", "core.formats", "core.messages", "core.progress", "core.imports"), 1),
    **dict.fromkeys(("core.findings", "core.config", "core.model", "core.engine", "core.charts", "core.store"), 2),
    **dict.fromkeys(("simulate", "intake", "features", *STAGES), 3),
    "report": 4,
    "step": 5,
    **dict.fromkeys(("run", "explore"), 6),
    **dict.fromkeys(("cli", ""), 7),
    "__main__": 8,
}
# Heavy libraries and the only units that may name them.
HEAVY = {
    "papermill": {"run"},
    "nbclient": {"run"},
    "jupyter_client": {"run"},
    "nbconvert": {"report"},
    "seaborn": {"core.charts"},
    "matplotlib": {"core.charts"},
    "ipywidgets": {"explore"},
    "duckdb": {"core.engine", "intake"},
    "pyspark": {"core.engine"},
    "sqlglot": {"core.engine", "activation"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The unit a file belongs to: `core.x` under core, else the first name below the package."""
    parts = [p for p in path.relative_to(PACKAGE).with_suffix("").parts if p != "__init__"]
    return ".".join(parts[: 2 if parts[:1] == ["core"] else 1])


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} line {node.lineno}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def units_imported(path: Path) -> set[str]:
    """Units of icplab that a file imports, its own left out."""
    names = {n.split(".", 1)[1] for n in imports_of(path) if n.startswith("icplab.")}
    units = {".".join(n.split(".")[: 2 if n.startswith("core.") else 1]) for n in names}
    return units - {unit_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_has_a_floor_and_imports_only_lower_ones(path):
    unit = unit_of(path)
    if unit == "core":
        assert not units_imported(path)
        return
    assert unit in FLOOR, f"{unit} stands on no floor: add it to docs/architecture.md and to this test"
    for other in units_imported(path):
        assert other in FLOOR, f"{path.name} imports {other}, which stands on no floor"
        assert FLOOR[other] < FLOOR[unit], f"{unit} (floor {FLOOR[unit]}) imports {other} (floor {FLOOR[other]})"
        assert not (unit == "report" and not other.startswith("core.")), "report knows core only"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_named_only_where_they_may_be(path):
    for name in imports_of(path):
        allowed = HEAVY.get(name.split(".")[0])
        assert allowed is None or unit_of(path) in allowed, f"{path.name} imports {name}"


def test_importing_the_package_stays_light():
    code = (
        "import sys, icplab; print(sorted({'pandas', 'numpy', 'sklearn', 'papermill', 'seaborn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_map_in_the_docs_names_every_unit():
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    units = {unit_of(p) for p in FILES} - {"", "core", "__main__"}
    assert not [u for u in units if f"`{u}" not in text and f"`{u.removeprefix('core.')}" not in text]
