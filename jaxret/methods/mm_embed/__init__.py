"""MM-Embed: a universal bi-encoder, hard negatives, zero-shot reranking.

Source: arXiv 2411.02571 and the released models.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'mine': 'run',
         'plan': 'plan'}

ROWS = {'random': 'random negatives', 'hard': 'hard negatives',
        'any_modality': 'plain hard negatives',
        'right_modality': 'hard negatives of the right modality',
        'random_mined': 'one random negative each',
        'mm_embed': 'MM-Embed', 'reranked': 'MM-Embed, reranked'}
