"""BLiM: text-video retrieval by likelihood in both directions.

Source: arXiv 2507.23284 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'extract': 'run',
         'plan': 'plan'}
