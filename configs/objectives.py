"""What embedders are trained on besides plain contrast; all off by default."""


def add_objectives(config):
  """Of methods that contrast queries with candidates and hard negatives."""
  config.loss.update({
      # Left out of a query's negatives are those whose similarity to it is
      # above its own candidate's by more than this; Qwen3-Embedding has 0.1.
      'false_negative_margin': 2.0,  # a difference of cosines, 2 = none is
      # Matryoshka: numbers of the prefixes of an embedding that are trained,
      # the whole one only if its width is among them; () = that alone.
      'matryoshka_dims': (),
      'matryoshka_weights': (),  # of the prefixes' losses, () = 1 each
      # Of the divergence from a reranker's scores, which pairs of negatives
      # carry (`scores`), added to the contrast; 0 = none.
      'distillation_weight': 0.0,
      'distillation_temperature': 1.0})  # the scores are divided by it
  # Whether a batch has the same media in several sources, where example i of
  # sources of one size is about one medium, as in shapes world.
  config.pairs.aligned = False
  # Numbers of an embedding that count, as many as matryoshka_dims has; 0 = all.
  config.eval.truncate_dim = 0


def add_graded(config):
  """Of methods whose data can have graded pairs."""
  config.loss.update({
      # How pairs with a `grade` are trained on: 'cosent'; '' = there are none.
      'graded': '',
      'graded_temperature': 0.05})  # of CoSENT


def add_mining(config):
  """Of methods that mine their hard negatives."""
  config.mine.update({
      'negatives': 1,  # hard negatives of a query
      # Which of the candidates that are found: 'modality_aware', as the paper;
      # 'right_modality', 'any_modality', or 'random' ones of the pool instead.
      'strategy': 'modality_aware',
      # Whether the reranker of rerank.pretrained, or that of the run init_from,
      # scores positives and negatives, for loss.distillation_weight.
      'teacher': False})
