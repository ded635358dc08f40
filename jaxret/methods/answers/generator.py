"""The model of an answers work directory, opened to continue prompts."""
from jaxret import run as run_lib
from jaxret.methods.answers import method


def open_generator(config, workdir, mesh):
  """(Qwen2VlConfig, parameters, Reader) of what was trained in a workdir."""
  tokenizer = run_lib.open_tokenizer(config, workdir)
  return (method.model_config(config, tokenizer),
          run_lib.trained(config, tokenizer, workdir, mesh),
          method.reader(config, tokenizer))
