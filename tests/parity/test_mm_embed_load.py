"""MM-Embed as users load it, latent attention folded, on the golden cases."""
import collections

import jax
import numpy as np
import pytest

import jaxret
from jaxret import sharding
from tests.parity import mm_embed_reference as reference

# Whole runs, or other programs beside ours: left to `make test-slow`.
pytestmark = pytest.mark.slow


def test_mm_embed_loaded_embeds_the_golden_cases(mm_embed_golden):
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  pixels = reference.images(mm_embed_golden, 'encode')
  model = jaxret.load(mm_embed_golden / 'model', trim_text=True, mesh=mesh)
  assert model.config.latent.folded
  for case in reference.table(
      mm_embed_golden, 'encode/cases.json')['cases']:
    want = reference.read(
        mm_embed_golden, f'encode/{case["file"]}')['embedding']
    model.reader.max_tokens = case['max_length']
    told = collections.defaultdict(list)
    for row, (entry, is_query, said) in enumerate(reference.case_rows(case)):
      told[(said or '') if is_query else None].append((row, reference.item(
          entry, pixels, f'{case["name"]} {row}')))
    for prompt, rows in told.items():
      found = model.encode([item for _, item in rows], prompt, 4)
      np.testing.assert_allclose(
          found, want[[row for row, _ in rows]], atol=reference.EMBEDDINGS)
