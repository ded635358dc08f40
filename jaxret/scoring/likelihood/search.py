"""The best k candidates of each query, proved, from a few of the pairs.

Exhaustive scoring and this search fill the same matrices, NaN where a cell is
open. A search computes a few promising pairs of each query as a whole, whose
k-th best score is a threshold; then the clips of the pairs whose bound (see
`bounds`) reaches it, and then the captions of those that still do. What is
left lies below the threshold whatever its likelihoods are.

Which cells are asked for depends on the values of cells that were asked for
before, never on what else is in the matrices: a killed search computes the
same tiles again, to the same bits.
"""
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from jaxret import processes
from jaxret.scoring.likelihood import bounds, cpn, layouts
from jaxret.scoring.likelihood import score as likelihood

DIRECTIONS = ('text_to_video', 'video_to_text')
# By how much a bound must be below a threshold: more than two ways to compute
# one score differ by, some 3e-6 in float32, 0.03 in bfloat16.
SLACK = {'float32': 1e-4, 'bfloat16': 0.03}
# A sample of pairs, queries x candidates, says what to expect; it is small
# beside all pairs.
SAMPLE = 64, 8
MOST_SAMPLED = 0.02


class Job(NamedTuple):
  """What scoring takes, see likelihood.score_texts and score_videos."""
  model: object
  params: object
  mesh: jax.sharding.Mesh
  prompts: likelihood.Prompts
  features: object
  vocabulary: np.ndarray
  options: likelihood.Options


class Matrices(NamedTuple):
  """What a search reads, and the two matrices that it fills; float32.

  text_given_video [V, T] and video_given_text [T, V]: NaN where open.
  first_label [V, T] and first_clip [T, V]: see likelihood.first_labels.
  text_prior [T]; video_prior [T, V]. Zero-shot there are none of videos.
  """
  text_given_video: np.ndarray
  video_given_text: np.ndarray | None
  first_label: np.ndarray
  first_clip: np.ndarray | None
  text_prior: np.ndarray
  video_prior: np.ndarray | None


class Found(NamedTuple):
  """The best k of C candidates of Q queries.

  index int64 [Q, k], score float32 [Q, k]: best first, equal scores in the
    order of the candidates.
  certified: bool [Q], nothing else can be among them.
  margin: float32 [Q], how far the last of them is above all others, or above
    what they can be; inf where there are no others.
  whole: share of the pairs that were computed as a whole.
  expected: bounds.Share of the tokens, told beforehand; None with a budget.
  tokens: through the decoder, padding, prefixes and first clips included;
    all_tokens: the same of all pairs. What was found in the matrices counts
    as if it had been computed now.
  """
  index: np.ndarray
  score: np.ndarray
  certified: np.ndarray
  margin: np.ndarray
  whole: float
  expected: bounds.Share | None
  tokens: int
  all_tokens: int


def best(job, matrices, direction, weights, k, budget=None, slack=1e-4):
  """Finds the best k candidates of each query, and fills what that takes.

  Args:
    job: Job. matrices: Matrices; None on all processes but 0.
    direction: 'text_to_video' or 'video_to_text'.
    weights: cpn.Weights; alpha and c are used. Process 0 alone needs them.
    k: how many, 1 at least.
    budget: at most so many candidates of a query are computed, in part or as
      a whole, the most promising first; queries that this does not suffice for
      are not certified. None = as many as it takes.
    slack: nats by which what is left out must be below the k-th best.

  Returns:
    Found; None on all processes but 0.

  Raises:
    ValueError: for a value above its bound, which names the pair; for k or a
      budget that is too small, an unknown direction, c outside of 0 to 1, a
      slack below 0.
  """
  check(direction, k, budget, slack)
  if weights is not None and not 0 <= weights.c <= 1:
    raise ValueError(f'the weight of the query likelihood is {weights.c}: a '
                     'bound needs 0 to 1')
  search = _Search(job, matrices, direction, weights, k, budget, slack)
  return search.run()


def scores(job, matrices, direction, weights):
  """All scores that are known, float32 [Q, C], -inf elsewhere."""
  known = _known(job, matrices, direction == 'video_to_text').used(weights)
  return np.concatenate([bounds.scores(known.rows(rows), weights)
                         for rows in bounds.blocks(known.shape)])


def check(direction, k, budget, slack=None):
  """Raises ValueError for what no search can do; None = not chosen yet."""
  if direction not in DIRECTIONS:
    raise ValueError(
        f'direction is {direction!r}: use one of {", ".join(DIRECTIONS)}')
  if k < 1:
    raise ValueError(f'k is {k}: want 1 at least')
  if budget is not None and budget < k:
    raise ValueError(f'budget is {budget}, fewer than k = {k}: give at least '
                     'as many pairs per query as are asked for')
  if slack is not None and not 0 <= slack < np.inf:
    raise ValueError(f'slack is {slack}: below 0, pairs that may be among the '
                     'best would be left out; want 0 or more')


class _Search:
  """The state of one search; all but `_known` is the same on all processes."""

  def __init__(self, job, matrices, direction, weights, k, budget, slack):
    self.job, self.matrices, self.weights = job, matrices, weights
    self.by_video = direction == 'video_to_text'
    n_videos, n_texts = len(job.vocabulary), len(job.prompts.labels)
    self.shape = (n_videos, n_texts) if self.by_video else (n_texts, n_videos)
    self.k, self.slack = min(k, self.shape[1]), slack
    self.budget = budget and min(budget, self.shape[1])
    self.parts = {'clips': 'query', 'captions': 'candidate'}
    if not self.by_video:
      self.parts = {'clips': 'candidate', 'captions': 'query'}
    self.known = matrices and _known(job, matrices, self.by_video)
    self.all_tokens = layouts.tokens_of_all(
        job.prompts, job.options, job.mesh, job.vocabulary.shape[:2])
    self.tokens = self.all_tokens.prefixes
    # Of each part, the cells that were asked for.
    self.asked = {part: np.zeros(self.shape, bool) for part in (
        'candidate', 'query')}

  def run(self):
    used = self.known and self.known.used(self.weights)
    kinds = self._shared(2, lambda: np.array([
        getattr(used, part) is not None for part in self.parts.values()]))
    kinds = [kind for kind, is_used in zip(self.parts, kinds) if is_used]
    self.known = used
    seeds = self._shared(self.shape, self._seeds)
    sample = np.zeros(self.shape, bool)
    if self.budget is None:
      sample = _sample(self.shape)
    for kind in kinds:
      self._compute(kind, seeds | sample)
    expected = None
    if self.budget is None and self.matrices:
      expected = self._expected(seeds, sample, kinds)
    still = np.ones(self.shape, bool)
    for kind in kinds:
      still = self._shared(self.shape, self._open, still)
      self._compute(kind, still)
    return self.known and self._found(
        expected, sum(getattr(self.all_tokens, kind) for kind in kinds))

  def _shared(self, shape, make, *args):
    """What process 0 makes of its matrices, bool [shape], on all of them."""
    made = np.zeros(shape, bool) if self.matrices is None else make(*args)
    return processes.of_first(made)

  def _seeds(self):
    """The most promising pairs of each query: k and half as many again."""
    count = self.k + max(2, self.k // 2)
    count = min(count, self.shape[1], self.budget or count)
    chosen = np.zeros(self.shape, bool)
    for rows in bounds.blocks(self.shape):
      order = np.argsort(-self._guess(rows), 1, kind='stable')[:, :count]
      np.put_along_axis(chosen[rows], order, True, 1)
    return chosen

  def _guess(self, rows):
    """Scores [q, C] as they may be: other clips as likely as the first one,
    other labels as they are without the video.

    The first clip says most, and counts also where its weight is small.
    """
    whole = _known(self.job, self.matrices, self.by_video).rows(rows)
    prior = self.matrices.text_prior
    prior = prior[None] if self.by_video else prior[rows, None]
    guessed = {}
    for kind, name in self.parts.items():
      part = getattr(whole, name)
      if part is not None:
        guessed[name] = part.first if kind == 'clips' else (
            part.first + (part.count - 1) * prior) / part.count
    score = cpn.bidirectional(cpn.Direction(
        guessed.get('candidate'), guessed.get('query'), whole.prior),
                              self.weights)
    clips = guessed.get(self.parts['clips'])
    return score if clips is None else score + clips / 2

  def _compute(self, kind, keep):
    """Computes the clips or the captions of pairs [Q, C], as far as open.

    All of them where that takes fewer tokens: captions share beginnings then.
    """
    name, job = self.parts[kind], self.job
    keep = keep & ~self.asked[name]
    if not keep.any():
      return
    share = keep.mean()
    rows = keep if self.by_video == (kind == 'captions') else keep.T
    tokens = _packed_tokens(job, kind, rows)
    if tokens >= getattr(self.all_tokens, kind):
      tokens, rows = getattr(self.all_tokens, kind), None
      keep = np.ones(self.shape, bool)
    logging.info('%.3g %% of the pairs are open: the %s of %s are computed',
                 100 * share, kind, 'all' if rows is None else 'these')
    self.asked[name] |= keep
    self.tokens += tokens
    common = job.model, job.params, job.mesh, job.prompts, job.features
    if kind == 'captions':
      likelihood.score_texts(
          *common, job.options,
          self.matrices and self.matrices.text_given_video, rows)
    else:
      likelihood.score_videos(
          *common, job.vocabulary, job.options,
          self.matrices and self.matrices.video_given_text, rows)
    self._check_bounds()

  def _check_bounds(self):
    found = np.zeros(6)
    for rows in bounds.blocks(self.shape) if self.matrices else ():
      bad = bounds.violation(self.known.rows(rows), self.slack)
      if bad:
        found[:] = (1, bad.part == self.parts['clips'], rows.start + bad.query,
                    bad.candidate, bad.value, bad.most)
        break
    found = processes.of_first(found)
    if not found[0]:
      return
    query, candidate = map(int, found[2:4])
    video, text = (query, candidate) if self.by_video else (candidate, query)
    what, first = (('video | text', 'clip') if found[1] else
                   ('text | video', 'label'))
    raise ValueError(
        f'video {video} and text {text}: log P({what}) is {found[4]:.6g} on '
        f'average, but its first {first} alone allows {found[5]:.6g} at most: '
        'no bound can be relied on; remove the scores and score again, or '
        'raise the slack if this is rounding')

  def _planned(self, rows):
    """bounds.Known of some queries, of what this search has asked for."""
    return self.known.rows(rows).within(
        self.asked['candidate'][rows], self.asked['query'][rows])

  def _threshold(self, rows):
    """[q, 1], the k-th best score of some queries, less the slack."""
    found = bounds.scores(self._planned(rows), self.weights)
    return bounds.thresholds(found, self.k)[:, None] - np.float32(self.slack)

  def _open(self, allowed):
    """The pairs of `allowed` that may be among the best k, as far as open.

    With a budget, the most promising ones. bool [Q, C], as `allowed` is.
    """
    still = np.zeros(self.shape, bool)
    for rows in bounds.blocks(self.shape):
      known = self._planned(rows)
      most = bounds.upper(known, self.weights)
      whole = known.whole()
      still[rows] = (most >= self._threshold(rows)) & ~whole & allowed[rows]
      if self.budget is None:
        continue
      most = np.where(still[rows], most, np.float32(-np.inf))
      place = np.argsort(np.argsort(-most, 1, kind='stable'), 1)
      still[rows] &= place < self.budget - whole.sum(1, keepdims=True)
    return still

  def _expected(self, seeds, sample, kinds):
    """bounds.Share of the tokens of all pairs, seeds included.

    seeds, sample: bool [Q, C], which have been computed.
    """
    queries = np.flatnonzero(sample.any(1))
    columns = np.stack([np.flatnonzero(sample[q]) for q in queries])
    def of(array):
      array = np.broadcast_to(array, self.shape)
      return np.asarray(array[queries[:, None], columns])
    known = bounds.Known(*(part and bounds.Part(*map(of, part))
                           for part in self.known[:2]),
                         None if self.known.prior is None
                         else of(self.known.prior))
    threshold = np.concatenate([self._threshold(slice(q, q + 1))
                                for q in queries])
    names = [self.parts[kind] for kind in kinds]
    share = bounds.expected_share(known, self.weights, threshold, {
        name: getattr(known, name).count - 1 for name in names})
    share = share._replace(expected=min(1.0, share.expected + seeds.mean()))
    logging.info(
        'the best %d of %d are expected to take %.3g %% of the tokens of all '
        'pairs, and %.3g %% at least', self.k, self.shape[1],
        100 * share.expected, 100 * share.least)
    return share

  def _found(self, expected, all_tokens):
    parts = []
    for rows in bounds.blocks(self.shape):
      known = self.known.rows(rows)
      score = bounds.scores(known, self.weights)
      index = np.argsort(-score, 1, kind='stable')
      ranked = np.take_along_axis(score, index, 1)
      last = ranked[:, self.k - 1]
      rest = np.where(known.whole(), np.float32(-np.inf),
                      bounds.upper(known, self.weights)).max(1)
      other = rest
      if self.k < self.shape[1]:
        other = np.maximum(rest, ranked[:, self.k])
      with np.errstate(invalid='ignore'):  # fewer than k are known
        margin = np.where(np.isfinite(last), last - other, -np.inf)
      parts.append((index[:, :self.k], ranked[:, :self.k],
                    rest < last - np.float32(self.slack), margin))
    index, score, certified, margin = map(np.concatenate, zip(*parts))
    assert self.budget is not None or certified.all()
    whole = np.all([self.asked[name] for name in ('candidate', 'query')
                    if getattr(self.known, name)], 0)
    return Found(index, score, certified, margin.astype(np.float32),
                 float(whole.mean()), expected, self.tokens, all_tokens)


def _packed_tokens(job, kind, keep):
  """Tokens that computing the kept pairs [V, T] or [T, V] takes."""
  args = job.prompts, job.options, job.mesh, keep
  strips = (layouts.packed_captions(*args) if kind == 'captions' else
            layouts.packed_clips(*args, job.vocabulary.shape[1]))
  return sum(strip.tokens for strip in strips)


def _sample(shape):
  """bool [Q, C]: some candidates of some queries, the same ones each time."""
  rng = np.random.default_rng(0)
  chosen = np.zeros(shape, bool)
  count = min(SAMPLE[1], shape[1])
  most = int(MOST_SAMPLED * shape[0] * shape[1] / count)
  queries = rng.choice(shape[0], max(1, min(SAMPLE[0], shape[0], most)),
                       replace=False)
  for query in queries:
    chosen[query, rng.choice(shape[1], count, replace=False)] = True
  return chosen


def _known(job, matrices, by_video):
  """bounds.Known [Q, C] of a direction: views of the matrices."""
  lengths = np.array([len(x) for x in job.prompts.labels], np.float32)
  captions = bounds.Part(
      matrices.text_given_video, matrices.first_label, lengths[None])
  clips = matrices.video_given_text is not None and bounds.Part(
      matrices.video_given_text, matrices.first_clip,
      np.full((1, 1), job.vocabulary.shape[1], np.float32))
  def transposed(part):
    return part and bounds.Part(*(array.T for array in part))
  if by_video:
    return bounds.Known(captions, transposed(clips) or None,
                        np.asarray(matrices.text_prior)[None])
  return bounds.Known(clips or None, transposed(captions),
                      matrices.video_prior)
