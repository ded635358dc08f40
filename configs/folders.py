"""What data.root may hold where data.name is 'folder': media of one's own.

A directory with a captions.json; tables of media and captions, that is parquet,
what save_to_disk of `datasets` wrote, JSON or CSV, in a directory or one file;
or a data set of the Hugging Face hub, 'hf://owner/name[@revision]'.
"""


def add_folder(config):
  """What a source that names no such split is divided by; what it reads."""
  config.data.update({
      'validation_fraction': 0.0,  # share of the train media held out
      'test_fraction': 1.0,  # share of a folder's media that is test
      'train_on_all': False,  # no train split: train on what is evaluated
      'allow_outside': False,  # read files that a captions.json names elsewhere
  })
  add_tables(config)


def add_tables(config):
  """What tables and data sets of the hub leave open."""
  config.data.update({
      'fetch': (),  # patterns of a hub's files that are fetched, () = all
      'subsets': (),  # of tables, as their README.md names them, () = all
      # What splits of tables are called there; '' = by the words for them.
      'splits': {
          'train': '',  # as 'train_9k'
          'validation': '',  # as 'val2'
          'test': ''},  # as 'val1'
      # Names of the columns of tables; '' = found by type and name.
      'columns': {
          'image': '',  # of images, or of the names of their files
          'video': '',  # of videos, of names of files, or of lists of frames
          'caption': '',  # of a caption, or of a list of them
          'id': '',  # of what a medium is called; '' = its file's name
          'split': ''}})  # of 'train', 'validation' or 'test'
