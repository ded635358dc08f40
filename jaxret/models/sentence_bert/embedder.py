"""Opens a BERT model of sentence-transformers to embed with it."""
from jaxret.models.sentence_bert import files


def open_embedder(path, mesh, dtype='float32'):
  """(SentenceBertConfig, {'params': ...} on the mesh) of what is at `path`.

  path: a directory or hub model. dtype: of weights and computation.
  """
  config = files.read_config(path, dtype=dtype, param_dtype=dtype, dropout=0.0)
  return config, files.load(path, config, mesh)
