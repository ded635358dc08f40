"""The report as one HTML file, and the results as JSON beside it.

The evaluator hands over what `write` documents; what the workdir already
holds (config.json, metrics.jsonl, skipped.jsonl) is read from there. One of
several benchmarks of a run has a directory in the run's workdir: these files
lie above it.
"""
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxret import files, own_files
from jaxret import skipped as skipped_lib
from jaxret.report import gallery as gallery_lib
from jaxret.report import manifest, plots, tables

MAX_SKIPPED = 100


def write(workdir: str | os.PathLike, results: tables.Results,
          run: Mapping[str, object] | None = None,
          rows: tables.Rows | None = None, sweeps: plots.Sweeps | None = None,
          hubness: Sequence[plots.Hubness] = (),
          gallery: Sequence[gallery_lib.GalleryQuery] = (),
          written: Sequence[gallery_lib.Written] = ()) -> pathlib.Path:
  """Writes results.json and report.html into the workdir.

  results: {'dataset', 'split', 'sizes': {'videos': V, 'texts': T},
    direction: {row: metrics.summary(...)}} for each direction, and, for the
    rows whose weights were chosen, 'weights': {direction: {row: {'chosen_on':
    'validation', 'paper' or 'test', 'alpha': 0.3, ...}}}. Perhaps
    'differences': {direction: comparisons.compare(...)}, 'hubness':
    {direction: {row: metrics.hubness(...)}}, 'invariant_scores': whether
    eval.invariant was set, and 'all_queries_at_once': the rows that are no
    answers to a query alone.
    A list of tasks (retrieval.evaluate) has 'tasks': {name: {'queries',
    'candidates', 'chance'}} in place of the two directions, perhaps 'means':
    {row: {group: {'mean', 'tasks', 'of'}}} and 'sum_of_recalls': {language:
    {row: SumR}}, and 'main_row'. 'tables', if any: [{'title', 'rows': lists of
    cells, the head first}], shown as they are; 'protocol', if any, as
    protocols.manifest gives it.
  run: facts for the header, {label: text or number}, in the order to show.
  rows: tables.Rows, what a method says of its rows.
  sweeps: Sweeps of a weight, if any. hubness, gallery: sequences of Hubness
    and GalleryQuery. written: of Written, texts side by side.

  Returns the path of report.html. Both files are replaced at once.
  """
  workdir = pathlib.Path(workdir)
  text = json.dumps(results, indent=2, default=_plain) + '\n'
  files.write_atomically(workdir / 'results.json', text)
  page = _render(workdir, results, run or {}, rows or tables.Rows(), sweeps,
                 hubness, gallery, written)
  files.write_atomically(workdir / 'report.html', page)
  return workdir / 'report.html'


def _plain(value):
  if isinstance(value, np.ndarray):
    return value.tolist()
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'results hold a {type(value).__name__}; wanted numbers, '
                  'text, lists and dicts')


def _render(workdir, results, run, rows, sweeps, hubness, gallery, written):
  # Not at the top: jinja2 is needed here only.
  import jinja2
  environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)
  environment.filters['words'] = lambda name: name.replace('_', ' ')
  tiles = gallery_lib.Tiles()
  alone = (workdir / 'config.json').exists() or not (
      workdir.parent / 'config.json').exists()
  of_run = workdir if alone else workdir.parent
  training = [r for r in own_files.read_lines(of_run / 'metrics.jsonl')
              if 'loss' in r and 'step' in r]
  skipped = skipped_lib.read(of_run)
  config = of_run / 'config.json'
  directions = tables.directions(results)
  results = {**results, 'tables': [*results.get('tables', ()),
                                   *manifest.table(results)]}
  return environment.get_template('page.html.jinja').render(
      results=results, run=run, tables=tables, directions=directions,
      row_words=rows.name, explained=rows.explained,
      main_row=results.get('main_row', rows.main),
      overview=tables.overview(results, rows),
      sentences=tables.sentences(results, rows),
      means=tables.means_table(results, rows),
      sums=tables.sums_table(results, rows), skipped=skipped[:MAX_SKIPPED],
      n_left_out=len({one['id'] for one in skipped}), n_skipped=len(skipped),
      sweeps=sweeps, sweep_plot=plots.sweep_plot(sweeps) if sweeps else None,
      hubness_plot=plots.hubness_plot(hubness, rows.name) if hubness else None,
      max_dots=plots.MAX_DOTS,
      written=written,
      training_plot=plots.training_plot(training) if training else None,
      config=config.read_text() if config.exists() else None,
      gallery=gallery_lib.grouped(gallery, directions), tile=tiles.name,
      tiles=tiles.used)
