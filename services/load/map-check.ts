import { ID_PATTERN, KIND_PATTERN, METRIC_PATTERN } from '../../actors/protocol/twin-id.ts';

/** Everything that is wrong with a map, as sentences that name the place. */
export function checkMap(content: unknown): string[] {
  const faults: string[] = [];
  if (!isObject(content)) return ['it must be a JSON object'];
  const matrix = content.format === 'matrix';
  known(content, 'map', FIELDS, faults);
  if (content.description !== undefined && typeof content.description !== 'string')
    faults.push('description must be a text');
  if (!isList(content.kinds, (kind) => typeof kind === 'string' && KIND_PATTERN.test(kind)))
    faults.push('kinds must be a list of names of kinds, at least one');
  if (!['csv', 'ndjson', 'matrix'].includes(content.format as string))
    faults.push('format must be csv, ndjson or matrix');
  if (content.separator !== undefined && ![',', ';', '\t', '|', 'space'].includes(content.separator as string))
    faults.push('separator must be "," ";" "\\t" "|" or "space"');
  if (content.columns !== undefined && !(content.format === 'csv' && isList(content.columns, isText)))
    faults.push('columns must be a list of names, for format csv');
  if (isObject(content.id)) checkId(content.id, matrix, faults);
  else faults.push('id must be an object');
  if (isObject(content.time)) checkTime(content.time, matrix, faults);
  else faults.push('time must be an object');
  if (isObject(content.metrics) && Object.keys(content.metrics).length > 0) {
    for (const [metric, rule] of Object.entries(content.metrics)) checkValue(metric, rule, matrix, faults);
  } else faults.push('metrics must name at least one metric');
  const isIntegral = (rule: unknown): boolean => isObject(rule) && 'integral' in rule;
  if (isObject(content.metrics) && Object.values(content.metrics).some(isIntegral) && isObject(content.id))
    if ('column' in content.id) faults.push('an integral is of a file of one asset: id must not be a column');
  checkAttributes(content.attributes, matrix, faults);
  for (const name of ['seq', 'key', 'unit', 'label']) {
    if (content[name] !== undefined && (matrix ? name !== 'unit' : false))
      faults.push(`${name} has no place in a matrix`);
    if (content[name] !== undefined && !isText(content[name])) faults.push(`${name} must be a text`);
  }
  if (content.missing !== undefined && !isList(content.missing, (text) => typeof text === 'string'))
    faults.push('missing must be a list of texts');
  return faults;
}

const FIELDS = [
  'description',
  'kinds',
  'format',
  'separator',
  'columns',
  'id',
  'time',
  'metrics',
  'attributes',
  'seq',
  'key',
  'unit',
  'missing',
  'label',
];

function checkId(id: Record<string, unknown>, matrix: boolean, faults: string[]): void {
  const way = oneOf(id, 'id', matrix ? ['constant', 'count'] : ['column', 'file', 'constant', 'count'], faults);
  known(id, 'id', [way ?? '', 'prefix', 'from'], faults);
  if (way === 'column' && !isText(id.column)) faults.push('id.column must name a column');
  if (way === 'constant' && !(typeof id.constant === 'string' && ID_PATTERN.test(id.constant)))
    faults.push('id.constant must be 1 to 128 characters of A-Z a-z 0-9 . _ -');
  if (way === 'count' && id.count !== 'row') faults.push('id.count must be "row"');
  if (id.from !== undefined && !(way === 'count' && Number.isSafeInteger(id.from)))
    faults.push('id.from must be a whole number, beside count');
  if (id.prefix !== undefined && !(typeof id.prefix === 'string' && /^[A-Za-z0-9._-]{0,64}$/.test(id.prefix)))
    faults.push('id.prefix must be of A-Z a-z 0-9 . _ -');
  if (way === 'file' && id.file !== true && !groups(id.file))
    faults.push('id.file must be true, or a regular expression with a group');
}

function checkTime(time: Record<string, unknown>, matrix: boolean, faults: string[]): void {
  const way = oneOf(time, 'time', matrix ? ['offset'] : ['column', 'offset'], faults);
  if (way === 'column') {
    known(time, 'time', ['column', 'unit'], faults);
    if (!isText(time.column)) faults.push('time.column must name a column');
    if (time.unit !== undefined && time.unit !== 's' && time.unit !== 'ms') faults.push('time.unit must be s or ms');
  }
  if (way !== 'offset') return;
  known(time, 'time', ['offset'], faults);
  if (!Array.isArray(time.offset) || time.offset.length === 0) {
    faults.push('time.offset must be a list of terms');
    return;
  }
  for (const [i, term] of (time.offset as unknown[]).entries()) {
    const where = `time.offset[${i}]`;
    if (!isObject(term)) {
      faults.push(`${where} must be an object`);
      continue;
    }
    const of = oneOf(term, where, matrix ? ['count'] : ['column', 'count'], faults);
    known(term, where, ['column', 'count', 'seconds', 'from'], faults);
    if (of === 'column' && !isText(term.column)) faults.push(`${where}.column must name a column`);
    if (of === 'count' && term.count !== 'row' && !(matrix && term.count === 'column'))
      faults.push(`${where}.count must be "row"${matrix ? ' or "column"' : ''}`);
    if (of === 'count' && term.seconds === undefined) faults.push(`${where}.seconds is missing`);
    if (of === 'count' && term.from !== undefined) faults.push(`${where}.from goes with a column`);
    for (const name of ['seconds', 'from'])
      if (term[name] !== undefined && !Number.isFinite(term[name])) faults.push(`${where}.${name} must be a number`);
  }
}

function checkValue(metric: string, rule: unknown, matrix: boolean, faults: string[]): void {
  const where = `metrics.${metric}`;
  if (!METRIC_PATTERN.test(metric)) faults.push(`${where}: a metric is a letter and up to 62 of A-Z a-z 0-9 _ . -`);
  if (typeof rule === 'string') {
    if (matrix) faults.push(`${where} must be { "file": … } in a matrix`);
    else if (rule === '') faults.push(`${where} must name a column`);
    return;
  }
  if (!isObject(rule)) {
    faults.push(`${where} must be the name of a column, or an object`);
    return;
  }
  const way = oneOf(rule, where, matrix ? ['file'] : ['column', 'product', 'constant', 'integral'], faults);
  const more = way === 'integral' ? ['restart', 'where', 'within'] : [];
  known(rule, where, [way ?? '', 'factor', 'offset', 'decimals', ...more], faults);
  if (way === 'integral') checkIntegral(where, rule, faults);
  if ((way === 'column' || way === 'file') && !isText(rule[way])) faults.push(`${where}.${way} must be a text`);
  if (way === 'product' && !isList(rule.product, isText)) faults.push(`${where}.product must be a list of columns`);
  if (way === 'constant' && !Number.isFinite(rule.constant)) faults.push(`${where}.constant must be a number`);
  for (const name of ['factor', 'offset'])
    if (rule[name] !== undefined && !Number.isFinite(rule[name])) faults.push(`${where}.${name} must be a number`);
  const { decimals } = rule;
  if (decimals !== undefined && !(Number.isInteger(decimals) && Number(decimals) >= 0 && Number(decimals) <= 15))
    faults.push(`${where}.decimals must be 0 to 15`);
}

function checkIntegral(place: string, rule: Record<string, unknown>, faults: string[]): void {
  const { integral, restart, where, within } = rule;
  if (!isText(integral)) faults.push(`${place}.integral must name a column`);
  if (restart !== undefined && !isText(restart)) faults.push(`${place}.restart must name a column`);
  if (where !== undefined && !(isObject(where) && isText(where.column) && isText(where.is)))
    faults.push(`${place}.where must be { "column": …, "is": … }`);
  const bounds = Array.isArray(within) && within.length === 2 && within.every(Number.isFinite) && within[0] < within[1];
  if (within !== undefined && !bounds) faults.push(`${place}.within must be two numbers, the lower one first`);
}

function checkAttributes(attributes: unknown, matrix: boolean, faults: string[]): void {
  if (attributes === undefined) return;
  if (!isObject(attributes)) {
    faults.push('attributes must be an object');
    return;
  }
  for (const [name, rule] of Object.entries(attributes)) {
    const where = `attributes.${name}`;
    if (!isObject(rule)) {
      faults.push(`${where} must be an object`);
      continue;
    }
    const way = oneOf(rule, where, matrix ? ['constant'] : ['column', 'constant'], faults);
    known(rule, where, [way ?? ''], faults);
    if (way === 'column' && !isText(rule.column)) faults.push(`${where}.column must name a column`);
    if (way === 'constant' && !['string', 'number', 'boolean'].includes(typeof rule.constant))
      faults.push(`${where}.constant must be a text, a number or a boolean`);
  }
}

function oneOf(object: Record<string, unknown>, where: string, ways: string[], faults: string[]): string | undefined {
  const given = ways.filter((way) => Object.hasOwn(object, way));
  if (given.length === 1) return given[0];
  faults.push(`${where} needs one of ${ways.join(', ')}`);
  return undefined;
}

function known(object: Record<string, unknown>, where: string, names: readonly string[], faults: string[]): void {
  for (const name of Object.keys(object))
    if (!names.includes(name)) faults.push(`${where} has an unknown field ${JSON.stringify(name.slice(0, 64))}`);
}

function groups(pattern: unknown): boolean {
  if (typeof pattern !== 'string' || pattern.length > 256) return false;
  try {
    // Against nothing an alternative always matches, and the match tells how many groups there are.
    return (new RegExp(`${pattern}|`).exec('') as RegExpExecArray).length > 1;
  } catch {
    return false;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && value.length <= 256;
}

function isList(value: unknown, of: (element: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(of);
}
