"""GPUs that are not at hand: named, refused, and compiled for."""
import importlib.util

import jax
import jax.numpy as jnp
import pytest

from jaxret import gpu_nodes, sharding, tpu_slices

HAS_PLUGIN = any(importlib.util.find_spec(f'jax_cuda{version}_plugin')
                 for version in (12, 13))


@pytest.mark.parametrize('name', ['h100:9', 'h200:2x4', 'b200:'])
def test_a_node_of_another_size_is_refused(name):
  with pytest.raises(ValueError, match='a node has 1 to 8 GPUs'):
    tpu_slices.open_one(name)


def test_memory_is_what_a_program_can_have():
  for kind, least in (('h100', 75), ('h200', 132), ('b200', 165)):
    memory = gpu_nodes.GPUS[kind].memory_bytes / tpu_slices.GIB
    assert least < tpu_slices.CHIPS[kind].hbm_gib < 0.951 * memory


@pytest.mark.skipif(HAS_PLUGIN, reason='the plugin is installed')
def test_without_the_plugin_the_extra_is_named():
  with pytest.raises(ValueError, match='extra `cuda12` or `cuda13`'):
    tpu_slices.open_one('h100:8')


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PLUGIN, reason="no plugin: pip install -e "
                    "'.[cuda12]'")
def test_a_product_is_compiled_for_two_nodes():
  part = tpu_slices.open_one('2xh100:8')
  assert {device.process_index for device in part.devices} == {0, 1}
  mesh = sharding.make_mesh({'data': 2, 'fsdp': 8}, part.devices)
  x = jax.ShapeDtypeStruct((64, 128), jnp.bfloat16,
                           sharding=sharding.batch_sharding(mesh))
  with jax.set_mesh(mesh):
    lowered = jax.jit(lambda x: (x @ x.T).sum()).lower(x)
  compiled, use = tpu_slices.compile_for(part, lowered, 'a product')
  assert use.fits and compiled is not None
  assert use.arguments == 64 * 128 * 2 / 16
