"""Vectors on disk: stored, compared, searched, mined."""
