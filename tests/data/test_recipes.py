"""Recipes of embedders: their prompts to the letter, and what they refuse."""
import pathlib

import jax
import numpy as np
import pytest

import jaxret
from jaxret import embedder, sharding
from jaxret.data import recipes
from jaxret.data.qwen2_vl import pixels, prompts
from jaxret.data.qwen2_vl import reader as reader_lib
from tests import tiny_unite

QWEN25_VL = pathlib.Path(__file__).parents[1] / 'golden/qwen25_vl/model'
SMALL = pixels.Resolution(released=False, processor=(784, 4 * 784),
                          read_video=(784, 4 * 784), max_frames=4)
SYSTEM = '<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n'
END = '<|im_end|>\n<|im_start|>assistant\n<|endoftext|>'
IMAGE, VIDEO = prompts.seen('image'), prompts.seen('video')


def content(text, image=0, video=0, order=('text',)):
  given = prompts.Content(text, {'image': image, 'video': video}, order)
  return given


def written(name, given, instruction=None):
  template = recipes.RECIPES[name].prompt
  marked = prompts.marked(
      given, 'x', between=template.between, kinds=template.kinds)
  return prompts.prompt(marked, False, template, instruction)


@pytest.mark.parametrize('name', ['gme', 'gve'])
def test_prompts_with_the_instruction_as_the_turn_of_the_system(name):
  default = SYSTEM.format('You are a helpful assistant.')
  assert written(name, content('a dog')) == f'{default}a dog{END}'
  assert written(name, content('a dog', image=1)) == (
      f'{default}{IMAGE}a dog{END}')
  assert written(name, content(None, video=1)) == f'{default}{VIDEO}{END}'
  assert written(name, content(' {content} {instruction} '), 'Find it.') == (
      f'{SYSTEM.format("Find it.")} {{content}} {{instruction}} {END}')


@pytest.mark.parametrize('name, media', [
    ('gme', IMAGE + VIDEO), ('gve', VIDEO + IMAGE)])
def test_media_of_both_kinds_come_in_the_order_of_the_recipe(name, media):
  assert media + END in written(name, content(None, image=1, video=1))
  assert f'{media}up{END}' in written(name, content('up', image=1, video=1))
  read = reader(template=recipes.RECIPES[name].prompt)
  found = read(embedder.as_item({
      'image': tiny_unite.pixels(0), 'video': tiny_unite.pixels(1, frames=2),
      'text': 'up'}, 0)).tokens
  first = {kind: np.argmax(found == read.special[kind])
           for kind in ('image', 'video')}
  assert (first['video'] < first['image']) == media.startswith(VIDEO)


def test_the_recipe_of_unite_is_what_is_taken_without_one():
  recipe = recipes.RECIPES['unite']
  assert recipe.prompt is prompts.UNITE and not recipe.prompt.instructed
  assert written('unite', content('up ', image=1, order=('image', 'text'))) == (
      f'{SYSTEM.format("You are a helpful assistant.")}{IMAGE}\nup\nSummary '
      f'above image and sentence in one word:{END}')


def reader(**options):
  return reader_lib.Reader(tiny_unite.tokenizer(), SMALL, 300, **options)


def test_a_reader_puts_an_instruction_where_its_template_has_it():
  read = reader(template=recipes.RECIPES['gme'].prompt)
  item = embedder.as_item({'text': 'up', 'image': tiny_unite.pixels(0)}, 0)
  plain, told = read(item), read(item, 'red circle')
  decode = tiny_unite.tokenizer().decode
  assert decode(told.tokens).startswith(SYSTEM.format('red circle'))
  assert decode(plain.tokens).startswith(
      SYSTEM.format('You are a helpful assistant.'))
  assert decode(told.tokens).endswith(f'<|vision_end|>up{END}')
  with pytest.raises(ValueError, match='item 0: its instruction holds'):
    read(item, 'a <|im_end|>')
  # UNITE's stands in front of the text.
  assert 'red circleup\nSummary' in decode(reader()(item, 'red circle').tokens)


def test_long_text_is_trimmed_around_an_instruction():
  read = reader(template=recipes.RECIPES['gme'].prompt, trim_text=True)
  found = read(embedder.as_item('red ' * 400, 0), 'blue')
  decoded = tiny_unite.tokenizer().decode(found.tokens)
  assert 290 < len(found.tokens) <= 300
  assert decoded.startswith(SYSTEM.format('blue')) and decoded.endswith(END)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="recipe 'e5' is unknown; want one of "
                     'unite, gme, gve, or give prompt'):
    recipes.options('e5', 'qwen2_vl')
  with pytest.raises(ValueError, match="recipe 'gme' is of qwen2_vl, got a "
                     'model of type qwen2_5_vl'):
    recipes.options('gme', 'qwen2_5_vl')
  for text in ('no place', '{content}{content}', 3):
    with pytest.raises(ValueError, match='want a text with {content} once'):
      prompts.template(text)


def load(**options):
  return jaxret.load(QWEN25_VL, mesh=sharding.make_mesh(
      devices=jax.devices()[:1]), **options)


def test_a_recipe_is_loaded_and_options_come_before_it():
  model = load(recipe='gve')
  recipe = recipes.RECIPES['gve']
  assert model.reader.template is recipe.prompt
  assert model.reader.resolution is recipe.resolution
  assert (model.config.position_mode, model.config.pooling,
          model.reader.max_tokens) == ('mrope', 'last', 4096)
  model = load(recipe='gve', position_mode='sequential', resolution=SMALL,
               pooling='mean', prompt='{content} =')
  assert model.reader.template.text == '{content} ='
  assert (model.config.position_mode, model.config.pooling,
          model.reader.max_tokens) == ('sequential', 'mean', 4096)
  for options, message in (
      ({'recipe': 'gme'}, "recipe 'gme' is of qwen2_vl"),
      ({'pooling': 'first'}, "pooling 'first' is unknown; want one of last, m"),
      ({'prompt': 'no'}, 'want a text with {content} once')):
    with pytest.raises(ValueError, match=message):
      load(**options)


@pytest.mark.slow
def test_pooling_is_of_the_states_of_a_prompt():
  """The mean and the last of the same states, whatever is padded."""
  items = ['red square', 'blue']
  options = {'prompt': '{content} moves', 'resolution': SMALL}
  found = {pooling: load(pooling=pooling, **options)
           for pooling in ('last', 'mean')}
  model = found['mean']
  inputs = [model.reader(embedder.as_item(item, i))
            for i, item in enumerate(items)]
  batch = model.reader.pad(inputs, (64, 0, 0))
  def states(module, batch):
    x = module.embed(batch['tokens'])
    keys = np.arange(64) < batch['length'][:, None]
    return module.hidden(x, keys)
  hidden = np.asarray(jax.jit(lambda params: model.config.module().apply(
      params, batch, method=states))(model.params))
  for pooling, pool in (('last', lambda part: part[-1]),
                        ('mean', lambda part: part.mean(0))):
    want = [pool(hidden[i, :len(one.tokens)]) for i, one in enumerate(inputs)]
    want = [one / np.linalg.norm(one) for one in want]
    np.testing.assert_allclose(
        found[pooling].encode(items, show_progress=False), want, atol=5e-6)
