"""The model card says what the run says, and nothing of the machine."""
import json
import shlex

import pytest

from jaxret import checkpoint, main
from jaxret.exporting import card
from tests import tiny_runs

FACTS = card.Facts('transformers', 'qwen2_vl', '', 'float32', False, 'load')
UNITE = str(tiny_runs.ROOT / 'configs' / 'unite.py')


def written(tmp_path, config, facts=FACTS, **options):
  out = tmp_path / 'out'
  out.mkdir(exist_ok=True)
  card.write(out, tmp_path, config, facts, **options)
  return (out / card.FILE).read_text()


def test_results_notes_and_protocol_are_the_runs(tmp_path):
  (tmp_path / 'results.txt').write_text('test: 40 texts\n text_to_video 12.5\n')
  (tmp_path / 'results.json').write_text(json.dumps({
      'note': 'trained on 1 of these', 'left_out': 3,
      'protocol': {'rows': 879}}))
  text = written(tmp_path, main.load_config(UNITE))
  for part in ('text_to_video 12.5', 'trained on 1 of these', '3 items',
               '"rows": 879', 'arxiv:2505.19650', 'license: apache-2.0'):
    assert part in text
  assert 'was not evaluated' not in text


@pytest.mark.parametrize('head, given, want', [
    ('---\nlicense: mit\n---\n', None, 'mit'), ('no head', None, 'other'),
    ('---\nlicense: mit\n---\n', 'cc-by-4.0', 'cc-by-4.0')])
def test_the_licence_is_that_of_the_base(tmp_path, head, given, want):
  (tmp_path / 'base').mkdir()
  (tmp_path / 'base' / 'README.md').write_text(head)
  config = main.load_config(UNITE)
  text = written(tmp_path, config, FACTS._replace(base=str(tmp_path / 'base')),
                 licence=given)
  assert f'license: {want}\n' in text
  assert ('No licence was stated' in text) == (want == 'other')
  assert str(tmp_path) not in text and 'base_model: DIR/base' in text


def test_the_command_makes_such_a_config(tmp_path):
  """Its flags on its variant are the fields of the run."""
  flags = ['--config.seed=3', "--config.pairs.sources=('text_to_video',)",
           '--config.pairs.weights=(1.0,)', '--config.optim.betas=(0.9, 0.99)']
  config, _ = main.parse(['jaxret', f'--config={UNITE}:stage2', *flags])
  command = card.command(config)
  assert command.startswith('jaxret run --config=configs/unite.py:stage2 \\')
  again, _ = main.parse(['jaxret', *shlex.split(
      command.replace('\\\n', ' '))[2:]])
  assert checkpoint.plain_config(again) == checkpoint.plain_config(config)


def test_paths_are_cut(tmp_path):
  config = main.load_config(UNITE)
  config.data.root = str(tmp_path / 'secret' / 'media')
  text = written(tmp_path, config)
  assert 'DIR/media' in text and 'secret' not in text
  assert 'secret' not in (tmp_path / 'out' / 'run.json').read_text()


def test_a_method_from_elsewhere_has_no_command():
  config = main.load_config(UNITE)
  config.method = 'mine.method'
  assert 'run.json has all fields' in card.command(config)


def test_a_method_is_called_as_its_package_says(tmp_path):
  text = written(tmp_path, main.load_config(UNITE))
  assert '\n# UNITE, trained from scratch\n' in text
