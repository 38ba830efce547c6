"""Reads the notebooks' code, makes a map of which needs what another one writes: what goes stale when one changes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icplab.run.notebooks import Notebook

READS, WRITES = ("read", "read_json", "has"), ("write", "write_json")
CLOSES = {"finish": "findings"}
# What a step gives that does not come from another step of this run.
OWN = frozenset(
    [
        "name",
        "as_of",
        "seed",
        "settings",
        "inputs",
        "tables",
        "all_tables",
        "sources",
        "signals",
        "effort",
        "played",
        "count_early",
        "accounts",
        "opportunities",
        "catalogue",
        "accounts_on",
        "opportunities_on",
        "previous",
        "decisions",
    ]
)
HARMLESS_CALLS = ("show_header",)
EVERYTHING = "*"


@dataclass(frozen=True)
class Exchange:
    """Names of the artefacts that a notebook reads and writes; `*` where that cannot be told from its code."""

    reads: frozenset[str]
    writes: frozenset[str]


def read_needs(notebooks: Sequence[Notebook]) -> dict[str, tuple[str, ...]]:
    """Per notebook, the earlier ones whose results go into it.

    One that only reads artefacts by literal names needs those that write them; any other (the run folder itself, the step
    handed to a function, names that are computed) needs all before it.
    """
    exchanges = {n.name: read_exchange(n.path) for n in notebooks}
    names = list(exchanges)
    return {name: tuple(b for b in names[:i] if _meets(exchanges[b], exchanges[name])) for i, name in enumerate(names)}


def with_needs(wanted: Iterable[str], needs: Mapping[str, Sequence[str]]) -> set[str]:
    """The notebooks wanted, and all that they need, and what those need."""
    found: set[str] = set()
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += needs[name]
    return found


def read_exchange(path: Path) -> Exchange:
    """What one notebook reads and writes through its step."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    unknown = frozenset({EVERYTHING})
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return Exchange(unknown, unknown)
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    variables = {n for n in map(_opened, ast.walk(tree)) if n}
    if not variables:
        return Exchange(unknown, unknown)
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in variables and isinstance(n.ctx, ast.Load)]
    found = [_use(node, parents) for node in uses]
    return Exchange(frozenset().union(*(f.reads for f in found)), frozenset().union(*(f.writes for f in found)))


def _meets(before: Exchange, after: Exchange) -> bool:
    return EVERYTHING in before.writes | after.reads or bool(before.writes & after.reads)


def _opened(node: ast.AST) -> str:
    """The variable that `open_step(...)` is assigned to."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
        function = node.value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return node.targets[0].id if name == "open_step" else ""
    return ""


def _use(node: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> Exchange:
    """What one mention of the step reads and writes."""
    nothing, everything = frozenset[str](), frozenset({EVERYTHING})
    above = parents[node]
    if isinstance(above, ast.Call) and getattr(above.func, "id", "") in HARMLESS_CALLS:
        return Exchange(nothing, nothing)
    if not isinstance(above, ast.Attribute):
        return Exchange(everything, everything)
    if above.attr in OWN:
        return Exchange(nothing, nothing)
    if above.attr in CLOSES:
        return Exchange(nothing, frozenset({CLOSES[above.attr]}))
    name = frozenset({_literal(parents[above])})
    if above.attr in READS:
        return Exchange(name, nothing)
    if above.attr in WRITES:
        return Exchange(nothing, name)
    return Exchange(everything, nothing)


def _literal(call: ast.AST) -> str:
    """The first argument of a call where it is a text, else `*`."""
    if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return EVERYTHING
