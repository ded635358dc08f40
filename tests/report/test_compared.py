"""Runs side by side as a page."""
import re

import numpy as np
import pytest

from jaxret import comparisons
from jaxret.report import compared
from jaxret.report import queries as queries_lib
from tests.report.test_page import Page

RANKS = {'first run': np.array([1, 1, 1, 3] * 5),
         'runs/<b>': np.array([1, 1, 1, 1] * 5)}


def made(**ranks):
  ranks = ranks or RANKS
  first, other = ranks
  shared = queries_lib.Queries(
      'text_to_video', [f'q{i}' for i in range(20)],
      [f'a <dog> {i}' for i in range(20)], ranks, first, 10)
  return compared.Compared(
      'text_to_video', 20, 25,
      {name: {'recall_at_1': 100 * float(np.mean(of == 1))}
       for name, of in ranks.items()},
      comparisons.compare(ranks, [(other, first)], ('recall_at_1',), 200),
      shared)


@pytest.mark.parametrize('a, b, said', [
    ([1] * 20, [2] * 10 + [1] * 10, 'b is worse than a: R@1 -50.0 points'),
    ([2] * 10 + [1] * 10, [1] * 20, 'b is better than a: R@1 +50.0 points'),
    ([1] * 20, [1] * 20, 'b and a do not differ by more than noise: R@1 +0.0')])
def test_a_sentence_says_which_is_better(a, b, said):
  sentence, = made(a=np.array(a), b=np.array(b)).verdicts
  assert sentence.startswith(said)


def test_page_has_every_query_and_leads_to_the_reports(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'first run').mkdir()
  (tmp_path / 'first run' / 'report.html').write_text('')
  compared.write(tmp_path / 'pages' / 'both.html', [made()], {
      'first run': 'today, seed 0', 'runs/<b>': 'not known'})
  source = (tmp_path / 'pages' / 'both.html').read_text()
  links = [a['href'] for tag, a in Page(source).attributes if 'href' in a]
  assert './../first%20run/report.html' in links and len(links) == 2
  assert '<b>' not in source and 'runs/&lt;b&gt;' in source
  assert 'today, seed 0' in source and '20 of 25 queries' in source
  body = source.partition('class="every"')[2].partition('</table>')[0]
  rows = re.findall(r'<tr class="(.*?)">.*?</th>(.*?)</tr>', body)
  assert [kinds for kinds, _ in rows] == [
      'found', 'found', 'found', 'missed differ'] * 5
  assert re.findall('<td.*?>(.+?)</td>', rows[3][1]) == ['3', '1']
  # The names of SVG's own vocabulary, which nothing fetches.
  assert '<script>' in source
  assert 'http' not in source.replace('http://www.w3.org/', '')


def test_a_plot_has_a_line_for_each_task_and_says_what_it_shows(tmp_path):
  one = made(a=np.array([1] * 20), b=np.array([2] * 15 + [1] * 5))
  other = one._replace(direction='video_to_text')
  compared.write(tmp_path / 'p.html', [one, other], {'a': '', 'b': ''})
  source = (tmp_path / 'p.html').read_text()
  said, = re.findall('<svg role="img".*?aria-label="(.*?)"', source)
  assert re.fullmatch(
      r'text to video: -75.00, -\d+.\d\d to -\d+.\d\d; '
      r'video to text: -75.00, .*', said)
  assert source.count('>video to text</text>') == 1
  assert '>R@1 of b less a, points of a percent</text>' in source
  assert 'where runs differ' in source


def test_names_are_no_formulas_and_no_markup(tmp_path):
  ranks = {'a$x': np.array([1] * 20), 'long/' * 9 + '<b>$y^2$': (
      np.array([2] * 20))}
  compared.write(tmp_path / 'p.html', [made(**ranks)], {'a$x': ''})
  source = (tmp_path / 'p.html').read_text()
  assert '...ng/long/long/&lt;b&gt;$y^2$ less a$x' in source
