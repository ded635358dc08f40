"""The converter of Multi30K's original texts."""
import gzip
import subprocess
import sys

import pytest

from jaxret.data.sets import multi30k, nrccr

TEXTS = {
    'train.en': ('A dog.', 'A cat.', 'A horse.'),
    'train.fr': ('Un chien.', 'Un chat.', 'Un cheval.'),
    'train.images.txt': ('11.jpg', '12.jpg', '13.jpg'),
    'val.fr': ('Un mouton.', 'Une vache.'),
    'val.images.txt': ('21.jpg', '22.jpg'),
    'test_2016_flickr.fr': ('Une chèvre.', 'La chèvre.'),
    'test_2016_flickr.images.txt': ('31.jpg', '31.jpg'),
}
MACHINE = ('Chien.', 'Un chat.', 'Le cheval.')


@pytest.fixture
def texts(tmp_path):
  """Some of the files compressed, as they are published."""
  for number, (name, lines) in enumerate(TEXTS.items()):
    write(tmp_path / 'texts' / name, lines, number % 2)
  return tmp_path / 'texts'


def write(path, lines, compressed=False):
  path.parent.mkdir(exist_ok=True)
  data = ''.join(f'{line}\n' for line in lines).encode()
  if compressed:
    path.with_name(f'{path.name}.gz').write_bytes(gzip.compress(data))
  else:
    path.write_bytes(data)


def test_what_is_written_is_read_as_a_data_set(texts, tmp_path):
  machine = tmp_path / 'machine.fr'
  write(machine, MACHINE)
  written = multi30k.convert(texts, tmp_path / 'out', 'fr', machine)
  assert list(written.values()) == [3, 3, 2, 2]
  train = nrccr.read(multi30k.LAYOUT, tmp_path / 'out', 'train', 'fr')
  assert [text.id for text in train.texts] == [
      '11#enc#0', '12#enc#0', '13#enc#0']
  assert [text.text for text in train.translations] == [
      'chien', 'un chat', 'le cheval']
  test = nrccr.read(multi30k.LAYOUT, tmp_path / 'out', 'test', 'fr')
  assert [text.id for text in test.texts] == ['31#fr#0', '31#fr#1']
  assert [text.text for text in test.texts] == ['une chèvre', 'la chèvre']
  assert [video.id for video in test.videos] == ['31']
  validation = nrccr.read(multi30k.LAYOUT, tmp_path / 'out', 'validation', 'fr')
  assert len(validation.texts) == len(validation.videos) == 2


def test_without_translations_there_is_nothing_to_train_on(texts, tmp_path):
  written = multi30k.convert(texts, tmp_path / 'out', 'fr')
  assert 'Flickr30ktrain_google_enc2fr' not in written
  with pytest.raises(ValueError, match='enc2fr.caption.txt: no such file'):
    nrccr.read(multi30k.LAYOUT, tmp_path / 'out', 'train', 'fr')


def test_texts_that_people_wrote_are_refused(texts, tmp_path):
  """Also under another name, and with a few lines changed."""
  for lines in (TEXTS['train.fr'], (*TEXTS['train.fr'][:2], 'Autre.')):
    human = tmp_path / 'given.fr'
    write(human, lines)
    with pytest.raises(ValueError, match='which people wrote') as caught:
      multi30k.convert(texts, tmp_path / 'out', 'fr', human)
    assert 'given.fr, line 1: ' in str(caught.value)
    assert '\n' not in str(caught.value)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name, lines, message', [
    ('val.fr', ('Un mouton.',), 'val.fr, line 2: got 1 captions for the 2 im'),
    ('val.fr', ('Un mouton.', ' '), 'val.fr, line 2: got an empty caption'),
])
def test_wrong_files_are_named_by_line(texts, tmp_path, name, lines, message):
  (texts / f'{name}.gz').unlink(missing_ok=True)
  write(texts / name, lines)
  with pytest.raises(ValueError, match=message):
    multi30k.convert(texts, tmp_path / 'out', 'fr')


def test_command(texts, tmp_path):
  def run(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'jaxret.data.sets.multi30k', '--texts',
         str(texts), '--out', str(tmp_path / 'out'), *arguments],
        capture_output=True, text=True)
  done = run('--language', 'fr')
  assert done.returncode == 0 and 'multi30kval_fr: 2 captions' in done.stdout
  failed = run('--language', 'cs')
  assert failed.returncode == 1
  assert failed.stderr.count('\n') == 1 and 'has no val.cs' in failed.stderr
