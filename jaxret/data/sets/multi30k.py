"""Multi30K: images of Flickr30K with captions in four languages.

The module is also the command that builds LECCR's files from the original
texts:

  python -m jaxret.data.sets.multi30k --texts DIR --out DIR --language fr \\
      [--translated FILE]

DIR holds {train,val,test_2016_flickr}.{en,de,fr,cs}, one caption per line, and
.images.txt with an image's file name per line; each may be a .gz file. What
people wrote in the language is used to evaluate only: to train, give machine
translations of train.en, one per line. jaxret does not translate.
"""
import argparse
import pathlib
import sys

from jaxret import files
from jaxret.data import entries
from jaxret.data.sets import nrccr

LAYOUT = nrccr.Layout(
    'multi30k',
    {'train': 'Flickr30ktrain_enc', 'validation': 'multi30kval_{language}',
     'test': 'multi30ktest_{language}_2016'},
    'Flickr30ktrain_google_enc2{language}',
    {'train': 'train_id.txt', 'validation': 'val_id.txt',
     'test': 'test_id_2016.txt'}, 'image')
_SPLITS = {'validation': 'val', 'test': 'test_2016_flickr'}
_TRAIN = 'train'
# Of lines that are as people wrote them; translators agree on few.
_MOST_EQUAL = 0.5


def parallel(section, split, language):
  """In the layout of NRCCR and LECCR."""
  return nrccr.open_split(LAYOUT, section, split, language)


def convert(texts_dir, out_dir, language, translated=None):
  """Writes caption files and id lists under `out_dir`.

  Always for validation and test in `language` and for the English training
  captions; for translated training captions if `translated` is given.
  Returns {file: number of captions}. Errors: ValueError naming file and line.
  """
  texts_dir = pathlib.Path(texts_dir).expanduser()
  out_dir = pathlib.Path(out_dir).expanduser()
  english = _captions(texts_dir, _TRAIN, 'en', 'enc')
  written = {LAYOUT.texts['train']: english}
  if translated is not None:
    _refuse_human(texts_dir, translated, language)
    written[LAYOUT.translated.format(language=language)] = _captions(
        texts_dir, _TRAIN, language, f'enc2{language}', translated)
  for split, stem in _SPLITS.items():
    name = LAYOUT.texts[split].format(language=language)
    written[name] = _captions(texts_dir, stem, language, language)
  for split, stem in {'train': _TRAIN, **_SPLITS}.items():
    ids = dict.fromkeys(_ids(texts_dir, stem))
    _write(out_dir / LAYOUT.id_folders[0] / LAYOUT.ids[split], ids)
  for name, lines in written.items():
    _write(out_dir / 'TextData' / f'{name}.caption.txt', lines)
  return {name: len(lines) for name, lines in written.items()}


def _captions(texts_dir, stem, language, tag, path=None):
  """Lines of a caption file, in the order of the source."""
  path = path or _find(texts_dir, f'{stem}.{language}')
  texts, ids = _read(path), _ids(texts_dir, stem)
  if len(texts) != len(ids):
    raise ValueError(
        f'{path}, line {min(len(texts), len(ids)) + 1}: got {len(texts)} '
        f'captions for the {len(ids)} images of {stem}.images.txt; wanted one '
        'per line, in the same order')
  lines, seen = [], {}
  for number, (visual, text) in enumerate(zip(ids, texts), 1):
    if not text.strip():
      raise ValueError(f'{path}, line {number}: got an empty caption of '
                       f'{visual!r}; wanted a text')
    lines.append(f'{visual}#{tag}#{seen.setdefault(visual, 0)} {text.strip()}')
    seen[visual] += 1
  return lines


def _refuse_human(texts_dir, translated, language):
  """Training texts must not be what people wrote in the language."""
  source = _find(texts_dir, f'{_TRAIN}.{language}', missing_ok=True)
  if source is None:
    return
  human, given = _read(source), _read(translated)
  equal = sum(a.strip() == b.strip() for a, b in zip(human, given))
  if equal > _MOST_EQUAL * max(1, len(given)):
    first = next(i for i, (a, b) in enumerate(zip(human, given), 1)
                 if a.strip() == b.strip())
    raise ValueError(
        f'{translated}, line {first}: {equal} of {len(given)} lines are those '
        f'of {source}, which people wrote: this setting trains on machine '
        f'translations of {_TRAIN}.en alone')


def _ids(texts_dir, stem):
  return [nrccr.visual_id(line.strip()) for line in _read(
      _find(texts_dir, f'{stem}.images.txt'))]


def _find(texts_dir, name, missing_ok=False):
  for path in (texts_dir / name, texts_dir / f'{name}.gz'):
    if path.is_file():
      return path
  if missing_ok:
    return None
  raise ValueError(f'{texts_dir} has no {name} and no {name}.gz; wanted the '
                   'original texts of Multi30K, '
                   'https://github.com/multi30k/dataset')


def _read(path):
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise ValueError(f'{path}: no such file; wanted one caption per line')
  return [line for _, line in entries.lines(path)]


def _write(path, lines):
  files.write_atomically(path, ''.join(f'{line}\n' for line in lines).encode())


def main(arguments=None):
  parser = argparse.ArgumentParser(
      prog='python -m jaxret.data.sets.multi30k', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--texts', required=True, metavar='DIR')
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--language', required=True)
  parser.add_argument('--translated', metavar='FILE')
  chosen = parser.parse_args(arguments)
  try:
    written = convert(
        chosen.texts, chosen.out, chosen.language, chosen.translated)
  except ValueError as error:
    sys.exit(f'error: {error}')
  for name, count in written.items():
    print(f'{name}: {count} captions')


if __name__ == '__main__':
  main()
