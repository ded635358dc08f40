"""P(text | image or video) by any model that continues prompts, and P(text).

An item is what a user shows, with an instruction, in the model's own template;
a text is the whole answer. Scored are its tokens, by themselves, and the token
that ends the answer; a score is their mean, in nats. P(video | text) is there
for a model that BLiM has trained, see prompted_videos: as it comes, it predicts
words alone.
"""
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxret import (
  by_rows,
  embedder,
  generator,
  loading,
  models,
  reading,
  sharding,
)
from jaxret.data import images, media, types
from jaxret.data.qwen3_vl import pixels as qwen3_vl
from jaxret.methods.blim import evaluator, prompted_videos
from jaxret.methods.blim import prompts as prompts_lib
from jaxret.models import model_files
from jaxret.scoring import store as store_lib
from jaxret.scoring.embeddings import store as contents
from jaxret.scoring.likelihood import cpn, prefixes, tiles
from jaxret.scoring.likelihood import score as likelihood

INSTRUCTIONS = {'image': 'Describe this image.',
                'video': 'Describe this video.'}
# How P(text) is had: 'mask', the keys of what is seen masked and all positions
# as they are (BLiM, section 3.3); the others by a null image or video in its
# place (VisualGPTScore, arXiv 2306.01879, section 3), a plain one, or the mean
# over some of Gaussian noise.
PRIORS = 'mask', 'grey', 'black', 'noise'
# A null medium: its side in pixels, frames of a video, how many of noise. The
# paper has three images of noise as well; their mean and spread are ours.
NULL_PX, NULL_FRAMES, N_NOISE = 448, 4, 3
NOISE = 127.5, 64.0
# Of models whose own files have no bound that a prompt of 4,096 tokens keeps:
# an image of 1,280 tokens at most, a video of 64 frames and 2,048 tokens.
RESOLUTIONS = {'qwen3_vl': qwen3_vl.Processor(
    image=(65536, 1280 * 1024), video=(4096, 2 * 2048 * 1024), max_frames=64)}
# Fixed in advance: those of the paper's zero-shot scoring on MSR-VTT.
WEIGHTS = {'text_to_video': cpn.Weights(alpha=0.0, c=1.0),
           'video_to_text': cpn.Weights(alpha=0.8, c=0.0)}


class Inputs(NamedTuple):
  """What is scored with a Generator, every prompt measured.

  shown: the Items of the prompts, in the order of the split's videos.
  outlines: what `outline` of the reader gives of each. labels: int arrays, the
  scored tokens of each text. prior: one of PRIORS. first_stage, topk: as of
  evaluator.LikelihoodInputs. videos: what P(video | text) takes, or None.
  """
  model: generator.Generator
  split: types.Split
  shown: tuple[types.Item, ...]
  outlines: tuple
  labels: tuple[np.ndarray, ...]
  prior: str
  first_stage: dict | None = None
  topk: int | dict[str, int] = 0
  videos: prompted_videos.Videos | None = None

  def score(self, options, directory, keep=None):
    """See the function `score`."""
    return score(self, options, directory, keep)


def inputs(model, split, instruction=None, prior='mask', first_stage=None,
           topk=0, max_tokens=0, features=None):
  """Inputs of a Split whose videos are media; reads their headers alone.

  instruction: what is said below each medium; None = INSTRUCTIONS.
  max_tokens: of a text, without the one that ends it; 0 = no limit.
  features: Visuals of prompted_videos, for P(video | text) by the visual head
  among the model's parameters; None = without.
  Raises ValueError that names the first item or text that cannot be used.
  """
  check_model(model)
  if prior not in PRIORS:
    raise ValueError(f'prior is {prior!r}: use one of {", ".join(PRIORS)}')
  if instruction is not None and not instruction.strip():
    raise ValueError('instruction is empty: give it a word, or leave it out')
  reader = model.reader
  labels = tuple(labels_of(reader, item, max_tokens) for item in split.texts)
  shown = tuple(shown_of(item, instruction) for item in split.videos)
  videos = features if features is None else prompted_videos.videos(
      reader, split.texts, features)
  return Inputs(model, split, shown, measured(reader, shown), labels, prior,
                first_stage, topk, videos)


def opened(path, mesh=None, **options):
  """The Generator of a directory or hub model, which reads as RESOLUTIONS say.

  options: of loading.load_generator. Raises ValueError for a model of another
  kind, before its weights are read.
  """
  _, config = model_files.read_json(path, models.scoring_types())
  wing = models.generative_wings()[config['model_type']]
  return loading.load_generator(
      path, mesh=mesh, resolution=RESOLUTIONS.get(wing), **options)


def check_model(model):
  """Raises ValueError for a Generator whose prompts cannot be measured."""
  if not hasattr(model.reader, 'outline'):
    raise ValueError(f'{model!r} scores no items; want one of model_type '
                     f'{" or ".join(models.scoring_types())}')


def item_of(given, name):
  """The Item of an image or video as a caller gives it; errors name it.

  A path, bytes, PIL image, pixels or list of frames, as what they are; a dict
  with `image` or `video`, or an Item, as what they say.
  """
  if isinstance(given, os.PathLike):
    given = os.fspath(given)
  if not isinstance(given, (types.Item, dict)):
    given = {'image' if images.is_still(given) else 'video': given}
  if isinstance(given, dict):
    given = embedder.as_item({'id': name, **given}, 0)
  kinds = [kind for kind in INSTRUCTIONS if getattr(given, kind) is not None]
  if len(kinds) != 1 or given.text is not None:
    had = [*kinds, *(['text'] if given.text is not None else [])]
    raise ValueError(f'{given.id}: got {" and ".join(had) or "nothing"}, want '
                     'one image or one video to be shown alone')
  value = getattr(given, kinds[0])
  several = (media.as_videos(value, given.id) if kinds == ['video'] else
             value if isinstance(value, tuple) else (value,))
  if len(several) != 1:
    raise ValueError(f'{given.id}: got {len(several)} {kinds[0]}s, want one')
  return types.Item(given.id, image=given.image, video=given.video)


def _kind(item):
  return 'image' if item.image is not None else 'video'


def shown_of(item, instruction):
  """The Item of a prompt: a user's turn without a text of the item's own."""
  text = INSTRUCTIONS[_kind(item)] if instruction is None else instruction
  return types.Item(item.id, text, item.image, item.video)


def labels_of(reader, item, max_tokens):
  """The scored tokens of a text: int32 [L + 1], the last one ends it."""
  if not reader.ends:
    raise ValueError('the tokenizer has no token that ends an answer: use that '
                     'of the model')
  text = prompts_lib.checked(item.text, item.id)
  ids = reader.suffix(text, item.id)
  if max_tokens and len(ids) > max_tokens:
    raise ValueError(f'{item.id}: {len(ids)} tokens, want at most '
                     f'{max_tokens}: shorten it or raise the limit')
  return np.append(ids, np.int32(reader.ends[0]))


def measured(reader, shown):
  """The outline of each Item, by threads; ValueError names the first bad one.
  """
  bad = []
  started = reading.read_ahead(
      lambda i: reader.outline(shown[i], chat=True), range(len(shown)), 64)
  found = tuple(one for _, one in reading.usable(
      started, lambda i: shown[i].id, bad.append))
  if bad:
    more = f' (and {len(bad) - 1} other items)' if len(bad) > 1 else ''
    raise ValueError(f'{bad[0]}{more}') from bad[0]
  return found


def score(inputs, options, directory, keep=None):
  """evaluator.Likelihoods, kept in `directory` as found; None but on process 0.

  The prior is [V, T]: it depends on where a text stands behind its item.

  Args:
    inputs: Inputs. options: likelihood.Options, mode 'shared'.
    keep: bool [V, T], the pairs to score; None = all.
  """
  fingerprint = _fingerprint(inputs, options)
  store = None
  if jax.process_index() == 0:
    store = store_lib.Store(directory, fingerprint)
  fill = functools.partial(evaluator.filled, store)
  shape = len(inputs.shown), len(inputs.labels)
  text_given_video = fill('text_given_video', shape, lambda m: _score(
      inputs, _prompts(inputs.model, inputs.shown, inputs.outlines), options, m,
      'text given video', keep), keep)
  of_prompts = _masked if inputs.prior == 'mask' else _nulls
  prompts, index, mean = of_prompts(inputs)
  prior = fill(
      f'text_prior_{inputs.prior}', (len(prompts.lengths), shape[1]),
      lambda m: _score(inputs, prompts, options, m, 'text prior'))
  of_videos = None, None
  if inputs.videos:
    of_videos = _score_videos(fill, inputs, options, keep)
  if store is None:
    return None
  rows = mean(prior)
  return evaluator.Likelihoods(text_given_video, by_rows.Matrix(
      lambda videos: rows[index[videos]], shape), *of_videos)


def _score_videos(fill, inputs, options, keep):
  """(video_given_text, video_prior) of Likelihoods; fill: as of `score`."""
  model, (features, vocabulary, prompts) = inputs.model, inputs.videos
  common = (prompted_videos.likelihood_model(model.config), model.params,
            model.mesh, prompts)
  videos = features, vocabulary, options
  if keep is not None:
    keep = keep.T
  shape = len(prompts.text_prefixes), len(vocabulary)
  return fill('video_given_text', shape, lambda m: likelihood.score_videos(
      *common, *videos, m, keep), keep), evaluator.prior_of_videos(
          fill, common, videos)


def _score(inputs, prompts, options, matrix, name, keep=None):
  model = inputs.model
  return prefixes.score(
      model.continuation, model.params, model.mesh, prompts, inputs.labels,
      prompted_videos.cost(model.config.decoder), options, matrix, keep, name)


def read_as(reader, item, outline):
  """The prompt of an Item, whose outline is known; ValueError if it differs.
  """
  prompt = reader(item, chat=True)
  if not np.array_equal(prompt.tokens, outline.tokens):
    raise ValueError(
        f'{prompt.id}: it has {len(prompt.tokens)} tokens, its header told '
        f'of {len(outline.tokens)}: the file is damaged or has changed')
  return prompt


def _prompts(model, shown, outlines):
  """prefixes.Prompts of Items, read by threads as they are needed."""
  def read(row):
    return read_as(model.reader, shown[row], outlines[row])

  def batches(strips, shapes):
    rows = [int(row) for strip in strips for row in strip.rows]
    ahead = reading.READ_AHEAD * max((len(s.rows) for s in strips), default=1)
    found = reading.usable(reading.read_ahead(read, rows, ahead),
                            lambda row: shown[row].id, _raise)
    for strip, shape in zip(strips, shapes):
      yield _padded(model, [next(found)[1] for _ in strip.rows], strip, shape)
  return _measure(model, outlines, [_kind(item) for item in shown], batches)


def _measure(model, outlines, kinds, batches):
  sizes = np.array([model.reader.bucket(one)[1:] for one in outlines])
  return prefixes.Prompts(
      tuple(one.id for one in outlines),
      np.array([len(one.tokens) for one in outlines]),
      sizes.reshape(len(outlines), -1),
      np.unique(kinds, return_inverse=True)[1], batches)


def _padded(model, prompts, strip, shape):
  """The arrays of a packing.Strip, which repeats its rows to its size."""
  return model.reader.pad(
      [prompts[i] for i in tiles.fill(np.arange(len(prompts)), strip.size)],
      shape)


def _raise(error):
  raise error


def _masked(inputs):
  """(prefixes.Prompts, which of them is each item's, -> the matrix itself).

  Each different prompt is there once: items of one size share theirs.
  """
  number, different, index = {}, [], []
  for outline in inputs.outlines:
    prompt = inputs.model.reader.unseen(outline)
    key = prompt.tokens.tobytes(), prompt.positions.tobytes()
    if key not in number:
      number[key] = len(different)
      different.append(prompt)
    index.append(number[key])

  def batches(strips, shapes):
    for strip, shape in zip(strips, shapes):
      yield _padded(inputs.model, [different[row] for row in strip.rows], strip,
                    shape)
  return _measure(inputs.model, different, ['text'] * len(different),
                  batches), np.array(index), lambda matrix: matrix


def _nulls(inputs):
  """The same of null media: of each kind, and of each instruction, its own.

  The function takes the mean probability of a text over several.
  """
  wanted = sorted({(_kind(item), item.text) for item in inputs.shown})
  shown = [types.Item(f'{inputs.prior} {kind} {i}', text, **{kind: null})
           for kind, text in wanted
           for i, null in enumerate(null_media(inputs.prior, kind))]
  index = np.array([wanted.index((_kind(item), item.text))
                    for item in inputs.shown])
  lengths = np.array([len(label) for label in inputs.labels], np.float32)

  def mean(matrix):
    total = np.asarray(matrix, np.float64).reshape(
        len(wanted), -1, len(lengths)) * lengths
    most = total.max(1)
    return np.float32((most + np.log(np.exp(
        total - most[:, None]).mean(1))) / lengths)
  return _prompts(inputs.model, shown, measured(inputs.model.reader, shown)
                  ), index, mean


def null_media(prior: str, kind: str) -> Iterator[np.ndarray]:
  """What stands for nothing to see: uint8 [px, px, 3], or [F, px, px, 3]."""
  shape = NULL_PX, NULL_PX, 3
  if kind == 'video':
    shape = NULL_FRAMES, *shape
  if prior != 'noise':
    yield np.full(shape, {'grey': 128, 'black': 0}[prior], np.uint8)
    return
  for seed in range(N_NOISE):
    noise = np.random.default_rng(seed).normal(*NOISE, shape)
    yield np.clip(np.rint(noise), 0, 255).astype(np.uint8)


def _fingerprint(inputs, options):
  """What a pair's scores depend on, as short strings; see evaluator's."""
  def digest(parts: Sequence[bytes]):
    whole = hashlib.sha256()
    for part in parts:
      whole.update(len(part).to_bytes(8, 'big') + part)
    return whole.hexdigest()[:16]
  model = inputs.model
  ids = [item.id for item in inputs.split.videos + inputs.split.texts]
  of_videos = {}
  if inputs.videos:
    of_videos = {
        'features': digest([inputs.videos.vocabulary.tobytes()]),
        'requests': digest([prefix.tobytes() for prefix in
                            inputs.videos.prompts.text_prefixes])}
  return of_videos | {
      'weights': sharding.checksum(model.params),
      'model': digest([repr(model.config).encode()]),
      'items': digest([str(name).encode() for name in ids]),
      'media': digest([
          contents.key(item, None) for item in inputs.split.videos]),
      'reading': digest([repr((
          media.READING, model.reader.resolution, model.reader.alpha)
          ).encode()]),
      'prompts': digest([array.tobytes() for one in inputs.outlines
                         for array in (one.tokens, one.positions)]),
      'texts': digest([label.tobytes() for label in inputs.labels]),
      'nonzero_denominator': options.nonzero_denominator,
      'mode': options.mode, 'scoring': likelihood.VERSION}
