"""The training loop, written once for all methods."""
import collections
import functools
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxret import (
  checkpoint,
  gradients,
  initial,
  optim,
  sharding,
  training_plan,
)
from jaxret.data import loader
from jaxret.interruption import Interruption
from jaxret.progress import Progress


class State(NamedTuple):
  """What a step changes and a checkpoint holds.

  step: int32 scalar, updates done. trainable: nested dict. optimizer: the
  optax state over it.
  """
  step: jax.Array
  trainable: Any
  optimizer: Any


def fit(method, examples, config, workdir, mesh, params=None, order=None,
        programs=None, instead=None):
  """Trains a method and returns its parameters, sharded by the rules.

  examples: what `method.examples` gives. params: where to start from, consumed
  (their buffers are donated); None = `method.load`, else `method.init`.
  config: seed, train, optim; see `training_plan` and `optim`. order, instead:
  which examples to draw, see loader.train_batches. programs: a dict that
  trainings of one Method share: the next one compiles nothing. A rerun with a
  workdir it had before goes on from the last checkpoint, bit for bit on CPU.
  Writes config.json, metrics.jsonl and checkpoints/ in `workdir`. A line of
  metrics holds means over the steps since the line before.
  Raises ValueError for a workdir of another config, or a loss that is not
  finite (naming step and examples); KeyboardInterrupt, after saving, when told
  to stop by SIGTERM or Ctrl-C.
  """
  plan = training_plan.make_plan(config.train, len(examples), mesh)
  checkpoint.claim_workdir(workdir, config)
  learning_rate, optimizer, update = _program(
      method, config, plan, mesh, {} if programs is None else programs)
  directory = pathlib.Path(workdir) / 'checkpoints'
  with checkpoint.Checkpoints(
      directory, config.train.keep_checkpoints) as checkpoints:
    step = checkpoints.latest_step()
    trainable, frozen = starting_point(
        method, config.seed, mesh, params, to_restore=step is not None)
    if step is None:
      state = init_state(optimizer, trainable, mesh)
    else:
      state = _resume(checkpoints, step, plan,
                      abstract_state(optimizer, trainable, mesh))
    _say(method.name, plan, config.train.batch_size, int(state.step))
    if int(state.step) < plan.total_steps:
      constants = {name: sharding.constant(mesh, array)
                   for name, array in examples.constants.items()}
      # Configs of old work directories, and of parts of a run, have no `log`.
      with Progress(workdir, int(state.step), plan.total_steps,
                    config.get('log', {}).get('to', ()),
                    checkpoint.plain_config(config)) as progress:
        state = _loop(
            plan, config, state, _batches(
                method, examples, plan.batch_size, config.seed, mesh,
                int(state.step), order, instead),
            lambda state, batch: update(state, frozen, constants, batch),
            _Watch(examples.ids), learning_rate, checkpoints, progress)
  return optim.merge(state.trainable, frozen)


def _say(name, plan, batch_size, step):
  """Says on the console what is trained, and on smaller batches than asked."""
  if step >= plan.total_steps:
    logging.info('already trained: %s, step %d of %d', name, step,
                 plan.total_steps)
    return
  if plan.batch_size < batch_size:
    logging.warning('%s has %d examples to train on: batches are of %d, not of '
                    'its train.batch_size, %d', name, plan.n_examples,
                    plan.batch_size, batch_size)
  logging.info('training %s on %d examples, %d steps; compiling the first '
               'one, up to a minute', name, plan.n_examples,
               plan.total_steps - step)


def _program(method, config, plan, mesh, programs):
  """(learning rate, optimizer, jitted step), made once for equal trainings."""
  key = method, plan, str(config.optim), config.seed, mesh
  if key not in programs:
    learning_rate = optim.schedule(
        config.optim, plan.epochs, plan.steps_per_epoch)
    optimizer = optim.make_optimizer(config.optim, learning_rate)
    programs[key] = learning_rate, optimizer, make_update(
        method, optimizer, mesh, config.seed, plan.accumulation_steps)
  return programs[key]


def restore_trained(method, config, workdir, mesh, params=None, step=None):
  """The parameters as a checkpoint of a workdir has them.

  params: the base the run started from, as for `fit`. step: of the checkpoint,
  None = the last. Raises ValueError when there is no such checkpoint, or when
  it does not fit the method.
  """
  directory, steps = trained_steps(workdir)
  trainable, frozen = starting_point(
      method, config.seed, mesh, params, to_restore=True)
  with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
    step = steps[-1] if step is None else step
    if step not in steps:
      raise ValueError(f'{directory} holds no step {step}, only {steps}: raise '
                       'train.keep_checkpoints to keep more')
    found = checkpoints.restore(step, {'trainable': trainable})
  return optim.merge(found['trainable'], frozen)


def trained_steps(workdir):
  """(directory, steps) of a workdir's checkpoints; ValueError without any."""
  directory = pathlib.Path(workdir) / 'checkpoints'
  if not directory.is_dir():
    raise ValueError(f'no checkpoints in {workdir}: train there first')
  with checkpoint.Checkpoints(directory, read_only=True) as checkpoints:
    steps = checkpoints.steps()
  if not steps:
    raise ValueError(f'no whole checkpoint in {directory}: train there first')
  return directory, steps


def init_params(method, seed, mesh):
  """Fresh or pretrained parameters, born sharded."""
  key = jax.random.split(jax.random.key(seed))[0]
  if method.load is not None:
    return method.load(key, mesh)
  places = sharding.shardings(mesh, initial.shapes(method.init))
  return jax.jit(method.init, out_shardings=places)(key)


def starting_point(method, seed, mesh, params=None, to_restore=False):
  """(trainable, frozen) of a run, on the mesh.

  params: None = from `init_params`. to_restore: what is trained will be read
  from a checkpoint; shapes stand for it where that spares its computation.
  """
  if params is None and to_restore:
    abstract = sharding.abstract(mesh, initial.shapes(method.init))
    trainable, frozen = optim.partition(abstract, method.trainable)
    if not frozen:
      return trainable, frozen
  if params is None:
    params = init_params(method, seed, mesh)
  return split_params(method, params, mesh)


def split_params(method, params, mesh):
  """(trainable, frozen), placed on the mesh by the sharding rules."""
  params = jax.device_put(params, sharding.shardings(mesh, params))
  return optim.partition(params, method.trainable)


def init_state(optimizer, trainable, mesh):
  """Step 0. The optimizer's moments are sharded like their parameters."""
  init = functools.partial(_state, optimizer)
  places = sharding.shardings(mesh, jax.eval_shape(init, trainable))
  return jax.jit(init, out_shardings=places, donate_argnums=0)(trainable)


def abstract_state(optimizer, trainable, mesh):
  """`init_state` as shapes; so may be the trainable parameters."""
  return sharding.abstract(mesh, jax.eval_shape(
      functools.partial(_state, optimizer), trainable))


def _state(optimizer, trainable):
  return State(jnp.int32(0), trainable, optimizer.init(trainable))


def make_update(method, optimizer, mesh, seed, accumulation_steps):
  """The jitted step (state, frozen, constants, batch) -> (state, metrics).

  The state is donated. Rows m, m + A, m + 2A, ... of the batch are micro-batch
  m of the A: no row leaves its device. Gradients, loss and metrics are means
  over the micro-batches; those of a method with `embedding_loss` are of the
  whole batch. metrics: float32 scalars, with `loss` and `gradient_norm`
  (before clipping).
  """
  rows = NamedSharding(mesh, P(None, sharding.BATCH_AXES))

  def split(array):  # [B, ...] -> [A, B / A, ...]
    array = array.reshape(-1, accumulation_steps, *array.shape[1:])
    return jax.lax.with_sharding_constraint(array.swapaxes(0, 1), rows)

  def step_gradients(trainable, frozen, constants, batch, key):
    if method.embedding_loss is None or accumulation_steps == 1:
      return _mean_gradients(
          method, trainable, frozen, constants, jax.tree.map(split, batch), key)
    return gradients.chunked(
        lambda trainable, rows, key: method.embed(
            optim.merge(trainable, frozen), constants, rows, key),
        method.embedding_loss, trainable, batch, accumulation_steps, key,
        lambda rows: jax.lax.with_sharding_constraint(
            rows, sharding.batch_sharding(mesh)))

  def update(state, frozen, constants, batch):
    train_key = jax.random.split(jax.random.key(seed))[1]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      found, metrics = step_gradients(
          state.trainable, frozen, constants, batch,
          jax.random.fold_in(train_key, state.step))
    changes, moments = optimizer.update(
        found, state.optimizer, state.trainable)
    trainable = jax.tree.map(jnp.add, state.trainable, changes)
    metrics['gradient_norm'] = _norm(found)
    return State(state.step + 1, trainable, moments), metrics

  return jax.jit(update, donate_argnums=0)


def _norm(tree):
  return optax.tree.norm(
      jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree))


# Not optax.microbatching: it has no key for each micro-batch and sums in the
# gradients' own dtype, and takes more lines where it is taught both.
def _mean_gradients(method, trainable, frozen, constants, batch, key):
  """Over the micro-batches of a batch [A, B / A, ...], one after the other.

  Returns (gradients like `trainable`, summed in float32; mean metrics).
  """
  def loss_fn(trainable, micro_batch, key):
    losses, metrics = method.loss(
        optim.merge(trainable, frozen), constants, micro_batch, key)
    return losses.mean(), metrics

  def add(total, inputs):
    number, micro_batch = inputs
    (loss, metrics), parts = jax.value_and_grad(loss_fn, has_aux=True)(
        trainable, micro_batch, jax.random.fold_in(key, number))
    total = jax.tree.map(
        lambda sums, part: sums + part.astype(jnp.float32), total, parts)
    return total, {**metrics, 'loss': loss}

  n = len(jax.tree.leaves(batch)[0])
  zeros = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape, jnp.float32), trainable)
  total, metrics = jax.lax.scan(add, zeros, (jnp.arange(n), batch))
  means = jax.tree.map(
      lambda sums, leaf: (sums / n).astype(leaf.dtype), total, trainable)
  return means, {name: value.mean() for name, value in metrics.items()}


def _resume(checkpoints, step, plan, state):
  """The state of a checkpoint; `state` has its shapes and shardings."""
  run = checkpoints.run(step)
  old = run['n_examples']
  if old != plan.n_examples:
    raise ValueError(
        f'{checkpoints.directory} was trained on {old} examples, the data now '
        f'has {plan.n_examples}: use another --workdir')
  size = run.get('batch_size', plan.batch_size)  # older ones were never less
  if size != plan.batch_size:
    raise ValueError(
        f'{checkpoints.directory} was trained on batches of {size}, the '
        f'{plan.n_examples} examples fill {plan.batch_size} on these devices: '
        'use as many devices as before, or another --workdir')
  found = checkpoints.restore(step, state._asdict())
  logging.info('resumed at step %d from %s', step, checkpoints.directory)
  return State(**found)


def _batches(method, examples, batch_size, seed, mesh, start_step, order,
             instead):
  """Yields (batch on the mesh, this process's example indices, amounts).

  amounts: what the whole batch counts for in the rates. Where processes load
  different rows, theirs are taken to hold as many tokens as ours.
  """
  index, count = sharding.process_rows(mesh)
  batches = loader.train_batches(
      examples, batch_size, seed, start_step, index, count, with_index=True,
      order=order, instead=instead)
  for batch in batches:
    chosen = batch.pop('index')
    amounts = {'examples': count * len(chosen),
               'tokens': count * method.tokens(batch),
               'model_flops': count * method.train_flops(batch)}
    yield sharding.global_batch(mesh, batch), chosen, amounts


def _loop(plan, config, state, batches, update, watch, learning_rate,
          checkpoints, progress):
  """Updates the state until the last step, or until told to stop."""
  first = int(state.step) + 1
  log_every = config.train.log_every_steps
  save_every = config.train.checkpoint_every_steps
  run = {'fingerprint': checkpoint.fingerprint(config),
         'n_examples': plan.n_examples, 'batch_size': plan.batch_size}
  with Interruption() as interruption:
    for step in range(first, plan.total_steps + 1):
      batch, chosen, amounts = next(batches)
      state, metrics = update(state, batch)
      watch.add(step, metrics, chosen)
      progress.count(**amounts)
      last = step == plan.total_steps
      stop = interruption.requested(step)
      log = last or step % log_every == 0
      save = last or stop or step % save_every == 0
      if log or save or step == first:
        watch.check_all()
      if log:
        progress.log(step, {
            'epoch': step / plan.steps_per_epoch, **watch.means(),
            'learning_rate': float(learning_rate(step - 1))})
      elif step == first:
        progress.start_clock()
      if save:
        position = divmod(step, plan.steps_per_epoch)
        checkpoints.save(step, state._asdict(), {
            **run, 'step': step, 'epoch': position[0],
            'batch_in_epoch': position[1]})
      if stop or (last and interruption.requested_since()):
        checkpoints.wait()
        raise KeyboardInterrupt(
            f'stopped at step {step} of {plan.total_steps}, which is saved in '
            f'{checkpoints.directory}: rerun with the same workdir to go on')
  return state


class _Watch:
  """Reads the metrics of each step while the next one runs.

  A loss that is not finite is found one step late at most, and always before
  anything is logged or saved, without making the device wait.
  """

  def __init__(self, ids):
    self._ids = ids
    self._waiting = collections.deque()
    self._seen = []

  def add(self, step, metrics, chosen):
    self._waiting.append((step, metrics, chosen))
    while len(self._waiting) > 1:
      self._check(*self._waiting.popleft())

  def check_all(self):
    while self._waiting:
      self._check(*self._waiting.popleft())

  def means(self):
    """Of each metric, over the steps since the last call."""
    seen, self._seen = self._seen, []
    return {name: float(np.mean([metrics[name] for metrics in seen]))
            for name in seen[0]}

  def _check(self, step, metrics, chosen):
    metrics = {name: float(value) for name, value
               in sharding.to_host(metrics).items()}
    if math.isfinite(metrics['loss'] + metrics['gradient_norm']):
      self._seen.append(metrics)
      return
    if jax.process_count() > 1:
      chosen = multihost_utils.process_allgather(chosen, tiled=True)
    ids = ', '.join(str(self._ids[i]) for i in np.unique(chosen))
    raise ValueError(
        f'loss {metrics["loss"]} with gradient norm '
        f'{metrics["gradient_norm"]} at step {step} on the examples {ids}: '
        'lower optim.learning_rate, or look at these examples; the checkpoints '
        'before this step are whole')
