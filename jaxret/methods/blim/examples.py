"""Captions and the features of their videos, as examples of one shape."""
import numpy as np


class BlimExamples:
  """One example per caption of a split, padded to the split's longest.

  prompts: prompts.BlimPrompts. visuals: Visuals of the split's videos.
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


def _padded(tokens, length):
  return np.pad(tokens, (0, length - len(tokens))).astype(np.int32)
