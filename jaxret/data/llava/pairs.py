"""Queries with their candidates, as LLaVA-NeXT is asked about them.

How it is asked: by MM-Embed's questions (arXiv 2411.02571 §3), one for each
pair of modalities, by a question of the user's own, or by a QuestionFrame.
"""
import types as python_types
from typing import NamedTuple

from jaxret.data import question_frames
from jaxret.data.llava import images as llava_images
from jaxret.data.llava import prompts as prompts_lib
from jaxret.data.llava import question_prompts, questions
from jaxret.data.qwen2_vl import prompts as marks_lib

_END = ' True or False'
_MATCH = '\nDoes the above daily-life image match the caption?' + _END
# By the modalities of query and candidate, as configs/mm_embed.py has them.
QUESTIONS = python_types.MappingProxyType({
    'text_to_image': '<image>\n{query}' + _MATCH,
    'image_to_text': '<image>\n{candidate}' + _MATCH,
    'text_to_text': '{candidate}\nQuestion: {query}\nDoes the passage answer '
                    'the question?' + _END,
    'image_text_to_text': '<image>\n{candidate}\nQuestion: {query}\nDoes the '
                          'passage answer the question?' + _END,
    'image_text_to_image': '<image>\n<image>\nDoes the second image equal the '
                           'first after this change: {query}?' + _END,
    'image_to_image': '<image>\n<image>\nDo both images show the same thing?'
                      + _END,
    'text_to_image_text': '<image>\n{candidate}\nQuestion: {query}\nDo the '
                          'image and the passage answer the question?' + _END,
    'image_text_to_image_text': '<image>\n<image>\n{candidate}\nQuestion: '
                                '{query}\nDo the second image and the passage '
                                'answer the question?' + _END})
_RESERVED = (*prompts_lib.CONTROL_TOKENS, *marks_lib.MARKS.values())
_FIELDS = '{query}', '{candidate}'


class Asked(NamedTuple):
  """How it is asked.

  by: {modalities: question}, one question for all, or a QuestionFrame.
  answers: the words for a candidate that answers, and for one that does not.
  """
  by: object
  answers: tuple[str, str] = question_prompts.ANSWERS


def asked(frame=None):
  """The Asked of what a user names; ValueError for what is none.

  frame: None or 'mm_embed' = QUESTIONS; a question with {query} or {candidate}
  in it, or a dict of such by modalities, see QUESTIONS; or what
  data.question_frames has, but for those that speak as the system.
  """
  if frame is None or frame == 'mm_embed':
    return Asked(QUESTIONS)
  if isinstance(frame, str) and any(field in frame for field in _FIELDS):
    return Asked(frame)
  if isinstance(frame, dict):
    for name, question in frame.items():
      if name not in QUESTIONS or not isinstance(question, str):
        raise ValueError(f'frame: got {name!r}: {question!r}, want a question '
                         f'for one of {", ".join(QUESTIONS)}')
    return Asked(frame)
  if isinstance(frame, str) and frame not in question_frames.FRAMES:
    raise ValueError(
        f'frame: got {frame!r}, want mm_embed, true_false, multiple_choice, or '
        'a question with {query} or {candidate} in it')
  found = question_frames.checked(frame)
  if found.system is not None:
    raise ValueError(f'frame: got {frame!r}, which speaks as the system, of '
                     'which LLaVA-NeXT has no turn: want mm_embed, true_false '
                     'or multiple_choice')
  return Asked(found, found.answers)


class PairReader:
  """Makes prompts of pairs of Items; errors name the item that is wrong.

  tokenizer, grid, vocab_size, alpha: as a questions.Reader has them.
  max_tokens: of a prompt, visual tokens included; a longer one is refused.
  """

  def __init__(self, tokenizer, grid, vocab_size, max_tokens=4096,
               alpha='white'):
    self.grid, self.max_tokens = grid, max_tokens
    self._given = tokenizer, grid, vocab_size, max_tokens, alpha
    self._read = questions.Reader(tokenizer, grid, vocab_size, alpha=alpha)

  def words(self, asked):
    """The tokens (right, wrong) of the answers of an Asked."""
    return question_prompts.answer_ids(self._given[0], answers=asked.answers)

  def fresh(self):
    """The same, without what was kept of files, which may have changed."""
    return PairReader(*self._given)

  def check(self, item):
    """Raises ValueError for an Item that can be in no pair."""
    if item.video is not None:
      raise ValueError(f'{item.id}: it has a video; LLaVA-NeXT reads text and '
                       'images alone: give it a frame as an image')
    if item.text is None and item.image is None:
      raise ValueError(f'{item.id}: it is empty; give it a text or an image')
    if item.text is not None and not isinstance(item.text, str):
      raise ValueError(f'{item.id}: its text is {type(item.text).__name__}; '
                       'want a string')
    found = [mark for mark in _RESERVED if mark in (item.text or '')]
    if found:
      raise ValueError(f'{item.id}: its text holds {found[0]}, which is no '
                       'text to LLaVA-NeXT: remove it')
    if item.image is not None:
      llava_images.check(item.image, item.id)

  def __call__(self, query, candidate, asked, instruction=None):
    """questions.Inputs of a pair, as an Asked has it."""
    question = _question(asked.by, query, candidate, instruction)
    inputs = self._read(query, candidate, question)
    if len(inputs.tokens) > self.max_tokens:
      raise ValueError(
          f'{inputs.id}: {len(inputs.tokens)} tokens, want at most '
          f'{self.max_tokens}: shorten its texts, or raise max_tokens')
    return inputs


def check_instruction(asked, instruction):
  """Raises ValueError for an instruction that nothing reads, or is none."""
  if instruction is None:
    return
  if not isinstance(instruction, str):
    raise ValueError(f'instruction: got {type(instruction).__name__}, want a '
                     'text')
  if not isinstance(asked.by, question_frames.QuestionFrame):
    raise ValueError(f'instruction = {instruction!r} has no effect on '
                     "questions of MM-Embed's kind: leave it out, or ask by a "
                     'frame that has {instruction}, true_false, say')
  found = [mark for mark in (*_RESERVED, *_FIELDS) if mark in instruction]
  if found:
    raise ValueError(f'instruction: it holds {found[0]}, which is no text '
                     'here: remove it')


def _question(by, query, candidate, instruction):
  """The template that a pair is asked by, see question_prompts.prompt."""
  if isinstance(by, question_frames.QuestionFrame):
    start, end = by.asked('\0', instruction).split('\0')
    return (f'{start}{_said(query, "{query}")}{end}'
            f'{_said(candidate, "{candidate}")}{by.behind}')
  if isinstance(by, str):
    return by
  name = f'{_modality(query)}_to_{_modality(candidate)}'
  if name not in by:
    raise ValueError(
        f'query {query.id}, candidate {candidate.id}: there is no question '
        f'{name}, only {", ".join(by)}: give one by `frame`')
  return by[name]


def _said(item, text):
  image = f'{prompts_lib.IMAGE}\n' if item.image is not None else ''
  return image + (text if item.text is not None else '' if image
                  else question_frames.NOTHING)


def _modality(item):
  return '_'.join(kind for kind in ('image', 'text')
                  if getattr(item, kind) is not None)


def open_reader(config, tokenizer, max_tokens=4096, alpha='white',
                anyres=False):
  """The PairReader of a LlavaNextConfig.

  anyres: images in several crops, as LLaVA-NeXT is trained; MM-Embed shows the
  whole one alone. Raises ValueError if max_tokens are more than the model is
  right for.
  """
  config.decoder.check_length(max_tokens)
  seen = config.vision
  return PairReader(
      tokenizer, llava_images.Grid(seen.image_px, seen.patch_px,
                                   config.pinpoints if anyres else ()),
      config.decoder.vocab_size, max_tokens, alpha)
