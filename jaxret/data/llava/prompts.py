"""MM-Embed's and NV-Embed-v1's prompts, and which tokens are not pooled.

Source: spec §1 and the authors' released `encode`. There is no chat template:

  text        query `Instruct: {I}\\nQuery: {text}`          candidate `{text}`
  image       query `Instruct: {I}\\nQuery: <image>\\n`       `<image>\\n`
  image+text  query `Instruct: {I}\\nQuery: <image>\\n{text}` `<image>\\n{text}`

Tokens: BOS, the prompt, EOS; a longer prompt is cut on the right and keeps EOS.
"""
from jaxret.data import types

IMAGE, BOS, EOS, PAD = '<image>', '<s>', '</s>', '<pad>'
CONTROL_TOKENS = (BOS, EOS, IMAGE, PAD)
STYLES = ('mm_embed', 'nv_embed_v1')
_QUERY = 'Query: '
# What a tokenizer that is made for these prompts should be trained on.
PROMPTS = ('Instruct: ', f'\n{_QUERY}')


def prompt(text, has_image, is_query, instruction=None):
  """The string that is tokenised.

  text, instruction: None if there is none. An instruction goes before queries
  alone; a query without one starts with `Query: `.
  """
  body = (f'{IMAGE}\n' if has_image else '') + (text or '')
  if not is_query:
    return body
  return f'{instruction_text(instruction)}{_QUERY}{body}'


def instruction_text(instruction):
  """What stands in front of `Query: `."""
  return f'Instruct: {instruction}\n' if instruction else ''


def check_text(text, name):
  """Raises ValueError for a text or instruction that cannot be read.

  That is one with the placeholder, or with a lone surrogate.

  `name` says which text of what file it is. (The authors' merge fails on such
  a text. `\\nQuery: ` in a text does no harm here: the authors look for it, so
  that a candidate which holds it is pooled in part; ours counts the tokens of
  the instruction.)
  """
  if text is not None and IMAGE in text:
    raise ValueError(f'{name}: its text holds the image placeholder {IMAGE}; '
                     'remove it from the text')
  if text is not None and types.is_broken(text):
    raise ValueError(f'{name}: its text holds a lone surrogate, half of a '
                     'character; remove it from the text')


def readable(text, name, lost, key):
  """A text of published files, with the placeholder as words in it.

  No picture goes with it there, and no released code reads it: as `< image>` it
  is the words that its author wrote. lost: {id: reason}, where `key` then says
  so. Raises ValueError as `check_text` does for another one.
  """
  if text is not None and IMAGE in text:
    instead = IMAGE.replace('<', '< ')
    lost[key] = (f'{name}: its text holds the image placeholder {IMAGE}; it is '
                 f'read as {instead}')
    text = text.replace(IMAGE, instead)
  check_text(text, name)
  return text


def pool_start(encode, instruction, style='mm_embed'):
  """How many tokens at the start of a query are left out of the pooling.

  encode: text -> ids without BOS and EOS. `mm_embed`: the tokens of `Instruct:
  {I}` with BOS and EOS, so that exactly BOS, instruction and the newline after
  it are left out. `nv_embed_v1`: those of `Instruct: {I}\\nQuery: ` alone,
  which is how NV-Embed-v1 counts. 0 without an instruction: BOS is pooled too.
  """
  if not instruction:
    return 0
  if style == 'nv_embed_v1':
    return len(encode(instruction_text(instruction) + _QUERY))
  return len(encode(instruction_text(instruction).removesuffix('\n'))) + 2
