"""A work directory of BLiM continues prompts: its own scores are a case."""
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxret
from jaxret.data import sets, types
from jaxret.models.videochat import files as videochat
from tests import tiny_captioner, tiny_runs


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_sequences_of_a_workdir_score_as_its_run(tmp_path):
  flags = tiny_runs.shapes_flags(
      tmp_path / 'corpus', **{'data.limit_s': 1.0, 'data.alpha': 'released'})
  workdir = tmp_path / 'run'
  assert tiny_runs.run('', workdir, *flags) == 0
  config = ConfigDict(json.loads((workdir / 'config.json').read_text()))
  split = sets.load(config.data, 'test')
  question = sets.instruction(config.data.name)
  model = jaxret.load_generator(workdir)
  assert model.reader.alpha == 'released'
  items = [{'video': video.video, 'text': question} for video in split.videos]
  captions = [f'{text.text}<|im_end|>\n' for text in split.texts]
  for name, options in (('text_given_video', {}),
                        ('text_prior', {'mask_media': True})):
    found = jaxret.score_sequences(
        items, captions, model, chat=True, reduction='mean',
        show_progress=False, **options)
    stored = np.load(workdir / 'scores' / 'test' / f'{name}.npy')
    np.testing.assert_allclose(
        found, np.broadcast_to(stored, found.shape), atol=1e-4)
  with pytest.raises(ValueError, match='dtype = .* has no effect on a workdir'):
    jaxret.load_generator(workdir, dtype='bfloat16')


@pytest.mark.slow
def test_videochat_flash_is_opened_from_its_files(tmp_path, monkeypatch):
  for name, value in tiny_runs.TINY_TOWER.items():
    monkeypatch.setattr(videochat, name, value)
  tiny_runs.write_released_model(tmp_path, tiny_captioner.CAPTIONS, 16)
  config = tmp_path / 'config.json'
  config.write_text(json.dumps(
      {**json.loads(config.read_text()), 'model_type': 'videochat_flash_qwen'}))
  model = jaxret.load_generator(tmp_path, clips=2)
  items = [{'video': tiny_runs.video_bytes(0), 'text': 'A'},
           {'video': tiny_runs.video_bytes(1), 'text': 'A'}]
  found = jaxret.score_sequences(
      items, [' dog', 'red'], model, show_progress=False)
  assert np.isfinite(found).all() and (found[0] != found[1]).all()
  shown = model.reader(types.Item('x', 'A', video=items[0]['video']))
  assert (shown.tokens == types.VISUAL).sum() == 2 * 4


def test_a_workdir_of_another_method_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps({'method': 'leccr'}))
  with pytest.raises(ValueError, match="method 'leccr', which continues"):
    jaxret.load_generator(tmp_path)
