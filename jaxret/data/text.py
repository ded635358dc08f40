"""Tokenizers: those of checkpoints, and small ones trained on captions."""
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxret import foreign_files, own_files

_REMEDY = 'remove its directory, and it is trained again'
PAD, START, END = '<|endoftext|>', '<|im_start|>', '<|im_end|>'


class Tokenizer(NamedTuple):
  """Plain functions around a vocabulary; nothing is added to the text.

  added: (before, behind), the ids that the tokenizer's own file puts around a
  text (its post_processor), for who wants them; None where that is not all.
  encode: text -> list of int; thread-safe. Control tokens such as <|im_end|>
  are recognised in the text.
  decode: ids -> text, control tokens included.
  """
  encode: Callable[[str], list[int]]
  decode: Callable[[Sequence[int]], str]
  pad_id: int
  end_id: int
  vocab_size: int
  added: tuple[tuple[int, ...], tuple[int, ...]] | None = ((), ())


def load_tokenizer(name_or_dir):
  """Opens a Hugging Face tokenizer: a directory, or a name on the hub.

  A directory that holds tokenizer.json is read without transformers; one
  that holds vocab.json and merges.txt, and a hub name, are read with it.
  Errors: ValueError when the directory or the hub name cannot be read.
  """
  return _open(name_or_dir)[0]


def _open(name_or_dir):
  """(Tokenizer, the tokenizer behind it)."""
  path = pathlib.Path(name_or_dir).expanduser()
  if (path / 'tokenizer.json').is_file():
    return _from_directory(path)
  is_hub_name = re.fullmatch(r'[\w-][\w.-]*/[\w.-]+', str(name_or_dir))
  if path.is_dir() or not is_hub_name:
    if not (path / 'vocab.json').is_file():  # older than tokenizer.json
      raise ValueError(
          f'tokenizer {str(name_or_dir)!r} has no tokenizer.json; give a '
          'directory with tokenizer.json and tokenizer_config.json, or a hub '
          'name such as Qwen/Qwen2-7B-Instruct')
  import transformers  # takes seconds
  try:
    loaded = transformers.AutoTokenizer.from_pretrained(
        str(name_or_dir), trust_remote_code=False)
    fast = loaded.backend_tokenizer
  except (OSError, ValueError, AttributeError) as error:
    reason = str(error).strip().split('\n')[0]
    raise ValueError(
        f'tokenizer {str(name_or_dir)!r} cannot be read ({reason}); give a '
        'directory with tokenizer.json and tokenizer_config.json') from None
  return _tokenizer(
      fast, name_or_dir, loaded.pad_token, loaded.eos_token), fast


def load_text_encoder_tokenizer(name_or_dir, max_tokens):
  """Opens a tokenizer for a text encoder that reads its first token.

  `encode` gives the start token, the text and the end token, as the tokenizer
  itself has them ([CLS] and [SEP], <s> and </s>), or START and END where it has
  none; a longer text is cut to `max_tokens`, the end token stays.
  """
  tokenizer, fast = _open(name_or_dir)
  if fast.post_processor is None:
    start, end = fast.token_to_id(START), fast.token_to_id(END)
    if start is None or end is None:
      raise ValueError(
          f'tokenizer {str(name_or_dir)!r} marks no start and end of a text '
          f'and has no {START} and {END}; use that of a text encoder')
    def encode(text):
      return [start, *tokenizer.encode(text), end]
  else:
    def encode(text):
      return fast.encode(text, add_special_tokens=True).ids
  def cut(text):
    ids = encode(text)
    return ids if len(ids) <= max_tokens else [*ids[:max_tokens - 1], ids[-1]]
  return tokenizer._replace(encode=cut)


def mark_texts(file):
  """Writes into a tokenizer.json that it puts START and END around a text.

  As load_text_encoder_tokenizer does where the tokenizer itself has no marks;
  one that has them stays as it is.
  """
  import tokenizers
  fast = tokenizers.Tokenizer.from_file(str(file))
  if fast.post_processor is not None:
    return
  fast.post_processor = tokenizers.processors.TemplateProcessing(
      single=f'{START} $A {END}', special_tokens=[
          (token, fast.token_to_id(token)) for token in (START, END)])
  fast.save(str(file))


def _sums(directory):
  return {name: own_files.checksum((directory / name).read_bytes())
          for name in ('tokenizer.json', 'tokenizer_config.json')}


def _check_sums(directory):
  """Raises ValueError for a file of ours that is not as it was written."""
  record = directory / 'trained_on.json'
  if not record.is_file():  # not of ours
    return
  written, found = own_files.read_object(record, _REMEDY).get('crc32'), None
  if written is not None:
    found = _sums(directory)
  for name in found or ():
    if found[name] != written.get(name):
      raise ValueError(f'{directory / name} is damaged: it does not have the '
                       f'checksum in {record.name}; {_REMEDY}')


def _from_directory(path):
  import tokenizers
  file, config_file = path / 'tokenizer.json', path / 'tokenizer_config.json'
  if not config_file.is_file():
    raise ValueError(
        f'tokenizer {str(path)!r} cannot be read (no tokenizer_config.json); '
        'wanted the files tokenizer.json and tokenizer_config.json')
  _check_sums(path)  # before anything is said of files that others wrote
  config = foreign_files.read_object(config_file)
  try:
    fast = tokenizers.Tokenizer.from_str(file.read_text('utf-8-sig'))
  except Exception as error:  # tokenizers raises bare Exception
    reason = str(error).strip().split('\n')[0]
    raise foreign_files.refusal(file, f'no tokenizer ({reason})') from None
  pad, end = (_content(config_file, config, k)
              for k in ('pad_token', 'eos_token'))
  return _tokenizer(fast, path, pad, end), fast


def _content(path, config, field):
  """A token is written as its text or, by older versions, as a dict."""
  token = config.get(field)
  found = token.get('content') if isinstance(token, dict) else token
  if not isinstance(found, str) and token is not None:
    raise ValueError(f'{path}: got {field} = {str(token)[:60]}, want a text; '
                     'download it again')
  return found


def _tokenizer(fast, name, pad, end):
  fast.no_padding()
  fast.no_truncation()
  if pad is None or fast.token_to_id(pad) is None:
    raise ValueError(
        f'tokenizer {str(name)!r}: got no pad_token in its vocabulary ({pad}); '
        'name one in tokenizer_config.json')
  pad_id = fast.token_to_id(pad)
  end_id = fast.token_to_id(end) if end else None
  return Tokenizer(
      encode=functools.partial(_encoded, fast, name),
      decode=lambda ids: fast.decode([int(i) for i in ids],
                                     skip_special_tokens=False),
      pad_id=pad_id,
      end_id=pad_id if end_id is None else end_id,
      vocab_size=fast.get_vocab_size(with_added_tokens=True),
      added=_added(fast))


def _encoded(fast, name, text):
  try:
    return fast.encode(text, add_special_tokens=False).ids
  except BaseException as error:
    # Of Rust, and no Exception: a pattern that a text takes too long for.
    if type(error).__name__ != 'PanicException':
      raise
    raise ValueError(f'tokenizer {str(name)!r} fails on {text[:40]!r} ({error})'
                     ': leave the text out, or use another tokenizer'
                     ) from None


def _added(fast):
  """(before, behind): what a tokenizer puts around a text; None = it changes.
  """
  plain, whole = (fast.encode('a', add_special_tokens=special).ids
                  for special in (False, True))
  for start in range(len(whole) - len(plain) + 1):
    if whole[start:start + len(plain)] == plain:
      return tuple(whole[:start]), tuple(whole[start + len(plain):])
  return None


def train_tokenizer(captions, vocab_size, out_dir, control_tokens=(),
                    prompts=None, template=()):
  """Trains a byte-level BPE on captions and returns it, loaded.

  Args:
    captions: texts; vocab_size: tokens at most; out_dir: of the files.
    control_tokens: whole tokens besides those of the chat template.
    prompts: texts that are trained on as well, so that they stay short.
    template: the same, of a method whose prompts are the same for all configs:
      a directory's fingerprint is of the other arguments alone.

  The same arguments give the same files; a directory that already holds them
  is read and left as it is.
  Errors: ValueError when `vocab_size` is too small, when there is no caption,
  or when `out_dir` holds another tokenizer.
  """
  captions, out_dir = list(captions), pathlib.Path(out_dir)
  control = list(dict.fromkeys([PAD, START, END, *control_tokens]))
  n_fixed = 256 + len(control)
  if vocab_size < n_fixed or not captions:
    raise ValueError(
        f'train_tokenizer: got vocab_size {vocab_size} and {len(captions)} '
        f'captions; wanted at least {n_fixed} (256 bytes, {len(control)} '
        'control tokens) and one caption')
  made_of = [captions, vocab_size]
  if control_tokens or prompts:
    made_of += [control, prompts]
  digest = hashlib.sha256(json.dumps(made_of).encode())
  fingerprint = digest.hexdigest()
  if out_dir.exists() and any(out_dir.iterdir()):
    return _trained_before(out_dir, fingerprint)

  prompts = [re.sub(r'<\|\w+\|>', '', prompt)
             for prompt in (*template, *(prompts or ()))]
  weight = 1 + len(captions) // 10
  # A caption follows a newline in one direction and a space in the other.
  spaced = [text for c in captions for text in (c.strip(), f' {c.strip()}')]
  fast = _byte_level_bpe(prompts * weight + spaced, vocab_size, control)
  _save(fast, fingerprint, out_dir)
  return load_tokenizer(out_dir)


def _byte_level_bpe(texts, vocab_size, control):
  import tokenizers
  fast = tokenizers.Tokenizer(tokenizers.models.BPE())
  fast.normalizer = tokenizers.normalizers.NFC()
  fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False)
  fast.decoder = tokenizers.decoders.ByteLevel()
  fast.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
      vocab_size=vocab_size, special_tokens=control,
      initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False))
  return fast


def _trained_before(out_dir, fingerprint):
  record = out_dir / 'trained_on.json'
  found = own_files.read_object(record, _REMEDY) if record.is_file() else {}
  if found.get('fingerprint') != fingerprint:
    raise ValueError(
        f'{out_dir} holds a tokenizer trained on other captions or another '
        'vocab_size; remove the directory or choose another one')
  return load_tokenizer(out_dir)


def _save(fast, fingerprint, out_dir):
  """Writes a temporary sibling, then renames: readers never see a part."""
  out_dir.parent.mkdir(parents=True, exist_ok=True)
  part = pathlib.Path(tempfile.mkdtemp(
      prefix=f'.{out_dir.name}-', dir=out_dir.parent))
  fast.save(str(part / 'tokenizer.json'))
  config = {'tokenizer_class': 'PreTrainedTokenizerFast', 'pad_token': PAD,
            'eos_token': END, 'clean_up_tokenization_spaces': False}
  (part / 'tokenizer_config.json').write_text(json.dumps(config, indent=1))
  (part / 'trained_on.json').write_text(
      json.dumps({'fingerprint': fingerprint, 'crc32': _sums(part)}))
  part.chmod(0o755)
  try:
    os.replace(part, out_dir)
  except OSError:  # another process was first, with the same files
    shutil.rmtree(part)
    _trained_before(out_dir, fingerprint)
