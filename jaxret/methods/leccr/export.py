"""LECCR's text tower in the layout of sentence-transformers.

The first token's state, projected to where texts and images meet. The tower of
images, the slots and what reads descriptions have no layout on the Hub.
"""
from jaxret.methods import base
from jaxret.methods.leccr import method as leccr
from jaxret.models import encoder_names
from jaxret.models.sentence_bert import files, saving


def exported(config, tokenizer, params):
  """See base.Exported."""
  sizes, m = leccr.model_config(config, tokenizer), config.model
  params = params['params']
  linear = {'text_head': params['heads']['text']}
  made = saving.files_of(sizes.text, sizes.embedding_width,
                         min(m.text.max_tokens, sizes.text.max_tokens))
  if m.text_pretrained:
    del made['config.json']
  return base.Exported(
      'sentence-transformers',
      {'': base.Part(encoder_names.BERT, {
          'text_encoder': params['text_encoder']}, m.text_pretrained),
       saving.DENSE: base.Part(files.DENSE_NAMES, linear)},
      made, {}, 'bert')
