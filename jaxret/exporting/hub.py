"""Puts an exported directory on the Hub."""
import os
import re


def check_name(name: str) -> None:
  """Raises ValueError for what is no owner/name."""
  if not re.fullmatch(r'[\w.-]+/[\w.-]+', name):
    raise ValueError(f'--push={name}: want owner/name of a repository of the '
                     'Hub')


def push(directory: str | os.PathLike, name: str, private: bool = False
         ) -> str:
  """Uploads a directory to a model repository, made if need be; its address.

  The token is the one that huggingface_hub finds. Raises ValueError in one line
  where the Hub refuses, or is not reached.
  """
  check_name(name)
  import huggingface_hub
  api = huggingface_hub.HfApi()
  try:
    api.create_repo(name, private=private, exist_ok=True)
    done = api.upload_folder(
        repo_id=name, folder_path=str(directory),
        commit_message='Upload a model trained with jaxret')
  except Exception as error:  # of many kinds: no token, no such owner, offline
    reason = f'{type(error).__name__}: {error}'.splitlines()[0]
    raise ValueError(
        f'--push={name}: the Hub did not take it ({reason}); {directory} is '
        'whole: log in with `hf auth login`, then upload that folder, or call '
        'again with another --out') from error
  return str(getattr(done, 'commit_url', done))
