"""Questions that LLaVA-NeXT answers with True or False, and those two words.

Source: MM-Embed (arXiv 2411.02571) §3 of the spec. A question is a template:
{query} and {candidate} are texts, and the images of the query come before
those of the candidate. Which ones are asked: config.rerank.questions.
"""
import re

from jaxret.data.llava import prompts as mm_embed_prompts

IMAGE = mm_embed_prompts.IMAGE
ANSWERS = ('True', 'False')
_ENDING = 'True or False'
_FIELD = re.compile(r'\{(query|candidate)\}')
# What a tokenizer of rendered worlds is trained on besides the texts there, so
# that questions stay short. What is asked is config.rerank.questions: another
# question there needs none here, and another text here makes another tokenizer.
TOKENIZER_TEXTS = (
    f'{IMAGE}\n{{query}}\nDoes the above daily-life image match the '
    f'caption? {_ENDING}',
    f'{IMAGE}\n{{candidate}}\nDoes the above daily-life image match the '
    f'caption? {_ENDING}',
    '{candidate}\nQuestion: {query}\nDoes the passage answer the question? '
    + _ENDING,
    f'{IMAGE}\n{{candidate}}\nQuestion: {{query}}\nDoes the passage answer the '
    f'question? {_ENDING}',
    f'{IMAGE}\n{IMAGE}\nDoes the second image equal the first after this '
    f'change: {{query}}? {_ENDING}',
    f'{IMAGE}\n{IMAGE}\nDo both images show the same thing? {_ENDING}',
    f'{IMAGE}\n{{candidate}}\nQuestion: {{query}}\nDo the image and the '
    f'passage answer the question? {_ENDING}',
    f'{IMAGE}\n{IMAGE}\n{{candidate}}\nQuestion: {{query}}\nDo the second '
    f'image and the passage answer the question? {_ENDING}',
    f'[INST] {" ".join(ANSWERS)} [/INST]')


def prompt(question, query, candidate):
  """The whole turn: a template with the texts of both Items in it.

  Raises ValueError naming the pair for a template that does not have one
  <image> per image, or a text that holds one.
  """
  pair = f'query {query.id}, candidate {candidate.id}'
  for item in (query, candidate):
    mm_embed_prompts.check_text(item.text, item.id)
  marks = question.count(IMAGE)
  images = sum(item.image is not None for item in (query, candidate))
  if marks != images:
    raise ValueError(f'{pair}: the question has {marks} {IMAGE} for {images} '
                     'images; want one for each')
  texts = {'query': query.text, 'candidate': candidate.text}
  def fill(match):
    text = texts[match[1]]
    if text is None:
      raise ValueError(f'{pair}: the question wants the text of the '
                       f'{match[1]}, which has none: use another question')
    return text
  return f'[INST] {_FIELD.sub(fill, question)} [/INST]'


def answer_ids(tokenizer, spaced=True, answers=ANSWERS):
  """The tokens that two answers start with, (True, False) say.

  spaced: after a space, as after `[/INST]` LLaMA's tokenizers write a word;
  otherwise after a newline. A word of several pieces is told by its first.
  Raises ValueError where both words start alike.
  """
  before = 'a' if spaced else '\n'
  start = len(tokenizer.encode(before))
  ids = tuple(tokenizer.encode(before + ' ' * spaced + word)[start]
              for word in answers)
  if ids[0] == ids[1]:
    raise ValueError(
        f'the tokenizer starts {" and ".join(answers)} with the same token '
        f'{ids[0]}: use one that has the words whole')
  return ids
