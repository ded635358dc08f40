"""Whole runs on published files of which not all can be used."""
import json

import pytest

from tests import (
  benchmark_files,
  captions,
  tiny_embedding,
  tiny_mm_embed,
  tiny_runs,
)

pytestmark = pytest.mark.usefixtures('one_device')


def arguana(root):
  """ArguAna as published, in small: a qrels row that names no document."""
  def lines(name, rows):
    benchmark_files.write(root / 'arguana' / name, ''.join(
        json.dumps(row) + '\n' for row in rows))
  lines('corpus.jsonl', [{'_id': 'd1', 'title': '', 'text': 'one'},
                         {'_id': 'd2', 'title': 't', 'text': 'two'},
                         {'_id': 'd3', 'text': 'the <image> tag of HTML'}])
  lines('queries.jsonl', [{'_id': 'test-con03a', 'text': 'q1'},
                          {'_id': 'q2', 'text': 'q2'}])
  benchmark_files.write(
      root / 'arguana/qrels/test.tsv', 'query-id\tcorpus-id\tscore\n'
      'test-con03a\ttest-con03b\t1\nq2\td1\t1\nPLAIN-2\td1\t1\n')
  benchmark_files.write(root / 'instructions.json', {'arguana': 'Refute it.'})
  return root


LOST = ['arguana/corpus/d3', 'arguana/queries/PLAIN-2',
        'arguana/corpus/test-con03b']


def beir_flags(root, **fields):
  return tiny_mm_embed.flags({
      'model.pretrained': tiny_runs.ROOT / 'tests/golden/mm_embed/model',
      'data.root': arguana(root), 'eval.batch_size': 4,
      'eval.tasks': ('arguana',), **fields})


@pytest.mark.slow
def test_beir_as_published_is_evaluated_listed_and_counted(tmp_path, capsys):
  flags, workdir = beir_flags(tmp_path / 'beir'), tmp_path / 'run'
  for _ in range(2):  # the second lists nothing twice
    assert tiny_mm_embed.run('beir', workdir, *flags) == 0
  assert 'left out: 3 items, see skipped.jsonl' in capsys.readouterr().out
  results = tiny_runs.results(workdir)
  assert results['left_out'] == 3
  assert results['sizes'] == {'tasks': 1, 'queries': 2, 'candidates': 3}
  # One answer is found among three documents, the other never.
  assert results['arguana']['mm_embed']['recall_at_5'] == 50
  skipped = [json.loads(line) for line in
             (workdir / 'skipped.jsonl').read_text().split('\n')[:-1]]
  assert [one['id'] for one in skipped] == LOST
  assert all('arguana' in one['reason'] and one['split'] == 'test'
             for one in skipped)
  page = (workdir / 'report.html').read_text()
  assert page.count('<dt>left out</dt>') == 1
  assert '<dt>left out</dt><dd>3</dd>' in page
  assert all(name in page for name in LOST)


def test_strict_refuses_beir_as_published(tmp_path, capsys):
  flags = beir_flags(tmp_path / 'beir', **{'data.strict': True})
  assert tiny_mm_embed.run('beir', tmp_path / 'run', *flags) == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'data.strict: 3 entries of split test cannot be used: ' in line
  assert 'corpus.jsonl, line 3, d3: its text holds the image placehol' in line
  assert not (tmp_path / 'run' / 'skipped.jsonl').exists()


def test_strict_refuses_a_caption_that_is_none(tmp_path, capsys):
  benchmark_files.write(
      tmp_path / 'MSRVTT_JSFUSION_test.csv',
      'video_id,sentence\nvideo1,a dog\nvideo2,\n')
  flags = {'task': 'evaluate', 'eval.benchmarks': ('msrvtt_1ka',),
           'eval.root': tmp_path, **tiny_embedding.MODEL}
  for strict, wanted in ((True, 'data.strict: 1 entries of split test'),
                         (False, 'holds no tokenizer: train there first')):
    assert tiny_embedding.run('', tmp_path / 'run', *tiny_embedding.flags(
        {**flags, 'data.strict': strict})) == 1
    assert wanted in capsys.readouterr().err.splitlines()[-1]
  assert json.loads((tmp_path / 'run/skipped.jsonl').read_text())['id'] == (
      'MSRVTT_JSFUSION_test.csv:2')


def test_strict_refuses_an_entry_of_a_benchmark_of_blim(tmp_path, capsys):
  rows = [{'video': f'video{i}.mp4', 'caption': 'a dog' * (i != 7)}
          for i in range(60)]
  captions.annotate(tmp_path / 'data', 'msrvtt', rows, rows[:3])
  flags = {'data.root': tmp_path / 'data', 'data.strict': True}
  assert tiny_runs.run('msrvtt', tmp_path / 'run', *tiny_runs.flags(flags)) == 1
  line = capsys.readouterr().err.splitlines()[-1]
  assert 'data.strict: 1 entries of split train cannot be used: ' in line
  assert "msrvtt_ret_train.json, entry 8: got 'caption' empty" in line
