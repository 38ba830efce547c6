"""Documents that cannot lie: the README's commands and names, the environment, the lock file, the changelog."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from icplab.cli import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# conda names that differ from PyPI's
CONDA_NAMES = {"jupyter_client": "jupyter-client", "python-duckdb": "duckdb", "psycopg-c": "psycopg-binary"}
# Names of hosts and paths that belong to a machine, not to the project.
FOREIGN = re.compile(r"(?<![\w./-])/(?:work|root|home|opt)/\w|index-url\s+http|https?://\S+/simple\b")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: the tracked files are unknown")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def split(requirement: str) -> tuple[str, str]:
    name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement).groups()
    return CONDA_NAMES.get(name, name), bounds


def test_conda_users_get_the_same_dependencies():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    asked = dict(split(line) for line in conda if isinstance(line, str))
    assert asked.pop("python") == PROJECT["requires-python"]
    asked.pop("pip")
    assert asked == dict(split(line) for line in PROJECT["dependencies"])


def test_the_lock_file_pins_every_dependency_with_hashes_and_names_no_index():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    wanted = {split(r)[0] for r in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]}
    assert wanted <= pinned
    for block in re.split(r"\n(?=[a-z0-9-]+==)", lock.strip()):
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_readme_is_short_and_shows_a_page():
    words = re.sub(r"```.*?```|!\[.*?\]\(.*?\)|<[^>]+>", " ", README, flags=re.DOTALL).split()
    assert len(words) <= 500
    pictures = re.findall(r'!\[[^\]]+\]\(([^)]+)\)|<img[^>]+src="([^"]+)"', README)
    assert pictures
    assert all((ROOT / (a or b)).is_file() for a, b in pictures)


def test_every_link_of_the_documents_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_make_target_that_a_document_names_exists():
    offered = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= offered, f"{page.name}: {named - offered}"
    assert {"setup", "run", "test", "lab", "bench-recovery", "bench-speed"} <= offered


def test_make_alone_prints_the_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make run" in done.stdout
    assert "make test" in done.stdout


def test_ci_calls_the_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in README


def test_no_tracked_file_names_a_machine_or_an_index():
    for path in tracked():
        if path.suffix in {".png", ".parquet", ".lock"} or path == Path(__file__):
            continue
        found = FOREIGN.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found.group(0) if found else ''}"


def test_changes_of_results_have_their_section():
    assert "Results that change" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def commands_in_documents() -> list[tuple[str, str]]:
    """Commands of icplab in the fenced blocks of every document, without their comments."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for page in pages:
        blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
        found += [(page.name, line) for line in lines if re.match(r"(\.venv/bin/)?icplab \w", line)]
    return found


@pytest.mark.parametrize(("page", "line"), commands_in_documents())
def test_every_command_that_a_document_shows_is_one_the_tool_takes(page, line):
    words = [w.strip("[]") for w in shlex.split(line)][1:]
    options = build_parser().parse_args(words)
    assert options.call
