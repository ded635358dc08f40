"""Training pairs in tables, media on either side: parquet, Arrow, CSV, lines.

Columns are `query_text`, `query_image`, `query_video`, likewise of `candidate`
and perhaps of `negative`; a side without a modality in its name (`query`) is a
text, or a medium where the table says of what kind. What is empty in a row its
item does not have, so that image to image, video to video and mixtures are
rows of one table. Media are as tabular.rows has them. `target_modal` is
UNITE's, see pair_files.
"""
from jaxret.data import hub, types
from jaxret.data.sets import pair_files
from jaxret.data.tabular import found, parts, rows, tables

SIDES = 'query', 'candidate', 'negative'
TARGET = 'target_modal'
WANTED = ('query and candidate, each as query_text, query_image, query_video, '
          'or several of these')


def is_table(name):
  """Whether a file is one; a JSON file of pairs has a layout of its own."""
  return name.lower().endswith(parts.ENDINGS) and not (
      name.lower().endswith('.json'))


def read(root, pattern):
  """The pair_files.Pairs of the tables that a pattern names below a root.

  Errors: ValueError for no such table, for columns that say no pair, and where
  no row can be used; of others the row is left out, with its reason.
  """
  root = hub.local(root)
  paths = sorted(root.glob(pattern))
  if not paths:
    raise ValueError(f'data.pairs names {pattern!r}; {root} has no such file')
  names, pairs, left_out = found.Names(root), [], []
  for path in paths:
    table = tables.opened(path)
    sides, target = _columns(table), _target(table)
    for i in range(len(table)):
      try:
        pairs.append(_pair(table, i, sides, target, names))
      except ValueError as error:
        left_out.append(types.LeftOut(f'{path.name}:{i}', str(error)))
  if not pairs:
    raise ValueError(left_out[0].reason if left_out else f'{paths[0]}: no row')
  return pair_files.Pairs(pairs, left_out)


def _columns(table):
  """{side: [(modality, column, its values)]}, in the order of the table."""
  made = {}
  for name in table.names:
    side, _, modality = name.partition('_')
    if side not in SIDES or modality not in ('', *pair_files.MODALITIES):
      continue
    kind = table.kinds[name]
    packed = kind in ('medium', 'media')
    modality = modality or ('text' if kind == 'text' else table.hints.get(name))
    if modality not in pair_files.MODALITIES or packed and modality == 'text':
      raise ValueError(f'{table.path}: got the column {name!r}, of which '
                       f'nothing says what it is, wanted {side}_image or '
                       f'{side}_video')
    made.setdefault(side, []).append((modality, name, (
        table.media if packed else table.values)(name)))
  for side, own in made.items():
    kinds = [modality for modality, *_ in own]
    if len(set(kinds)) < len(kinds):
      raise ValueError(f'{table.path}: got two columns of the {side}, '
                       f'{", ".join(name for _, name, _ in own)}, wanted one '
                       'of each modality')
  if not set(SIDES[:2]) <= set(made):
    raise ValueError(f'{table.path} has the columns {", ".join(table.names)}; '
                     f'wanted {WANTED}')
  return made


def _target(table):
  """The column that says what is asked for, None in each row without it."""
  return table.values(TARGET) if TARGET in table.names else [None] * len(table)


def _pair(table, i, sides, target, names):
  made = {side: _item(table, i, side, own, names)
          for side, own in sides.items()}
  for side in SIDES[:2]:
    if made[side] is None:
      raise ValueError(f'{table.where(i, sides[side][0][1])}: got an empty '
                       f'{side}, wanted {WANTED}')
  asked = target[i] or ','.join(
      kind for kind in pair_files.MODALITIES
      if getattr(made['candidate'], kind) is not None)
  if not isinstance(asked, str) or any(
      word.strip() not in pair_files.MODALITIES for word in asked.split(',')):
    raise ValueError(f'{table.where(i, TARGET)}: got {asked!r:.40}, wanted '
                     f'{", ".join(pair_files.MODALITIES)}, or several joined '
                     'by commas')
  return pair_files.Pair(made['query'], made['candidate'],
                         asked.replace(' ', ''), made.get('negative'))


def _item(table, i, side, columns, names):
  """The Item of a side, None where all is empty."""
  own = {}
  for modality, name, values in columns:
    cell = values[i]
    if cell is None or cell == '' or cell == []:
      continue
    if modality != 'text':
      own[modality], _ = rows.place(table, i, name, cell, names)
    elif isinstance(cell, str) and cell.strip():
      own[modality] = cell
    else:
      raise ValueError(f'{table.where(i, name)}: got the text {cell!r:.60}, '
                       'wanted a text')
  return types.Item(f'{table.path.name}:{i}:{side}', **own,
                    order=tuple(own)) if own else None
