"""Workdirs of whole runs: kept from other configs, good after an update."""
import json

import numpy as np
import pytest

import jaxret
from jaxret import checkpoint, main, provenance, workdir_lock
from jaxret.data.sets import shapes
from jaxret.data.shapes import parallel
from tests import tiny_cross_lingual, tiny_embedding, tiny_runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]


def tree(folder):
  return {str(path.relative_to(folder)): path.read_bytes()
          for path in folder.rglob('*') if path.is_file()
          # They name who had it last, and how long all have.
          and path.name not in (workdir_lock.NAME, provenance.SPENT)}


def test_a_second_config_leaves_the_first_ones_models_alone(tmp_path, capsys):
  """With descriptions given LECCR makes nothing but <language>/<row>.

  A second config took the workdir, its tokenizer was trained again, and the
  first one's models were then evaluated with that.
  """
  root, texts, workdir = (tmp_path / name for name in ('s', 'texts', 'run'))
  texts.mkdir()
  first = tiny_cross_lingual.shapes_flags(
      root, **{'data.languages': ('de',), 'compare': (),
               'data.descriptions': texts})
  config, _ = main.parse(
      ['jaxret', f'--config={tiny_cross_lingual.CONFIG}', *first])
  shapes.root_of(config.data)
  for name in config.data.images:
    for image in parallel.load(root, name, 'de', 0, 1).videos:
      (texts / f'{image.id}.txt').write_text('some shapes')
  assert tiny_cross_lingual.run('', workdir, *first) == 0
  before = tree(workdir)
  assert not any(name.startswith(('captioner', 'descriptions'))
                 for name in before)
  assert tiny_cross_lingual.run(
      '', workdir, *first, '--config.model.vocab_size=500') == 1
  line = capsys.readouterr().err.strip().splitlines()[-1]
  assert 'was made by another config: model.vocab_size was 600, now 500' in line
  assert tree(workdir) == before


def test_a_workdir_of_before_the_removal_of_fields_is_loaded(tmp_path):
  """Its config.json says fields that configs no longer have."""
  flags = tiny_embedding.shapes_flags(
      tmp_path / 'shapes', **{'before': (), 'compare': (), 'starts_from': '',
                              'train.steps': 1})
  workdir = tmp_path / 'run'
  assert tiny_embedding.run('', workdir, *flags) == 0
  results = tiny_runs.results(workdir)
  vectors = jaxret.load(workdir).encode(['a red square'], show_progress=False)
  path = workdir / 'config.json'
  config = json.loads(path.read_text())
  old = json.loads((tiny_runs.ROOT / 'tests' / 'old_configs' /
                    'unite.json').read_text())
  for name in checkpoint.REMOVED_FIELDS['unite']:
    section, _, field = name.partition('.')
    config[section][field] = old[section][field]
  config['plan'] = old['plan']
  del config['model']['attention']
  path.write_text(json.dumps(config, indent=2))
  np.testing.assert_array_equal(vectors, jaxret.load(workdir).encode(
      ['a red square'], show_progress=False))
  (workdir / 'results.json').unlink()
  assert tiny_embedding.run('', workdir, *flags, '--config.task=evaluate') == 0
  assert tiny_runs.results(workdir) == results
