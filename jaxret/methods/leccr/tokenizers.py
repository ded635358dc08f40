"""The tokenizers of a run: those of pretrained models, or small trained ones.

A trained one lies in tokenizer/ of the workdir, or of captioner/ there.
"""
import pathlib

from ml_collections import ConfigDict

from jaxret import run as run_lib
from jaxret.data import text
from jaxret.data.videochat import prompts as videochat_prompts
from jaxret.methods.leccr import caption_examples


def text_encoder(config, workdir, splits=None):
  """The text encoder's tokenizer, as text.load_text_encoder_tokenizer has it.

  splits: {(language, name): ParallelSplit}, to train it on all texts of those
  named 'train'; None = it was trained before.
  """
  m = config.model
  source = m.tokenizer or m.text_pretrained
  if not source:
    texts = splits and list(dict.fromkeys(
        caption for (_, name), split in splits.items() if name == 'train'
        for caption in (
            *(item.text for item in (*split.texts, *split.translations)),
            *split.descriptions)))
    _trained(workdir, m.vocab_size, texts,
             template=videochat_prompts.TEMPLATE)
    source = pathlib.Path(workdir) / 'tokenizer'
  return text.load_text_encoder_tokenizer(source, m.text.max_tokens)


def captioner(section, workdir, captions):
  """That of a captioner which is trained here, as text.load_tokenizer has it.

  section: the `captioner` section of the config; its questions are known to
  the tokenizer. workdir: of the captioner. captions: [str] to train it on.
  """
  return _trained(
      workdir, section.model.vocab_size, captions,
      control_tokens=caption_examples.CONTROL_TOKENS,
      prompts=[caption_examples.prompt((kind,), question)
               for kind, question in section.questions.items()])


def _trained(workdir, vocab_size, captions, **options):
  # Neither model's section has the fields of a run that starts elsewhere.
  model = {'tokenizer': '', 'pretrained': '', 'vocab_size': vocab_size}
  return run_lib.open_tokenizer(
      ConfigDict({'model': model, 'init_from': ''}), workdir, captions,
      **options)
