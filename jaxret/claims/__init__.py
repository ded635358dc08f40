"""The claims of the four papers as experiments that anyone can run.

`claims.toml` says what is claimed, what counts for and against it, and which
rows of which experiments are compared; an experiment is a config with what it
changes, trained with several seeds. See docs/claims.md.
"""
