"""Tables of results.json that span tasks, as rows of text."""
# Rows of results.json in words; other rows are shown under their own name.
ROW_WORDS = {
    'first_stage': 'first stage',
    'candidate_likelihood': 'candidate likelihood',
    'query_likelihood': 'query likelihood',
    'cpn': 'candidate likelihood with CPN',
    'bidirectional': 'both directions',
    'blim': 'BLiM: both directions with CPN',
    'cpn_paper': "with CPN, the paper's weight",
    'bidirectional_paper': "both directions, the paper's weight",
    'blim_paper': "BLiM, the paper's weights",
    'cpn_oracle': 'with CPN, best weight on test',
    'bidirectional_oracle': 'both directions, best weight on test',
    'blim_oracle': 'BLiM, best weights on test',
    'ensemble': 'BLiM with the first stage',
    'stage1': 'after stage 1', 'plain': 'plain loss', 'unite': 'UNITE: MAMCL',
    'leccr': 'LECCR',
    'random': 'random negatives', 'hard': 'hard negatives',
    'mm_embed': 'MM-Embed', 'reranked': 'MM-Embed, reranked',
}


def overview(results):
  """R@1 of every row on every task, as rows of text; None without tasks."""
  if len(results.get('tasks', ())) < 2:
    return None
  rows = list(dict.fromkeys(row for task in results['tasks']
                            for row in results[task]))
  table = [('R@1', 'queries', 'candidates', 'chance', *map(row_words, rows))]
  for name, task in results['tasks'].items():
    found = results[name]
    table.append((
        name.replace('_', ' '), f'{task["queries"]:,}',
        f'{task["candidates"]:,}', f'{task["chance"]:.2g}',
        *(f'{found[r]["recall_at_1"]:.1f}' if r in found else '-'
          for r in rows)))
  return table


def means_table(results):
  """Mean R@1 of groups of tasks, as rows of text; None where there is none."""
  means = results.get('means')
  if not means:
    return None
  table = [('mean R@1', 'tasks', *map(row_words, means))]
  for group, first in next(iter(means.values())).items():
    table.append((group, f'{first["tasks"]} of {first["of"]}', *(
        number('%.1f', groups[group]['mean']) for groups in means.values())))
  return table


def sums_table(results):
  """SumR of every language, as rows of text; None where there is none."""
  sums = results.get('sum_of_recalls')
  if not sums:
    return None
  rows = next(iter(sums.values()))
  return [('sum of recalls', *map(row_words, rows)), *(
      (language, *(f'{of_row[row]:.1f}' for row in rows))
      for language, of_row in sums.items())]


def number(style, value):
  """A number, or a dash where it is not known."""
  return '-' if value is None else style % value


def row_words(name):
  """A row of results.json in words."""
  return ROW_WORDS.get(name, name.replace('_', ' '))
