"""Rotary positions of a foreign config.json, scaled ones too.

The frequencies and attention factors of linear (kaiokendev), dynamic NTK
(bloc97, emozilla), yarn (arXiv 2309.00071), longrope (arXiv 2402.13753) and
Llama 3 (arXiv 2407.21783, in its published code) scaling, equal to those of
transformers.modeling_rope_utils. Its versions differ in yarn and longrope,
where the original length differs from that of the model: the newest judges.
"""
import math

import numpy as np

# {type: the fields that it needs, and those that it may have}
FIELDS = {
    'default': ((), ()),
    'linear': (('factor',), ()),
    'dynamic': (('factor',), ()),
    'yarn': (('factor',), (
        'attention_factor', 'beta_fast', 'beta_slow', 'mscale',
        'mscale_all_dim', 'truncate')),
    'longrope': (('short_factor', 'long_factor'), (
        'factor', 'attention_factor')),
    'llama3': (('factor', 'low_freq_factor', 'high_freq_factor'), ()),
}
PARTIAL = 'partial_rotary_factor'
ORIGINAL = 'original_max_position_embeddings'
SHARED = ('rope_type', 'type', 'rope_theta', PARTIAL, ORIGINAL)
LISTS = ('short_factor', 'long_factor')
# Fields that a reader hands on to `read`, beside max_position_embeddings.
CONFIG_FIELDS = ('rope_theta', 'rope_scaling', 'rope_parameters', PARTIAL,
                 ORIGINAL)


def read(path, part, head_width, max_positions, default, theta=None, also=()):
  """What DecoderConfig needs to know of rotary positions: a dict of fields.

  Args:
    path: of the file, for messages.
    part: its section, with `rope_parameters` or `rope_scaling` if any.
    head_width: H.
    max_positions: of the model, `max_position_embeddings`.
    default: the base, where the file does not say it; None = it must.
    theta: the base in place of what the file says; None = as it says.
    also: fields that the backbone has besides, mrope_section say.

  Returns:
    rope_theta; where they are scaled, rope_frequencies and rope_scale; where
    they change with the length, max_tokens and limited_by.

  Raises:
    ValueError: naming a type or field that is not known, a field that lacks,
      or a value that cannot be.
  """
  rope = parameters(path, part)
  kind = _kind(path, rope)
  _check_fields(path, rope, kind, also)
  for field, last in (('rope_theta', default), (PARTIAL, 1), (
      ORIGINAL, max_positions)):
    rope[field] = rope.get(field) or part.get(field) or last
  rope['rope_theta'] = theta or rope['rope_theta']
  original = rope[ORIGINAL] = part.get(ORIGINAL) or rope[ORIGINAL]
  _check_numbers(path, rope, head_width)
  fields = {'rope_theta': float(rope['rope_theta'])}
  if kind in SCALED:
    frequencies, scale = SCALED[kind](
        rope, fields['rope_theta'], head_width, original, max_positions)
    fields |= {'rope_frequencies': tuple(map(float, frequencies)),
               'rope_scale': float(scale)}
  if kind in ('dynamic', 'longrope'):
    # Past it they follow the length of a sequence, read in parts here.
    fields |= {'max_tokens': max_positions if kind == 'dynamic' else original,
               'limited_by': f'rope_type = {kind!r}'}
  return fields


def parameters(path, part):
  """The contents of `rope_parameters` or `rope_scaling`, {} for neither."""
  found = [dict(part[key]) for key in ('rope_scaling', 'rope_parameters')
           if part.get(key)]
  if len(found) == 2 and found[0] != found[1]:
    raise ValueError(f'{path}: got rope_scaling and rope_parameters, which '
                     'differ, want one of them: take one out of the file')
  return found[0] if found else {}


def _kind(path, rope):
  """One of FIELDS. Both spellings may be there; mrope is no scaling."""
  kinds = {'default' if kind == 'mrope' else kind
           for kind in (rope.get('rope_type'), rope.get('type')) if kind}
  kind = kinds.pop() if kinds else 'default'
  if kinds or kind not in FIELDS:
    raise ValueError(
        f'{path}: got rope_type = {rope.get("rope_type")!r}, type = '
        f'{rope.get("type")!r} of the rotary positions, want one of '
        f'{", ".join(FIELDS)}: use another model')
  return kind


def _check_fields(path, rope, kind, also):
  needed, optional = FIELDS[kind]
  for field in needed:
    # yarn's may be null: the ratio of the two lengths.
    if field not in rope or rope[field] is None and kind != 'yarn':
      raise ValueError(f'{path}: got no {field}, want it for rope_type = '
                       f'{kind!r}: correct the file')
  for field, value in rope.items():
    if field not in (*SHARED, *needed, *optional, *also) and value is not None:
      raise ValueError(
          f'{path}: got {field} = {value!r} for rope_type = {kind!r}, which has'
          ' no such field here: use another model, or correct the file')


def _check_numbers(path, rope, head_width):
  if rope['rope_theta'] is None:
    raise ValueError(
        f'{path}: no rope_theta; a wrong one fails without a sign, so there is '
        'no default: give it as rope_theta')
  if rope[PARTIAL] != 1:
    raise ValueError(f'{path}: got {PARTIAL} = {rope[PARTIAL]!r}, want 1.0, '
                     'all that is implemented: use another model')
  for field, value in rope.items():
    if field in LISTS:
      fits = (isinstance(value, (list, tuple)) and len(value) == head_width // 2
              and all(map(_positive, value)))
      want = f'{head_width // 2} positive numbers'
    elif value is None or field in (
        'rope_type', 'type', 'mrope_section', 'mrope_interleaved'):
      continue
    elif field == 'truncate':
      fits, want = isinstance(value, bool), 'true or false'
    else:
      fits, want = _positive(value), 'a positive number'
    if not fits:
      raise ValueError(f'{path}: got {field} = {value!r} of the rotary '
                       f'positions, want {want}: correct the file')
  if rope.get('high_freq_factor', 2) <= rope.get('low_freq_factor', 1):
    raise ValueError(
        f'{path}: got high_freq_factor = {rope["high_freq_factor"]!r}, want '
        f'more than low_freq_factor, {rope["low_freq_factor"]!r}: correct the '
        'file')


def _positive(value):
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and math.isfinite(value) and value > 0)


def plain(theta, head_width):
  """Radians a position turns each pair of a head by, float32 [H / 2]."""
  power = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
  return np.float32(1) / np.float32(theta) ** power


def _linear(rope, theta, head_width, *_):
  return plain(theta, head_width) / np.float32(rope['factor']), 1.0


def _yarn(rope, theta, head_width, original, max_positions):
  factor = rope.get('factor') or max_positions / original
  frequency = plain(theta, head_width)
  first, last = (  # the pairs that turn that often over the original length
      head_width * math.log(original / (turns * 2 * math.pi))
      / (2 * math.log(theta))
      for turns in (rope.get('beta_fast') or 32, rope.get('beta_slow') or 1))
  if rope.get('truncate', True):
    first, last = math.floor(first), math.ceil(last)
  first, last = max(first, 0), min(last, head_width - 1)
  if first == last:
    last += 0.001  # of a ramp that would have no width
  pair = np.arange(head_width // 2, dtype=np.float32)
  ramp = np.clip((pair - np.float32(first)) / np.float32(last - first), 0, 1)
  frequency = frequency / np.float32(factor) * ramp + frequency * (1 - ramp)
  scale = rope.get('attention_factor')
  if scale is None:
    scale = _yarn_scale(factor, rope.get('mscale'), rope.get('mscale_all_dim'))
  return frequency, scale


def _yarn_scale(factor, numerator, denominator):
  def one(weight):
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0
  if numerator and denominator:
    return one(numerator) / one(denominator)
  return one(1)


def _longrope(rope, theta, head_width, original, max_positions):
  """Of sequences up to the original length: by the short factors."""
  factor = rope.get('factor') or max_positions / original
  scale = rope.get('attention_factor')
  if scale is None:
    scale = 1.0 if factor <= 1 else math.sqrt(
        1 + math.log(factor) / math.log(original))
  short = np.array(rope['short_factor'], np.float32)
  return plain(theta, head_width) / short, scale


def _llama3(rope, theta, head_width, original, _):
  factor, low, high = (np.float32(rope[field]) for field in (
      'factor', 'low_freq_factor', 'high_freq_factor'))
  frequency = plain(theta, head_width)
  turns = np.float32(original) * frequency / np.float32(2 * math.pi)
  share = np.clip((turns - low) / (high - low), 0, 1)
  return (1 - share) * frequency / factor + share * frequency, 1.0


SCALED = {'linear': _linear, 'yarn': _yarn, 'longrope': _longrope,
          'llama3': _llama3}
