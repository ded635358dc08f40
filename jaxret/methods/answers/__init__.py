"""Answers: multiple choice by likelihood, less what language alone says.

Candidate prior normalization of BLiM (arXiv 2507.23284), which claims it for
tasks beyond retrieval, on questions about videos. How it is done here is ours.
"""
TASKS = {'train_and_evaluate': 'answering', 'evaluate': 'answering'}

ROWS = {
    'prior': 'language alone, the video masked',
    'likelihood': 'likelihood of the choice',
    'cpn': 'with CPN',
    'cpn_full': 'with CPN, alpha 1',
    'cpn_oracle': 'with CPN, best alpha on test',
}
MAIN_ROW = 'cpn'
EXPLAINED = {
    'likelihood': 'A choice is scored by log P(choice | video, question); with '
                  'CPN alpha times log P(choice | question), with the '
                  "video's keys masked, is subtracted. R@1 is the share of "
                  'questions that are answered right.',
}
