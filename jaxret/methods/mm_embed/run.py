"""MM-Embed's whole pipeline: train, mine, train again, continue, rerank."""
import functools

from jaxret import processes, protocols, sharding
from jaxret import run as run_lib
from jaxret.data.sets import circo, mixed
from jaxret.methods import base, embedding_run
from jaxret.methods.mm_embed import evaluator, rerank_run
from jaxret.methods.mm_embed import mine as mine_lib
from jaxret.methods.mm_embed import sets as mixed_sets
from jaxret.methods.mm_embed import tables as mixed_tables
from jaxret.methods.mm_embed import teacher as teacher_lib


def train_and_evaluate(config, workdir):
  """Trains all stages, mining between them, and evaluates each."""
  run, benchmarks = embedding_run.train_all(config, workdir, prepare)
  return judge(run, benchmarks, train_reranker)


def evaluate(config, workdir):
  """Evaluates what was trained in this workdir, or the weights it names."""
  run, benchmarks = embedding_run.open_trained(config, workdir)
  return judge(run, benchmarks, restore_reranker)


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


def prepare(run, stage, sources):
  """Gives the pairs of a stage the negatives that `negatives` names.

  A stage of this run, which mines them now, or directories of task=mine.
  """
  where, config = stage.config.negatives, run.config
  if not where:
    return sources
  names, given = stage.config.pairs.sources or tuple(sources), {}
  for name, training_set in mixed_sets.training_sets(config, names).items():
    if name not in names:
      continue
    directories = where.split(',')
    if where in run.trained:
      directories = [run.workdir / 'mined']
      mine_lib.mine(name, training_set, config.seed, *miner(run, where))
    negatives = processes.one_then_all(functools.partial(
        mine_lib.read, directories, name, training_set))
    mined = mixed.Pairs(training_set, config.seed, negatives)
    # Pairs whose media cannot be read were left out before.
    given[name] = mined if isinstance(sources[name], mixed.Pairs) else [
        mined[pair.row] for pair in sources[name]]
  return given


def judge(run, benchmarks, reranker):
  """Evaluates every row on every benchmark; returns the last one's results.

  reranker: (Run) -> a Reranker, called if there are tasks for it.
  """
  results = None
  for benchmark in benchmarks:
    where = run.workdir / benchmark.name if len(benchmarks) > 1 else (
        run.workdir)
    union, rankings = evaluator.Union(benchmark), {}
    run.begin(embedding_run.evaluating(benchmark.name))
    for row in run.trained:
      rankings[row] = evaluator.rank(
          benchmark, union, embedding_run.encoder(run, row), where,
          sharding.local_mesh())
    names = {task.name for task in benchmark.tasks}
    if names & set(run.config.rerank.tasks):
      model = reranker(run)
      if processes.first():
        rankings['reranked'] = rerank_run.rerank_tasks(
            run.config.rerank, model, benchmark, union,
            rankings[run.config.method], where / 'reranked')
    if processes.first():
      results = publish(run, benchmark, union, rankings, where)
  return results


def train_reranker(run):
  """The published reranker, or one that is trained on what was mined."""
  settings = run.config.rerank
  if settings.pretrained:
    return rerank_run.published(settings, run.mesh)
  config, params = run.trained[run.config.method]
  training_set = mixed_sets.training_sets(
      run.config, (settings.source,))[settings.source]
  ranked = mine_lib.ranked(run.workdir / 'mined', settings.source)
  groups = rerank_run.questions(
      settings, training_set, ranked, run.config.seed)
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


def publish(run, benchmark, union, rankings, where):
  """Writes the results, or what a server is asked to judge."""
  if benchmark.name == 'circo':
    submit(benchmark, union, rankings, where)
  if not any(any(task.relevant) for task in benchmark.tasks):
    return None  # the answers are not public
  results = mixed_tables.tabulate(
      benchmark, union, rankings, run.config.eval.split)
  results['left_out'] = run_lib.left_out(run.workdir)
  results['tables'] += mine_lib.tables(run.workdir / 'mined')
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
