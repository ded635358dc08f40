"""Parts of tensors as parameters, by hand; shapes that fit nothing."""
import itertools

import numpy as np
import pytest

from jaxret.models.transforms import TRANSFORMS


def numbered(*shape):
  return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize('name, shape, want', [
    ('copy', (3, 4), lambda t: t), ('transpose', (3, 4), lambda t: t.T),
    ('query', (6, 4), lambda t: t[:2].T), ('key', (6, 4), lambda t: t[2:4].T),
    ('value', (6, 4), lambda t: t[4:].T), ('value', (6,), lambda t: t[4:]),
    ('first_half', (6, 4), lambda t: t[:3].T),
    ('second_half', (6,), lambda t: t[3:]),
    ('flatten', (5, 3, 2, 2, 2), lambda t: t.reshape(5, -1).T),
    ('flatten', (5, 24), lambda t: t.T),
    ('patch', (5, 3, 2, 2),
     lambda t: t.transpose(2, 3, 1, 0).reshape(-1, 5)),
    ('patch', (5, 3, 1, 2, 2),
     lambda t: t[:, :, 0].transpose(2, 3, 1, 0).reshape(-1, 5))])
def test_every_part_is_that_of_the_whole(name, shape, want):
  tensor, transform = numbered(*shape), TRANSFORMS[name]
  whole = want(tensor)
  assert transform.shape(shape) == whole.shape
  halves = [(slice(0, size // 2), slice(size // 2, size))
            for size in whole.shape]
  for index in itertools.product(*halves):
    np.testing.assert_array_equal(transform.read(tensor, index), whole[index])


@pytest.mark.parametrize('name, shape, wanted', [
    ('patch', (5, 2, 2, 3), (12, 5)),  # MLX's order of axes, as many numbers
    ('flatten', (5, 2, 2, 2, 3), (24, 5)),
    ('patch', (5, 12), (12, 5)),  # flat, in another order
    ('query', (7, 4), (4, 2)), ('first_half', (7,), (3,)),
    ('patch', (), (12, 5)), ('flatten', (), (24, 5)), ('key', (), (2,))])
def test_what_does_not_go_with_a_transform_fits_no_parameter(
    name, shape, wanted):
  assert TRANSFORMS[name].shape(shape) == shape != wanted
