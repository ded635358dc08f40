"""Scaled rotary positions, and what transformers makes of them.

  python -m tests.models.rotary_cases

writes rotary.json, of the cases below and the transformers in use.
"""
import json
import pathlib

FILE = pathlib.Path(__file__).with_name('rotary.json')
HEAD_WIDTH, MAX_POSITIONS = 16, 2048
SHORT = [1 + i / 10 for i in range(8)]
LONG = [2 + i / 3 for i in range(8)]
LLAMA = {'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0,
         'high_freq_factor': 4.0}
CASES = [
    {'rope_type': 'linear', 'factor': 3.7},
    {'rope_type': 'dynamic', 'factor': 2.0},
    {'rope_type': 'yarn', 'factor': 4.0},
    {'rope_type': 'yarn', 'factor': 4.0,
     'original_max_position_embeddings': 512},
    {'rope_type': 'yarn', 'factor': None,
     'original_max_position_embeddings': 512},
    {'rope_type': 'yarn', 'factor': 8.0, 'beta_fast': 20, 'beta_slow': 2,
     'truncate': False, 'original_max_position_embeddings': 1024},
    {'rope_type': 'yarn', 'factor': 8.0, 'mscale': 0.7, 'mscale_all_dim': 1.0},
    {'rope_type': 'yarn', 'factor': 8.0, 'attention_factor': 1.3},
    {'rope_type': 'yarn', 'factor': 2.0,  # a ramp that has no width
     'original_max_position_embeddings': 4},
    {'rope_type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG,
     'original_max_position_embeddings': 256},
    {'rope_type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG,
     'factor': 4.0, 'original_max_position_embeddings': 256},
    {'rope_type': 'longrope', 'short_factor': SHORT, 'long_factor': LONG,
     'attention_factor': 1.2},
    {**LLAMA, 'original_max_position_embeddings': 64},
    {**LLAMA, 'original_max_position_embeddings': 512, 'factor': 2.0},
]
THETAS = (1e4, 5e5)


def theirs(rope):
  """(frequencies, scale) of transformers; rope has its rope_theta."""
  import transformers
  from transformers import modeling_rope_utils
  config = transformers.MistralConfig(
      hidden_size=64, num_attention_heads=4, head_dim=HEAD_WIDTH,
      max_position_embeddings=MAX_POSITIONS, rope_parameters=dict(rope))
  found, scale = modeling_rope_utils.ROPE_INIT_FUNCTIONS[rope['rope_type']](
      config)
  return [float(x) for x in found], float(scale)


def main():
  cases = [{**case, 'rope_theta': theta} for case in CASES for theta in THETAS]
  FILE.write_text(json.dumps(
      [[case, *theirs(case)] for case in cases], indent=1) + '\n')


if __name__ == '__main__':
  main()
