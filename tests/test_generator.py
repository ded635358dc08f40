"""What continues prompts is opened from files, or refused in one line."""
import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import jaxret
from jaxret import embedder
from jaxret.models import generation
from tests import test_sequences, tiny_generators

SAVED = pathlib.Path(__file__).parent / 'models' / 'checkpoints' / '5.24.0'
WORDS = ('<|endoftext|>', '<|im_start|>', '<|im_end|>', *map(str, range(3, 28)),
         '<|image_pad|>', '<|video_pad|>', '<|vision_start|>',
         '<|vision_end|>')


def checkpoint(case, directory):
  """A saved checkpoint with a tokenizer of words that are numbers."""
  import tokenizers
  shutil.copytree(SAVED / case, directory, dirs_exist_ok=True)
  fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(
      {word: i for i, word in enumerate(WORDS)}, unk_token='3'))
  fast.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  fast.add_special_tokens([w for w in WORDS if w.startswith('<')])
  fast.save(str(directory / 'tokenizer.json'))
  (directory / 'tokenizer_config.json').write_text(json.dumps(
      {'pad_token': WORDS[0], 'eos_token': WORDS[2]}))
  return directory


@pytest.mark.parametrize('case', [
    'qwen2_vl_untied', pytest.param('qwen2_vl_tied', marks=pytest.mark.slow)])
def test_a_saved_model_scores(case, tmp_path):
  model = jaxret.load_generator(
      checkpoint(case, tmp_path), resolution=tiny_generators.RESOLUTION)
  assert repr(model).startswith('Generator(qwen2_vl, ')
  item = {'image': tiny_generators.pixels(0, 28, 28), 'text': '7 8 9'}
  found = jaxret.score_sequences([item, '5'], ['4 5', '6'], model,
                                 show_progress=False)
  want = [[test_sequences.whole_pass(model, prefix, suffix).sum()
           for suffix in ('4 5', '6')] for prefix in (item, '5')]
  np.testing.assert_allclose(found, want, atol=1e-4)


def test_a_model_may_be_named_by_its_directory(tmp_path):
  path = checkpoint('qwen2_vl_tied', tmp_path)
  given = ['4 5 6'], ['7 8', '9']
  np.testing.assert_array_equal(
      jaxret.score_sequences(*given, path, show_progress=False),
      jaxret.score_sequences(*given, jaxret.load_generator(path),
                             show_progress=False))


def test_like_configs_share_what_is_compiled():
  one, other = (tiny_generators.qwen2_vl() for _ in range(2))
  assert one.continuation is other.continuation


@pytest.mark.parametrize('case, change, options, said', [
    ('qwen2_vl_bare', {}, {}, 'lm_head'),
    ('clip', {}, {}, "got model_type 'clip', want .*qwen2_vl"),
    ('qwen2_vl_tied', {'model_type': 'gpt_bigcode'}, {},
     "got model_type 'gpt_bigcode', want .*qwen2_vl"),
    ('qwen2_vl_tied', {}, {'alpha': 'black'}, 'alpha'),
    ('qwen2_vl_tied', {}, {'dtype': 'int8'}, 'dtype'),
])
def test_what_cannot_be_opened_is_one_line(
    case, change, options, said, tmp_path):
  path = checkpoint(case, tmp_path) / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
  with pytest.raises(ValueError, match=said) as error:
    jaxret.load_generator(tmp_path, **options)
  assert '\n' not in str(error.value)


# What each backbone reads.
PREFIXES = {
    'llava': ['a dog', {'image': tiny_generators.pixels(0, 8, 16)},
              {'image': tiny_generators.pixels(1, 30, 12), 'text': 'A photo'},
              {'image': [tiny_generators.pixels(2, 8, 8),
                         tiny_generators.pixels(3, 9, 20)],
               'text': 'First <|IMAGE|> and then <|IMAGE|>, a'}],
    'videochat': ['a dog', {'image': tiny_generators.pixels(0, 8, 8)},
                  {'video': tiny_generators.pixels(1, 6, 8, 8),
                   'text': 'They'},
                  {'video': tiny_generators.pixels(2, 4, 12, 9),
                   'text': 'Here <|VIDEO|> they'}],
    'qwen2': ['a dog', 'two cats']}
SUFFIXES = (' dog', ' dog runs on the grass', ' dog runs', 'yes', 'no')


@functools.cache
def _start(model):
  def run(batch):
    hidden, _, _ = model.continuation.start(model.params, batch)
    return model.continuation.vocabulary_terms(model.params, hidden)
  return jax.jit(run)


def next_logits(model, prompt):
  """Of the token behind a prompt, float64 [V]."""
  terms = _start(model)(
      model.reader.pad([prompt], model.reader.bucket(prompt)))
  return sum(np.asarray(left, np.float64) @ np.asarray(right, np.float64)
             for left, right in terms)[0]


def token_by_token(model, item, suffix, chat=False, masked=False):
  """log P of each token: the prompt is read anew with all before it, [L]."""
  read = model.reader.masked if masked else model.reader
  prompt = read(embedder.as_item(item, 0), chat)
  found = []
  for token in model.reader.suffix(suffix, 'suffix'):
    logits = next_logits(model, prompt)
    found.append(logits[token] - np.logaddexp.reduce(logits))
    prompt = longer(prompt, token)
  return np.array(found)


def longer(prompt, token):
  """The prompt with one more token of text."""
  def appended(name, value):
    array = getattr(prompt, name)
    return {name: np.append(array, np.full_like(array[..., :1], value), -1)}
  more = {name: value for field in ('image', 'patch') if hasattr(prompt, field)
          for name, value in appended(field, -1).items()}
  return prompt._replace(
      **appended('tokens', token),
      **appended('positions', prompt.positions[..., -1].max() + 1), **more)


@pytest.fixture(scope='module', params=list(PREFIXES))
def backbone(request):
  return request.param, getattr(tiny_generators, request.param)()


@pytest.mark.slow
@pytest.mark.parametrize('chat, masked', [(False, False), (True, True)])
def test_every_backbone_scores_as_it_reads(backbone, chat, masked):
  name, model = backbone
  prefixes = [one for one in PREFIXES[name] if not masked or isinstance(
      one, str) or 'text' in one]
  found = jaxret.score_sequences(
      prefixes, SUFFIXES, model, chat=chat, mask_media=masked, per_token=True,
      show_progress=False)
  for p, prefix in enumerate(prefixes):
    for s, suffix in enumerate(SUFFIXES):
      np.testing.assert_allclose(
          found.token_log_likelihood[p, s],
          token_by_token(model, prefix, suffix, chat, masked), atol=2e-5)


@pytest.mark.slow
def test_every_backbone_gives_the_same_bits_in_any_order(backbone):
  name, model = backbone
  def score(rows, columns):
    return jaxret.score_sequences(
        [PREFIXES[name][i] for i in rows], [SUFFIXES[i] for i in columns],
        model, rows=2, columns=2, show_progress=False)
  counts = len(PREFIXES[name]), len(SUFFIXES)
  want, rng = score(*map(range, counts)), np.random.default_rng(0)
  assert np.isfinite(want).all()
  for _ in range(5):
    rows, columns = map(rng.permutation, counts)
    np.testing.assert_array_equal(
        score(rows, columns), want[np.ix_(rows, columns)])


@pytest.mark.slow
def test_every_backbone_writes_what_is_most_likely(backbone):
  """Step after step as reading all of it anew would."""
  name, model = backbone
  prompt = model.reader(embedder.as_item(PREFIXES[name][-1], 0), True)
  batch = model.reader.pad([prompt], model.reader.bucket(prompt))
  written = np.asarray(generation.greedy(
      model.module, 4, (), model.params, batch).tokens)[0]
  for token in written:
    assert token == next_logits(model, prompt).argmax()
    prompt = longer(prompt, token)


@pytest.mark.parametrize('name, item, said', [
    ('llava', {'video': 'a.mp4'}, 'reads text and images alone'),
    ('llava', {'image': 'none.png'}, 'x: its image'),
    ('llava', {'text': '<image>'}, 'x: its text holds the control token <imag'),
    ('llava', {'text': '<|IMAGE|>'}, 'x: its text has 1 marks'),
    ('llava', {'text': ''}, 'x: it is empty'),
    ('qwen2', {'image': 'a.png'}, 'x: it has an image, the model reads text'),
    ('qwen2', {'text': ''}, 'x: it is empty'),
    ('videochat', {'video': 'none.mp4'}, 'x: no such file'),
    ('videochat', {'image': 'a.png', 'video': 'a.mp4'}, 'x: it shows several'),
])
def test_what_a_backbone_cannot_read_is_one_line(name, item, said):
  model = getattr(tiny_generators, name)()
  with pytest.raises(ValueError, match=said) as error:
    jaxret.score_sequences([{**item, 'id': 'x'}], ['a'], model,
                           show_progress=False)
  assert '\n' not in str(error.value)


def test_masked_media_at_the_end_are_refused():
  for name in ('llava', 'videochat'):
    with pytest.raises(ValueError, match='prefix 0: it ends in'):
      jaxret.score_sequences(
          PREFIXES[name][1:2], ['a'], getattr(tiny_generators, name)(),
          mask_media=True, show_progress=False)
