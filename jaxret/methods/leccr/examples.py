"""Captions in two languages and their visuals, as examples of one shape."""
import numpy as np


class ParallelExamples:
  """One example per English caption of a nrccr.ParallelSplit.

  encode: text -> token ids, the first of which stands for the text. visuals:
  images uint8 [H, W, 3], also [1, H, W, 3], or frame features float32 [F, V],
  which are padded to their longest. Texts are padded to the split's longest.
  [i] -> 'visual', with 'n_frames' for features; 'source', 'target' and
  'description', int32 [T], each with its '_length'; 'visual_index', which
  captions of one visual share.

  constants: the weights of the loss, {name: float32 []}; see
  methods.base.Examples. tokens: {'caption': T, 'description': T} to pad texts
  to instead, so that several splits have one shape.
  Errors: ValueError where translations or descriptions are missing.
  """

  def __init__(self, encode, split, visuals, constants, tokens=None):
    if len(split.translations) != len(split.texts):
      raise ValueError(
          f'{split.dataset} {split.name}: got {len(split.translations)} '
          f'translations of {len(split.texts)} captions; give a file of '
          'machine translations: jaxret does not translate')
    if len(split.descriptions) not in (0, len(split.videos)):
      raise ValueError(
          f'{split.dataset} {split.name}: got {len(split.descriptions)} '
          f'descriptions of {len(split.videos)} visuals; describe all of them')
    self.ids = [text.id for text in split.texts]
    self.constants, tokens = constants, tokens or {}
    self._visuals, self._visual_index = visuals, split.text_video
    captions = {'source': [text.text for text in split.texts],
                'target': [text.text for text in split.translations]}
    rows = {name: list(map(encode, texts)) for name, texts in captions.items()}
    # Both languages go through the encoder in one batch.
    size = tokens.get('caption') or max(
        len(row) for language in rows.values() for row in language)
    self._captions = {name: PaddedRows(language, size)
                      for name, language in rows.items()}
    self._descriptions = PaddedRows(
        list(map(encode, split.descriptions)), tokens.get('description'))

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    visual = int(self._visual_index[index])
    example = {**visual_example(self._visuals, visual),
               'visual_index': np.int32(visual)}
    for name, rows in self._captions.items():
      example[name], example[f'{name}_length'] = rows[index]
    if len(self._descriptions):
      example['description'], example['description_length'] = (
          self._descriptions[visual])
    return example


class PaddedRows:
  """Token rows of one length, [i] -> (int32 [size], length int32 []).

  Rows longer than `size` are cut; their last token, the end, stays.
  """

  def __init__(self, rows, size=None):
    self._rows = [row if not size or len(row) <= size
                  else [*row[:size - 1], row[-1]] for row in rows]
    self.size = size or max(map(len, rows), default=0)

  def __len__(self):
    return len(self._rows)

  def __getitem__(self, index):
    row = self._rows[index]
    return _padded(np.asarray(row, np.int32), self.size), np.int32(len(row))


def visual_example(visuals, index):
  """{'visual': ..., 'n_frames': ... for frame features} of one visual."""
  visual = visuals[index]
  if visual.ndim == 2:
    n_frames = len(visual)
    padding = ((0, visuals.longest - n_frames), (0, 0))
    return {'visual': np.pad(visual, padding), 'n_frames': np.int32(n_frames)}
  return {'visual': visual[0] if visual.ndim == 4 else visual}


def _padded(tokens, length):
  return np.pad(tokens, (0, length - len(tokens))).astype(np.int32)
