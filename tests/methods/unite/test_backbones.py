"""UNITE on Qwen3-VL by config alone; prompts and pooling of all backbones."""
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import jaxret
from jaxret import checkpoint, optim, sharding
from jaxret.data import text
from jaxret.data.qwen3_vl import pixels
from jaxret.methods.unite import backbones
from jaxret.methods.unite import method as unite
from tests import tiny_exports, tiny_runs, tiny_unite

CONFIG = tiny_runs.ROOT / 'configs' / 'unite.py'
GOLDEN, SEEN = tiny_exports.QWEN3_VL, tiny_exports.SEEN
make_config = tiny_exports.qwen3_vl_config
RESOLUTION = pixels.Resolution(**SEEN)


@pytest.fixture(scope='module')
def tokenizer():
  return text.load_tokenizer(GOLDEN)


@pytest.fixture(scope='module')
def pairs():
  """Eight pairs: images and videos as candidates, of several slices."""
  return [tiny_unite.Pair(tiny_unite.item('text', i), tiny_unite.item(kind, i))
          for i, kind in enumerate(('image', 'video') * 4)]


@pytest.fixture(scope='module')
def batch(tokenizer, pairs):
  config = make_config()
  examples = unite.examples(pairs, unite.reader(config, tokenizer))
  rows = [examples[i] for i in range(len(pairs))]
  return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.slow
def test_it_is_prompted_and_read_as_its_embedder(tokenizer, pairs, batch):
  config = make_config()
  assert unite.model_config(config, tokenizer).name == 'qwen3_vl'
  theirs = jaxret.load(GOLDEN, resolution=RESOLUTION)
  for number, pair in enumerate(pairs):
    want = theirs.reader(pair.candidate).tokens
    np.testing.assert_array_equal(
        batch['candidate_tokens'][number, :len(want)], want)
  assert "Represent the user's input." in tokenizer.decode(want)
  # Fresh factors change nothing.
  method = unite.method(config, tokenizer)
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  params = method.load(jax.random.key(0), mesh)
  got = jax.jit(method.embed)(params, {}, batch, None)
  for side in ('query', 'candidate'):
    np.testing.assert_allclose(
        got[side], theirs.encode([getattr(pair, side) for pair in pairs]),
        atol=1e-5)
  assert 'lm_head' not in params['params']['decoder']


@pytest.mark.slow
@pytest.mark.parametrize('shape', [
    pytest.param({'fsdp': 8}, marks=pytest.mark.campaign),
    {'data': 4, 'tensor': 2}])
def test_eight_devices_give_the_gradients_of_one(tokenizer, batch, shape):
  """Of LoRA, and of the tower with its table and DeepStack's mergers."""
  method = unite.method(make_config(), tokenizer)
  trained = 'lora/.*', 'params/vision/.*'
  def run(mesh):
    params = method.load(jax.random.key(0), mesh)
    params['lora'] = jax.tree.map(  # a fresh B is zero
        lambda leaf: leaf + 0.01 * jnp.cos(jnp.arange(leaf.size)).reshape(
            leaf.shape), params['lora'])
    chosen, frozen = optim.partition(params, trained)
    def loss(chosen, frozen, batch):
      return method.loss(
          optim.merge(chosen, frozen), {}, batch, None)[0].mean()
    with jax.set_mesh(mesh):
      value, gradients = jax.jit(jax.value_and_grad(loss))(
          chosen, frozen, sharding.global_batch(mesh, batch))
    return sharding.to_host((value, sharding.flatten(gradients)))
  one = run(sharding.make_mesh(devices=jax.devices()[:1]))
  eight = run(sharding.make_mesh(shape))
  np.testing.assert_allclose(eight[0], one[0], rtol=1e-5)
  assert 'params/vision/deepstack/out/kernel' in one[1]
  for path, want in one[1].items():
    atol = 1e-5 * np.abs(want).max()
    assert atol > 0, path
    np.testing.assert_allclose(eight[1][path], want, atol=atol, err_msg=path)


def write_pairs(root):
  """Texts with the one image or video that each is of, in UNITE's layout."""
  root.mkdir()
  pairs = []
  for number in range(16):
    item = tiny_unite.item('text', number)
    if number % 4:
      name, kind = f'{number}.png', 'image'
      PIL.Image.fromarray(tiny_unite.pixels(number)).save(root / name)
    else:
      name, kind = f'{number}.mp4', 'video'
      (root / name).write_bytes(tiny_runs.video_bytes(number))
    pairs.append({'query': {'text': f'{number} {item.text}'},
                  'candidate': {kind: name}})
  (root / 'stage1.json').write_text(json.dumps(pairs))


def train(root, workdir):
  """The shipped recipe, at sizes of a test."""
  return tiny_runs.run('stage1_qwen3vl', workdir, *tiny_runs.flags({
      'model.pretrained': GOLDEN, 'data.root': root, 'data.max_tokens': 400,
      'data.shape': (80, 1, 32), 'model.dtype': 'float32',
      'model.param_dtype': 'float32', 'train.batch_size': 8,
      'train.accumulation_steps': 2, 'train.steps': 9,
      'train.log_every_steps': 1, 'train.checkpoint_every_steps': 4,
      'train.keep_checkpoints': 9, 'optim.learning_rate': 0.002,
      'loss.temperature': 0.1, 'mesh.fsdp': 1,
      **{f'media.{name}': value for name, value in SEEN.items()}}),
      config=CONFIG)


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_run_trains_goes_on_and_is_loaded(tmp_path, pairs):
  """The loss falls; what is resumed is the same to the bit; LoRA comes back."""
  root, whole, cut = (tmp_path / name for name in ('data', 'whole', 'cut'))
  write_pairs(root)
  assert train(root, whole) == 0
  found = losses(whole)
  assert len(found) == 9 and np.mean(found[-3:]) < 0.8 * np.mean(found[:3])
  assert sorted(path.name for path in (whole / 'checkpoints').iterdir()) == [
      '4', '8', '9']
  shutil.copytree(whole, cut)
  for name in ('8', '9'):
    shutil.rmtree(cut / 'checkpoints' / name)
  shutil.rmtree(cut / 'adapter')
  assert train(root, cut) == 0
  assert losses(cut) == found
  files = [workdir / 'adapter' / 'adapter_model.safetensors'
           for workdir in (whole, cut)]
  assert files[0].read_bytes() == files[1].read_bytes()
  items = [pairs[1].candidate, pairs[0].query]
  trained = jaxret.load(whole)
  got = trained.encode(items)
  assert trained.reader.resolution == backbones.resolution(
      checkpoint.read_config(whole))
  options = {'resolution': trained.reader.resolution}
  again = jaxret.load(GOLDEN, adapter=whole / 'adapter', **options)
  np.testing.assert_allclose(got, again.encode(items), atol=1e-5)
  assert np.abs(got - jaxret.load(GOLDEN, **options).encode(items)).max() > 0.01


@pytest.mark.parametrize('fields, said', [
    ({'model.position_mode': 'sequential'}, "want 'mrope': Qwen3-VL has no"),
    ({'model.prompt': 'gme'}, "model.prompt = 'gme' has no effect on Qwen3-VL"),
    ({'model.pooling': 'mean'}, "model.pooling = 'mean' has no effect"),
    ({'media.n_frames': 3}, 'media.n_frames is 3, want an even number')])
def test_what_it_has_not_is_refused_in_one_line(tokenizer, fields, said):
  config = make_config()
  config.update_from_flattened_dict(fields)
  with pytest.raises(ValueError, match=said) as error:
    unite.reader(config, tokenizer)
  assert '\n' not in str(error.value)


def test_media_of_another_backbone_are_refused(tokenizer):
  config = make_config()
  config.media = tiny_unite.make_config().media
  with pytest.raises(ValueError, match='which a qwen3_vl has not: start from '
                     'configs/unite.py:stage1_qwen3vl$'):
    unite.reader(config, tokenizer)
  config = tiny_unite.make_config()
  config.media = make_config().media
  with pytest.raises(ValueError, match='media has the fields file_total, .* '
                     'which a qwen2_vl has not: .*:stage1$'):
    unite.reader(config, tiny_unite.tokenizer())


def shown(prompt, item):
  config = tiny_unite.make_config()
  config.model.prompt = prompt
  tokenizer = tiny_unite.tokenizer()
  return tokenizer.decode(unite.reader(config, tokenizer)(item).tokens)


def test_a_prompt_is_a_recipe_or_a_text():
  item = tiny_unite.item('text', 0)
  assert shown('', item) == shown('unite', item)
  assert 'Summary above sentence in one word:' in shown('', item)
  assert shown('gme', item).startswith('<|im_start|>system\nYou are a helpful')
  assert 'Summary' not in shown('gme', item)
  assert shown('say {content}', item) == f'say {item.text}'
  config = tiny_unite.make_config()
  config.model.prompt = 'gmee'
  with pytest.raises(ValueError, match="model.prompt is 'gmee': use one of unit"
                     'e, gme, gve, or a text with {content}'):
    unite.check(config)


def test_pooling_and_prompt_change_what_is_stored():
  config, found = tiny_unite.make_config(), []
  for fields in ({}, {'pooling': 'mean'}, {'prompt': 'gme'}):
    config.model.update(fields)
    found.append(unite.fingerprint(config))
  assert 'pooling' not in found[0] and 'prompt' not in found[1]
  assert found[1] != found[2]
  assert unite.model_config(config, tiny_unite.tokenizer()).pooling == 'mean'
  config.model.pooling = 'first'
  with pytest.raises(ValueError, match="pooling 'first' is unknown"):
    unite.model_config(config, tiny_unite.tokenizer())
