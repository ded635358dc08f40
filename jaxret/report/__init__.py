"""Results as JSON, as a text table, and as one HTML file that opens anywhere.

The evaluator hands over what `write` documents; what the workdir already
holds (config.json, metrics.jsonl, skipped.jsonl) is read from there.
"""
import base64
import dataclasses
import functools
import io
import json
import pathlib

import numpy as np

from jaxret import files, metrics
from jaxret.report import plots, tables

DIRECTIONS = ('text_to_video', 'video_to_text')

# What a reader of the tables must know of a row.
ROW_EXPLAINED = {
    'plain': 'Plain loss: trained from the same start, on the same batches and '
             'for as many steps as UNITE, without the mask of MAMCL.',
}
MAIN_ROW = 'blim'
TILE_PX = 160  # longer side of the frames of one gallery tile
MAX_SKIPPED = 100


@dataclasses.dataclass(frozen=True)
class Sweep:
  """R@1 against alpha in one direction, for the plot.

  alphas: [n]. validation, test: recall at 1 in percent, [n]; test may be None.
  chosen: the alpha taken on validation. paper: the paper's alpha, or None.
  """
  direction: str
  alphas: np.ndarray
  validation: np.ndarray
  chosen: float
  test: np.ndarray | None = None
  paper: float | None = None


@dataclasses.dataclass(frozen=True)
class Hubness:
  """How often each candidate is ranked first in one direction.

  counts: {row: int [C]}, as metrics.first_counts returns it; name first the
  row without CPN, then the one with it.
  """
  direction: str
  counts: dict

  @property
  def n_queries(self):
    return int(sum(next(iter(self.counts.values()))))

  @property
  def skewness(self):
    return {row: metrics.skewness(n) for row, n in self.counts.items()}


@dataclasses.dataclass(frozen=True)
class Shown:
  """A query or a candidate in the gallery: its text, its frames, or both.

  frames: uint8 [F, H, W, 3] in temporal order; at most four are shown.
  """
  id: str
  text: str | None = None
  frames: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Ranked:
  """What one row of results answers to a query.

  rank: 1-based rank of the best relevant candidate. top: the first
  candidates, best first. hits: bool per candidate of `top`, is it relevant.
  """
  rank: int
  top: tuple[Shown, ...]
  hits: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class GalleryQuery:
  """One query with the answers of every row.

  truth: a relevant candidate. rows: {row: Ranked}, in the order to show.
  """
  direction: str
  query: Shown
  truth: Shown
  rows: dict

  @property
  def missed(self):
    """True where the main row, or else the last, ranks another one first."""
    main = self.rows.get(MAIN_ROW) or list(self.rows.values())[-1]
    return main.rank > 1


def choose_queries(ranks, n_missed=6, n_found=6, main=MAIN_ROW):
  """Indices of queries for the gallery: misses first, then hits.

  ranks: {row: int [Q]}, 1-based. Of the hits those come first that most rows
  miss, since they show what the main row adds; misses are spread evenly over
  how bad they are. Returns a list of at most n_missed + n_found indices.
  """
  missed = np.flatnonzero(ranks[main] > 1)
  missed = missed[np.argsort(ranks[main][missed], kind='stable')]
  spread = np.linspace(0, len(missed) - 1, min(n_missed, len(missed)))
  found = np.flatnonzero(ranks[main] == 1)
  n_rows_missing = sum((np.asarray(r) > 1).astype(int) for r in ranks.values())
  found = found[np.argsort(-n_rows_missing[found], kind='stable')][:n_found]
  return [*missed[spread.astype(int)].tolist(), *found.tolist()]


def write(workdir, results, run=None, sweeps=(), hubness=(), gallery=()):
  """Writes results.json and report.html into the workdir.

  results: {'dataset', 'split', 'sizes': {'videos': V, 'texts': T},
    direction: {row: metrics.summary(...)}} for each direction, and, for the
    rows whose weights were chosen, 'weights': {direction: {row: {'chosen_on':
    'validation', 'paper' or 'test', 'alpha': 0.3, ...}}}.
    A list of tasks (evaluators.retrieval) has 'tasks': {name: {'queries',
    'candidates', 'chance'}} in place of the two directions, perhaps 'means':
    {row: {group: {'mean', 'tasks', 'of'}}} and 'sum_of_recalls': {language:
    {row: SumR}}, and 'main_row'. 'tables', if any: [{'title', 'rows': lists of
    cells, the head first}], shown as they are.
  run: facts for the header, {label: text or number}, in the order to show.
  sweeps, hubness, gallery: sequences of Sweep, Hubness and GalleryQuery.

  Returns the path of report.html. Both files are replaced at once.
  """
  workdir = pathlib.Path(workdir)
  text = json.dumps(results, indent=2, default=_plain) + '\n'
  files.write_atomically(workdir / 'results.json', text)
  page = _render(workdir, results, run or {}, sweeps, hubness, gallery)
  files.write_atomically(workdir / 'report.html', page)
  return workdir / 'report.html'


def format_table(results):
  """The results of every direction or task as aligned text tables."""
  head = f'{results["dataset"]}, {results["split"]}: {_sizes(results)}'
  if 'tasks' not in results:
    head += f'; chance R@1 {chance(results):.2g} %'
  lines = [head]
  for of in (tables.overview, tables.means_table, tables.sums_table):
    table = of(results)
    lines += _aligned(table, left_last=False) if table else []
  for table in results.get('tables', ()):
    lines += ['', table['title']]
    lines += _aligned(table['rows'], left_last=False)[1:]
  for direction in _directions(results):
    depths = recall_depths(results, direction)
    weights = ['weights chosen on'] if 'tasks' not in results else []
    table = [(direction, 'R@1', '95 %', *(f'R@{k}' for k in depths[1:]),
              'median', 'mean', 'MRR', *weights)]
    for name, row in results[direction].items():
      low, high = row['recall_at_1_ci95']
      table.append((
          name, f'{row["recall_at_1"]:.1f}', f'{low:.1f}-{high:.1f}',
          *(f'{row[f"recall_at_{k}"]:.1f}' for k in depths[1:]),
          tables.number('%g', row['median_rank']),
          tables.number('%.1f', row['mean_rank']),
          tables.number('%.3f', row['mrr']),
          *(_weights(results, direction, name) for _ in weights)))
    lines += _aligned(table, left_last=bool(weights))
  return '\n'.join(lines) + '\n'


def _aligned(table, left_last=True):
  """Lines of a table; its first column, and perhaps its last, to the left."""
  widths = [max(map(len, column)) for column in zip(*table)]
  lines = ['']
  for i, (first, *cells) in enumerate(table):
    cells = [c.ljust(w) if left_last and n == len(cells) - 1 else c.rjust(w)
             for n, (c, w) in enumerate(zip(cells, widths[1:]))]
    lines.append('  '.join([first.ljust(widths[0]), *cells]).rstrip())
    if i == 0:
      lines.append('-' * (sum(widths) + 2 * len(widths) - 2))
  return lines


def _explained(results):
  """Sentences on rows of the tasks."""
  return [text for row, text in ROW_EXPLAINED.items()
          if any(row in results[task] for task in results.get('tasks', ()))]


def recall_depths(results, direction):
  """The k of 'recall_at_k' in the rows of a direction or task, ascending."""
  row = next(iter(results[direction].values()))
  return [int(key.removeprefix('recall_at_')) for key in row
          if key.startswith('recall_at_') and key[10:].isdigit()]


def chance(results, task=None):
  """R@1 in percent of a random order.

  Without tasks it is the same in both directions: with T texts of V videos
  1/V for a text; a video has T/V texts on average, so T/V/T for a video.
  """
  if task is not None:
    return results['tasks'][task]['chance']
  return 100.0 / results['sizes']['videos']


def _directions(results):
  if 'tasks' in results:
    return list(results['tasks'])
  return [d for d in DIRECTIONS if d in results]


def _sizes(results):
  return ', '.join(f'{n:,} {name}' for name, n in results['sizes'].items())


def _weights(results, direction, row):
  """'validation: alpha 0.3, query weight 0.5', or '' for a plain row."""
  weights = dict(results.get('weights', {}).get(direction, {}).get(row, {}))
  if not weights:
    return ''
  chosen_on = weights.pop('chosen_on')
  if chosen_on == 'test':
    chosen_on = 'test, not a result'
  values = ', '.join(f'{k.replace("_", " ")} {v:g}'
                     for k, v in weights.items())
  return f'{chosen_on}: {values}' if values else chosen_on


def _plain(value):
  if isinstance(value, np.ndarray):
    return value.tolist()
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'results hold a {type(value).__name__}; wanted numbers, '
                  'text, lists and dicts')


def _read_jsonl(path):
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines() if line]


def _render(workdir, results, run, sweeps, hubness, gallery):
  # Not at the top: jinja2 is needed here only.
  import jinja2
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters['words'] = lambda name: name.replace('_', ' ')
  tiles = _Tiles()
  training = [r for r in _read_jsonl(workdir / 'metrics.jsonl')
              if 'loss' in r and 'step' in r]
  skipped = _read_jsonl(workdir / 'skipped.jsonl')
  config = workdir / 'config.json'
  return environment.get_template('page.html.jinja').render(
      results=results, run=run, chance=chance, number=tables.number,
      directions=_directions(results), row_words=tables.ROW_WORDS,
      main_row=results.get('main_row', MAIN_ROW),
      overview=tables.overview(results),
      explained=_explained(results), means=tables.means_table(results),
      sums=tables.sums_table(results),
      depths=functools.partial(recall_depths, results),
      sizes=_sizes(results), skipped=skipped[:MAX_SKIPPED],
      n_skipped=len(skipped), weights=functools.partial(_weights, results),
      chosen_on=functools.partial(_chosen_on, results),
      sweep_plot=plots.sweep_plot(sweeps) if sweeps else None,
      hubness_plot=(plots.hubness_plot(hubness, tables.ROW_WORDS) if hubness
                    else None),
      hubness=hubness,
      training_plot=plots.training_plot(training) if training else None,
      config=config.read_text() if config.exists() else None,
      gallery=_grouped(gallery, _directions(results)), tile=tiles.name,
      tiles=tiles.used)


def _chosen_on(results, direction, row):
  weights = results.get('weights', {}).get(direction, {}).get(row, {})
  return weights.get('chosen_on')


def _grouped(gallery, directions):
  """[(direction, [(heading, queries)])] with the misses before the hits."""
  groups = []
  for direction in directions:
    of_direction = [q for q in gallery if q.direction == direction]
    halves = [('Missed', [q for q in of_direction if q.missed]),
              ('Found', [q for q in of_direction if not q.missed])]
    if of_direction:
      groups.append((direction, [(h, q) for h, q in halves if q]))
  return groups


class _Tiles:
  """Frames as JPEG data, each stored once in the page, named by a class."""

  def __init__(self):
    self._names = {}
    self.used = []  # (name, width, height, base64 JPEG)

  def name(self, shown):
    """The CSS class that shows the frames of `shown`."""
    key = shown.id, hash(shown.frames.tobytes())
    if key not in self._names:
      self._names[key] = f'tile-{len(self._names)}'
      mosaic = _mosaic(shown.frames)
      self.used.append((self._names[key], *mosaic.size, _jpeg(mosaic)))
    return self._names[key]


def _mosaic(frames):
  """Up to four frames, two by two, in reading order, as one PIL image."""
  from PIL import Image
  n_frames = min(4, len(frames))
  chosen = np.linspace(0, len(frames) - 1, n_frames).round().astype(int)
  n_columns = 1 if n_frames == 1 else 2
  n_rows = -(-n_frames // n_columns)
  height, width = frames.shape[1:3]
  scale = TILE_PX / n_columns / max(height, width)
  size = max(1, round(width * scale)), max(1, round(height * scale))
  gap = 2
  canvas = Image.new('RGB', (size[0] * n_columns + gap * (n_columns - 1),
                             size[1] * n_rows + gap * (n_rows - 1)), 'white')
  for i, index in enumerate(chosen):
    row, column = divmod(i, n_columns)
    frame = Image.fromarray(frames[index]).resize(size, Image.BICUBIC)
    canvas.paste(frame, (column * (size[0] + gap), row * (size[1] + gap)))
  return canvas


def _jpeg(image):
  buffer = io.BytesIO()
  image.save(buffer, 'JPEG', quality=82)
  return base64.b64encode(buffer.getvalue()).decode('ascii')
