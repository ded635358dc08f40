"""The scoring bench: it scores all pairs, of random captions or real ones."""
import dataclasses

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import presets, scoring
from jaxret.data import text
from jaxret.scoring.likelihood import reference

TINY = presets.PRESETS['tiny']
CAPTIONS = ('a red square', 'a blue circle moves up', 'two', 'a cross')


@pytest.mark.slow
def test_all_pairs_get_the_scores_of_full_passes():
  """Both directions and both priors, of pairs that are not square."""
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  options = scoring.parse(['--preset=tiny', '--videos=3', '--texts=5'])
  job = scoring.Job(options, TINY, scoring.init_params(TINY.vlm, mesh), mesh,
                    scoring.make_prompts(options, TINY.vlm), 3)
  found, seconds, tokens = job.run()
  want = reference.score(
      job.model, job.params, mesh, job.prompts, job.features, job.vocabulary,
      job.text_options)
  assert want.text_given_video.shape == (3, 5)
  for name, value in want._asdict().items():
    np.testing.assert_allclose(
        np.broadcast_to(found[name], value.shape), value, atol=2e-4,
        err_msg=name)
    assert np.ptp(value) > 1e-2
    assert seconds[name] > 0 and tokens[name] > 0


def test_real_captions_wrap_around_the_vocabulary(tmp_path):
  """Lines without text do not count, and no more are taken than are wanted."""
  tokenizer = text.train_tokenizer(CAPTIONS, 300, tmp_path / 'bpe')
  lines = tmp_path / 'captions.txt'
  lines.write_text('\n \n'.join(CAPTIONS))
  model = dataclasses.replace(TINY.vlm, decoder=dataclasses.replace(
      TINY.vlm.decoder, vocab_size=100))
  options = scoring.parse([
      f'--captions={lines}', f'--tokenizer={tmp_path / "bpe"}', '--texts=3'])
  labels = scoring.make_prompts(options, model).labels
  assert len(labels) == 3
  for label, caption in zip(labels, CAPTIONS):
    ids = tokenizer.encode(caption)
    assert max(ids) >= 100 or caption == 'two'
    assert label[:-2].tolist() == [number % 100 for number in ids]


@pytest.mark.parametrize('flag', ['captions', 'tokenizer'])
def test_captions_want_a_tokenizer(flag, capsys):
  with pytest.raises(SystemExit):
    scoring.parse([f'--{flag}=x'])
  assert 'go together' in capsys.readouterr().err


@pytest.mark.slow
def test_the_price_of_fixed_shapes_is_measured(monkeypatch):
  monkeypatch.setattr(scoring, 'PRICE_TURNS', 1)
  mesh = sharding.make_mesh({'data': 1}, jax.devices()[:1])
  options = scoring.parse(
      ['--preset=tiny', '--videos=3', '--texts=5', '--invariant'])
  found = scoring.price(
      options, TINY, scoring.init_params(TINY.vlm, mesh), mesh)
  assert found['ratio'] == found['invariant_seconds'] / found['seconds']
  assert found['invariant_tokens'] > found['tokens']  # tiles that are not full
  assert max(found['largest_difference'].values()) < 1e-4
