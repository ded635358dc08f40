"""How the first candidates of MM-Embed are asked about, and of which model."""
from ml_collections import ConfigDict

from configs import common

_CAPTION = ('<image>\n{}\nDoes the above daily-life image match the caption? '
            'True or False')
# Asked by the modalities of query and candidate. The question about a caption
# is the paper's; all others, and the order of two images, are ours [open].
QUESTIONS = {
    'text_to_image': _CAPTION.format('{query}'),  # the paper's
    'image_to_text': _CAPTION.format('{candidate}'),  # ours, as those below
    # Whether a passage answers.
    'text_to_text': '{candidate}\nQuestion: {query}\nDoes the passage answer '
                    'the question? True or False',
    # Whether a passage answers what is asked about an image.
    'image_text_to_text': '<image>\n{candidate}\nQuestion: {query}\nDoes the '
                          'passage answer the question? True or False',
    # Whether a change of an image was made.
    'image_text_to_image': '<image>\n<image>\nDoes the second image equal the '
                           'first after this change: {query}? True or False',
    # Whether two images show one thing.
    'image_to_image': '<image>\n<image>\nDo both images show the same thing? '
                      'True or False',
    # Whether an illustrated passage answers.
    'text_to_image_text': '<image>\n{candidate}\nQuestion: {query}\nDo the '
                          'image and the passage answer the question? True or '
                          'False',
    # Whether an illustrated passage answers what is asked about an image.
    'image_text_to_image_text': '<image>\n<image>\n{candidate}\nQuestion: '
                                '{query}\nDo the second image and the passage '
                                'answer the question? True or False'}


def rerank():
  """The section of a config."""
  config = ConfigDict({
      'tasks': (),  # tasks that are reranked, () = none
      'depth': 10,  # candidates of a query that are asked about
      # P(True) replaces the similarity: 'replace', or is added: 'interpolate'
      # [open]; 'chosen': its log odds are added, times a weight that other
      # queries choose, of a reranker that beats chance on them.
      'mode': 'replace',
      'weight': 1.0,  # of P(True) where it is added
      # Where 'chosen': the split whose queries choose, 'val' of M-BEIR or
      # CIRCO. The one that is reported: each half of its queries for the other.
      'choose_on': 'validation',
      # What may be chosen, similarity for a nat; 0 is the retriever alone.
      'weights': (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
      'questions': QUESTIONS,
      # llava-hf/llava-v1.6-mistral-7b-hf; '' = a tiny one is trained.
      'pretrained': '',
      'dtype': 'bfloat16',  # of a pretrained one
      'anyres': False,  # images in several crops, as LLaVA-NeXT sees them
      'alpha': 'white',  # transparent pixels of what is asked: see data.alpha
      # The task that the tiny one learns, commas between several.
      'source': 'image_text_to_image',
      'wrong_depth': 10,  # mined candidates that `near` are drawn from
      'near': 2,  # wrong candidates of a query that mining found
      'far': 1,  # wrong candidates of a query at random
      'batch_size': 4,  # queries asked about at a time
      # What is padded to in training: (tokens, crops, candidates, tokens,
      # crops), of what the prompts of a query share and of the rest.
      'train_shape': (40, 1, 4, 32, 1),
      'shape': (),  # as train_shape, when asked; () = their own buckets
      'train': common.train(), 'optim': common.optim(1e-3)})
  config.optim.update(warmup_epochs=0.1, gradient_clip_norm=1.0)
  return config
