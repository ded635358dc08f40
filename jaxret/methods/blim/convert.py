"""Imports what the authors of BLiM publish: features and score matrices.

  python -m jaxret.methods.blim.convert --features data/MSRVTT/features \
      --out DIR
  python -m jaxret.methods.blim.convert --scores scores/msrvtt.pth \
      --out FILE.npz

The only part of jaxret that needs torch, to read .pth files.
"""
import argparse
import io
import pathlib
import sys

import numpy as np

from jaxret import files
from jaxret.data import features

# The authors' keys -> ours; rows are queries, columns candidates.
_MATRICES = {'t2v': 'text_to_video', 'v2t': 'video_to_text'}


def convert_features(pth_dir, out_dir, part_size=256, progress=True):
  """Stores the files {id}.pth of a directory for a FeatureStore.

  Each file holds one tensor [clips, tokens, width], in BLiM [4, 64, 1024]
  float16. A run that was interrupted goes on where it stopped.
  Returns the ids, sorted. Errors: ValueError naming the file.
  """
  pth_dir = pathlib.Path(pth_dir).expanduser()
  # Ids of LSMDC hold dots: only the last suffix goes.
  ids = sorted(path.name.removesuffix('.pth') for path in pth_dir.glob('*.pth'))
  if not ids:
    raise ValueError(
        f'{pth_dir} has no .pth files; wanted the directory features/ of one '
        'data set, linked at https://github.com/mlvlab/BLiM (section Dataset)')
  shape = _load_feature(pth_dir / f'{ids[0]}.pth').shape

  def extract(indices):
    arrays = []
    for i in indices:
      path = pth_dir / f'{ids[i]}.pth'
      arrays.append(_load_feature(path))
      if arrays[-1].shape != shape:
        raise ValueError(f'{path}: got shape {arrays[-1].shape}, wanted '
                         f'{shape} as in {ids[0]}.pth')
    return np.stack(arrays)

  features.write_features(
      out_dir, ids, extract, {'source': 'converted .pth files'}, batch_size=1,
      part_size=part_size, progress=progress)
  return ids


def convert_scores(pth_file, out_file):
  """Turns InternVideo2 score matrices into an .npz file.

  The .pth file holds a dict: t2v [T, V] and v2t [V, T]; the .npz file holds
  text_to_video [T, V] and video_to_text [V, T], float32.
  Errors: ValueError naming the file and what is wrong in it.
  """
  loaded = _load(pth_file)
  if not isinstance(loaded, dict) or not _MATRICES.keys() <= loaded.keys():
    got = (f'a dict with {", ".join(map(str, loaded))}'
           if isinstance(loaded, dict) else type(loaded).__name__)
    raise ValueError(f'{pth_file}: got {got}, wanted a dict with t2v and v2t')
  scores = {ours: _array(pth_file, loaded[theirs])
            for theirs, ours in _MATRICES.items()}
  shapes = [array.shape for array in scores.values()]
  if len(shapes[0]) != 2 or shapes[0] != shapes[1][::-1]:
    raise ValueError(
        f'{pth_file}: got t2v {shapes[0]} and v2t {shapes[1]}, wanted '
        '[texts, videos] and [videos, texts]')
  file = io.BytesIO()
  np.savez(file, **scores)
  files.write_atomically(out_file, file.getvalue())


def _load_feature(path):
  array = _array(path, _load(path))
  if array.ndim != 3:
    raise ValueError(f'{path}: got a tensor of shape {array.shape}, wanted '
                     '[clips, tokens, width]')
  return array


def _array(path, value):
  if not hasattr(value, 'numpy'):
    raise ValueError(
        f'{path}: got {type(value).__name__}, wanted a tensor')
  return value.detach().float().numpy()  # NumPy has no bfloat16


def _load(path):
  try:
    import torch
  except ImportError:
    raise ValueError(
        f'reading {path} needs torch, which is not installed; install it with '
        "pip install -e '.[parity]'") from None
  try:
    return torch.load(path, map_location='cpu', weights_only=True)
  except Exception as error:  # torch raises many kinds for a broken file
    reason = str(error).strip().split('\n')[0]
    raise ValueError(
        f'{path} cannot be read as a .pth file ({reason})') from None


def main(arguments=None):
  parser = argparse.ArgumentParser(
      prog='python -m jaxret.methods.blim.convert', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  source = parser.add_mutually_exclusive_group(required=True)
  source.add_argument('--features', metavar='DIR', help='holds {id}.pth files')
  source.add_argument('--scores', metavar='FILE', help='holds t2v and v2t')
  parser.add_argument('--out', required=True, help='where the result goes')
  chosen = parser.parse_args(arguments)
  try:
    if chosen.features:
      ids = convert_features(chosen.features, chosen.out)
      print(f'{chosen.out}: features of {len(ids)} videos')
    else:
      convert_scores(chosen.scores, chosen.out)
      print(f'{chosen.out}: two score matrices')
  except ValueError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
