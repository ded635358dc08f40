"""Qwen2.5-VL directories: config.json and weights, both checked."""
from jaxret.models import config_fields
from jaxret.models.qwen2_vl import files
from jaxret.models.qwen25_vl import MODEL_TYPES, model, vision

without_absent_head, load = files.without_absent_head, files.load

TEXT = files.TEXT._replace(only={
    **files.TEXT.only, 'model_type': ('qwen2_5_vl_text', 'qwen2_5_vl')})
# Qwen2_5_VLVisionConfig. Published files have tokens_per_second = 2 and
# hidden_size = 1280, which is the tower's width here.
VISION = config_fields.Fields(
    sizes={'depth': 32, 'hidden_size': 3584, 'intermediate_size': 3420,
           'num_heads': 16, 'patch_size': 14, 'out_hidden_size': 3584,
           'window_size': 112, 'fullatt_block_indexes': [7, 15, 23, 31],
           'tokens_per_second': 4.0},
    only={**{field: values for field, values in files.VISION.only.items()
             if field not in ('model_type', 'hidden_act')},
          'model_type': ('qwen2_5_vl', 'qwen2_5_vl_vision'),
          'hidden_act': ('silu',)},
    harmless=files.VISION.harmless)


def read_config(name, position_mode='sequential', **numerics):
  """The Found of a directory or hub model; see qwen2_vl.files.read_family."""
  return files.read_family(FAMILY, name, position_mode, **numerics)


def _tower(sizes, numerics):
  return vision.VisionConfig(
      out_width=sizes['out_hidden_size'], width=sizes['hidden_size'],
      layers=sizes['depth'], heads=sizes['num_heads'],
      mlp_width=sizes['intermediate_size'], patch_px=sizes['patch_size'],
      merge=sizes['spatial_merge_size'],
      temporal_patch=sizes['temporal_patch_size'],
      window_px=sizes['window_size'],
      full_blocks=tuple(sizes['fullatt_block_indexes']),
      tokens_per_second=sizes['tokens_per_second'], **numerics)


FAMILY = files.Family('Qwen2.5-VL', model.Qwen25VlConfig, MODEL_TYPES, TEXT,
                      VISION, _tower)
