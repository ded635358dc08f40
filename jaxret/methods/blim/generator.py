"""The model of a BLiM work directory, opened to continue prompts with it."""
from jaxret import methods
from jaxret import run as run_lib
from jaxret.data.videochat import continuations
from jaxret.methods import base
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import method as blim
from jaxret.methods.blim import prompted_run
from jaxret.methods.blim import run as blim_run
from jaxret.models.videochat import generator


def open_generator(config, workdir, mesh):
  """(GeneratorConfig, parameters, Reader) of what was trained in a workdir.

  Raises ValueError where no tower goes with it: its features were stored
  elsewhere.
  """
  workdir = str(workdir)
  if prompted_run.is_chosen(config):
    return prompted_run.open_merged(config, workdir, mesh)
  if features_lib.has_stored_features(config):
    raise ValueError(
        f'{workdir} was trained on stored features: no tower goes with it, it '
        'cannot see what it is to continue')
  tokenizer = run_lib.open_tokenizer(config, workdir)
  vlm = blim.model_config(config, tokenizer)
  if 'tower' in config.before:
    tower = features_lib.trained_tower(
        config, blim_run.open_tower(config, workdir, mesh, tokenizer)[1])
  else:
    tower = features_lib.pretrained_tower(config, mesh)
  params = base.merged(config, blim_run.parameters(
      config, methods.get(config.method).method(config, tokenizer), mesh,
      workdir))['params']
  sizes = generator.GeneratorConfig(
      vlm.decoder, tower.config, vlm.visual_width, tower.tokens_per_clip,
      vlm.clips)
  used = {'decoder': params['decoder'], 'vision': tower.params,
          'projector': {'vtg': params['projector']['vtg']}}
  return sizes, {'params': used}, continuations.open_reader(
      sizes, tokenizer, alpha=base.alpha(config),
      limit_s=config.data.limit_s or None)
