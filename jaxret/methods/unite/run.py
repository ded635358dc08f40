"""UNITE's run: stages of training, then any tasks."""
from jaxret import protocols, retrieval, sharding
from jaxret import run as run_lib
from jaxret.data.sets import splits
from jaxret.methods import embedding_run, unite


def train_and_evaluate(config, workdir):
  """Trains what the config names, then evaluates it."""
  return judge(*embedding_run.train_all(config, workdir))


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or the weights it names."""
  return judge(*embedding_run.open_trained(config, workdir))


def judge(run, evaluated):
  """Evaluates what was trained on every methods.evaluated.Evaluated.

  Of several each gets a directory of its own. Returns the results of the last,
  None on other processes.
  """
  results = None
  for one in evaluated:
    where = run.workdir / one.name if len(evaluated) > 1 else run.workdir
    encoders = {row: embedding_run.encoder(run, row, one.n_frames)
                for row in run.trained}
    run.begin(embedding_run.evaluating(one.name))
    results, answers = retrieval.evaluate(
        one.tasks, encoders, where, one.name, run.config.eval.split,
        one.recall_at, sharding.local_mesh())
    if results is not None:
      publish(run, one, results, answers, where)
  return results


def publish(run, one, results, answers, where):
  """Completes the results of an Evaluated and writes them, and the report."""
  if one.groups:
    results['means'] = retrieval.group_means(results, one.groups)
  note = one.split and splits.note(
      run_lib.trained_on(run.config, run.workdir), one.split)
  if note:
    results['note'] = note
  results['differences'] = retrieval.differences(
      answers, unite.PAIRS, one.recall_at)
  protocols.add(results, run.config, one.root, one.tasks,
                protocols.counts_of(results), n_frames=one.n_frames)
  results['left_out'] = run_lib.left_out(run.workdir)
  shown = run.config.eval.gallery_queries // 2
  run_lib.publish(
      run.config, where, results,
      gallery=retrieval.gallery(answers, shown, shown),
      queries=retrieval.all_queries(answers))
