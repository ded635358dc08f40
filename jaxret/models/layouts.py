"""How a checkpoint's names are laid out, and what one calls it.

One tensor has many names: of the bare model or below a model with heads, as a
version of transformers saves it or holds it in memory, with what DDP, FSDP or
torch.compile put before it. A name is compared without all of these, on both
sides: in a table of `names` and in a file.
"""
import re
from typing import Any, NamedTuple

# (part of a name, what puts it there); stripped anywhere in a name.
WRAPPERS = {'module': 'DDP or DeepSpeed', '_orig_mod': 'torch.compile',
            '_fsdp_wrapped_module': 'FSDP', '_fpw_module': 'FSDP',
            '_checkpoint_wrapped_module': 'activation checkpointing'}
# What holds the parts of a model; stripped where a name begins with it, as
# often as it does.
CONTAINERS = ('model', 'language_model', 'embedding_model', 'bert', 'roberta')
# (regex, what stands there instead): a part that transformers 5 no longer has
# below another, and norms of checkpoints that were made from TensorFlow's.
OTHERS = ((r'^vision_tower\.vision_model\.', 'vision_tower.'),
          (r'LayerNorm\.gamma$', 'LayerNorm.weight'),
          (r'LayerNorm\.beta$', 'LayerNorm.bias'))
HEAD = 'output head', 'lm_head.'
# (what a part is, how its bare names start)
PARTS = (
    ('vision tower', 'visual.'), ('vision tower', 'vision_tower.'),
    ('vision tower', 'vision_model.'), ('text tower', 'text_model.'),
    ('projection', 'visual_projection.'), HEAD,
    ('projector', 'multi_modal_projector.'), ('projector', 'mm_projector.'),
    ('latent attention', 'latent_attention_model.'),
    ('token embedding', 'embed_tokens.'), ('decoder', 'layers.'),
    ('encoder', 'encoder.'))
# {what stands before the decoder's layers, or BERT's: who lays it out so}
KNOWN = {
    '': 'bare model, as AutoModel saves it',
    'language_model.': 'bare model, as AutoModel of transformers 5 saves it',
    'model.': 'model laid out as transformers saves it',
    'language_model.model.': 'LLaVA, as transformers saves it',
    'model.language_model.': ('model as transformers 4.52 and later have it '
                              'in memory, saved past them'),
    'embedding_model.': 'NV-Embed', 'bert.': 'BERT with heads',
    'roberta.': 'XLM-R with heads'}


class Checkpoint(NamedTuple):
  """Tensors by name: FileTensors, or arrays that are in memory already.

  twins: {name: [(name in the file, tensor), ...]} of those that are in the file
  by several names.
  """
  source: str
  tensors: dict[str, Any]
  twins: dict[str, list] = {}


def bare(key):
  """A tensor's name without wrappers and containers."""
  parts = [part for part in key.split('.') if part not in WRAPPERS]
  while len(parts) > 1 and parts[0] in CONTAINERS:
    parts = parts[1:]
  key = '.'.join(parts)
  for pattern, other in OTHERS:
    key = re.sub(pattern, other, key)
  return key


def fitted(checkpoint, table):
  """The checkpoint with the names of a table, whatever layout it has.

  What fits no name of the table keeps its own.
  """
  known = {bare(weight.key): weight.key for weight in table}
  found = {}
  for key, tensor in checkpoint.tensors.items():
    found.setdefault(_name(bare(key), known) or key, []).append((key, tensor))
  twins = {name: given for name, given in found.items() if len(given) > 1}
  return checkpoint._replace(
      tensors={name: given[0][1] for name, given in found.items()},
      twins=checkpoint.twins | twins)


def table_names(keys, table):
  """{name in a file: the table's name for it} of the names that it has."""
  known = {bare(weight.key): weight.key for weight in table}
  found = {key: _name(bare(key), known) for key in keys}
  return {key: name for key, name in found.items() if name}


def _name(key, known):
  """The table's name for a bare one, or None."""
  if key in known:
    return known[key]
  layer = re.search(r'\.(\d+)(?=\.)', key)  # the first number, in all tables
  if layer is None:
    return None
  start, end = layer.span(1)
  name = known.get(f'{key[:start]}{{layer}}{key[end:]}')
  return name and name.format(layer=layer[1])


def describe(keys):
  """In words, how the tensors of a file are laid out; '' if not known."""
  wrappers = sorted({part for key in keys for part in key.split('.')
                     if part in WRAPPERS})
  before = {_unwrapped(key).removesuffix(bare(key)) for key in keys
            if re.match(r'(layers|encoder\.layers?)\.0\.', bare(key))}
  words = [KNOWN.get(start, f'decoder under {start}')
           for start in sorted(before)]
  words += [f'with {part}. of {WRAPPERS[part]} in its names'
            for part in wrappers]
  return ', '.join(words)


def _unwrapped(key):
  return '.'.join(part for part in key.split('.') if part not in WRAPPERS)


def absent_parts(wanted, found):
  """[(words, start)] of the parts of which `found` holds nothing.

  wanted, found: names of tensors.
  """
  wanted, found = ({bare(key) for key in keys} for keys in (wanted, found))
  return [(words, start) for words, start in PARTS
          if any(key.startswith(start) for key in wanted)
          and not any(key.startswith(start) for key in found)]
