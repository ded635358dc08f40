"""The scoring bench: what it prints, and that all its opponents agree."""

import pytest

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow
