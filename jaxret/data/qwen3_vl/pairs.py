"""Queries with their candidates, as Qwen3-VL-Reranker is asked of them.

As the authors' script (spec §4), a pair alone; what cannot be read is said of
its item, where the script asks of the text NULL.
"""
from jaxret.data.qwen2_vl import layout as visual_tokens
from jaxret.data.qwen2_vl import pairs
from jaxret.data.qwen3_vl import pixels, prompts, reader


class PairReader(pairs.Pairs, reader.Reader):
  """Reads pairs of items, see pairs.Pairs.

  tokenizer, resolution, cache_bytes: as a reader.Reader has them.
  """

  def __init__(self, tokenizer, resolution=None, max_tokens=10240,
               cache_bytes=0):
    super().__init__(tokenizer, resolution or pixels.Resolution(), max_tokens,
                     cache_bytes=cache_bytes)

  def units(self, query, candidate):
    """As of pairs.Pairs: every temporal patch is a medium of its own."""
    kinds, grids, _ = super().units(query, candidate)
    return *reader.sliced(kinds, grids), ()

  def positions(self, query, candidate, tokens):
    kinds, grids, _ = self.units(query, candidate)
    return visual_tokens.mrope_positions(tokens, kinds, grids, self.special)

  def check_instruction(self, instruction):
    super().check_instruction(instruction)
    prompts.check('the instruction', instruction or '', 'text')

  def _media(self, item):
    return reader.media_of(item)

  def _said(self, item, media, sampled):
    return self.content(item, sampled)

  def _prompt(self, shown, system):
    return prompts.prompt(shown, system)


def open_reader(config, tokenizer, max_tokens=10240, resolution=None):
  """The PairReader of a Qwen3VlConfig; resolution: default as its authors'.

  Raises ValueError as data.qwen3_vl.reader.check does.
  """
  reader.check(config, max_tokens)
  return PairReader(tokenizer, resolution, max_tokens)
