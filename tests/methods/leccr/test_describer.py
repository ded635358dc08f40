"""The MLLMs that describe, opened from their own files."""
import jax
import pytest

from jaxret import sharding
from jaxret.data import descriptions, text, types
from jaxret.data.shapes import render
from jaxret.methods.leccr import describe, describer
from jaxret.models.videochat import files as videochat
from tests import tiny_captioner, tiny_runs


@pytest.fixture(scope='module')
def mesh():
  return sharding.make_mesh(devices=jax.devices()[:2])


@pytest.mark.slow
def test_videochat_flash_describes_from_its_files(
    mesh, tmp_path, monkeypatch):
  for name, value in tiny_runs.TINY_TOWER.items():
    monkeypatch.setattr(videochat, name, value)
  directory = tmp_path / 'model'
  tiny_runs.write_released_model(directory, tiny_captioner.CAPTIONS, 16)
  config = tiny_captioner.make_config()
  with config.unlocked():
    config.model.update(family='videochat_flash', pretrained=str(directory))
    config.media = {'clips': 2}
  tokenizer = text.load_tokenizer(directory)
  found = describer.pretrained(config, mesh)
  items = [types.Item('clip', video=tiny_runs.video_bytes(0)),
           types.Item('still', image=render.encode_image(
               tiny_captioner.pixels(1, 40, 40))),
           types.Item('other', video=tiny_runs.video_bytes(1))]
  for item, clips in zip(items, (2, 1, 2)):
    seen = found.read(item)
    batch = found.batch(found.params, found.pad([seen], found.shape(seen)))
    assert batch['features'].shape == (1, clips, 4, 16)
    assert (batch['tokens'] == types.VISUAL).sum() == 4 * clips
    asked = tokenizer.decode(batch['tokens'][0, -20:].clip(0))
    assert asked.endswith(f' details.{text.END}\n{text.START}assistant\n')
  for name, order in (('a', items), ('b', items[::-1])):
    describe.describe(found, order, tmp_path / name, 2, 5, mesh,
                     show_progress=False)
  where = {item.id: item.id for item in items}
  together = descriptions.load(tmp_path / 'a', where)
  assert together == descriptions.load(tmp_path / 'b', where)
  assert all(together.values())


def test_other_families_are_refused(mesh):
  config = tiny_captioner.make_config()
  config.model.family = 'llava'
  with pytest.raises(ValueError, match="'llava' is not known; want one of qw"):
    describer.pretrained(config, mesh)
