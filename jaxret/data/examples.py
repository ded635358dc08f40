"""Captions and what is seen of their visuals, as examples of one shape."""
import numpy as np


class BlimExamples:
  """One example per caption of a split, padded to the split's longest.

  prompts: text.BlimPrompts. visuals: Visuals of the split's videos.
  constants: arrays that every batch needs; `visual_prefix` is added to them.
  [i] -> features [clips, tokens, Dv]; int32 labels [L] and text_prefix [S],
  each with its length; the lengths of all prefixes; the video's index.
  """

  def __init__(self, prompts, split, visuals, constants):
    self.ids = [text.id for text in split.texts]
    self._visuals, self._video = visuals, split.text_video
    self._labels = [prompts.vtg_suffix(t.text, t.id) for t in split.texts]
    self._prefixes = [prompts.tvg_prefix(t.text, t.id) for t in split.texts]
    self._label_size = max(map(len, self._labels))
    self._prefix_size = max(map(len, self._prefixes))
    visual_prefix = np.asarray(prompts.vtg_prefix, np.int32)
    self._visual_prefix_length = np.int32(len(visual_prefix))
    self.constants = {'visual_prefix': visual_prefix, **constants}

  def __len__(self):
    return len(self.ids)

  def __getitem__(self, index):
    labels, prefix = self._labels[index], self._prefixes[index]
    video = self._video[index]
    return {
        'features': self._visuals[int(video)],
        'video_index': np.int32(video),
        'labels': _padded(labels, self._label_size),
        'label_length': np.int32(len(labels)),
        'text_prefix': _padded(prefix, self._prefix_size),
        'text_prefix_length': np.int32(len(prefix)),
        'visual_prefix_length': self._visual_prefix_length}


class ParallelExamples:
  """One example per English caption of a data.parallel.ParallelSplit.

  encode: text -> token ids, the first of which stands for the text. visuals:
  images uint8 [H, W, 3], also [1, H, W, 3], or frame features float32 [F, V],
  which are padded to their longest. Texts are padded to the split's longest.
  [i] -> 'visual', with 'n_frames' for features; 'source', 'target' and
  'description', int32 [T], each with its '_length'; 'visual_index', which
  captions of one visual share.

  tokens: {'caption': T, 'description': T} to pad texts to instead, so that
  several splits have one shape. constants: see methods.base.Examples.
  """

  def __init__(self, encode, split, visuals, tokens=None, constants=None):
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
    self.constants, tokens = constants or {}, tokens or {}
    self._visuals, self._visual_index = visuals, split.text_video
    captions = {'source': [text.text for text in split.texts],
                'target': [text.text for text in split.translations]}
    rows = {name: list(map(encode, texts)) for name, texts in captions.items()}
    # Both languages go through the encoder in one batch.
    size = tokens.get('caption') or max(
        len(row) for name in rows for row in rows[name])
    self._captions = {name: PaddedRows(found, size)
                      for name, found in rows.items()}
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
