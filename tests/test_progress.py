"""What a run shows: rates that add up, lines that a resumed run continues."""
import json

import pytest

from jaxret import progress


def steps(path):
  return [json.loads(line)['step'] for line in path.read_text().splitlines()]


@pytest.mark.parametrize('number, text', [
    (0, '0'), (7, '7'), (999, '999'), (1000, '1k'), (1234567, '1.23M'),
    (2.5e12, '2.5T'), (-4200, '-4.2k'), (1e21, '1e+03E')])
def test_short_numbers(number, text):
  assert progress.short(number) == text


def test_phases_are_counted(caplog):
  with caplog.at_level('INFO'):
    progress.phase(('reading', 'training', 'scoring'), 'training')
    progress.phase(('reading', 'scoring'), 'scoring', '3 videos')
    progress.phase(('reading', 'scoring'), 'another')
    progress.phase(('scoring',), 'scoring')
  assert caplog.messages == [
      '2 of 3: training', '2 of 2: scoring: 3 videos', 'another', 'scoring']


def test_lines_say_the_time_that_is_left(tmp_path, monkeypatch, caplog):
  clock = [100.0]
  monkeypatch.setattr(progress.time, 'perf_counter', lambda: clock[0])
  with caplog.at_level('INFO'), progress.Progress(tmp_path, 6, 40) as shown:
    for step in (7, 8, 40):
      shown.count(examples=8)
      clock[0] += 4.0
      if step != 7:
        shown.log(step, {'loss': 1.5})
  assert caplog.messages == [
      'step 8/40 loss 1.5000 examples/s 2, about 2 min left',
      'step 40/40 loss 1.5000 examples/s 2']


def test_rates_count_what_came_since_the_last_line(tmp_path, monkeypatch):
  clock = [100.0]
  monkeypatch.setattr(progress.time, 'perf_counter', lambda: clock[0])
  with progress.Progress(tmp_path, 0, 4) as shown:
    shown.count(examples=8, tokens=80)
    shown.count(examples=8, tokens=120)
    clock[0] += 4.0
    shown.log(2, {'loss': 1.5})
    shown.count(examples=6)
    clock[0] += 2.0
    shown.log(3, {'loss': 1.0})
  first, second = map(json.loads, (
      tmp_path / 'metrics.jsonl').read_text().splitlines())
  assert first == {'step': 2, 'loss': 1.5, 'examples_per_s': 4.0,
                   'tokens_per_s': 50.0}
  assert second == {'step': 3, 'loss': 1.0, 'examples_per_s': 3.0}


def test_a_resumed_run_drops_what_it_will_say_again(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(''.join(json.dumps({'step': i}) + '\n' for i in (2, 4, 6)))
  progress.keep_until(path, 4)
  assert steps(path) == [2, 4]
  progress.keep_until(path, 9)
  assert steps(path) == [2, 4]


def test_half_a_line_is_dropped_with_what_follows(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 2}\n{"step": 4, "lo\n{"step": 6}\n')
  progress.keep_until(path, 9)
  assert steps(path) == [2]


def test_a_run_without_lines_starts_without_a_file(tmp_path):
  progress.keep_until(tmp_path / 'metrics.jsonl', 0)
  assert not (tmp_path / 'metrics.jsonl').exists()
