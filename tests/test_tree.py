"""Where the test of a file is: at the same path, and named after it."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = 60  # lines; what is no longer is tested with what uses it
# Files whose tests are not there yet, and why. These come from another branch:
# empty this after the merge.
EXCEPTIONS = dict.fromkeys((
    'jaxret/bench/captioning.py', 'jaxret/bench/multimodal.py',
    'jaxret/bench/tile_parts.py', 'jaxret/bench/torch_captioning.py',
    'jaxret/bench/torch_qwen2_vl.py', 'jaxret/bench/torch_scoring.py',
    'jaxret/bench/training.py', 'jaxret/models/layers.py',
    'jaxret/models/llava/latent_attention.py', 'jaxret/models/llava/model.py',
    'jaxret/models/llava/names.py', 'jaxret/models/names.py',
    'jaxret/models/qwen2_vl/vision.py', 'jaxret/models/videochat/dual.py',
    'jaxret/models/videochat/files.py'), 'its test is being moved')


def mirror(path):
  """jaxret/data/text.py -> tests/data/test_text.py."""
  folder = path.relative_to(ROOT / 'jaxret').parent
  return ROOT / 'tests' / folder / f'test_{path.stem}.py'


def lacking():
  """Names of all files without a test of their own."""
  return {str(path.relative_to(ROOT)) for path in (
      ROOT / 'jaxret').rglob('*.py')
          if path.name != '__init__.py' and not mirror(path).is_file()
          and len(path.read_text().splitlines()) > SMALL}


def test_every_file_has_its_test_at_the_same_path():
  missing = sorted(lacking() - EXCEPTIONS.keys())
  assert not missing, '; '.join(
      f'{name} has no {mirror(ROOT / name).relative_to(ROOT)}'
      for name in missing)


def test_a_file_that_has_its_test_is_no_exception():
  stale = sorted(EXCEPTIONS.keys() - lacking())
  assert not stale, f'take out of EXCEPTIONS: {", ".join(stale)}'
