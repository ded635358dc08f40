import sys

import numpy as np
import pytest

from jaxret.data import features, types
from jaxret.methods.blim import convert


def _exits(arguments, *parts):
  with pytest.raises(SystemExit) as error:
    convert.main([str(argument) for argument in arguments])
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


@pytest.fixture
def torch():
  return pytest.importorskip('torch')


@pytest.fixture
def pth_dir(torch, tmp_path):
  """Three published features; one id holds dots, as those of LSMDC do."""
  folder = tmp_path / 'features'
  folder.mkdir()
  generator = torch.Generator().manual_seed(0)
  for name in ('video2', 'video10', 'MOVIE_1.5_00.03'):
    torch.save(torch.randn(4, 3, 5, generator=generator).half(),
               folder / f'{name}.pth')
  return folder


def test_published_features_are_read_bit_for_bit(
    torch, pth_dir, tmp_path, capsys):
  out_dir = tmp_path / 'out'
  convert.main(['--features', str(pth_dir), '--out', str(out_dir)])
  assert 'features of 3 videos' in capsys.readouterr().out
  ids = ['video10', 'MOVIE_1.5_00.03', 'video2']
  store = features.FeatureStore(out_dir, [types.Item(i) for i in ids])
  for i, video_id in enumerate(ids):
    want = torch.load(pth_dir / f'{video_id}.pth', weights_only=True).numpy()
    assert store[i].dtype == np.float16
    np.testing.assert_array_equal(store[i], want)


def test_score_matrices_keep_their_directions(torch, tmp_path):
  t2v, v2t = torch.randn(3, 2), torch.randn(2, 3)
  torch.save({'t2v': t2v, 'v2t': v2t}, tmp_path / 'set.pth')
  convert.main(['--scores', str(tmp_path / 'set.pth'),
                '--out', str(tmp_path / 'set.npz')])
  scores = np.load(tmp_path / 'set.npz')
  np.testing.assert_array_equal(scores['text_to_video'], t2v.numpy())
  np.testing.assert_array_equal(scores['video_to_text'], v2t.numpy())
  assert scores['text_to_video'].dtype == np.float32


@pytest.mark.parametrize('content, parts', [
    (lambda t: {'t2v': t(2, 3)}, ('a dict with t2v', 'wanted a dict')),
    (lambda t: t(2, 3), ('got Tensor', 'wanted a dict with t2v and v2t')),
    (lambda t: {'t2v': t(2, 3), 'v2t': t(2, 3)}, ('(2, 3)', '[texts, videos]')),
    (lambda t: {'t2v': 1, 'v2t': t(2, 3)}, ('got int, wanted a tensor',)),
])
def test_other_score_files_are_refused(
    torch, tmp_path, content, parts):
  path = tmp_path / 'set.pth'
  torch.save(content(torch.zeros), path)
  _exits(['--scores', path, '--out', tmp_path / 'x.npz'], path.name,
         *parts)
  assert not (tmp_path / 'x.npz').exists()


def test_broken_features_name_the_file(torch, pth_dir, tmp_path):
  arguments = ['--features', pth_dir, '--out', tmp_path / 'out']
  torch.save(torch.zeros(4, 3, 6).half(), pth_dir / 'wide.pth')
  _exits(arguments, 'wide.pth', '(4, 3, 6)', '(4, 3, 5)')
  torch.save(torch.zeros(4, 3), pth_dir / 'wide.pth')
  _exits(arguments, 'wide.pth', '[clips, tokens, width]')
  (pth_dir / 'wide.pth').write_bytes(b'not a zip file')
  _exits(arguments, 'wide.pth', 'cannot be read')


def test_a_directory_without_features(tmp_path):
  _exits(['--features', tmp_path, '--out', tmp_path / 'out'],
         'has no .pth files', 'mlvlab/BLiM')


def test_missing_torch_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)
  _exits(['--scores', tmp_path / 'set.pth', '--out', 'x.npz'],
         'needs torch', 'pip install')
