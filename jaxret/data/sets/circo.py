"""CIRCO: an image and a change of it, asking for all images that fit."""
import json
import pathlib

from jaxret.data import entries, types
from jaxret.data.llava import prompts as mm_embed_prompts
from jaxret.data.sets import mixed

IMAGES = 'COCO2017_unlabeled/unlabeled2017'
POOL = 'COCO2017_unlabeled/annotations/image_info_unlabeled2017.json'
WANTED = 'it is laid out like miccunifi/CIRCO: annotations/ and ' \
    'COCO2017_unlabeled/'
DEPTH = 5  # of mean average precision
SUBMITTED = 50  # images per query


def benchmark(config, root):
  """A split, its queries with `config.eval.circo_instruction`."""
  return read(root, config.eval.split, config.eval.circo_instruction)


def read(root, split, instruction):
  """The mixed.Benchmark of a split; test has no public answers.

  annotations/{split}.json with id, reference_img_id, relative_caption and, on
  val, gt_img_ids, of which target_img_id is the first. The pool is all images
  of COCO's unlabeled2017. The reference stays in it, as in the authors' code.
  An answer that the pool lacks counts, and is never found; a query that cannot
  be asked is left out.
  """
  root = entries.root_of(root, 'CIRCO', WANTED)
  pool = _pool(root, entries.present(root, POOL, WANTED))
  known = mixed.places(pool)
  path = entries.present(root, f'annotations/{split}.json', WANTED)
  changed = {}
  def read_row(i, row):
    reference = str(entries.field(path, i, row, 'reference_img_id', int))
    if reference not in known:
      raise entries.wrong(path, i, f'the image {reference}', f'one of {POOL}')
    text = entries.field(path, i, row, 'relative_caption')
    name = str(entries.field(path, i, row, 'id', int))
    text = mm_embed_prompts.readable(
        text, f'{path}, entry {i + 1}, {name}', changed, f'{path.name}:{i + 1}')
    answers = dict.fromkeys(map(str, entries.field(
        path, i, row, 'gt_img_ids', list) if 'gt_img_ids' in row else ()), 1)
    lacking = [types.LeftOut(answer, str(entries.wrong(
        path, i, f'the image {answer}', f'one of {POOL}')))
               for answer in answers if answer not in known]
    image = pool[known[reference]].image
    return types.Item(name, text, image), answers, lacking
  rows, left_out = entries.usable(
      path, entries.listed(path, entries.read_json(path)), read_row)
  queries, relevant, lacking = zip(*rows)
  left_out += (*(types.LeftOut(*one) for one in changed.items()),
               *(one for own in lacking for one in own))
  if any(relevant) and not any(name in known for own in relevant
                               for name in own):
    raise ValueError(left_out[-1].reason)
  return mixed.Benchmark('circo', {'circo': pool}, (mixed.Task(
      'circo', queries, (instruction,) * len(queries), relevant, 'circo',
      'image', DEPTH, is_composed=True),), False, 'map', left_out)


def write_submission(path, query_ids, ranked_ids):
  """The file the evaluation server takes: {query id: 50 image ids}."""
  short = [name for name, ranked in zip(query_ids, ranked_ids)
           if len(set(ranked[:SUBMITTED])) < SUBMITTED]
  if short:
    raise ValueError(f'query {short[0]} has fewer than {SUBMITTED} images '
                     'ranked; the server wants that many')
  pathlib.Path(path).write_text(json.dumps({
      str(name): [int(image) for image in ranked[:SUBMITTED]]
      for name, ranked in zip(query_ids, ranked_ids)}))


def _pool(root, path):
  """The Items of all images that COCO's file lists."""
  info = entries.read_json(path)
  if not isinstance(info, dict) or 'images' not in info:
    raise ValueError(f"{path}: got {entries.kind(info)}, wanted an object with "
                     "'images', as COCO has it")
  return tuple(
      types.Item(str(entries.field(path, i, entry, 'id', int)),
                 image=entries.below(root / IMAGES, entries.field(
                     path, i, entry, 'file_name')))
      for i, entry in enumerate(entries.listed(path, info['images'])))
