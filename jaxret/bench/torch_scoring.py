"""The same scores in PyTorch: Qwen2 of `transformers`, on all CPU cores.

`torch` is the authors' protocol: six full passes per pair (each direction
scores both matrices and its prior again), batches of 16, logits at every
position of a caption pass. `prefix-torch` encodes each prefix once and keeps
its keys and values; each pair is then four passes of its suffixes, one for each
likelihood and each prior, as the protocol has them. `likelihood-torch` is the
same without the priors: two passes per pair, and nothing to normalize with.
"""
import os
import time

import numpy as np
import torch
import transformers

from jaxret import sharding

BATCH = 16


def run(name, job, ours, seconds, log):
  """Scores a sample of the pairs for about `seconds`, and compares.

  Returns {'baseline_pairs_per_s', 'baseline_pairs', 'baseline_seconds',
  'max_abs_difference'}.
  """
  torch.set_num_threads(os.cpu_count())
  scorer = {'torch': Reference, 'prefix-torch': PrefixCached,
            'likelihood-torch': Likelihoods}[name](job)
  log(f'{name}: PyTorch {torch.__version__}, {torch.get_num_threads()} threads')
  with torch.inference_mode():
    scorer.batch(0)  # first calls are slow
    pairs, taken, difference = 0, 0.0, 0.0
    number = 0
    while taken < seconds and number < scorer.batches:
      start = time.perf_counter()
      scores = scorer.batch(number)
      taken += time.perf_counter() - start
      pairs += scorer.pairs(number)
      number += 1
      for quantity, (place, values) in scores.items():
        difference = max(difference, float(np.abs(
            values - ours[quantity][place]).max()))
      log(f'{name}: {pairs} pairs in {taken:.1f} s, '
          f'largest difference {difference:.1e}')
  return {'baseline_pairs_per_s': pairs / taken, 'baseline_pairs': pairs,
          'baseline_seconds': taken, 'max_abs_difference': difference}


class Model:
  """Our parameters in transformers' Qwen2, with projectors and heads."""

  def __init__(self, job):
    c = job.vlm.decoder
    self.vlm, self.prompts = job.vlm, job.prompts
    config = transformers.Qwen2Config(
        vocab_size=c.vocab_size, hidden_size=c.width,
        intermediate_size=c.mlp_width, num_hidden_layers=c.layers,
        num_attention_heads=c.heads, num_key_value_heads=c.kv_heads,
        rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta,
        tie_word_embeddings=False, attn_implementation='sdpa')
    self.qwen2 = transformers.Qwen2ForCausalLM(config).eval()
    flat = {path: torch.from_numpy(np.array(leaf, np.float32)) for path, leaf
            in sharding.flatten(sharding.to_host(job.params)).items()}
    self.qwen2.load_state_dict(_state_dict(flat, c.layers))
    self.flat = flat
    self.features = torch.from_numpy(job.features)
    self.vocabulary = torch.from_numpy(job.vocabulary)
    self.embed = self.qwen2.get_input_embeddings()

  def project(self, name, features):
    path = f'params/projector/{name}'
    x = features @ self.flat[f'{path}/in/kernel'] + self.flat[
        f'{path}/in/bias']
    return torch.nn.functional.gelu(x) @ self.flat[
        f'{path}/out/kernel'] + self.flat[f'{path}/out/bias']

  def clip_log_softmax(self, hidden, clip):
    """hidden [..., D] -> log P of that clip of every video, [..., V]."""
    queries = hidden @ self.flat['params/visual_head/kernel']
    logits = queries @ self.vocabulary[:, clip].T
    return torch.log_softmax(logits * self.vocabulary.shape[-1] ** -0.5, -1)

  def embedded(self, tokens, visual):
    """Embeddings of one sequence, `visual` [n, D] or None filled in."""
    tokens = torch.from_numpy(np.asarray(tokens, np.int64))
    x = self.embed(tokens.clamp(min=0))
    if visual is not None:
      x[tokens == self.prompts.visual] = visual
    return x


def _state_dict(flat, layers):
  """Our parameters under the names of transformers, kernels transposed."""
  decoder = 'params/decoder/'
  state = {
      'model.embed_tokens.weight': flat[f'{decoder}embed/embedding'],
      'model.norm.weight': flat[f'{decoder}final_norm/scale'],
      'lm_head.weight': flat[f'{decoder}lm_head/kernel'].T}
  parts = {'attention/q': 'self_attn.q_proj', 'attention/k': 'self_attn.k_proj',
           'attention/v': 'self_attn.v_proj', 'attention/o': 'self_attn.o_proj',
           'mlp/gate': 'mlp.gate_proj', 'mlp/up': 'mlp.up_proj',
           'mlp/down': 'mlp.down_proj', 'attention_norm': 'input_layernorm',
           'mlp_norm': 'post_attention_layernorm'}
  for path, leaf in flat.items():
    part, _, kind = path.removeprefix(f'{decoder}layers/').rpartition('/')
    if not path.startswith(f'{decoder}layers/'):
      continue
    name = 'bias' if kind == 'bias' else 'weight'
    for layer in range(layers):
      value = leaf[layer].T if kind == 'kernel' else leaf[layer]
      state[f'model.layers.{layer}.{parts[part]}.{name}'] = value
  return state


class Reference(Model):
  """Six passes per pair, as the authors' evaluation runs them."""

  def __init__(self, job):
    super().__init__(job)
    videos, texts = len(self.features), len(self.prompts.labels)
    # Batches from all over the matrix.
    self.sample = np.random.default_rng(0).permutation(videos * texts)
    self.sample = np.stack(np.divmod(self.sample, texts), 1)
    self.batches = len(self.sample) // BATCH

  def pairs(self, number):
    return BATCH

  def batch(self, number):
    videos, texts = self.sample[number * BATCH:(number + 1) * BATCH].T
    by_video, by_text = (videos, texts), (texts, videos)
    for _ in range(2):  # once for each direction
      text = self.text_pass(videos, texts, prior=False)
      video = self.video_pass(videos, texts, prior=False)
    return {'text_given_video': (by_video, text),
            'video_given_text': (by_text, video),
            'text_prior': (texts, self.text_pass(videos, texts, prior=True)),
            'video_prior': (by_text,
                            self.video_pass(videos, texts, prior=True))}

  def forward(self, rows, masks):
    """(logits, hidden) of right-padded rows under their key masks."""
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True)
    out = self.qwen2(inputs_embeds=x, attention_mask=mask.long(),
                     position_ids=torch.arange(x.shape[1])[None],
                     use_cache=False, output_hidden_states=True)
    return out.logits, out.hidden_states[-1]

  def text_pass(self, videos, texts, prior):
    prefix = self.prompts.visual_prefix
    visual = self.project('vtg', self.features[videos]).flatten(1, 2)
    rows, masks = [], []
    for row, text in enumerate(texts):
      tokens = np.concatenate([prefix, self.prompts.labels[text]])
      rows.append(self.embedded(tokens, visual[row]))
      masks.append(torch.from_numpy(
          (tokens != self.prompts.visual) | (not prior)))
    logits, _ = self.forward(rows, masks)
    values = []
    for row, text in enumerate(texts):
      labels = torch.from_numpy(self.prompts.labels[text]).long()
      first = len(prefix) - 1
      values.append(-torch.nn.functional.cross_entropy(
          logits[row, first:first + len(labels)], labels))
    return torch.stack(values).numpy()

  def video_pass(self, videos, texts, prior):
    clips = self.project('tvg', self.features[videos]).mean(2)
    rows, masks = [], []
    for row, text in enumerate(texts):
      prefix = self.prompts.text_prefixes[text]
      tokens = np.concatenate(
          [prefix, np.full(clips.shape[1], self.prompts.visual)])
      rows.append(self.embedded(tokens, clips[row]))
      place = np.arange(len(tokens))
      hidden = (place >= self.prompts.prior_length) & (place < len(prefix))
      masks.append(torch.from_numpy(~(hidden & prior)))
    _, hidden = self.forward(rows, masks)
    values = []
    for row, text in enumerate(texts):
      first = len(self.prompts.text_prefixes[text]) - 1
      values.append(torch.stack([
          self.clip_log_softmax(hidden[row, first + k], k)[videos[row]]
          for k in range(clips.shape[1])]).mean())
    return torch.stack(values).numpy()


class Likelihoods(Model):
  """Each prefix once, then batches of suffixes on copies of its cache."""

  def __init__(self, job):
    super().__init__(job)
    self.video_clips = self.project('tvg', self.features).mean(2)
    # A unit of work: one video with all texts, or one text with all videos.
    # They alternate in proportion, so that a sample is a share of the whole.
    videos, texts = len(self.features), len(self.prompts.labels)
    units = [((v + 0.5) / videos, 'video', v) for v in range(videos)]
    units += [((t + 0.5) / texts, 'text', t) for t in range(texts)]
    self.units, self.batches = sorted(units), len(units)
    self.shape = videos, texts

  def pairs(self, number):
    """Half of a pair is its text given the video, half the reverse."""
    kind = self.units[number][1]
    return (self.shape[1] if kind == 'video' else self.shape[0]) / 2

  def batch(self, number):
    _, kind, index = self.units[number]
    return (self.texts_of if kind == 'video' else self.videos_of)(index)

  def texts_of(self, video):
    return {'text_given_video': (
        (video,), self.captions_after(self.visual_prefix(video), None))}

  def videos_of(self, text):
    tokens = self.prompts.text_prefixes[text]
    last, cache = self.prefix(self.embedded(tokens, None))
    return {'video_given_text': (
        (text,), self.clips_after(self.clip_log_softmax(last, 0), cache,
                                  len(tokens)))}

  def visual_prefix(self, video):
    visual = self.project('vtg', self.features[video]).flatten(0, 1)
    return self.embedded(self.prompts.visual_prefix, visual)

  def prefix(self, x, mask=None):
    """Last hidden state [D] and the cache of one prefix [S, D]."""
    cache = transformers.DynamicCache()
    out = self.qwen2.model(
        inputs_embeds=x[None], past_key_values=cache, use_cache=True,
        attention_mask=mask, position_ids=torch.arange(len(x))[None])
    return out.last_hidden_state[0, -1], cache

  def suffixes(self, cache, x, start, mask=None):
    """Hidden states [C, T, D] from position `start` after copies of a cache.

    mask: int [1, keys of the cache + T], 0 where a key is not seen.
    """
    copies = transformers.DynamicCache()
    for layer, kept in enumerate(cache.layers):
      copies.update(kept.keys.expand(len(x), -1, -1, -1),
                    kept.values.expand(len(x), -1, -1, -1), layer)
    return self.qwen2.model(
        inputs_embeds=x, past_key_values=copies, use_cache=True,
        attention_mask=None if mask is None else mask.expand(len(x), -1),
        position_ids=start + torch.arange(x.shape[1])[None]).last_hidden_state

  def captions_after(self, x, seen):
    """Mean log-likelihood of every caption; seen int [S]: the keys in sight."""
    last, cache = self.prefix(x, None if seen is None else seen[None])
    first = torch.log_softmax(self.qwen2.lm_head(last), -1)
    values = []
    for start in range(0, len(self.prompts.labels), BATCH):
      labels = [torch.from_numpy(label).long()
                for label in self.prompts.labels[start:start + BATCH]]
      padded = torch.nn.utils.rnn.pad_sequence(
          labels, batch_first=True, padding_value=-100)
      words = self.embed(padded[:, :-1].clamp(min=0))
      mask = None if seen is None else torch.nn.functional.pad(
          seen, (0, words.shape[1]), value=1)[None]
      hidden = self.suffixes(cache, words, len(x), mask)
      rest = torch.nn.functional.cross_entropy(
          self.qwen2.lm_head(hidden).flatten(0, 1), padded[:, 1:].flatten(),
          reduction='none').view(len(labels), -1).sum(1)
      count = torch.tensor([len(label) for label in labels])
      values.append((first[padded[:, 0]] - rest) / count)
    return torch.cat(values).numpy()

  def clips_after(self, first, cache, start):
    """Mean log-likelihood of the clips of every video, clip 1 from `first`."""
    values, clips = [], self.video_clips.shape[1]
    for index in torch.arange(len(self.features)).split(BATCH):
      hidden = self.suffixes(cache, self.video_clips[index, :-1], start)
      total = first[index] + self.later_clips(hidden, index)
      values.append(total / clips)
    return torch.cat(values).numpy()

  def later_clips(self, hidden, index):
    """log P of clips 2 and on of videos `index` [C]; hidden [C, clips - 1, D].
    """
    return sum(self.clip_log_softmax(hidden[:, k], k + 1).gather(
        1, index[:, None])[:, 0] for k in range(hidden.shape[1]))


class PrefixCached(Likelihoods):
  """Both priors as well, pair by pair, by masks as in the protocol."""

  def texts_of(self, video):
    seen = torch.from_numpy(
        self.prompts.visual_prefix != self.prompts.visual).long()
    prior = self.captions_after(self.visual_prefix(video), seen)
    return {**super().texts_of(video),
            'text_prior': (np.arange(len(prior)), prior)}

  def videos_of(self, text):
    tokens = self.prompts.text_prefixes[text]
    known = self.prompts.prior_length
    x = self.embedded(tokens, None)
    _, cache = self.prefix(x[:known])
    values, clips = [], self.video_clips.shape[1]
    # The token before clip 1 predicts it, unseen by the clips after it.
    mask = torch.ones(1, known + clips, dtype=torch.long)
    mask[0, known] = 0
    for index in torch.arange(len(self.features)).split(BATCH):
      suffix = torch.cat([x[-1].expand(len(index), 1, -1),
                          self.video_clips[index, :-1]], 1)
      hidden = self.suffixes(cache, suffix, len(tokens) - 1, mask)
      first = self.clip_log_softmax(hidden[:, 0], 0)
      total = first.gather(1, index[:, None])[:, 0]
      total += self.later_clips(hidden[:, 1:], index)
      values.append(total / clips)
    return {**super().videos_of(text),
            'video_prior': ((text,), torch.cat(values).numpy())}
