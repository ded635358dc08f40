"""What a run trained is what a directory holds: to the bit, and by others."""
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxret
from jaxret import checkpoint, cli, embedding_settings, main
from jaxret.data import text
from jaxret.exporting import export as exporting
from jaxret.methods.leccr import method as leccr
from jaxret.models import leccr as leccr_lib
from jaxret.models import weight_files
from jaxret.models.qwen2_vl import files as qwen2_vl_files
from tests import tiny_exports, tiny_runs, tiny_unite

pytestmark = pytest.mark.usefixtures('one_device')

TEXTS = ['red square moves', 'blue']


def vectors(path, items=TEXTS, **options):
  return jaxret.load(path, **options).encode(items, show_progress=False)


@pytest.fixture(scope='module')
def unite(tmp_path_factory):
  directory = tmp_path_factory.mktemp('unite')
  return tiny_exports.unite(directory / 'run')[0]


@pytest.fixture(scope='module')
def exported(unite):
  return exporting.export(unite, unite.parent / 'out')


def test_unite_comes_back_to_the_bit(unite, exported):
  items = [*TEXTS, {'image': tiny_unite.pixels(0), 'text': 'up'}]
  np.testing.assert_array_equal(
      vectors(exported, items), vectors(unite, items))
  settings = embedding_settings.read(exported)
  assert settings['max_tokens'] == 160 and settings['prompt'].instructed is (
      False)


def test_what_was_exported_says_what_it_is(unite, exported):
  card = (exported / 'README.md').read_text()
  assert card.startswith('---\nlicense: apache-2.0\nlibrary_name: transformers')
  assert 'It was not evaluated' in card and str(unite) not in card
  command = re.search(r'^jaxret run [^`]*', card, re.MULTILINE)[0]
  assert '--config.model.width=16' in command
  config = json.loads((exported / 'config.json').read_text())
  assert config['torch_dtype'] == 'float32'
  assert not list(exported.parent.glob('.*partial'))


def test_another_dtype_is_said_and_written(unite, tmp_path):
  out = exporting.export(unite, tmp_path / 'out', dtype='bfloat16')
  tensors = safetensors.numpy.load_file(out / 'model.safetensors')
  assert {tensor.dtype.name for tensor in tensors.values()} == {'bfloat16'}
  assert json.loads((out / 'config.json').read_text())[
      'torch_dtype'] == 'bfloat16'


def base_model(exported, directory):
  """A published model: other names, shards, its own card, a buffer."""
  tensors = safetensors.numpy.load_file(exported / 'model.safetensors')
  tensors = {re.sub('^visual', 'model.visual', re.sub(
      r'^model\.', 'model.language_model.', key)): tensor
      for key, tensor in tensors.items()}
  directory.mkdir()
  for path in exported.iterdir():
    if path.suffix == '.json' and path.name != 'jaxret.json':
      (directory / path.name).write_bytes(path.read_bytes())
  weight_files.save(directory, {
      key: weight_files.Tensor(tensor.shape, tensor.dtype, lambda t=tensor: t)
      for key, tensor in tensors.items()}, shard_bytes=20000)
  (directory / 'README.md').write_text('---\nlicense: mit\n---\n')
  (directory / 'pytorch_model.bin').write_bytes(b'x')
  return directory


@pytest.fixture(scope='module')
def with_lora(exported):
  root = exported.parent
  base = base_model(exported, root / 'base')
  return base, *tiny_exports.unite(root / 'lora', **{
      'model.pretrained': str(base), 'model.tokenizer': '',
      'model.vocab_size': 0})


def test_lora_is_merged_under_the_names_of_its_base(with_lora, tmp_path):
  base, workdir, params = with_lora
  out = exporting.export(workdir, tmp_path / 'out')
  np.testing.assert_array_equal(vectors(out), vectors(workdir))
  names = safetensors.numpy.load_file(out / 'model.safetensors')
  assert 'model.language_model.layers.1.mlp.up_proj.weight' in names
  card = (out / 'README.md').read_text()
  assert 'license: mit' in card and 'merged into its weights' in card
  assert str(base) not in card and not (out / 'pytorch_model.bin').exists()
  loaded, found = qwen2_vl_files.read_config(out).config, vectors(out)
  assert np.abs(found - vectors(base, position_mode='sequential')).max() > 1e-3
  assert loaded.decoder.layers == 2 and 'lora' in params


def test_factors_are_merged_in_the_dtype_that_is_written():
  """1 and a part of a thousand are 1 in bfloat16, and not in float32."""
  config = tiny_unite.with_lora(tiny_unite.make_config())
  scale = config.model.lora.alpha / config.model.lora.rank
  params = {'params': {'up': {'kernel': jnp.ones((1, 1), jnp.bfloat16)}},
            'lora': {'up': {'a': jnp.full((1, 1), 1e-3 / scale),
                            'b': jnp.ones((1, 1))}}}
  for dtype, want in ((None, 1), ('float32', 1.001)):
    found = exporting.merged(config, params, dtype)['params']['up']['kernel']
    np.testing.assert_allclose(np.float32(found), want, atol=1e-7)


def test_the_factors_of_lora_alone(with_lora, tmp_path):
  base, workdir, _ = with_lora
  out = exporting.export(workdir, tmp_path / 'out', 'peft')
  np.testing.assert_allclose(
      vectors(base, adapter=out), vectors(workdir), atol=1e-6)
  assert {path.name for path in out.iterdir()} == {
      'README.md', 'adapter_config.json', 'adapter_model.safetensors',
      'jaxret.json', 'run.json'}
  assert "adapter='DIR'" in (out / 'README.md').read_text()


@pytest.mark.slow
def test_leccrs_text_tower(tmp_path):
  workdir, params = tiny_exports.leccr(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out')
  found = vectors(out)
  config = checkpoint.read_config(workdir)
  place = tmp_path / 'run' / 'tokenizer'
  tokenizer = text.load_tokenizer(place)
  encode = text.load_text_encoder_tokenizer(
      place, config.model.text.max_tokens).encode
  module = leccr_lib.Leccr(leccr.model_config(config, tokenizer))
  for one, vector in zip(TEXTS, found):
    tokens = np.array([encode(one)])
    np.testing.assert_allclose(
        vector, module.apply(params, tokens, tokens >= 0,
                             method='embed_texts')[0], atol=1e-6)
  with pytest.raises(ValueError, match='export one of those in it, de/leccr'):
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(config.to_dict()))
    exporting.export(tmp_path / 'run', tmp_path / 'other')


@pytest.mark.slow
def test_mm_embed_comes_back_to_the_bit(tmp_path):
  workdir, _ = tiny_exports.mm_embed(tmp_path / 'run')
  out = exporting.export(workdir, tmp_path / 'out')
  items = ['red square', {'image': tiny_unite.pixels(0), 'text': 'circle'}]
  np.testing.assert_array_equal(
      vectors(out, items, trim_text=True),
      vectors(workdir, items, trim_text=True))


@pytest.mark.parametrize('options, message', [
    ({'layout': 'gguf'}, "format 'gguf' is unknown; want one of transformers"),
    ({'dtype': 'int8'}, "dtype 'int8' is unknown"),
    ({'layout': 'peft'}, 'wants a run that trains with LoRA'),
    ({'layout': 'sentence-transformers'}, 'use --format=transformers')])
def test_what_a_run_has_no_layout_for(unite, tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    exporting.export(unite, tmp_path / 'out', **options)
  assert list(tmp_path.iterdir()) == []


def test_methods_without_a_layout_are_refused_by_name(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  checkpoint.claim_workdir(tmp_path, main.load_config(str(tiny_runs.CONFIG)))
  with pytest.raises(ValueError, match='blim: what it trains has no layout on'):
    exporting.export(tmp_path, tmp_path / 'out')


def test_a_directory_that_is_there_stays(unite, exported, capsys):
  (exported / 'mine').write_text('x')
  assert cli.main(['export', str(unite), f'--out={exported}']) == 1
  assert 'is there already' in capsys.readouterr().err
  (exported / 'mine').unlink()
  assert cli.main(['export', str(exported), '--out=x']) == 1
  assert 'is no workdir' in capsys.readouterr().err


def test_nothing_is_left_of_what_fails(unite, tmp_path, monkeypatch):
  def full(*args, **options):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(weight_files, 'save', full)
  assert cli.main(['export', str(unite), f'--out={tmp_path / "out"}']) == 1
  assert list(tmp_path.iterdir()) == []


class Api:
  """What huggingface_hub.HfApi is asked."""
  asked = []

  def create_repo(self, name, **options):
    self.asked.append(('create', name, options))

  def upload_folder(self, **options):
    self.asked.append(('upload', options.pop('repo_id'), options))
    return 'https://huggingface.co/me/model/commit/1'


def test_push(unite, tmp_path, monkeypatch, capsys):
  import huggingface_hub
  monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
  out = tmp_path / 'out'
  assert cli.main(['export', str(unite), f'--out={out}', '--push=me/model',
                   '--private', '--json']) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
      'out': str(out), 'pushed': 'https://huggingface.co/me/model/commit/1'}
  (_, name, made), (_, to, given) = Api.asked
  assert name == to == 'me/model' and made['private']
  assert given['folder_path'] == str(out)
  for flags, message in ((['--push=model'], 'want owner/name'),
                         (['--private'], 'has no effect without --push')):
    assert cli.main(['export', str(unite), f'--out={tmp_path / "b"}',
                     *flags]) == 1
    assert message in capsys.readouterr().err


def test_the_hub_refuses_in_one_line(tmp_path, monkeypatch):
  import huggingface_hub

  from jaxret.exporting import hub
  def refuse(self, name, **options):
    raise OSError('401 Client Error\nmore')
  monkeypatch.setattr(huggingface_hub.HfApi, 'create_repo', refuse)
  with pytest.raises(ValueError, match='401 Client Error') as error:
    hub.push(tmp_path, 'me/model')
  assert '\n' not in str(error.value)
