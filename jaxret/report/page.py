"""The report as one HTML file, and the results as JSON beside it.

The evaluator hands over what `write` documents; what the workdir already
holds (config.json, metrics.jsonl, skipped.jsonl) is read from there. One of
several benchmarks of a run has a directory in the run's workdir: these files
lie above it.
"""
import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxret import files, own_files
from jaxret import skipped as skipped_lib
from jaxret.report import gallery as gallery_lib
from jaxret.report import manifest, media_links, plots, tables
from jaxret.report import queries as queries_lib

if TYPE_CHECKING:
  import jinja2

MAX_SKIPPED = 100


def write(workdir: str | os.PathLike, results: tables.Results,
          run: Mapping[str, object] | None = None,
          rows: tables.Rows | None = None, sweeps: plots.Sweeps | None = None,
          hubness: Sequence[plots.Hubness] = (),
          gallery: Sequence[gallery_lib.GalleryQuery] = (),
          written: Sequence[gallery_lib.Written] = (),
          queries: Sequence[queries_lib.Queries] = (),
          provenance: Mapping[str, str] | None = None,
          embed_media: bool = False) -> pathlib.Path:
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
  queries: every query, which ranks.npz keeps as well. provenance: {'line',
    'command'}, in the head of the page.
  embed_media: the page holds the files of the media that it shows, as far as
    media_links.MOST_EMBEDDED goes; else it links to them, from where it lies.

  Returns the path of report.html. The files are replaced at once.
  """
  workdir = pathlib.Path(workdir)
  text = json.dumps(results, indent=2, default=_plain) + '\n'
  files.write_atomically(workdir / 'results.json', text)
  if queries:
    queries_lib.save(workdir, results, queries)
  page = _render(workdir, results, run or {}, rows or tables.Rows(), sweeps,
                 hubness, gallery, written, queries=queries,
                 provenance=provenance,
                 link_of=media_links.Links(workdir, embed_media))
  files.write_atomically(workdir / 'report.html', page)
  return workdir / 'report.html'


def environment_of_pages(*folders: str | os.PathLike) -> 'jinja2.Environment':
  """The templates of the pages; what they are given is escaped.

  folders: where others lie that make use of them.
  """
  import jinja2  # needed here only
  return jinja2.Environment(
      loader=jinja2.FileSystemLoader([*folders, pathlib.Path(__file__).parent]),
      autoescape=True, trim_blocks=True, lstrip_blocks=True,
      undefined=jinja2.StrictUndefined)


def _plain(value):
  if isinstance(value, np.ndarray):
    return value.tolist()
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'results hold a {type(value).__name__}; wanted numbers, '
                  'text, lists and dicts')


def _render(workdir, results, run, rows, sweeps, hubness, gallery, written,
            **also):
  environment = environment_of_pages()
  words = environment.filters['words'] = gallery_lib.naming(gallery)
  tiles = gallery_lib.Tiles()
  alone = (workdir / 'config.json').exists() or not (
      workdir.parent / 'config.json').exists()
  of_run = workdir if alone else workdir.parent
  training = [r for r in own_files.read_lines(of_run / 'metrics.jsonl')
              if 'loss' in r and 'step' in r]
  # A line for each split that lacks an item; here one is enough.
  skipped = list({(one['id'], one['reason']): one
                  for one in skipped_lib.read(of_run)}.values())
  config = of_run / 'config.json'
  directions = tables.directions(results)
  evaluated = manifest.table(results)
  return environment.get_template('page.html.jinja').render(
      results=results, run=run, tables=tables, directions=directions,
      row_words=rows.name, explained=rows.explained,
      main_row=results.get('main_row', rows.main),
      overview=tables.overview(results, rows),
      sentences=tables.sentences(results, rows),
      means=tables.means_table(results, rows),
      sums=tables.sums_table(results, rows), skipped=skipped[:MAX_SKIPPED],
      n_left_out=len({one['id'] for one in skipped}), n_skipped=len(skipped),
      sweeps=sweeps,
      sweep_plot=plots.sweep_plot(sweeps, words) if sweeps else None,
      hubness_plot=plots.hubness_plot(hubness, rows.name, words)
      if hubness else None,
      max_dots=plots.MAX_DOTS,
      written=written,
      training_plot=plots.training_plot(training)
      if len({one['step'] for one in training}) > 1 else None,
      training=training, config=config.read_text() if config.exists() else None,
      headline=tables.headline(results, rows, words), contents=_contents(
          results, sweeps, hubness, gallery, written, training, skipped,
          evaluated, config.exists(), also['queries']), evaluated=evaluated,
      listed=queries_lib.listed, most_listed=queries_lib.MOST_LISTED,
      gallery=gallery_lib.grouped(gallery, directions), tile=tiles.name,
      tiles=tiles.used, **also | {'queries': [
          _main_rows(one, results) for one in also['queries']]})


def _contents(results, sweeps, hubness, gallery, written, training, skipped,
              evaluated, config, queries):
  """[(id, heading)] of the parts that the page has."""
  return [(name, heading) for name, heading, there in (
      ('recall', 'Recall', True),
      ('weight', sweeps and sweeps.heading, sweeps),
      ('hubs', 'Hubs', hubness or 'hubness' in results),
      ('queries', 'All queries', queries), ('searches', 'Searches', gallery),
      ('written', 'Written', written), ('training', 'Training', training),
      ('skipped', 'Left out', skipped),
      ('evaluated', 'What was evaluated', evaluated),
      ('configuration', 'Configuration', config)) if there]


def _main_rows(queries, results):
  """The Queries less what the tables fold, the main row first."""
  of = results.get(queries.direction)
  kept = tables.groups(results, queries.direction, queries.main)[0] if of else (
      list(queries.ranks))
  names = [queries.main, *(row for row in kept if row in queries.ranks
                           and row != queries.main)]
  return dataclasses.replace(
      queries, ranks={row: queries.ranks[row] for row in names})


