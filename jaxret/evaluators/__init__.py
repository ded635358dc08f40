"""From a trained method and a split to results."""
