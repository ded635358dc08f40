"""The shape of the code: what may import what, and how long things may get.

Imports point down only. A module of level n imports modules of lower levels;
modules of one level import each other only inside one package (jaxret.data,
jaxret.models, ...), never from one package or top-level module to another.
"""
import ast
import json
import pathlib
import subprocess
import sys
import warnings

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# The first name that fits counts; a module that fits none has no level yet,
# and the test asks for one. `methods.*` is a paper's package: its modules have
# the level of their own name in PAPER.
LEVELS = {
    'batches': -1, 'by_rows': -1, 'device_grid': -1, 'gpu_nodes': -1,
    'config_files': 0, 'data.clips': 0, 'data.containers': 0, 'data.images': 0,
    'data.sources': 0,
    'data.types': 0, 'files': 0, 'foreign_files': 0, 'gradients': 0,
    'own_files': 0, 'losses': 0, 'metrics': 0,
    'initial': 0, 'interruption': 0, 'json_lines': 0, 'outside': 0,
    'process_settings': 0,
    'processes': 0, 'program_cache': -1, 'quantization': 0, 'reading': 0,
    'sentence_names': 0,
    'sharding': 0,
    'skipped': 1, 'workdir_lock': 1,
    'config_ranges': 2, 'input_speed': 2, 'protocols': 2,
    'checkpoint': 1, 'comparisons': 1, 'data': 1, 'models': 1, 'optim': 1,
    'executed_flops': 1, 'progress': 2, 'provenance': 1,
    'scoring': 1, 'tpu_slices': 1,
    'report': 2, 'training_plan': 2,
    'methods.base': 2, 'methods.embedding_losses': 2,
    'methods.embedding_plan': 8, 'methods.embedding_run': 7,
    'methods.evaluated': 2,
    'rehearsal': 5, 'retrieval': 4, 'train': 4, 'run': 5, 'embedder': 6,
    'embedding_settings': 2, 'generator': 6,
    'loading': 7, 'reranking': 8, 'sequences': 8, 'answers': 9, 'writing': 10,
    'bench.nearest': 11, 'bench': 9, 'exporting': 10, 'indexing': 10,
    'main': 10, 'serving': 11,
    'integrations': 11, 'trackers': 1, 'vectors': 2,
    'claims': 11, 'verbs': 12, 'cli': 13, '__main__': 14,
}
PAPER = {
    '': 2, 'backbones': 3, 'caption_examples': 3, 'captioner': 3, 'convert': 3,
    'describer': 3, 'examples': 3, 'likelihood': 3, 'method': 3, 'prompts': 3,
    'rerank_examples': 3, 'reranker': 3, 'sets': 3, 'text_prior': 2, 'tower': 3,
    'ask': 6, 'cascade': 6, 'describe': 7, 'evaluator': 6, 'export': 4,
    'features': 6, 'first_stage': 6, 'mine': 6, 'rerank': 6, 'results': 6,
    'rerank_choice': 6,
    'scores': 6, 'search': 6, 'search_results': 6, 'tables': 6, 'tokenizers': 6,
    'phases': 6, 'visuals': 6,
    'opened': 9, 'rerank_run': 7, 'teacher': 7, 'plan': 9, 'prompted': 8,
    'prompted_method': 8, 'prompted_plan': 8, 'prompted_run': 8,
    'prompted_videos': 8, 'run': 8, 'generator': 9, 'score': 9,
    'search_pairs': 9, 'answering': 11,
}

MAX_LINES = {'configs/*.py': 220, 'jaxret/methods/*/method.py': 200,
             'jaxret/**/*.py': 400, 'tests/**/*.py': 400}
MAX_FUNCTION_LINES = 60
WANTED_FUNCTION_LINES = 40

# They import what they name when it is used.
FRONT_DOORS = 'jaxret', 'jaxret.methods'

HEAVY = ('av', 'flax', 'grain', 'jax', 'jinja2', 'matplotlib', 'optax', 'orbax',
         'tensorflow', 'tensorflow_datasets', 'torch', 'transformers')


def _module_name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def _nodes(name, tree):
  """All that runs; what a front door imports for type checkers does not."""
  for node in ast.iter_child_nodes(tree):
    if (name in FRONT_DOORS and isinstance(node, ast.If)
        and ast.unparse(node.test) == 'TYPE_CHECKING'):
      node = ast.Module(node.orelse, [])
    yield node
    yield from _nodes(name, node)


PATHS = {_module_name(path): path
         for path in sorted((ROOT / 'jaxret').rglob('*.py'))}


def _imports(name, path):
  """Full names of everything that a file imports, at any depth in it."""
  package = name if path.name == '__init__.py' else name.rpartition('.')[0]
  for node in _nodes(name, ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        parents = package.split('.')[:len(package.split('.')) - node.level + 1]
        base = '.'.join(parents + ([base] if base else []))
      yield from (f'{base}.{alias.name}' for alias in node.names)


IMPORTS = {name: sorted(set(_imports(name, path)))
           for name, path in PATHS.items()}


def _own_module(imported):
  """The jaxret module behind an imported name, None for another package's."""
  while imported and imported not in PATHS:
    imported = imported.rpartition('.')[0]
  return imported or None


# {module: modules of jaxret that it imports}
EDGES = {name: sorted({module for module in map(_own_module, imported)
                       if module not in (None, 'jaxret', name)})
         for name, imported in IMPORTS.items()}


def _level(name):
  inner = name.removeprefix('jaxret.')
  for prefix, level in LEVELS.items():
    if inner == prefix or inner.startswith(prefix + '.'):
      return level
  if inner == 'methods' or inner.startswith('methods.'):
    return PAPER.get('.'.join(inner.split('.')[2:]))
  return None


def _package(name):
  """The part of the tree inside which modules of one level may meet."""
  parts = name.split('.')
  return '.'.join(parts[1:3] if parts[1] == 'methods' else parts[1:2])


def _reachable(name):
  """The module itself and everything of jaxret that it imports in turn."""
  seen, todo = set(), [name]
  while todo:
    module = todo.pop()
    if module not in seen:
      seen.add(module)
      todo.extend(EDGES[module])
  return sorted(seen)


def _in(name, *packages):
  return any(name == f'jaxret.{p}' or name.startswith(f'jaxret.{p}.')
             for p in packages)


def _offenders(pairs):
  lines = '\n'.join(f'  {line}' for line in pairs)
  return f'offenders:\n{lines}' if lines else ''


def test_every_module_has_a_level():
  missing = [n for n in PATHS if n != 'jaxret' and _level(n) is None]
  assert not missing, f'give these a level in LEVELS: {missing}'


def test_imports_point_down():
  offenders = []
  for name, imported in EDGES.items():
    if name == 'jaxret':
      offenders += [f'jaxret imports {module}' for module in imported]
      continue
    for module in imported:
      here, there = _level(name), _level(module)
      same_package = _package(name) == _package(module)
      if there > here or (there == here and not same_package):
        offenders.append(f'{name} (level {here}) imports {module} ({there})')
  assert not offenders, _offenders(offenders)


def test_data_never_imports_jax():
  forbidden = ('jax', 'jaxlib', 'flax', 'optax', 'orbax')
  offenders = [f'{name}, through {module}, imports {imported}'
               for name in PATHS if _in(name, 'data')
               for module in _reachable(name)
               for imported in IMPORTS[module]
               if imported.split('.')[0] in forbidden]
  assert not offenders, _offenders(offenders)


def test_losses_metrics_and_scoring_never_import_models():
  offenders = [f'{name} imports {module}'
               for name in PATHS if _in(
                   name, 'losses', 'metrics', 'scoring')
               for module in _reachable(name) if _in(module, 'models')]
  assert not offenders, _offenders(offenders)


def test_only_models_import_linen():
  offenders = [f'{name} imports {imported}'
               for name in PATHS if not _in(name, 'models')
               for imported in IMPORTS[name]
               if f'{imported}.'.startswith('flax.linen.')]
  assert not offenders, _offenders(offenders)


def _paper(name):
  """The package of a paper that a module belongs to, or None."""
  parts = name.split('.')
  package = '.'.join(parts[:3])
  is_paper = parts[1:2] == ['methods'] and len(parts) > 2 and (
      PATHS[package].name == '__init__.py')
  return package if is_paper else None


def test_no_paper_imports_another():
  offenders = [f'{name} imports {module}'
               for name in PATHS for module in EDGES[name]
               if _paper(name) and _paper(module) not in (None, _paper(name))]
  assert not offenders, _offenders(offenders)


def test_nothing_imports_in_a_circle():
  circles = [f'{name} imports {module}, which leads back'
             for name in PATHS for module in EDGES[name]
             if name in _reachable(module)]
  assert not circles, _offenders(circles)


def test_only_sharding_makes_meshes():
  offenders = []
  for name, path in PATHS.items():
    if name == 'jaxret.sharding':
      continue
    calls = [node.lineno for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Attribute) and node.attr == 'make_mesh'
             and isinstance(node.value, ast.Name) and node.value.id == 'jax']
    offenders += [f'{name}:{line} uses jax.make_mesh' for line in calls]
    if 'jax.make_mesh' in IMPORTS[name]:
      offenders.append(f'{name} imports jax.make_mesh')
  assert not offenders, _offenders(offenders)


def test_configs_import_nothing_of_jaxret():
  offenders = [f'{path.name} imports {imported}'
               for path in sorted((ROOT / 'configs').glob('*.py'))
               for imported in _imports(f'configs.{path.stem}', path)
               if imported.split('.')[0] in ('jax', 'jaxret')]
  assert not offenders, _offenders(offenders)


def test_import_jaxret_is_light():
  """Under a second, and none of the heavy packages comes with it."""
  code = ('import json, sys, time; start = time.perf_counter(); '
          'import jaxret; seconds = time.perf_counter() - start; '
          'print(json.dumps([seconds, sorted(sys.modules)]))')
  answer = subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True,
                          capture_output=True, text=True).stdout
  seconds, modules = json.loads(answer)
  assert seconds < 1
  assert not set(HEAVY) & set(modules)


@pytest.mark.parametrize('pattern', MAX_LINES)
def test_files_keep_their_budget(pattern):
  counts = {path: len(path.read_text().splitlines())
            for path in ROOT.glob(pattern)}
  offenders = [f'{path.relative_to(ROOT)}: {lines} lines'
               for path, lines in sorted(counts.items())
               if lines > MAX_LINES[pattern]]
  assert not offenders, (
      f'at most {MAX_LINES[pattern]} lines; ' + _offenders(offenders))


def test_functions_keep_their_budget():
  """At most 60 lines; those over 40 are listed as a warning."""
  lengths = {
      f'{path.relative_to(ROOT)}:{node.lineno} {node.name}':
          node.end_lineno - node.lineno + 1
      for path in PATHS.values() for node in ast.walk(
          ast.parse(path.read_text()))
      if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
  long = {where: n for where, n in lengths.items() if n > WANTED_FUNCTION_LINES}
  if long:
    warnings.warn(f'functions over {WANTED_FUNCTION_LINES} lines: {long}',
                  stacklevel=1)
  offenders = [f'{where}: {n} lines' for where, n in long.items()
               if n > MAX_FUNCTION_LINES]
  assert not offenders, (
      f'at most {MAX_FUNCTION_LINES} lines; ' + _offenders(offenders))
