"""Chromium, driven by Playwright, where both are there."""
import contextlib
import shutil
import time

import pytest

NAMES = 'chromium', 'chromium-browser', 'google-chrome'
REASON = "no Playwright is installed: pip install -e '.[browser]'"


@contextlib.contextmanager
def chromium():
  """A browser: the machine's own or Playwright's; else tests skip."""
  api = pytest.importorskip('playwright.sync_api', reason=REASON)
  own = next(filter(None, map(shutil.which, NAMES)), None)
  with api.sync_playwright() as driver:
    try:
      browser = driver.chromium.launch(executable_path=own)
    except api.Error as error:
      pytest.skip(f'{own or "Chromium"} does not start: '
                  f'{str(error).splitlines()[0]:.150}; install one: '
                  'apt-get install chromium, or playwright install chromium')
    yield browser


@contextlib.contextmanager
def page(browser, url, width=1280, height=900, **options):
  """A page of its own; what it logs as an error, or asks elsewhere, fails."""
  context = browser.new_context(
      viewport={'width': width, 'height': height}, **options)
  context.set_default_timeout(90_000)
  opened, wrong = context.new_page(), []
  opened.on('pageerror', lambda error: wrong.append(str(error)))
  opened.on('console', lambda said: said.type == 'error' and (
      'status of 400' not in said.text) and wrong.append(said.text))
  opened.on('request', lambda asked: asked.url.startswith(
      (url, 'blob:', 'data:')) or wrong.append(asked.url))
  opened.goto(url)
  yield opened
  context.close()
  assert not wrong


def until(page, expression, seconds=90):
  """Waits until an expression of JavaScript is true.

  Playwright's own waiting evaluates inside the page, which its policy forbids.
  """
  end = time.monotonic() + seconds
  while not page.evaluate(expression):
    assert time.monotonic() < end, f'not within {seconds} s: {expression}'
    time.sleep(0.02)
