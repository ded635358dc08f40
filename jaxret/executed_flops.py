"""FLOPs of matrix products that a compiled program executes.

`cost_analysis` of a compiled program counts the body of a loop once; here loops
count as often as they run, and of branches the dearest one. It is read from
the program as the compiler left it, so that what it computes twice, or not at
all, is seen.
"""
import functools
import math
import re
from typing import Any, NamedTuple

_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_OP = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = '
                 r'(\([^=]*?\)|\w+\[[\d,]*\]\S*) ([\w\-]+)\((.*)$')
_SHAPE = re.compile(r'\w+\[([\d,]*)\]')


class Op(NamedTuple):
  """shape: of the result, () of a tuple; rest: operands and attributes."""
  shape: tuple[int, ...]
  kind: str
  rest: str


def executed(compiled: Any) -> float:
  """FLOPs of all products, of a program on one device.

  compiled: what `jax.jit(...).lower(...).compile()` gives. Two for each
  multiplication and addition, all else left out, kernels of their own
  (`custom-call`) too.

  Raises ValueError for a loop of which the compiler does not say how often it
  runs.
  """
  return of_text(compiled.as_text())


def of_text(text: str) -> float:
  """As `executed`, of a program in XLA's words."""
  computations, entry = _parse(text)

  @functools.cache
  def of(name):
    ops = computations[name]
    return sum(of_op(ops, op) for op in ops.values())

  def of_op(ops, op):
    if op.kind == 'dot':
      return 2.0 * math.prod(op.shape) * _contracted(ops, op)
    if op.kind == 'convolution':
      return 2.0 * math.prod(op.shape) * _kernel(ops, op)
    if op.kind == 'while':
      count = re.search(r'known_trip_count\W+n\W+(\d+)', op.rest)
      body = of(_named(op, 'body'))
      if body and not count:
        raise ValueError('a loop with products in it whose number of runs the '
                         f'compiler does not say: {op.rest[:200]}')
      return body * int(count[1]) if count else 0.0
    if op.kind == 'conditional':
      found = re.search(r'branch_computations=\{([^}]*)\}', op.rest)
      names = found[1] if found else ','.join(
          _named(op, f'{which}_computation') for which in ('true', 'false'))
      return max(of(name.strip().lstrip('%')) for name in names.split(','))
    if op.kind in ('fusion', 'call', 'async-start', 'map'):
      return of(_named(op, 'calls|to_apply|called_computations'))
    return 0.0
  return of(entry)


def _parse(text):
  """({computation: {name: Op}}, name of the first one that runs)."""
  computations: dict[str, dict[str, Op]] = {}
  entry, ops = '', {}
  for line in re.sub(r'/\*.*?\*/', '', text).splitlines():
    if header := _HEADER.match(line):
      ops = computations[header[2]] = {}
      entry = header[2] if header[1] else entry
    elif found := _OP.match(line):
      name, shape, kind, rest = found.groups()
      ops[name] = Op(() if shape[0] == '(' else _sizes(shape), kind, rest)
  if not entry:
    raise ValueError('no program of XLA in its words: it has no ENTRY')
  return computations, entry


def _sizes(shape):
  digits = _SHAPE.match(shape)[1]
  return tuple(map(int, digits.split(','))) if digits else ()


def _named(op, attribute):
  return re.search(rf'(?:{attribute})=\{{?%?([\w.\-]+)', op.rest)[1]


def _operand(ops, op, number):
  """The shape of an operand, which is said there or where it is made."""
  words = re.findall(r'(?:(\w+\[[\d,]*\])\S* )?%([\w.\-]+)',
                     op.rest.split(')')[0])
  said, name = words[number]
  return _sizes(said) if said else ops[name].shape


def _contracted(ops, op):
  sizes = _operand(ops, op, 0)
  axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', op.rest)[1]
  return math.prod(sizes[int(axis)] for axis in axes.split(',') if axis)


def _kernel(ops, op):
  """Multiplications for each number that a convolution gives.

  What XLA makes of a product on a TPU: the kernel's input features and places.
  A batch of products is one whose window is the batch, spread by the size of
  the batch itself, so that every place but one falls on padding.
  """
  labels = re.search(r'dim_labels=\w+_(\w+)->', op.rest)[1]
  sizes = dict(zip(labels, _operand(ops, op, 1)))
  places = [size for label, size in sizes.items() if label.isdigit()]
  window = re.search(r'window=\{([^}]*)\}', op.rest)
  if window and 'lhs_dilate' in window[1] or window and 'stride' in window[1]:
    places = [1 for _ in places]
  return sizes['i'] * math.prod(places)
