"""The page in a real browser: what a person does with it, and how it looks."""
import base64
import contextlib
import re
import urllib.request

import pytest

from tests import browsers, tiny_index, tiny_serving

app = tiny_serving.part('app')
pytestmark = pytest.mark.slow

MARKUP = '<img src=x onerror=document.title="run">.png'
LONG = 'a_name_without_a_space_' * 8 + '.png'
# What a frame of numbered_videos is, as the browser shows it.
NUMBER = """video => {
  const canvas = document.createElement('canvas');
  canvas.width = 128; canvas.height = 32;
  const pen = canvas.getContext('2d');
  pen.drawImage(video, 0, 0);
  let number = 0;
  for (let bit = 0; bit < 8; bit++) {
    if (pen.getImageData(16 * bit + 8, 16, 1, 1).data[1] > 127) {
      number += 1 << bit;
    }
  }
  return number;
}"""
# Contrast of a text against what lies behind it, as WCAG 2 has it.
CONTRAST = """element => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) =>
    c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  ).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let behind = element;
  while (behind && (parts(getComputedStyle(behind).backgroundColor)[3] ?? 1)
         === 0) behind = behind.parentElement;
  const [a, b] = [getComputedStyle(element).color, behind ?
    getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)'].map(
    (colour) => light(parts(colour))).sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture(scope='module')
def browser():
  with browsers.chromium() as found:
    yield found


@pytest.fixture(scope='module')
def served(tmp_path_factory, browser):
  """(index, its URL); the browser comes first: without one nothing is made."""
  from tests import tiny_prompted, tiny_rerankers
  path = tmp_path_factory.mktemp('browser')
  media = tiny_index.folder(path / 'media')
  for number, name in enumerate((MARKUP, LONG), 3):
    tiny_index.picture(media / name, number)
  index = tiny_serving.indexed(path)
  made = app.create(index, rerank=tiny_rerankers.qwen3_vl(), candidates=3,
                    likelihood=tiny_prompted.qwen3_vl())
  with tiny_serving.server(made) as port:
    yield index, f'http://127.0.0.1:{port}'


@pytest.fixture
def page(browser, served):
  with browsers.page(browser, served[1]) as opened:
    yield opened


@contextlib.contextmanager
def answered(page):
  """Waits for the hits of what is done inside, drawn."""
  with page.expect_response(re.compile('/api/search')):
    yield
  browsers.until(page, """
      !document.querySelector('#said').innerText.startsWith('Searching')""")


def search(page, text):
  page.fill('#text', text)
  with answered(page):
    page.press('#text', 'Enter')


def names(page):
  """The names on the cards, without their numbers."""
  return [said.partition('. ')[2] for said in page.locator(
      '#hits .path').all_inner_texts()]


def name(hit):
  return hit.path.rpartition('/')[2]


def test_a_text_finds_what_the_library_does(page, served):
  search(page, 'a dog')
  want = served[0].search('a dog', 40)
  assert names(page) == [name(hit) for hit in want]
  shown = page.locator('#hits dd').all_inner_texts()
  assert shown == [f'{hit.score:.4f}' for hit in want]
  moments = page.locator('#hits .time').all_inner_texts()
  assert len(moments) == 3 and moments[0][0] == '0'
  # The name of a file that is markup is shown, and does nothing.
  assert page.title() == 'a dog' and 'text=a+dog' in page.url
  with answered(page):
    page.reload()
  assert names(page) == [name(hit) for hit in want]
  page.go_back()
  page.wait_for_selector('#hits li', state='detached')


def test_by_what_is_chosen_dropped_and_pasted(page, served):
  media = served[0].path.parent / 'media'
  def first(of):
    assert page.inner_text('#by-said') == f'By {of.name}'
    assert names(page)[0] == of.name
  with answered(page):
    page.set_input_files('#file', media / 'a.png')
  first(media / 'a.png')
  with answered(page):
    page.set_input_files('#file', media / 'trip' / 'clip.mp4')
  first(media / 'trip' / 'clip.mp4')
  for event, holder, file in (('drop', 'dataTransfer', 'b.jpg'),
                              ('paste', 'clipboardData', 'trip/c.png')):
    content = base64.b64encode((media / file).read_bytes()).decode()
    with answered(page):
      page.evaluate("""([event, holder, name, type, content]) => {
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt());
        data.items.add(new File([bytes], name, {type}));
        const kind = event === 'drop' ? DragEvent : ClipboardEvent;
        const drag = () => document.querySelector('#drop').hidden;
        if (event === 'drop') {
          document.body.dispatchEvent(new DragEvent('dragenter', {
            dataTransfer: data, bubbles: true}));
          if (drag()) throw Error('it does not say that a file is taken');
        }
        document.body.dispatchEvent(new kind(event, {
          [holder]: data, bubbles: true, cancelable: true}));
        if (!drag()) throw Error('it goes on asking for a file');
      }""", [event, holder, (media / file).name, 'image/*', content])
    first(media / file)
  page.click('#by-clear')
  page.wait_for_selector('#hits li', state='detached')


def test_a_clip_plays_at_its_moment(page):
  with answered(page):
    page.goto(page.url + '?text=a+dog&kind=video')
  with page.expect_response(re.compile('/media/')) as media:
    page.click('#hits .open:has(.time:text("0:02 to"))')
  assert media.value.status == 206
  video = page.locator('#large video')
  browsers.until(page, """(([video]) =>
      video && !video.seeking && video.currentTime > 2 + 1 / 25)(
      document.querySelectorAll('#large video'))""")
  video.evaluate('video => video.pause()')
  time_s = video.evaluate('video => video.currentTime')
  number = video.evaluate(NUMBER)
  assert 2 < time_s < 5 and abs(number - time_s * 25) <= 1.5
  assert '0:02 to 0:04' in page.inner_text('#large-title')
  assert video.count() == 1
  page.click('#large-close')
  assert page.locator('video').count() == 0


def test_filters(page, served):
  search(page, 'a dog')
  page.click('#filters summary')
  for field, value, said in (
      ('kind', 'video', {'clip.mp4'}), ('kind', 'text', {'note.txt'}),
      ('kind', '', set(names(page)))):
    with answered(page):
      page.select_option(f'[name={field}]', value)
    assert set(names(page)) == said
  with answered(page):
    page.fill('[name=max_duration_s]', '2')
    page.press('[name=max_duration_s]', 'Tab')
  assert page.inner_text('#said') == (
      'Nothing in the index passes these filters.')
  assert page.inner_text('#filters').startswith('Filters (1 set)')
  with answered(page):
    page.click('#filters-clear')
  with answered(page):
    page.click('#hits .folder >> nth=0')
  assert set(names(page)) == {'c.png', 'clip.mp4'}
  assert page.input_value('[name=folder]') == 'trip'
  for day, some in (('2000-01-01', True), ('2999-01-01', False)):
    with answered(page):
      page.fill('[name=after]', day)
    assert bool(names(page)) == some


def test_similar(page, served):
  search(page, 'a dog')
  card = page.locator('#hits li', has_text='a.png').first
  with answered(page):
    card.get_by_text('Similar').click()
  index = served[0]
  vector = index.vector(next(hit for hit in index.search('a dog', 40)
                             if hit.path == 'a.png'))
  want = [name(hit) for hit in index.search(vector, 41) if hit.path != 'a.png']
  assert names(page) == want
  assert 'like=' in page.url and page.input_value('#text') == ''
  assert page.inner_text('#by-said') == 'What is like this'


def test_the_rerank_switch(page, served):
  search(page, 'a dog')
  assert 'rerank' not in page.inner_text('#hits')
  with answered(page):
    page.check('[name=rerank]')
  rows = page.locator('#hits li')
  scores = [[float(one) for one in rows.nth(i).locator('dd').all_inner_texts()]
            for i in range(rows.count())]
  assert len(scores) >= 3 and all(len(own) == 2 for own in scores)
  reranked = [own[1] for own in scores]
  assert reranked == sorted(reranked, reverse=True)
  with answered(page):
    page.uncheck('[name=rerank]')
  assert 'rerank' not in page.inner_text('#hits')


def test_one_look_at_a_time(page, served):
  """Likelihood ranks what is seen for a text, with both scores."""
  # It compiles for longer than the browser waits on a busy machine.
  urllib.request.urlopen(
      f'{served[1]}/api/search?text=a+dog&likelihood=true&k=40', timeout=900
      ).close()
  search(page, 'a dog')
  with answered(page):
    page.check('[name=rerank]')
  with answered(page):
    page.check('[name=likelihood]')
  assert not page.is_checked('[name=rerank]') and 'rerank' not in page.url
  shown = page.locator('#hits li').all_inner_texts()
  assert shown and all('likelihood' in one for one in shown)
  assert not any('note.txt' in one for one in shown)
  assert page.inner_text('#filters-said') == ''
  with answered(page):
    page.uncheck('[name=likelihood]')
  assert 'likelihood' not in page.inner_text('#hits')


def test_with_the_keyboard_alone(page):
  """No mouse: search, move, open, step, close, similar, back."""
  def at():
    return page.evaluate('document.activeElement.getAttribute("aria-label")')
  assert at() == 'Describe what to find'
  page.keyboard.type('a dog')
  with answered(page):
    page.keyboard.press('Enter')
  page.keyboard.press('ArrowDown')
  assert at().startswith('1. ')
  page.keyboard.press('ArrowRight')
  page.keyboard.press('ArrowRight')
  assert at().startswith('3. ')
  page.keyboard.press('ArrowLeft')
  assert at().startswith('2. ')
  page.keyboard.press('Enter')
  title = page.locator('#large-title')
  assert title.inner_text().startswith('2. ')
  page.keyboard.press('ArrowRight')
  assert title.inner_text().startswith('3. ')
  page.keyboard.press('Escape')
  assert not page.is_visible('#large') and at().startswith('3. ')
  with answered(page):
    page.keyboard.press('s')
  assert 'like=' in page.url
  page.evaluate('document.activeElement.blur()')
  page.keyboard.press('/')
  assert at() == 'Describe what to find' and page.input_value('#text') == ''


@pytest.mark.parametrize('width', [320, 400])
def test_a_phone(browser, served, width):
  """Nothing is wider than the screen, and what is pressed is large enough."""
  with browsers.page(browser, served[1], width, 800, has_touch=True,
                     is_mobile=True) as page:
    def fits():
      wide = page.locator('body *').evaluate_all(
          """(all, width) => all.filter((one) => one.checkVisibility() &&
          one.getBoundingClientRect().right > width + 0.5).map(
          (one) => one.outerHTML.slice(0, 80))""", width)
      assert wide == []
      assert page.evaluate('document.scrollingElement.scrollWidth') <= width
    fits()
    search(page, 'a dog')
    fits()
    page.tap('#filters summary')
    fits()
    small = page.locator(
        'button:visible, .button:visible, select:visible, #text').evaluate_all(
            """all => all.map((one) => [one.getBoundingClientRect().height,
            one.outerHTML.slice(0, 80)]).filter(([height]) => height < 24)""")
    assert small == []  # CSS pixels, WCAG 2.5.8
    for said in ('a_name', 'clip.mp4', 'note.txt'):
      page.locator('#hits li', has_text=said).first.locator('.open').tap()
      page.wait_for_selector('#large')
      fits()
      page.tap('#large-close')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_light_and_dark_are_readable(browser, served, scheme):
  with browsers.page(browser, served[1], color_scheme=scheme) as page:
    search(page, 'a dog')
    page.click('#filters summary')
    behind = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert (int(re.search(r'\d+', behind)[0]) < 64) == (scheme == 'dark')
    for what in ('#said', '.path', '.folder', 'dt', 'dd', '.quote', '.main',
                 'label.button', 'summary', '.fields label', '.fields input',
                 '.foot button', '.check .soft', '.time'):
      assert page.locator(what).first.evaluate(CONTRAST) >= 4.5, what


def test_the_page_of_a_search_from_the_shell(browser, served, tmp_path):
  """jaxret search --html: its pictures are inside, it asks for nothing."""
  from jaxret.indexing import page as written
  index = served[0]
  hits = index.search('a dog', 40)
  file = tmp_path / 'found.html'
  file.write_text(written.render({'text': 'a dog'}, hits, index.file_of,
                                 'clips.index'))
  with browsers.page(browser, file.as_uri(), 400) as page:
    assert page.evaluate('document.scrollingElement.scrollWidth') <= 400
    assert page.locator('img').evaluate_all(
        'all => all.every((one) => one.complete && one.naturalWidth)')
    assert page.locator('img').count() == len(hits) - 1
    assert page.title() != 'run'
