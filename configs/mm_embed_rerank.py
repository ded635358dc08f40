"""How MM-Embed's configs rerank: what is asked, and of which model."""
from ml_collections import ConfigDict

from configs import common

# Asked by the modalities of query and candidate. The question about a caption
# is the paper's; all others, and the order of two images, are ours [open].
_CAPTION = ('<image>\n{}\nDoes the above daily-life image match the caption? '
            'True or False')
QUESTIONS = {
    'text_to_image': _CAPTION.format('{query}'),
    'image_to_text': _CAPTION.format('{candidate}'),  # ours, from here on
    'text_to_text': '{candidate}\nQuestion: {query}\nDoes the passage answer '
                    'the question? True or False',
    'image_text_to_text': '<image>\n{candidate}\nQuestion: {query}\nDoes the '
                          'passage answer the question? True or False',
    'image_text_to_image': '<image>\n<image>\nDoes the second image equal the '
                           'first after this change: {query}? True or False',
    'image_to_image': '<image>\n<image>\nDo both images show the same thing? '
                      'True or False',
    'text_to_image_text': '<image>\n{candidate}\nQuestion: {query}\nDo the '
                          'image and the passage answer the question? True or '
                          'False',
    'image_text_to_image_text': '<image>\n<image>\n{candidate}\nQuestion: '
                                '{query}\nDo the second image and the passage '
                                'answer the question? True or False'}


def fields():
  optim = common.optim(1e-3)
  optim.update(warmup_epochs=0.1, gradient_clip_norm=1.0)
  return ConfigDict({
      # Tasks whose first `depth` candidates are asked about; () = none.
      # P(True) replaces the similarity, or is added: 'interpolate' [open].
      'tasks': (), 'depth': 10, 'mode': 'replace', 'weight': 1.0,
      'questions': QUESTIONS,
      # llava-hf/llava-v1.6-mistral-7b-hf; empty = a tiny one is trained, on
      # the queries of `source`: an answer of each, `near` of the first
      # `wrong_depth` others that mining found, and `far` ones drawn at random.
      'pretrained': '', 'dtype': 'bfloat16', 'anyres': False,
      'source': 'image_text_to_image', 'wrong_depth': 10,
      'near': 2, 'far': 1,
      # Queries asked about at a time. (tokens, crops, candidates, tokens,
      # crops) of what the prompts of a query share and of the rest: in
      # training, and when asked, where () = their own buckets.
      'batch_size': 4, 'train_shape': (40, 1, 4, 32, 1), 'shape': (),
      'train': common.train(), 'optim': optim})
