"""What the analyst plays with in JupyterLab: controls over the same pure functions that the quarterly run calls."""

from __future__ import annotations

from icplab.explore.goals import explore_goals
from icplab.explore.segments import explore_segments
from icplab.explore.tiers import explore_tiers
from icplab.explore.traits import explore_traits

__all__ = ["explore_goals", "explore_segments", "explore_tiers", "explore_traits"]
