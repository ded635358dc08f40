import json
import subprocess
import sys

import pytest

from jaxret.data import text

CAPTIONS = [
    'a red square moves left', 'a blue circle moves up slowly',
    'two green triangles cross, one behind the other',
    'Ein großer roter Kreis', 'un carré bleu', 'červený čtverec',
]


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  out_dir = tmp_path_factory.mktemp('text') / 'bpe'
  return text.train_tokenizer(CAPTIONS, 600, out_dir)


def test_trained_tokenizer_round_trips_any_text(tokenizer):
  for caption in (*CAPTIONS, 'unseen: 日本語 🎬 <image>', '  two  spaces\n'):
    assert tokenizer.decode(tokenizer.encode(caption)) == caption


def test_text_encoder_tokenizer_marks_start_and_end(tokenizer, tmp_path):
  text.train_tokenizer(CAPTIONS, 600, tmp_path / 'bpe')
  found = text.load_text_encoder_tokenizer(tmp_path / 'bpe', 6)
  start, = tokenizer.encode(text.START)
  for caption in ('a red square', 'a red square moves left and then up again'):
    whole = [start, *tokenizer.encode(caption), tokenizer.end_id]
    wanted = whole if len(whole) <= 6 else whole[:5] + whole[-1:]
    assert found.encode(caption) == wanted
  assert found.vocab_size == tokenizer.vocab_size


def test_text_encoder_tokenizer_keeps_the_marks_of_bert(tmp_path):
  import tokenizers
  vocab = {'[PAD]': 0, '[CLS]': 1, '[SEP]': 2, '[UNK]': 3, 'red': 4, 'blue': 5}
  fast = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(vocab, unk_token='[UNK]'))
  fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  fast.post_processor = tokenizers.processors.TemplateProcessing(
      single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)])
  fast.save(str(tmp_path / 'tokenizer.json'))
  (tmp_path / 'tokenizer_config.json').write_text(
      json.dumps({'pad_token': '[PAD]'}))
  found = text.load_text_encoder_tokenizer(tmp_path, 4)
  assert found.encode('red blue') == [1, 4, 5, 2]
  assert found.encode('red blue red green') == [1, 4, 5, 2]
  assert found.encode('green') == [1, 3, 2]
  bare = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(vocab, unk_token='[UNK]'))
  bare.save(str(tmp_path / 'tokenizer.json'))
  with pytest.raises(ValueError, match='marks no start and end of a text'):
    text.load_text_encoder_tokenizer(tmp_path, 4)


def test_control_tokens_are_one_token_each(tokenizer):
  for mark in (text.PAD, text.START, text.END):
    assert len(tokenizer.encode(mark)) == 1
  assert tokenizer.encode(text.PAD) == [tokenizer.pad_id]
  assert tokenizer.encode(text.END) == [tokenizer.end_id]
  assert max(tokenizer.encode(''.join(CAPTIONS))) < tokenizer.vocab_size <= 600


def test_training_is_deterministic_across_processes(tokenizer, tmp_path):
  script = ('import sys; from jaxret.data import text; text.train_tokenizer('
            f'{CAPTIONS!r}, 600, sys.argv[1])')
  subprocess.run([sys.executable, '-c', script, tmp_path / 'bpe'], check=True)
  again = text.load_tokenizer(tmp_path / 'bpe')
  for caption in CAPTIONS:
    assert again.encode(caption) == tokenizer.encode(caption)


def test_training_twice_leaves_the_files_alone(tmp_path):
  text.train_tokenizer(CAPTIONS, 400, tmp_path / 'bpe')
  path = tmp_path / 'bpe' / 'tokenizer.json'
  before = path.stat().st_mtime_ns, path.read_bytes()
  text.train_tokenizer(CAPTIONS, 400, tmp_path / 'bpe')
  assert (path.stat().st_mtime_ns, path.read_bytes()) == before
  with pytest.raises(ValueError, match='other captions or another vocab_size'):
    text.train_tokenizer(CAPTIONS, 401, tmp_path / 'bpe')
  assert [p.name for p in tmp_path.iterdir()] == ['bpe']


@pytest.mark.parametrize('captions, size', [([], 500), (CAPTIONS, 200)])
def test_training_needs_captions_and_room(tmp_path, captions, size):
  with pytest.raises(ValueError, match='wanted at least 259'):
    text.train_tokenizer(captions, size, tmp_path / 'bpe')


@pytest.mark.parametrize('name', ['missing/deep/dir', './nowhere', ''])
def test_missing_tokenizer_is_one_line(tmp_path, name):
  with pytest.raises(ValueError, match='tokenizer') as error:
    text.load_tokenizer(tmp_path / name)
  assert '\n' not in str(error.value)


def test_broken_tokenizer_is_one_line(tmp_path):
  (tmp_path / 'tokenizer.json').write_text('{"model":')
  with pytest.raises(ValueError, match='cannot be read') as error:
    text.load_tokenizer(tmp_path)
  assert '\n' not in str(error.value)


def test_files_of_an_editor_that_marks_them_are_read(tmp_path):
  trained = text.train_tokenizer(CAPTIONS, 600, tmp_path / 'bpe')
  for name in ('tokenizer.json', 'tokenizer_config.json'):
    (tmp_path / name).write_bytes(
        b'\xef\xbb\xbf' + (tmp_path / 'bpe' / name).read_bytes())
  assert text.load_tokenizer(tmp_path).encode('a dog') == (
      trained.encode('a dog'))


@pytest.mark.parametrize('before, behind', [
    ([], []), ([], [text.PAD]), ([text.START], [text.END, text.PAD])])
def test_what_a_tokenizer_adds_by_itself_is_known(tmp_path, before, behind):
  trained = text.train_tokenizer(CAPTIONS, 600, tmp_path)
  assert trained.added == ((), ())
  file = tmp_path / 'tokenizer.json'
  whole = json.loads(file.read_text())
  ids = {token: trained.encode(token) for token in before + behind}
  def special(tokens):
    return [{'SpecialToken': {'id': token, 'type_id': 0}} for token in tokens]
  whole['post_processor'] = {
      'type': 'TemplateProcessing', 'pair': [],
      'single': [*special(before), {'Sequence': {'id': 'A', 'type_id': 0}},
                 *special(behind)],
      'special_tokens': {token: {'id': token, 'ids': found, 'tokens': [token]}
                         for token, found in ids.items()}}
  file.write_text(json.dumps(whole))
  (tmp_path / 'trained_on.json').unlink()  # it is not the one that was trained
  found = text.load_tokenizer(tmp_path)
  assert found.added == tuple(
      tuple(ids[token][0] for token in tokens) for tokens in (before, behind))
  assert found.encode('a dog') == trained.encode('a dog')


@pytest.mark.slow  # transformers takes most of it to import
def test_vocab_and_merges_are_read_through_transformers(tokenizer, tmp_path):
  """The layout of older checkpoints, without tokenizer.json."""
  text.train_tokenizer(CAPTIONS, 600, tmp_path / 'bpe')
  model = json.loads((tmp_path / 'bpe/tokenizer.json').read_text())['model']
  old = tmp_path / 'old'
  old.mkdir()
  (old / 'vocab.json').write_text(json.dumps(model['vocab']))
  (old / 'merges.txt').write_text(
      '#version: 0.2\n' + '\n'.join(map(' '.join, model['merges'])))
  (old / 'tokenizer_config.json').write_text(json.dumps({
      'tokenizer_class': 'Qwen2Tokenizer', 'pad_token': text.PAD,
      'eos_token': text.END, 'additional_special_tokens': [text.START]}))
  again = text.load_tokenizer(old)
  string = f'{text.START}user\n{CAPTIONS[3]}{text.END}\n'
  assert again.encode(string) == tokenizer.encode(string)
  assert (again.pad_id, again.end_id) == (tokenizer.pad_id, tokenizer.end_id)


@pytest.mark.parametrize('name', ['tokenizer.json', 'tokenizer_config.json'])
def test_a_trained_tokenizer_that_was_changed_is_refused_by_name(
    tmp_path, name):
  """Two swapped words would give other ids, and no word of it."""
  text.train_tokenizer(['a red dog', 'a blue cat'], 300, tmp_path / 'made')
  path = tmp_path / 'made' / name
  whole = path.read_bytes()
  def train(made):
    return text.train_tokenizer(['a red dog', 'a blue cat'], 300, made)
  for spoilt in (whole.replace(b'{', b'{ ', 1), whole[:40], b'\xff' + whole,
                 b''):
    path.write_bytes(spoilt)
    for read in (text.load_tokenizer, train):
      with pytest.raises(ValueError, match='is damaged.*trained again') as got:
        read(tmp_path / 'made')
      assert str(path) in str(got.value) and '\n' not in str(got.value)
  path.write_bytes(whole)
  text.load_tokenizer(tmp_path / 'made')
  # One of somebody else's making has no sums, and one of before neither.
  record = tmp_path / 'made' / 'trained_on.json'
  record.write_text('{"fingerprint": "1"}')
  text.load_tokenizer(tmp_path / 'made')
  record.write_text('{"finger')
  with pytest.raises(ValueError, match=f'{record} is damaged'):
    text.load_tokenizer(tmp_path / 'made')
