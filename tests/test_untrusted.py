"""Files of strangers that are no media: each is read, or refused in one line.

Weights, their indices, adapters, configs, tokenizers, pickles, captions: none
leads to another file, runs a program, asks the network, or ends in a traceback.
Media are in tests/data/test_untrusted_media.py.
"""
import json
import os
import pathlib
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
import safetensors.numpy

from jaxret import own_files
from jaxret.data import bigfile, sets, text
from jaxret.models import adapter_import, names, pretrained
from jaxret.models.videochat import files as videochat
from tests import tiny_runs, watched

DEEP = '[' * 100_000


def refused(call, *parts):
  """The one line of what must be refused; parts: what it says."""
  with pytest.raises((ValueError, OSError)) as caught:
    call()
  line = str(caught.value)
  assert '\n' not in line and len(line) < 2000, line
  for part in parts:
    assert str(part) in line, line
  return line


def opened(directory):
  return list(pretrained.open_checkpoint(directory).tensors)


TENSOR = {'dtype': 'F32', 'shape': [4], 'data_offsets': [0, 16]}


@pytest.mark.parametrize('header, length', [
    (b'{}', 2 ** 63), (b'{}', 90_000_000), (b'{"a": ', None), (b'', 0),
    (DEEP.encode(), None),
    *((json.dumps(tensors).encode(), None) for tensors in (
        {'a': {**TENSOR, 'shape': [-1, 4]}},
        {'a': {**TENSOR, 'data_offsets': [0, 10 ** 12]}},
        {'a': {**TENSOR, 'data_offsets': [16, 0]}},
        {'a': {**TENSOR, 'shape': [2 ** 33, 2 ** 33]}},
        {'a': {**TENSOR, 'dtype': 'F8_E4M3', 'shape': [16]}},
        {'a': {**TENSOR, 'dtype': 'pickle'}},
        {'a': TENSOR, 'b': TENSOR}))])
def test_weights_are_refused_by_their_headers(tmp_path, header, length):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(struct.pack(
      '<Q', len(header) if length is None else length) + header + bytes(16))
  refused(lambda: opened(tmp_path), path)


@pytest.mark.parametrize('kind', ['empty', 'directory', 'pipe'])
def test_weights_that_are_no_file(tmp_path, kind):
  path = tmp_path / 'model.safetensors'
  {'empty': path.touch, 'directory': path.mkdir,
   'pipe': lambda: os.mkfifo(path)}[kind]()
  refused(lambda: opened(tmp_path), tmp_path)


@pytest.mark.parametrize('whole', [
    {'weight_map': {'a': '{secret}'}},
    {'weight_map': {'a': '../secret/{name}'}},
    {'weight_map': {'a': 'x/../../secret/{name}'}},
    {'weight_map': {'a': '/etc/passwd'}}, {'weight_map': {'a': 'x\0y'}},
    {'weight_map': {'a': 5}}, {'weight_map': ['a']}, {}, [], '{"weight_map": ',
    DEEP])
def test_an_index_reaches_no_file_elsewhere(tmp_path, whole):
  secret = tmp_path / 'secret' / 'other.safetensors'
  secret.parent.mkdir()
  safetensors.numpy.save_file({'a': np.ones(3, np.float32)}, secret)
  model = tmp_path / 'model'
  (model / 'x').mkdir(parents=True)
  content = whole if isinstance(whole, str) else json.dumps(whole)
  (model / 'model.safetensors.index.json').write_text(content.replace(
      '{secret}', str(secret)).replace('{name}', secret.name))
  watch = watched.Watch(secret)
  refused(lambda: opened(model), model)
  assert watch.count() == 0
  watch.close()


ADAPTER = {'peft_type': 'LORA', 'bias': 'none', 'r': 4, 'lora_alpha': 8,
           'target_modules': ['q_proj']}


def adapter(directory, config, **tensors):
  """Writes one of a query's projection, of rank 4."""
  (directory / 'adapter_config.json').write_text(
      config if isinstance(config, str) else json.dumps(config))
  factors = {
      f'base_model.model.{weight.key.format(layer=0)}': np.ones(
          (4, 8) if weight.path.endswith('/a') else (8, 4), np.float32)
      for weight in names.LORA if 'attention/q' in weight.path}
  safetensors.numpy.save_file(
      {**factors, **tensors}, directory / 'adapter_model.safetensors')
  return directory


@pytest.mark.parametrize('change', [
    {'target_modules': '(a+)+$'}, {'lora_alpha': float('nan')},
    {'lora_alpha': float('inf')}, {'lora_alpha': 'x'}, {'r': 0}, {'r': -4},
    {'r': 16}, {'r': 10 ** 30}, '[]', '{',
    '5', DEEP])
def test_adapters_are_refused_by_their_config(tmp_path, change):
  config = change if isinstance(change, str) else {**ADAPTER, **change}
  refused(lambda: adapter_import.import_peft(adapter(tmp_path, config)),
          tmp_path)


def test_tensors_of_an_adapter_are_its_own(tmp_path):
  assert adapter_import.import_peft(adapter(tmp_path, ADAPTER)).scale == 2
  long = 'base_model.model.' + 'a' * 200_000
  with pytest.raises(ValueError, match='fit no parameter: base_model'):
    adapter_import.import_peft(
        adapter(tmp_path, ADAPTER, **{long: np.ones(2, np.float32)}))


MODEL = {'vocab_size': 300, 'hidden_size': 32, 'intermediate_size': 48,
         'num_hidden_layers': 2, 'num_attention_heads': 2,
         'num_key_value_heads': 1, 'rope_theta': 1e6, 'rms_norm_eps': 1e-6,
         'tie_word_embeddings': False, 'mm_hidden_size': 16,
         'mm_local_num_frames': 4, 'mm_vision_tower': None}


@pytest.mark.parametrize('field, value', [
    ('hidden_size', 10 ** 12), ('hidden_size', -1), ('hidden_size', 'x'),
    ('num_attention_heads', 0), ('num_hidden_layers', 10 ** 10),
    ('num_hidden_layers', [2]), ('rms_norm_eps', float('nan')),
    ('rms_norm_eps', 0), ('rope_theta', -1.0), ('vocab_size', None),
    ('quantization_config', {'quant_method': 'x'})])
def test_configs_of_models_are_refused_by_field(tmp_path, field, value):
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(MODEL))
  assert videochat.read_config(tmp_path)['decoder']['width'] == 32
  path.write_text(json.dumps({**MODEL, field: value}))
  refused(lambda: videochat.read_config(tmp_path), path, field)


@pytest.mark.parametrize('content', [DEEP, '[]', '', '\0', '{"a": 1', None])
def test_what_is_no_config_is_refused_by_name(tmp_path, content):
  if content is None:  # and waited for by no one
    os.mkfifo(tmp_path / 'config.json')
  else:
    (tmp_path / 'config.json').write_text(content)
  refused(lambda: videochat.read_config(tmp_path), tmp_path / 'config.json')


@pytest.fixture
def tokenizer(tmp_path):
  """(directory, contents of tokenizer.json), of nobody's training."""
  text.train_tokenizer(['a red dog', 'a blue cat'], 300, tmp_path)
  (tmp_path / 'trained_on.json').unlink()
  return tmp_path, json.loads((tmp_path / 'tokenizer.json').read_text())


@pytest.mark.parametrize('content', ['{', '', DEEP, '[]', '{"model": {}}'])
def test_what_is_no_tokenizer_is_refused_by_name(tokenizer, content):
  directory, _ = tokenizer
  (directory / 'tokenizer.json').write_text(content)
  refused(lambda: text.load_tokenizer(directory), directory / 'tokenizer.json')


@pytest.mark.parametrize('content', [
    '[]', '{', DEEP, '{"pad_token": 5}', '{"pad_token": {}}',
    '{"pad_token": [1]}', '{"pad_token": "<|endoftext|>", "eos_token": 7}',
    '{"pad_token": {"content": null}}', '{"pad_token": "none such"}'])
def test_configs_of_tokenizers_are_refused_by_name(tokenizer, content):
  directory, _ = tokenizer
  (directory / 'tokenizer_config.json').write_text(content)
  refused(lambda: text.load_tokenizer(directory), directory)


@pytest.mark.parametrize('pattern', [
    r'(a+)+$', r'(?=(a*)*b)x|(a|a)*$|((a+)(a+)+)\2$'])
def test_a_pattern_that_never_ends_is_said_of_the_text(tokenizer, pattern):
  directory, whole = tokenizer
  whole['pre_tokenizer'] = {'type': 'Sequence', 'pretokenizers': [
      {'type': 'Split', 'pattern': {'Regex': pattern}, 'behavior': 'Isolated',
       'invert': False}, whole['pre_tokenizer']]}
  (directory / 'tokenizer.json').write_text(json.dumps(whole))
  loaded = text.load_tokenizer(directory)
  assert loaded.encode('cat')
  refused(lambda: loaded.encode('a' * 28 + '!'), directory, "'aaaa")


@pytest.mark.slow  # transformers takes most of it to import
def test_code_of_a_tokenizer_does_not_run_and_is_not_asked_for(tmp_path):
  """In a process of its own, whose standard input would answer yes."""
  config = {'tokenizer_class': 'Evil', 'pad_token': '<|endoftext|>',
            'auto_map': {'AutoTokenizer': ['evil.Evil', None]}}
  files = {'vocab.json': '{"a": 0, "<|endoftext|>": 1}',
           'merges.txt': '#version: 0.2\n',
           'tokenizer_config.json': json.dumps(config),
           'evil.py': f'open({str(tmp_path / "ran")!r}, "w")\n'
           'class Evil: pass\n'}
  for name, content in files.items():
    (tmp_path / name).write_text(content)
  done = subprocess.run(
      [sys.executable, '-c', 'import sys; from jaxret.data import text; '
       f'text.load_tokenizer({str(tmp_path)!r})'], input='y\n' * 9, text=True,
      capture_output=True, cwd=tiny_runs.ROOT, timeout=300)
  assert 'Do you wish' not in done.stdout + done.stderr
  assert 'cannot be read' in done.stderr.splitlines()[-1]
  assert not (tmp_path / 'ran').exists()


class Evil:
  """A pickle that runs a program when it is read."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return os.system, (f'touch {self._path}',)


def test_pickles_do_not_run(tmp_path):
  torch = pytest.importorskip('torch')
  from jaxret.methods.blim import convert
  ran, features = tmp_path / 'ran', tmp_path / 'features'
  features.mkdir()
  for value, path in (({'v2t': Evil(ran)}, tmp_path / 'scores.pth'),
                      (Evil(ran), features / 'a.pth')):
    torch.save(value, path)
  refused(lambda: convert.convert_scores(
      tmp_path / 'scores.pth', tmp_path / 'o.npz'), 'scores.pth')
  refused(lambda: convert.convert_features(
      features, tmp_path / 'out', progress=False), 'a.pth')
  objects = tmp_path / 'scores.npy'
  np.save(objects, np.array([Evil(ran)], object), allow_pickle=True)
  refused(lambda: own_files.read_array(objects, np.float32, (1,)), objects)
  for name in ('model.safetensors', 'pytorch_model.bin'):
    model = tmp_path / name.partition('.')[0]
    model.mkdir()
    torch.save({'a': Evil(ran)}, model / name)
    refused(lambda model=model: opened(model), model)
  assert not ran.exists()


@pytest.mark.parametrize('content', [
    '__import__("os").system("touch {ran}")', '-' * 200_000 + '1',
    '{"a": ' + '[' * 5000 + ']' * 5000 + '}', '{"a": [open("{ran}", "w")]}'])
def test_lists_of_frames_are_no_programs(tmp_path, content):
  path = tmp_path / 'video2frames.txt'
  path.write_text(content.replace('{ran}', str(tmp_path / 'ran')))
  refused(lambda: bigfile.read_video2frames(path), path)
  assert not (tmp_path / 'ran').exists()


def folder(root, entries):
  (root / 'captions.json').write_text(
      entries if isinstance(entries, str) else json.dumps(entries))
  (root / 'x.mp4').write_bytes(b'x')
  return sets.load(types.SimpleNamespace(name='folder', root=str(root)), 'test')


@pytest.mark.parametrize('entry', [
    {'video': '../elsewhere/secret.mp4'}, {'video': '/etc/passwd'},
    {'video': 'x/../../elsewhere/secret.mp4'}, {'video': '~/secret.mp4'},
    {'video': 'x.mp4', 'caption': 'a \ud800'},
    {'video': 'x.mp4', 'caption': float('nan')}])
def test_captions_are_refused_by_entry(tmp_path, entry):
  root = tmp_path / 'own'
  root.mkdir()
  if entry['video'].startswith('~'):  # a name like any other here
    item, = folder(root, [{'caption': 'a', **entry}, {
        'video': 'x.mp4', 'caption': 'b'}]).videos[:1]
    assert pathlib.Path(item.video or item.image).is_relative_to(root)
    return
  refused(lambda: folder(root, [{'caption': 'a', **entry}]),
          root / 'captions.json', 'entry 1')


@pytest.mark.parametrize('name', ['a\0b.mp4', 'a' * 5000 + '.mp4'])
def test_names_that_no_file_can_have_are_missing_files(tmp_path, name):
  from jaxret.data import media
  split = folder(tmp_path, [{'video': name, 'caption': 'a'},
                            {'video': 'x.mp4', 'caption': 'b'}])
  bad = media.Frames(split.videos, 1, 8).scan(progress=False)
  assert bad[0] == 'no such file' and set(bad) == {0, 1}


def test_captions_that_are_no_list_and_a_long_one(tmp_path):
  refused(lambda: folder(tmp_path, DEEP), tmp_path / 'captions.json')
  split = folder(tmp_path, [{'video': 'x.mp4', 'caption': 'a' * 10 ** 6}])
  assert len(split.texts[0].text) == 10 ** 6
