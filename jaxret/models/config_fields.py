"""Fields of a foreign config.json: what they are by default, what we make of.

A file leaves out what its class has by default, and a field of it that nobody
looked at may change every number. So each configuration class has a table of
its fields, and what is in no table is refused by name. The defaults are those
of transformers 4.45 to 5.24, in which they are the same.
"""
import math
from typing import Any, NamedTuple

# Fields of any configuration class that change no hidden state: bookkeeping,
# how a model is made or trained at random, and how one generates with it.
HARMLESS = frozenset("""
    _attn_implementation _attn_implementation_autoset _commit_hash
    _name_or_path _num_labels architectures attn_implementation auto_map
    bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
    classifier_dropout decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping encoder_no_repeat_ngram_size eos_token_id
    exponential_decay_length_penalty finetuning_task forced_bos_token_id
    forced_eos_token_id gradient_checkpointing id2label initializer_factor
    initializer_range keys_to_ignore_at_inference label2id length_penalty
    max_length min_length model_type no_repeat_ngram_size num_beam_groups
    num_beams num_labels num_return_sequences output_attentions
    output_hidden_states output_past output_scores pad_token_id prefix
    problem_type remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate sep_token_id suppress_tokens task_specific_params
    temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p
    torch_dtype torchscript transformers_version typical_p unsloth_fixed
    unsloth_version use_bfloat16 use_cache use_flash_attention_2
    use_return_dict
    """.split())
# The same, with the values that we implement; the first is the default.
SHARED = {'pruned_heads': ({}, None), 'is_encoder_decoder': (False,),
          'cross_attention_hidden_size': (None,), 'is_decoder': (False,),
          'add_cross_attention': (False,)}
FULL = 'full_attention'  # the only one of `layer_types` that is implemented
QUANTIZED = ('quantization_config', 'compression_config')
SHOWN = 60  # characters of a value in a message
LARGEST = 2 ** 31 - 1  # of a size


class Fields(NamedTuple):
  """What we make of the fields of one configuration class.

  sizes: {field: default}, of any value of the default's type.
  only: {field: the values that are implemented, the default first}.
  optional: those of `sizes` that may be None.
  harmless: fields that change no number, besides HARMLESS.
  """
  sizes: dict[str, Any]
  only: dict[str, tuple]
  optional: tuple[str, ...] = ()
  harmless: tuple[str, ...] = ()


def read(path, part, fields, name=''):
  """{field: value} of `sizes` and `only`, with the defaults of what is absent.

  Args:
    path: of the file, for messages.
    part: the file's contents, or a section of them.
    fields: the Fields of the class that wrote it.
    name: of the section, for messages.

  Raises:
    ValueError: naming a field that asks for what is not implemented, that is
      not known, or whose value is of another type.
  """
  where = f'{path}: {name}: ' if name else f'{path}: '
  known = {**SHARED, **fields.only}
  for field, value in part.items():
    if field in fields.sizes:
      _check_type(where, field, value, fields)
    elif field in known:
      check_value(where, field, value, known[field])
    elif field == 'layer_types':
      for kind in value or ():
        check_value(where, field, kind, (FULL,))
    elif field not in HARMLESS and field not in fields.harmless:
      if value is not None:
        raise ValueError(
            f'{where}got {field} = {_shown(value)}, a field that is not known '
            'here and may change every number, want none: use another model, '
            'or take it out of the file if you know that it changes none')
  defaults = {**fields.sizes, **{
      field: values[0] for field, values in fields.only.items()}}
  return {field: part.get(field, value) for field, value in defaults.items()}


def check_value(where, field, value, implemented):
  """Raises ValueError for a value that is none of those implemented."""
  if not any(_same(value, one) for one in implemented):
    want = ' or '.join(_shown(one) for one in implemented)
    raise ValueError(f'{where}got {field} = {_shown(value)}, want {want}, all '
                     'that is implemented: use another model')


def _same(value, other):
  """Equal, and True is not 1."""
  return value == other and isinstance(value, bool) == isinstance(other, bool)


def _check_type(where, field, value, fields):
  """As its default: a finite number, a truth, a text, or a list of numbers.

  Where the default is above 0 the number must be, too, but for a probability.
  """
  default = fields.sizes[field]
  if value is None and (default is None or field in fields.optional):
    return
  if isinstance(default, (bool, str)):
    fits, want = isinstance(value, type(default)), type(default).__name__
  elif isinstance(default, (int, float)):
    whole = isinstance(default, int)
    fits = (isinstance(value, int if whole else (int, float))
            and not isinstance(value, bool) and math.isfinite(value))
    want = 'a whole number' if whole else 'a number'
    if default > 0 and not (field.endswith('_prob') and value == 0):
      fits, want = fits and 0 < value <= LARGEST, f'{want} above 0'
  elif isinstance(default, list):
    fits = isinstance(value, list) and all(type(one) is int for one in value)
    want = 'a list of whole numbers'
  else:
    return
  if not fits:
    raise ValueError(f'{where}got {field} = {_shown(value)}, want {want}: '
                     'correct the file')


def section(path, whole, name):
  """The section of a file, {} where it has none. Raises ValueError for more."""
  part = whole.get(name)
  if not isinstance(part, (dict, type(None))):
    raise ValueError(f'{path}: got {name} = {_shown(part)}, want a section of '
                     'fields: correct the file')
  return part or {}


def check_not_quantized(path, whole):
  """Raises ValueError if the file or a section says that weights are not plain.
  """
  for part in (whole, *(x for x in whole.values() if isinstance(x, dict))):
    for field in QUANTIZED:
      if part.get(field):
        kind = part[field]
        method = (kind.get('quant_method') or kind.get('format')
                  if isinstance(kind, dict) else None)
        raise ValueError(
            f'{path}: got {field} ({method or _shown(kind)}): the weights are '
            'quantized, want them in bfloat16, float16 or float32: take the '
            'model that was quantized, or dequantize and save it again')


def _shown(value):
  text = repr(value)
  return text if len(text) <= SHOWN else text[:SHOWN - 3] + '...'
