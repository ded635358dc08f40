"""The page: what it says, and that it stands alone."""
import html
import html.parser
import json
import pathlib
import re
import shutil

import pytest

from jaxret import methods, report


class Page(html.parser.HTMLParser):
  """Collects tags and checks that they nest."""
  VOID = {'meta', 'br', 'input'}

  def __init__(self, source):
    super().__init__()
    self.open, self.attributes = [], []
    self.feed(source)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.attributes.append((tag, dict(attrs)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_startendtag(self, tag, attrs):
    self.attributes.append((tag, dict(attrs)))


def test_results_json_is_what_was_given(workdir, inputs):
  stored = json.loads((workdir / 'results.json').read_text())
  assert stored == json.loads(json.dumps(inputs['results']))
  assert sorted(p.name for p in workdir.iterdir()) == [
      'config.json', 'metrics.jsonl', 'report.html', 'results.json',
      'skipped.jsonl']


def test_page_stands_alone_and_nests(workdir):
  source = (workdir / 'report.html').read_text()
  tags = Page(source).attributes
  for tag, attributes in tags:
    assert tag not in ('link', 'img', 'iframe')
    for name in ('src', 'href', 'xlink:href'):
      assert attributes.get(name, '#').startswith('#'), (tag, attributes)
  assert 'http' not in source.partition('<script>')[2]
  assert source.count('<script>') == 1
  urls = re.findall(r'url\(([^)]{0,30})', source)
  assert urls and all(u.startswith(('data:image/jpeg', '#')) for u in urls)
  assert len(source) < 3e6


def test_every_picture_has_a_text(workdir):
  tags = Page((workdir / 'report.html').read_text()).attributes
  pictures = [a for tag, a in tags if tag == 'svg' or a.get('role') == 'img']
  assert len(pictures) > 20
  assert all(a.get('role') == 'img' and a.get('aria-label') for a in pictures)


def test_captions_are_escaped(workdir):
  source = (workdir / 'report.html').read_text()
  assert 'caption &lt;' in source and 'caption <' not in source
  assert 'no &lt;video&gt; stream' in source


def test_a_benchmark_of_several_shows_what_its_run_left_out(workdir, inputs):
  """Its directory lies in the run's, which holds the lists."""
  report.write(workdir / 'one', **inputs)
  page = (workdir / 'one' / 'report.html').read_text()
  shutil.rmtree(workdir / 'one')
  assert 'corrupted.mp4' in page and '&#34;seed&#34;: 0' in page


def test_page_shows_ranks_hits_and_skipped(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  n_hits = sum(sum(r.hits) for q in inputs['gallery'] for r in q.rows.values())
  assert source.count('class="answer hit"') == n_hits > 0
  assert 'corrupted.mp4' in source
  assert source.index('to video: missed') < source.index('to video: found')
  assert 'test (not used to choose)' in source
  assert ('<h2 id="weight">How much of it</h2>\n<p>Beta &lt; 1 is chosen.</p>'
          ) in source
  assert "the paper's beta" in html.unescape(source)


def test_page_shows_hubs(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  for rows in inputs['results']['hubness'].values():
    for row, hubs in rows.items():
      assert (f'<th scope="row">{row.replace("_", " ")}</th>\n'
              f'<td>{hubs["most_often_first"]} queries</td>\n'
              f'<td>{hubs["never_first"]:.1f} % of candidates</td>\n'
              f'<td>{hubs["skewness_at_1"]:.2f}</td>\n'
              f'<td>{hubs["skewness_at_10"]:.2f}</td>') in source


def test_page_shows_differences_and_which_are_noise(workdir, inputs):
  source = (workdir / 'report.html').read_text()
  cells = re.findall(
      r'<td class="(soft)?" title="95 % interval (\S+) to (\S+)">(\S+)</td>',
      source)
  wanted = [one for direction in inputs['results']['differences'].values()
            for one in direction]
  assert len(cells) == len(wanted) == 2 * 2 * 4
  for (soft, low, high, value), one in zip(cells, wanted):
    digits = 3 if one['metric'] == 'mrr' else 1
    for text, number in ((value, one['difference']), (low, one['ci95'][0]),
                         (high, one['ci95'][1])):
      assert text[0] in '+-'
      assert float(text) == pytest.approx(number, abs=0.5001 * 10 ** -digits)
    assert (soft == 'soft') == (one['ci95'][0] <= 0 <= one['ci95'][1])
  assert {'', 'soft'} == {cell[0] for cell in cells}
  assert source.count('drawing the queries again with replacement, each') == 1
  assert 'title="95 %' not in report.write(
      workdir / 'plain', {k: v for k, v in inputs['results'].items()
                          if k != 'differences'}).read_text()
  shutil.rmtree(workdir / 'plain')


def test_what_is_no_answer_to_a_query_alone_is_folded_and_said(
    inputs, tmp_path):
  results = {**inputs['results'], 'all_queries_at_once': ['bidirectional']}
  results['weights'] = {
      direction: {**rows, 'bidirectional': {
          'chosen_on': 'validation', 'temperature': 0.05}}
      for direction, rows in inputs['results']['weights'].items()}
  source = report.write(tmp_path, results, rows=inputs['rows']).read_text()
  said = 'validation: temperature 0.05; needs all queries at once'
  assert source.count(said) == 2
  assert 'needs all queries at once' in report.format_table(results)
  for part in source.split('</details>')[:2]:
    compared, _, further = part.rpartition('<details><summary>3 more')
    table = compared.rpartition('<table>')[2]
    for row in inputs['results']['text_to_video']:
      name = f'<th scope="row">{row.replace("_", " ")}</th>'
      is_further = row in ('bidirectional', 'blim_paper', 'blim_oracle')
      assert (name in further) == is_further and (
          name in table) == (not is_further)


def test_bare_results_make_a_page(inputs, tmp_path):
  results = {k: v for k, v in inputs['results'].items() if k != 'weights'}
  Page(report.write(tmp_path, results).read_text())


def test_page_knows_rows_by_what_the_method_says(inputs, tmp_path):
  rows = report.Rows(
      {'cpn': 'less <its> prior'}, 'cpn',
      {'cpn': 'The prior is subtracted.', 'text_to_video': 'Videos are sought.',
       'not_there': 'Nobody reads this.'})
  source = report.write(tmp_path, inputs['results'], rows=rows).read_text()
  Page(source)
  # In either direction.
  assert source.count('<th scope="row">less &lt;its&gt; prior</th>\n<td>') == 4
  assert source.count('<tr class="main') == 2
  assert '<tr class="main ">\n<th scope="row">less &lt;its' in source
  assert source.count('The prior is subtracted.') == 1
  before, _, after = source.partition('Videos are sought.')
  assert '<h3>text to video' in before and '<h3>video to text' in after
  assert 'Nobody reads this.' not in source


def test_page_without_what_a_method_says(inputs, tmp_path):
  """It knows no paper: rows are called by their names, none is in bold."""
  source = report.write(tmp_path, inputs['results']).read_text()
  body = source.partition('<body>')[2]
  for row in inputs['results']['text_to_video']:
    assert f'<th scope="row">{row.replace("_", " ")}</th>' in body
  assert '<tr class="main' not in body
  assert 'BLiM' not in body and 'UNITE' not in body and 'P(video' not in body


def test_directions_are_those_of_the_results(inputs, tmp_path):
  given = inputs['results']
  results = {'dataset': 'x', 'split': 'y', 'sizes': given['sizes'],
             'left_out': 0, 'audio_to_video': given['text_to_video'],
             'weights': {'audio_to_video': given['weights']['text_to_video']}}
  source = report.write(tmp_path, results).read_text()
  assert '<h3>audio to video</h3>' in source
  assert source.count('<h3>') == 1


@pytest.mark.parametrize('name', methods.names())
def test_report_names_no_paper(name):
  words = {name, name.replace('_', '-'), *methods.package(name).ROWS}
  # What any text may hold.
  words -= {'plain', 'hard', 'random', 'answers', 'likelihood', 'prior'}
  for path in pathlib.Path(report.__file__).parent.iterdir():
    if path.is_file():
      text = path.read_text().lower()
      found = [w for w in words if re.search(rf'\b{re.escape(w)}\b', text)]
      assert not found, f'{path.name} holds {found}'


def test_an_item_that_two_splits_lack_is_left_out_once(inputs, tmp_path):
  """As results.json counts it; the list has a line of each."""
  (tmp_path / 'skipped.jsonl').write_text(''.join(
      json.dumps({'id': 'a.mp4', 'reason': 'no video', 'split': split}) + '\n'
      for split in ('train', 'test')))
  page = report.write(tmp_path, **inputs).read_text()
  assert page.count('<dt>left out</dt>') == 1
  assert '<dt>left out</dt><dd>1</dd>' in page


def test_one_logged_step_is_said_and_not_drawn(inputs, tmp_path):
  """A line of one point would be an empty plot."""
  (tmp_path / 'metrics.jsonl').write_text(
      '{"step": 4, "loss": 5.25}\n' * 2)  # a restart repeats a step
  page = report.write(tmp_path, inputs['results']).read_text()
  assert 'One step was logged: step 4, loss 5.25.' in page
  assert 'Training: loss' not in page and '<svg' not in page


def test_an_item_of_two_splits_has_one_line(inputs, tmp_path):
  (tmp_path / 'skipped.jsonl').write_text(''.join(
      json.dumps({'id': 'a.mp4', 'reason': 'cut', 'split': split}) + '\n'
      for split in ('train', 'test')))
  page = report.write(tmp_path, inputs['results']).read_text()
  assert page.count('>a.mp4</th>') == 1


def test_head_says_result_and_where_it_comes_from(inputs, tmp_path):
  page = report.write(tmp_path, **inputs, provenance={
      'line': 'today, seed 0', 'command': 'jaxret run <x>'}).read_text()
  first = inputs['results']['text_to_video']['blim']['recall_at_1']
  assert f'R@1 of blim: {first:.1f} % text to video, ' in page
  assert 'today, seed 0<br><code>jaxret run &lt;x&gt;</code>' in page
  names = re.findall(r'<li><a href="#(.*?)"', page)
  assert names == ['recall', 'weight', 'hubs', 'searches']
  assert all(page.count(f'id="{name}"') == 1 for name in names)
