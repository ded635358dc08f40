"""MM-Embed's whole pipeline: train, mine, train again, continue, rerank."""
import functools

from ml_collections import ConfigDict

from jaxret import processes, protocols, sharding
from jaxret import run as run_lib
from jaxret.data.sets import circo, mixed
from jaxret.methods import base, embedding_run
from jaxret.methods.mm_embed import evaluator, rerank_choice, rerank_run
from jaxret.methods.mm_embed import mine as mine_lib
from jaxret.methods.mm_embed import sets as mixed_sets
from jaxret.methods.mm_embed import tables as mixed_tables
from jaxret.methods.mm_embed import teacher as teacher_lib


def train_and_evaluate(config, workdir):
  """Trains all stages, mining between them, and evaluates each."""
  choosing = {}
  def opened(benchmarks):
    choosing.update(open_choosing(config, benchmarks))
  run, benchmarks = embedding_run.train_all(
      config, workdir, functools.partial(prepare, {}), opened)
  return judge(run, benchmarks, train_reranker, choosing)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or the weights it names."""
  run, benchmarks = embedding_run.open_trained(config, workdir)
  return judge(
      run, benchmarks, restore_reranker, open_choosing(config, benchmarks))


def mine(config, workdir):
  """Mines negatives for all sources into <workdir>/mined."""
  run, _ = embedding_run.open_trained(config, workdir)
  sets = mixed_sets.training_sets(config, config.pairs.sources)
  run_lib.leave_out_entries(config, workdir, 'train', [
      one for own in sets.values() for one in own.left_out])
  return {name: mine_lib.mine(name, training_set, config.seed,
                              *miner(run, config.method))
          for name, training_set in sets.items()}


def miner(run, row):
  """What mine.mine needs besides the training set: who mines, and where."""
  return (embedding_run.encoder(run, row, whole=True), run.workdir / 'mined',
          run.config.mine, sharding.local_mesh(), teacher_lib.of_run(run))


def prepare(known, run, stage, sources):
  """Gives the pairs of a stage the negatives that `negatives` names.

  A stage of this run, which mines them now, or directories of task=mine.
  known: {source: mixed.TrainingSet}, which earlier stages have read.
  """
  where, config = stage.config.negatives, run.config
  if not where:
    return sources
  names, given = stage.config.pairs.sources or tuple(sources), {}
  if not known.keys() >= set(names):
    known |= mixed_sets.training_sets(config, names)
  for name in names:
    training_set = known[name]
    directories = where.split(',')
    if where in run.trained:
      directories = [mined_directory(run, stage.config)]
      mine_stage(run, stage.config, name, training_set)
    negatives = processes.one_then_all(functools.partial(
        mine_lib.read, directories, name, training_set))
    mined = mixed.Pairs(training_set, config.seed, negatives)
    # Pairs whose media cannot be read were left out before.
    given[name] = mined if isinstance(sources[name], mixed.Pairs) else [
        mined[pair.row] for pair in sources[name]]
  return given


def open_choosing(config, benchmarks):
  """{name: mixed.Benchmark} of the split that chooses how much a reranker
  counts, for those of the reported ones of which tasks are reranked; {} where
  none chooses, or the reported one itself. Raises ValueError for a task that is
  to be reranked and that neither they nor what was trained on have.
  """
  settings = config.rerank
  known = {task.name for one in benchmarks for task in one.tasks}
  if unknown := set(settings.tasks) - known - set(config.pairs.sources):
    raise ValueError('rerank.tasks: nothing that is evaluated has '
                     f'{min(unknown)!r}: use some of '
                     f'{", ".join(sorted(known))}')
  reranked = {one.name: set(settings.tasks) & {task.name for task in one.tasks}
              for one in benchmarks}
  if settings.mode != 'chosen' or settings.choose_on == config.eval.split or (
      not any(reranked.values())):
    return {}
  found = {one.name: one for one in mixed_sets.evaluated(
      _on_split(config, settings.choose_on)) if reranked[one.name]}
  for name, one in found.items():
    lacking = reranked[name] - {task.name for task in one.tasks}
    if lacking:
      raise ValueError(f'{name} has no {min(lacking)} in its split '
                       f'{settings.choose_on!r}: set rerank.choose_on to one '
                       'that has, or another rerank.mode')
  return found


def _on_split(config, split):
  on = ConfigDict(config.to_dict())
  on.eval.split = split
  return on


def mine_stage(run, config, name, training_set):
  """Mines a source for a stage, with the row that its config names."""
  encoder, shared, _, *rest = miner(run, config.negatives)
  mine_lib.mine(
      name, training_set, config.seed, encoder, mined_directory(run, config),
      config.mine, *rest, shared=shared)


def mined_directory(run, config):
  """<workdir>/mined, or of another strategy than the run's <that>/<strategy>.

  All else that is mined with is the run's own.
  """
  directory, strategy = run.workdir / 'mined', config.mine.get('strategy')
  same = strategy == run.config.mine.get('strategy')
  return directory if same else directory / strategy


def judge(run, benchmarks, reranker, choosing):
  """Evaluates every row on every benchmark; returns the last one's results.

  reranker: (Run) -> a Reranker, called if there are tasks for it. choosing:
  what open_choosing gives.
  """
  results = None
  for benchmark in benchmarks:
    where = run.workdir / benchmark.name if len(benchmarks) > 1 else (
        run.workdir)
    union, rankings, chosen = evaluator.Union(benchmark), {}, None
    run.begin(embedding_run.evaluating(benchmark.name))
    for row in run.trained:
      rankings[row] = evaluator.rank(
          benchmark, union, embedding_run.encoder(run, row), where,
          sharding.local_mesh())
    names = {task.name for task in benchmark.tasks}
    if names & set(run.config.rerank.tasks):
      rankings['reranked'], chosen = rerank(
          run, reranker(run), rerank_run.Ranked(
              benchmark, union, rankings[run.config.method]),
          choosing.get(benchmark.name), where)
    if processes.first():
      results = publish(run, benchmark, union, rankings, where, chosen)
  return results


def rerank(run, model, reported, choosing, where):
  """(rankings of a rerank_run.Ranked, what was chosen for that, or None).

  choosing: the mixed.Benchmark that chooses, or None. (None, None) on other
  processes than the first.
  """
  settings = run.config.rerank
  directory = where / 'reranked' / run.config.eval.split
  if settings.mode != 'chosen':
    return (rerank_run.rerank_tasks(settings, model, *reported, directory)
            if processes.first() else None), None
  if choosing is not None:
    on = run._replace(config=_on_split(run.config, settings.choose_on))
    run_lib.leave_out_entries(
        on.config, run.workdir, settings.choose_on, choosing.left_out)
    union = evaluator.Union(choosing)
    choosing = rerank_run.Ranked(choosing, union, evaluator.rank(
        choosing, union, embedding_run.encoder(on, run.config.method),
        where / settings.choose_on, sharding.local_mesh()))
  if not processes.first():
    return None, None
  return rerank_run.rerank_as_chosen(
      settings, model, reported, choosing, directory)


def train_reranker(run):
  """The published reranker, or one that is trained on what was mined."""
  settings = run.config.rerank
  if settings.pretrained:
    return rerank_run.published(settings, run.mesh)
  config, params = run.trained[run.config.method]
  groups = []
  for source in settings.source.split(','):
    training_set = mixed_sets.training_sets(run.config, (source,))[source]
    groups += rerank_run.questions(
        settings, training_set, mine_lib.ranked(run.workdir / 'mined', source),
        run.config.seed)
  return rerank_run.train(
      run.config, run.workdir, run.mesh, run.tokenizer,
      run.embeds.model(config, run.tokenizer),
      base.merged(config, params), groups)


def restore_reranker(run):
  """The published reranker, or the one that this workdir's run trained."""
  settings = run.config.rerank
  if settings.pretrained:
    return rerank_run.published(settings, run.mesh)
  return rerank_run.restore(
      run.config, run.workdir, run.mesh, run.tokenizer,
      run.embeds.model(run.config, run.tokenizer))


def publish(run, benchmark, union, rankings, where, chosen=None):
  """Writes the results, or what a server is asked to judge.

  chosen: how much the reranker counts, see rerank_run.rerank_as_chosen.
  """
  if benchmark.name == 'circo':
    submit(benchmark, union, rankings, where)
  if not any(any(task.relevant) for task in benchmark.tasks):
    return None  # the answers are not public
  results = mixed_tables.tabulate(
      benchmark, union, rankings, run.config.eval.split)
  results['left_out'] = run_lib.left_out(run.workdir)
  if chosen:
    results['reranking'] = chosen
  results['tables'] += [*rerank_choice.tables(chosen),
                        *mine_lib.tables(run.workdir / 'mined')]
  protocols.add(results, run.config, run.config.eval.root
                or run.config.data.root, benchmark.tasks,
                pools=benchmark.pools.values())
  shown = run.config.eval.gallery_queries // 2
  run_lib.publish(
      run.config, where, results,
      gallery=mixed_tables.gallery(benchmark, union, rankings, shown, shown),
      queries=mixed_tables.all_queries(benchmark, union, rankings))
  return results


def submit(benchmark, union, rankings, where):
  """Writes submission.<row>.json for the server of CIRCO."""
  task = benchmark.tasks[0]
  where.mkdir(parents=True, exist_ok=True)
  for row, found in rankings.items():
    ranking = found[task.name, 'local']
    circo.write_submission(
        where / f'submission.{row}.json',
        [task.queries[q].id for q in ranking.kept],
        [[union[int(place)].id for place in places[:circo.SUBMITTED]]
         for places in ranking.candidates])
