"""Files of training pairs in UNITE's published format."""
from jaxret.data import hub
from jaxret.data.sets import pair_files


def training_pairs(section):
  """{file: its pairs} of `section.pairs`, files in `section.root`."""
  if not section.pairs:
    raise ValueError('data.pairs names no file: give training files of UNITE '
                     "in data.root, as ('train.json',)")
  root = hub.local(section.root)
  outside = getattr(section, 'allow_outside', False)
  return {name: pair_files.PairFile(root / name, root, outside)
          for name in section.pairs}
