"""What PEFT makes of an adapter of ours in the classes of transformers.

Needs nothing of ours: runs under any version of transformers and PEFT, as
  python peft_elsewhere.py KIND DIRECTORY
DIRECTORY holds config.json, base.safetensors and merged.safetensors in the
released names, and adapter/. It writes outputs.npz: `base`, `peft` (the base
with the adapter by PEFT) and `merged`, of the same random inputs, and
`complaints`, what PEFT warned of.
"""
import json
import pathlib
import re
import sys
import warnings

import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file

NEWER = int(transformers.__version__.partition('.')[0]) >= 5


def qwen2_vl(whole):
  """Qwen2VLForConditionalGeneration, and its output with an image."""
  text, vision = whole['text_config'], whole['vision_config']
  rope, ids = text['rope_parameters'], {
      name: whole[name] for name in whole if name.endswith('_token_id')}
  if NEWER:
    config = transformers.Qwen2VLConfig(
        text_config=text, vision_config=vision, **ids)
  else:
    sizes = {name: text[name] for name in (
        'vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
        'num_attention_heads', 'num_key_value_heads', 'rms_norm_eps')}
    config = transformers.Qwen2VLConfig(
        **sizes, **ids, rope_theta=rope['rope_theta'], rope_scaling={
            'type': 'mrope', 'mrope_section': rope['mrope_section']},
        vision_config=vision, tie_word_embeddings=False)
  model = transformers.Qwen2VLForConditionalGeneration(config)
  def run(model):
    seen = torch.full((1, 4), ids['image_token_id'])
    tokens = torch.cat([torch.arange(5)[None], seen, torch.arange(3)[None]], 1)
    patch = 3 * 2 * vision['patch_size'] ** 2
    return model(
        input_ids=tokens, attention_mask=torch.ones_like(tokens),
        position_ids=torch.arange(12).expand(3, 1, 12),
        pixel_values=torch.randn(16, patch, generator=seeded()),
        image_grid_thw=torch.tensor([[1, 4, 4]])).logits
  return model, run


def mm_embed(whole):
  """LlavaNext's parts as the released class of MM-Embed lays them out."""
  config = transformers.LlavaNextConfig(
      vision_config=transformers.CLIPVisionConfig(**whole['vision_config']),
      text_config=transformers.MistralConfig(**whole['text_config']),
      projector_hidden_act=whole['projector_hidden_act'], image_token_index=0)

  class Released(transformers.LlavaNextForConditionalGeneration):
    def __init__(self, config):
      super().__init__(config)
      if NEWER:
        parts, self.model, self.lm_head = self.model, None, None
        self.vision_tower = parts.vision_tower
        self.multi_modal_projector = parts.multi_modal_projector
      self.language_model = transformers.MistralModel(config.text_config)

  def run(model):
    width = whole['vision_config']['hidden_size']
    seen = model.multi_modal_projector(
        torch.randn(1, 6, width, generator=seeded()))
    return model.language_model(inputs_embeds=seen).last_hidden_state
  return Released(config), run


def blim(whole):
  """Qwen2ForCausalLM with projectors and a head, as VideoChat-Flash."""
  kept = ('vocab_size', 'hidden_size', 'intermediate_size', 'rms_norm_eps',
          'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads',
          'tie_word_embeddings')
  model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
      **{name: whole[name] for name in kept}))
  width, seen = whole['hidden_size'], whole['mm_hidden_size']
  linear = torch.nn.Linear
  model.visual_head = linear(width, seen, bias=False)
  model.model.mm_projector = torch.nn.Module()
  for name in ('mlp', 'tvg_mlp'):
    setattr(model.model.mm_projector, name, torch.nn.Sequential(
        linear(seen, width), torch.nn.GELU(), linear(width, width)))

  def run(model):
    features = torch.randn(1, 6, seen, generator=seeded())
    inner = getattr(model, 'model', model)
    hidden = [inner(inputs_embeds=getattr(inner.mm_projector, name)(features)
                    ).last_hidden_state for name in ('mlp', 'tvg_mlp')]
    return torch.cat([model.lm_head(hidden[0]), model.visual_head(hidden[1])],
                     -1)
  return model, run


def seeded():
  return torch.Generator().manual_seed(0)


def load(model, path):
  """Strictly all that the model has, by its own names; what is over is left."""
  tensors, names = load_file(path), model.state_dict()
  found = {}
  for name in names:
    old = re.sub(r'^model\.language_model\.', 'model.', name)
    old = re.sub(r'^model\.visual\.', 'visual.', old)
    spellings = (name, old, name.replace(
        'vision_tower.', 'vision_tower.vision_model.'))
    found[name] = next(tensors[key] for key in spellings if key in tensors)
  model.load_state_dict(found)
  return model.eval()


def outputs(kind, directory):
  """{'base', 'peft', 'merged': float32, 'complaints': texts}."""
  whole = json.loads((directory / 'config.json').read_text())
  build, found = globals()[kind], {}
  with torch.no_grad(), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    for name in ('base', 'merged'):
      model, run = build(whole)
      found[name] = run(load(model, directory / f'{name}.safetensors')).numpy()
    model = load(build(whole)[0], directory / 'base.safetensors')
    wrapped = peft.PeftModel.from_pretrained(model, directory / 'adapter')
    found['peft'] = run(wrapped.eval().get_base_model()).numpy()
  found['complaints'] = np.array(
      [str(w.message) for w in caught if 'adapter' in str(w.message)], 'U')
  return found


if __name__ == '__main__':
  folder = pathlib.Path(sys.argv[2])
  np.savez(folder / 'outputs.npz', **outputs(sys.argv[1], folder))
