"""Exhaustive likelihood scoring in both directions."""
