"""Results as JSON, as a text table, and as one HTML file that opens anywhere.

It knows no paper: directions, tasks and rows are those of the results; what a
paper calls its rows, and says of them, comes as `Rows`.
"""
from jaxret.report.gallery import (
  SHOWN_CANDIDATES,
  TILE_PX,
  GalleryQuery,
  Ranked,
  Row,
  Shown,
  Written,
  choose_queries,
  gallery_queries,
  path_of,
)
from jaxret.report.page import write
from jaxret.report.plots import Hubness, Sweep, Sweeps
from jaxret.report.queries import Queries, pool_of
from jaxret.report.tables import Rows, format_table, headline, main_rows

__all__ = (
    'SHOWN_CANDIDATES', 'TILE_PX', 'GalleryQuery', 'Hubness', 'Queries',
    'Ranked', 'Row', 'Rows', 'Shown', 'Sweep', 'Sweeps', 'Written',
    'choose_queries', 'format_table', 'gallery_queries', 'headline',
    'main_rows', 'path_of', 'pool_of', 'write')
