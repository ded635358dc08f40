"""Which strips and tiles a score matrix has, and what a tile of captions is."""
from typing import NamedTuple

import numpy as np

from jaxret import sharding
from jaxret.scoring.likelihood import packing, tiles, tries


def captions(labels, options, mesh, prefixes, keep):
  """(Strips of videos, (strip, t) -> what kernels.text_tile takes of tile t).

  That is (tokens, depth, chains, place), labels and lengths. labels: scored
  tokens of the T captions; prefixes: int [V], tokens before them.
  """
  check(options, keep)
  if keep is not None:
    def packed(strip, t):
      tile = strip.tiles[t]
      return _inputs(tries.stairs(
          labels, strip.columns(tile), tile.sizes, tile.longest + 1,
          tile.total))
    return _packed(labels, options, mesh, prefixes, keep), packed
  if options.share or options.invariant:
    found = [(trie.index, (
        (trie.tokens[None], trie.depth, trie.chains, trie.place),
        trie.labels[None], trie.lengths[None]))
             for trie in _tries(labels, options)]
  else:
    lengths = [len(label) for label in labels]
    found = [(block.index, rectangle(
        labels, block.index[None], block.length)) for block in tiles.blocks(
            lengths, options.columns, options.max_padding)]
  strips = packing.grid(
      prefixes, [index for index, _ in found], limits(options, mesh))
  return strips, lambda strip, t: found[t][1]


def _tries(labels, options):
  return tries.fixed(labels) if options.invariant else tries.tries(
      labels, options.columns)


def clips(prompts, options, mesh, shape, keep):
  """Strips of texts whose tiles are videos; shape: (videos, clips of each)."""
  n_videos, n_clips = shape
  check(options, keep)
  if keep is not None:
    return packed_clips(prompts, options, mesh, keep, n_clips)
  lengths = [len(prefix) for prefix in prompts.text_prefixes]
  return packing.grid(
      lengths, [block.index for block in video_columns(n_videos, options)],
      limits(options, mesh))


def video_columns(n_videos, options):
  """tiles.Blocks of videos as the columns of tiles."""
  ones = np.ones(n_videos, int)
  return (tiles.fixed_blocks(ones, tiles.FIXED_COLUMNS) if options.invariant
          else tiles.blocks(ones, options.columns))


def alone(prompts, options, mesh):
  """(tiles.Blocks of captions without a row, how many each device computes).

  The captions of a block are dealt out among the devices, filled up if few.
  """
  lengths = [len(label) for label in prompts.labels]
  shards = sharding.batch_shards(mesh)
  if options.invariant:
    return [(block, tiles.FIXED_COLUMNS) for block in tiles.fixed_blocks(
        lengths, shards * tiles.FIXED_COLUMNS, tiles.FIXED_CAPTION_STEP)]
  return [(block, -(-len(block.index) // shards)) for block in tiles.blocks(
      lengths, shards * options.columns, options.max_padding, shards)]


def packed_captions(prompts, options, mesh, keep):
  """The Strips that `score_texts` scores with keep [V, T]."""
  return _packed(prompts.labels, options, mesh,
                 visual_prefixes(prompts, len(keep)), keep)


def visual_prefixes(prompts, n_videos):
  """int [V], tokens before the captions of each video: always as many."""
  return np.full(n_videos, len(prompts.visual_prefix))


def _packed(labels, options, mesh, prefixes, keep):
  sizes = np.array([len(label) for label in labels]) - 1
  return packing.pack(keep, sizes, prefixes, limits(options, mesh))


def packed_clips(prompts, options, mesh, keep, n_clips):
  """The Strips that `score_videos` scores with keep [T, V]."""
  lengths = np.array([len(prefix) for prefix in prompts.text_prefixes])
  sizes = np.full(keep.shape[1], max(1, n_clips - 1))
  return packing.pack(keep, sizes, lengths, limits(options, mesh))


def check(options, keep):
  """Raises ValueError for some pairs alone, which are packed as they fit."""
  if options.invariant and keep is not None:
    raise ValueError('invariant scores have tiles of fixed shapes, which the '
                     'packed pairs of a cascade or a search have not: score '
                     'all pairs, or leave out `invariant`')


class Tokens(NamedTuple):
  """Tokens through the decoder that scoring takes, padding included.

  prefixes: of all videos and all texts, which first labels and first clips
  take; captions, clips: of all pairs, with the prefixes that they need.
  """
  prefixes: int
  captions: int
  clips: int


def tokens_of_all(prompts, options, mesh, shape):
  """Tokens of scoring all pairs; shape: (videos, clips of each)."""
  videos, inputs_of = captions(
      prompts.labels, options, mesh, visual_prefixes(prompts, shape[0]), None)
  texts = clips(prompts, options, mesh, shape, None)
  prefixes = [sum(strip.size * strip.length for strip in strips)
              for strips in (videos, texts)]
  suffixes = (
      sum(strip.size * inputs_of(strip, t)[0][0].shape[1]
          for strip in videos for t in range(len(strip.tiles))),
      sum(strip.size for strip in texts) * shape[0] * (shape[1] - 1))
  return Tokens(sum(prefixes), *(
      prefix + suffix for prefix, suffix in zip(prefixes, suffixes)))


def limits(options, mesh):
  """packing.Limits; those of fixed tiles are the same for all options."""
  shards = sharding.batch_shards(mesh)
  if options.invariant:
    return packing.Limits(tiles.FIXED_ROWS * shards, tiles.FIXED_COLUMNS,
                          options.max_padding, shards, fixed=True)
  return packing.Limits(
      options.rows, options.columns, options.max_padding, shards)


def rectangle(labels, index, length):
  """What kernels.text_tile takes of captions, int [P or 1, C]."""
  return _inputs(tries.rectangle(labels, index, length))


def _inputs(layout):
  """What tries.rectangle gives, as kernels.text_tile takes it."""
  tokens, labels, lengths, chains, place, depth = layout
  return (tokens, depth, chains, place), labels, lengths
