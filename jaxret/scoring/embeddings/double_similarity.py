"""LECCR's scores of all pairs: cosine, and cosine fused with the slots'.

NumPy, float32; rows are texts and columns visuals, of which there may be
different numbers. Source: the authors' evaluation scripts.
"""
import numpy as np

_BLOCK_CELLS = 1 << 24


def cosine(texts, visuals):
  """Of unit vectors [T, E] and [V, E] -> [T, V]; the authors' image scores."""
  return texts @ visuals.T


def best_slot(texts, slots):
  """max over k of texts[t] . slots[v, k]; [T, E], [V, n, E] -> [T, V]."""
  n_visuals, n_slots, width = slots.shape
  flat = slots.reshape(-1, width).T
  scores = np.empty((len(texts), n_visuals), np.float32)
  n_rows = max(1, _BLOCK_CELLS // (n_visuals * n_slots))
  for start in range(0, len(texts), n_rows):
    block = texts[start:start + n_rows] @ flat
    scores[start:start + n_rows] = block.reshape(
        len(block), n_visuals, n_slots).max(-1)
  return scores


def fuse(visual_scores, slot_scores, visual_weight=0.9):
  """The authors' video scores (double_sim), [T, V].

  Each matrix is brought to -1..0 over the whole of it: a score depends on all
  texts and visuals that are scored together.
  """
  return (visual_weight * normalize(visual_scores)
          + (1 - visual_weight) * normalize(slot_scores))


def normalize(scores):
  """(x - max) / (max - min) over the whole matrix; 0 where it is constant."""
  low, high = scores.min(), scores.max()
  return (scores - high) / (high - low if high > low else 1)
