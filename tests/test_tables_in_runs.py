"""The same clips in a folder, in parquet and in a zip: the same whole runs."""
import json
import pathlib

import numpy as np
import pytest

from tests import hub_caches, numbered_videos, tables, tiny_runs, tiny_unite
from tests.data.containers.test_archives import zipped

# Whole runs: left to `make test-slow`.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_device')]

UNITE = pathlib.Path(__file__).resolve().parents[1] / 'configs' / 'unite.py'
NAMES = [f'{i}.mp4' for i in range(6)]
CAPTIONS = [f'clip {word} and {word} again' for word in tiny_unite.WORDS[:6]]


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  """{kind: root} of the same six clips."""
  root = tmp_path_factory.mktemp('sources')
  clips = [numbered_videos.video(4 + i) for i in range(6)]
  rows = [{'video': name, 'caption': caption}
          for name, caption in zip(NAMES, CAPTIONS)]
  (root / 'folder').mkdir()
  for name, data in zip(NAMES, clips):
    (root / 'folder' / name).write_bytes(data)
  (root / 'folder' / 'captions.json').write_text(json.dumps(rows))
  table = tables.parquet(
      root / 'table' / 'data' / 'test-00000-of-00001.parquet', 2,
      caption=CAPTIONS, video=(tables.MEDIUM, [
          tables.medium(data, name) for name, data in zip(NAMES, clips)]))
  hub_caches.snapshot(root / 'hub', 'me/clips', {
      'data/test-00000-of-00001.parquet': table.read_bytes()})
  (root / 'zip').mkdir()
  (root / 'zip' / 'test.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  zipped(root / 'zip' / 'clips.zip', {
      f'all/{name}': data for name, data in zip(NAMES, clips)})
  return {'folder': root / 'folder',
          'hub': 'hf://me/clips', 'zip': root / 'zip',
          'cache': root / 'hub'}


def without_source(results):
  kept = {name: value for name, value in results['protocol'].items()
          if name not in ('source', 'files', 'repository', 'revision')}
  return {**results, 'protocol': kept}


def test_blim_trains_and_evaluates_on_both_alike(
    sources, tmp_path, monkeypatch):
  hub_caches.use(monkeypatch, sources['cache'])
  found = {}
  for kind in ('folder', 'hub'):
    assert tiny_runs.run('folder', tmp_path / kind, *tiny_runs.folder_flags(
        sources[kind], **{'train.batch_size': 2,
                          'tower.train.batch_size': 2})) == 0
    found[kind] = tiny_runs.results(tmp_path / kind)
  assert found['folder']['sizes'] == {'videos': 6, 'texts': 6}
  assert without_source(found['hub']) == without_source(found['folder'])
  assert found['hub']['protocol']['repository'] == 'me/clips'
  assert found['hub']['protocol']['revision'] == hub_caches.COMMIT
  losses = [[json.loads(line)['loss'] for line in (
      tmp_path / kind / 'metrics.jsonl').read_text().splitlines()]
            for kind in ('folder', 'hub')]
  np.testing.assert_array_equal(*losses)


def test_unite_trains_and_evaluates_on_both_alike(sources, tmp_path):
  flags = tiny_runs.flags(tiny_unite.SIZES | {
      'model.vocab_size': 300, 'train.batch_size': 4, 'train.epochs': 1.0})
  found = {}
  for kind in ('folder', 'zip'):
    assert tiny_runs.run(
        'folder', tmp_path / kind, f'--config.data.root={sources[kind]}',
        *flags, config=UNITE) == 0
    found[kind] = tiny_runs.results(tmp_path / kind)
  assert without_source(found['zip']) == without_source(found['folder'])
  assert found['folder']['tasks']['text_to_video']['queries'] == 6
