"""Whole runs of LECCR: descriptions, every model, results, and again."""
import json

import pytest

from jaxret import main
from jaxret import train as train_lib
from jaxret.data import media
from jaxret.methods.leccr import describe
from jaxret.methods.leccr import method as leccr
from jaxret.methods.leccr import run as leccr_run
from tests import tiny_cross_lingual, tiny_leccr, tiny_runs

pytestmark = pytest.mark.usefixtures('one_device')

ROWS = ['without_softened_matching', 'leccr']
TASKS = {f'{task}_{language}' for task in ('text_to_image', 'image_to_text')
         for language in ('de', 'zh')}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, flags, results) of the default config at tiny size.

  It is stopped in the middle of describing and started again; that run keeps
  images in one place, and makes one step for the captioner and one for all
  models.
  """
  root = tmp_path_factory.mktemp('trained')
  flags = tiny_cross_lingual.shapes_flags(root / 'shapes')
  batches, stores, steps = [], [], []
  with pytest.MonkeyPatch.context() as patch:
    def write(*args, whole=describe._write):
      batches.append(len(args[2]))
      if len(batches) == 2:
        raise KeyboardInterrupt
      return whole(*args)
    patch.setattr(describe, '_write', write)
    assert tiny_cross_lingual.run('', root / 'run', *flags) == 130
    def open_frames(*args, whole=media.Frames, **options):
      stores.append(whole(*args, **options))
      return stores[-1]
    patch.setattr(media, 'Frames', open_frames)
    def make_update(*args, whole=train_lib.make_update):
      steps.append(args[0].name)
      return whole(*args)
    patch.setattr(train_lib, 'make_update', make_update)
    assert tiny_cross_lingual.run('', root / 'run', *flags) == 0
  # 30 images in batches of 8; the second was lost, and none done twice.
  assert batches == [8, 8, 8, 8, 6]
  assert [len(store) for store in stores] == [30]
  assert steps == ['captioner', 'leccr']
  return root / 'run', flags, tiny_runs.results(root / 'run')


@pytest.mark.slow
def test_run_leaves_what_was_promised(trained):
  workdir, _, results = trained
  for name in ('config.json', 'tokenizer', 'captioner/checkpoints/2',
               'descriptions', 'de/leccr/checkpoints/1',
               'zh/without_softened_matching/checkpoints/2', 'results.txt',
               'report.html'):
    assert (workdir / name).exists(), name
  assert set(results['tasks']) == TASKS and results['main_row'] == 'leccr'
  for task in TASKS:
    assert list(results[task]) == ROWS
    assert results['tasks'][task]['chance'] == pytest.approx(10)
  sums = results['sum_of_recalls']
  for language in ('de', 'zh'):
    for row in ROWS:
      chosen = results['selection'][language][row]
      assert chosen['selected_on'] == 'validation' and chosen['step'] in (1, 2)
      assert sums[language][row] == pytest.approx(sum(
          results[f'{task}_{language}'][row][f'recall_at_{k}']
          for task in ('text_to_image', 'image_to_text') for k in (1, 5, 10)))
  page = (workdir / 'report.html').read_text()
  for words in ('without softened matching', 'sum of R@1', 'selected on'):
    assert words in page
  assert 'sum of recalls' in (workdir / 'results.txt').read_text()


@pytest.mark.slow
def test_models_differ_in_what_their_row_says(trained):
  workdir, _, _ = trained
  configs = {row: json.loads(
      (workdir / 'zh' / row / 'config.json').read_text()) for row in ROWS}
  assert configs[ROWS[0]]['loss'].pop('softened_weight') == 0
  assert configs['leccr']['loss'].pop('softened_weight') == 0.5
  assert configs[ROWS[0]] == configs['leccr']


def test_models_share_a_method_and_keep_their_weights(monkeypatch, tmp_path):
  """Two languages and three rows: one Method for each of two models."""
  config = main.load_config(str(tiny_cross_lingual.CONFIG))
  config.update_from_flattened_dict(
      {'data.languages': ('de', 'zh'), **tiny_cross_lingual.MODEL})
  fitted = []
  def fit(method, examples, config, directory, mesh, programs):
    fitted.append((method, examples.constants, config, id(programs)))
  monkeypatch.setattr(train_lib, 'fit', fit)
  keys = [(language, 'train') for language in ('de', 'zh')]
  data = leccr_run.Data(
      {key: tiny_leccr.make_split() for key in keys},
      {key: tiny_leccr.Visuals('image', 7) for key in keys}, {}, {})
  leccr_run.train_all(config, tmp_path, None, data, tiny_leccr.TOKENIZER)
  assert len(fitted) == 6 and len({programs for *_, programs in fitted}) == 1
  methods = [method for method, *_ in fitted]
  assert methods == [methods[0], methods[1], methods[1]] * 2
  assert methods[0] != methods[1]  # without slots
  for row, (_, weights, stage, _) in zip(2 * (1, 0, 1), fitted):
    assert weights == leccr.loss_weights(stage.loss)
    assert weights['softened_weight'] == 0.5 * row


@pytest.mark.slow
def test_rerun_describes_and_trains_nothing(trained):
  workdir, flags, results = trained
  paths = [*workdir.glob('descriptions/*'), *workdir.glob('*/*/metrics.jsonl')]
  before = [path.read_text() for path in paths]
  for task in ('train_and_evaluate', 'evaluate', 'caption'):
    assert tiny_cross_lingual.run(
        '', workdir, *flags, f'--config.task={task}') == 0
    assert tiny_runs.results(workdir) == results
    assert [path.read_text() for path in paths] == before


@pytest.mark.slow
def test_descriptions_of_other_settings_are_refused(trained, tmp_path, capsys):
  workdir, flags, _ = trained
  path = next(workdir.glob('descriptions/*.jsonl'))
  lines = path.read_text().splitlines()
  other = tmp_path / 'descriptions'
  other.mkdir()
  (other / path.name).write_text('\n'.join(lines[:-1]) + '\n')
  lost = json.loads(lines[-1])['id']
  def message(*more):
    assert tiny_cross_lingual.run(
        '', tmp_path / 'run', *flags,
        f'--config.data.descriptions={other}', *more) == 1
    return capsys.readouterr().err.strip().splitlines()[-1]
  assert f'{lost!r} has no description in {other} (1 of' in message()
  mixed = json.loads(lines[-1])
  settings = {**json.loads(lines[0])['settings'], 'decoding': 'sampled'}
  mixed['settings'] = 'f' * 16
  del mixed['crc32']  # as in older lines; with a wrong one it would not count
  (other / 'more.jsonl').write_text(json.dumps(
      {'fingerprint': 'f' * 16, 'settings': settings}) + '\n'
                                    + json.dumps(mixed) + '\n')
  assert 'made with decoding' in message()


@pytest.fixture
def multi30k(tmp_path):
  return tiny_cross_lingual.write_multi30k(tmp_path / 'multi30k')


def refused(root, tmp_path, capsys, variant='multi30k_fr', **fields):
  flags = tiny_cross_lingual.flags({
      'data.root': root, 'model.text_pretrained': '',
      'model.vision_pretrained': '', 'captioner.model.pretrained': '',
      **tiny_cross_lingual.MODEL, 'train.batch_size': 2, **fields})
  assert tiny_cross_lingual.run(variant, tmp_path / 'run', *flags) == 1
  error = capsys.readouterr().err.strip()
  assert 'Traceback' not in error
  assert error.splitlines()[-1].startswith('jaxret: ')
  return error.splitlines()[-1]


def test_captions_without_their_pair(multi30k, tmp_path, capsys):
  path = multi30k / 'TextData' / 'Flickr30ktrain_enc.caption.txt'
  path.write_text(path.read_text() + '2.jpg#enc#1 one more\n')
  line = refused(multi30k, tmp_path, capsys)
  assert f"{path}, line 4: '2.jpg#enc#1' has no pair '2.jpg#enc2fr#1'" in line


def test_incomplete_descriptions(multi30k, tmp_path, capsys):
  texts = tmp_path / 'texts'
  texts.mkdir()
  for i in range(2):
    (texts / f'{i}.txt').write_text('a picture')
  line = refused(multi30k, tmp_path, capsys, **{'data.descriptions': texts})
  assert (f"{multi30k}/img_id/train_id.txt, line 3: '2' has no description in "
          f'{texts} (1 of 3 are missing)') in line


def write_features(directory, n_bytes):
  directory.mkdir()
  (directory / 'shape.txt').write_text('3 8')
  (directory / 'id.txt').write_text('0_0 1_0 2_0')
  (directory / 'feature.bin').write_bytes(bytes(n_bytes))
  (directory / 'video2frames.txt').write_text(
      "{'0': ['0_0'], '1': ['1_0']}")
  return directory


def video_set(multi30k):
  """The same files under the names of MSR-VTT-CN."""
  texts, ids = multi30k / 'TextData', multi30k / 'img_id'
  for old, new in (('Flickr30ktrain_enc', 'msrvtt10kcntrain'),
                   ('Flickr30ktrain_google_enc2fr',
                    'msrvtt10kcntrain_google_enc2zh'),
                   ('multi30kval_fr', 'msrvtt10kcnval_zh'),
                   ('multi30ktest_fr_2016', 'msrvtt10kcntest_zh')):
    content = (texts / f'{old}.caption.txt').read_text()
    (texts / f'{new}.caption.txt').write_text(
        content.replace('enc2fr', 'enc2zh').replace('.jpg', ''))
  (ids / 'test_id.txt').write_text('0\n1\n2\n')
  return multi30k


def test_features_that_are_missing_or_cut(multi30k, tmp_path, capsys):
  root = video_set(multi30k)
  whole = write_features(tmp_path / 'whole', 3 * 8 * 4)
  line = refused(root, tmp_path, capsys, 'msrvtt_zh',
                 **{'data.features': whole})
  assert (f"{root}/img_id/train_id.txt, line 3: '2' has no features in {whole}"
          in line)
  (whole / 'video2frames.txt').write_text(
      "{'0': ['0_0'], '1': ['1_0'], '2': ['2_0']}")
  (whole / 'feature.bin').write_bytes(bytes(50))
  line = refused(root, tmp_path, capsys, 'msrvtt_zh',
                 **{'data.features': whole})
  assert (f'{whole}/feature.bin: got 50 bytes, {whole}/shape.txt, line 1, says '
          '3 x 8 float32, 96 bytes') in line


@pytest.mark.parametrize('variant, fields, message', [
    ('', {'data.languages': ('de', 'ja')}, "has no captions in 'ja'"),
    ('', {'data.languages': ()}, 'data.languages is empty'),
    ('', {'compare': ('without_text',)}, "compare names 'without_text'"),
    ('', {'eval.split': 'train'}, "eval.split is 'train'"),
    ('', {'model.frame_layers': 1}, 'layers over frames go with a directory'),
    ('', {'recipe.preset': 'paper'}, "recipe.preset 'paper' is not known"),
    ('', {'task': 'mine'}, "unknown task 'mine'; there is train_and_evaluate"),
    ('', {'task': 'evaluate'}, 'holds no checkpoints: train there first'),
    ('multi30k_de', {}, 'data.root is not set; give the directory of multi30k'),
    ('multi30k_ja', {}, "has no variant 'multi30k_ja'"),
    ('cclm', {'data.root': '.'}, 'data.files.train is not set'),
])
def test_bad_input_is_answered_by_one_line(
    tmp_path, capsys, variant, fields, message):
  assert tiny_cross_lingual.run(
      variant, tmp_path / 'run', *tiny_cross_lingual.flags(fields)) == 1
  line = capsys.readouterr().err.strip().splitlines()[-1]
  assert line.startswith('jaxret: ') and message in line


def test_recipes_are_the_published_ones():
  """What all have in common; golden data hold the optimizer's numbers.

  What differs from one to the next stands in configs/leccr.py alone, a table
  read from the authors' scripts: no other copy of it could be a witness.
  """
  optim = main.load_config(f'{tiny_cross_lingual.CONFIG}:multi30k_de').optim
  for name in ('multi30k_fr', 'multi30k_cs', 'multi30k_de', 'mscoco_zh',
               'mscoco_ja', 'msrvtt_zh'):
    config = main.load_config(f'{tiny_cross_lingual.CONFIG}:{name}')
    assert config.data.languages == (name[-2:],)
    assert config.optim == optim
    assert config.optim.warmup_fraction == 0.1
    assert (config.train.batch_size, config.model.embedding_width) == (128, 256)
    assert leccr.recipe(config).select_on == 'validation'
    released = main.load_config(f'{tiny_cross_lingual.CONFIG}:{name}_released')
    assert leccr.recipe(released).select_on == 'test'
    assert leccr.recipe(released).query_init == 'zeros'
