"""What the analyst plays with in JupyterLab: controls over the same pure functions that the quarterly run calls."""

from __future__ import annotations

from icplab.explore.goals import explore_goals

__all__ = ["explore_goals"]
