"""Qwen2.5-VL: Qwen2-VL's decoder behind another tower.

Source: Qwen2.5-VL (arXiv 2502.13923). The times of videos are in the decoder's
positions, which are counted on the host, see data.qwen2_vl.layout.
"""
import dataclasses

from jaxret.models import names
from jaxret.models.qwen2_vl import model

init = model.init


@dataclasses.dataclass(frozen=True)
class Qwen25VlConfig(model.Qwen2VlConfig):
  """Sizes of both parts, and which positions the decoder is given.

  vision: a qwen25_vl.vision.VisionConfig.
  """
  name = 'qwen2_5_vl'
  weights = names.QWEN25_VL
