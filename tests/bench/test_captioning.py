"""The captioning bench: its prompts, and the work that it counts."""
import functools

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.bench import captioning, machine
from jaxret.models.qwen2_vl import model, vision

TINY = captioning.PRESETS['tiny']
# Of an image of 224 px: 16 x 16 patches, four of them a token.
PATCHES, VISUAL = 256, 64


def test_a_prompt_shows_one_image_between_words():
  shown = captioning.prompts(TINY, 3)
  first, last = (captioning.SPECIAL[f'vision_{name}']
                 for name in ('start', 'end'))
  for one in shown:
    assert one.kinds == ('image',) and one.grids == ((1, 16, 16),)
    assert one.patches[0].shape == (PATCHES, TINY.vision.patch_values)
    seen = [first, *VISUAL * [captioning.SPECIAL['image']], last]
    words = np.delete(one.tokens, np.s_[15:15 + len(seen)])
    np.testing.assert_array_equal(one.tokens[15:15 + len(seen)], seen)
    assert len(words) == 31 and words.min() > 4 and words.max() < 512
  assert not np.array_equal(shown[0].tokens, shown[1].tokens)
  for one, again in zip(shown, captioning.prompts(TINY, 3)):
    np.testing.assert_array_equal(one.tokens, again.tokens)
    np.testing.assert_array_equal(one.patches[0], again.patches[0])


@pytest.mark.slow
def test_work_is_counted_token_by_token(monkeypatch, one_device):
  """A prompt once, then one token at a time, each with what it sees."""
  monkeypatch.setattr(machine, 'matmul_flops_per_s', lambda shapes, dtype: {
      shape: 1e9 for shape in shapes})
  options = captioning.parse(
      ['--preset=tiny', '--batch=2', '--new_tokens=3', '--rounds=1'])
  found = captioning.measure(options)
  shapes = sharding.flatten(jax.eval_shape(
      functools.partial(model.init, TINY), jax.random.key(0))['params'])
  kernels = sum(leaf.size for path, leaf in shapes.items()
                if path.startswith('decoder/layers/')
                and path.endswith('/kernel'))
  c, work = TINY.decoder, PATCHES * vision.flops_per_patch(TINY.vision, PATCHES)
  n_prompt = 15 + 1 + VISUAL + 1 + 16
  for place in range(n_prompt + 2):  # the third new token is not read
    work += 2 * kernels + 4 * (place + 1) * c.layers * c.heads * c.head_width
  work += 3 * 2 * shapes['decoder/embed/embedding'].size
  assert found['prompt_tokens'] == n_prompt
  assert found['flops_per_s'] * found['seconds'] == pytest.approx(2 * work)
  assert found['tokens_per_s'] * found['seconds'] == pytest.approx(6)
  assert found['utilization'] == pytest.approx(found['flops_per_s'] / 1e9)
