'use strict';
// The page: asks /api/search, shows hits, keeps what was asked in the address.
// Names and captions are put in as text alone, never as HTML.
const by = (id) => document.getElementById(id);
const form = by('form');
const FIELDS = ['text', 'kind', 'folder', 'min_duration_s', 'max_duration_s',
  'after', 'before', 'rerank', 'likelihood'];
const LOOKS = ['rerank', 'likelihood'];  // one at a time
const STEP = 40;
const MOST = Number(document.body.dataset.mostHits);
const MOST_BYTES = Number(document.body.dataset.mostBytes);
const START = by('said').innerHTML;  // ours, of the template
let asked = {k: STEP, like: '', upload: null};
let hits = [];
let shown = -1;  // of the hits, in the dialog
let running = null;

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A day, in the time zone of who looks, as seconds since 1970.
function seconds(day, more) {
  const [year, month, date] = day.split('-').map(Number);
  return new Date(year, month - 1, date + more).getTime() / 1000;
}

function fields() {
  const found = new URLSearchParams();
  for (const name of FIELDS) {
    const field = form.elements[name];
    if (!field) continue;
    const value = field.type === 'checkbox' ?
      (field.checked ? field.value : '') : field.value.trim();
    if (value) found.set(name, value);
  }
  if (asked.like) found.set('like', asked.like);
  return found;
}

function setFields(found) {
  for (const name of FIELDS) {
    const field = form.elements[name];
    if (!field) continue;
    if (field.type === 'checkbox') field.checked = found.has(name);
    else field.value = found.get(name) || '';
  }
  asked.like = found.get('like') || '';
}

function request() {
  const found = fields();
  if (found.has('after')) found.set('after', seconds(found.get('after'), 0));
  if (found.has('before')) found.set('before', seconds(found.get('before'), 1));
  found.set('k', asked.k);
  return `/api/search?${found}`;
}

function say(words, bad) {
  by('said').textContent = words;
  by('said').classList.toggle('bad', Boolean(bad));
}

function sayFilters() {
  const n = [...fields().keys()].filter((name) =>
    !['text', 'like', ...LOOKS].includes(name)).length;
  by('filters-said').textContent = n ? ` (${n} set)` : '';
}

async function search(keep) {
  sayFilters();
  if (!keep) {
    asked.k = STEP;
    const query = fields().toString();
    const where = query ? `/?${query}` : '/';
    if (where !== location.pathname + location.search) {
      history.pushState(null, '', where);
    }
  }
  const found = fields();
  if (!found.has('text') && !asked.like && !asked.upload) {
    hits = [];
    draw();
    by('said').classList.remove('bad');
    by('said').innerHTML = START;
    return;
  }
  if (running) running.abort();
  const own = running = new AbortController();
  say(LOOKS.some((name) => found.has(name)) ?
    'Searching, and looking at the best again ...' : 'Searching ...');
  let body = null;
  try {
    const answer = await fetch(request(), asked.upload ?
      {method: 'POST', body: asked.upload, signal: own.signal} :
      {signal: own.signal});
    body = await answer.json();
  } catch (error) {
    if (own === running) say('The server does not answer.', true);
    return;
  }
  if (own !== running) return;
  hits = body.hits || [];
  draw();
  if (body.error) {
    return say(body.error.startsWith('nothing in the index has') ?
      'Nothing in the index passes these filters.' : body.error, true);
  }
  const which = found.get('text') ||
    (asked.upload ? asked.upload.name : 'like this');
  document.title = which;
  say(`${hits.length} hits in ${Math.round(body.seconds * 1000)} ms, ` +
      'the best one first');
}

function facts(hit) {
  const pairs = [['score', hit.score], ['rerank', hit.rerank],
    ['likelihood', hit.likelihood]];
  return pairs.filter(([, value]) => typeof value === 'number').map(
    ([name, value]) => make('div', {}, make('dt', {textContent: name}),
      make('dd', {textContent: value.toFixed(4)})));
}

function split(path) {
  const at = path.lastIndexOf('/');
  return [path.slice(0, Math.max(at, 0)), path.slice(at + 1)];
}

function picture(hit, size) {
  return make('img', {src: `/thumb/${hit.id}?size=${size}`, alt: hit.path,
    loading: size > 320 ? 'eager' : 'lazy'});
}

function inside(hit) {
  if (hit.kind === 'text') {
    return make('span', {className: 'quote', textContent: hit.text});
  }
  if (hit.gone) return make('span', {textContent: 'the file is gone'});
  const image = picture(hit, 320);
  image.addEventListener('error', () => image.replaceWith(
    make('span', {textContent: 'no picture: the file has changed'})));
  return image;
}

function card(hit, number) {
  const [folder, name] = split(hit.path);
  const open = make('button', {type: 'button', className: 'open'}, inside(hit),
    hit.moment ? make('span', {className: 'time', textContent: hit.moment}) :
      null);
  open.setAttribute('aria-label', `${number + 1}. ${hit.kind} ${hit.path} ` +
    hit.moment);
  open.addEventListener('click', () => enlarge(number));
  const similar = make('button', {type: 'button', textContent: 'Similar'});
  similar.addEventListener('click', () => like(hit));
  let below = null;
  if (folder) {
    below = make('button', {type: 'button', className: 'folder',
      textContent: `in ${folder}`, title: 'Search in this folder alone'});
    below.addEventListener('click', () => {
      form.elements.folder.value = folder;
      search();
    });
  }
  return make('li', {}, open, make('div', {className: 'said'},
    make('div', {className: 'path', textContent: `${number + 1}. ${name}`}),
    below,
    hit.caption ? make('p', {className: 'caption', textContent: hit.caption}) :
      null,
    make('div', {className: 'foot'}, make('dl', {}, ...facts(hit)), similar)));
}

function draw() {
  by('hits').replaceChildren(...hits.map(card));
  by('more').hidden = hits.length < asked.k || asked.k >= MOST;
  drawQuery();
}

function drawQuery() {
  by('by').hidden = !asked.upload && !asked.like;
  by('by-said').replaceChildren();
  if (asked.like) {
    by('by-said').append(make('img', {src: `/thumb/${asked.like}`, alt: ''}),
      'What is like this');
    by('by-said').firstChild.addEventListener('error', (event) =>
      event.target.remove());
  } else if (asked.upload) {
    const image = asked.upload.type.startsWith('image/') ?
      make('img', {src: URL.createObjectURL(asked.upload), alt: ''}) : null;
    if (image) {
      image.onload = () => URL.revokeObjectURL(image.src);
      by('by-said').append(image);
    }
    by('by-said').append(`By ${asked.upload.name}`);
  }
}

function like(hit) {
  by('large').close();
  form.elements.text.value = '';
  asked.upload = null;
  asked.like = hit.id;
  search();
  scrollTo(0, 0);
}

function take(file) {
  if (!file) return;
  if (file.size > MOST_BYTES) {
    return say(`${file.name} is larger than ${MOST_BYTES >> 20} MB, the most ` +
      'that can be sent', true);
  }
  asked.upload = file;
  asked.like = '';
  search();
}

// What is no film to a browser: it moves as a picture.
const MOVING = /\.(gif|webp|png|avif)$/i;

function video(hit) {
  if (MOVING.test(hit.path)) {
    return make('img', {src: `/media/${hit.id}`, alt: hit.path});
  }
  const made = make('video', {controls: true, playsInline: true,
    preload: 'metadata', poster: `/thumb/${hit.id}?size=1280`});
  made.src = `/media/${hit.id}`;
  made.addEventListener('loadedmetadata', () => {
    if (hit.start_s) made.currentTime = hit.start_s;
    made.play().catch(() => {});  // where the browser wants a click first
  }, {once: true});
  made.addEventListener('error', () => {
    if (by('large-shown').contains(made)) {
      by('large-shown').replaceChildren(picture(hit, 1280), make('p', {
        className: 'soft', textContent: 'This browser does not play it; ' +
          'open the file with another program.'}));
    }
  });
  return made;
}

async function text(hit) {
  const made = make('pre', {textContent: hit.text, tabIndex: 0});
  by('large-shown').replaceChildren(made);
  const answer = await fetch(`/media/${hit.id}`);
  if (answer.ok) made.textContent = await answer.text();
}

function enlarge(number) {
  const hit = hits[number];
  if (!hit) return;
  shown = number;
  by('large-title').textContent = `${number + 1}. ${hit.path}` +
    (hit.moment ? `, ${hit.moment}` : '');
  by('large-caption').textContent = hit.caption || '';
  by('large-caption').hidden = !hit.caption;
  by('large-facts').replaceChildren(...facts(hit));
  by('large-file').href = `/media/${hit.id}`;
  by('large-file').hidden = hit.gone;
  if (hit.kind === 'text') text(hit);
  else if (hit.gone) by('large-shown').textContent = 'The file is gone.';
  else {
    by('large-shown').replaceChildren(
      hit.kind === 'video' ? video(hit) : picture(hit, 1280));
  }
  by('large-before').disabled = number === 0;
  by('large-next').disabled = number === hits.length - 1;
  if (!by('large').open) by('large').showModal();
}

function cards() {
  return [...document.querySelectorAll('.open')];
}

function columns() {
  const all = cards();
  const top = all[0].getBoundingClientRect().top;
  const n = all.findIndex((one) => one.getBoundingClientRect().top !== top);
  return n < 0 ? all.length : n;
}

function move(key) {
  const all = cards();
  if (!all.length) return false;
  const now = all.indexOf(document.activeElement.closest('li')?.
    querySelector('.open'));
  const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(),
    ArrowDown: columns()}[key];
  const next = now < 0 ? 0 : now + step;
  if (next < 0 && key === 'ArrowUp') by('text').focus();
  else all[Math.min(Math.max(next, 0), all.length - 1)].focus();
  return true;
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = event.target;
  if (by('large').open) {
    if (at.tagName === 'VIDEO' || at.tagName === 'PRE') return;
    if (event.key === 'ArrowLeft') enlarge(shown - 1);
    else if (event.key === 'ArrowRight') enlarge(shown + 1);
    else if (event.key === 's') like(hits[shown]);
    else return;
    return event.preventDefault();
  }
  if (at === by('text') && event.key === 'ArrowDown') {
    if (move(event.key)) event.preventDefault();
    return;
  }
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) return;
  if (event.key === '/') {
    by('text').focus();
    by('text').select();
    event.preventDefault();
  } else if (event.key.startsWith('Arrow') && at.closest('li')) {
    if (move(event.key)) event.preventDefault();
  } else if (event.key === 's' && at.closest('li')) {
    like(hits[[...by('hits').children].indexOf(at.closest('li'))]);
  }
});

form.addEventListener('submit', (event) => {
  event.preventDefault();
  asked.like = '';
  search();
});
by('filters').addEventListener('change', () => search());
for (const name of LOOKS) {
  form.elements[name]?.addEventListener('change', (event) => {
    const other = form.elements[LOOKS.find((one) => one !== name)];
    if (event.target.checked && other) other.checked = false;
    search();
  });
}
by('filters-clear').addEventListener('click', () => {
  for (const field of by('filters').querySelectorAll('input, select')) {
    field.value = '';
  }
  search();
});
by('by-clear').addEventListener('click', () => {
  asked.upload = null;
  asked.like = '';
  by('text').focus();
  search();
});
by('file').addEventListener('change', () => {
  take(by('file').files[0]);
  by('file').value = '';
});
by('more').addEventListener('click', () => {
  asked.k = Math.min(2 * asked.k, MOST);
  search(true);
});
by('large-close').addEventListener('click', () => by('large').close());
by('large-before').addEventListener('click', () => enlarge(shown - 1));
by('large-next').addEventListener('click', () => enlarge(shown + 1));
by('large-similar').addEventListener('click', () => like(hits[shown]));
by('large').addEventListener('close', () => {
  by('large-shown').replaceChildren();  // ends a video
  cards()[shown]?.focus();
});
by('large').addEventListener('click', (event) => {
  if (event.target === by('large')) by('large').close();
});

let over = 0;  // dragged elements of the page that were entered
addEventListener('dragenter', (event) => {
  over += 1;
  by('drop').hidden = !event.dataTransfer.types.includes('Files');
});
addEventListener('dragleave', () => {
  over -= 1;
  if (!over) by('drop').hidden = true;
});
addEventListener('dragover', (event) => event.preventDefault());
addEventListener('drop', (event) => {
  event.preventDefault();
  over = 0;
  by('drop').hidden = true;
  take(event.dataTransfer.files[0]);
});
addEventListener('paste', (event) => take(event.clipboardData.files[0]));
addEventListener('popstate', () => {
  asked.upload = null;
  setFields(new URLSearchParams(location.search));
  search(true);
});
setFields(new URLSearchParams(location.search));
search(true);
