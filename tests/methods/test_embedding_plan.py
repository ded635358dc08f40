"""What plans of embedders share: what is indexed, read, and served."""
import jax
import pytest

from configs import mm_embed as mm_embed_config
from configs import unite as unite_config
from jaxret import methods, rehearsal
from jaxret.methods import embedding_plan
from jaxret.methods.mm_embed import plan as mm_embed_plan
from jaxret.methods.unite import plan as unite_plan


def open_stages(**fields):
  config = unite_config.get_config()
  config.update(task='plan', before=(), compare=(), starts_from='')
  config.update_from_flattened_dict(fields)
  return embedding_plan.open_stages(
      config, '', unite_plan.pair_of, unite_plan.flops)


def test_an_hour_of_video_is_360_candidates():
  stages = open_stages(**{'plan.video_hours': 2.0, 'plan.candidates': 10,
                          'plan.candidate_frames': 2})
  job = embedding_plan.count_job(stages)
  assert list(job) == ['training unite', 'embedding', 'indexing']
  assert job['indexing'] == pytest.approx(72 * job['embedding'])
  none = open_stages(**{'plan.candidates': 10, 'plan.candidate_frames': 2})
  assert 'indexing' not in embedding_plan.count_job(none)


def test_each_job_reads_the_media_of_its_items(monkeypatch):
  monkeypatch.setattr(embedding_plan.input_speed, 'core_seconds',
                      lambda read: read() and 0.5)
  stages = open_stages(**{'plan.candidates': 10, 'train.steps': 3,
                          'train.batch_size': 4})
  assert embedding_plan.count_inputs(stages) == {
      'embedding': (10, 0.5), 'training unite': (12, 0.5)}
  texts = open_stages(**{'plan.candidate_frames': 0})
  assert embedding_plan.count_inputs(texts) == {}
  # An answer and two negatives: three images of each pair.
  config = mm_embed_config.get_config()
  config.update(task='plan', before=('start',), starts_from='start',
                negatives='start')
  config.mine.negatives = 2
  several = embedding_plan.open_stages(
      config, '', mm_embed_plan.pair_of, mm_embed_plan.flops)
  found = embedding_plan.count_inputs(several)
  assert found['training mm_embed'].core_seconds == 1.5
  assert found['training start'].core_seconds == 0.5


def test_embedding_is_planned_in_the_form_that_is_served():
  config = mm_embed_config.get_config()
  model = rehearsal.build(config)
  embeds = methods.embeds('mm_embed')
  sizes, params = embedding_plan._served(
      embeds, embeds.model(config, None), model.params)
  assert sizes.latent.folded and not embeds.model(config, None).latent.folded
  got = jax.eval_shape(lambda key: embeds.served(
      embeds.model(config, None), model.method.init(key))[1], jax.random.key(0))
  assert jax.tree.structure(got) == jax.tree.structure(params)
