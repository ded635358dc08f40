"""What UNITE is trained on: pairs of a split."""
from ml_collections import ConfigDict

from jaxret.methods.unite import sets
from tests.benchmark_files import write


def test_a_split_of_ones_own_is_pairs_both_ways(tmp_path):
  texts = {'t1': ['one', 'two'], 't2': ['three'], 'e1': ['four']}
  for name in texts:
    write(tmp_path / f'{name}.mp4', b'x')
  write(tmp_path / 'captions.json', [
      {'video': f'{name}.mp4', 'caption': caption, 'split': split}
      for name, captions in texts.items()
      for split in ('train' if name.startswith('t') else 'test',)
      for caption in captions])
  pairs = sets.training_pairs(ConfigDict(
      {'data': {'name': 'folder', 'root': str(tmp_path)}}))
  want = [(caption, str(tmp_path / f'{name}.mp4'))
          for name in ('t1', 't2') for caption in texts[name]]
  assert [(pair.query.text, pair.candidate.video)
          for pair in pairs['text_to_medium']] == want
  assert [(pair.candidate.text, pair.query.video)
          for pair in pairs['medium_to_text']] == want
  assert {pair.target_modality for pair in pairs['text_to_medium']} == {'video'}
