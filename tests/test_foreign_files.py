"""What stands where a file of a model should is said in one line."""
import json
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret import foreign_files
from jaxret.data import text
from jaxret.models import bert, clip, model_files, pretrained
from tests import tiny_unite

SAVED = pathlib.Path(__file__).parent / 'models/checkpoints/5.24.0'
POINTER = (b'version https://git-lfs.github.com/spec/v1\n'
           b'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca2'
           b'4d17e2393\nsize 4973\n')
PAGE = b'<!DOCTYPE html>\n<html lang="en">Sign in</html>'
STAND_INS = {
    'lfs': (POINTER, 'a git-lfs pointer, not the file itself; run `git lfs '
            'pull` in its directory'),
    'page': (PAGE, r'a web page \(HTML\), not the file itself; download'),
    'bom': (b'\xef\xbb\xbf\n' + PAGE, r'a web page \(HTML\)'),
    'empty': (b'', 'an empty file; download it again'),
    'blank': (b'\n\n', 'an empty file; download it again')}


@pytest.fixture
def model(tmp_path):
  """A tiny Qwen2-VL, tokenizer and all."""
  directory = tmp_path / 'model'
  shutil.copytree(SAVED / 'qwen2_vl_untied', directory)
  tiny_unite.tokenizer()
  for file in pathlib.Path(tiny_unite.tokenizer_directory()).iterdir():
    shutil.copy(file, directory)
  (directory / 'trained_on.json').unlink()  # what others save has none
  return directory


def refused(message, call, *args, **options):
  """The message of a ValueError that matches, of one line."""
  with pytest.raises(ValueError, match=message) as caught:
    call(*args, **options)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('kind', STAND_INS)
@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json',
                                  'tokenizer_config.json'])
def test_in_place_of_json(model, name, kind):
  content, message = STAND_INS[kind]
  (model / name).write_bytes(content)
  assert refused(message, jaxret.load, model).startswith(f'{model / name}: ')


@pytest.mark.parametrize('kind', STAND_INS)
def test_in_place_of_weights_and_their_index(model, kind):
  content, message = STAND_INS[kind]
  if kind != 'blank':  # a header of no safetensors
    (model / 'model.safetensors').write_bytes(content)
    refused(f'model.safetensors: {message}', pretrained.open_checkpoint, model)
  (model / 'model.safetensors').unlink()
  (model / 'model.safetensors.index.json').write_bytes(content)
  refused(f'index.json: {message}', pretrained.open_checkpoint, model)


@pytest.mark.parametrize('content, message', [
    (b'{"a": ', r'config.json: not JSON \(Expecting value'),
    (b'[1]', 'config.json: got a JSON list, want an object'),
    (b'\xff\xfe', 'config.json: not JSON'),
    (b'[' * 100_000, 'config.json: not JSON')])
def test_damaged_json_is_named(tmp_path, content, message):
  file = tmp_path / 'config.json'
  file.write_bytes(content)
  refused(message, foreign_files.read_object, file)
  refused(message, jaxret.load, tmp_path)
  file.unlink()
  refused('missing; download it again', lambda: (_ for _ in ()).throw(
      foreign_files.refusal(file, '')))


def test_a_damaged_tokenizer_is_named(model):
  (model / 'tokenizer.json').write_text('{}')
  refused(r'tokenizer.json: no tokenizer \(', text.load_tokenizer, model)
  (model / 'tokenizer_config.json').write_text('[]')
  refused('tokenizer_config.json: got a JSON list', text.load_tokenizer, model)


def test_a_file_cut_short_is_named(model):
  file = model / 'model.safetensors'
  whole = file.read_bytes()
  for size in (len(whole) - 1, len(whole) // 2, 100, 7, 1):
    file.write_bytes(whole[:size])
    assert refused(r'not a whole safetensors file \(.*download it again$',
                   pretrained.open_checkpoint, model).startswith(f'{file}: ')


CONVERT = ('convert them with transformers: '
           '`AutoModel.from_pretrained(DIR).save_pretrained(NEW)`')


@pytest.mark.parametrize('name, what, advice', [
    ('pytorch_model.bin', "PyTorch's pickles", CONVERT),
    ('pytorch_model-00001-of-00002.bin', "PyTorch's pickles", CONVERT),
    ('x-Q4_K_M.gguf', 'GGUF', CONVERT),
    ('consolidated.00.pth', "PyTorch's pickles", CONVERT),
    ('model.onnx', 'ONNX', 'take the model that it was made from'),
    ('tf_model.h5', "TensorFlow's weights", CONVERT),
    ('flax_model.msgpack', "Flax's weights", CONVERT),
    ('zero_to_fp32.py', "DeepSpeed's parts", 'run `python zero_to_fp32.py DIR '
     'NEW --safe_serialization` there'),
    ('pytorch_model_fsdp_0/__0_0.distcp', "FSDP's parts",
     'join them with `accelerate merge-weights DIR NEW`')])
def test_weights_of_other_formats_are_named(model, name, what, advice):
  (model / 'model.safetensors').unlink()
  file = model / name
  file.parent.mkdir(exist_ok=True)
  file.write_bytes(b'weights')
  assert refused('is not read; ', pretrained.open_checkpoint, model) == (
      f'{model}: got no model.safetensors and no model.safetensors.index.'
      f'json, but {file.name} ({what}), which is not read; {advice}')


def test_the_directory_around_a_model_names_it(model):
  for call in (jaxret.load, model_files.read_json):
    assert refused('no such file', call, model.parent) == (
        f'{model.parent / "config.json"}: no such file; want the directory of '
        'a model, as model in it is')


def test_weights_that_were_not_gathered_are_named(model):
  file = model / 'model.safetensors'
  tensors = safetensors.numpy.load_file(file)
  key = 'model.layers.1.mlp.down_proj.weight'
  safetensors.numpy.save_file({**tensors, key: np.zeros(0, np.float32)}, file)
  refused(f"{key} is empty, as DeepSpeed's ZeRO-3 leaves what it has not "
          'gathered; run `python zero_to_fp32.py', jaxret.load, model)


def test_weights_of_another_name_are_named(model):
  (model / 'model.safetensors').rename(model / 'model.fp16.safetensors')
  refused('but model.fp16.safetensors; give it that name if',
          pretrained.open_checkpoint, model)
  (model / 'model.fp16.safetensors').unlink()
  refused('want safetensors: convert other formats first',
          pretrained.open_checkpoint, model)


def hub(monkeypatch, directory, name='someone/model'):
  """Has the hub give a directory for a name."""
  def download(asked, **options):
    assert asked == name and '*.safetensors' in options['allow_patterns']
    return str(directory)
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)


def test_a_hub_model_without_safetensors_is_named(model, monkeypatch):
  hub(monkeypatch, model)
  (model / 'model.safetensors').unlink()
  refused('hub model someone/model holds no safetensors, and other formats are '
          'not read; convert', pretrained.open_checkpoint, 'someone/model')
  (model / 'config.json').unlink()
  refused('^hub model someone/model: holds no config.json; want a model as',
          model_files.read_json, 'someone/model')


def index(directory, places):
  (directory / 'model.safetensors.index.json').write_text(
      json.dumps({'weight_map': places}))


def test_shards_that_do_not_fit_their_index(model):
  tensors = safetensors.numpy.load_file(model / 'model.safetensors')
  (model / 'model.safetensors').unlink()
  places = {key: f'{number % 2}.safetensors'
            for number, key in enumerate(tensors)}
  for shard in ('0.safetensors', '1.safetensors'):
    safetensors.numpy.save_file(
        {key: tensors[key] for key in tensors if places[key] == shard},
        model / shard)
  index(model, places)
  assert set(pretrained.open_checkpoint(model).tensors) == set(tensors)
  index(model, places | {'visual.more': '1.safetensors'})
  refused('1.safetensors: lacks visual.more, which model.safetensors.index.json'
          ' says it holds: .* download', pretrained.open_checkpoint, model)
  (model / '1.safetensors').unlink()
  refused('lists 1.safetensors, which is missing; download the model again',
          pretrained.open_checkpoint, model)


def test_a_tensor_in_two_shards_is_that_which_the_index_names(tmp_path):
  for shard, value in (('0.safetensors', 0), ('1.safetensors', 1)):
    safetensors.numpy.save_file(
        {'x': np.full(2, value, np.float32)}, tmp_path / shard)
  index(tmp_path, {'x': '0.safetensors', 'y': '1.safetensors'})
  refused('1.safetensors: lacks y', pretrained.open_checkpoint, tmp_path)
  safetensors.numpy.save_file({'x': np.ones(2, np.float32), 'y': np.ones(1)},
                              tmp_path / '1.safetensors')
  found = pretrained.open_checkpoint(tmp_path).tensors
  assert set(found) == {'x', 'y'} and not found['x'][:].any()


@pytest.mark.parametrize('whole', [
    {}, {'weight_map': []}, {'weight_map': {'x': 1}},
    {'weight_map': {'x': '../outside.safetensors'}},
    {'weight_map': {'x': '/etc/passwd'}}])
def test_an_index_keeps_to_its_directory(tmp_path, whole):
  (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(whole))
  refused('want a weight_map {name: file beside the index}',
          pretrained.open_checkpoint, tmp_path)


def test_one_file_comes_before_an_index_as_for_transformers(model):
  other = model / 'other.safetensors'
  safetensors.numpy.save_file({'x': np.ones(2)}, other)
  index(model, {'x': other.name})
  assert 'x' not in pretrained.open_checkpoint(model).tensors


ADAPTER = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4,
           'base_model_name_or_path': 'Qwen/Qwen2-VL-2B-Instruct'}


def adapter_directory(directory, **changes):
  directory.mkdir(exist_ok=True)
  (directory / 'adapter_config.json').write_text(json.dumps(ADAPTER | changes))
  safetensors.numpy.save_file(
      {'x.lora_A.weight': np.ones((2, 3), np.float32)},
      directory / 'adapter_model.safetensors')
  return directory


READ = (jaxret.load, model_files.read_json, pretrained.open_checkpoint,
        bert.open_bert, clip.open_clip)


@pytest.mark.parametrize('call', READ)
@pytest.mark.parametrize('with_config', [False, True])
def test_an_adapter_is_no_model(tmp_path, call, with_config):
  directory = adapter_directory(tmp_path / 'adapter')
  if with_config:
    shutil.copy(SAVED / 'qwen2_vl_untied/config.json', directory)
  assert refused('an adapter .LORA. of', call, directory) == (
      f'{directory}: an adapter (LORA) of Qwen/Qwen2-VL-2B-Instruct, no model: '
      'load its base and give this as adapter: jaxret.load('
      f"'Qwen/Qwen2-VL-2B-Instruct', adapter='{directory}')")


@pytest.mark.parametrize('call', READ)
def test_an_adapter_on_the_hub_is_no_model(tmp_path, monkeypatch, call):
  hub(monkeypatch, adapter_directory(tmp_path / 'snapshot'), 'someone/adapter')
  refused(r"^someone/adapter: an adapter .LORA. of Q.*adapter='someone/ada",
          call, 'someone/adapter')


def test_an_adapter_that_names_no_base(tmp_path):
  directory = adapter_directory(
      tmp_path / 'adapter', base_model_name_or_path=None, peft_type='IA3')
  refused('an adapter .IA3. of an unnamed base, no model: .*.BASE., adapter=',
          jaxret.load, directory)


def test_an_adapter_beside_weights_is_not_passed_over(model):
  """transformers would load its base and the adapter, not these weights."""
  adapter_directory(model)
  for call in (jaxret.load, pretrained.open_checkpoint):
    refused('holds adapter_config.json beside model.safetensors, and which of '
            'the two is meant is not to be seen: jaxret.load', call, model)
  # What opens it as an adapter reads on.
  found = pretrained.open_checkpoint(model, 'adapter_model')
  assert set(found.tensors) == {'x.lora_A.weight'}
