"""The pictures of README.md, taken anew.

  make run && make demo        # the latter leaves a page open
  python docs/pictures/take.py workdirs/blim/report.html http://127.0.0.1:8000
"""
import io
import pathlib
import shutil
import sys
import time

from PIL import Image
from playwright import sync_api

FOLDER = pathlib.Path(__file__).resolve().parent
WIDTH, HEIGHT = 1280, 860
BROWSERS = 'chromium', 'chromium-browser', 'google-chrome'


def main(report, search):
  with sync_api.sync_playwright() as driver:
    own = next(filter(None, map(shutil.which, BROWSERS)), None)
    browser = driver.chromium.launch(executable_path=own)
    page = browser.new_page(viewport={'width': WIDTH, 'height': HEIGHT})
    page.goto(pathlib.Path(report).resolve().as_uri())
    save('report.png', stacked(page, [
        ('h1', 330), ('h3:has-text("video to text")', 312),
        ('#searches', 640)]))
    page.goto(search)
    page.get_by_role('searchbox').fill('a red square moves to the left')
    page.keyboard.press('Enter')
    page.wait_for_load_state('networkidle')
    time.sleep(2)  # thumbnails
    save('search.png', Image.open(io.BytesIO(page.screenshot())))
    browser.close()


def stacked(page, parts):
  """A picture of parts of a page: (a selector, so many pixels from it on)."""
  whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert('RGB')
  made = Image.new('RGB', (WIDTH, sum(height for _, height in parts)), 'white')
  down = 0
  for selector, height in parts:
    top = int(page.locator(selector).first.bounding_box()['y']) - 20
    made.paste(whole.crop((0, top, WIDTH, top + height)), (0, down))
    down += height
  return made


def save(name, picture):
  """As few colours as a page needs."""
  picture.convert('RGB').quantize(128).save(FOLDER / name, optimize=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
