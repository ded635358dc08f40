"""A Qwen3-VL that embeds, as sentence-transformers has Qwen3-VL-Embedding.

Turns of a chat, the instruction as the system's, the last token's state, and a
norm. Source: the files of Qwen/Qwen3-VL-Embedding-2B.
"""
import json

POOLING, NORMALIZE = '1_Pooling', '2_Normalize'
MODALITIES = 'text', 'image', 'video', 'message'
PIXELS = 'preprocessor_config.json'
TEMPLATES = 'chat_template.jinja', 'chat_template.json'


def sentence_transformers(base, width, image, instruction):
  """{name: contents} of what a directory in transformers' layout needs besides.

  base: the directory of the model that was trained on, whose processor is
  taken. image: (least, most) pixels of an image. instruction: what an item is
  embedded for where nothing is said.
  Errors: ValueError where the base has no chat template or no processor.
  """
  for names in (TEMPLATES, (PIXELS,)):
    if not any((base / name).is_file() for name in names):
      raise ValueError(f'{base} has no {" or ".join(names)}, which sentence-'
                       'transformers reads: use --format=transformers')
  pixels = json.loads((base / PIXELS).read_text('utf-8-sig'))
  pixels = {name: value for name, value in pixels.items()
            if name not in ('min_pixels', 'max_pixels')}
  output = {'method': 'forward', 'method_output_name': 'last_hidden_state'}
  return {
      'modules.json': [
          {'idx': number, 'name': str(number), 'path': path,
           'type': f'sentence_transformers.models.{kind}'}
          for number, (path, kind) in enumerate((
              ('', 'Transformer'), (POOLING, 'Pooling'),
              (NORMALIZE, 'Normalize')))],
      'sentence_bert_config.json': {
          'transformer_task': 'feature-extraction',
          'modality_config': {
              **{name: output for name in MODALITIES[:-1]},
              'message': {**output, 'format': 'structured'}},
          'module_output_name': 'token_embeddings',
          'processing_kwargs': {
              'chat_template': {'add_generation_prompt': True}}},
      'config_sentence_transformers.json': {
          'model_type': 'SentenceTransformer',
          'prompts': {'default': instruction},
          'default_prompt_name': 'default', 'similarity_fn_name': 'cosine'},
      f'{POOLING}/config.json': {
          'word_embedding_dimension': width, 'pooling_mode_cls_token': False,
          'pooling_mode_mean_tokens': False, 'pooling_mode_max_tokens': False,
          'pooling_mode_mean_sqrt_len_tokens': False,
          'pooling_mode_weightedmean_tokens': False,
          'pooling_mode_lasttoken': True, 'include_prompt': True},
      PIXELS: {**pixels, 'size': {
          'shortest_edge': image[0], 'longest_edge': image[1]}}}
