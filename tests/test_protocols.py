"""The protocol manifest: what was read, and whether it is the paper's."""
import hashlib

import ml_collections
import numpy as np
import pytest

from jaxret import protocols
from jaxret.data import types
from jaxret.data.sets import mixed
from jaxret.report import manifest
from tests import hub_caches


def split(n=3, captions=1, files=(), texts=None):
  videos = tuple(types.Item(f'{i}.mp4', video=f'/x/{i}.mp4') for i in range(n))
  said = tuple(types.Item(f'{i}#{k}', (texts or 'of {}').format(i))
               for i in range(n) for k in range(captions))
  return types.Split('folder', 'test', videos, said,
                     np.repeat(np.arange(n, dtype=np.int32), captions),
                     files=tuple(map(str, files)))


def both(one):
  return one.text_to_video(), one.video_to_text()


CONFIG = ml_collections.ConfigDict({
    'data': {'test_fraction': 1.0, 'train_on_all': False, 'subsets': (),
             'limit_s': 30.0, 'columns': {}},
    'media': {'n_frames': 8, 'fps': 2.0, 'read_image': (1, 2)}})


def added(one, root, name='folder', counts=None, **given):
  results = {'dataset': name, 'split': 'test', 'sizes': {
      'videos': len(one.videos), 'texts': len(one.texts)}, **given}
  protocols.add(results, CONFIG, str(root), both(one),
                counts or protocols.counts_of(results))
  return results


def test_it_says_what_was_read_and_how(tmp_path):
  file = tmp_path / 'captions.json'
  file.write_text('[]')
  made = added(split(files=[file]), tmp_path)['protocol']
  assert made['rows'] == {
      'text_to_video': {'queries': 3, 'candidates': 3, 'relevant': 3},
      'video_to_text': {'queries': 3, 'candidates': 3, 'relevant': 3}}
  assert made['files'] == [{'name': 'captions.json', 'bytes': 2,
                            'sha256': hashlib.sha256(b'[]').hexdigest()}]
  assert made['frames'] == {'media.n_frames': 8, 'media.fps': 2.0,
                            'data.limit_s': 30.0}
  assert made['splits'] == {'test_fraction': 1.0, 'train_on_all': False,
                            'subsets': ()}
  assert (made['source'], made['repository']) == (str(tmp_path), None)
  assert ('captions.json', f'2 bytes, SHA-256 {made["files"][0]["sha256"]}'
          ) in manifest.table({'protocol': made})
  assert manifest.table({}) == []


def test_the_content_is_what_is_asked_and_what_answers_it():
  one = protocols.content_sha256(both(split()))
  assert one == protocols.content_sha256(both(split(files=['elsewhere'])))
  others = [split(4), split(texts='on {}'), split(captions=2)]
  assert len({one, *(protocols.content_sha256(both(other))
                     for other in others)}) == 4
  def pooled(grade):
    return protocols.content_sha256([mixed.Task(
        't', (types.Item('q', 'x'),), ('',), ({'a': grade},), 'p', 'text')],
                                    [(types.Item('a', 'y'),)])
  assert pooled(1) != pooled(2)


def test_a_snapshot_names_its_repository_and_its_hashes(tmp_path, monkeypatch):
  hub_caches.use(monkeypatch, tmp_path)
  made = hub_caches.snapshot(tmp_path, 'friedrichor/MSR-VTT',
                             {'data/test.json': b'[1]'})
  for root in ('hf://friedrichor/MSR-VTT', str(made)):
    found = added(split(files=[made / 'data' / 'test.json']), root)
    assert found['protocol']['repository'] == 'friedrichor/MSR-VTT'
    assert found['protocol']['revision'] == hub_caches.COMMIT
    (file,) = found['protocol']['files']
    assert file['name'] == 'data/test.json'
    assert file['sha256'] == hashlib.sha256(b'[1]').hexdigest()
    assert found['note'] == (
        'not the protocol of papers on MSR-VTT 1k-A: 3 media, papers say '
        '1,000, 3 texts, papers say 1,000 (by their word, not counted here)')
  monkeypatch.setattr(protocols, 'MOST_BYTES', 1)
  protocols._sha256.cache_clear()
  large = tmp_path / 'large.json'
  large.write_bytes(b'[2]')
  assert added(split(files=[large]), tmp_path)['protocol']['files'][0][
      'sha256'] is None
  protocols._sha256.cache_clear()


@pytest.mark.parametrize('name, repository, counts, said', [
    ('msrvtt_1ka', None, (879, 879), '879 media, papers say 1,000'),
    ('msrvtt_1ka', None, (1000, 1000), ''), ('msvd', None, (670, 3), ''),
    ('didemo', None, (1003, 1003), ''),
    ('didemo', None, (900, 1004), '900 media, papers say 1,003 or 1,004'),
    ('folder', 'friedrichor/ActivityNet_Captions', (4917, 4917),
     'said to be encoded anew, which was not checked'),
    ('folder', 'mteb/ActivityNet_Captions_val2', (4884, 4884),
     'it is of val_2, papers report on val_1, 4,884 media, papers say 4,917'),
    ('folder', 'me/pets', (3, 3), ''), ('msrvtt', None, None, '')])
def test_it_says_where_it_is_not_the_papers_protocol(
    name, repository, counts, said):
  found = protocols.differences(
      {'dataset': name, 'repository': repository}, counts)
  assert (len(found) == 1 and said in found[0]) if said else found == []


def test_a_note_that_is_there_stays():
  found = added(split(), '', 'msvd', note='trained on it')
  assert found['note'].startswith('trained on it; not the protocol of papers')
  assert found['protocol']['source'] == 'made here'
