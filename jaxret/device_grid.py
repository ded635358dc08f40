"""Which device stands where in a mesh: near ones along the last axes."""
from jax.experimental import mesh_utils


def count_slices(devices):
  """How many TPU slices they are of, 1 of other devices."""
  if devices[0].platform != 'tpu':
    return 1
  return len({getattr(device, 'slice_index', 0) for device in devices})


def arranged(shape, devices):
  """The devices as an array of a mesh's shape, {axis: size}.

  Several TPU slices are apart along the first axis, and together along the
  others. Raises ValueError where they do not divide it.
  """
  (first, size), *_ = shape.items()
  sizes, slices = tuple(shape.values()), count_slices(devices)
  # As jax.make_mesh, which cuts the sides of a torus for some TPUs alone.
  if slices == 1:
    return mesh_utils.create_device_mesh(
        sizes, devices, allow_split_physical_axes=True)
  if size % slices:
    raise ValueError(
        f'mesh {shape}: its devices are of {slices} slices, between which the '
        f'network is slow: make {first} a multiple of that, so that the other '
        'axes stay within a slice')
  apart = slices, *[1] * (len(sizes) - 1)
  return mesh_utils.create_hybrid_device_mesh(
      (size // slices, *sizes[1:]), apart, devices,
      allow_split_physical_axes=True)
