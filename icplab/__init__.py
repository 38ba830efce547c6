"""From CRM exports to segments, ideal customer profiles, calibrated account tiers and a quarterly report.

The whole quarter, as `icplab run WORKSPACE` does it:

    index = icplab.run_quarter(icplab.RunOptions(Path("data/sample")))

One step at a time, as the notebooks do it; every stage takes tables and returns tables:

    step = icplab.open_step("20_performance", workspace="data/sample", run="reports/lab")
    kpis = icplab.performance.measure_kpis(...)       # estimate table: value, low, high, n, basis
    step.write("kpis", kpis)                          # checked against its declaration
    step.finish(found)                                # findings; later steps read both by name

A market whose truth is known, to try a method on:

    icplab.write_market(icplab.simulate_market(seed=7), "somewhere")

Names are loaded when they are first used, so that `import icplab` costs nothing.
"""

from __future__ import annotations

import importlib

_STAGES = ("align", "performance", "segments", "traits", "scores", "tiers", "activation", "governance")
_FROM = {
    "RunOptions": "icplab.run.plan",
    "apply_model": "icplab.core.model",
    "check_workspace": "icplab.intake",
    "compare_kpis": "icplab.run.compare",
    "init_workspace": "icplab.run.starter",
    "open_step": "icplab.step",
    "read_model": "icplab.core.model",
    "run_quarter": "icplab.run.pipeline",
    "show_findings": "icplab.report",
    "show_header": "icplab.report",
    "show_table": "icplab.report",
    "simulate_market": "icplab.simulate",
    "take_in": "icplab.intake",
    "verify_run": "icplab.run.publish",
    "write_market": "icplab.simulate",
}

__all__ = sorted([*_STAGES, *_FROM])


def __getattr__(name: str) -> object:
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    if name in _STAGES:
        return importlib.import_module(f"icplab.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("icplab")
    raise AttributeError(f"module 'icplab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
