"""Embedders of others, as jaxret.load opens them: evaluated, not trained."""
TASKS = {'evaluate': 'run'}

ROWS = {'embedders': 'as published'}
