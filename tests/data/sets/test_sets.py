"""A data set is a module: found by its name, from here or from elsewhere."""
import json

import ml_collections
import pytest

from jaxret.data import sets
from jaxret.methods import evaluated as evaluated_lib
from jaxret.methods.mm_embed import sets as mm_embed_sets
from jaxret.methods.unite import sets as unite_sets
from tests import tiny_runs
from tests.captions import fails, section

# What the tables of the methods named before there were modules.
NAMED = {
    'load': 'shapes folder didemo activitynet lsmdc msrvtt',
    'training_pairs': 'shapes pairs',
    'tasks': 'flickr30k mscoco msrvtt_1ka msvd didemo sharegpt4v urban1k docci '
             'carebench webvid_covr mmeb',
    'tasks_of_split': 'shapes mteb',
    'training_sets': 'shapes mbeir',
    'benchmark': 'shapes mbeir beir circo mteb',
    'questions': 'shapes mteb_questions',
    'parallel': 'shapes multi30k mscoco vatex msrvttcn cclm'}
# A data set that somebody else wrote: clips of noise, each with its number.
CLIPS = """
import pathlib

import numpy as np

from jaxret.data import types

INSTRUCTION = 'Which number is this?'


def load(section, split):
  files = sorted(pathlib.Path(section.root).glob(f'{split}*.mp4'))
  return types.Split(
      'clips', split, tuple(types.Item(f.stem, video=str(f)) for f in files),
      tuple(types.Item(f'{f.stem}?', text=f'number {f.stem[-2:]}')
            for f in files), np.arange(len(files), dtype=np.int32))
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
  """The name of a module on Python's path that is none of jaxret's."""
  package = tmp_path / 'their_package'
  package.mkdir()
  (package / '__init__.py').write_text('')
  (package / 'clips.py').write_text(CLIPS)
  (package / 'broken.py').write_text('import no_such_thing\n')
  (package / 'empty.py').write_text('')
  monkeypatch.syspath_prepend(tmp_path)
  return 'their_package.clips'


@pytest.fixture
def clips(tmp_path):
  """The files of the data set elsewhere, as many as of a tiny run."""
  root = tmp_path / 'clips'
  root.mkdir()
  for number, (split, size) in enumerate(tiny_runs.SIZES.items()):
    for i in range(size):
      (root / f'{split}{i:02d}.mp4').write_bytes(
          tiny_runs.video_bytes([number, i], 4))
  return root


def refused(name, *needed, **arguments):
  with pytest.raises(ValueError) as error:
    sets.get(name, *needed, **arguments)
  assert '\n' not in str(error.value)
  return str(error.value)


@pytest.mark.parametrize('function', NAMED)
def test_every_data_set_is_found_and_no_layout_is(function):
  names = NAMED[function].split()
  assert sorted(names) == sets.offering(function)
  for name in names:
    assert callable(getattr(sets.get(name, function), function))
  assert set(sets.offering()) == set(' '.join(NAMED.values()).split())


def test_unknown_names(tmp_path):
  fails(section('msrvt', tmp_path), 'test',
                 "'msrvt' is unknown", 'msrvtt')
  fails(section('msrvtt', tmp_path), 'val',
                 "'val' is unknown", 'validation')


def test_an_unknown_name_is_answered_with_those_that_would_do(elsewhere):
  line = refused('mcoco', 'tasks', field='eval.benchmarks')
  assert line.startswith("eval.benchmarks 'mcoco' is unknown; did you mean "
                         "'mscoco'? choose from carebench, didemo, ")
  assert 'lsmdc' not in line and 'nrccr' not in line
  for name in ('nrccr', 'splits', '', '__init__'):  # layouts, and nothing
    assert f'{name!r} is unknown; choose from' in refused(name)
  assert refused('their_packages.clips').endswith(
      "there is no module 'their_packages' on Python's path")
  assert refused('their_package.clip').endswith(
      "there is no module 'their_package.clip' on Python's path")
  with pytest.raises(ModuleNotFoundError, match='no_such_thing'):
    sets.get('their_package.broken')


def test_what_a_set_does_not_have_is_named_with_those_that_have_it(elsewhere):
  assert refused('circo', 'load') == (
      "data.name 'circo' has no load (texts with their videos or images): "
      'choose from activitynet, didemo, folder, lsmdc, msrvtt, shapes')
  assert refused(elsewhere, 'parallel') == (
      "data.name 'their_package.clips' has no parallel (captions in two "
      'languages): choose from cclm, mscoco, msrvttcn, multi30k, shapes, vatex')
  assert "'their_package.empty' has no load and no " in refused(
      'their_package.empty')


def test_every_method_asks_for_what_it_reads():
  config = ml_collections.ConfigDict({
      'data': {'name': 'folder', 'root': ''}, 'seed': 0,
      'eval': {'benchmarks': ('beir',), 'root': '', 'tasks': ()}})
  with pytest.raises(ValueError, match="eval.benchmarks 'beir' has no tasks"):
    evaluated_lib.evaluated(config)
  with pytest.raises(ValueError, match="'folder' has no training_sets"):
    mm_embed_sets.training_sets(config)
  config.update({'data': {'name': 'cclm'}, 'eval': {'benchmarks': ('mmeb',)}})
  with pytest.raises(ValueError, match="'cclm' has no training_pairs and no l"):
    unite_sets.training_pairs(config)
  with pytest.raises(ValueError, match="eval.benchmarks 'mmeb' has no benchm"):
    mm_embed_sets.evaluated(config)


@pytest.mark.slow
def test_a_set_from_elsewhere_is_trained_on_and_evaluated(
    elsewhere, clips, tmp_path):
  workdir = tmp_path / 'run'
  assert tiny_runs.run('', workdir, *tiny_runs.shapes_flags(
      clips, **{'data.name': elsewhere})) == 0
  results = tiny_runs.results(workdir)
  assert results['dataset'] == 'clips' and results['split'] == 'test'
  assert results['sizes'] == {'videos': 6, 'texts': 6}
  assert 'note' not in results
  assert json.loads((workdir / 'config.json').read_text())[
      'data']['name'] == elsewhere


def test_a_set_from_elsewhere_is_asked_its_own_question(elsewhere):
  assert sets.instruction(elsewhere) == 'Which number is this?'
  assert sets.instruction('folder') == 'Describe this video briefly.'


def test_a_set_from_elsewhere_has_pairs_and_tasks(elsewhere, clips, tmp_path):
  section = {'name': elsewhere, 'root': str(clips)}
  config = ml_collections.ConfigDict({
      'data': section, 'eval': {'benchmarks': (elsewhere,), 'root': '',
                                'split': 'test', 'tasks': ()}})
  pairs = unite_sets.training_pairs(config)
  assert {name: len(found) for name, found in pairs.items()} == {
      'text_to_medium': 16, 'medium_to_text': 16}
  of_own, = evaluated_lib.evaluated(config)
  config.data.update(name='pairs', root='')
  config.eval.root = str(clips)
  of_other, = evaluated_lib.evaluated(config)
  for one in (of_own, of_other):
    assert [task.name for task in one.tasks] == [
        'text_to_video', 'video_to_text']
    assert len(one.tasks[0].queries) == 6 and one.recall_at == (1, 5, 10)
    assert one.split.videos[0].video == str(clips / 'test00.mp4')
