"""UNITE: one embedder for texts, images, videos and mixtures.

Source: arXiv 2505.19650 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run'}
