"""Scoring with models that continue prompts: against full passes per pair."""
import collections

import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from jaxret.data import types
from jaxret.methods.blim import prompted
from jaxret.scoring.likelihood import filling, kernels
from tests import tiny_prompted as tiny

ATOL = 2e-4


@pytest.fixture(scope='module')
def model():
  return tiny.qwen3_vl()


@pytest.fixture(scope='module')
def found(model):
  """(Scores of all pairs, tokens through the decoder that they took)."""
  with counting() as tokens:
    scores = jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, model)
  return scores, tokens


class counting:
  """Counts what the compiled parts are given, padding included."""

  def __enter__(self):
    self.patch, tokens = pytest.MonkeyPatch(), collections.Counter()
    prefix, text_tile = kernels.prefix, kernels.text_tile
    def prefixes(model, params, batch):
      tokens['prompts'] += batch['tokens'].size
      return prefix(model, params, batch)
    def texts(model, nonzero, params, first, cache, start, inputs, *labels):
      tokens['texts'] += first.shape[0] * inputs[0].shape[1]
      return text_tile(model, nonzero, params, first, cache, start, inputs,
                       *labels)
    self.patch.setattr(kernels, 'prefix', prefixes)
    self.patch.setattr(kernels, 'text_tile', texts)
    return tokens

  def __exit__(self, *error):
    self.patch.undo()


def test_scores_and_priors_are_those_of_full_passes(model, found):
  scores, _ = found
  assert scores.text_given_video.shape == (12, 20)
  shown = [tiny.asked(item) for item in tiny.ITEMS]
  np.testing.assert_allclose(
      scores.text_given_video,
      tiny.full_passes(model, shown, tiny.TEXTS), atol=ATOL)
  np.testing.assert_allclose(
      scores.text_prior,
      tiny.full_passes(model, shown, tiny.TEXTS, masked=True), atol=ATOL)
  assert np.ptp(scores.text_given_video, 0).min() > 10 * ATOL
  assert np.abs(scores.text_given_video - scores.text_prior
                ).max(1).min() > 10 * ATOL


def test_nothing_is_computed_twice(model, found):
  """At most a tenth more tokens than the least: prompts once, tries behind."""
  answers = [tiny.answer(model, text) for text in tiny.TEXTS]
  shown = [tiny.asked(item) for item in tiny.ITEMS]
  prompts = [len(model.reader(item, chat=True).tokens) for item in shown]
  masked = {(one.tokens.tobytes(), one.positions.tobytes()): len(one.tokens)
            for one in (model.reader.masked(item, chat=True)
                        for item in shown)}
  assert len(masked) < len(shown)
  least = (tiny.least_tokens(prompts, answers)
           + tiny.least_tokens(list(masked.values()), answers))
  assert least < found[1].total() <= 1.1 * least


def test_texts_rank_with_cpn_and_videos_by_the_likelihood_of_texts(found):
  scores, _ = found
  assert scores.video_given_text is None and scores.video_prior is None
  np.testing.assert_array_equal(
      scores.text_to_video(), scores.text_given_video.T)
  assert scores.chosen.on == 'paper'
  for alpha in (None, 0.5):
    np.testing.assert_allclose(
        scores.video_to_text(alpha=alpha), scores.text_given_video
        - np.float32(alpha or 0.8) * scores.text_prior, atol=1e-6)


@pytest.mark.slow
def test_a_call_that_is_stopped_goes_on(model, found, monkeypatch, tmp_path):
  """What is finished stays, to the bit; another prompt is refused."""
  put, done = filling.Filling.put, []
  def stopping(self, s, t, *values):
    if len(done) == 2:
      raise KeyboardInterrupt
    done.append((s, t))
    put(self, s, t, *values)
  given = tiny.ITEMS, tiny.TEXTS, model
  with monkeypatch.context() as patch:
    patch.setattr(filling.Filling, 'put', stopping)
    with pytest.raises(KeyboardInterrupt, match='finished tiles are kept'):
      jaxret.score_matrix(*given, workdir=tmp_path)
  kept = np.load(tmp_path / 'text_given_video.npy')
  assert 0 < np.isnan(kept).sum() < kept.size
  with counting() as tokens:
    again = jaxret.score_matrix(*given, workdir=tmp_path)
  scored = ~np.isnan(kept)
  np.testing.assert_array_equal(again.text_given_video[scored], kept[scored])
  np.testing.assert_allclose(
      again.text_given_video, found[0].text_given_video, atol=1e-5)
  np.testing.assert_allclose(
      again.text_prior, found[0].text_prior, atol=1e-5)
  assert tokens['texts']
  with counting() as tokens:  # all is there
    jaxret.score_matrix(*given, columns=8, workdir=tmp_path)
  assert not tokens
  with pytest.raises(ValueError, match='scores of other inputs: prompts was'):
    jaxret.score_matrix(*given, workdir=tmp_path, instruction='What is it?')


@pytest.mark.slow
def test_eight_devices_score_alike(model, found):
  assert jax.device_count() == 8
  many = tiny.on_mesh(model, sharding.make_mesh({'data': 4, 'fsdp': 2}))
  scores = jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, many)
  for name in ('text_given_video', 'text_prior'):
    np.testing.assert_allclose(
        getattr(scores, name), getattr(found[0], name), atol=2e-5)


@pytest.mark.slow
def test_a_first_stage_says_which_pairs_are_scored(model, found):
  first = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
  scores = jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, model,
                               first_stage=first, topk=2)
  wanted = np.zeros(first.shape, bool)
  for order, mask in ((first, wanted), (first.T, wanted.T)):
    for query, row in enumerate(order):
      mask[query, np.argsort(-row)[:2]] = True
  np.testing.assert_array_equal(~np.isnan(scores.text_given_video), wanted.T)
  np.testing.assert_allclose(
      scores.text_given_video[wanted.T],
      found[0].text_given_video[wanted.T], atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['qwen2_vl', 'qwen25_vl'])
def test_its_forerunners_are_scored_as_well(backbone):
  model = getattr(tiny, backbone)()
  items, texts = tiny.ITEMS[1:9:2], tiny.TEXTS[::4]
  scores = jaxret.score_matrix(items, texts, model)
  shown = [tiny.asked(item) for item in items]
  for masked, values in ((False, scores.text_given_video),
                         (True, scores.text_prior)):
    np.testing.assert_allclose(
        values, tiny.full_passes(model, shown, texts, masked), atol=ATOL)
  assert np.ptp(scores.text_given_video, 0).min() > 10 * ATOL


@pytest.mark.slow
@pytest.mark.parametrize('prior', ['grey', 'noise'])
def test_a_null_medium_gives_a_prior(model, found, prior):
  """Of each kind its own; of noise, the mean probability over three."""
  items, texts = [tiny.ITEMS[0], tiny.ITEMS[6], tiny.ITEMS[3]], tiny.TEXTS[:3]
  scores = jaxret.score_matrix(
      items, texts, model, prior=prior, instruction='Say what you see.')
  np.testing.assert_array_equal(scores.text_prior[0], scores.text_prior[2])
  for row, kind in enumerate(('image', 'video')):
    means = tiny.full_passes(model, [
        tiny.asked(null, 'Say what you see.')
        for null in prompted.null_media(prior, kind)], texts)
    n = np.array([len(tiny.answer(model, text)) for text in texts])
    want = np.log(np.exp(means * n).mean(0)) / n
    np.testing.assert_allclose(scores.text_prior[row], want, atol=ATOL)


def test_media_are_given_in_any_form(model, tmp_path):
  """Each as what it is: paths, bytes, PIL images, frames, dicts and Items."""
  PIL = pytest.importorskip('PIL.Image')
  image = PIL.fromarray(tiny.ITEMS[1])
  image.save(tmp_path / 'one.png')
  path = str(tmp_path / 'one.png')
  frames = [PIL.fromarray(frame) for frame in tiny.ITEMS[7]]
  for given, kind in (
      (path, 'image'), (tmp_path / 'one.png', 'image'), (image, 'image'),
      ((tmp_path / 'one.png').read_bytes(), 'image'),
      ({'image': path}, 'image'), (types.Item('x', image=path), 'image'),
      (tiny.ITEMS[7], 'video'), (frames, 'video'), ({'video': frames}, 'video'),
      ({'video': path}, 'video')):
    item = prompted.item_of(given, 'item 0')
    assert [name for name in ('image', 'video')
            if getattr(item, name) is not None] == [kind]
    found = prompted.inputs(
        model, types.Split('own', 'own', (item,), (
            types.Item('t', text='a red square'),), np.zeros(1, np.int32)))
    said = model.reader.decode(found.outlines[0].tokens)
    assert f'Describe this {kind}.<|im_end|>\n<|im_start|>assistant\n' in said


@pytest.mark.parametrize('items, texts, options, said', [
    ([], ['a'], {}, 'got no items'),
    ('a.png', ['a'], {}, 'items: got one str, wanted a list'),
    (['none.png'], ['a'], {}, 'none.png: .* no such file'),
    ({'cat': 'none.png', 'dog': 'none.mp4'}, ['a'], {},
     r'cat: .* no such file.* \(and 1 other items\)'),
    ([{'image': 'a.png', 'text': 'b'}], ['a'], {},
     'item 0: got image and text, want one image or one video'),
    ([{'image': tiny.ITEMS[0], 'video': tiny.ITEMS[6]}], ['a'], {},
     'item 0: got image and video'),
    ([{'image': [tiny.ITEMS[0]] * 2}], ['a'], {}, 'item 0: got 2 images'),
    ([np.zeros((2, 64, 64, 3), np.float32)], ['a'], {},
     'item 0: its video is float32'),
    ([tiny.ITEMS[0]] * 2, [], {}, 'no texts'),
    ([tiny.ITEMS[0]], ['a', ' '], {}, 'text 1'),
    ([tiny.ITEMS[0]], ['a', 'b<|im_end|>'], {}, "'text 1' holds the control"),
    ([tiny.ITEMS[0]], ['a', '<|image_pad|>'], {}, 'text 1: it holds'),
    ([tiny.ITEMS[0]], ['a'], {'mode': 'reference'}, "mode 'reference' is of"),
    ([tiny.ITEMS[0]], ['a'], {'prior': 'white'}, "prior is 'white': use one"),
    ([tiny.ITEMS[0]], ['a'], {'instruction': ' '}, 'instruction is empty'),
    ([tiny.ITEMS[0]], ['a'], {'instruction': '<|im_end|>'},
     'item 0: its text holds the control token'),
    ([tiny.ITEMS[0]], ['a'], {'first_stage': 'clip', 'topk': 1},
     'the head that predicts clips is untrained'),
])
def test_bad_input_is_one_line(model, items, texts, options, said):
  with pytest.raises(ValueError, match=said) as error:
    jaxret.score_matrix(items, texts, model, **options)
  assert '\n' not in str(error.value)


def test_what_scores_nothing_is_answered_by_what_does(tmp_path):
  (tmp_path / 'config.json').write_text('{"model_type": "llava_next"}')
  with pytest.raises(ValueError, match=(
      "got model_type 'llava_next', want qwen2_5_vl or .*qwen3_vl")):
    jaxret.score_matrix(tiny.ITEMS[:1], ['a'], tmp_path)


def test_a_file_that_changes_meanwhile_is_named(model, monkeypatch, tmp_path):
  import PIL.Image
  path = tmp_path / 'one.png'
  PIL.Image.fromarray(tiny.ITEMS[0]).save(path)
  measure = prompted.measured
  def measured(reader, shown):
    found = measure(reader, shown)
    PIL.Image.fromarray(tiny.ITEMS[1]).save(path)
    return found
  monkeypatch.setattr(prompted, 'measured', measured)
  with pytest.raises(ValueError, match='one.png: it has .* or has changed'):
    jaxret.score_matrix([path], ['a'], model)


def test_an_item_without_a_score_is_named(model):
  broken = tiny.on_mesh(model, tiny.one_device())
  broken.params = jax.tree.map(lambda leaf: leaf + np.nan, broken.params)
  with pytest.raises(ValueError, match='item [0-9]+: the score of row .* nan'):
    jaxret.score_matrix(tiny.ITEMS, tiny.TEXTS, broken)


def test_a_search_is_of_blim_alone(model):
  with pytest.raises(ValueError, match='it is no model of BLiM: jaxret.score_'):
    jaxret.search_pairs(tiny.ITEMS[:1], ['a'], model)
