"""MM-Embed's training: examples, the loss by hand, one and eight devices."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxret import main, sharding
from jaxret.data import pair_examples, text, types
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.sets import mixed
from jaxret.methods.mm_embed import method as mm_embed
from tests import tiny_mm_embed

WORDS = ('red circle', 'blue square', 'green cross', 'a small white triangle')


@pytest.fixture(scope='module')
def config():
  config = main.load_config(str(tiny_mm_embed.CONFIG))
  for name, value in tiny_mm_embed.FIELDS.items():
    section, _, field = name.rpartition('.')
    if section.partition('.')[0] in ('model', 'vision', 'latent'):
      part = config
      for key in section.split('.'):
        part = part[key]
      part[field] = value
  return config


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(
      WORDS, 320, tmp_path_factory.mktemp('tokenizer') / 'own',
      control_tokens=mm_embed_prompts.CONTROL_TOKENS,
      prompts=mm_embed_prompts.PROMPTS)


@pytest.fixture(scope='module')
def reader(config, tokenizer):
  return mm_embed.reader(config, tokenizer)


def pairs(n=8, negatives=True):
  rng = np.random.default_rng(0)
  def item(i):
    image = rng.integers(0, 255, (20, 30, 3), np.uint8) if i % 2 else None
    return types.Item(f'{i}', WORDS[i % 4] if i % 3 else None, image) if (
        image is not None) else types.Item(f'{i}', WORDS[i % 4])
  return [mixed.Pair(item(i), item(i % 5 + 100), 'text',
                     item(200 + i) if negatives else None, 'find it')
          for i in range(n)]


def batch_of(examples):
  rows = [examples[i] for i in range(len(examples))]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def shapes(size=(96, 56)):
  return dict.fromkeys(pair_examples.SIDES, size)


@pytest.fixture(scope='module')
def params(config, tokenizer):
  return jax.jit(mm_embed.method(config, tokenizer).init)(jax.random.key(0))


def test_queries_are_told_and_documents_are_numbered(
    config, tokenizer, reader):
  method = mm_embed.method(config, tokenizer)
  batch = batch_of(method.examples(pairs(), reader, shapes()))
  assert (batch['query_pool_start'] > 2).all()
  assert not batch['candidate_pool_start'].any()
  assert batch['positive'].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
  assert len(set(batch['negative_id'])) == 8
  assert not set(batch['negative_id']) & set(batch['positive'])
  measured = method.examples(pairs(), reader)
  assert measured.shapes['query'][0] > measured.shapes['candidate'][0]


@pytest.mark.slow
def test_sides_of_one_shape_and_of_several_embed_alike(
    config, tokenizer, reader, params):
  method = mm_embed.method(config, tokenizer)
  embed = jax.jit(method.embed)
  one = batch_of(method.examples(pairs(), reader, shapes()))
  own = batch_of(method.examples(
      pairs(), reader, {**shapes(), 'query': (104, 56)}))
  for got, wanted in zip(*(jax.tree.leaves(embed(params, {}, batch, None))
                           for batch in (one, own))):
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_loss_is_that_of_a_plain_loop(config, tokenizer, reader, params):
  method = mm_embed.method(config, tokenizer)
  batch = batch_of(method.examples(pairs(), reader, shapes()))
  found = jax.jit(method.embed)(params, {}, batch, None)
  value, numbers = method.embedding_loss(found, batch)
  query, candidate, negative = (np.asarray(found[side], np.float64)
                                for side in pair_examples.SIDES)
  for i in range(8):
    own = query[i] @ candidate[i] / config.loss.temperature
    others = [query[i] @ candidate[j] / config.loss.temperature
              for j in range(8) if j == i
              or batch['positive'][j] != batch['positive'][i]]
    others += [query[i] @ n / config.loss.temperature for n in negative]
    assert value[i] == pytest.approx(
        np.logaddexp.reduce(others) - own, abs=1e-5)
  best = [max(range(8), key=lambda j: query[i] @ candidate[j])
          for i in range(8)]
  right = [batch['positive'][j] == batch['positive'][i]
           for i, j in enumerate(best)]
  assert numbers['accuracy'] == pytest.approx(np.mean(right))


@pytest.mark.slow
def test_one_and_eight_devices_agree(config, tokenizer, reader, params):
  method = mm_embed.method(config, tokenizer)
  batch = batch_of(method.examples(pairs(), reader, shapes()))
  results = []
  for devices in (jax.devices()[:1], jax.devices()):
    mesh = sharding.make_mesh({'data': -1}, devices)
    step = jax.jit(jax.value_and_grad(lambda params, batch: jnp.mean(
        method.loss(params, {}, batch, None)[0])))
    with jax.set_mesh(mesh):
      results.append(sharding.to_host(step(
          jax.device_put(params, sharding.shardings(mesh, params)),
          sharding.global_batch(mesh, batch))))
  for one, eight in zip(*map(jax.tree.leaves, results)):
    np.testing.assert_allclose(one, eight, atol=2e-5 * np.abs(one).max() + 1e-7)


def test_flops_and_tokens_count_what_is_there(config, tokenizer, reader):
  method = mm_embed.method(config, tokenizer)
  small = batch_of(method.examples(pairs(), reader, shapes()))
  large = batch_of(method.examples(pairs(), reader, shapes((128, 56))))
  assert method.train_flops(small) == method.train_flops(large) > 0
  assert method.tokens(small) == method.tokens(large) == sum(
      small[f'{side}_length'].sum() for side in pair_examples.SIDES)


def test_every_variant_of_the_config_can_be_read():
  for variant in ('random', 'hard', 'continual', 'mbeir', 'beir', 'circo'):
    config = main.load_config(f'{tiny_mm_embed.CONFIG}:{variant}')
    assert config.model.rope_theta == 0.0  # read from the file
  with pytest.raises(ValueError, match="no variant 'x'"):
    main.load_config(f'{tiny_mm_embed.CONFIG}:x')
