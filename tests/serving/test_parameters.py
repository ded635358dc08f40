"""What is asked for in a URL: read, or refused in one line."""
import pytest

from jaxret.serving import parameters
from jaxret.serving.refusals import Refused


def test_all_of_them():
  asked = parameters.read([
      ('text', 'a dog'), ('k', '7'), ('kind', 'video'), ('folder', 'a/b'),
      ('min_duration_s', '1.5'), ('max_duration_s', '9'), ('after', '-1'),
      ('before', '4e9'), ('rerank', 'true'), ('like', '')])
  assert asked == (
      'a dog', None, 7, 'video', 'a/b', 1.5, 9, -1, 4e9, True, False)
  assert set(asked.filters) == set(parameters.FILTERS)
  assert parameters.read([('text', ' ')]) == parameters.Asked()
  assert parameters.Asked._fields == tuple(
      one.name for one in parameters.PARAMETERS)


@pytest.mark.parametrize('pairs, said', [
    ([('q', 'x')], "unknown parameter 'q'"),
    ([('k', '1'), ('k', '2')], 'k is given twice'),
    ([('k', '0')], 'from 1 to 200'), ([('k', '201')], 'from 1 to 200'),
    ([('k', '1.5')], 'whole number'), ([('k', '-1')], 'whole number'),
    ([('k', '٣')], 'whole number'), ([('kind', 'sound')], 'image or video'),
    ([('after', 'nan')], 'a number'), ([('before', 'inf')], 'a number'),
    ([('after', '1e300')], 'a number'), ([('after', 'today')], 'a number'),
    ([('rerank', 'yes')], 'true or false'),
    ([('text', 'x' * 4001)], '4,001 letters')])
def test_what_is_wrong_is_one_line(pairs, said):
  with pytest.raises(Refused, match=said) as error:
    parameters.read(pairs)
  assert error.value.status == 400 and '\n' not in str(error.value)
