"""Files of training pairs: in UNITE's published format, or tables."""
from jaxret.data import hub
from jaxret.data.sets import pair_files, pair_tables


def training_pairs(section):
  """{file: its pairs} of `section.pairs`, files in `section.root`.

  Of tables a name may be a pattern, as data/train-*.parquet.
  """
  if not section.pairs:
    raise ValueError('data.pairs names no file: give training files of UNITE '
                     "in data.root, as ('train.json',), or tables")
  root = hub.local(section.root)
  outside = getattr(section, 'allow_outside', False)
  return {name: pair_tables.read(root, name) if pair_tables.is_table(name)
          else pair_files.PairFile(root / name, root, outside)
          for name in section.pairs}
