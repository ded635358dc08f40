"""One published system per module, as pure functions."""
import importlib

NAMES = ('blim', 'captioner', 'dual_encoder', 'leccr', 'llava_next', 'mm_embed',
         'unite')


def get(name):
  """The module of a method, which offers `method(config, tokenizer)`.

  Raises ValueError for an unknown name.
  """
  if name not in NAMES:
    raise ValueError(
        f'unknown method {name!r}: config.method is one of {", ".join(NAMES)}')
  return importlib.import_module(f'jaxret.methods.{name}')


def embeds(name):
  """The base.Embeds of a method, or None where it gives no embeddings."""
  return getattr(get(name), 'EMBEDS', None)
