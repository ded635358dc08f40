"""Measurements; each prints one JSON object on standard output."""
