import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parquetMetadata } from 'hyparquet';
import { Pg } from '../../actors/store/pg.ts';
import { ROOT } from '../../test/e2e/node-process.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { type Figure, type Scenario, seconds } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const TWINS = 100;
const ROWS = Number(process.env.BENCH_EXPORT_ROWS ?? 10_000_000);

/** Years of readings out of PostgreSQL into one Parquet file by `npm run export`: how fast, and in how much memory. */
const scenario: Scenario = {
  name: 'export-parquet',
  title: `${ROWS.toLocaleString('en-US')} readings of ${TWINS} motes to Parquet`,
  async run(say) {
    const server = await findPostgres();
    if (server === null) throw new Error('There is no PostgreSQL here.');
    const folder = temporaryFolder('export');
    try {
      const url = await server.database();
      const out = join(folder.path, 'motes.parquet');
      // Opens the database, which makes the tables, and writes a file without rows: what the process takes by itself.
      const idle = await exported(folder.path, url, 'machine', join(folder.path, 'none.parquet'));
      await fill(url);
      say(`filled; a process that exports nothing takes ${mb(idle.peakBytes)} MB at most`);
      let peakBytes = 0;
      const took = await seconds(async () => {
        const done = await exported(folder.path, url, 'mote', out);
        say(done.output.trim());
        peakBytes = done.peakBytes;
      });
      const rows = rowsOf(out);
      if (rows !== ROWS) throw new Error(`The file has ${rows} rows instead of ${ROWS}.`);
      const figures: Figure[] = [
        { what: 'readings written, process start included', value: rows / took, unit: 'readings/s' },
        {
          what: 'peak memory above a process that exports nothing',
          value: mb(peakBytes - idle.peakBytes),
          unit: 'MB',
          atMost: 300,
          note: `${mb(peakBytes)} MB against ${mb(idle.peakBytes)} MB`,
        },
        { what: 'length of the file', value: statSync(out).size / rows, unit: 'bytes/reading' },
      ];
      return figures;
    } finally {
      folder.remove();
      await server.stop();
    }
  },
};
export default scenario;

const mb = (bytes: number) => Math.round(bytes / 1e6);

/** Runs the command line and watches its resident memory. */
async function exported(
  folder: string,
  url: string,
  kind: string,
  out: string,
): Promise<{ output: string; peakBytes: number }> {
  const args = [join(ROOT, 'services/export-cli.ts'), '--kind', kind, '--format', 'parquet', '--out', out];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: { PATH: process.env.PATH, DATA_DIR: join(folder, 'data'), DATABASE_URL: url, SHARDS: '16', DEMO: 'off' },
  });
  let output = '';
  child.stdout.on('data', (piece: Buffer) => {
    output += piece;
  });
  child.stderr.on('data', (piece: Buffer) => {
    output += piece;
  });
  let peakBytes = 0;
  const look = setInterval(() => {
    try {
      // The kernel keeps the highest it has been.
      const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1];
      peakBytes = Math.max(peakBytes, Number(kilobytes ?? 0) * 1024);
    } catch {
      // It has just ended.
    }
  }, 50);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearInterval(look);
  if (code !== 0) throw new Error(output);
  return { output, peakBytes };
}

/** Readings as the checkpoint stores them, made by the database itself. */
async function fill(url: string): Promise<void> {
  const sql = await Pg.open({ url, statementTimeoutMs: 0 });
  try {
    await sql.query(
      `insert into twins (twin, shard, twin_id, kind, id, revision, at, received_at, health, online, retired, alerts, reported, attributes)
       select i, i % 16, 'mote:' || i, 'mote', i::text, 1, now(), now(), 'ok', true, false, 0, '{}', '{}' from generate_series(1, $1::int) i`,
      [TWINS],
    );
    for (let twin = 1; twin <= TWINS; twin++) {
      await sql.query(
        `insert into mote_readings (shard, twin, at, received_at, revision, temperature, humidity, light, voltage)
         select $1::int % 16, $1::bigint, at, at + interval '40 ms', n, 20 + 4 * sin(n / 2000.0) + (n % 17) / 100.0,
           40 - 6 * sin(n / 2000.0) + (n % 13) / 100.0, case when n % 5 > 0 then 100 + 90 * sin(n / 2000.0) end, 2.69 - n / 1e7
         from (select n, timestamptz '2024-01-01' + n * interval '31 seconds' as at from generate_series(1, $2::int) n) r`,
        [twin, ROWS / TWINS],
      );
    }
    await sql.query('analyze mote_readings');
  } finally {
    await sql.close();
  }
}

function rowsOf(file: string): number {
  const { size } = statSync(file);
  const length = Math.min(size, 8_000_000);
  const footer = Buffer.alloc(length);
  const handle = openSync(file, 'r');
  readSync(handle, footer, 0, length, size - length);
  closeSync(handle);
  return Number(
    parquetMetadata(footer.buffer.slice(footer.byteOffset, footer.byteOffset + length) as ArrayBuffer).num_rows,
  );
}
