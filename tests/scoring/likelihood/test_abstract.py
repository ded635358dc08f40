"""Programs lowered for arrays that are not there, run on arrays that are."""
import functools

import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import abstract, kernels, tries
from tests.tiny_likelihood import CONFIG, MODEL, one_device

ROWS, COLUMNS = 2, 3


@pytest.fixture(scope='module')
def shapes(features, prompts):
  return abstract.Shapes(
      ROWS, COLUMNS, len(prompts.visual_prefix), 12, 7, len(features),
      len(prompts.labels), features.shape[1:])


def compiled(lowered, *args):
  """(program, what it puts out) of concrete arguments of the same shapes."""
  program = lowered.compile()
  return abstract.outputs(lowered, program), program(*args)


def like(tree, abstract_tree):
  assert jax.tree.structure(tree) == jax.tree.structure(abstract_tree)
  for leaf, other in zip(jax.tree.leaves(tree), jax.tree.leaves(abstract_tree)):
    assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)
    assert leaf.sharding.is_equivalent_to(other.sharding, leaf.ndim)


def test_captions_are_scored_by_the_programs_that_are_planned(
    params, features, prompts, shapes):
  mesh = one_device()
  weights = sharding.abstract(mesh, params)
  tokens = sharding.replicate(mesh, np.asarray(prompts.visual_prefix, np.int32))
  block = sharding.constant(mesh, features[:ROWS].astype(np.float16))
  lowered = abstract.visual_prefix(MODEL, weights, mesh, shapes)
  outputs, prefix = compiled(lowered, params, tokens, block)
  like(prefix, outputs)
  words, labels, lengths, chains, place, depth = tries.rectangle(
      prompts.labels, np.array([[0, 1, 3]]), shapes.labels)
  start = np.full(ROWS, len(prompts.visual_prefix), np.int32)
  put = functools.partial(sharding.replicate, mesh)
  args = (params, *prefix, sharding.constant(mesh, start),
          (put(words), put(depth), put(chains), put(place)), put(labels),
          put(lengths))
  with jax.set_mesh(mesh):
    want = kernels.text_tile(MODEL, True, *args)
  _, got = compiled(
      abstract.text_tile(MODEL, weights, mesh, shapes, outputs), *args)
  assert got.shape == (ROWS, COLUMNS)
  np.testing.assert_array_equal(got, want)


def test_clips_are_scored_by_the_programs_that_are_planned(
    params, features, prompts, shapes):
  mesh = one_device()
  weights = sharding.abstract(mesh, params)
  texts = [prompts.text_prefixes[i] for i in (1, 3)]
  start = sharding.constant(
      mesh, np.array([len(text) for text in texts], np.int32))
  tokens = tries.stack(texts, shapes.text_prefix)
  positions = np.broadcast_to(np.arange(shapes.text_prefix), tokens.shape)
  lowered = abstract.text_prefix(MODEL, weights, mesh, shapes)
  outputs, (last, cache) = compiled(lowered, params, *(
      sharding.constant(mesh, x.astype(np.int32)) for x in (tokens, positions)),
                                    start)
  like((last, cache), outputs)
  with jax.set_mesh(mesh):
    vocabulary = sharding.replicate(mesh, features.mean(2))
    first = kernels.first_clip(MODEL, params, last, vocabulary)
    clips = kernels.clip_tokens(MODEL, params, features[:COLUMNS])[None]
    args = (params, first, cache, start, sharding.replicate(mesh, clips),
            sharding.replicate(
                mesh, np.arange(COLUMNS, dtype=np.int32)[None]), vocabulary)
    want = kernels.clip_tile(MODEL, *args)
  _, got = compiled(
      abstract.clip_tile(MODEL, weights, mesh, shapes, outputs), *args)
  assert got.shape == (ROWS, COLUMNS)
  np.testing.assert_array_equal(got, want)
  assert clips.shape[2] == CONFIG.clips - 1
