"""Plots as SVG text to be put inline into HTML, for light and dark pages.

Text stays text and takes the page's font; lines and letters take the page's
text colour. The colours of the curves are told apart by colour-blind readers
(Okabe and Ito), and every curve also differs by its dashes or markers.
"""
import dataclasses
import html
import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, PURPLE = '#2f86c1', '#e07b00', '#009e73', '#b8629a'
MAX_DOTS = 300  # of a panel, for the size of the page
MAX_TASKS = 60  # lines of a panel
_CURVES = (('-', BLUE), ('--', ORANGE), (':', GREEN), ('-.', PURPLE))

# Matplotlib writes literal colours; these two stand for the page's own.
_INK, _LINE = '#010203', '#040506'
_STYLE = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'jaxret', 'font.size': 10,
    'text.color': _INK, 'axes.labelcolor': _INK, 'axes.edgecolor': _LINE,
    'axes.titlesize': 11, 'axes.titleweight': 'bold',
    'axes.titlelocation': 'left', 'axes.spines.top': False,
    'axes.spines.right': False, 'axes.grid': True, 'axes.axisbelow': True,
    'grid.color': _LINE, 'grid.linewidth': 0.6, 'xtick.color': _LINE,
    'ytick.color': _LINE, 'xtick.labelcolor': _INK, 'ytick.labelcolor': _INK,
    'xtick.minor.size': 0, 'legend.frameon': False,
}


@dataclasses.dataclass(frozen=True)
class Sweep:
  """R@1 against a weight in one direction, for the plot.

  values: [n], of the weight. validation, test: recall at 1 in percent, [n];
  test may be None. chosen: the value taken on validation. paper: the paper's,
  or None.
  """
  direction: str
  values: np.ndarray
  validation: np.ndarray
  chosen: float
  test: np.ndarray | None = None
  paper: float | None = None


@dataclasses.dataclass(frozen=True)
class Sweeps:
  """Sweeps of one weight, one panel each, and what a method says of them.

  weight: its name. axis: what it is, below the plot. heading, text: what
  stands above the plot.
  """
  weight: str
  axis: str
  heading: str
  text: str
  panels: tuple[Sweep, ...]


@dataclasses.dataclass(frozen=True)
class Hubness:
  """How often each candidate is ranked first in one direction.

  counts: {row: int [C]}, as metrics.first_counts returns it. prior: [C], how
  likely a candidate is without any query; None = not known.
  """
  direction: str
  counts: Mapping[str, np.ndarray]
  prior: np.ndarray | None = None

  @property
  def n_queries(self) -> int:
    return int(sum(next(iter(self.counts.values()))))


@dataclasses.dataclass(frozen=True)
class Interval:
  """A difference with its interval, and what single seeds say of it."""
  label: str
  difference: float
  low: float
  high: float
  dots: Sequence[float] = ()


def _words(name):
  return name.replace('_', ' ')


def sweep_plot(sweeps: Sweeps, words: Callable[[str], str] = _words) -> str:
  """R@1 against the weight of Sweeps; the chosen value is marked.

  words: of a direction.
  """
  weight = sweeps.weight

  def draw(axes):
    for axis, sweep in zip(axes, sweeps.panels):
      chosen = int(np.argmin(np.abs(np.asarray(sweep.values) - sweep.chosen)))
      axis.plot(sweep.values, sweep.validation, '-o', color=BLUE, ms=4,
                label='validation')
      if sweep.test is not None:
        axis.plot(sweep.values, sweep.test, '--s', color=ORANGE, ms=3.5,
                  mfc='none', label='test (not used to choose)')
      axis.axvline(sweep.chosen, color=BLUE, lw=1, alpha=0.6)
      axis.plot(sweep.chosen, sweep.validation[chosen], 'o', ms=12, mew=2,
                mfc='none', color=BLUE, label='chosen on validation')
      if sweep.paper is not None:
        axis.axvline(sweep.paper, color=_INK, lw=1, ls=':',
                     label=f"the paper's {weight}")
      axis.set(title=words(sweep.direction), ylabel='R@1, %',
               xlabel=sweeps.axis)
      axis.margins(y=0.12)

  return _svgs(draw, [
      f'{words(s.direction)}: R@1 on validation goes from '
      f'{s.validation[0]:.1f} at {weight} {s.values[0]:.1f} to '
      f'{s.validation[-1]:.1f} at {weight} {s.values[-1]:.1f}; '
      f'{weight} {s.chosen:.2f} is chosen' for s in sweeps.panels])


def hubness_plot(hubness: Sequence[Hubness],
                 row_words: Callable[[str], str],
                 words: Callable[[str], str] = _words) -> str:
  """How often each candidate is ranked first, one panel a direction.

  Against its prior where that is known, which shows whether likely candidates
  are preferred; else sorted. hubness: sequence of Hubness. row_words: row ->
  label, for the legend. words: of a direction.
  """
  def draw(axes):
    for axis, hubs in zip(axes, hubness):
      n_candidates = len(next(iter(hubs.counts.values())))
      axis.axhline(hubs.n_queries / n_candidates, color=_INK, lw=1,
                   ls=(0, (1, 3)), label='equal shares')
      (_draw_sorted if hubs.prior is None else _draw_by_prior)(
          axis, hubs, row_words)
      axis.set(title=words(hubs.direction), ylabel='times ranked first')

  return _svgs(draw, ['; '.join(
      f'{words(h.direction)}, {row_words(row)}: the most frequent candidate '
      f'is ranked first {max(counts)} times' + _shares_in_words(h, counts)
      for row, counts in h.counts.items()) for h in hubness])


def _draw_sorted(axis, hubs, row_words):
  for (row, counts), (dashes, color) in zip(hubs.counts.items(), _CURVES):
    ordered = np.sort(counts)[::-1]
    axis.plot(np.arange(1, len(ordered) + 1), ordered, dashes, color=color,
              lw=2, drawstyle='steps-mid', label=row_words(row))
  axis.set_xscale('log')
  axis.xaxis.set_major_formatter('{x:g}')
  axis.set_xlabel('candidates, the most frequent one first')


def _draw_by_prior(axis, hubs, row_words):
  """A dot a candidate, a line for the means of ten groups of equal size."""
  curves = (('--', 's', ORANGE), ('-', 'o', BLUE))
  most = np.argsort(-np.max([*hubs.counts.values()], 0), kind='stable')
  most = most[:MAX_DOTS]
  for (row, counts), (dashes, marker, color) in zip(
      hubs.counts.items(), curves):
    axis.plot(hubs.prior[most], counts[most], marker, ms=3, color=color,
              alpha=0.35, mew=0)
    axis.plot(*zip(*_by_prior(hubs.prior, counts)), dashes, color=color, lw=2.2,
              marker=marker, ms=5, label=f'{row_words(row)}, mean')
  axis.set_yscale('symlog', linthresh=1)
  ticks = [n for n in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)
           if n <= max(2, *(max(c) for c in hubs.counts.values()))]
  axis.set_yticks(ticks, map(str, ticks))
  axis.set_ylim(bottom=-0.2)
  axis.set_xlabel('log-likelihood of the candidate without a query')


def _by_prior(prior, counts, n_groups=10):
  """[(mean prior, mean count)] of groups of like prior, least likely first."""
  groups = np.array_split(np.argsort(prior, kind='stable'),
                          min(n_groups, len(prior)))
  return [(np.mean(prior[g]), np.mean(counts[g])) for g in groups]


def _shares_in_words(hubs, counts):
  if hubs.prior is None:
    return ''
  groups = _by_prior(hubs.prior, counts)
  return (f', the least likely tenth {groups[0][1]:.2g} times on average, the '
          f'most likely tenth {groups[-1][1]:.2g} times')


def training_plot(records: Sequence[Mapping[str, Any]]) -> str:
  """Losses against the step, and the learning rate where it was logged.

  records: dicts of numbers with 'step', as in metrics.jsonl; a step that
    was repeated after a restart counts once.
  """
  records = [r for _, r in sorted({r['step']: r for r in records}.items())]
  names = [n for n in records[-1] if n == 'loss' or n.endswith('_loss')]
  panels = [('loss', names[:len(_CURVES)])]
  if 'learning_rate' in records[-1]:
    panels.append(('learning rate', ['learning_rate']))

  def draw(axes):
    for axis, (title, names) in zip(axes, panels):
      for name, (dashes, color) in zip(names, _CURVES):
        points = [(r['step'], r[name]) for r in records if name in r]
        axis.plot(*zip(*points), dashes, color=color, lw=1.6,
                  label=None if len(names) == 1 else _words(name))
      axis.set(title=title, xlabel='step')

  return _svgs(draw, [
      f'Training: loss {records[0]["loss"]:.3g} at step '
      f'{records[0]["step"]}, {records[-1]["loss"]:.3g} at step '
      f'{records[-1]["step"]}', 'Training: the learning rate'][:len(panels)])


def interval_plot(intervals: Sequence[Interval], unit: str,
                  margin: float = 0.0) -> str:
  """Differences one below the other: interval, mean, and a dot per seed.

  unit: of the axis. margin: where a difference stops to matter, drawn left of
  zero if it is not zero.
  """
  def draw(axes):
    axis, = axes
    for place, one in enumerate(intervals):
      apart = one.low > -margin or one.high < -margin
      color = BLUE if apart else _LINE
      axis.plot([one.low, one.high], [place, place], '-', color=color, lw=2.5,
                solid_capstyle='butt')
      axis.plot(one.difference, place, 'o', color=color, ms=8)
      axis.plot(one.dots, [place + 0.28] * len(one.dots), 'o', color=ORANGE,
                ms=4.5, mfc='none', label='one seed' * (not place))
    axis.axvline(0, color=_INK, lw=1)
    if margin:
      axis.axvline(-margin, color=_INK, lw=1, ls=':', label='margin')
    axis.set_yticks(range(len(intervals)), [
        textwrap.fill(one.label, 30) for one in intervals])
    axis.set_ylim(len(intervals) - 0.4, -0.6)
    axis.grid(visible=False, axis='y')
    axis.set_xlabel(unit)

  return _svgs(draw, ['; '.join(
      f'{one.label}: {one.difference:+.2f}, {one.low:+.2f} to {one.high:+.2f}'
      for one in intervals)], (6.4, 1.3 + 0.55 * len(intervals)))


def _svgs(draw, texts, size=(5.2, 3.7)):
  """Draws a panel per text, which says what it shows; returns HTML.

  Each is a picture of its own, so that a narrow page has them one below the
  other at a size that can be read. size: width and height, inches.
  """
  # Not at the top: matplotlib takes long to import, and few need it.
  import matplotlib
  from matplotlib.figure import Figure
  with matplotlib.rc_context(_STYLE):
    figures = [Figure(figsize=size, layout='constrained') for _ in texts]
    axes = [figure.subplots() for figure in figures]
    draw(axes)
    pictures = []
    for figure, axis, text in zip(figures, axes, texts):
      lines = dict(zip(*axis.get_legend_handles_labels()[::-1]))
      if lines:
        figure.legend(lines.values(), lines, loc='outside lower center',
                      ncols=1 if max(map(len, lines)) > 26 else 2)
      buffer = io.StringIO()
      figure.savefig(buffer, format='svg', transparent=True,
                     metadata={'Date': None})
      pictures.append(_inline(buffer.getvalue(), text))
  return f'<div class="panels">{"".join(pictures)}</div>'


def _inline(svg, alt):
  svg = svg[svg.index('<svg'):].replace(_INK, 'currentColor')
  svg = svg.replace(_LINE, 'var(--line)')
  svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
  svg = re.sub(r'<g id="[^"]*"', '<g', svg)  # unused, and not unique in a page
  svg = re.sub(r'<style.*?</style>', '', svg, flags=re.DOTALL)
  svg = re.sub(r'font-family: [^;"]*', 'font-family: inherit', svg)
  width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg).group(1))
  head = (f'<svg role="img" style="max-width: {width * 1.5:.0f}px" '
          f'aria-label="{html.escape(alt)}"')
  for size in ('width', 'height'):
    svg = re.sub(rf'<svg([^>]*?) {size}="[^"]*"', r'<svg\1', svg, count=1)
  return svg.replace('<svg', head, 1)
