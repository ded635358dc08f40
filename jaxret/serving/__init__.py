"""A page and a small API to search an index with, on one's own machine."""
