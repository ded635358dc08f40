"""Spoils the files of finished work directories, and runs again.

  python -m tests.spoilt_workdirs SYSTEM DIRECTORY [PART OF PARTS]

makes a tiny run of blim, unite, mm_embed or leccr in DIRECTORY, damages a copy
of it in one way after the other, goes on with what was done before or with
parts of it to do again, and prints a line of JSON for each: 'same results', 'a
line that names the file', or what must not be. PARTS > 1: every so manyth.
"""
import contextlib
import io
import json
import pathlib
import re
import shutil
import sys

import numpy as np

from jaxret import main as jaxret_main
from tests import finished_runs

GOOD = 'same results', 'a line that names the file'
# What is taken away before a run goes on, so that it reads what made it.
DONE = ('results.json',)
SCORED = ('results.json', '*scores', '*embeddings', '*searches')
# {system: ((regex of files, what is taken away), ...)}.
CASES = {
    'blim': (
        (r'scores/test/.*|features/test/.*|media/test.json|config.json|'
         r'(metrics|skipped)\.jsonl|results\.(json|txt)|report.html|'
         r'ranks.npz|provenance.json', DONE),
        (r'features/test/.*|tokenizer/.*|(tower/)?config.json|'
         r'checkpoints/2/.*', SCORED),
        (r'videos/test/.*|tower/.*', (*SCORED, 'features')),
        (r'(checkpoints/1|tokenizer|features/train)/.*|metrics.jsonl',
         (*SCORED, 'checkpoints/2'))),
    'unite': (
        (r'embeddings/.*|.*config.json|.*metrics.jsonl|media/.*', DONE),
        (r'tokenizer/.*|(stage1/)?checkpoints/2/.*', SCORED),
        (r'(tokenizer|stage1/checkpoints/2)/.*', (*SCORED, 'checkpoints'))),
    'mm_embed': (
        # Those in mined/ are not read again once negatives are mined.
        (r'.*searches/.*|(?!mined/).*embeddings/.*|'
         r'.*(mined|hard)/[^/]*\.jsonl?', DONE),
        (r'.*checkpoints/2/run/.*|.*statistics.json', SCORED),
        (r'.*mined?/.*|.*\.ranked\.npy|.*statistics.json',
         (*SCORED, 'checkpoints', 'rerank'))),
    'leccr': (
        (r'descriptions/.*|.*tokenizer/.*|.*skipped.jsonl|.*embeddings/.*',
         DONE),
        (r'captioner/.*', (*SCORED, 'descriptions')),
        (r'\w\w/\w+/(config.json|checkpoints/2/.*)', SCORED))}


def _bit(data, share):
  data = bytearray(data)
  data[int(len(data) * share)] ^= 4
  return bytes(data)


def _other_words(data):
  """A vocabulary in which two words have each other's number."""
  whole = json.loads(data)
  words = whole['model']['vocab']
  one, other = sorted(words, key=words.get)[-2:]
  words[one], words[other] = words[other], words[one]
  return json.dumps(whole).encode()


def _array(change, data):
  file = io.BytesIO()
  np.save(file, change(np.load(io.BytesIO(data))))
  return file.getvalue()


def _other_type(array):
  return (array['vector'] if array.dtype.names else
          array.astype(np.float64 if array.dtype.kind == 'f' else np.int64))


def ways(path, others):
  """{name: bytes, None = removed} of what may become of a file."""
  data = path.read_bytes()
  found = {'removed': None, 'cut': data[:len(data) // 2], 'empty': b'',
           'noise': b'\xff' * 16 + data[16:]}
  if data:
    found |= {'bit': _bit(data, 0.5), 'late bit': _bit(data, 0.8)}
  if path.suffix == '.jsonl':
    found['half a line'] = data + data[:len(data.partition(b'\n')[0]) // 2]
  if path.suffix == '.json':
    found['list'] = b'[1]'
  if path.name == 'tokenizer.json':
    found['other words'] = _other_words(data)
  if path.suffix == '.npy':
    found['shape'] = _array(lambda array: array[:-1], data)
    found['type'] = _array(_other_type, data)
  like = [other for other in others if other != path
          and other.is_file() and other.suffix == path.suffix
          and other.parent == path.parent
          and other.read_bytes() != data]
  if like:
    found['swapped'] = like[0].read_bytes()
  return found


def cases(system, workdir):
  """[(file, way, what is taken away)] of a finished run."""
  found = []
  for pattern, gone in CASES[system]:
    files = sorted(path for path in workdir.rglob('*') if path.is_file() and
                   re.fullmatch(pattern, str(path.relative_to(workdir))))
    seen = set()
    for path in files:
      # Of files whose names are hashes one of a directory stands for all.
      kind = path.parent, re.sub(r'[0-9a-f]{12,}', '', path.name)
      if kind not in seen:
        seen.add(kind)
        found += [(path, way, gone) for way in ways(path, files)]
  return found


def remove(workdir, patterns):
  for pattern in patterns:
    for path in list(workdir.rglob(pattern.lstrip('*')) if pattern[0] == '*'
                     else workdir.glob(pattern)):
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink(missing_ok=True)


def answered(run, workdir, file, whole):
  """What a run in a spoilt directory gives: (verdict, its last line)."""
  shown = io.StringIO()
  try:
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(
        io.StringIO()):
      code = run(workdir)
  except BaseException as error:  # what must not be
    return 'TRACEBACK', f'{type(error).__name__}: {error}'
  lines = [line for line in shown.getvalue().splitlines() if line.strip()]
  if not code:
    other = finished_runs.differences(finished_runs.numbers(workdir), whole)
    return ('OTHER RESULTS', other[:3]) if other else (GOOD[0], '')
  line = lines[-1] if lines else ''
  places = [file, *(folder for folder in file.parents
                    if workdir in folder.parents)]
  named = any(str(place) in line for place in places) or (
      file.name == 'config.json' and 'was made by another config' in line)
  if line.startswith('jaxret: ') and named:
    return GOOD[1], line
  return 'A LINE WITHOUT THE FILE', line


def spoil(system, directory, part=0, parts=1):
  """Yields {'file', 'way', 'gone', 'verdict', 'line'} of each case."""
  config, flags = finished_runs.command(system, directory / 'shapes')
  def go(workdir):
    return jaxret_main.main(
        ['jaxret', f'--config={config}', f'--workdir={workdir}', *flags])
  whole = directory / 'whole'
  if not (whole / 'results.json').exists():
    assert go(whole) == 0
  print(f'{system}: undisturbed', file=sys.stderr, flush=True)
  wanted = finished_runs.numbers(whole)
  for file, way, gone in cases(system, whole)[part::parts]:
    # Where it was made, since features and others name their places.
    workdir = directory / 'spoilt'
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.copytree(whole, workdir)
    name = file.relative_to(whole)
    content = ways(file, list(file.parent.iterdir()) if way == 'swapped'
                   else [])[way]
    remove(workdir, gone)
    if content is None:
      (workdir / name).unlink(missing_ok=True)
    elif (workdir / name).parent.is_dir():
      (workdir / name).write_bytes(content)
    verdict, line = answered(go, workdir, workdir / name, wanted)
    yield {'file': str(name), 'way': way, 'gone': gone[-1], 'verdict': verdict,
           'line': line if isinstance(line, list) else line.replace(
               str(directory), '...')}


def main(system, directory, part='0', parts='1'):
  directory = pathlib.Path(directory).absolute()
  directory.mkdir(parents=True, exist_ok=True)
  for found in spoil(system, directory, int(part), int(parts)):
    print(json.dumps(found), flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
