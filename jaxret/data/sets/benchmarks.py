"""Published retrieval benchmarks, read from their original files.

One entry per benchmark; `load` gives its tasks. Where the files come from and
how they are laid out stands with each reader.
"""
import dataclasses
from collections.abc import Callable

from jaxret.data import entries
from jaxret.data.sets import captioned, covr, mmeb


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """How one benchmark is read and evaluated (spec of UNITE, section 8).

  read: (root, wanted) -> tasks; with `by_name` (root, wanted, names), where
    names chooses the tasks whose files must be there.
  wanted: which files are expected and where they come from.
  n_frames: frames per video in UNITE's table; None where there are none.
  recall_at: the depths that are reported.
  groups: {meta-task: names of its tasks} whose means are reported.
  """
  read: Callable
  wanted: str
  n_frames: int | None = None
  recall_at: tuple[int, ...] = (1, 5, 10)
  groups: dict = dataclasses.field(default_factory=dict)
  by_name: bool = False


BENCHMARKS = {
    'flickr30k': Benchmark(
        captioned.flickr30k,
        'wanted dataset_flickr30k.json (the splits of Karpathy and Fei-Fei, '
        'https://cs.stanford.edu/people/karpathy/deepimagesent) and '
        'flickr30k-images/ (https://shannon.cs.illinois.edu/DenotationGraph)'),
    'mscoco': Benchmark(
        captioned.mscoco,
        'wanted dataset_coco.json (the splits of Karpathy and Fei-Fei, '
        'https://cs.stanford.edu/people/karpathy/deepimagesent) and val2014/ '
        '(https://cocodataset.org)'),
    'msrvtt_1ka': Benchmark(
        captioned.msrvtt_1ka,
        'wanted MSRVTT_JSFUSION_test.csv (https://github.com/ArrowLuo/CLIP4Clip'
        ', section Data Preparing) and videos/', n_frames=48),
    'msvd': Benchmark(
        captioned.msvd,
        'wanted test_list.txt, AllVideoDescriptions.txt and YouTubeClips/ '
        '(https://huggingface.co/datasets/friedrichor/MSVD, folders raw_data '
        'and raw_videos)', n_frames=48),
    'didemo': Benchmark(
        captioned.didemo,
        'wanted test_data.json (https://github.com/LisaAnne/LocalizingMoments, '
        'folder data) and videos/', n_frames=48),
    'sharegpt4v': Benchmark(
        captioned.sharegpt4v,
        'wanted share-captioner_coco_lcs_sam_1246k_1107.json '
        '(https://huggingface.co/datasets/Lin-Chen/ShareGPT4V) and the images '
        'that its first 1,000 entries name, in sam/images/'),
    'urban1k': Benchmark(
        captioned.urban1k,
        'wanted caption/ and image/ of Urban1k.zip '
        '(https://huggingface.co/datasets/BeichenZhang/Urban1k)'),
    'docci': Benchmark(
        captioned.docci,
        'wanted docci_descriptions.jsonlines and images/ '
        '(https://google.github.io/docci)'),
    'carebench': Benchmark(
        captioned.carebench,
        'wanted json/metadata.json and videos/ '
        '(https://huggingface.co/datasets/MCG-NJU/CaReBench)', n_frames=32),
    'webvid_covr': Benchmark(
        covr.webvid_covr,
        'wanted webvid8m-covr_test.csv '
        '(https://huggingface.co/datasets/lucas-ventura/WebVid-CoVR) and the '
        'videos that it names, in videos/', n_frames=16,
        recall_at=(1, 5, 10, 50)),
    'mmeb': Benchmark(
        mmeb.mmeb,
        'wanted one folder per data set with test-*.parquet, and images.zip '
        'unpacked beside them or in eval_images/ '
        '(https://huggingface.co/datasets/TIGER-Lab/MMEB-eval)',
        groups=mmeb.META_TASKS, by_name=True),
}


def load(name, root, names=None):
  """The tasks of a benchmark whose files lie under `root`.

  name: a key of BENCHMARKS. names: of the tasks, to evaluate only some.
  Media files are not opened: one that is missing keeps its path here.
  Returns a tuple of types.Task.
  Errors: ValueError for a missing directory or file, with what is expected and
  where to get it; for an entry of another form, with its file and number.
  """
  if name not in BENCHMARKS:
    raise ValueError(f'data.name {name!r} is unknown; choose from '
                     f'{", ".join(BENCHMARKS)}')
  benchmark = BENCHMARKS[name]
  root = entries.root_of(root, name, benchmark.wanted)
  chosen = (names,) if benchmark.by_name else ()
  tasks = benchmark.read(root, benchmark.wanted, *chosen)
  if names is not None:
    known = [task.name for task in tasks]
    unknown = [n for n in names if n not in known]
    if unknown:
      raise ValueError(f'{name} has no task {unknown[0]!r}; choose from '
                       f'{", ".join(known)}')
    tasks = [task for task in tasks if task.name in names]
  return tuple(tasks)
