"""The cascade of a run: which pairs of a split it scores, what that loses.

Where validation is scored exhaustively, it says for each K how often the K
best of the first stage hold what exhaustive scoring finds; `eval.agreement`
chooses K by it for the split that is reported.
"""
import math
import pathlib
from typing import NamedTuple

import numpy as np

from jaxret import processes
from jaxret.methods.blim import evaluator, first_stage, phases
from jaxret.methods.blim import scores as scores_lib
from jaxret.scoring.likelihood import cascades, cpn

# What the guarantee of a conformal K takes for granted.
CONDITIONS = (
    'the queries of both splits, each with its candidates, are exchangeable: '
    'drawn alike, and as many candidates',
    'the weights count as fixed, although they were chosen on the same queries')


class Plan(NamedTuple):
  """alpha of the first clips' prior, and of each query what is scored.

  topk: {direction: K}, or 0 = all. told: {direction: what validation says of
  it, for the results}; None where it says nothing, and on processes but 0.
  """
  alpha: float
  topk: int | dict[str, int]
  told: dict | None = None


def check(config):
  """Raises ValueError for fields of a cascade that do not go together."""
  e = config.eval
  for name in ('topk', 'agreement'):
    if e[name] and not e.first_stage:
      raise ValueError(
          f'eval.{name} is {e[name]}, but eval.first_stage is not set: set it '
          f"to 'clip', 'tower' or an .npz file, or eval.{name}=0 to score all "
          'pairs')
  if e.topk and e.agreement:
    raise ValueError(f'eval.topk is {e.topk} and eval.agreement {e.agreement}: '
                     'the latter chooses how many are scored, set one to 0')
  if not 0 <= e.agreement < 1:
    raise ValueError(f'eval.agreement is {e.agreement}: want a share of the '
                     'queries, such as 0.95')
  if e.agreement and 'validation' not in e.splits[:-1]:
    raise ValueError("eval.agreement chooses K on 'validation': name it in "
                     'eval.splits, before the split that is reported')
  if e.first_stage == first_stage.CLIP and e.zero_shot:
    raise ValueError("eval.first_stage is 'clip', but eval.zero_shot is set: "
                     'the head that predicts clips is untrained, take an .npz '
                     'file')


def evaluate(config, workdir, mesh, method, params, splits, options):
  """({name of split: its Directions}, what results say of the cascade).

  The latter is None without a first stage; both are on process 0 alone, the
  Directions being None elsewhere. splits: as results.write takes them.
  """
  found, last = {}, list(splits)[-1]
  plan, about = _fixed(config), None
  for name in sorted(splits, key=lambda name: name != 'validation'):
    data, scorer = splits[name], method.scorer
    inputs = evaluator.inputs(scorer, data.split, data.features,
                              zero_shot=config.eval.zero_shot)
    common = scorer.model, params, mesh
    place = options, pathlib.Path(workdir) / 'scores' / name
    learns = bool(name == 'validation' != last and config.eval.first_stage
                  and not config.eval.topk)
    phases.begin(
        config, phases.scoring(name),
        f'{len(data.split.videos)} videos x {len(data.split.texts)} texts, '
        + ("the first stage's best" if plan.topk else 'exhaustively'))
    stage_of = _stage(config, data, common, inputs, place)
    if learns:
      scored = evaluator.evaluate(*common, inputs, *place)
      plan = _learned(config, scored, data.split, stage_of, splits[last].split)
      stage = stage_of(plan.alpha)
      found[name] = scored and {
          direction: parts._replace(first_stage=stage[direction])
          for direction, parts in scored.items()}
      continue
    inputs = inputs._replace(first_stage=stage_of(plan.alpha), topk=plan.topk)
    found[name] = evaluator.evaluate(*common, inputs, *place)
    if name == last and inputs.first_stage is not None:
      about = _told(config, plan, inputs)
  return found, about


def _fixed(config):
  """The Plan of the config alone, with the paper's alpha."""
  weights = scores_lib.paper_weights(config)
  return Plan(weights['text_to_video']['blim'].alpha, config.eval.topk)


def _stage(config, data, common, inputs, place):
  """Function of alpha -> {direction: [Q, C]}, or None without a first stage."""
  if config.eval.first_stage == first_stage.CLIP:
    return first_stage.from_clips(*common, inputs, *place).scores
  return lambda alpha: data.first_stage


def _learned(config, scored, split, stage_of, last):
  """The Plan that validation gives, the same on every process."""
  numbers, told = np.zeros(3), None
  if scored:
    numbers, told = _calibrated(config, scored, split, stage_of, last)
  numbers = processes.of_first(numbers)
  topk = dict(zip(evaluator.DIRECTIONS, map(int, numbers[1:])))
  few = any(k < len(getattr(last, name)().candidates)
            for name, k in topk.items())
  # Rounded: on its way it was float32.
  return Plan(round(float(numbers[0]), 6),
              topk if config.eval.agreement and few else 0, told)


def _calibrated(config, scored, split, stage_of, last):
  """(alpha and each direction's K, what is told of each direction)."""
  answers = evaluator.relevant(split)
  weights = {name: _blim(scored[name], answers[name]) for name in scored}
  alpha = weights['text_to_video'].alpha
  placed = {name: cascades.places(scores)
            for name, scores in stage_of(alpha).items()}
  ks, told = [], {}
  for name, direction in scored.items():
    scores = cpn.bidirectional(direction, weights[name])
    told[name] = {'table': _table(placed, name, scores)}
    ks.append(0)
    if config.eval.agreement:
      ks[-1], told[name]['guarantee'] = _chosen(
          config.eval.agreement, cascades.depths(placed[name], scores),
          scores.shape[1], len(getattr(last, name)().candidates))
      told[name]['held_out'] = _held_out(
          scored, answers, stage_of, name, config.eval.agreement)
  return np.array([alpha, *ks]), told


def _blim(direction, relevant):
  return cpn.choose(direction, relevant)['blim']


def _table(placed, name, scores):
  """[{'k', 'pairs_percent', 'best', 'ten_best'}]: K against agreement.

  pairs_percent: of all, where either direction keeps K; best, ten_best: see
  `_agreement`.
  """
  ks = cascades.grid(scores.shape[1])
  by_text, by_video = (placed[name].T if name == 'video_to_text'
                       else placed[name] for name in evaluator.DIRECTIONS)
  return [{'k': k, 'pairs_percent': 100 * float(
              ((by_text <= k) | (by_video <= k)).mean()),
           'best': _agreement(best), 'ten_best': _agreement(ten)}
          for k, (best, ten) in zip(
              ks, cascades.table(placed[name], scores, ks))]


def _agreement(found):
  """{'queries', 'percent', 'ci95'} of a cascades.Agreement."""
  return {'queries': found.queries, 'percent': 100 * found.share,
          'ci95': [100 * end for end in found.interval]}


def _chosen(agreement, depths, n_calibrated, n_candidates):
  """(K of a split of n candidates, what is guaranteed of it)."""
  k = cascades.conformal_k(depths, agreement, n_calibrated)
  guarantee = {'agreement': agreement, 'holds': True,
               'conditions': list(CONDITIONS)}
  if n_candidates != n_calibrated:
    # Nothing is known of another number of candidates; as a guess, an answer
    # lies deeper in a larger set by as much as that is larger.
    k = min(n_candidates, math.ceil(k * max(1, n_candidates / n_calibrated)))
    guarantee.update(holds=False, conditions=[], why_not=(
        f'{n_calibrated:,} candidates in validation, {n_candidates:,} here'))
  if k == n_candidates:
    guarantee = {'agreement': agreement, 'holds': True, 'conditions': [],
                 'because': 'all candidates are scored'}
  return k, guarantee


def _held_out(scored, answers, stage_of, name, agreement):
  """Agreement on queries that neither weights nor K were chosen on.

  Each half of validation, every other query, is kept by what the whole
  procedure chooses on the other half. None for a single query.
  """
  queries = len(answers[name])
  if min(map(len, answers.values())) < 2:
    return None
  kept = 0
  for half in (0, 1):
    chosen = {of: _blim(*_part(scored[of], answers[of], half)) for of in {
        name, 'text_to_video'}}
    placed = cascades.places(
        stage_of(chosen['text_to_video'].alpha)[name])
    scores = cpn.bidirectional(scored[name], chosen[name])
    depths = cascades.depths(placed, scores)
    k = cascades.conformal_k(depths[half::2], agreement, scores.shape[1])
    kept += int((depths[1 - half::2] <= k).sum())
  return _agreement(cascades.Agreement(queries, kept))


def _part(direction, relevant, half):
  """Every other query of a Direction and of its answers."""
  own = [m if m is None or len(m) == 1 < len(relevant) else m[half::2]
         for m in direction]
  return cpn.Direction(*own), relevant[half::2]


def _told(config, plan, inputs):
  """`cascade` of results.json."""
  keep = evaluator.either_kept(inputs)
  about = {'first_stage': config.eval.first_stage,
           'agreement': config.eval.agreement or None,
           'pairs_percent': 100.0 if keep is None else 100 * float(keep.mean())}
  if config.eval.first_stage == first_stage.CLIP:
    about['alpha'] = plan.alpha
  for name in evaluator.DIRECTIONS:
    n_candidates = inputs.first_stage[name].shape[1]
    k = plan.topk[name] if isinstance(plan.topk, dict) else plan.topk
    about[name] = {'k': min(k, n_candidates) if k else n_candidates,
                   'candidates': n_candidates, **(plan.told or {}).get(name, {
                       'why_not': 'validation was not scored exhaustively'}
                           if k else {})}
  return about


def tables(about):
  """`tables` of results.json: what a reader is shown of a cascade."""
  shown = [{'title': _title(about), 'rows': [
      ('direction', 'K', 'of', 'best kept on validation, held out', '95 %',
       'guaranteed'),
      *((name.replace('_', ' '), f'{about[name]["k"]:,}',
         f'{about[name]["candidates"]:,}',
         *_percent(about[name].get('held_out')), _guaranteed(about[name]))
        for name in evaluator.DIRECTIONS)]}]
  for name in evaluator.DIRECTIONS:
    if 'table' in about[name]:
      shown.append({
          'title': f'{name.replace("_", " ")}: what the first stage keeps of '
                   'exhaustive scoring, on validation',
          'rows': [('K', 'pairs of both directions', 'best kept', '95 %',
                    'ten best kept'),
                   *((f'{row["k"]:,}', f'{row["pairs_percent"]:.1f} %',
                      *_percent(row['best']), _percent(row['ten_best'])[0])
                     for row in about[name]['table'])]})
  return shown


def _title(about):
  """What is scored, and what the guarantee takes for granted."""
  text = (f'{about["pairs_percent"]:.1f} % of the pairs are scored: of each '
          f'query, the K best of the first stage ({about["first_stage"]})')
  conditions = next((about[name]['guarantee']['conditions']
                     for name in evaluator.DIRECTIONS if about[name].get(
                         'guarantee', {}).get('conditions')), None)
  if conditions:
    text += '; the guarantee takes for granted that ' + ', and that '.join(
        conditions)
  return text


def _percent(found):
  """('95.5 %', '91.6-97.9') of an agreement, dashes where there is none."""
  if found is None:
    return '-', '-'
  low, high = found['ci95']
  return f'{found["percent"]:.1f} %', f'{low:.1f}-{high:.1f}'


def _guaranteed(of):
  """One cell: what is guaranteed of a direction, or why nothing is."""
  guarantee = of.get('guarantee', {'holds': False, **of})
  if guarantee['holds']:
    return (f'{100 * guarantee["agreement"]:g} %'
            if guarantee['conditions'] else f'all: {guarantee["because"]}')
  return f'no: {guarantee["why_not"]}' if 'why_not' in guarantee else '-'
