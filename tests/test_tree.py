"""Where the test of a file is: at the same path, and named after it."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = 60  # lines; what is no longer is tested with what uses it


def mirror(path):
  """jaxret/data/text.py -> tests/data/test_text.py."""
  folder = path.relative_to(ROOT / 'jaxret').parent
  return ROOT / 'tests' / folder / f'test_{path.stem}.py'


def test_every_file_has_its_test_at_the_same_path():
  lacking = [path for path in sorted((ROOT / 'jaxret').rglob('*.py'))
             if path.name != '__init__.py' and not mirror(path).is_file()
             and len(path.read_text().splitlines()) > SMALL]
  assert not lacking, '; '.join(
      f'{path.relative_to(ROOT)} has no {mirror(path).relative_to(ROOT)}'
      for path in lacking)
