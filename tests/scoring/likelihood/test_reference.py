"""Full passes for each pair against the same in a plain double loop."""
import jax
import numpy as np
import pytest

from jaxret import sharding
from jaxret.scoring.likelihood import reference
from jaxret.scoring.likelihood import score as likelihood
from tests.tiny_likelihood import ATOL, MODEL, VIDEOS, one_device


@pytest.mark.slow
def test_reference_mode_runs_full_passes_of_each_pair(
    params, features, prompts, wanted):
  mesh = sharding.make_mesh(devices=jax.devices()[:8])
  for device_mesh, rows in ((one_device(), 5), (mesh, 16)):
    got = reference.score(
        MODEL, jax.device_put(params, sharding.replicated(device_mesh)),
        device_mesh, prompts, features, features.mean(2),
        likelihood.Options(rows=rows, nonzero_denominator=False))
    np.testing.assert_allclose(
        got.text_given_video, wanted.text_given_video, atol=ATOL)
    np.testing.assert_allclose(
        got.video_given_text, wanted.video_given_text, atol=ATOL)
    np.testing.assert_allclose(
        got.text_prior, np.tile(wanted.text_prior, (VIDEOS, 1)), atol=ATOL)
    np.testing.assert_allclose(got.video_prior, wanted.video_prior, atol=ATOL)
