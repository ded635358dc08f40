"""`jaxret.score_matrix`: items and texts in, likelihood matrices out.

BLiM scores both directions. A model that continues prompts scores P(text |
item): the item and an instruction are a user's turn in the model's own
template, the tokens of the text and the one that ends an answer are scored, and
their mean is the score, in nats; the work directory of a run that has trained
one, see prompted_method, scores both directions.
"""
import os
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxret import generator, process_settings, workdir_lock
from jaxret.data import clips, images, types
from jaxret.methods import base
from jaxret.methods.blim import evaluator, prompted, prompted_run
from jaxret.methods.blim import features as features_lib
from jaxret.methods.blim import first_stage as first_stage_lib
from jaxret.methods.blim import opened as opened_lib
from jaxret.methods.blim import scores as scores_lib
from jaxret.scoring.likelihood import score as likelihood

Path: TypeAlias = str | os.PathLike
Video: TypeAlias = Path | bytes | np.ndarray
Videos: TypeAlias = Sequence[Video] | np.ndarray | Mapping[str, Video]
Texts: TypeAlias = Sequence[str] | Mapping[str, str]
Model: TypeAlias = (Path | ConfigDict | generator.Generator |
                    opened_lib.Opened | prompted_run.Opened)


def score_matrix(
    videos: Videos, texts: Texts,
    model: Model, *,
    first_stage: np.ndarray | str | None = None, topk: int = 0,
    mode: str = 'shared', workdir: Path | None = None, rows: int = 32,
    columns: int = 64, mesh: Mesh | None = None,
    instruction: str | None = None, prior: str | None = None
    ) -> scores_lib.Scores | None:
  """Scores every image or video against every text, exhaustively.

    scores = jaxret.score_matrix(
        ['a.mp4', 'b.jpg'], ['a dog runs', 'a man cooks'],
        'Qwen/Qwen3-VL-2B-Instruct')
    best_item_of_text = scores.text_to_video().argmax(1)

  Args:
    videos: V paths, bytes, lists of frames; of BLiM also features [V, clips,
      tokens, width] of its own tower; of other models images as well, and PIL
      images, pixels, dicts of `image` or `video`, Items. A dict gives ids.
    texts: T strings, or a dict of them.
    model: a work directory that `python -m jaxret.main` has trained; a config,
      whose `model.pretrained` is scored zero-shot; a Generator; what
      jaxret.load_generator opens as one, of Qwen2-VL, Qwen2.5-VL or Qwen3-VL;
      or what opened.open_likelihood gives, for several calls. The latter two
      have `in_8_bits`.
    first_stage: float [T, V], scores of another model, or 'clip', the free
      ones of the first clip (no zero-shot model has them); with `topk`, only
      each text's and each video's best are scored, the others are NaN.
    mode: 'shared', of BLiM also 'canonical', 'reference': likelihood.Options.
    workdir: where finished tiles are kept, so that a killed call goes on; by
      default nothing is kept. One call, or one run, at a time.
    rows, columns: of a tile; fewer rows of long prompts. mesh: default all
      devices in one row, of a Generator its own.
    instruction: what is said below each medium, not of BLiM; default 'Describe
      this image.' or 'Describe this video.'
    prior: how P(text) is had, not of BLiM: 'mask' (default), or by a null image
      or video, 'grey', 'black' or 'noise'; see prompted.PRIORS.

  Returns:
    Scores: matrices, priors, and rankings by them with the weights that the
    workdir's evaluation chose, else the config's, else the paper's zero-shot
    ones. None on all processes but the first.

  Raises:
    ValueError: naming it, before anything is computed, for an empty or too
      long text, an item that cannot be decoded (where a prompt is built: whose
      header cannot be read), features that are not finite or of another shape,
      ids that are not unique, a first stage of another shape, a workdir that
      another process writes, or a model that scores nothing.
  """
  process_settings.keep_compiled_of_user()
  process_settings.exact_float32()
  _check_mode(mode, topk)
  score = (_score_prompted if opened_lib.continues_prompts(model)
           else _score_blim)
  with workdir_lock.held_or_passing(workdir) as directory:
    return score(
        videos, texts, model, mesh, first_stage, topk,
        likelihood.Options(rows, columns, mode=mode), directory,
        instruction=instruction, prior=prior)


def _score_blim(videos, texts, model, mesh, first_stage, topk, options,
                directory, **of_prompts):
  """As score_matrix, of BLiM; of_prompts: what does nothing here."""
  for name, value in of_prompts.items():
    if value is not None:
      raise ValueError(f'{name} = {value!r:.60} has no effect on BLiM, whose '
                       'prompts and prior are its own: leave it out')
  ready = prepare(videos, texts, model, mesh, lambda shape, zero_shot: (
      _check_first_stage(first_stage, topk, shape, zero_shot)))
  inputs = evaluator.inputs(ready.scorer, ready.split, ready.features,
                            topk=topk, zero_shot=not ready.trained)
  options = options._replace(
      nonzero_denominator=ready.config.eval.nonzero_denominator)
  chosen = weights_of(ready)
  found = _in_memory(ready.scorer.model, ready.params, ready.mesh,
                     inputs, options, directory, first_stage,
                     chosen.weights['text_to_video'].alpha)
  return _scores(found, ready.split, chosen)


def _score_prompted(items, texts, model, mesh, first_stage, topk, options,
                    directory, instruction, prior):
  """As score_matrix, of a model that continues prompts."""
  named = _named(items, 'item')
  if not named:
    raise ValueError('got no items: give one at least')
  shown = tuple(
      prompted.item_of(given, str(given) if name.startswith('item ') and
                       isinstance(given, (str, os.PathLike)) else name)
      for name, given in named)
  _check_unique('items', shown)
  captions = _texts(texts)
  _check_first_stage(first_stage, topk, (len(captions), len(shown)), True)
  if options.mode != 'shared':
    raise ValueError(f'mode {options.mode!r} is of BLiM alone: leave it out')
  split = types.Split(
      'own', 'own', shown, captions, np.zeros(len(captions), np.int32))
  inputs, chosen = prompted_run.library_inputs(
      model, mesh, split, instruction, prior, topk=topk,
      first_stage=first_stage if first_stage is None else {
          'text_to_video': first_stage, 'video_to_text': first_stage.T})
  found = inputs.score(options._replace(nonzero_denominator=False), directory,
                       evaluator.either_kept(inputs))
  return _scores(_copied(found), split, chosen)


class Ready(NamedTuple):
  """What a library call scores: a Split of its items, and with what.

  trained: the workdir that made the model; None for a config's own weights.
  """
  config: ConfigDict
  trained: str | None
  mesh: Mesh
  scorer: base.Scorer
  params: dict
  split: types.Split
  features: types.Visuals


def prepare(videos: Videos, texts: Texts,
            model: Path | ConfigDict | opened_lib.Opened,
            mesh: Mesh | None = None,
            check: Callable[[tuple[int, int], bool], object] | None = None
            ) -> Ready:
  """Checks what a call was given, extracts features, and loads the model.

  The arguments are those of `score_matrix`; check: gets (texts, videos), how
  many there are, and whether the model is untrained, before anything is
  computed.
  """
  process_settings.keep_compiled_of_user()
  process_settings.exact_float32()
  if isinstance(model, opened_lib.Opened):
    if mesh is not None and mesh != model.mesh:
      raise ValueError('mesh: the model lives on another one; give it to '
                       'open_likelihood')
    opened = model
  else:
    opened = opened_lib.Opened(*opened_lib.config_of(model), mesh)
  items, features = _videos(videos)
  captions = _texts(texts)
  if check:
    check((len(captions), len(items)), opened.trained is None)
  config, method = opened.config, opened.method
  method.check(captions, features_lib.feature_shape(config) if features is None
               else features.shape[1:])
  if features is None:
    features = opened.features(items)
  split = types.Split(
      'own', 'own', items, captions, np.zeros(len(captions), np.int32))
  assert method.scorer is not None  # BLiM's
  return Ready(config, opened.trained, opened.mesh, method.scorer,
               opened.params, split, features)


def weights_of(ready: Ready) -> scores_lib.Chosen:
  """What ranks: weights that the workdir's evaluation chose, or the config's.
  """
  config = ready.config
  if not ready.trained:
    config = config.copy_and_resolve_references()
    with config.unlocked():
      config.eval.zero_shot = True
  return scores_lib.chosen(config, ready.trained)


def _scores(likelihoods, split, chosen):
  """The Scores of a Split; None on all processes but the first."""
  return likelihoods and scores_lib.Scores(
      **likelihoods._asdict(),
      video_ids=tuple(item.id for item in split.videos),
      text_ids=tuple(item.id for item in split.texts), chosen=chosen)


def _in_memory(model, params, mesh, inputs, options, directory, stage, alpha):
  """Likelihoods that outlive their directory.

  stage: the first one, as score_matrix takes it; alpha: of the first clips.
  """
  common = model, params, mesh
  if isinstance(stage, str):
    clips = first_stage_lib.from_clips(*common, inputs, options, directory)
    inputs = inputs._replace(first_stage=clips.scores(alpha))
  elif stage is not None:
    inputs = inputs._replace(first_stage={
        'text_to_video': stage, 'video_to_text': stage.T})
  return _copied(evaluator.score(
      *common, inputs, options, directory, evaluator.either_kept(inputs)))


def _copied(scores):
  """Likelihoods that outlive the directory that they are read from."""
  return scores and evaluator.Likelihoods(
      *(None if matrix is None else np.array(matrix) for matrix in scores))


def _check_mode(mode, topk):
  if mode not in likelihood.MODES:
    raise ValueError(
        f'mode is {mode!r}: use one of {", ".join(likelihood.MODES)}')
  if mode == 'reference' and topk:
    raise ValueError("mode 'reference' scores all pairs: leave topk out")


def _named(things, what):
  """[(id, thing)] of a dict or a sequence; ids of any type as strings."""
  if isinstance(things, dict):
    return [(str(name), thing) for name, thing in things.items()]
  if isinstance(things, (str, bytes)):
    raise ValueError(f'{what}s: got one {type(things).__name__}, wanted a list')
  return [(f'{what} {i}', thing) for i, thing in enumerate(things)]


def _videos(videos):
  """(Items, features [V, ...] or None)."""
  named = _named(videos, 'video')
  if not named:
    raise ValueError('got no videos: give one at least')
  if all(_is_medium(v) for _, v in named):
    items = [types.Item(str(v) if name.startswith('video ')
                        and isinstance(v, (str, os.PathLike)) else name,
                        video=str(v) if isinstance(v, os.PathLike) else
                        tuple(v) if isinstance(v, list) else v)
             for name, v in named]
    features = None
  else:
    items = [types.Item(str(name)) for name, _ in named]
    shapes = {np.shape(v) for _, v in named}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
      raise ValueError(
          f'videos: got arrays of shapes {sorted(shapes)}, wanted paths, bytes '
          'or features [clips, tokens, width] of one shape')
    features = np.stack([np.asarray(v) for _, v in named])
    for item, array in zip(items, features):
      if not np.isfinite(array).all():
        raise ValueError(
            f'the features of {item.id!r} hold values that are not finite: '
            'extract them again, or leave the item out')
  _check_unique('videos', items)
  return tuple(items), features


def _is_medium(given):
  """Whether a video is given as a file, or as a list of its frames' files."""
  if isinstance(given, (list, tuple)) and given:
    return all(isinstance(one, (str, os.PathLike, bytes)) or images.is_pil(one)
               for one in given)
  return isinstance(given, (str, os.PathLike, bytes, clips.Clip))


def _texts(texts):
  items = [types.Item(str(name), text=text)
           for name, text in _named(texts, 'text')]
  if not items:
    raise ValueError('got no texts: give one at least')
  for item in items:
    if not isinstance(item.text, str) or not item.text.strip():
      raise ValueError(
          f'{item.id} is {item.text!r}: wanted a text of a word at least')
  _check_unique('texts', items)
  return tuple(items)


def _check_unique(what, items):
  seen = set()
  for item in items:
    if item.id in seen:
      raise ValueError(f'{what}: {item.id!r} is there twice; give each once')
    seen.add(item.id)


def _check_first_stage(first_stage, topk, shape, zero_shot):
  if bool(topk) != (first_stage is not None):
    raise ValueError('first_stage and topk go together: give both or neither')
  if isinstance(first_stage, str):
    if first_stage != first_stage_lib.CLIP:
      raise ValueError(f"first_stage is {first_stage!r}: give 'clip' or scores "
                       'of texts by videos')
    if zero_shot:
      raise ValueError("first_stage is 'clip', but the head that predicts "
                       'clips is untrained, or of another backbone than '
                       "BLiM's: give the scores of another model")
    return
  if topk and np.shape(first_stage) != shape:
    raise ValueError(f'first_stage has shape {np.shape(first_stage)}, wanted '
                     f'{shape}: texts by videos')
  if topk and np.isnan(first_stage).any():
    raise ValueError('first_stage holds NaN, which cannot be ranked: give '
                     'numbers')
