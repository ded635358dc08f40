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


def chat(body):
  """The turn of a user, up to where the model answers."""
  return conversation([('user', body)])


class Template(NamedTuple):
  """The prompt of a model that is trained to embed.

  text: the whole, with {content} where the item stands; {modalities} names
  what it is made of, 'sentence and image' for example; {instruction} is what
  whoever embeds asks for, else `instruction`. Without that field an
  instruction stands in front of the item's text. between: what stands between
  media and text. strip: whether space around the content is removed. kinds:
  in which order media stand that no text marks.
  """
  text: str
  instruction: str = ''
  between: str = '\n'
  strip: bool = False
  kinds: tuple[str, ...] = tuple(MARKS)

  @property
  def instructed(self):
    """Whether it has a place for an instruction."""
    return '{instruction}' in self.text

  def fill(self, content, order, instruction=None):
    """The prompt around a content; order: its modalities as they are named."""
    if self.strip:
      content = content.strip()
    names = ' and '.join(_CALLED[modality] for modality in order)
    before, after = self.text.split('{content}')
    def filled(part):
      return part.replace('{modalities}', names).replace(
          '{instruction}', instruction or self.instruction)
    return f'{filled(before)}{content}{filled(after)}'


UNITE = Template(
    chat('{content}\nSummary above {modalities} in one word:') + POOLED,
    strip=True)


def template(text):
  """The Template of a text that a user gives; raises ValueError for others."""
  if not isinstance(text, str) or text.count('{content}') != 1:
    raise ValueError(f'prompt: got {text!r}, want a text with {{content}} once '
                     'where an item is to stand')
  return Template(text, between='')


class Content(NamedTuple):
  """What an item says and shows.

  text: None if it has none. counts: {'image', 'video'} -> how many media.
  order: its modalities as the prompt names them.
  """
  text: str | None
  counts: Mapping[str, int]
  order: tuple[str, ...]


def prompt(content, released=True, template=UNITE, instruction=None):
  """The whole prompt of a Content, one placeholder for each mark.

  Text alone decides where media stand: it has a mark for each. Without text
  the marks are written as the template has it, of UNITE in the order image,
  video, one per line; `released` writes one per modality as the authors' code
  does, however many media there are, otherwise each medium gets its own.
  """
  body = content.text
  if body is None:
    body = template.between.join(
        MARKS[kind] for kind in template.kinds
        for _ in range(min(1, content.counts[kind]) if released
                       else content.counts[kind]))
  for kind, mark in MARKS.items():
    body = body.replace(mark, seen(kind))
  return template.fill(body, content.order, instruction)


def summary_prompt(body, order):
  """Body and question in the chat template of UNITE."""
  return UNITE.fill(body, order)


def marked(content, name, refused=CONTROL_TOKENS, between='\n',
           kinds=tuple(MARKS)):
  """The Content with a mark for each medium.

  Text that marks none of its media gets the marks in front of it, on lines of
  their own, or with other words `between` them, in the order of `kinds`.
  Raises ValueError where text marks some, or too many, or holds one of the
  `refused` tokens; `name` is the item's.
  """
  text = content.text
  if text is None:
    return content
  check_text(text, f'{name}: its text', refused)
  front = []
  for kind in kinds:
    mark, wanted = MARKS[kind], content.counts[kind]
    found = text.count(mark)
    if found == 0:
      front += [mark] * wanted
    elif found != wanted:
      raise ValueError(
          f'{name}: its text has {found} marks {mark} for {wanted} {kind}s; '
          'want one for each, or none to have them put in front')
  return content._replace(text=between.join([*front, text]))


def check_text(text, name, refused=CONTROL_TOKENS):
  """Raises ValueError for text that holds one of the refused tokens."""
  held = [token for token in refused if token in text]
  if held:
    raise ValueError(f'{name} holds the control token {held[0]}; remove it '
                     'from the text')


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
