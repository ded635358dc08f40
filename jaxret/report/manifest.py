"""The protocol manifest of results.json as a table of the report."""
from typing import Any

MAX_FILES = 20


def table(results: dict[str, Any]) -> list[tuple[str, str]]:
  """Its rows, the heads first; [] where results have no `protocol`."""
  made = results.get('protocol')
  if not made:
    return []
  rows = [('what', 'value'), ('source', str(made['source']))]
  if made['repository']:
    rows.append(('repository', f'{made["repository"]}@{made["revision"]}'))
  rows += [(name.replace('_', ' '), ', '.join(
      f'{count:,} {what}' for what, count in own.items() if count is not None))
           for name, own in made['rows'].items()]
  rows.append(('content, SHA-256', made['content_sha256']))
  rows += [(one['name'], f'{one["bytes"]:,} bytes, SHA-256 '
            f'{one["sha256"] or "not computed"}')
           for one in made['files'][:MAX_FILES]]
  if len(made['files']) > MAX_FILES:
    rows.append((f'{len(made["files"]) - MAX_FILES} files more',
                 'in results.json'))
  rows += [(name, str(value)) for part in ('frames', 'splits')
           for name, value in made[part].items()]
  return rows
