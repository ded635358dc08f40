"""Shapes world in other languages: what people say and what machines make."""
import pytest

from jaxret.data.shapes import languages as grammar_languages
from jaxret.data.shapes import parallel as shapes_parallel
from jaxret.data.shapes import world as shapes

SIZES = {'train': 6, 'validation': 4, 'test': 4}
@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return shapes.build(
      tmp_path_factory.mktemp('shapes') / 'corpus',
      dict.fromkeys(SIZES, 1), images=SIZES, renderings=2, progress=False)


def test_splits_pair_languages(root):
  split = shapes_parallel.load(root, 'train', 'fr', per_image=3)
  assert len(split.videos) == 12 and len(split.texts) == 36
  assert len(split.translations) == 36
  assert split.text_video.tolist() == [i // 3 for i in range(36)]
  assert split.texts[0].id == 'train00000#enc#0'
  assert split.translations[0].id == 'train00000#enc2fr#0'
  test = shapes_parallel.load(root, 'test', 'zh')
  assert not test.translations and len({t.text for t in test.texts}) == 4
  same = shapes_parallel.load(root, 'test', 'zh')
  assert [t.text for t in same.texts] == [t.text for t in test.texts]
  kept = test.without([test.videos[0].id])
  assert len(kept.texts) == 3
  with pytest.raises(ValueError, match="no captions in 'ja': choose from de"):
    shapes_parallel.load(root, 'test', 'ja')


def test_english_is_the_same_whatever_the_other_language(root):
  splits = [shapes_parallel.load(root, 'train', language, per_image=2)
            for language in grammar_languages.LANGUAGES]
  for split in splits[1:]:
    assert split.texts == splits[0].texts
    assert split.translations != splits[0].translations


def test_a_query_in_english_is_that_of_the_language(root):
  """By its id; what is trained on is English alone."""
  german, english = (shapes_parallel.load(root, 'test', language)
                     for language in ('de', 'de_to_en'))
  assert [t.id for t in english.texts] == [t.id for t in german.texts]
  assert all(' a ' in f' {t.text}' or ' an ' in f' {t.text}'
             for t in english.texts)
  train = shapes_parallel.load(root, 'train', 'de_to_en', per_image=2)
  assert train.texts == shapes_parallel.load(
      root, 'train', 'de', per_image=2).texts
  known = {word for t in train.texts for word in t.text.split(' ')}
  new = [w for t in train.translations for w in t.text.split(' ')
         if w not in known]
  assert len(new) < 0.2 * len(train.translations)  # synonyms at most
