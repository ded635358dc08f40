"""Numbers of a config that no run can mean: refused by field, before it starts.

A learning rate below 0 climbs, a temperature of 0 divides by it, and either
ends in numbers that look like results.
"""
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxret import checkpoint


class Range(NamedTuple):
  """holds: number -> whether it is in the range; words: what is wanted."""
  holds: Callable[[float], bool]
  words: str


POSITIVE = Range(lambda x: x > 0, 'a number above 0')
NOT_NEGATIVE = Range(lambda x: x >= 0, '0 or more')
SHARE = Range(lambda x: 0 <= x <= 1, '0 to 1')
BELOW_ONE = Range(lambda x: 0 <= x < 1, '0 or more, and less than 1')
AT_LEAST_ONE = Range(lambda x: x >= 1, '1 or more')
COSINES = Range(lambda x: 0 <= x <= 2, '0 to 2, a difference of cosines')
SIZE_OF_MESH = Range(lambda x: x >= 1 or x == -1, '1 or more, or -1 for what '
                     'is left')
# (regex of the end of a dotted path, range); the first that fits counts.
RANGES = (
    (r'temperature|\w+_temperature|eps|norm_eps|fps|matryoshka_weights',
     POSITIVE),
    (r'false_negative_margin', COSINES),
    (r'optim\.betas|dropout', BELOW_ONE),
    (r'mesh\.\w+', SIZE_OF_MESH),
    (r'\w*_fraction|\w*_share|utilization|eval\.(alpha|c)|'
     r'zero_shot_(alpha|c)|visual_weight|softened_alpha', SHARE),
    (r'batch_size|accumulation_steps|\w*_every_steps|keep_checkpoints|'
     r'\w*image_px|patch_px|extract_batch_size|part_queries|rows|columns|'
     r'mine\.(k|negatives)|matryoshka_dims|clips|tokens_per_clip|max_pixels',
     AT_LEAST_ONE),
    (r'[\w.]+', NOT_NEGATIVE),
)


def check(config: Any) -> None:
  """Raises ValueError naming the first field whose number means nothing.

  config: a ConfigDict or nested dicts. Of tuples every number counts.
  """
  for name, value in checkpoint.plain_config(config).items():
    for number in value if isinstance(value, list) else [value]:
      if isinstance(number, bool) or not isinstance(number, (int, float)):
        continue
      wanted = next(found for pattern, found in RANGES
                    if re.search(rf'(^|\.)({pattern})$', name))
      if not math.isfinite(number) or not wanted.holds(number):
        raise ValueError(f'config.{name} is {number!r}, want {wanted.words}')
