import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { BEGINNING } from '../../../services/load/block.ts';
import { cellsOf, separatorOf } from '../../../services/load/csv-line.ts';
import { openBlocks } from '../../../services/load/layout.ts';
import type { DataMap } from '../../../services/load/map.ts';
import { drain, folder, planOf, readAll } from './bytes.ts';

const files = folder();
afterAll(() => files.clean());
const START = Date.UTC(2026, 0, 1);
const map = (more: Partial<DataMap> = {}): DataMap => ({
  name: 'test',
  kinds: ['mote'],
  format: 'csv',
  id: { column: 'who' },
  time: { offset: [{ column: 't' }] },
  metrics: { temperature: 'temp', humidity: 'hum' },
  ...more,
});
const rows = (content: string, more: Partial<DataMap> = {}, name = 'rows.csv') =>
  readAll([files.write(name, content)], planOf('mote', map(more), START));

describe('CSV with a map', () => {
  it('reads columns by name, in any order, with what nobody asked for beside them', async () => {
    const { readings, lines } = await rows('extra,hum,who,t,temp\nx,40,m1,0,20.5\ny,41,m2,1.5,21\n');
    expect(lines).toBe(2);
    expect(readings).toEqual([
      { id: 'm1', at: START, values: { temperature: 20.5, humidity: 40 } },
      { id: 'm2', at: START + 1500, values: { temperature: 21, humidity: 41 } },
    ]);
  });

  it('takes a blank cell for a metric that is missing, and what the map calls missing', async () => {
    const { readings, skipped } = await rows('who,t,temp,hum\na,0,,40\nb,0, 20 ,n/a\nc,0,,n/a\nd,,20,40\n,0,20,40\n', {
      missing: ['n/a'],
    });
    expect(readings.map(({ values }) => values)).toEqual([{ humidity: 40 }, { temperature: 20 }]);
    expect(skipped).toEqual({ no_values: 1, no_time: 1, no_id: 1 });
  });

  it('converts: factor, offset, product, constant, decimals', async () => {
    const { readings } = await rows('who,t,k,a,b\nx,0,298.1,3,5\n', {
      metrics: {
        temperature: { column: 'k', offset: -273.15, decimals: 2 },
        humidity: { product: ['a', 'b'], factor: -1 },
        light: { constant: 7 },
        voltage: { column: 'a', factor: 0.1, decimals: 3 },
      },
    });
    expect(readings[0].values).toEqual({ temperature: 24.95, humidity: -15, light: 7, voltage: 0.3 });
  });

  it('leaves what is no number to the door', async () => {
    const { readings } = await rows('who,t,temp,hum\na,0,warm,NaN\na,soon,20,40\n');
    expect(readings[0].values).toEqual({ temperature: 'warm', humidity: Number.NaN });
    expect(readings[1].at).toBeNaN();
  });

  it.each<[string, Partial<DataMap>, string, unknown]>([
    ['by a column and a prefix', { id: { column: 'who', prefix: 'Z-' } }, 'a.csv', 'Z-m1'],
    ['by the file name up to its first dot', { id: { file: true } }, 'TripA01.csv.gz', 'TripA01'],
    ['by a group of the file name', { id: { file: 'unit_(\\d+)', prefix: 'U' } }, 'log_unit_17.csv', 'U17'],
    ['by a constant', { id: { constant: 'rig' } }, 'a.csv', 'rig'],
    ['by the number of the row', { id: { count: 'row', from: 5 } }, 'a.csv', '5'],
  ])('knows whose reading it is %s', async (_, more, name, id) => {
    const { readings } = await rows('who,t,temp,hum\nm1,0,20,40\n', more, name);
    expect(readings[0].id).toBe(id);
  });

  it.each<[string, DataMap['time'], number | string]>([
    ['a column of ISO 8601', { column: 'iso' }, Date.UTC(2013, 6, 4, 1)],
    ['a column of epoch seconds', { column: 's' }, 1_500_000_000_500],
    ['a column of small epoch milliseconds', { column: 'ms', unit: 'ms' }, '1970-01-02T00:00:00.000Z'],
    ['offsets that add up', { offset: [{ column: 'cycle', seconds: 3600 }, { column: 't' }] }, START + 7_201_250],
    ['a running number', { offset: [{ column: 'n', from: 1, seconds: 5 }] }, START + 45_000],
    ['the row', { offset: [{ count: 'row', seconds: 60 }] }, START + 60_000],
  ])('knows when it was by %s', async (_, time, at) => {
    const content =
      'who,t,iso,s,ms,cycle,n,temp,hum\nz,0,,,,,,1,1\nm,1.25,2013-07-04 01:00:00,1500000000.5,86400000,2,10,20,40\n';
    const { readings } = await rows(content, { time });
    expect(readings.at(-1)?.at).toBe(at);
  });

  it('carries seq, key, unit and attributes', async () => {
    const more: Partial<DataMap> = {
      seq: 'n',
      key: 'uid',
      unit: 'C',
      attributes: { room: { column: 'room' }, site: { constant: 'lab' } },
    };
    const { readings } = await rows('who,t,temp,hum,n,uid,room\nm,0,20,40,17,u-1,\n', more);
    expect(readings[0]).toMatchObject({ seq: 17, key: 'u-1', unit: 'C', attributes: { site: 'lab' } });
    expect(readings[0].attributes).not.toHaveProperty('room');
  });

  it('skips rows that have other cells than the header, and goes on', async () => {
    const { readings, skipped } = await rows('who,t,temp,hum\na,0,20\nb,0,20,40,50\n\n"c,0,20,40\nd,0,20,40\n');
    expect(readings.map(({ id }) => id)).toEqual(['d']);
    expect(skipped).toEqual({ column_count: 2, unclosed_quote: 1 });
  });

  it('names the columns that are not there', async () => {
    await expect(rows('who,t,hum\na,0,40\n')).rejects.toThrow('rows.csv has no column temp; it has who, t, hum.');
  });

  it('asks for a start where it counts from one', async () => {
    const path = files.write('s.csv', 'who,t,temp,hum\n');
    await expect(readAll([path], planOf('mote', map()))).rejects.toThrow('--start');
  });

  it('says when the name of a file holds no id', async () => {
    await expect(rows('who,t,temp,hum\n', { id: { file: 'unit_(\\d+)' } })).rejects.toThrow('rows.csv does not fit');
  });

  it('reads other separators, a byte order mark, CRLF and quotes', async () => {
    const { readings } = await rows('\ufeffwho;t;"temp";hum\r\n"a;""b""";0;20;40\r\n', { separator: ';' });
    expect(readings[0]).toMatchObject({ id: 'a;"b"', values: { temperature: 20, humidity: 40 } });
  });

  it('takes names of columns from the map where the file has none', async () => {
    const { readings } = await rows('a 0 20 40\nb 1 21 41\n', {
      separator: 'space',
      columns: ['who', 't', 'temp', 'hum'],
    });
    expect(readings.map(({ id }) => id)).toEqual(['a', 'b']);
  });

  it('reads NDJSON by a map too, into nested fields', async () => {
    const { readings, skipped } = await rows(
      '{"who":"a","t":0,"m":{"temp":20},"hum":null}\n{"who":\n[1]\n',
      { format: 'ndjson', metrics: { temperature: 'm.temp', humidity: 'hum' } },
      'rows.ndjson',
    );
    expect(readings).toEqual([{ id: 'a', at: START, values: { temperature: 20 } }]);
    expect(skipped).toEqual({ not_json: 1, wrong_type: 1 });
  });

  it('goes on behind any block as if it had not stopped', async () => {
    const lines = Array.from({ length: 9000 }, (_, i) => `m${i % 7},${i},${20 + (i % 5)},40`);
    const path = files.write('long.csv', `who,t,temp,hum\n${lines.join('\n')}`);
    const plan = planOf('mote', map({ id: { count: 'row' } }), START);
    const [blocks] = await openBlocks([path], plan);
    const whole = await drain(blocks);
    expect(whole.blocks).toHaveLength(3);
    expect(whole.readings).toHaveLength(9000);
    let before = 0;
    for (const block of whole.blocks) {
      before += block.readings.length;
      const rest = await drain((await openBlocks([path], plan))[0], block.end);
      expect(rest.readings).toEqual(whole.readings.slice(before));
    }
  });
});

describe('files without a map', () => {
  it('are Intel lab text by their first line', async () => {
    const content =
      '2004-03-31 03:38:15.757551 2 1 122.153 -3.91901 11.04 2.03397\nnothing\n2004-03-31 03:38:15 7 1078136430\n';
    const { readings, skipped } = await readAll([files.write('data.txt', content)], planOf('mote'));
    expect(readings).toHaveLength(1);
    expect(skipped).toEqual({ part_count: 1, no_sensor_data: 1 });
    await expect(readAll([files.write('data.txt', content)], planOf('battery'))).rejects.toThrow(
      'a battery does not have',
    );
  });

  it('are NDJSON by their first character, and handed on as they stand', async () => {
    const content = '{"a":1}\r\n\n  \n{"b":2}\nbroken';
    const [blocks] = await openBlocks([files.write('x.txt', content)], planOf('mote'));
    const { blocks: made } = await drain(blocks);
    expect(Buffer.concat(made.map(({ messages }) => messages as Buffer)).toString()).toBe(
      '{"a":1}\r\n{"b":2}\nbroken\n',
    );
    expect(made[0].end).toEqual({ offset: content.length, lines: 5, rows: 3 });
  });

  it('are handed on in blocks of bounded size that begin at lines', async () => {
    const lines = Array.from({ length: 5000 }, (_, i) => JSON.stringify({ i, pad: 'x'.repeat(i % 50) }));
    const path = files.write('many.ndjson', `${lines.join('\n')}\n`);
    const plan = { ...planOf('mote'), messageBytes: 4096 };
    const { blocks } = await drain((await openBlocks([path], plan))[0]);
    for (const { messages } of blocks) expect(messages?.length).toBeLessThanOrEqual(4096);
    const texts = blocks.map(({ messages }) => (messages as Buffer).toString());
    expect(texts.join('')).toBe(`${lines.join('\n')}\n`);
    const later = await drain((await openBlocks([path], plan))[0], blocks[3].end);
    expect(later.blocks.map(({ messages }) => (messages as Buffer).toString()).join('')).toBe(texts.slice(4).join(''));
  });

  it('are CSV called as the kind calls things: its own format or its metrics', async () => {
    const own = 'battery_id,timestamp,SoC,Battery_Voltage\nEV-1,2026-01-01T00:00:00Z,80,380\n';
    const { readings } = await readAll([files.write('ev.csv', own)], planOf('battery'));
    expect(readings).toEqual([{ id: 'EV-1', at: START, values: { soc: 80, voltage: 380 } }]);
    const plain = 'Timestamp;machine_id;temperature;vibration\n2026-01-01 00:00:00;M1;60;1.5\n';
    const machine = await readAll([files.write('m.csv', plain)], planOf('machine'));
    expect(machine.readings).toEqual([{ id: 'M1', at: START, values: { temperature: 60, vibration: 1.5 } }]);
    const open = 'device_id,at,co2,noise\nd,2026-01-01T00:00:00Z,650,40\n';
    const device = await readAll([files.write('d.csv', open)], planOf('device'));
    expect(device.readings[0].values).toEqual({ co2: 650, noise: 40 });
  });

  it('that say neither are refused with a way out', async () => {
    await expect(readAll([files.write('a.csv', 'x,y,z\n1,2,3\n')], planOf('mote'))).rejects.toThrow(
      'give a map (--map)',
    );
    await expect(readAll([files.write('b.txt', 'hello\n')], planOf('mote'))).rejects.toThrow('a map (--map) says how');
    await expect(readAll([files.write('c.json', '[{"a":1}]')], planOf('mote'))).rejects.toThrow("jq -c '.[]'");
  });

  it('may be empty', async () => {
    expect(await readAll([files.write('empty', '')], planOf('mote'))).toMatchObject({ readings: [], fault: null });
    expect(await readAll([files.write('e.gz', gzipSync(''))], planOf('mote'))).toMatchObject({
      readings: [],
      fault: null,
    });
  });
});

describe('files that are hostile', () => {
  const csv = `who,t,temp,hum\n${Array.from({ length: 50_000 }, (_, i) => `m${i},${i},${(i * 7919) % 83},${(i * 104729) % 97}`).join('\n')}\n`;

  it('are unpacked where they are gzip by content, whatever they are called', async () => {
    const { readings, fault } = await rows(csv);
    expect([readings.length, fault]).toEqual([50_000, null]);
    const packed = await readAll([files.write('packed.csv', gzipSync(csv))], planOf('mote', map(), START));
    expect(packed.readings).toEqual(readings);
    const plain = await readAll([files.write('plain.csv.gz', csv)], planOf('mote', map(), START));
    expect(plain.readings).toEqual(readings);
  });

  it('give their good part before they turn out to be truncated', async () => {
    const packed = gzipSync(csv);
    const path = files.write('cut.csv.gz', packed.subarray(0, packed.length - 30_000));
    const { readings, fault } = await readAll([path], planOf('mote', map(), START));
    expect(fault).toBe(`${path} ends too early: the gzip is truncated.`);
    expect(readings.length).toBeGreaterThan(10_000);
    expect(readings.length).toBeLessThan(50_000);
    // No half of a line was taken for a reading.
    const last = csv.split('\n')[readings.length].split(',');
    expect(readings.at(-1)).toEqual({
      id: last[0],
      at: START + Number(last[1]) * 1000,
      values: { temperature: +last[2], humidity: +last[3] },
    });
  });

  it('are refused where the gzip is damaged from the start', async () => {
    const packed = gzipSync(csv);
    packed.fill(0x55, 10);
    await expect(readAll([files.write('bad.gz', packed)], planOf('mote', map(), START))).rejects.toThrow(
      'damaged gzip',
    );
    await expect(readAll([files.write('head.gz', packed.subarray(0, 5))], planOf('mote'))).rejects.toThrow('truncated');
  });

  it('are refused where they do not exist, are a folder, or hold no text', async () => {
    const plan = planOf('mote', map(), START);
    await expect(readAll(['/no/such/file'], plan)).rejects.toThrow('/no/such/file does not exist.');
    await expect(readAll([files.path], plan)).rejects.toThrow('is a folder; name the files in it.');
    await expect(readAll(['/dev/null'], plan)).rejects.toThrow('/dev/null is no regular file.');
    await expect(readAll([files.write('bin', Buffer.from([1, 0, 2]))], plan)).rejects.toThrow('no text file');
  });

  it('are refused where the header has no end', async () => {
    await expect(rows('a,'.repeat(100_000))).rejects.toThrow('The first line of rows.csv is too long for a header.');
  });

  it('cannot fill the memory with one line', async () => {
    const { readings, skipped } = await rows(`who,t,temp,hum\n${'9'.repeat(3_000_000)}\na,0,20,40\n`);
    expect(readings).toHaveLength(1);
    expect(skipped).toEqual({ too_long: 1 });
  });
});

describe('cells', () => {
  it.each([
    ['a,b,c', ['a', 'b', 'c']],
    ['a,,', ['a', '', '']],
    ['"a,b",c', ['a,b', 'c']],
    ['"a""b",""', ['a"b', '']],
    ['a"b,c', ['a"b', 'c']],
    ['"a"x,b', ['ax', 'b']],
    ['"a', null],
    ['', ['']],
  ])('%j are %j', (line, cells) => {
    expect(cellsOf(line, ',')).toEqual(cells);
  });

  it('are told apart by what the header has most of', () => {
    expect(['a,b;c,d', 'a;b;c', 'a\tb', 'a|b', 'a b  c', 'a'].map(separatorOf)).toEqual([
      ',',
      ';',
      '\t',
      '|',
      'space',
      ',',
    ]);
  });
});

describe('positions', () => {
  it('begin behind the header', async () => {
    const path = files.write('p.csv', 'who,t,temp,hum\na,0,1,2\n');
    const [blocks] = await openBlocks([path], planOf('mote', map(), START));
    const { blocks: made } = await drain(blocks, BEGINNING);
    expect(made.map(({ end }) => end)).toEqual([{ offset: 23, lines: 2, rows: 1 }]);
  });
});
