"""From files and captions to arrays. Nothing here imports JAX."""
