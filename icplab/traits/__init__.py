"""Reads account table, opportunities and segments, makes `traits` and `icps`: what the best accounts have in common."""

from icplab.traits.effects import measure_traits

__all__ = ["measure_traits"]
