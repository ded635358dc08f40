"""Checkpoints of a run: saved in the background, restored on to any mesh.

A workdir belongs to one config. `claim_workdir` writes `config.json` there and
refuses results of another config; `Checkpoints` keeps `checkpoints/<step>/`
with one item per tree of arrays and one JSON item, `run`.
"""
import contextlib
import hashlib
import json
import pathlib

import jax

from jaxret import files, own_files, sharding

# Fields, or whole sections, that may differ between the calls that share a
# workdir, in sub-configs too: they change what is shown, kept or measured, or
# where it is computed, not what is trained.
FREE_FIELDS = ('task', 'mesh', 'eval', 'plan', 'rerank', 'log',
               'train.log_every_steps', 'train.checkpoint_every_steps',
               'train.keep_checkpoints', 'data.cache_gb',
               'data.extract_batch_size', 'data.strict', 'model.attention')
_SUMS = 'checksums'  # in the JSON of a checkpoint, of its trees
# `method` of a config -> fields that such configs had and that no code of their
# tasks reads: workdirs that have them are as good as those that do not. The
# inner parts of a paper were called methods, too.
_OF_FEATURES = ('data.max_caption_tokens', 'data.limit_s', 'data.store_videos',
                'data.features', 'data.missing_features')
_OF_TOWERS = 'vision.pretrained', 'vision.remat'
REMOVED_FIELDS = {
    'blim': (*_OF_TOWERS, 'tower.method'),
    'dual_encoder': (*_OF_TOWERS, 'method'), 'leccr': ('captioner.method',),
    'captioner': ('method',), 'llava_next': ('method',), 'unite': _OF_FEATURES,
    'mm_embed': (*_OF_FEATURES, 'data.pairs', 'data.train_on_all',
                 'data.validation_fraction', 'data.test_fraction')}
# Fields that older workdirs do not name -> the value that is theirs: with it
# the two are alike.
ADDED_FIELDS = {'data.alpha': 'white', 'data.allow_outside': False,
                'data.max_pixels': 89478485, 'train.text_prior_share': 0.0,
                'loss.false_negative_margin': 2.0, 'loss.matryoshka_dims': [],
                'loss.matryoshka_weights': [], 'loss.distillation_weight': 0.0,
                'loss.distillation_temperature': 1.0, 'loss.graded': '',
                'loss.graded_temperature': 0.05, 'mine.negatives': 1,
                'mine.strategy': 'modality_aware',
                'mine.teacher': False, 'model.backbone': 'blim',
                'model.prompt': '', 'model.pooling': 'last',
                'data.fetch': [], 'data.grains': [], 'data.subsets': [],
                'pairs.aligned': False,
                **{f'data.columns.{name}': '' for name in (
                    'image', 'video', 'caption', 'id', 'split')},
                **{f'data.splits.{name}': '' for name in (
                    'train', 'validation', 'test')}}
# `remat` was a bool; both words bind alike.
_WORDS = {'none': False, 'full': True, 'False': False, 'True': True}
# What a start leaves in a workdir before anything is trained, extracted or
# scored, and what task=plan writes: where there is nothing else another config
# may begin. Hidden files are parts of what was being written. All else is a
# result, whatever its name.
STARTED = ('config.json', 'tokenizer', 'skipped.jsonl', 'videos', 'media',
           'compiled', 'plan.json')


def plain_config(config):
  """A ConfigDict or dict as flat JSON values, {'train.batch_size': 32}."""
  nested = config.to_dict() if hasattr(config, 'to_dict') else config
  flat = {}
  def walk(prefix, value):
    if isinstance(value, dict) and value:
      for name, child in value.items():
        walk(f'{prefix}.{name}' if prefix else name, child)
    else:
      flat[prefix] = value
  walk('', json.loads(json.dumps(nested)))
  return flat


def binding_config(config):
  """The fields that bind a workdir: all but FREE_FIELDS."""
  return {name: _WORDS.get(str(value), value) if name.endswith('.remat')
          else value for name, value in plain_config(config).items()
          if (name, value) not in ADDED_FIELDS.items() and not any(
              f'.{free}.' in f'.{name}.' for free in FREE_FIELDS)}


def without_removed(config, new):
  """A flat config less those REMOVED_FIELDS that the flat `new` lacks."""
  removed = set(REMOVED_FIELDS.get(config.get('method'), ())) - set(new)
  return {name: value for name, value in config.items() if name not in removed}


def fingerprint(config):
  """16 hex digits that change with any binding field."""
  text = json.dumps(binding_config(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_workdir(workdir, config):
  """Makes `workdir` this config's own, or raises ValueError.

  The error names the first fields in which the config that made the workdir
  differs from this one. A config that has left no results there, since its
  data were not found for instance, is replaced.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / 'config.json'
  nested = config.to_dict() if hasattr(config, 'to_dict') else config
  if path.exists() and has_results(workdir):
    old = binding_config(own_files.read_object(path, 'use another --workdir'))
    new = binding_config(config)
    _refuse_difference(workdir, without_removed(old, new), new)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, json.dumps(nested, indent=2) + '\n')


def read_config(workdir):
  """The config that made a workdir, or None where there is none."""
  from ml_collections import ConfigDict
  path = pathlib.Path(workdir) / 'config.json'
  if not path.is_file():
    return None
  return ConfigDict(own_files.read_object(path, 'use another work directory'))


def has_results(workdir):
  """Whether there is anything but what a start leaves."""
  workdir = pathlib.Path(workdir)
  return workdir.is_dir() and any(
      not path.name.startswith('.') and path.name not in STARTED
      for path in workdir.iterdir())


def _refuse_difference(workdir, old, new):
  names = sorted(name for name in {*old, *new}
                 if old.get(name, '(absent)') != new.get(name, '(absent)'))
  if not names:
    return
  shown = ', '.join(
      f'{name} was {old.get(name, "(absent)")!r}, '
      f'now {new.get(name, "(absent)")!r}' for name in names[:3])
  more = f' and {len(names) - 3} more fields' if len(names) > 3 else ''
  raise ValueError(
      f'workdir {workdir} was made by another config: {shown}{more}; give the '
      'old values, or another --workdir')


class Checkpoints(contextlib.AbstractContextManager):
  """The checkpoints in one directory; leaving the context ends all writing.

  Every process of a run makes the same calls. A write that was killed leaves a
  temporary directory, which the next run removes.
  """

  def __init__(self, directory, keep=None, read_only=False):
    """keep: how many of the latest checkpoints stay, None for all.

    read_only: nothing is made, removed or saved in the directory.
    """
    import orbax.checkpoint as ocp  # slow: who opens no checkpoint needs none
    self._read_only, self._ocp = read_only, ocp
    self.directory = pathlib.Path(directory).absolute()
    # Orbax's own read_only warns whenever a directory is opened. It adds to
    # these options that `save` does nothing, which ours would not want.
    self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
            create=not read_only,
            preservation_policy=ocp.checkpoint_managers.LatestN(keep),
            cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=True))

  def latest_step(self):
    """The step of the latest whole checkpoint, or None."""
    return self._manager.latest_step()

  def steps(self):
    """The steps of all whole checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def save(self, step, trees, run):
    """Starts writing a checkpoint and returns when its arrays may change.

    trees: {name: tree of jax arrays}; run: JSON-able dict.
    """
    assert not self._read_only
    trees = {name: _nested(tree) for name, tree in trees.items()}
    run = {**run, _SUMS: {'run': _sum_of(run), **{
        name: sharding.checksum(tree) for name, tree in trees.items()}}}
    items = {name: self._ocp.args.StandardSave(tree)
             for name, tree in trees.items()}
    self._manager.save(step, args=self._ocp.args.Composite(
        run=self._ocp.args.JsonSave(run), **items), force=True)

  def run(self, step):
    """The JSON that was saved with a step."""
    return self._json(step)[0]

  def _json(self, step):
    """(what was saved with a step, the checksums of all that was saved)."""
    found = self._read(step, {'run': self._ocp.args.JsonRestore()}).run
    sums = found.pop(_SUMS, {}) if isinstance(found, dict) else None
    if not isinstance(sums, dict) or sums.get('run', _sum_of(found)
                                              ) != _sum_of(found):
      raise ValueError(f'checkpoint {self.directory / str(step) / "run"} is '
                       'damaged: not the JSON object that was saved; '
                       + self._without(step))
    return found, sums  # older checkpoints have none

  def _read(self, step, items):
    """What Orbax reads; its many exceptions as a ValueError of one line."""
    try:
      return self._manager.restore(
          step, args=self._ocp.args.Composite(**items))
    except Exception as error:  # Orbax and TensorStore raise it bare, too
      reason = str(error).strip().split('\n')[0]
      raise ValueError(
          f'checkpoint {self.directory / str(step)} cannot be read '
          f'({type(error).__name__}: {reason}); {self._without(step)}'
          ) from error

  def _without(self, step):
    where = self.directory / str(step)
    return f'remove {where} to go on from the checkpoint before it'

  def restore(self, step, targets):
    """Reads trees of a step on to the devices that `targets` name.

    targets: {name: tree of ShapeDtypeStructs with shardings, or of arrays}.
    Returns {name: tree of jax arrays}. Raises ValueError naming the first
    tensor that is missing, left over, or of another shape or type, or the tree
    whose numbers are not those that were saved.
    """
    for name, target in targets.items():
      self._check(step, name, _names(target))
    items = {name: self._ocp.args.StandardRestore(_nested(target))
             for name, target in targets.items()}
    found = self._read(step, items)
    self._check_sums(step, found, targets)
    trees = {}
    for name, target in targets.items():
      tensors = sharding.flatten(found[name])
      leaves = [tensors[tensor] for tensor in _names(target)]
      trees[name] = jax.tree.unflatten(jax.tree.structure(target), leaves)
    return trees

  def _check_sums(self, step, found, targets):
    written = self._json(step)[1]
    for name in targets:
      if name in written and sharding.checksum(found[name]) != written[name]:
        raise ValueError(
            f'checkpoint {self.directory / str(step) / name} is damaged: its '
            f'numbers are not those that were saved; {self._without(step)}')

  def _check(self, step, item, wanted):
    where = self.directory / str(step) / item
    try:
      metadata = self._ocp.StandardCheckpointHandler().metadata(where).tree
    except Exception as error:  # Orbax and TensorStore raise it bare, too
      reason = str(error).strip().split('\n')[0]
      raise ValueError(f'checkpoint {where} cannot be read ({reason}); '
                       f'{self._without(step)}') from error
    found = sharding.flatten(metadata)
    advice = ('it belongs to another model or optimizer: use the config that '
              'made it, or another --workdir')
    for names, problem in ((wanted.keys() - found.keys(), 'lacks tensor'),
                           (found.keys() - wanted.keys(), 'has extra tensor')):
      if names:
        more = f' and {len(names) - 1} more' if len(names) > 1 else ''
        raise ValueError(
            f'checkpoint {where} {problem} {min(names)!r}{more}; {advice}')
    for name, leaf in wanted.items():
      got = (tuple(found[name].shape), str(found[name].dtype))
      want = (tuple(leaf.shape), str(leaf.dtype))
      if got != want:
        raise ValueError(f'checkpoint {where} has {name!r} as {got}, wanted '
                         f'{want}; {advice}')

  def wait(self):
    """Returns when all that was saved is on disk."""
    self._manager.wait_until_finished()

  def __exit__(self, *error):
    self._manager.wait_until_finished()
    self._manager.close()


def _sum_of(run):
  return own_files.checksum(json.dumps(run, sort_keys=True).encode())


def _names(tree):
  """{'0/mu/params/...': leaf} with dict keys, positions and field names."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
          for path, leaf in leaves}


def _nested(tree):
  """Any tree as plain nested dicts, which is what is on disk."""
  return sharding.unflatten(_names(tree))
