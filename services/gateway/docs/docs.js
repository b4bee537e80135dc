'use strict';
// The page of /docs: draws /openapi.json. No library, no request but those to this server.
const keyField = document.getElementById('key');
const filterField = document.getElementById('filter');
const main = document.getElementById('operations');
const sections = document.getElementById('sections');
const operations = [];
let openStream = null;
/** The document, once it is here. */
let api = null;

// The key stays in this tab only.
keyField.value = sessionStorage.getItem('key') ?? '';
keyField.addEventListener('input', () => sessionStorage.setItem('key', keyField.value.trim()));
filterField.addEventListener('input', filter);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function typeOf(schema) {
  if (!schema) return '';
  if (schema.$ref) return schema.$ref.split('/').pop();
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map(String).join(' | ');
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(' or ');
  if (schema.type === 'array') return `${typeOf(schema.items) || 'any'}[]`;
  const type = Array.isArray(schema.type) ? schema.type.join(' | ') : (schema.type ?? 'any');
  const lo = schema.minimum ?? schema.minLength ?? schema.exclusiveMinimum;
  const hi = schema.maximum ?? schema.maxLength;
  return lo === undefined && hi === undefined ? type : `${type} ${lo ?? ''}…${hi ?? ''}`;
}

function sample(schema, depth = 0) {
  if (!schema || depth > 4) return null;
  if (schema.examples) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return sample(schema.anyOf[0], depth);
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === 'object') {
    const names = schema.required ?? Object.keys(schema.properties ?? {}).slice(0, 3);
    return Object.fromEntries(names.map((name) => [name, sample((schema.properties ?? {})[name], depth + 1)]));
  }
  if (type === 'array') return [sample(schema.items, depth + 1)];
  if (type === 'number' || type === 'integer') return schema.minimum ?? 0;
  if (type === 'boolean') return false;
  return type === 'string' ? '' : null;
}

function draw() {
  document.getElementById('version').textContent = `API ${api.info.version}`;
  main.replaceChildren(el('p', {}, `${api.info.description} Put a key into the field above to try an operation.`));
  const byTag = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags[0];
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push({ path, method, operation });
    }
  }
  for (const tag of [...byTag.keys()].sort()) {
    const list = byTag.get(tag);
    const heading = el('h2', { id: `tag-${tag}` }, tag);
    main.append(heading);
    sections.append(el('li', {}, el('a', { href: `#tag-${tag}` }, tag, el('span', {}, String(list.length)))));
    const nodes = list.map((each) => drawOperation(each));
    main.append(...nodes);
    operations.push({ heading, nodes });
  }
  drawErrors();
}

function drawOperation({ path, method, operation }) {
  const node = el('details', { class: 'operation', id: operation.operationId });
  node.dataset.words = `${method} ${path} ${operation.summary} ${operation['x-role']} ${operation.tags.join(' ')}`.toLowerCase();
  node.append(
    el(
      'summary',
      {},
      el('span', { class: `method ${method}` }, method.toUpperCase()),
      el('span', { class: 'path' }, path),
      el('span', { class: 'summary' }, operation.summary),
      el('span', { class: 'role' }, operation['x-role']),
    ),
  );
  // Drawn when first opened: most never are.
  node.addEventListener('toggle', () => {
    if (node.open && node.children.length === 1) node.append(inside(path, method, operation));
  });
  return node;
}

function inside(path, method, operation) {
  const fields = (operation.parameters ?? []).map((parameter) => ({
    parameter,
    input: el('input', {
      'aria-label': parameter.name,
      placeholder: parameter.example ?? parameter.schema?.default ?? '',
      value: parameter.in === 'path' ? (parameter.example ?? '') : undefined,
    }),
  }));
  const content = operation.requestBody?.content ?? {};
  const contentType = Object.keys(content)[0];
  const body = contentType ? el('textarea', { 'aria-label': 'Body', spellcheck: 'false' }) : null;
  if (body) {
    const { example, schema } = content[contentType];
    const value = example ?? sample(schema);
    body.value = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  }
  const status = el('span', { class: 'status' });
  const answer = el('pre', { hidden: true });
  const request = { path, method, fields, body, contentType, status, answer };
  const answers = operation.responses['200']?.content ?? {};
  const streams = answers['text/event-stream'] !== undefined;
  const done = answers['application/json']?.schema;
  const button = (label, onclick, quiet) => el('button', { type: 'button', class: quiet ? 'quiet' : undefined, onclick }, label);
  const send = streams && !done ? null : button('Try it', () => run(request, false));
  const live = streams ? button('Follow live', () => run(request, true), send !== null) : null;
  const stop = streams ? button('Stop', () => openStream?.abort(), true) : null;
  const data = done?.properties?.data ?? done;
  return el(
    'div',
    { class: 'inside' },
    operation.description ? el('p', {}, ...prose(operation.description)) : null,
    fields.length > 0 ? el('div', {}, el('h3', {}, 'Parameters'), parameterTable(fields)) : null,
    body ? el('div', {}, el('h3', {}, `Body (${contentType})`), body) : null,
    el('div', { class: 'row' }, send, live, stop, status),
    answer,
    data && Object.keys(data).length > 0
      ? el('details', {}, el('summary', {}, 'Shape of the answer'), el('pre', {}, JSON.stringify(data, resolved, 2)))
      : null,
  );
}

/** Replaces references by what they lead to; none leads back to itself. */
function resolved(_key, value) {
  if (typeof value?.$ref !== 'string') return value;
  return value.$ref.split('/').slice(1).reduce((node, name) => node?.[name], api) ?? value;
}

/** Text with its `code` set as code. */
function prose(text) {
  return text.split('`').map((part, i) => (i % 2 === 1 ? el('code', {}, part) : part));
}

function parameterTable(fields) {
  return el(
    'table',
    {},
    ...fields.map(({ parameter, input }) =>
      el(
        'tr',
        {},
        el('th', { scope: 'row' }, el('code', {}, parameter.name), parameter.required ? el('b', { title: 'required' }, ' *') : null),
        el('td', {}, input),
        el('td', { class: 'type' }, `${parameter.in}, ${typeOf(parameter.schema)}`),
        el('td', {}, ...prose(parameter.description ?? '')),
      ),
    ),
  );
}

async function run({ path, method, fields, body, contentType, status, answer }, live) {
  const query = new URLSearchParams();
  const headers = {};
  let url = path;
  for (const { parameter, input } of fields) {
    const value = input.value;
    if (value === '' && parameter.in !== 'path') continue;
    if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (parameter.in === 'header') headers[parameter.name] = value;
    else query.set(parameter.name, value);
  }
  if ([...query].length > 0) url += `?${query}`;
  if (keyField.value.trim() !== '') headers.Authorization = `Bearer ${keyField.value.trim()}`;
  if (contentType) headers['Content-Type'] = contentType;
  if (live) headers.Accept = 'text/event-stream';
  openStream?.abort();
  openStream = new AbortController();
  answer.hidden = false;
  answer.textContent = '';
  status.className = 'status';
  status.textContent = '…';
  const started = performance.now();
  try {
    const response = await fetch(url, {
      method: method.toUpperCase(),
      headers,
      body: body && body.value.trim() !== '' ? body.value : undefined,
      signal: openStream.signal,
      cache: 'no-store',
    });
    status.classList.toggle('failed', !response.ok);
    status.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - started)} ms · ${method.toUpperCase()} ${url}`;
    if ((response.headers.get('content-type') ?? '').includes('event-stream')) return await follow(response, answer);
    const text = await response.text();
    answer.textContent = pretty(text);
  } catch (error) {
    if (error.name === 'AbortError') return;
    status.classList.add('failed');
    status.textContent = `No answer: ${error.message}`;
  }
}

async function follow(response, answer) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    answer.textContent = (answer.textContent + value).slice(-20000);
    answer.scrollTop = answer.scrollHeight;
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text.slice(0, 200000);
  }
}

function drawErrors() {
  const errors = JSON.parse(document.getElementById('error-list').content.textContent);
  const rows = errors.map(({ code, status, retryable, remedy }) =>
    el('tr', { id: `error-${code}` }, el('td', {}, code), el('td', {}, `${status}${retryable ? ', may be retried' : ''}`), el('td', {}, remedy)),
  );
  main.append(el('h2', { id: 'tag-errors' }, 'errors'), el('table', { id: 'errors' }, ...rows));
  sections.append(el('li', {}, el('a', { href: '#tag-errors' }, 'errors', el('span', {}, String(errors.length)))));
}

function filter() {
  const words = filterField.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const { heading, nodes } of operations) {
    let shown = 0;
    for (const node of nodes) {
      node.hidden = !words.every((word) => node.dataset.words.includes(word));
      if (!node.hidden) shown++;
    }
    heading.hidden = shown === 0;
  }
}

fetch('/openapi.json')
  .then((response) => response.json())
  .then((document) => {
    api = document;
    draw();
    const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (target instanceof HTMLDetailsElement) target.open = true;
    target?.scrollIntoView();
  })
  .catch((error) => main.replaceChildren(el('p', { class: 'notice' }, `The document cannot be read: ${error.message}`)));
