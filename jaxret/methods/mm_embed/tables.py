"""The results of mixed pools as results.json and the report have them."""
import numpy as np

from jaxret import comparisons, report, retrieval
from jaxret.methods import mm_embed
from jaxret.methods.mm_embed import evaluator as mixed
from jaxret.report import tables as report_tables

ROWS = report.Rows(mm_embed.ROWS)
MEASURES = {'hit_rate': 'hit rate', 'ndcg': 'nDCG',
            'map': 'mean average precision'}


def tabulate(benchmark, union, rankings, split):
  """Results of all rows, see report.write; the union's come first.

  rankings: {row: what mixed.rank gives}, perhaps only of some tasks; the last
  row that has all is the main one. The task 'x' stands for the union pool
  where there is one, 'x_local' then for its own pool.
  """
  results, facts, tables, reported, differences = {}, {}, [], {}, {}
  places = mixed.POOLS if benchmark.union else mixed.POOLS[1:]
  for where in places:
    for task in benchmark.tasks:
      name = _name(benchmark, task, where)
      pool = None if where == 'union' else task.pool
      rows = {row: found[task.name, where] for row, found in rankings.items()
              if (task.name, where) in found}
      results[name] = {
          row: mixed.summary(union, task, ranking, pool, benchmark.measure)
          for row, ranking in rows.items()}
      differences[name] = _differences(union, task, rows, pool)
      facts[name] = {
          'queries': len(task.queries),
          'candidates': len(union.pool(pool)) if pool else len(union),
          'chance': mixed.chance(union, task, pool),
          'left_out': max(len(task.queries) - len(ranking.kept)
                          for ranking in rows.values())}
    reported[where] = _reported(benchmark, results, where, list(rankings))
    tables.append(_reported_table(benchmark, where, reported[where]))
  if benchmark.union:
    tables.append(_wrong_modality(benchmark, results, list(rankings)))
  whole = max(map(len, rankings.values()))
  main = [row for row, found in rankings.items() if len(found) == whole][-1]
  return {
      'dataset': benchmark.name, 'split': split,
      'sizes': {'tasks': len(benchmark.tasks), 'queries': sum(
          len(task.queries) for task in benchmark.tasks),
                'candidates': len(union)},
      'tasks': facts, 'main_row': main, 'tables': tables,
      'reported': reported, 'differences': differences, **results}


def _differences(union, task, rankings, pool):
  """As comparisons.compare has them; of rows that left out the same queries.

  Ranks are known down to what was ranked, so that MRR is not compared.
  """
  kept = list(rankings.values())[-1].kept
  return comparisons.compare(
      {row: mixed.ranks(union, task, ranking, pool)
       for row, ranking in rankings.items()
       if np.array_equal(ranking.kept, kept)},
      mm_embed.PAIRS, [f'recall_at_{k}' for k in mixed.RECALL_AT])


def _name(benchmark, task, where):
  """'x' of the union pool, or of the only one; 'x_local' of its own."""
  local = benchmark.union and where == 'local'
  return f'{task.name}_local' if local else task.name


def _reported(benchmark, results, where, rows):
  """{row: {task or mean: the number it is known by, in percent}}."""
  found = {}
  for row in rows:
    values = {task.name: results[_name(benchmark, task, where)][row]['reported']
              for task in benchmark.tasks
              if row in results[_name(benchmark, task, where)]}
    means = {}
    for label, parts in _groups(benchmark.tasks).items():
      if all(name in values for part in parts for name in part):
        means[label] = float(np.mean([
            np.mean([values[name] for name in part]) for part in parts]))
    found[row] = values | means
  return found


def _reported_table(benchmark, where, reported):
  """The same as {'title', 'rows'}."""
  title = f'{MEASURES[benchmark.measure]}, %'
  if benchmark.union:
    title += {'union': ', in the union of all pools',
              'local': ", in each task's own pool"}[where]
  table = [('task', 'at', *map(ROWS.name, reported))]
  depths = {task.name: str(task.depth) for task in benchmark.tasks}
  for label in (*depths, *_groups(benchmark.tasks)):
    table.append((label.replace('_', ' '), depths.get(label, ''), *(
        _cell(own.get(label)) for own in reported.values())))
  return {'title': title, 'rows': table}


def _groups(tasks):
  """{mean: parts, names of tasks}; those of one part are averaged first.

  The parts of CQADupStack are one: 'cqadupstack/android', ...
  """
  parts, composed = {}, {}
  for task in tasks:
    name = task.name.partition('/')[0]
    parts.setdefault(name, []).append(task.name)
    composed[name] = task.is_composed
  groups = {'mean of all': list(parts.values())}
  if len(set(composed.values())) == 2:
    for label, wanted in (('single', False), ('multi', True)):
      groups[f'mean, {label}-modal queries'] = [
          part for name, part in parts.items() if composed[name] == wanted]
  return groups


def _wrong_modality(benchmark, results, rows):
  table = [('task', 'asks for', *map(ROWS.name, rows))]
  for task in benchmark.tasks:
    found = results[task.name]
    table.append((task.name.replace('_', ' '), task.modality, *(
        _cell(found[row]['wrong_modality_at_1'] if row in found else None)
        for row in rows)))
  shares = wrong_modality(benchmark, results)
  table.append(('all queries', '', *(_cell(shares.get(row)) for row in rows)))
  return {'title': 'first answers of the wrong modality, %, in the union of '
                   'all pools', 'rows': table}


def wrong_modality(benchmark, results):
  """{row: percent of all queries whose first answer has the wrong modality}.

  In the union pool; of the rows that answered every task.
  """
  sizes = [len(task.queries) for task in benchmark.tasks]
  found = [results[task.name] for task in benchmark.tasks]
  return {row: float(np.average(
      [own[row]['wrong_modality_at_1'] for own in found], weights=sizes))
          for row in found[0] if all(row in own for own in found)}


def _cell(value):
  return report_tables.number('%.1f', value)


def gallery(benchmark, union, rankings, n_missed, n_found):
  """report.GalleryQuery of each task: in the union where there is one."""
  queries, show = [], retrieval.Show(report.TILE_PX)
  where = 'union' if benchmark.union else 'local'
  for task in benchmark.tasks:
    by_row = {row: of_row[task.name, where] for row, of_row in rankings.items()
              if (task.name, where) in of_row}
    kept = list(by_row.values())[-1].kept
    relevant = [union.places(task.relevant[q]) for q in kept]
    rows = {row: _gallery_row(union, task, ranking, relevant, show)
            for row, ranking in by_row.items()
            if np.array_equal(ranking.kept, kept)}
    queries += report.gallery_queries(
        task.name, lambda q, task=task, kept=kept: show(task.queries[kept[q]]),
        rows, n_missed, n_found)
  return queries


def all_queries(benchmark, union, rankings):
  """report.Queries of each task, in the union where there is one.

  Only of the rows that left out what the main row did. In the union each has
  numbers besides: wrong_modality_at_1, 100 where the first answer is of another
  modality than is asked for, also of `right_answer`, of which none is; and
  own_pool_recall_at_1, ..., 100 where that is in the task's own pool.
  """
  found = []
  where = 'union' if benchmark.union else 'local'
  pools = {name: report.pool_of(item.id for item in union.pool(name))
           for name in benchmark.pools}
  for task in benchmark.tasks:
    by_row = {row: of_row[task.name, where] for row, of_row in rankings.items()
              if (task.name, where) in of_row}
    main = list(by_row.values())[-1]
    ranks = {row: mixed.ranks(union, task, one) for row, one in by_row.items()
             if np.array_equal(one.kept, main.kept)}
    found.append(report.Queries.of_items(
        task.name, [task.queries[q] for q in main.kept], ranks,
        numbers=_numbers(union, task, rankings, ranks) if (
            benchmark.union) else None,
        deepest=min(one.scores.shape[1] for one in by_row.values()),
        pool='; '.join(pools.values()) if benchmark.union else (
            pools[task.pool])))
  return found


def _numbers(union, task, rankings, rows):
  """{name: {row: float64 [Q]}}; rows: those of the task that are shown."""
  wrong = {row: 100.0 * mixed.first_is_of_another(
      union, task, rankings[row][task.name, 'union']) for row in rows}
  wrong['right_answer'] = np.zeros(len(next(iter(wrong.values()))))
  own = {row: mixed.ranks(union, task, rankings[row][task.name, 'local'],
                          task.pool) for row in rows}
  return {'wrong_modality_at_1': wrong, **{
      f'own_pool_recall_at_{k}': {row: 100.0 * (ranks <= k)
                                  for row, ranks in own.items()}
      for k in mixed.RECALL_AT}}


def _gallery_row(union, task, ranking, relevant, show):
  def top(query):
    candidates = ranking.candidates[query]
    return candidates[candidates >= 0]
  def score(query, indices):
    known = dict(zip(ranking.candidates[query], ranking.scores[query]))
    return [known[index] for index in indices]
  return report.Row(mixed.ranks(union, task, ranking), relevant, top,
                    lambda index: show(union[index]), score)
