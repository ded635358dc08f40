"""What trackers get is what metrics.jsonl has, once, whatever happens."""
import json
import sys
import types

import jax
import numpy as np
import pytest

from jaxret import main, progress, trackers
from tests import tiny_runs


class Run:
  """A run of a wandb that keeps what it gets, the first line of a step."""

  def __init__(self, asked):
    self.asked, self.lines, self.ended = asked, {}, 0

  def log(self, metrics, step):
    if step <= max(self.lines, default=-1):
      return
    self.lines[step] = metrics

  def finish(self):
    self.ended += 1


@pytest.fixture
def wandb(monkeypatch):
  """{id: Run} of a stand-in for wandb."""
  runs = {}
  def init(**asked):
    return runs.setdefault(asked['id'], Run(asked))
  monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
  return runs


def write(workdir, steps, start_step=0, names=('wandb',)):
  """Logs some steps as a training does."""
  with progress.Progress(workdir, start_step, 9, names, {'seed': 3}) as shown:
    for step in steps:
      shown.count(examples=2)
      shown.log(step, {'loss': step / 8})


def lines(workdir):
  return {one.pop('step'): one for one in map(
      json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())}


def test_a_rerun_goes_on_with_the_same_run(tmp_path, wandb):
  write(tmp_path, [1, 2, 3])
  write(tmp_path, [3, 4], start_step=2)  # from the checkpoint of step 2
  [run] = wandb.values()
  assert run.ended == 2 and run.asked['resume'] == 'allow'
  assert run.asked['config'] == {'seed': 3}
  assert run.asked['name'] == tmp_path.name
  found = lines(tmp_path)
  assert list(run.lines) == list(found) == [1, 2, 3, 4]
  assert run.lines[4] == found[4] and found[4]['examples_per_s'] > 0
  assert {step: one['loss'] for step, one in run.lines.items()} == {
      step: one['loss'] for step, one in found.items()}
  write(tmp_path / 'other', [1])
  assert len(wandb) == 2


def test_the_first_process_alone_writes(tmp_path, wandb, monkeypatch):
  monkeypatch.setattr(jax, 'process_index', lambda: 1)
  write(tmp_path, [1])
  assert not wandb and not list(tmp_path.iterdir())


def test_a_tracker_that_fails_ends_no_training(tmp_path, wandb, monkeypatch,
                                               caplog):
  def fail(self, metrics, step):
    raise OSError('no network\nat all')
  monkeypatch.setattr(Run, 'log', fail)
  write(tmp_path, [1, 2])
  assert list(lines(tmp_path)) == [1, 2]
  [said] = [one.getMessage() for one in caplog.records
            if 'wandb fails' in one.getMessage()]
  assert 'OSError: no network) and gets no more' in said


def test_a_tracker_that_does_not_start_is_said(tmp_path, monkeypatch):
  def init(**asked):
    raise RuntimeError('no API key\nlog in')
  monkeypatch.setitem(sys.modules, 'wandb', types.SimpleNamespace(init=init))
  with pytest.raises(ValueError, match='no API key.*: call `wandb login`'):
    write(tmp_path, [1])


@pytest.mark.parametrize('names, message', [
    (('mlflow',), "names 'mlflow'; want 'tensorboard' or 'wandb', or nothing"),
    (('wandb', 'wandb'), "names 'wandb' twice")])
def test_names_that_are_none_are_refused(tmp_path, names, message, capsys):
  with pytest.raises(ValueError, match=message):
    trackers.check(names)
  assert main.main([
      'jaxret', f'--config={tiny_runs.CONFIG}', f'--workdir={tmp_path}',
      f'--config.log.to={names!r}']) == 1
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'config.json').exists()


@pytest.mark.parametrize('name, module', [
    ('tensorboard', 'tensorboardX'), ('wandb', 'wandb')])
def test_what_is_not_installed_is_said(tmp_path, monkeypatch, name, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(ValueError,
                     match=rf"pip install -e '.\[{name}\]'"):
    write(tmp_path, [1], names=(name,))


def test_tensorboard_reads_what_was_written(tmp_path):
  """Events behind the step that a rerun starts from are purged."""
  pytest.importorskip('tensorboardX', reason='of the extra tensorboard')
  write(tmp_path, [1, 2, 3], names=('tensorboard',))
  write(tmp_path, [3, 4], start_step=2, names=('tensorboard',))
  found, purged = scalars(tmp_path / 'tensorboard')
  assert purged == [3]
  assert [(step, value) for name, step, value in found if name == 'loss'] == [
      (1, 1 / 8), (2, 2 / 8), (3, 3 / 8), (3, 3 / 8), (4, 4 / 8)]
  assert {name for name, _, _ in found} == {'loss', 'examples_per_s'}


def scalars(directory):
  """([(name, step, value)], steps from which earlier events count no more)."""
  from tensorboardX.proto import event_pb2
  from tensorboardX.record_writer import masked_crc32c
  found, purged = [], []
  for path in sorted(directory.iterdir()):
    data = path.read_bytes()
    while data:
      size = int(np.frombuffer(data[:8], '<u8')[0])
      part = data[12:12 + size]
      assert masked_crc32c(part) == np.frombuffer(
          data[12 + size:16 + size], '<u4')[0]
      event, data = event_pb2.Event.FromString(part), data[16 + size:]
      if event.session_log.status == event_pb2.SessionLog.START:
        purged.append(event.step)
      found += [(value.tag, event.step, value.simple_value)
                for value in event.summary.value]
  return found, purged


@pytest.mark.slow
@pytest.mark.campaign  # others run the same training; its programs, of
# several CPU devices, may wait for each other when they come from a warm cache
def test_a_run_fills_its_trackers(tmp_path, wandb):
  """Of the method and of the tower that is trained before it."""
  flags = tiny_runs.shapes_flags(tmp_path / 'shapes', **{
      'log.to': ('wandb',), 'train.log_every_steps': 1})
  assert tiny_runs.run('', tmp_path / 'run', *flags) == 0
  found = lines(tmp_path / 'run')
  name = json.loads((tmp_path / 'run' / trackers.RECORD).read_text())['id']
  assert list(wandb[name].lines) == list(found)
  assert wandb[name].asked['config']['train.log_every_steps'] == 1
