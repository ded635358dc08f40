"""UNITE: one embedder for texts, images, videos and mixtures.

Source: arXiv 2505.19650 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'plan': 'plan'}

ROWS = {'stage1': 'after stage 1', 'plain': 'plain loss',
        'one_stage': 'one stage', 'video_text': 'on video and text',
        'image_text': 'on image and text', 'text_text': 'on text alone',
        'coarse': 'coarse captions', 'fine_after': 'fine ones after them',
        'unite': 'UNITE'}
# Each with what it is compared to.
PAIRS = (('unite', 'plain'), ('unite', 'one_stage'), ('unite', 'fine_after'),
         ('video_text', 'image_text'), ('video_text', 'text_text'),
         ('video_text', 'unite'))
EXPLAINED = {
    'plain': 'Plain loss: trained from the same start, on the same batches and '
             'for as many steps as UNITE, without the mask of MAMCL.',
}
