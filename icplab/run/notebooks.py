"""Reads the notebooks' own declarations, makes a plan: which notebooks run, with which parameters, all checked first."""

from __future__ import annotations

import ast
import io
import json
import os
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icplab.core.errors import BadInput, Problem, nearest

# What the command itself decides; `--set` may not touch these, so that every step sees the same run.
RESERVED = {"workspace": "WORKSPACE", "run": "--out", "as_of": "--as-of"}
NAME_PATTERN = "[0-9][0-9]_*.ipynb"
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
_MEANS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list like [1, 2]",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter that a notebook declares: its name, type, default and help text."""

    name: str
    kind: str
    default: object
    help: str = ""


@dataclass(frozen=True)
class Notebook:
    """One step's notebook and the parameters that it declares."""

    name: str
    path: Path
    parameters: Mapping[str, Parameter]

    @property
    def short(self) -> str:
        """The name without its number: `segments` for `30_segments`."""
        return self.name.split("_", 1)[1]


def find_notebooks(folder: Path | str | None = None) -> list[Notebook]:
    """The numbered notebooks, in the order they run.

    Parameters
    ----------
    folder : where they are; default the variable ICPLAB_NOTEBOOKS, else `notebooks/` beside the installed package

    Raises
    ------
    BadInput
        No notebook there, or one whose parameters cell cannot be read.
    """
    place = Path(folder or os.environ.get("ICPLAB_NOTEBOOKS") or Path(__file__).parents[2] / "notebooks")
    paths = sorted(place.glob(NAME_PATTERN))
    if not paths:
        fix = "run from a checkout of icplab, or set ICPLAB_NOTEBOOKS to the folder of the notebooks"
        raise BadInput(Problem("ICP-E001", "holds no numbered notebooks", fix=fix, file=str(place)))
    return [Notebook(p.stem, p, read_parameters(p)) for p in paths]


def read_parameters(path: Path) -> dict[str, Parameter]:
    """What the cell tagged `parameters` declares, read without running it.

    Papermill's own inspection sees only part of the annotations and lets unknown names pass with a log line; here a
    parameter is a top-level assignment of a literal, its type the annotation, else the type of the default.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
        source = "".join(tagged[0]["source"]) if tagged else ""
        statements = ast.parse(source).body
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise BadInput(Problem("ICP-E100", f"cannot be read as a notebook: {error}", file=path.name)) from error
    comments = _comments(source)
    found = [_parameter(s, comments) for s in statements]
    return {p.name: p for p in found if p}


def _comments(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _parameter(statement: ast.stmt, comments: Mapping[int, str]) -> Parameter | None:
    target: ast.expr
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target, kind = statement.target, ast.unparse(statement.annotation).strip("'\"")
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, kind = statement.targets[0], ""
    else:
        return None
    assert statement.value is not None
    try:
        default = ast.literal_eval(statement.value)
    except ValueError:
        return None
    if not isinstance(target, ast.Name):
        return None
    return Parameter(target.id, kind or type(default).__name__, default, comments.get(statement.lineno, ""))


def select_notebooks(
    notebooks: Sequence[Notebook], only: Iterable[str] = (), start: str = ""
) -> tuple[list[Notebook], list[Problem]]:
    """The notebooks asked for by `--only` (any of these) and `--from` (this one and all later), and what is wrong."""
    problems: list[Problem] = []
    wanted = {n.name for n in notebooks}
    if only:
        wanted = {n.name for n in (_by_name(o, notebooks, "--only", problems) for o in only) if n}
    first = _by_name(start, notebooks, "--from", problems) if start else None
    if first:
        wanted &= {n.name for n in notebooks if n.name >= first.name}
    return [n for n in notebooks if n.name in wanted], problems


def check_overrides(
    given: Sequence[str], notebooks: Sequence[Notebook]
) -> tuple[dict[str, dict[str, object]], list[Problem]]:
    """`--set notebook.parameter=value` as {notebook: {parameter: value}}, and everything that is wrong with them.

    Names are only accepted when the notebook declares them (Papermill writes names into code unescaped), values only
    when they have the declared type.
    """
    overrides: dict[str, dict[str, object]] = {}
    problems: list[Problem] = []
    for text in given:
        name, equals, value = text.partition("=")
        where, dot, key = name.partition(".")
        if not (equals and dot):
            problems.append(_wrong("--set", text, "is not of the form notebook.parameter=value"))
            continue
        notebook = _by_name(where, notebooks, "--set", problems)
        parameter = _declared(key, notebook, problems) if notebook else None
        if notebook and parameter:
            try:
                overrides.setdefault(notebook.name, {})[key] = convert(value, parameter.kind)
            except ValueError:
                kind = _MEANS.get(parameter.kind, parameter.kind)
                problems.append(_wrong("--set", value, f"is not {kind}, as {notebook.name}.{key} must be"))
    return overrides, problems


def convert(text: str, kind: str) -> object:
    """Text from the command line as a value of the declared type; `ValueError` when it is not one."""
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError(text)
        return text.lower() in _TRUE
    if kind in ("int", "float"):
        value = int(text) if kind == "int" else float(text)
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(text)
        return value
    try:
        literal = ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(text) from error
    if type(literal).__name__ != kind.split("[", 1)[0]:
        raise ValueError(text)
    return literal


def _by_name(given: str, notebooks: Sequence[Notebook], option: str, problems: list[Problem]) -> Notebook | None:
    for notebook in notebooks:
        if given in (notebook.name, notebook.short, notebook.name.split("_", 1)[0]):
            return notebook
    names = [n.name for n in notebooks]
    guess = nearest(given, names) or nearest(given, [n.short for n in notebooks])
    problems.append(_wrong(option, given, f"is not a notebook{guess}", f"one of {', '.join(names)}"))
    return None


def _declared(key: str, notebook: Notebook, problems: list[Problem]) -> Parameter | None:
    if key in RESERVED:
        problems.append(_wrong("--set", key, "is set by the command for all notebooks", f"use {RESERVED[key]}"))
        return None
    if key not in notebook.parameters:
        free = [p for p in notebook.parameters if p not in RESERVED]
        message = f"is not a parameter of {notebook.name}{nearest(key, free)}"
        problems.append(_wrong("--set", key, message, f"one of {', '.join(free)}"))
        return None
    return notebook.parameters[key]


def _wrong(option: str, value: str, message: str, fix: str = "") -> Problem:
    return Problem("ICP-E100", message, fix=fix, file=option, value=value[:80])
