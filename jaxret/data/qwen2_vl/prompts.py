"""UNITE's prompts: the exact strings, marks for media, and modality codes.

Source: spec §4 and the authors' data set class. The user's turn is the content
of an item and a line that asks for a summary in one word; the embedding is
read at the last token.
"""
import re
from collections.abc import Mapping
from typing import NamedTuple

MARKS = {'image': '<|IMAGE|>', 'video': '<|VIDEO|>'}
PADS = {'image': '<|image_pad|>', 'video': '<|video_pad|>'}
VISION_START, VISION_END = '<|vision_start|>', '<|vision_end|>'
POOLED = '<|endoftext|>'
_START, _END = '<|im_start|>', '<|im_end|>'
CONTROL_TOKENS = (_START, _END, POOLED, VISION_START, VISION_END,
                  *PADS.values())
SYSTEM = 'You are a helpful assistant.'
_CALLED = {'text': 'sentence', 'image': 'image', 'video': 'video'}
# One bit per modality; a mixture has the bits of its parts.
CODES = {'text': 1, 'image': 2, 'video': 4}
_MARK = re.compile('|'.join(map(re.escape, MARKS.values())))


def seen(kind):
  """What a mark becomes: the control tokens around one placeholder."""
  return f'{VISION_START}{PADS[kind]}{VISION_END}'


def conversation(turns, system=SYSTEM):
  """The chat template, which ends where the assistant is to begin.

  turns: [(role, content)]; media in a content are `seen`. system: what is
  said first where the first turn is not the system's; '' = nothing.
  """
  if system and turns[0][0] != 'system':
    turns = [('system', system), *turns]
  return ''.join(f'{_START}{role}\n{content}{_END}\n'
                 for role, content in turns) + f'{_START}assistant\n'


class Content(NamedTuple):
  """What an item says and shows.

  text: None if it has none. counts: {'image', 'video'} -> how many media.
  order: its modalities as the prompt names them.
  """
  text: str | None
  counts: Mapping[str, int]
  order: tuple[str, ...]


def prompt(content, released=True):
  """The whole prompt of a Content, one placeholder for each mark.

  Text alone decides where media stand: it has a mark for each. Without text
  the marks are written in the order image, video, one per line; `released`
  writes one per modality as the authors' code does, however many media there
  are, otherwise each medium gets its own.
  """
  body = content.text
  if body is None:
    body = '\n'.join(
        MARKS[kind] for kind in MARKS
        for _ in range(min(1, content.counts[kind]) if released
                       else content.counts[kind]))
  for kind, mark in MARKS.items():
    body = body.replace(mark, seen(kind))
  return summary_prompt(body.strip(), content.order)


def summary_prompt(body, order):
  """Body and question in the chat template; the body is taken as it is."""
  names = ' and '.join(_CALLED[modality] for modality in order)
  question = f'{body}\nSummary above {names} in one word:'
  return chat(question) + POOLED


def chat(body):
  """The turn of a user, up to where the model answers."""
  return conversation([('user', body)])


def marked(content, name, refused=CONTROL_TOKENS, between='\n'):
  """The Content with a mark for each medium.

  Text that marks none of its media gets the marks in front of it, on lines of
  their own, or with other words `between` them. Raises ValueError where text
  marks some, or too many, or holds one of the `refused` tokens; `name` is the
  item's.
  """
  text = content.text
  if text is None:
    return content
  held = [token for token in refused if token in text]
  if held:
    raise ValueError(f'{name}: its text holds the control token {held[0]}; '
                     'remove it from the text')
  front = []
  for kind, mark in MARKS.items():
    found, wanted = text.count(mark), content.counts[kind]
    if found == 0:
      front += [mark] * wanted
    elif found != wanted:
      raise ValueError(
          f'{name}: its text has {found} marks {mark} for {wanted} {kind}s; '
          'want one for each, or none to have them put in front')
  return content._replace(text=between.join([*front, text]))


def shortened(text, keep):
  """The first `keep` characters of a text; its marks stay, and do not count."""
  parts, at = [], 0
  for match in [*_MARK.finditer(text), None]:
    end = len(text) if match is None else match.start()
    piece = text[at:end][:max(keep, 0)]
    keep -= len(piece)
    parts += [piece] if match is None else [piece, match.group()]
    at = end if match is None else match.end()
  return ''.join(parts)


def modality_code(modalities, name=None):
  """The bit code of 'text', 'image,text', ...; spaces do not matter.

  Without a `name` an unknown word counts for nothing, as in the authors' code;
  with the name of an item it is a ValueError.
  """
  code = 0
  for word in (part.strip() for part in modalities.split(',')):
    if word not in CODES and name is not None:
      raise ValueError(f'{name}: unknown modality {word!r} in {modalities!r}; '
                       f'want one of {", ".join(CODES)}, or several joined by '
                       'commas')
    code |= CODES.get(word, 0)
  return code
