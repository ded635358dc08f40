"""What UNITE's paper says of its training, each as rows of one tiny run."""
from ml_collections import ConfigDict

VARIANTS = {
    'stages': 'as the tiny model, compared with one stage of as many updates',
    'stage1_data': 'tiny models: a first stage on one kind of pairs each',
    'grains': 'tiny models: fine captions in the first stage, or after it',
}
SOURCES = ('text_to_video', 'text_to_image', 'text_to_text')


def change(config, variant):
  """Turns the tiny run on shapes world, a whole config, into a variant."""
  if variant == 'stages':
    config.stage1.pairs.aligned = False  # its batches are of one source each
    config.compare = 'plain', 'one_stage'
    config.one_stage = ConfigDict({'starts_from': '', 'train': {
        'steps': config.stage1.train.steps + config.train.steps}})
  elif variant == 'stage1_data':
    _first_stages(config)
  else:
    _grains(config)


def _first_stages(config):
  """The method itself is trained on all kinds, as the first stage is."""
  _as_first_stage(config, config.stage1.train.steps)
  config.pairs.update(sources=SOURCES, weights=config.stage1.pairs.weights)
  config.compare = 'video_text', 'image_text', 'text_text'
  config.video_text = _on(SOURCES[:1])
  config.image_text = _on(SOURCES[1:2])
  config.text_text = _on(SOURCES[2:])


def _grains(config):
  """As many updates on fine captions, among coarse ones or after them."""
  _as_first_stage(config, 360)
  config.data.update(grains=('coarse', 'fine'))
  config.data.shape = config.eval.shape = (72, 1, 16)
  both = 'coarse_text_to_video', 'fine_text_to_video'
  config.pairs.update(sources=both, weights=(2.0, 1.0))
  config.before, config.compare = ('coarse',), ('fine_after',)
  config.coarse = _on(both[:1], train={'steps': 240})
  config.fine_after = _on(
      both[1:], train={'steps': 120}, starts_from='coarse')


def _as_first_stage(config, steps):
  """The method's own training as a first stage is: no mask, both directions."""
  config.update(before=(), compare=(), starts_from='')
  config.loss.update(dual=True, modality_mask=False)
  config.pairs.per_source, config.train.steps = True, steps


def _on(sources, **fields):
  return ConfigDict({'pairs': {'sources': sources, 'weights': (1.0,) * len(
      sources)}, **fields})
