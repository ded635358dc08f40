"""Largest sizes against loops, and slices that are not there."""
import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding, PartitionSpec

from jaxret import sharding, tpu_slices

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec('libtpu') is None,
    reason="no libtpu, the TPU compiler: pip install -e '.[tpu]'")


@pytest.mark.parametrize('base, per_row, curve, want', [
    (4, 1.0, 0.0, 11), (4, 0.01, 0.0, 64), (13, 1.0, 0.0, 2),
    (20, 1.0, 0.0, 0), (1, 1.0, 0.02, 11)])
def test_largest_size_is_compiled_and_no_size_beyond_it(
    base, per_row, curve, want):
  seen, part = [], tpu_slices.Slice('v5e:1', tpu_slices.CHIPS['v5e'], ())
  def use_of(size):
    seen.append(size)
    total = (base + per_row * size + curve * size ** 2) * tpu_slices.GIB
    return tpu_slices.Use(tpu_slices.GIB, total, total <= 16 * tpu_slices.GIB)
  largest = tpu_slices.find_largest(use_of, 4, use_of(4), 64, part)
  assert largest == want and len(seen) == len(set(seen)) <= 4
  assert not largest or (largest in seen and use_of(largest).fits)


@pytest.mark.parametrize('size', [1, 4, 8])
def test_largest_size_is_estimated_where_memory_grows_in_proportion(size):
  """Without another compilation, and too low where some memory is fixed."""
  part = tpu_slices.Slice('v5e:1', tpu_slices.CHIPS['v5e'], ())
  def estimate(fixed, cap):
    total = (4 + fixed + 0.5 * size) * tpu_slices.GIB
    use = tpu_slices.Use(4 * tpu_slices.GIB, total, True)
    return tpu_slices.about_largest(size, use, cap, part)
  assert estimate(0, 64) == int((0.97 * 16 - 4) / 0.5) == 23
  assert size <= estimate(2, 64) < 19  # 19 would fit
  assert estimate(0, 10) == 10
  full = tpu_slices.Use(20 * tpu_slices.GIB, 21 * tpu_slices.GIB, False)
  assert tpu_slices.about_largest(size, full, 64, part) == 0


@needs_libtpu
def test_slice_that_does_not_exist_is_refused():
  with pytest.raises(ValueError, match="'v5e:5x7' is no slice"):
    tpu_slices.open_one('v5e:5x7')


@needs_libtpu
def test_a_host_of_a_slice_is_compiled_for_alone():
  for name, host in (('v5e:4x4', 'v5e:2x2'), ('2xv5p:2x2x2', 'v5p:2x2x1'),
                     ('v6e:2x2', 'v6e:2x2')):
    part = tpu_slices.one_host(tpu_slices.open_one(name, 2.0, False))
    assert (part.name, part.price, part.quick) == (host, 2.0, False)
    assert len(part.devices) == 4


@needs_libtpu
def test_several_slices_are_apart_along_data_alone():
  part = tpu_slices.open_one('2xv5e:2x2')
  assert len(part.devices) == 8
  mesh = sharding.make_mesh({'data': -1, 'fsdp': -1}, part.devices)
  assert dict(mesh.shape) == {'data': 2, 'fsdp': 4, 'tensor': 1}
  for row in mesh.devices:
    assert len({device.slice_index for device in row.ravel()}) == 1
  with pytest.raises(ValueError, match='are of 2 slices, between which .* make '
                     'data a multiple of that'):
    sharding.make_mesh({'fsdp': -1}, part.devices)
  x = jax.ShapeDtypeStruct((16, 128), jnp.float32,
                           sharding=sharding.batch_sharding(mesh))
  with jax.set_mesh(mesh):
    lowered = jax.jit(lambda x: x.sum(0)).lower(x)
  _, use = tpu_slices.compile_for(part, lowered, 'a sum')
  assert use.fits and use.arguments >= 16 * 128 * 4 / 8


@pytest.mark.parametrize('said, bytes_', [
    ('Used 17.50G of 15.75G hbm', 17.5 * 2 ** 30),
    ('Ran out of memory. Used 900.0M of 800.0M hbm. Exceeded', 900 * 2 ** 20),
    ('Used 1.25T of 15.75G hbm', 1.25 * 2 ** 40),
    ('RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
     'for HLO temporaries (17.5G) exceeds available HBM (15.75G).',
     17.5 * 2 ** 30)])
def test_what_does_not_fit_says_how_much_it_wants(said, bytes_):
  assert tpu_slices.too_much(RuntimeError(said)) == bytes_
  other = RuntimeError('Mosaic failed to compile')
  with pytest.raises(RuntimeError, match='Mosaic') as error:
    tpu_slices.too_much(other)
  assert error.value is other


def test_bytes_of_a_chip_are_those_of_its_shards():
  """What is split over four chips, and what each of eight has whole."""
  mesh = sharding.make_mesh({'data': 1, 'fsdp': 4, 'tensor': 2})
  def placed(shape, dtype, *spec):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(
        mesh, PartitionSpec(*spec)))
  tree = {'split': placed((8, 6), jnp.float32, 'fsdp'),
          'both': placed((8, 6), jnp.bfloat16, 'fsdp', 'tensor'),
          'whole': placed((5,), jnp.int8)}
  assert tpu_slices.chip_bytes(tree) == 2 * 6 * 4 + 2 * 3 * 2 + 5
  lying = jax.tree.map(
      lambda leaf: jax.device_put(jnp.zeros(leaf.shape, leaf.dtype),
                                  leaf.sharding), tree)
  first = jax.devices()[0]
  assert tpu_slices.chip_bytes(tree) == sum(
      shard.data.nbytes for leaf in jax.tree.leaves(lying)
      for shard in leaf.addressable_shards if shard.device == first)


@pytest.fixture
def cache(tmp_path):
  """Where compiled programs are kept; as it was before, afterwards."""
  fields = {'jax_compilation_cache_dir': str(tmp_path / 'cache'),
            'jax_enable_compilation_cache': True,
            'jax_persistent_cache_min_compile_time_secs': 0.0,
            'jax_persistent_cache_min_entry_size_bytes': 0}
  before = {name: getattr(jax.config, name) for name in fields}
  for name, value in fields.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield tmp_path / 'cache'
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def test_programs_for_devices_that_are_not_there_are_not_kept(cache):
  part = tpu_slices.Slice('cpu', tpu_slices.Chip(16, 1.0), (), quick=False)
  def lowered(n):
    return jax.jit(lambda x: jnp.tanh(x) * n).lower(jnp.zeros(4))
  ours, theirs = lowered(2.0), lowered(3.0)
  before = set(cache.glob('*'))
  compiled, use = tpu_slices.compile_for(part, ours, 'a program')
  assert compiled is not None and use.fits
  assert set(cache.glob('*')) == before
  theirs.compile()
  assert set(cache.glob('*')) > before
