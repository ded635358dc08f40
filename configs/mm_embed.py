"""MM-Embed: the whole pipeline on shapes world; its recipes; published weights.

Where the paper leaves a point open, the comment says so: [open].
"""
from ml_collections import ConfigDict

from configs import common, objectives, plans, reranking

LLAVA = 'llava-hf/llava-v1.6-mistral-7b-hf'
RECIPES = {
    'random': 'the published training on M-BEIR, with random negatives',
    'hard': 'the next stage, with negatives that task=mine found',
    'continual': 'the last stage, on text retrieval besides',
}
BENCHMARKS = {
    'mbeir': 'the published weights on M-BEIR',
    'beir': 'the published weights on BEIR',
    'circo': 'the published weights on CIRCO',
}
VARIANTS = {'': 'tiny models: start, random, hard, text, reranker, on shapes '
                'world',
            'negatives': 'tiny models: four kinds of mined negatives from one '
                         'start, on shapes world',
            'reranking': 'as the tiny models, also simple queries are reranked',
            **RECIPES, **BENCHMARKS}
# The paper counts eleven; these are the first of NV-Embed-v1's list.
TEXT_SETS = ('msmarco', 'hotpotqa', 'nq', 'paq', 'stackexchange', 'nli',
             'squad', 'arguana', 'bioasq', 'fiqa', 'fever')
# The five tasks of shapes world, with their shares in training.
TASKS = {'text_to_image': 3.0, 'image_to_text': 2.0, 'image_text_to_image': 3.0,
         'text_to_text': 0.5, 'image_to_image': 1.5}
# What the model knows before: pictures and texts, as LLaVA-NeXT with
# NV-Embed-v1 does; neither changes of pictures nor other drawings.
KNOWN = {'text_to_image': 3.0, 'image_to_text': 3.0, 'text_to_text': 1.0}



def get_config(variant=''):
  common.check('mm_embed', variant, VARIANTS)
  config = base()
  if not variant:
    shapes_world(config)
  elif variant == 'negatives':
    kinds_of_negatives(config)
  elif variant == 'reranking':
    two_kinds_of_queries(config)
  elif variant in RECIPES:
    recipe(config, variant)
  else:
    full_size(config, 'nvidia/MM-Embed')
    config.task, config.eval.benchmarks = 'evaluate', (variant,)
  return config


def shapes_world(config):
  """A start; random and hard negatives from there; then text besides."""
  splits = common.splits
  config.data.update(renderings=4, sizes=splits(1, 1, 1),  # no clips
                     images=splits(400, 80, 80), texts=splits(1350, 100, 100))
  # Few shapes: the model compiles longer than padding costs.
  config.data.shape = config.eval.shape = 48, 56
  config.data.candidate_shape = 28, 56
  config.before, config.starts_from = ('start', 'random', 'hard'), 'hard'
  config.start = stage(KNOWN, 150, negatives='')
  config.random = stage(TASKS, 120, negatives='', starts_from='start')
  config.hard = stage(TASKS, 150, starts_from='start')
  # A batch of one task contrasts no modalities; mined negatives do.
  config.pairs.update(per_source=True, sources=(*TASKS, 'texts'),
                      weights=(*TASKS.values(), 6.0))
  config.negatives, config.optim.learning_rate = 'random', 1.5e-3
  config.train.update(batch_size=64, steps=60)
  # What the query says comes before the candidate, which then is compared
  # with all of it, and little is said for each of the candidates.
  config.rerank.questions.image_text_to_image = (
      '<image>\n{query}\n<image>\nTrue or False')
  config.rerank.update(tasks=('image_text_to_image',), mode='chosen',
                       shape=(40, 1, 10, 32, 1),
                       train={'batch_size': 32, 'steps': 150})


def kinds_of_negatives(config):
  """Each from the same start, for as many steps, one negative a query."""
  shapes_world(config)
  del config.hard
  config.before, config.starts_from = ('start', 'random'), 'start'
  config.compare = 'any_modality', 'right_modality', 'random_mined'
  config.pairs.update(sources=tuple(TASKS), weights=tuple(TASKS.values()))
  config.train.steps, config.rerank.tasks = 150, ()
  config.any_modality = ConfigDict({'mine': {'strategy': 'any_modality'}})
  config.right_modality = ConfigDict({'mine': {'strategy': 'right_modality'}})
  config.random_mined = ConfigDict({'mine': {'strategy': 'random'}})


def two_kinds_of_queries(config):
  """A reranker that learns from both; of composed ones there are more."""
  shapes_world(config)
  both = 'image_text_to_image', 'text_to_image'
  config.rerank.questions.text_to_image = '{query}\n<image>\nTrue or False'
  config.rerank.update(tasks=both, source=','.join(both))
  config.rerank.train.steps = 300


def stage(tasks, steps, **fields):
  """A section of the config: what one training changes."""
  return ConfigDict({
      'pairs': {'sources': tuple(tasks), 'weights': tuple(tasks.values())},
      'train': {'steps': steps}, **fields})


def full_size(config, pretrained):
  config.model.update(
      pretrained=pretrained, vocab_size=0, rope_theta=0.0, dtype='bfloat16',
      param_dtype='bfloat16', remat=True)
  config.mesh.data, config.mesh.fsdp, config.plan.topology = 1, -1, 'v5e:4x4'


def recipe(config, stage):
  """The published stages; the global batch is that of eight GPUs."""
  full_size(config, 'nvidia/NV-Embed-v1')
  config.model.update(llava=LLAVA, tokenizer=LLAVA,
                      trainable=('lora/.*', 'params/projector/.*'))
  config.model.lora.update(rank=8, alpha=64, targets=(
      'decoder/layers/attention/[qkvo]', 'decoder/layers/mlp/(gate|up|down)'))
  config.data.update(name='mbeir', max_tokens=128, shape=(704, 336))
  config.eval.benchmarks = ()  # later, by task=evaluate
  config.optim.learning_rate = 2e-5 if stage == 'continual' else 1e-4
  config.train.update(batch_size=1024, epochs=2.0, accumulation_steps=16)
  if stage != 'random':
    config.negatives = 'workdirs/mm_embed-random/mined'
    config.train.batch_size = 512
  if stage == 'continual':  # batch size and shares of the sets are open
    config.init_from = 'workdirs/mm_embed-hard'
    config.data.update(text_sets=TEXT_SETS, max_tokens=512, shape=(1088, 336))
    config.train.update(epochs=0.0, steps=4500)


def base():
  config = common.base_embedder('mm_embed')
  config.update({
      'model': common.model(), 'rerank': reranking.rerank(),
      'vision': {
          'encoder': {
              **common.encoder(),
              'activation': 'quick_gelu'},  # of the MLP: 'gelu' or 'quick_gelu'
          'image_px': 56,  # side of an image, pixels
          'patch_px': 14},  # side of a patch, pixels
      'latent': {
          'latents': 32,  # vectors that hidden states attend to
          'heads': 2,  # attention heads
          'head_width': 64,  # numbers of a head
          'expansion': 1},  # hidden units of the MLP, in widths
      # A stage of this run that mines negatives for this one, or directories
      # that task=mine wrote, commas between; '' = those in the batch alone.
      'negatives': '',
      'mine': {
          'k': 50,  # candidates of a query that are found
          # Those of the right modality count after this rank: k'.
          'offset': 45,
          'part_queries': 65536}})  # queries that are searched for at a time
  common.add_weights(config, lora_alpha=64)
  config.model.update({
      # LLaVA-NeXT, whose tower and projector NV-Embed-v1 is trained with.
      'llava': '',
      # Where its retriever's config.json lies, if not at the name it gives.
      'retriever': '',
      # Base of the rotary frequencies; 0 = as its file says, or must say where
      # weights are given.
      'rope_theta': 1e4,
      # Regexes of whole parameter paths; 'params/latent_attention/.*' may be
      # trained, too [open], as targets and dropout of LoRA are.
      'trainable': ('.*',)}, vocab_size=768, norm_eps=1e-5)
  config.loss = ConfigDict({
      # Similarities are divided by it [open]; the released card hints at 0.01.
      'temperature': 0.05,
      # Whether a query's own document is no negative where the batch holds it
      # once more [open].
      'mask_duplicates': True})
  for add in objectives.add_objectives, objectives.add_mining, plans.add_mixed:
    add(config)
  config.data.update({
      # Sets in BEIR's layout to train on besides, where data.name is 'mbeir'.
      'text_sets': (),
      'text_root': '',  # directory of the folders of text_sets
      'subsets': (),  # of mteb's sets: what is before their names, as ('en',)
      'tidy': False,  # texts and instructions as UniIR tidies them [open]
      # data.shape of candidates and negatives; () = that of queries.
      'candidate_shape': (),
      'texts': {  # of shapes world
          'train': 0,  # scenes that text is compared on, to train
          'validation': 0,  # scenes to choose on
          'test': 0}})  # scenes to report
  # What queries of CIRCO are told; ours [open].
  config.eval.circo_instruction = (
      'Retrieve a day-to-day image that aligns with the modification '
      'instructions of the provided image.')
  return config
