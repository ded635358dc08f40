"""The public surface is annotated; `make lint` checks that it is true."""
import ast
import configparser
import inspect
import os
import pathlib
import subprocess
import sys

import pytest

import jaxret
from jaxret import answers, embedder, generator, loading, sequences, writing
from jaxret.indexing import build, query
from jaxret.methods.blim import score, search_pairs
from jaxret.reranking import rerank, reranker

ROOT = pathlib.Path(__file__).resolve().parents[1]


def surface():
  """The files that setup.cfg has mypy check."""
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  return [name.strip() for name in config['mypy']['files'].split(',')]


def public_functions(tree, owner=''):
  """Yields (name, function) of a module and of its public classes."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.FunctionDef):
      is_method = bool(owner) and node.name.startswith('__')
      if is_method or not node.name.startswith('_'):
        yield owner + node.name, node
    elif isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
      yield from public_functions(node, f'{owner}{node.name}.')


def unannotated(name, function):
  """What of a function's signature says no type."""
  given = function.args
  arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs,
               *filter(None, (given.vararg, given.kwarg))]
  is_static = any(ast.unparse(d) == 'staticmethod'
                  for d in function.decorator_list)
  if '.' in name and not is_static:
    arguments = arguments[1:]
  missing = [a.arg for a in arguments if a.annotation is None]
  if function.returns is None and function.name != '__init__':
    missing.append('return')
  return missing


def test_public_surface_is_annotated():
  functions = {f'{path}: {name}': unannotated(name, function)
               for path in surface() for name, function in public_functions(
                   ast.parse((ROOT / path).read_text()))}
  assert len(functions) >= 120
  assert not {name: missing for name, missing in functions.items() if missing}


@pytest.mark.parametrize('code, missing', [
    ('def f(a, *b: int, c=1, **d) -> int: ...', ['a', 'c', 'd']),
    ('def f(a: int): ...', ['return']),
    ('class C:\n  def __init__(self, a): ...', ['a']),
    ('class C:\n  @property\n  def p(self): ...', ['return']),
    ('class C:\n  @staticmethod\n  def s(a) -> int: ...', ['a'])])
def test_what_is_missing_is_seen(code, missing):
  (found,) = public_functions(ast.parse(code))
  assert unannotated(*found) == missing


def test_public_names_are_seen_and_are_what_is_imported():
  assert set(jaxret.__all__) <= set(dir(jaxret))
  assert [getattr(jaxret, name) for name in jaxret.__all__] == [
      embedder.Embedder, generator.Generator, query.Index, reranker.Reranker,
      answers.answer, writing.generate, build.index, loading.load,
      loading.load_generator, rerank.load_reranker, query.open_index,
      rerank.rerank, score.score_matrix, sequences.score_sequences,
      search_pairs.search_pairs]
  with pytest.raises(AttributeError, match="has no attribute 'lode'"):
    jaxret.lode  # noqa: B018


@pytest.mark.slow
def test_type_checker_knows_what_others_import(tmp_path):
  """Types of the lazy names are known; a wrong name and a wrong call not."""
  (tmp_path / 'use.py').write_text(
      'import jaxret\n'
      'model: jaxret.Embedder = jaxret.load("x", trim_text=True)\n'
      'reveal_type(model.encode(["a"]))\n'
      'jaxret.lode\n'
      'jaxret.score_matrix(["a"], ["b"], "x", topk="2")\n')
  answer = subprocess.run(
      [sys.executable, '-m', 'mypy', '--config-file=',
       '--follow-imports=silent', '--ignore-missing-imports',
       '--cache-dir=cache', 'use.py'],
      cwd=tmp_path, env={**os.environ, 'MYPYPATH': str(ROOT)},
      capture_output=True, text=True)
  lines = [line.partition('use.py:')[2] for line in answer.stdout.splitlines()]
  assert [line.partition(':')[0] for line in lines[:3]] == ['3', '4', '5'], (
      answer.stdout + answer.stderr)
  assert 'ndarray' in lines[0] and 'no attribute "lode"' in lines[1]
  assert '"topk"' in lines[2] and inspect.signature(
      jaxret.score_matrix).parameters['topk'].annotation is int
