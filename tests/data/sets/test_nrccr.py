"""Files of captions in two languages, and what is wrong in them."""
import pytest

from jaxret.data import sets
from jaxret.data.sets import multi30k, nrccr

ENGLISH = ('2#enc#0 A dog, running!', '2#enc#1 Two dogs.', '1#enc#0 A cat')
GERMAN = ('1#enc2de#0 Eine Katze', '2#enc2de#1 Zwei Hunde.',
          '2#enc2de#0 Ein Hund')
TEXTS = {'Flickr30ktrain_enc': ENGLISH,
         'Flickr30ktrain_google_enc2de': GERMAN,
         'multi30kval_de': ('5.jpg#de#0 Ein Pferd', '4#de#0 Ein Schaf',
                            '5#de#1 Noch ein Pferd')}
IDS = {'train_id.txt': ('1', '2'), 'val_id.txt': ('4', '5', '6')}


@pytest.fixture
def root(tmp_path):
  for name, lines in TEXTS.items():
    write(tmp_path / 'TextData' / f'{name}.caption.txt', lines)
  for name, lines in IDS.items():
    write(tmp_path / 'img_id' / name, lines)
  for visual in '12456':
    write(tmp_path / 'caption' / f'{visual}.txt', [f'Image {visual}.'])
  return tmp_path


def write(path, lines):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


def change(root, name, lines):
  write(root / 'TextData' / f'{name}.caption.txt', lines)


def load(root, split='train', **changes):
  return nrccr.read(**{
      'layout': multi30k.LAYOUT, 'root': root, 'split': split, 'language': 'de',
      'descriptions': root / 'caption', 'media': 'images', **changes})


def test_captions_are_paired_by_key(root):
  split = load(root)
  assert [(a.text, b.text) for a, b in zip(
      split.texts, split.translations)] == [
      ('a dog running', 'ein hund'), ('two dogs', 'zwei hunde'),
      ('a cat', 'eine katze')]
  assert split.text_video.tolist() == [1, 1, 0]  # lines of train_id.txt
  assert [video.image for video in split.videos] == [
      'images/1.jpg', 'images/2.jpg']
  assert split.descriptions == ('Image 1.', 'Image 2.')


@pytest.mark.parametrize('mark, end', (('', '\r\n'), ('\ufeff', '\n')))
def test_files_of_any_editor_pair_by_lines(root, mark, end):
  """What only Python takes for an end of a line is part of a caption."""
  odd = ('2#enc2de#0 Ein\u2028Hund', '1#enc2de#0 Eine\x85Katze',
         '2#enc2de#1 Zwei\x0bHunde\rhier')
  name = 'Flickr30ktrain_google_enc2de'
  (root / 'TextData' / f'{name}.caption.txt').write_bytes(
      (mark + end.join((*odd, ''))).encode())
  for file in (root / 'img_id').iterdir():
    file.write_bytes((mark + file.read_text().replace('\n', end)).encode())
  (root / 'caption' / '1.txt').write_bytes(f'{mark}Image 1.{end}'.encode())
  split = load(root)
  assert [text.text for text in split.translations] == [
      'ein\u2028hund', 'zwei\x0bhunde\rhier', 'eine\x85katze']
  assert [video.id for video in split.videos] == ['1', '2']
  assert split.descriptions == ('Image 1.', 'Image 2.')


def test_gallery_is_in_the_order_of_the_captions(root):
  split = load(root, 'validation')
  assert [video.id for video in split.videos] == ['5', '4']
  assert split.text_video.tolist() == [0, 1, 0]
  assert split.descriptions == ('Image 5.', 'Image 4.')
  assert not split.translations


def test_descriptions_may_come_from_a_cache_or_not_at_all(root):
  cache = {'1': 'one', '2': 'two', '9': 'nine'}
  assert load(root, descriptions=cache).descriptions == ('one', 'two')
  assert load(root, descriptions=None).descriptions == ()


@pytest.mark.parametrize('name, language, split, wanted', [
    ('mscoco', 'zh', 'test', ('mscocotest_zh', 'zh_test_id.txt')),
    ('mscoco', 'ja', 'test', ('mscocotest_1k_ja', 'ja_test_id.txt')),
    ('mscoco', 'ja', 'validation', ('mscocoval_ja', 'ja_val_id.txt')),
    ('vatex', 'zh', 'test', ('vatextest_zh', 'test_id.txt')),
    ('msrvttcn', 'zh', 'validation', ('msrvtt10kcnval_zh', 'val_id.txt')),
    ('multi30k', 'cs', 'test', ('multi30ktest_cs_2016', 'test_id_2016.txt')),
])
def test_files_of_every_data_set(tmp_path, name, language, split, wanted):
  folder = 'video_id' if name in ('vatex', 'msrvttcn') else 'img_id'
  change_ids = tmp_path / folder / wanted[1]
  write(tmp_path / 'TextData' / f'{wanted[0]}.caption.txt',
        [f'a_1#{language}#0 狗', f'b#{language}#0 猫'])
  write(change_ids, ['a_1', 'b'])
  if name == 'mscoco':
    write(tmp_path / folder / 'image_ids.txt',
          ['a_1 COCO_1.jpg', 'b COCO_2.jpg'])
    write(tmp_path / 'caption' / 'COCO_1.txt', ['First.'])
    write(tmp_path / 'caption' / 'COCO_2.txt', ['Second.'])
  else:
    write(tmp_path / 'caption' / 'a_1.txt', ['First.'])
    write(tmp_path / 'caption' / 'b.txt', ['Second.'])
  layout = sets.get(name, 'parallel').LAYOUT
  found = nrccr.read(layout, tmp_path, split, language,
                     tmp_path / 'caption', 'media')
  assert [text.text for text in found.texts] == ['狗', '猫']
  assert found.descriptions == ('First.', 'Second.')
  medium = found.videos[0].image or found.videos[0].video
  assert medium == {'mscoco': 'media/COCO_1.jpg', 'multi30k': 'media/a_1.jpg'
                    }.get(name, 'media/a_1.mp4')
  lines = nrccr.id_lines(layout, tmp_path, split, language)
  assert lines['b'] == f'{change_ids}, line 2'


@pytest.mark.parametrize('name, lines, message', [
    ('Flickr30ktrain_google_enc2de', GERMAN[:2],
     r"enc.caption.txt, line 1: '2#enc#0' has no pair '2#enc2de#0' in .*2de"),
    ('Flickr30ktrain_enc', ENGLISH[:2],
     r"enc2de.caption.txt, line 1: '1#enc2de#0' has no pair in English"),
    ('Flickr30ktrain_google_enc2de',
     (GERMAN[0], '2#de#0 Ein Hund', GERMAN[1]),
     r"enc2de.caption.txt, line 2: got the tag 'de', wanted 'enc2de', mach"),
    ('Flickr30ktrain_enc', (*ENGLISH, '2#enc#1 Dogs'),
     r"enc.caption.txt, line 4: the key '2#enc#1' is already on line 2"),
    ('Flickr30ktrain_enc', ('2#enc#0',), "line 1: got '2#enc#0', wanted 'id#"),
    ('Flickr30ktrain_enc', ('2 A dog',), "line 1: got '2 A dog', wanted 'id#"),
    ('Flickr30ktrain_enc', ('2#fr#0 x',), "line 1: got the tag 'fr', wanted"),
    ('Flickr30ktrain_enc', (*ENGLISH[:2], '1#enc#0 ...!'),
     'enc.caption.txt, line 3: the caption is nothing but punctuation'),
    ('Flickr30ktrain_enc', (), 'is empty'),
])
def test_wrong_captions_are_named_by_file_and_line(
    root, name, lines, message):
  change(root, name, lines)
  refused(message, lambda: load(root))


def refused(message, call):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)


def test_ids_that_do_not_fit_are_named_by_file_and_line(root):
  write(root / 'img_id' / 'train_id.txt', ['1', '3'])
  refused(r"enc.caption.txt, line 1: '2' is not in .*train_id.txt",
          lambda: load(root))
  write(root / 'img_id' / 'train_id.txt', ['1', '2', '1'])
  refused(r"train_id.txt, line 3: got '1' again", lambda: load(root))
  write(root / 'img_id' / 'train_id.txt', ['1', '', '2'])
  refused('train_id.txt, line 2: got an empty line', lambda: load(root))
  (root / 'img_id' / 'train_id.txt').unlink()
  refused('has no train_id.txt in img_id, video_id', lambda: load(root))


def test_a_missing_description_is_named_by_file_and_line(root):
  (root / 'caption' / '2.txt').unlink()
  message = r"train_id.txt, line 2: '2' has no description in .*1 of 2 are mi"
  refused(message, lambda: load(root))
  refused(message, lambda: load(root, descriptions={'1': 'one', '2': ' '}))


def test_names_of_files_that_do_not_fit_are_refused(root):
  refused("data.name 'coco' is unknown; did you mean 'mscoco'",
          lambda: sets.get('coco', 'parallel'))
  refused('no such file', lambda: load(root, language='fr'))
  refused("not named as a translation; wanted '..._enc2xx'",
          lambda: nrccr.translated_language('train.fr.caption.txt'))
  path = root / 'TextData' / 'multi30kval_de.caption.txt'
  path.write_bytes(b'5#de#0 \xff\n')
  refused('not a text in UTF-8', lambda: load(root, 'validation'))
