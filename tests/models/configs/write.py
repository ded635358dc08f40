"""Writes the config.json files of this folder by the transformers in use.

  python write.py DIRECTORY

makes DIRECTORY/<version>/<model>.json, of each model with tiny sizes and, as
<model>_default.json, as its class makes it. The files here are those of the
versions whose names the folders have; those of `hub` are as published.
"""
import json
import pathlib
import sys

import transformers

TEXT = {'vocab_size': 400, 'hidden_size': 32, 'intermediate_size': 48,
        'num_hidden_layers': 3, 'num_attention_heads': 4,
        'num_key_value_heads': 2}
TOWER = {'hidden_size': 24, 'intermediate_size': 40, 'num_hidden_layers': 3,
         'num_attention_heads': 2, 'image_size': 28, 'patch_size': 14,
         'projection_dim': 16}
TEXT_ENCODER = {'vocab_size': 400, 'hidden_size': 24, 'intermediate_size': 40,
                'num_hidden_layers': 3, 'num_attention_heads': 2,
                'max_position_embeddings': 40, 'type_vocab_size': 1}
SAVED = {'torch_dtype': 'float32'}


class VideoChatFlashQwenConfig(transformers.Qwen2Config):
  """As the code that comes with VideoChat-Flash has it."""
  model_type = 'videochat_flash_qwen'


def tiny():
  """{name: a configuration}."""
  rope = {'type': 'mrope', 'mrope_section': [1, 1, 2]}
  return {
      'qwen2_vl': transformers.Qwen2VLConfig(
          **TEXT, rms_norm_eps=1e-6, tie_word_embeddings=True,
          rope_theta=5e5, rope_scaling=rope, sliding_window=32768,
          image_token_id=390, video_token_id=391, vision_start_token_id=392,
          vision_end_token_id=393, architectures=['UniteQwen2VL'],
          vision_config={'depth': 2, 'embed_dim': 24, 'hidden_size': 32,
                         'num_heads': 2, 'mlp_ratio': 3}, **SAVED),
      'llava_next': transformers.LlavaNextConfig(
          text_config={'model_type': 'mistral', **TEXT, 'rope_theta': 1e6,
                       'rms_norm_eps': 1e-5, 'sliding_window': None},
          vision_config={'model_type': 'clip_vision_model', **TOWER},
          image_token_index=399, image_grid_pinpoints=[[28, 56], [56, 28]],
          **SAVED),
      'clip': transformers.CLIPConfig(
          text_config={**TEXT_ENCODER, 'projection_dim': 16},
          vision_config=TOWER, projection_dim=16, **SAVED),
      'bert': transformers.BertConfig(
          **{**TEXT_ENCODER, 'type_vocab_size': 2}, **SAVED),
      'xlm_roberta': transformers.XLMRobertaConfig(
          **TEXT_ENCODER, layer_norm_eps=1e-5, **SAVED),
      'videochat': VideoChatFlashQwenConfig(
          **TEXT, rope_theta=1e6, mm_hidden_size=12, mm_local_num_frames=4,
          mm_vision_select_layer=-2, mm_vision_tower='umt-hd-large',
          mm_projector_type='tome16_mlp_hd64', mm_newline_position='nothing',
          mm_llm_compress=False, **SAVED),
  }


def tiny_qwen25_vl():
  """Of transformers 4.49 and later."""
  return transformers.Qwen2_5_VLConfig(
      **TEXT, rms_norm_eps=1e-6, tie_word_embeddings=True, rope_theta=5e5,
      rope_scaling={'type': 'mrope', 'mrope_section': [1, 1, 2]},
      sliding_window=32768, image_token_id=390, video_token_id=391,
      vision_start_token_id=392, vision_end_token_id=393,
      architectures=['Qwen2_5_VLForConditionalGeneration'],
      vision_config={'depth': 3, 'hidden_size': 24, 'out_hidden_size': 32,
                     'num_heads': 2, 'intermediate_size': 40,
                     'window_size': 56, 'fullatt_block_indexes': [1],
                     'tokens_per_second': 2}, **SAVED)


def tiny_qwen3_vl():
  """Of transformers 4.57 and later."""
  return transformers.Qwen3VLConfig(
      text_config={
          **TEXT, 'head_dim': 12, 'rms_norm_eps': 1e-5, 'rope_theta': 5e5,
          'rope_scaling': {'rope_type': 'default', 'mrope_section': [2, 2, 2],
                           'mrope_interleaved': True}},
      vision_config={
          'depth': 3, 'hidden_size': 24, 'out_hidden_size': 32, 'num_heads': 2,
          'intermediate_size': 40, 'num_position_embeddings': 25,
          'deepstack_visual_indexes': [0, 2]},
      tie_word_embeddings=True, image_token_id=390, video_token_id=391,
      vision_start_token_id=392, vision_end_token_id=393,
      architectures=['Qwen3VLForConditionalGeneration'], **SAVED)


def defaults():
  """{name: a configuration as its class makes it}."""
  return {
      # Its own default widths of text and tower do not fit each other.
      'qwen2_vl': transformers.Qwen2VLConfig(
          hidden_size=3584, num_attention_heads=28,
          rope_scaling={'type': 'mrope', 'mrope_section': [16, 24, 24]}),
      'llava_next': transformers.LlavaNextConfig(
          text_config={'model_type': 'mistral', 'rope_theta': 1e6}),
      'clip': transformers.CLIPConfig(),
      'bert': transformers.BertConfig(),
      'xlm_roberta': transformers.XLMRobertaConfig()}


def main(directory):
  folder = pathlib.Path(directory) / transformers.__version__
  folder.mkdir(parents=True, exist_ok=True)
  small, plain = tiny(), defaults()
  if hasattr(transformers, 'Qwen2_5_VLConfig'):
    small['qwen2_5_vl'] = tiny_qwen25_vl()
    plain['qwen2_5_vl'] = transformers.Qwen2_5_VLConfig(
        vision_config={'out_hidden_size': 8192},
        rope_scaling={'type': 'mrope', 'mrope_section': [16, 24, 24]})
  if hasattr(transformers, 'Qwen3VLConfig'):
    small['qwen3_vl'] = tiny_qwen3_vl()
    plain['qwen3_vl'] = transformers.Qwen3VLConfig(
        text_config={'hidden_size': 3584, 'rope_scaling': {
            'rope_type': 'default', 'mrope_section': [24, 20, 20]}})
  for kind, found in (('', small), ('_default', plain)):
    for name, config in found.items():
      text = config.to_json_string()  # what save_pretrained writes
      (folder / f'{name}{kind}.json').write_text(
          json.dumps(json.loads(text), indent=1) + '\n')


if __name__ == '__main__':
  main(sys.argv[1])
