"""What UNITE and MM-Embed refuse before any work in one line; recipes."""
import pytest

from jaxret import main
from jaxret.data import sets
from tests import tiny_embedding, tiny_mbeir, tiny_mm_embed


@pytest.fixture
def refused(tmp_path, capsys):
  """Runs what must be refused and returns the line that says why."""
  def run(tiny, fields):
    assert tiny.run('', tmp_path / 'run', *tiny.flags(fields)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith('jaxret: ')
    assert not any('Traceback' in line for line in lines)
    assert not list(tmp_path.glob('run/**/checkpoints'))
    return lines[-1]
  return run


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Fields of the default config of UNITE on a small rendered corpus."""
  return {
      'data.root': tmp_path_factory.mktemp('corpus') / 'shapes',
      **tiny_embedding.MODEL, **tiny_embedding.STAGES, **tiny_embedding.SIZES,
      'data.sizes.train': 8, 'data.sizes.test': 8, 'data.images.train': 8,
      'data.images.test': 8}


@pytest.mark.parametrize('fields, message', [
    ({'before': ('tower',)}, "before names 'tower': it can name stage1,"),
    ({'compare': ('stage1',)}, "compare names 'stage1': it can name plain,"),
    ({'starts_from': 'stage2', 'compare': ()}, "unite starts_from 'stage2', "
     'which is not trained before it (before names stage1)'),
    ({'before': ()}, "plain starts_from 'stage1', which is not trained before "
     'it (before names nothing): set starts_from to one that is, or to nothing'
     ),
    ({'pairs.per_source': True}, 'loss.modality_mask has nothing'),
    ({'eval.benchmarks': ('mine',)}, "eval.benchmarks 'mine' is unknown"),
    ({'eval.benchmarks': (), 'task': 'evaluate'}, 'eval.benchmarks is empty'),
    ({'pairs.sources': ('x',), 'pairs.weights': (1.0,)},
     "pairs.sources names 'x'; there is text_to_video"),
    ({'pairs.weights': (1.0,)}, 'pairs.weights has 1 numbers for 2 sources'),
    ({'data.name': 'pairs'}, 'data.pairs names no file'),
    ({'task': 'extract'}, "unknown task 'extract'; there is"),
    ({'task': 'evaluate'}, 'holds no tokenizer: train there first'),
])
def test_unite_settings_that_do_not_go_together(
    refused, corpus, fields, message):
  assert message in refused(tiny_embedding, {**corpus, **fields})


@pytest.mark.parametrize('path, old, new, wanted', (
    (f'cand_pool/local/mbeir_{tiny_mbeir.TASK}_test_cand_pool.jsonl',
     'images/1.jpg', 'images/9.jpg', 'pool.jsonl, line 2: got the image'),
    ('instructions/query_instructions.tsv', 'WebQA\t2', 'WebQA\t3',
     'line 1: got 2:100'),
    (f'qrels/test/mbeir_{tiny_mbeir.SECOND}_test_qrels.txt', '2:1 1', '2:8 1',
     'qrels.txt, line 3: got the candidate 2:8'),
    (f'query/test/mbeir_{tiny_mbeir.TASK}_test.jsonl', 'question 1',
     'an <image>', 'line 2, 9:101: its text holds the image placeholder')))
def test_mm_embed_names_file_and_line(
    refused, tmp_path, path, old, new, wanted):
  """Two of them, which a run leaves out otherwise, since data.strict is set."""
  root = tiny_mbeir.write(tmp_path / 'mbeir')
  file = root / path
  assert old in file.read_text()
  file.write_text(file.read_text().replace(old, new))
  assert wanted in refused(tiny_mm_embed, {
      **tiny_mm_embed.FIELDS, 'eval.benchmarks': ('mbeir',), 'eval.root': root,
      'eval.tasks': (tiny_mbeir.TASK, tiny_mbeir.SECOND), 'data.strict': True})


def test_every_benchmark_has_a_variant():
  for name in sets.offering('tasks'):
    config = main.load_config(f'{tiny_embedding.CONFIG}:{name}')
    assert config.eval.benchmarks == (name,) and config.task == 'evaluate'


@pytest.mark.parametrize('variant, alpha, rate, dual, mask, batch', [
    ('stage1', 16, 1e-4, True, False, 4096),
    ('stage2', 64, 2e-5, False, True, 4096),
    ('stage1_7b', 16, 1e-4, True, False, 1024),
    ('stage2_7b', 64, 2e-5, False, True, 1024)])
def test_recipes_are_the_published_ones(variant, alpha, rate, dual, mask,
                                        batch):
  """Section 7 of the specification, read from the authors' scripts."""
  config = main.load_config(f'{tiny_embedding.CONFIG}:{variant}')
  assert (config.model.lora.rank, config.model.lora.alpha) == (8, alpha)
  assert config.optim.learning_rate == rate
  assert (config.loss.dual, config.loss.modality_mask) == (dual, mask)
  assert config.train.batch_size == batch
  assert ('7B' in config.model.pretrained) == variant.endswith('7b')
