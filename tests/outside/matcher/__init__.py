"""A toy method: the mean colour of a picture against a bag of words."""
TASKS = {'train_and_evaluate': 'run', 'evaluate': 'run'}
ROWS = {'matcher': 'toy matcher', 'chance': 'constant scores'}
