"""The inputs of the scoring bench are as long and as alike as it says."""
import json
import pathlib

import numpy as np

from jaxret.bench import presets


def test_captions_are_as_long_and_begin_alike_as_the_table_says():
  table = json.loads((pathlib.Path(presets.__file__).parent
                      / 'captions.json').read_text())
  captions = presets.captions(1000, 8192)
  assert sorted(map(len, captions)) == sorted(table['length'])
  # Sorted, neighbours share what the table says in all: count by hand.
  rows = sorted(tuple(c.tolist()) for c in captions)
  shared = sum(next((i for i, (a, b) in enumerate(zip(x, y)) if a != b),
                    min(len(x), len(y))) for x, y in zip(rows, rows[1:]))
  assert shared >= sum(table['common'][1:])
  assert max(c.max() for c in captions) < 8192


def test_inputs_are_a_function_of_their_seed():
  model = presets.PRESETS['tiny'].vlm
  for make in (lambda seed: presets.captions(5, 100, seed),
               lambda seed: [presets.features(model, 2, seed)]):
    first, again, other = make(3), make(3), make(4)
    assert all(map(np.array_equal, first, again))
    assert not all(a.shape == b.shape and np.array_equal(a, b)
                   for a, b in zip(first, other))


def test_prompts_hold_the_places_of_all_visual_tokens():
  preset = presets.PRESETS['tiny']
  model, texts = preset.vlm, presets.captions(3, 512)
  prompts = presets.prompts(model, texts)
  n_visual = int((prompts.visual_prefix == prompts.visual).sum())
  assert n_visual == model.clips * model.tokens_per_clip
  for text, label, prefix in zip(texts, prompts.labels, prompts.text_prefixes):
    np.testing.assert_array_equal(label[:-2], text)
    np.testing.assert_array_equal(
        prefix[presets.BEFORE_CAPTION:-presets.AFTER_CAPTION], text)
