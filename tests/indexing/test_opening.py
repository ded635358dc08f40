"""The model of an index: opened late, by the files that it was made by."""
import json
import shutil

import pytest

import jaxret
from jaxret import loading
from jaxret.indexing import opening
from tests import tiny_index

tiny_index.lancedb()


@pytest.fixture
def made(tmp_path):
  shutil.copytree(tiny_index.CLIP, tmp_path / 'model')
  tiny_index.picture(tmp_path / 'm' / 'a.png', 0)
  run(tmp_path)
  return tmp_path


def run(path, model='model', **options):
  return jaxret.index(path / 'm', path / model, path / 'i',
                      show_progress=False, **options)


def test_a_run_without_news_opens_no_model(made, monkeypatch):
  def load(*args, **kwargs):
    raise AssertionError('it is opened')
  monkeypatch.setattr(loading, 'load', load)
  assert run(made).unchanged == 1


def test_the_same_model_elsewhere_is_the_same(made):
  shutil.copytree(made / 'model', made / 'copy')
  assert run(made, 'copy').unchanged == 1
  (made / 'model').rename(made / 'moved')
  with pytest.raises(ValueError, match='no such directory'):
    jaxret.open_index(made / 'i')
  assert jaxret.open_index(made / 'i', made / 'moved').search('a')


def test_other_weights_under_the_same_name_are_refused(made):
  import numpy as np
  import safetensors.numpy
  file = made / 'model' / 'model.safetensors'
  tensors = safetensors.numpy.load_file(file)
  name = sorted(tensors)[3]
  tensors[name] = np.array(tensors[name] * 2)
  safetensors.numpy.save_file(tensors, file, {'format': 'pt'})
  with pytest.raises(ValueError, match='another weights; use the model') as e:
    run(made)
  assert str(made / 'model') in str(e.value) and '\n' not in str(e.value)
  with pytest.raises(ValueError, match='another weights; use the model'):
    jaxret.open_index(made / 'i')


def test_another_way_of_reading_is_refused_when_the_model_is_opened(made):
  """As by another version of jaxret, which reads the same files otherwise."""
  path = made / 'i' / 'index.jaxret'
  described = json.loads(path.read_text())
  described['model']['reader'] = 'x'
  path.write_text(json.dumps(described))
  opened = jaxret.open_index(made / 'i')
  for _ in range(2):
    with pytest.raises(ValueError, match='another tokenizer, prompt or res'):
      opened.search('a')


def test_options_are_kept_and_others_refused(made):
  with pytest.raises(ValueError, match='recipe: got a tuple, which an index'):
    run(made, recipe=())
  other = run(made, alpha='white')  # as it is by default
  assert other.unchanged == 1
  with pytest.raises(ValueError, match='another tokenizer, prompt or resolut'):
    run(made, alpha='released')
  with pytest.raises(ValueError, match='dtype has no effect'):
    opening.Opener(tiny_index.model(), {'dtype': 'float32'})
