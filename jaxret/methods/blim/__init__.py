"""BLiM: text-video retrieval by likelihood in both directions.

Source: arXiv 2507.23284 and the authors' code.
"""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run', 'extract': 'run',
         'plan': 'plan'}

# Weights are chosen on validation, of _paper the paper's, of _oracle on test.
ROWS = {
    'first_stage': 'first stage',
    'candidate_likelihood': 'candidate likelihood',
    'query_likelihood': 'query likelihood',
    'cpn': 'candidate likelihood with CPN',
    'bidirectional': 'both directions',
    'blim': 'BLiM: both directions with CPN',
    'cpn_paper': "with CPN, the paper's weight",
    'bidirectional_paper': "both directions, the paper's weight",
    'blim_paper': "BLiM, the paper's weights",
    'cpn_oracle': 'with CPN, best weight on test',
    'bidirectional_oracle': 'both directions, best weight on test',
    'blim_oracle': 'BLiM, best weights on test',
    'ensemble': 'BLiM with the first stage',
    'candidate_likelihood_dual_softmax': 'candidate likelihood, dual softmax',
    'candidate_likelihood_qb_norm': 'candidate likelihood, QB-norm',
    'blim_dual_softmax': 'BLiM, dual softmax',
    'blim_qb_norm': 'BLiM, QB-norm',
}
MAIN_ROW = 'blim'
# Each with what it is compared to.
PAIRS = (('cpn', 'candidate_likelihood'),
         ('bidirectional', 'candidate_likelihood'),
         ('bidirectional', 'query_likelihood'),
         ('blim', 'candidate_likelihood'), ('blim', 'query_likelihood'),
         ('blim', 'bidirectional'), ('blim', 'cpn'))
EXPLAINED = {
    'text_to_video': 'Candidate likelihood is P(video | text), query '
                     'likelihood is P(text | video).',
    'video_to_text': 'Candidate likelihood is P(text | video), query '
                     'likelihood is P(video | text).',
    'blim_dual_softmax':
        'Dual softmax and QB-norm, further below, take all queries of the test '
        'at once (the bank of QB-norm are the other queries), as CPN needs '
        'not: they are no answers to a query alone.',
}
