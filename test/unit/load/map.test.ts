import { afterAll, describe, expect, it } from 'vitest';
import { loadMap, mapNames } from '../../../services/load/map.ts';
import { checkMap } from '../../../services/load/map-check.ts';
import { folder, kinds } from './bytes.ts';

const temporary = folder();
afterAll(() => temporary.clean());

const good = {
  kinds: ['mote'],
  format: 'csv',
  id: { column: 'who' },
  time: { column: 'when' },
  metrics: { temperature: 'temp' },
};

describe('maps', () => {
  it.each(mapNames())('%s of the project suits its kinds', (name) => {
    const map = loadMap(name);
    expect(map.name).toBe(name);
    expect(map.description).toMatch(/\.$/);
    for (const kind of map.kinds.map((k) => kinds.get(k))) {
      if (!kind.openMetrics) expect(kind.metricNames).toEqual(expect.arrayContaining(Object.keys(map.metrics)));
    }
  });

  it('are there for the data sets of the documentation', () => {
    expect(mapNames()).toEqual(expect.arrayContaining(['bmw-i3', 'single-hop', 'intel-30min', 'nasa-battery', 'ai4i']));
  });

  it('come from a file of their own', () => {
    expect(loadMap(temporary.write('mine.json', JSON.stringify(good)))).toMatchObject({ name: 'mine', ...good });
  });

  it('that are not there are named with those that are', () => {
    expect(() => loadMap('no-such-map')).toThrow(/no map "no-such-map"; there are .*bmw-i3/);
    expect(() => loadMap('./no/such.json')).toThrow('Map ./no/such.json: it does not exist.');
    expect(() => loadMap(temporary.write('broken.json', '{ "kinds": ['))).toThrow(/^Map .*broken\.json: .*JSON/);
  });

  it('are refused with every fault at once', () => {
    const path = temporary.write(
      'bad.json',
      JSON.stringify({ kinds: [], format: 'xml', id: {}, time: {}, metrics: {} }),
    );
    expect(() => loadMap(path)).toThrow(
      /kinds must be .*; format must be .*; id needs one of .*; time needs one of .*; metrics must name/,
    );
  });

  it.each([
    [null, 'it must be a JSON object'],
    [[], 'it must be a JSON object'],
    [{ ...good, kind: 'mote' }, 'map has an unknown field "kind"'],
    [{ ...good, kinds: ['Mote'] }, 'kinds must be a list of names of kinds, at least one'],
    [{ ...good, separator: '' }, 'separator must be "," ";" "\\t" "|" or "space"'],
    [{ ...good, columns: ['a', 1] }, 'columns must be a list of names, for format csv'],
    [{ ...good, id: { column: 'a', constant: 'b' } }, 'id needs one of column, file, constant, count'],
    [{ ...good, id: { constant: 'a/b' } }, 'id.constant must be 1 to 128 characters of A-Z a-z 0-9 . _ -'],
    [{ ...good, id: { file: 'no group' } }, 'id.file must be true, or a regular expression with a group'],
    [{ ...good, id: { file: '(' } }, 'id.file must be true, or a regular expression with a group'],
    [{ ...good, id: { column: 'a', prefix: 'b c' } }, 'id.prefix must be of A-Z a-z 0-9 . _ -'],
    [{ ...good, time: { column: 'a', unit: 'min' } }, 'time.unit must be s or ms'],
    [{ ...good, time: { offset: [] } }, 'time.offset must be a list of terms'],
    [{ ...good, time: { offset: [{ count: 'row' }] } }, 'time.offset[0].seconds is missing'],
    [{ ...good, time: { offset: [{ column: 'a', seconds: '5' }] } }, 'time.offset[0].seconds must be a number'],
    [{ ...good, time: { offset: [{ count: 'column', seconds: 5 }] } }, 'time.offset[0].count must be "row"'],
    [{ ...good, metrics: { 'a b': 'c' } }, 'metrics.a b: a metric is a letter and up to 62 of A-Z a-z 0-9 _ . -'],
    [
      { ...good, metrics: { a: { column: 'b', product: ['c'] } } },
      'metrics.a needs one of column, product, constant, integral',
    ],
    [{ ...good, metrics: { a: { column: 'b', factor: null } } }, 'metrics.a.factor must be a number'],
    [{ ...good, metrics: { a: { column: 'b', decimals: 1.5 } } }, 'metrics.a.decimals must be 0 to 15'],
    [{ ...good, metrics: { a: { column: 'b', scale: 2 } } }, 'metrics.a has an unknown field "scale"'],
    [{ ...good, metrics: { a: { file: 'b' } } }, 'metrics.a needs one of column, product, constant, integral'],
    [{ ...good, metrics: { a: { integral: 5 } } }, 'metrics.a.integral must name a column'],
    [
      { ...good, id: { column: 'b' }, metrics: { a: { integral: 'b' } } },
      'an integral is of a file of one asset: id must not be a column',
    ],
    [{ ...good, metrics: { a: { integral: 'b', restart: 5 } } }, 'metrics.a.restart must name a column'],
    [{ ...good, metrics: { a: { integral: 'b', where: 'c' } } }, 'metrics.a.where must be { "column": …, "is": … }'],
    [
      { ...good, metrics: { a: { integral: 'b', within: [2, 1] } } },
      'metrics.a.within must be two numbers, the lower one first',
    ],
    [{ ...good, metrics: { a: { column: 'b', within: [1, 2] } } }, 'metrics.a has an unknown field "within"'],
    [{ ...good, attributes: { a: { constant: {} } } }, 'attributes.a.constant must be a text, a number or a boolean'],
    [{ ...good, format: 'matrix' }, 'id needs one of constant, count'],
    [{ ...good, seq: 5 }, 'seq must be a text'],
  ])('%j: %s', (map, fault) => {
    expect(checkMap(map)).toContain(fault);
  });

  it('has no fault where there is none', () => {
    expect(checkMap(good)).toEqual([]);
  });
});
