"""Frame features by memory map, and files that do not fit each other."""
import numpy as np
import pytest

from jaxret.data import bigfile, types

NAMES = ['v1_0', 'v1_1', 'v2_0', 'v1_2', 'dé_0']
FRAMES = {'v1': ['v1_0', 'v1_1', 'v1_2'], 'v2': ['v2_0'], 'v3': [NAMES[4]]}


@pytest.fixture
def vectors():
  return np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def directory(tmp_path, vectors):
  (tmp_path / 'shape.txt').write_text('5 4\n')
  # Separated by any white space, not in UTF-8.
  (tmp_path / 'id.txt').write_text(
      ' '.join(NAMES[:2]) + '\n' + '\n'.join(NAMES[2:]), encoding='latin-1')
  (tmp_path / 'feature.bin').write_bytes(vectors.tobytes())
  (tmp_path / 'video2frames.txt').write_text(repr(FRAMES), encoding='utf-8')
  return tmp_path


def items(*ids):
  return [types.Item(visual) for visual in ids]


def test_frames_of_videos_in_their_order(directory, vectors):
  features = bigfile.FeatureSet(directory)
  frames = features.frames_of(items('v2', 'v1', 'v3'))
  assert (len(frames), frames.longest, frames.width) == (3, 3, 4)
  np.testing.assert_array_equal(frames[0], vectors[[2]])
  np.testing.assert_array_equal(frames[1], vectors[[0, 1, 3]])
  np.testing.assert_array_equal(frames[2], vectors[[4]])
  cut = features.frames_of(items('v2', 'v1'), max_frames=2)
  assert cut.longest == 2
  np.testing.assert_array_equal(cut[1], vectors[[0, 1]])


# Characters of which a byte counts as white space in ISO-8859-1.
WIDE = ['à_0', 'x…_1', 'Š_2', '日本_3', 'Ѕ_4']


@pytest.mark.parametrize('mark', ('', '\ufeff'))
def test_names_in_utf8(directory, vectors, mark):
  (directory / 'id.txt').write_bytes((mark + ' '.join(WIDE)).encode())
  (directory / 'shape.txt').write_bytes(f'{mark}5 4\r\n'.encode())
  (directory / 'video2frames.txt').write_bytes(
      (mark + repr({'ü': WIDE[::-1]})).encode())
  frames = bigfile.FeatureSet(directory).frames_of(items('ü'))
  np.testing.assert_array_equal(frames[0], vectors[::-1])


def test_frames_may_be_named_in_iso_8859_1(directory, vectors):
  (directory / 'video2frames.txt').write_bytes(
      repr(FRAMES).encode('ISO-8859-1'))
  frames = bigfile.FeatureSet(directory).frames_of(items('v3'))
  np.testing.assert_array_equal(frames[0], vectors[[4]])


def test_vectors_are_mapped_not_read(directory):
  found = bigfile.BigFile(directory)
  assert isinstance(found['v1_0'], np.memmap)
  assert 'v1_0' in found and 'v9_0' not in found


def refused(message, call):
  with pytest.raises(ValueError, match=message) as caught:
    call()
  assert '\n' not in str(caught.value)


def test_sizes_that_do_not_fit_are_named(directory, vectors):
  def open_():
    return bigfile.BigFile(directory)
  (directory / 'feature.bin').write_bytes(vectors[:4].tobytes())
  refused(r'feature.bin: got 64 bytes, .*shape.txt, line 1, says 5 x 4 .* 80 b',
          open_)
  (directory / 'shape.txt').write_text('6 4')
  refused(r'id.txt: got 5 names, .*shape.txt, line 1, says 6', open_)
  (directory / 'shape.txt').write_text('5x4')
  refused("shape.txt, line 1: got '5x4', wanted two numbers", open_)
  (directory / 'shape.txt').write_text('5 4')
  (directory / 'id.txt').write_text('a b c a d')
  refused("id.txt: got the name 'a' twice", open_)
  (directory / 'id.txt').unlink()
  refused('id.txt: no such file; wanted shape.txt', open_)


def test_an_id_without_features_is_named_by_its_line(directory):
  refused(r"train_id.txt, line 7: 'v9' has no features in ",
          lambda: bigfile.FeatureSet(directory).frames_of(items('v1', 'v9'), {
              'v1': 'train_id.txt, line 2', 'v9': 'train_id.txt, line 7'}))
  refused("video2frames.txt has no frames of 'v9'",
          lambda: bigfile.FeatureSet(directory).frames_of(items('v9')))
  (directory / 'video2frames.txt').write_text("{'v1': ['v1_0', 'gone']}")
  refused(r"id.txt has no 'gone', which video2frames.txt names",
          lambda: bigfile.FeatureSet(directory).frames_of(items('v1')))


@pytest.mark.parametrize('text, message', [
    ("{'a':\n ['b', }", r'line 2: not the text of a Python dict'),
    ("__import__('os').getcwd()", 'line 1: got an expression'),
    ("{'a': [open('x')]}", 'line 1: got an expression'),
    ("['a']", 'line 1: got list, wanted'),
    ("{'a': 'b'}", "the frames of 'a' are no list of strings"),
    ("{'a': [1]}", "the frames of 'a' are no list of strings"),
])
def test_video2frames_is_parsed_and_never_run(tmp_path, text, message):
  path = tmp_path / 'video2frames.txt'
  path.write_text(text)
  refused(message, lambda: bigfile.read_video2frames(path))
