"""Where arrays live: the mesh, one rule per parameter path, global batches.

Mesh axes: `data` splits the batch, `fsdp` splits batch and weights, `tensor`
splits weights along heads, hidden width and vocabulary.
"""
import hashlib
import math
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxret import device_grid

AXES = ('data', 'fsdp', 'tensor')
BATCH_AXES = ('data', 'fsdp')
# Weights of 7B over more chips than this save little memory, but are gathered
# from ever farther, and take the TPU compiler several times as long at 256.
MOST_FSDP = 16

# One pattern per kind of parameter, matched against the whole path. Layers
# are stacked on a leading L axis, which is never split. A linear that reads
# the residual stream is split by its output over `tensor`, one that writes to
# it by its input, so a block needs one reduction per half. LoRA factors follow
# the side of the kernel they share; the rank is never split.
_STACK = 'params/(decoder|text)/'
_IN = 'params/(projector(/[^/]+)?|vision/merger)/in/'
_OUT = 'params/(projector(/[^/]+)?|vision/merger)/out/'
_LATENT = 'params/latent_attention/'
_ENCODER = ('params/(vision|clip_text|text_encoder|frames|description_to_slots|'
            'slots_to_vision|vision_to_slots)/')
RULES = (
    (_STACK + 'embed/embedding', P('tensor', 'fsdp')),
    (_STACK + r'layers/\w+_norm/(scale|bias)', P()),
    (_STACK + 'layers/attention/[qk]_norm/scale', P()),
    (_STACK + 'layers/attention/[qkv]/kernel', P(None, 'fsdp', 'tensor')),
    (_STACK + 'layers/attention/[qkv]/bias', P(None, 'tensor')),
    (_STACK + 'layers/attention/o/kernel', P(None, 'tensor', 'fsdp')),
    (_STACK + 'layers/mlp/(gate|up)/kernel', P(None, 'fsdp', 'tensor')),
    (_STACK + 'layers/mlp/down/kernel', P(None, 'tensor', 'fsdp')),
    (_STACK + 'final_norm/(scale|bias)', P()),
    (_STACK + 'lm_head/kernel', P('fsdp', 'tensor')),
    (_IN + 'kernel', P('fsdp', 'tensor')),
    (_IN + 'bias', P('tensor')),
    (_OUT + 'kernel', P('tensor', 'fsdp')),
    (_OUT + 'bias', P()),
    ('params/visual_head/kernel', P('fsdp', 'tensor')),
    ('lora/decoder/layers/(attention/[qkv]|mlp/(gate|up))/a',
     P(None, 'fsdp', None)),
    ('lora/decoder/layers/(attention/[qkv]|mlp/(gate|up))/b',
     P(None, None, 'tensor')),
    ('lora/decoder/layers/(attention/o|mlp/down)/a', P(None, 'tensor', None)),
    ('lora/decoder/layers/(attention/o|mlp/down)/b', P(None, None, 'fsdp')),
    ('lora/(decoder/lm_head|projector(/[^/]+)?/in)/a', P('fsdp', None)),
    ('lora/(decoder/lm_head|projector(/[^/]+)?/in)/b', P(None, 'tensor')),
    ('lora/projector(/[^/]+)?/out/a', P('tensor', None)),
    ('lora/projector(/[^/]+)?/out/b', P(None, 'fsdp')),
    ('params/vision/patch/kernel', P('fsdp', 'tensor')),
    ('params/vision/patch/bias', P('tensor')),
    (r'params/vision/blocks/\w+_norm/(scale|bias)', P()),
    ('params/vision/blocks/attention/qkv/kernel', P(None, 'fsdp', 'tensor')),
    ('params/vision/blocks/attention/([qv]_bias|qkv/bias)',
     P(None, 'tensor')),
    ('params/vision/blocks/attention/out/kernel', P(None, 'tensor', 'fsdp')),
    ('params/vision/blocks/attention/out/bias', P()),
    ('params/vision/(blocks/mlp/(in|gate|up)|deepstack/in)/kernel',
     P(None, 'fsdp', 'tensor')),
    ('params/vision/(blocks/mlp/(in|gate|up)|deepstack/in)/bias',
     P(None, 'tensor')),
    ('params/vision/(blocks/mlp/(out|down)|deepstack/out)/kernel',
     P(None, 'tensor', 'fsdp')),
    ('params/vision/(blocks/mlp/(out|down)|deepstack/out)/bias', P()),
    ('params/vision/(final_norm|(merger|deepstack)/norm)/(scale|bias)', P()),
    ('params/(video|text|caption)_projection/kernel',
     P('fsdp', 'tensor')),
    ('params/caption_projection/bias', P()),
    ('params/log_temperature', P()),
    (_ENCODER + r'layers/\w+_norm/(scale|bias)', P()),
    (_ENCODER + 'layers/attention/[qkv]/kernel', P(None, 'fsdp', 'tensor')),
    (_ENCODER + 'layers/attention/[qkv]/bias', P(None, 'tensor')),
    (_ENCODER + 'layers/attention/o/kernel', P(None, 'tensor', 'fsdp')),
    (_ENCODER + 'layers/attention/o/bias', P()),
    (_ENCODER + 'layers/mlp/in/kernel', P(None, 'fsdp', 'tensor')),
    (_ENCODER + 'layers/mlp/in/bias', P(None, 'tensor')),
    (_ENCODER + 'layers/mlp/out/kernel', P(None, 'tensor', 'fsdp')),
    (_ENCODER + 'layers/mlp/out/bias', P()),
    ('params/(clip_text|text_encoder)/embed/tokens', P('tensor', 'fsdp')),
    ('params/(clip_text|text_encoder)/embed/(positions|types)', P()),
    ('params/vision/(class_embedding|positions)', P()),
    (r'params/(vision/pre|vision_head/|clip_text/final|'
     'text_encoder/(embed|final))_?norm/(scale|bias)', P()),
    ('params/(vision_head/projection|clip_text_head|text_head|'
     'vision_head/(attention/[qkv]|mlp/in))/kernel', P('fsdp', 'tensor')),
    ('params/(text_head|vision_head/(attention/[qkv]|mlp/in))/bias',
     P('tensor')),
    ('params/vision_head/(attention/o|mlp/out)/kernel', P('tensor', 'fsdp')),
    ('params/vision_head/(attention/o|mlp/out)/bias', P()),
    ('params/vision_head/probe', P()),
    ('params/(logit_scale|logit_bias|temperature|queries)', P()),
    (r'params/heads/\w+/kernel', P('fsdp', 'tensor')),
    (r'params/heads/\w+/bias', P('tensor')),
    ('params/image_newline', P()),
    (_LATENT + 'latents', P(None, 'fsdp')),
    (_LATENT + r'\w+_norm/(scale|bias)', P()),
    (_LATENT + '([qkv]|mlp/(value|gate))/kernel', P('fsdp', 'tensor')),
    (_LATENT + 'mlp/(value|gate)/bias', P('tensor')),
    (_LATENT + '(o|mlp/out)/kernel', P('tensor', 'fsdp')),
    (_LATENT + 'mlp/out/bias', P()),
    # Folded, [heads, latents, D].
    (_LATENT + 'folded_(keys|values)', P('tensor', None, 'fsdp')),
)


# After so long without a sign of one process the others end (JAX's own: 100).
# A thread of its own gives the signs, also while a program is compiled.
_HEARTBEAT_S = 20


def start(coordinator=None, num_processes=None, process_id=None,
          auto_detect=False):
  """Joins this process to the others, before the first use of a device.

  Arguments left None come from JAXRET_COORDINATOR (host:port),
  JAXRET_NUM_PROCESSES and JAXRET_PROCESS_ID; `auto_detect` asks the cluster
  (Slurm, TPU pods). With none of these the run is a single process. CPU
  processes talk over gloo.
  """
  environment = os.environ.get
  coordinator = coordinator or environment('JAXRET_COORDINATOR')
  if num_processes is None:
    num_processes = environment('JAXRET_NUM_PROCESSES')
  if process_id is None:
    process_id = environment('JAXRET_PROCESS_ID')
  given = [coordinator, num_processes, process_id]
  if any(value is not None for value in given) and None in given:
    raise ValueError(
        'several processes need a coordinator address, the number of '
        f'processes and a process id, got {given}: set all three or none')
  if coordinator is None and not auto_detect:
    return
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  if coordinator is None:
    jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_S)
  else:
    jax.distributed.initialize(
        coordinator, int(num_processes), int(process_id),
        heartbeat_timeout_seconds=_HEARTBEAT_S)


def make_mesh(shape=None, devices=None):
  """The mesh over all devices; one axis may be -1, 'whatever is left'.

  shape: mapping from `AXES` to sizes, absent axes are 1; default {'data': -1}.
  With `data` and `fsdp` both -1, `fsdp` takes up to MOST_FSDP of what is left,
  a power of two, and `data` the rest.
  Several TPU slices are apart along `data`, and together along the others.
  Raises ValueError for an unknown axis, a product unlike the device count, or
  a `data` that several slices do not divide.
  """
  shape = dict(shape or {'data': -1})
  devices = jax.devices() if devices is None else list(devices)
  unknown = sorted(set(shape) - set(AXES))
  if unknown:
    raise ValueError(f'mesh has no axis {unknown[0]!r}: use {AXES}')
  sizes = [int(shape.get(axis, 1)) for axis in AXES]
  fixed = math.prod(size for size in sizes if size != -1)
  if sizes[:2] == [-1, -1] and fixed > 0 and len(devices) % fixed == 0:
    apart = fixed * device_grid.count_slices(devices)
    sizes[1] = math.gcd(len(devices) // apart, MOST_FSDP)
    fixed *= sizes[1]
  if sizes.count(-1) == 1 and fixed > 0 and len(devices) % fixed == 0:
    sizes[sizes.index(-1)] = len(devices) // fixed
  if min(sizes) < 1 or math.prod(sizes) != len(devices):
    given = dict(zip(AXES, sizes))
    raise ValueError(
        f'mesh {given} does not fit {len(devices)} devices: its sizes must '
        'multiply to that number, with one of them -1, or data and fsdp')
  return Mesh(device_grid.arranged(dict(zip(AXES, sizes)), devices), AXES,
              axis_types=(AxisType.Auto,) * len(AXES))


def local_mesh():
  """The mesh over this process's devices, for its own share of a work."""
  return make_mesh(devices=jax.local_devices())


def flatten(tree):
  """Nested dicts as one flat dict {'params/decoder/...': leaf}."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {path_name(path): leaf for path, leaf in leaves}


def unflatten(flat):
  """The inverse of `flatten` for nested dicts."""
  tree = {}
  for path, leaf in flat.items():
    *parents, name = path.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = leaf
  return tree


def path_name(path):
  """The dict keys of a jax key path, '/'-joined.

  Positions and attributes are left out, so that a parameter's moments inside
  an optimizer state carry the parameter's own path.
  """
  keys = [key for key in path if isinstance(key, jax.tree_util.DictKey)]
  return jax.tree_util.keystr(keys, simple=True, separator='/')


def spec_for(path, rules=RULES):
  """The PartitionSpec of the one rule that matches the whole path.

  Raises ValueError when no rule or more than one matches.
  """
  matches = [rule for rule in rules if re.fullmatch(rule[0], path)]
  if len(matches) != 1:
    names = [pattern for pattern, _ in matches] or 'none'
    raise ValueError(
        f'parameter {path!r} must match exactly one sharding rule, matches '
        f'{names}: mend RULES in jaxret/sharding.py')
  return matches[0][1]


def shardings(mesh, tree, rules=RULES):
  """A NamedSharding for every leaf of a tree of arrays or ShapeDtypeStructs.

  Leaves outside any dict, such as an optimizer's step counter, are replicated.
  A parameter that no rule names, of a method from outside, is split along its
  largest axis. A dimension that its mesh axis does not divide stays whole:
  small models run on any mesh, at the price of memory.
  """
  def place(path, leaf):
    name = re.sub(r'^quantized/(.*)/(codes|scale)$', r'params/\1/kernel',
                  path_name(path))
    if not name:
      spec = P()
    elif any(re.fullmatch(pattern, name) for pattern, _ in rules):
      spec = spec_for(name, rules)
    else:
      spec = _unnamed_spec(leaf.shape)
    if len(spec) > leaf.ndim:
      raise ValueError(f'parameter {name!r} has shape {leaf.shape}, its '
                       f'sharding rule wants {len(spec)} dimensions')
    fitting = [axis if axis and size % mesh.shape[axis] == 0 else None
               for size, axis in zip(leaf.shape, spec)]
    return NamedSharding(mesh, P(*fitting))
  return jax.tree_util.tree_map_with_path(place, tree)


def _unnamed_spec(shape):
  """The largest axis over `fsdp`; vectors and numbers stay whole."""
  if len(shape) < 2:
    return P()
  return P(*('fsdp' if axis == int(np.argmax(shape)) else None
             for axis in range(len(shape))))


def abstract(mesh, tree, rules=RULES):
  """The shapes of a tree as ShapeDtypeStructs placed by the rules."""
  return jax.tree.map(
      lambda leaf, place: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=place),
      tree, shardings(mesh, tree, rules))


def replicated(mesh):
  return NamedSharding(mesh, P())


def batch_sharding(mesh):
  """The leading axis over `data` and `fsdp`."""
  return NamedSharding(mesh, P(BATCH_AXES))


def batch_shards(mesh):
  """Into how many parts the batch is split."""
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def split_rows(x):
  """Holds an activation [B, ...] to the split of the batch, inside `jit`.

  Left alone, the partitioner may gather activations to where `fsdp` keeps the
  weights, which costs more than the reverse. Does nothing where no mesh is set
  (`jax.set_mesh`) or its devices do not divide the rows.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or x.shape[0] % batch_shards(mesh):
    return x
  return jax.lax.with_sharding_constraint(x, P(BATCH_AXES))


def process_rows(mesh):
  """Which part of each batch this process loads, as (index, count).

  Processes that differ only along `tensor` load the same rows.
  """
  sharding = batch_sharding(mesh)
  shards = {}
  indices = sharding.devices_indices_map((batch_shards(mesh),))
  for device, (rows,) in indices.items():
    shards.setdefault(device.process_index, set()).add(rows.start or 0)
  groups = sorted({tuple(sorted(rows)) for rows in shards.values()})
  sizes = {len(group) for group in groups}
  if sum(map(len, groups)) != batch_shards(mesh) or len(sizes) != 1:
    raise ValueError(
        f'mesh {dict(mesh.shape)} splits the batch unevenly over processes: '
        'make data*fsdp a multiple of the number of processes')
  own = tuple(sorted(shards[jax.process_index()]))
  return groups.index(own), len(groups)


def global_batch(mesh, local_batch):
  """One global batch from the rows that each process has loaded.

  local_batch: tree of NumPy arrays [B / count, ...], see `process_rows`.
  Returns the tree as jax arrays [B, ...], split over `data` and `fsdp`.
  """
  sharding = batch_sharding(mesh)
  _, count = process_rows(mesh)
  def place(array):
    n_rows = len(array) * count
    if n_rows % batch_shards(mesh):
      raise ValueError(
          f'a batch of {n_rows} examples does not split over the '
          f'{batch_shards(mesh)} devices of mesh {dict(mesh.shape)}: use a '
          'multiple')
    return jax.make_array_from_process_local_data(
        sharding, array, (n_rows, *array.shape[1:]))
  return jax.tree.map(place, local_batch)


def constant(mesh, array):
  """A NumPy array [N, ...] that every process holds, put on the mesh.

  Its rows are split like a batch where that divides N, else replicated.
  """
  array = np.asarray(array)
  return jax.make_array_from_callback(
      array.shape, constant_sharding(mesh, array.shape),
      lambda index: array[index])


def constant_sharding(mesh, shape):
  """Where `constant` puts an array of this shape."""
  whole = not shape or shape[0] % batch_shards(mesh)
  return replicated(mesh) if whole else batch_sharding(mesh)


def replicate(mesh, array):
  """A NumPy array that every process holds, whole on every device."""
  array = np.asarray(array)
  return jax.make_array_from_callback(
      array.shape, replicated(mesh), lambda index: array[index])


def to_host(tree):
  """The whole of every array as NumPy, on every process."""
  def fetch(array):
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
      return np.asarray(array)
    if array.is_fully_replicated:
      return np.asarray(array.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return jax.tree.map(fetch, tree)


def checksum(params):
  """16 hex digits that change with any bit of any parameter.

  Sums of the bits as integers: exact, and the same for every sharding.
  """
  flat = flatten(to_host(_sums_of_bits(params)))
  text = ','.join(f'{path}={int(flat[path])}' for path in sorted(flat))
  return hashlib.sha256(text.encode()).hexdigest()[:16]


@jax.jit
def _sums_of_bits(tree):
  # One program for all: many at a time, each with a sum over all devices, can
  # wait for each other for ever on CPU.
  def bits(leaf):
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    if leaf.dtype == bool:
      leaf = leaf.astype(width)
    words = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
    mixed = words ^ (words >> 15)
    place = jnp.arange(leaf.shape[-1] if leaf.ndim else 1, dtype=jnp.uint32)
    return jnp.sum(mixed * (2 * place + 1), dtype=jnp.uint32)
  return jax.tree.map(bits, tree)
