"""LECCR: retrieval by queries in other languages, with MLLM descriptions.

Source: arXiv 2409.19961 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'caption': 'run',
         'plan': 'plan'}

ROWS = {'leccr': 'LECCR'}
# Each with what it is compared to.
PAIRS = (('leccr', 'without_slots'), ('leccr', 'without_softened_matching'))
