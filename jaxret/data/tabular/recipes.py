"""What is known of repositories of the hub: which of their parts papers use.

Each is a default of the config's data.subsets, data.splits and data.columns,
where these are empty.
"""
from jaxret.data import hub

# {repository in small letters: fields}.
KNOWN = {
    # 9k and 1k-A, as Gabeur et al. (ECCV 2020) divide it.
    'friedrichor/msr-vtt': {'subsets': ('train_9k', 'test_1k')},
    # Papers report val_1 as test.
    'friedrichor/activitynet_captions': {'splits': {'test': 'val1'}},
}


def of(root):
  """The fields that are known of what lies at a root, perhaps none."""
  origin = hub.origin(root)
  return KNOWN.get(origin.repository.lower(), {}) if origin else {}
