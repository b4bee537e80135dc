import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { loadSettings, SettingsError } from '../../../config/settings.ts';
import { runLoad } from '../../../services/load/load-command.ts';
import { progressText } from '../../../services/load/progress.ts';
import { runReplay } from '../../../services/load/replay-command.ts';
import { noTotals, summaryText } from '../../../services/load/totals.ts';
import { folder } from './bytes.ts';

const files = folder();
afterAll(() => files.clean());
const DATA_DIR = join(files.path, 'data');

async function run(command: typeof runLoad | typeof runReplay, args: string[], env: Record<string, string> = {}) {
  const said = { out: '', err: '' };
  const code = await command(args, () => loadSettings({ DATA_DIR, MQTT_LISTEN_PORT: '1', ...env }), {
    out: { write: (text: string) => (said.out += text) },
    err: { write: (text: string) => (said.err += text) },
    signal: new AbortController().signal,
  });
  return { code, ...said };
}

const intel = Array.from({ length: 100 }, (_, i) => {
  const time = `2004-02-28 00:${String(Math.floor(i / 60)).padStart(2, '0')}:${String(i % 60).padStart(2, '0')}.5`;
  return i % 10 === 9 ? `${time} 1 2004-02-28T00:00:00Z` : `${time} ${i} 1 ${i === 5 ? 2000 : 20} 40 100 2.7`;
}).join('\n');

describe('npm run load', () => {
  it('explains itself', async () => {
    const { code, out } = await run(runLoad, ['--help']);
    expect(code).toBe(0);
    for (const word of ['--kind', '--map', '--start', '--restart', '--dry-run', 'bmw-i3', 'docs/load.md'])
      expect(out).toContain(word);
  });

  it('tries a file out without storing anything: --dry-run', async () => {
    const path = files.write('data.txt', intel);
    const { code, out } = await run(runLoad, ['--kind', 'mote', '--dry-run', path]);
    expect(code).toBe(0);
    expect(out).toMatch(/data\.txt: 100 lines/);
    expect(out).toMatch(/stored +89/);
    expect(out).toMatch(/rejected +1 {2}out_of_range 1/);
    expect(out).toMatch(/skipped +10 {2}no_sensor_data 10/);
    expect(out).toContain('e.g. temperature is 2000');
    expect(existsSync(DATA_DIR)).toBe(false);
  });

  it('looks at NDJSON as the server would: --dry-run', async () => {
    const path = files.write(
      'x.ndjson',
      '{"twinId":"mote:1","at":"2026-01-01T00:00:00Z","values":{"light":1}}\n{"twinId":"mote:1"\n{"twinId":"nope:1","values":{}}\n',
    );
    const { code, out } = await run(runLoad, ['--kind', 'mote', '--dry-run', path]);
    expect(code).toBe(0);
    expect(out).toMatch(/stored +1\n/);
    expect(out).toMatch(/not_json 1/);
    expect(out).toMatch(/unknown_kind 1/);
  });

  it('warns of what lies beyond the retention of history', async () => {
    const path = files.write('old.txt', intel);
    const { out, err } = await run(runLoad, ['--kind', 'mote', '--dry-run', path], { HISTORY_RETENTION_DAYS: '30' });
    expect(err).toMatch(/old\.txt holds readings from before \d{4}-\d\d-\d\d, which HISTORY_RETENTION_DAYS will drop/);
    expect(out).toContain('90 lie beyond the retention of history');
    const kept = await run(runLoad, ['--kind', 'mote', '--dry-run', path]);
    expect(kept.err).not.toContain('HISTORY_RETENTION_DAYS');
  });

  it('ends with 1 at a file that cannot be read, after its good part', async () => {
    const packed = gzipSync(`${intel}\n`.repeat(3000));
    const path = files.write('cut.gz', packed.subarray(0, packed.length - 200));
    const { code, out, err } = await run(runLoad, ['--kind', 'mote', '--dry-run', path]);
    expect(code).toBe(1);
    expect(err).toContain('ends too early: the gzip is truncated.');
    expect(err).toContain('goes on from there');
    expect(out).toMatch(/stored +\d{2,3},\d{3}/);
  });

  it.each([
    [['--kind', 'mote', '/no/such/file'], '/no/such/file does not exist.'],
    [['--kind', 'mote', files.path], 'is a folder'],
    [['--kind', 'mote', files.write('bin', new Uint8Array([0, 1, 2]))], 'no text file'],
    [
      ['--kind', 'mote', '--map', 'single-hop', files.write('empty.csv', 'a,b\n'), '--start', '2026-01-01'],
      'has no column',
    ],
    [
      ['--map', 'bmw-i3', files.write('drive.csv', 't_s,pack_v,pack_a,batt_temp_c,soc_pct\n0,380,1,20,80\n')],
      '--start',
    ],
  ])('ends with 2 for %j, a mistake of whoever typed it', async (args, message) => {
    const { code, err } = await run(runLoad, ['--dry-run', ...args]);
    expect(err).toContain(message);
    expect(code).toBe(2);
  });

  it('ends with 1 where nothing of a file was a reading', async () => {
    const path = files.write('nothing.txt', '2004-02-28 00:00:00 1 2004-02-28T00:00:00Z\n');
    expect((await run(runLoad, ['--kind', 'mote', '--dry-run', path])).code).toBe(1);
  });

  it.each([
    [['--kind', 'mote'], 'Name at least one file'],
    [['x.csv'], 'Say what the readings are of: --kind battery | device | machine | mote'],
    [['--kind', 'boat', 'x.csv'], 'There is no kind "boat"'],
    [['--kind', 'mote', '--map', 'bmw-i3', 'x.csv'], 'Map bmw-i3 makes readings of battery, not of mote.'],
    [['--kind', 'mote', '--map', 'nope', 'x.csv'], 'There is no map "nope"'],
    [['--kind', 'mote', '--start', 'soon', 'x.csv'], '--start: "soon" is not a time'],
    [['--kind', 'mote', '--bogus', 'x.csv'], "Unknown option '--bogus'"],
  ])('ends with 2 for %j', async (args, message) => {
    const { code, err } = await run(runLoad, args);
    expect(err).toContain(message);
    expect(code).toBe(2);
  });

  it('ends with 2 at settings that are wrong', async () => {
    const said = { err: '' };
    const path = files.write('s.txt', intel);
    const code = await runLoad(['--kind', 'mote', path], () => loadSettings({ PORT: 'x' }), {
      out: { write: () => true },
      err: { write: (text: string) => (said.err += text) },
      signal: new AbortController().signal,
    });
    expect(code).toBe(2);
    expect(said.err).toContain('PORT');
    expect(() => loadSettings({ PORT: 'x' })).toThrow(SettingsError);
  });

  it('refuses a map of metrics that the kind does not have', async () => {
    const path = files.write(
      'strange.json',
      JSON.stringify({
        kinds: ['mote'],
        format: 'csv',
        id: { constant: 'a' },
        time: { column: 't' },
        metrics: { lumen: 'x' },
      }),
    );
    const { err } = await run(runLoad, ['--map', path, 'x.csv']);
    expect(err).toContain('names lumen; a mote measures temperature, humidity, light, voltage.');
  });

  it('leaves nothing behind by dry runs', () => {
    expect(readdirSync(files.path)).not.toContain('data');
  });
});

describe('npm run replay', () => {
  const path = files.write('replay.txt', intel);

  it('explains itself', async () => {
    const { code, out } = await run(runReplay, ['--help']);
    expect(code).toBe(0);
    for (const word of ['--speed', '--broker', 'TWINMESH_KEY', 'bmw-i3']) expect(out).toContain(word);
  });

  it.each([
    [['--kind', 'mote', '--speed', 'fast', path], '--speed is a number of times above 0, or max.', 2],
    [['--kind', 'mote', '--speed', '0', path], '--speed is a number of times above 0, or max.', 2],
    [['--kind', 'mote', '--speed=-1', path], '--speed is a number of times above 0, or max.', 2],
    [['--kind', 'mote', '--broker', 'http://x', path], '--broker is a URL', 2],
    [['--kind', 'mote', '/no/such/file'], 'does not exist', 2],
    [
      ['--map', 'bmw-i3', files.write('trip.csv', 't_s,pack_v,pack_a,batt_temp_c,soc_pct\n0,380,1,20,80\n')],
      '--start',
      2,
    ],
    [['--kind', 'mote', path], 'No server runs on this DATA_DIR', 1],
    [['--kind', 'mote', '--key', 'k', path], 'MQTT: connect ECONNREFUSED 127.0.0.1:1', 1],
  ])('ends for %j', async (args, message, expected) => {
    const { code, err } = await run(runReplay, args);
    expect(err).toContain(message);
    expect(code).toBe(expected);
  });
});

describe('what is shown', () => {
  it('is a line of progress', () => {
    const totals = { ...noTotals(), lines: 500_000, rejected: { bad_id: 3 }, skipped: { too_long: 2 } };
    const state = {
      title: 'a.gz',
      sizeBytes: 200,
      bytesRead: () => 50,
      totals,
      linesBefore: 100_000,
      waiting: () => null,
    };
    expect(progressText(state, 10)).toBe('a.gz  25 %  500,000 lines  40,000/s  0:30 left  5 refused or skipped');
    expect(progressText({ ...state, waiting: () => 'the disk is full' }, 10)).toContain('waiting: the disk is full');
  });

  it('is a summary with the reasons', () => {
    const totals = { ...noTotals(), lines: 10, accepted: 5, backfilled: 2, duplicates: 1, skipped: { no_values: 4 } };
    expect(summaryText('a.csv', totals, 2)).toBe(
      [
        'a.csv: 10 lines, in 2.0 s (5 lines/s)',
        '  stored                 5  2 of them as backfill: history only, not folded',
        '  duplicates             1',
        '  rejected               0',
        '  skipped                4  no_values 4',
        '    no_values: all measurements blank',
      ].join('\n'),
    );
  });
});
