"""A data set of words; `READ` tells which splits were given."""
READ: list[str] = []


def load(section, split):
  del section
  READ.append(split)
  return [f'{split}{i}' for i in range(80)]
