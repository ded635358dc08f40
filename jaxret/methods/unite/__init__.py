"""UNITE: one embedder for texts, images, videos and mixtures.

Source: arXiv 2505.19650 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'plan': 'plan'}

ROWS = {'stage1': 'after stage 1', 'plain': 'plain loss',
        'unite': 'UNITE: MAMCL'}
PAIRS = (('unite', 'plain'),)  # each with what it is compared to
EXPLAINED = {
    'plain': 'Plain loss: trained from the same start, on the same batches and '
             'for as many steps as UNITE, without the mask of MAMCL.',
}
