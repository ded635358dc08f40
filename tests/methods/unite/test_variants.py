"""What UNITE's paper says of training, as rows that can be compared."""
import pathlib

import pytest

from configs import unite, unite_claims
from jaxret.methods import embedding_run
from jaxret.methods import unite as method
from tests import tiny_embedding, tiny_runs


def stages(config):
  """{row: (config, updates with those it goes on from)}."""
  found = {}
  for stage in embedding_run.stages(config, pathlib.Path('')):
    before = found[stage.config.starts_from][1] if (
        stage.config.starts_from) else 0
    found[stage.row] = stage.config, before + stage.config.train.steps
  return found


@pytest.mark.parametrize('variant', unite_claims.VARIANTS)
def test_rows_that_are_compared_have_as_many_updates(variant):
  config = unite.get_config(variant)
  embedding_run.check_config(config)
  found = stages(config)
  compared = [pair for pair in method.PAIRS if set(pair) <= set(found)]
  assert compared
  for row, baseline in compared:
    assert found[row][1] == found[baseline][1]
    own, other = (found[name][0] for name in (row, baseline))
    for section in ('model', 'data', 'optim', 'seed', 'vision', 'media'):
      assert own[section] == other[section]
    assert own.train.batch_size == other.train.batch_size


def test_what_is_compared_differs_in_what_it_is_named_after():
  rows = {variant: {name: config for name, (config, _) in stages(
      unite.get_config(variant)).items()} for variant in unite_claims.VARIANTS}
  own, plain = rows['stages']['unite'], rows['stages']['plain']
  assert own.pairs == plain.pairs and not own.pairs.per_source
  assert (own.loss.modality_mask, plain.loss.modality_mask) == (True, False)
  assert rows['stages']['one_stage'].pairs == rows['stages']['unite'].pairs
  assert rows['stages']['one_stage'].loss == rows['stages']['unite'].loss
  assert [rows['stage1_data'][name].pairs.sources for name in (
      'video_text', 'image_text', 'text_text')] == [
          ('text_to_video',), ('text_to_image',), ('text_to_text',)]
  for variant in ('stage1_data', 'grains'):
    assert not any(config.loss.modality_mask
                   for config in rows[variant].values())


def test_a_batch_cannot_be_of_one_source_and_of_several():
  config = unite.get_config('stages')
  config.pairs.aligned = True
  embedding_run.check_config(config)  # the first stage says otherwise
  config.pairs.per_source, config.loss.modality_mask = True, False
  with pytest.raises(ValueError, match='pairs.aligned puts several'):
    embedding_run.check_config(config)


@pytest.mark.slow
def test_grains_are_trained_on_and_evaluated(tmp_path, one_device):
  flags = {'data.root': tmp_path / 'shapes', **tiny_embedding.MODEL,
           **tiny_embedding.SIZES, 'coarse.train.steps': 2,
           'fine_after.train.steps': 2, 'data.shape': (220, 1, 16),
           'eval.shape': (220, 1, 16), 'pairs.sources': (
               'coarse_text_to_video', 'fine_text_to_video')}
  assert tiny_embedding.run(
      'grains', tmp_path / 'run', *tiny_embedding.flags(flags)) == 0
  results = tiny_runs.results(tmp_path / 'run')
  for task in ('fine_text_to_video', 'video_to_coarse_text', 'text_to_image'):
    assert list(results[task]) == ['coarse', 'fine_after', 'unite']
    tiny_runs.check_differences(results, task, [('unite', 'fine_after')])
