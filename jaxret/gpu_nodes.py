"""GPUs that are not at hand, compiled for with CUDA's plugin of JAX alone.

What XLA must know of a GPU to compile for it, as the vendor states it. The
plugin needs no driver to compile; nothing is tuned, since nothing is run.
"""
import importlib.util
from typing import NamedTuple

GPUS_PER_NODE = 8


class Gpu(NamedTuple):
  """A GPU.

  memory_bytes: all of it. major, cores, l2_mib, bandwidth_bytes_per_s, ghz:
  of the device. peak_flops_per_s: of dense products in bfloat16.
  """
  name: str
  memory_bytes: int
  major: int
  cores: int
  l2_mib: int
  bandwidth_bytes_per_s: float
  ghz: float
  peak_flops_per_s: float


GPUS = {
    'h100': Gpu('NVIDIA H100 80GB HBM3', 84_978_434_048, 9, 132, 50, 3.35e12,
                1.98, 989e12),
    'h200': Gpu('NVIDIA H200', 150_110_011_392, 9, 132, 50, 4.8e12, 1.98,
                989e12),
    'b200': Gpu('NVIDIA B200', 191_000_000_000, 10, 148, 126, 8e12, 1.965,
                2250e12)}
# What a program can have with XLA_PYTHON_CLIENT_MEM_FRACTION=.95.
SHARE = 0.95
_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: {gpu.cores}
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {gpu.bandwidth_bytes_per_s:.0f}
  l2_cache_size: {l2_bytes}
  clock_rate_ghz: {gpu.ghz}
  device_memory_size: {gpu.memory_bytes}
  cuda_compute_capability {{ major: {gpu.major} minor: 0 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{gpu.name}"
"""


def devices(kind: str, nodes: int, count: int) -> tuple:
  """`count` GPUs of a kind on each of several nodes, to compile for.

  Raises ValueError where the plugin is not installed, or opens none.
  """
  if not any(importlib.util.find_spec(f'jax_cuda{version}_plugin')
             for version in (12, 13)):
    raise ValueError("task 'plan' needs XLA's compiler for GPUs: install the "
                     'extra `cuda12` or `cuda13`, no GPU is needed for it')
  from jax.experimental import topologies
  gpu = GPUS[kind]
  try:
    topology = topologies.get_topology_desc(
        platform='cuda', topology=f'1x{nodes}x{count}',
        target_config=_TARGET.format(gpu=gpu, l2_bytes=gpu.l2_mib * 2 ** 20))
  except (RuntimeError, ValueError) as error:
    raise ValueError(f'plan.topology: the plugin opens no {nodes} x {count} '
                     f'{kind}: {error}'.split('\n')[0]) from None
  return tuple(topology.devices)
