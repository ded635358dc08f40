"""The items of the CLIP bench."""
import numpy as np

from jaxret.bench import clip_items

TINY = clip_items.PRESETS['tiny']


def test_items_are_texts_images_and_videos_of_many_sizes():
  made = clip_items.mixed(TINY, 32)
  end = TINY.config.text.eos_id
  texts, images, videos = made[::2], made[1::4], made[3::4]
  assert all(one.pixels is None and one.tokens[-1] == end
             and (one.tokens[:-1] < end).all()
             and len(one.tokens) <= TINY.config.text.max_tokens
             for one in texts)
  assert {len(one.pixels) for one in images} == {1}
  assert len({len(one.pixels) for one in videos}) > 2
  assert [clip_items.kind(one) for one in made[:2]] == [False, True]
  assert clip_items.length(videos[0]) == len(videos[0].pixels)


def test_padding_keeps_what_is_read():
  made = clip_items.mixed(TINY, 8)
  read = clip_items.Ready(TINY.config, made)
  for group in (made[::2], made[1::2]):
    shape = max(map(read.bucket, group))
    batch = read.pad(group, shape)
    counts = batch.get('n_frames', batch.get('length'))
    rows = batch.get('pixels', batch.get('tokens'))
    for one, row, count in zip(group, rows, counts):
      wanted = one.tokens if one.pixels is None else one.pixels
      np.testing.assert_array_equal(row[:count], wanted)
      assert not row[count:].any()


def test_flops_count_every_frame_and_token():
  one, = clip_items.mixed(TINY, 2)[1:]
  c = TINY.config
  v, tokens = c.vision.encoder, c.vision.n_tokens
  layer = (2 * tokens * (4 * v.width ** 2 + 2 * v.width * v.mlp_width)
           + 4 * tokens ** 2 * v.width)
  wanted = (v.layers * layer
            + 2 * c.vision.grid ** 2 * 3 * c.vision.patch_px ** 2 * v.width
            + 2 * v.width * c.width)
  assert clip_items.counts(c, [one])['flops'] == wanted
