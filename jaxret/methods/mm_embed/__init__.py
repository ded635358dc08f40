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
# Each with what it is compared to.
PAIRS = (('hard', 'random'), ('mm_embed', 'hard'), ('reranked', 'mm_embed'),
         ('mm_embed', 'random_mined'), ('mm_embed', 'any_modality'),
         ('mm_embed', 'right_modality'))
