"""`jaxret.rerank`: how well candidates answer a query, and their order.

  found = jaxret.rerank('a dog in the snow',
                        [{'image': 'a.jpg'}, {'video': 'b.mp4'}, 'a text'],
                        'Qwen/Qwen3-VL-Reranker-2B')
  found.scores                                        # float32 [3], 0 to 1
  found.order                                         # the best comes first
"""
import os
from collections.abc import Callable, Sequence
from typing import Any

from jax.sharding import Mesh

from jaxret import embedder, loading, models, process_settings, sharding
from jaxret.models import model_files
from jaxret.reranking import question_reranker, ranked, reranker


def load_reranker(
    path: str | os.PathLike,
    frame: reranker.Frame = None,
    dtype: str = 'float32', adapter: str | os.PathLike | None = None,
    resolution: loading.Resolution | None = None,
    max_tokens: int | None = None, alpha: str = 'white', anyres: bool = False,
    mesh: Mesh | None = None, **sizes: Any) -> reranker.Reranker:
  """Opens a model that says how well candidates answer queries: a Reranker.

  Args:
    path: a directory or hub model as transformers writes it, with its output
      head: Qwen3-VL-Reranker, or any Qwen3-VL, Qwen2.5-VL or Qwen2-VL that
      chats; LLaVA-NeXT, which reranks as in MM-Embed.
    frame: how it is asked, see Reranker.rerank; default: yes_no, of LLaVA-NeXT
      mm_embed.
    dtype, adapter, alpha, mesh: as for `load`.
    resolution: of what is seen; default: of Qwen3-VL as the script of
      Qwen3-VL-Reranker has it, of the others as for `load_generator`.
    max_tokens: of a pair, visual tokens included. Of a longer one the end of
      its text is cut, as the authors do, and that is said; default: 10240 as
      they have it, of the others 4096. LLaVA-NeXT refuses it.
    anyres: of LLaVA-NeXT, images in several crops, as it is trained; MM-Embed
      shows the whole one alone.
    **sizes: cache_bytes, queries_at_once and tile_tokens of a Reranker; of
      LLaVA-NeXT queries_at_once and candidates_at_once.

  Raises:
    ValueError: as `load` does; of a model that is none of these it names the
      model types that are.
  """
  process_settings.keep_compiled_of_user()
  mesh = mesh or sharding.make_mesh()
  if loading.is_workdir(path):
    raise ValueError(f'{path}: it is the workdir of a run, want a directory or '
                     'hub model as transformers writes it')
  options = {'dtype': dtype, 'adapter': adapter, 'resolution': resolution,
             'max_tokens': max_tokens, 'alpha': alpha, 'anyres': anyres}
  wings = models.reranking_wings()
  _, config = model_files.read_json(path, sorted(wings))
  wing = wings[config['model_type']]
  made: type[reranker.Reranker] = reranker.Reranker
  if wing == 'llava':
    made = question_reranker.QuestionReranker
  made.check_frame(frame)  # before gigabytes are read
  parts = (loading.named(f'models.{wing}.generator', 'open_generator'),
           loading.named(f'data.{wing}.pairs', 'open_reader'))
  found, params, reader = loading.open_checkpoint(
      path, config['model_type'], parts, options, mesh, load_reranker)
  return made(found, params, reader, mesh, frame, **sizes)


def rerank(
    query: embedder.Given | Sequence[embedder.Given],
    candidates: reranker.Candidates,
    model: str | os.PathLike | reranker.Reranker,
    instruction: str | None = None, *,
    frame: reranker.Frame = None, calibrate: bool = False,
    features: str | os.PathLike | None = None,
    on_error: str | Callable[[ValueError], None] = 'raise',
    show_progress: bool = True) -> ranked.Reranked:
  """How well candidates answer a query, or each of several.

  Args:
    model: a Reranker, or what jaxret.load_reranker opens.
    query, candidates and the others: as for Reranker.rerank.

  Returns:
    ranked.Reranked: its `scores`, float32 [C] or [Q, C], and `order`.

  Raises:
    ValueError: one line that names what cannot be used.
  """
  if not isinstance(model, reranker.Reranker):
    model = load_reranker(model)
  return model.rerank(
      query, candidates, instruction, frame=frame, calibrate=calibrate,
      features=features, on_error=on_error, show_progress=show_progress)
