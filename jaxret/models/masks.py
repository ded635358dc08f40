"""Which keys a query sees, said by a rule instead of a table [B, T, S].

A rule takes memory of [B, T + S]: kernels that never hold all scores of a row
could not afford a table of them either.
"""
import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segments:
  """A query sees the keys of its own segment, and if `causal` none after it.

  queries: int [B, T], or None where all are of segment 1; keys: [B, S], bool
  where there is no other. Causal wants T = S.
  """
  queries: jax.Array | None
  keys: jax.Array
  causal: bool = dataclasses.field(default=False, metadata={'static': True})

  def rows(self, first, count, length):
    """bool [B, count, S]: what `count` of `length` queries see, from `first`.

    first may be traced; the mask of a block beyond the end is any.
    """
    if self.queries is None:
      seen = (self.keys == 1)[:, None]
    else:
      queries = jnp.pad(self.queries, ((0, 0), (0, -length % count)))
      queries = jax.lax.dynamic_slice_in_dim(queries, first, count, 1)
      seen = queries[:, :, None] == self.keys[:, None]
    if self.causal:
      place = first + jnp.arange(count)
      seen &= place[:, None] >= jnp.arange(self.keys.shape[1])
    return jnp.broadcast_to(seen, (len(seen), count, seen.shape[2]))

  def table(self, length):
    """bool [B, T or 1, S] of all `length` queries."""
    if self.queries is None and not self.causal:
      return (self.keys == 1)[:, None]
    return self.rows(0, length, length)


def causal(keys):
  """Each query sees itself and what is before it, of the keys bool [B, T]."""
  return Segments(None, keys, True)


def to_keys(keys):
  """Every query sees all of the keys bool [B, S]."""
  return Segments(None, keys)


def as_rule(mask, batch, keys):
  """Segments of a mask that is one, None, or a table of one row for all.

  batch: B, keys: S. Raises ValueError for a table of several rows.
  """
  if isinstance(mask, Segments):
    return mask
  if mask is None:
    return to_keys(jnp.ones((batch, keys), bool))
  if mask.shape[-2] == 1:
    return to_keys(jnp.broadcast_to(mask[:, 0], (batch, keys)))
  raise ValueError(
      f"model.attention = 'splash': got a mask of its own for each of "
      f'{mask.shape[-2]} queries, want one by segments; or set '
      "model.attention = 'xla'")
