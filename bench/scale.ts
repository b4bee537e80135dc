import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { MEASURED, type Measured, type MeasuredName } from './measured.ts';

/**
 * The arithmetic of docs/SCALE.md: what a cell of NATS, PostgreSQL and hosts needs for a load, from measured figures and the
 * assumptions below. `node bench/scale.ts` prints the tables, `--write` puts them into the document.
 *
 * A figure that follows from one that is not measured yet is "to be measured", never a guess.
 */
export const ASSUMED = {
  devicesACell: {
    value: 1_000_000,
    unit: 'devices',
    why: 'the smaller of the two loads; a cell as large as one database can be looked after',
  },
  everyS: { value: 10, unit: 's', why: 'between two readings of a device' },
  utilisation: { value: 0.6, unit: '', why: 'of a core, so that a host may die and a checkpoint may run' },
  coresANode: {
    value: 1,
    unit: 'cores',
    why: 'a node folds on one thread; collection and sockets use some of a second',
  },
  databaseCores: { value: 16, unit: 'cores', why: 'a large but ordinary server' },
  walMbS: {
    value: 200,
    unit: 'MB/s',
    why: 'that a disk with flushes, and a standby behind a 10 Gbit/s line, take for hours',
  },
  pageBytes: {
    value: 8192,
    unit: 'bytes',
    why: 'of PostgreSQL; the newest entries of each twin are a page of their own in the index (twin, at)',
  },
  checkpointS: {
    value: 900,
    unit: 's',
    why: 'checkpoint_timeout; each hot page goes into the write-ahead log whole once in this time',
  },
  replicas: { value: 3, unit: 'copies', why: 'of the log, LOG_REPLICAS' },
  logMaxBytes: { value: 64 * 2 ** 30, unit: 'bytes', why: 'LOG_MAX_BYTES' },
  pool: { value: 10, unit: 'connections', why: 'DATABASE_POOL of each node' },
  shards: { value: 1024, unit: 'shards', why: 'SHARDS of a cell, for good; 4096 at most' },
  gateways: { value: 3, unit: 'nodes', why: 'with the history role, for people and programs' },
  marksPerS: { value: 50, unit: 'broadcasts/s', why: 'at most, of a host that commits events (one every 20 ms)' },
  heartbeatS: { value: 2, unit: 's', why: 'between heartbeats of a node' },
  maxConnections: {
    value: 400,
    unit: 'connections',
    why: 'each is a process of PostgreSQL; a pooler in between would break the sessions that checkpoints rely on',
  },
  deliveriesPerS: {
    value: 100_000,
    unit: 'messages/s',
    why: 'small ones, that a node and its NATS server still handle beside their work, all nodes together',
  },
  cutsPerS: { value: 10, unit: 'cuts/s', why: 'of a busy host; twinmesh_cut_duration_ms tells what it is' },
} as const;

type Amount = number | null;
type Values = Record<MeasuredName, Amount>;

export interface Cell {
  readingsPerS: number;
  hostCores: Amount;
  hosts: Amount;
  ingests: Amount;
  nodes: Amount;
  databaseCores: Amount;
  natsCores: Amount;
  walMbS: Amount;
  fullPageMbS: number;
  historyGbDay: Amount;
  logMbS: Amount;
  bridgedMin: Amount;
  residentGb: Amount;
  residentGbAHost: Amount;
  passiveGb: Amount;
  hotIndexGb: number;
  connections: Amount;
  broadcastsPerS: Amount;
  fenceRowsPerS: number;
  comeBackS: Amount;
}

/** Null wherever something it follows from is null. */
function of<const T extends Amount[]>(needs: T, compute: (...values: { [K in keyof T]: number }) => number): Amount {
  return needs.some((need) => need === null) ? null : compute(...(needs as unknown as { [K in keyof T]: number }));
}

export function cellOf(m: Values, devices: number = ASSUMED.devicesACell.value): Cell {
  const a = Object.fromEntries(Object.entries(ASSUMED).map(([name, { value }]) => [name, value])) as Record<
    keyof typeof ASSUMED,
    number
  >;
  const readingsPerS = devices / a.everyS;
  const cores = (us: Amount): Amount => of([us], (x) => (readingsPerS * x) / 1e6 / a.utilisation);
  const spread = of([m.hostCpuUs, m.fourNodes], (x, times) => x * Math.max(1, times));
  const hostCores = cores(spread);
  const hosts = of([hostCores], (x) => Math.max(2, Math.ceil(x / a.coresANode)) + 1);
  const ingests = of([m.ingestPerS], (x) => Math.max(2, Math.ceil(readingsPerS / x)) + 1);
  const nodes = of([hosts, ingests], (h, i) => h + i + a.gateways);
  const logMbS = of([m.logBytes], (x) => (readingsPerS * x) / 1e6);
  const fullPageMbS = (devices * a.pageBytes) / a.checkpointS / 1e6;
  const residentGb = of([m.residentBytes], (x) => (devices * x) / 1e9);
  return {
    readingsPerS,
    hostCores,
    hosts,
    ingests,
    nodes,
    databaseCores: cores(m.databaseCpuUs),
    natsCores: of([cores(m.natsCpuUs)], (x) => x * a.replicas),
    walMbS: of([m.walBytes], (x) => (readingsPerS * x) / 1e6),
    fullPageMbS,
    historyGbDay: of([m.historyBytes], (x) => (readingsPerS * 86_400 * x) / 1e9),
    logMbS,
    bridgedMin: of([logMbS], (x) => a.logMaxBytes / (x * 1e6) / 60),
    residentGb,
    residentGbAHost: of([residentGb, hosts], (x, h) => x / (h - 1)),
    passiveGb: of([m.passiveBytes], (x) => (devices * x) / 1e9),
    hotIndexGb: (devices * a.pageBytes) / 1e9,
    connections: of([nodes], (x) => x * a.pool),
    broadcastsPerS: of([hosts, nodes], (h, n) => h * a.marksPerS * (n - 1) + (n * (n - 1)) / a.heartbeatS),
    fenceRowsPerS: a.cutsPerS * a.shards,
    comeBackS: of([hosts, m.activationsPerS], (h, perS) => devices / h / perS),
  };
}

/** Of the document: name of the section → Markdown. */
export function sections(m: Values): Record<string, string> {
  const cell = cellOf(m);
  return {
    inputs: inputs(),
    assumptions: assumptions(),
    cells: cells(cell),
    retention: retention(cell),
    limits: limits(cell),
  };
}

const PENDING = '**to be measured**';

function amount(x: Amount, unit: string): string {
  if (x === null) return PENDING;
  const text = Math.abs(x) >= 100 ? Math.round(x).toLocaleString('en-US') : String(Number(x.toPrecision(3)));
  return `${text}${unit === '' ? '' : ` ${unit}`}`;
}

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function inputs(): string {
  const rows = Object.entries(MEASURED as Record<string, Measured>).map(
    ([name, { what, unit, value, command, where }]) => [
      `\`${name}\``,
      what,
      amount(value, unit),
      `\`${command}\` (${where})`,
    ],
  );
  return table(['name', 'what', 'measured', 'by'], rows);
}

function assumptions(): string {
  return table(
    ['name', 'assumed', 'what it is'],
    Object.entries(ASSUMED).map(([name, { value, unit, why }]) => [`\`${name}\``, amount(value, unit), why]),
  );
}

function cells(cell: Cell): string {
  const hundred = (x: Amount): Amount => of([x], (value) => value * 100);
  const row = (what: string, x: Amount, unit: string, times = true): string[] => [
    what,
    amount(x, unit),
    times ? amount(hundred(x), unit) : 'the same a cell',
  ];
  return table(
    ['', '1 M devices: one cell', '100 M devices: 100 cells'],
    [
      row('readings/s', cell.readingsPerS, ''),
      row('hosts, one of them to spare', cell.hosts, ''),
      row('cores folding', cell.hostCores, ''),
      row('ingest nodes', cell.ingests, ''),
      row('all nodes of the mesh, gateways included', cell.nodes, '', false),
      row('cores of PostgreSQL', cell.databaseCores, ''),
      row(`cores of NATS, ${ASSUMED.replicas.value} copies`, cell.natsCores, ''),
      row('write-ahead log as measured', cell.walMbS, 'MB/s'),
      row('full pages of the hot index beside it', cell.fullPageMbS, 'MB/s'),
      row('log written, one copy', cell.logMbS, 'MB/s'),
      row('outage of the database that the log bridges', cell.bridgedMin, 'min', false),
      row('memory of resident twins', cell.residentGb, 'GB'),
      row('of them a host, one host gone', cell.residentGbAHost, 'GB', false),
      row('twins and their snapshots on disk', cell.passiveGb, 'GB'),
      row('connections to PostgreSQL', cell.connections, '', false),
    ],
  );
}

function retention(cell: Cell): string {
  const keep = (days: number): Amount => of([cell.historyGbDay], (x) => (x * days) / 1000);
  return table(
    ['history kept', 'a cell of 1 M devices', '100 M devices'],
    [1, 7, 30, 365].map((days) => [
      `${days} ${days === 1 ? 'day' : 'days'}`,
      amount(keep(days), 'TB'),
      amount(
        of([keep(days)], (x) => x * 100),
        'TB',
      ),
    ]),
  );
}

function limits(cell: Cell): string {
  const share = (x: Amount, limit: number): string =>
    amount(
      of([x], (value) => (100 * value) / limit),
      '%',
    );
  const wal = of([cell.walMbS], (x) => x + cell.fullPageMbS);
  return table(
    ['what', 'a cell of 1 M devices needs', 'bound', 'used'],
    [
      [
        'CPU of PostgreSQL',
        amount(cell.databaseCores, 'cores'),
        amount(ASSUMED.databaseCores.value, 'cores'),
        share(cell.databaseCores, ASSUMED.databaseCores.value),
      ],
      [
        'write-ahead log, full pages included',
        amount(wal, 'MB/s'),
        amount(ASSUMED.walMbS.value, 'MB/s'),
        share(wal, ASSUMED.walMbS.value),
      ],
      [
        'hot pages of the history index in memory',
        amount(cell.hotIndexGb, 'GB'),
        'a quarter of the server’s memory',
        '',
      ],
      [
        'connections',
        amount(cell.connections, ''),
        amount(ASSUMED.maxConnections.value, ''),
        share(cell.connections, ASSUMED.maxConnections.value),
      ],
      [
        'broadcasts delivered between nodes',
        amount(cell.broadcastsPerS, '/s'),
        amount(ASSUMED.deliveriesPerS.value, '/s'),
        share(cell.broadcastsPerS, ASSUMED.deliveriesPerS.value),
      ],
      [
        'rows of `shards` rewritten, each leaving a dead one',
        amount(cell.fenceRowsPerS, '/s'),
        'in the CPU above; vacuum has to keep up',
        '',
      ],
      ['consumers of the stream', amount(ASSUMED.shards.value, ''), '16,384', share(ASSUMED.shards.value, 16_384)],
      [
        'twins of a dead host, read back at the rate measured',
        amount(cell.comeBackS, 's'),
        `${ASSUMED.everyS.value} s, until each of them has spoken`,
        share(cell.comeBackS, ASSUMED.everyS.value),
      ],
    ],
  );
}

/** The document with its tables computed anew. Throws where a mark is missing. */
export function written(document: string, tables: Record<string, string>): string {
  let text = document;
  for (const [name, body] of Object.entries(tables)) {
    const begin = `<!-- ${name}: written by bench/scale.ts -->`;
    const end = `<!-- ${name}: end -->`;
    const from = text.indexOf(begin);
    const to = text.indexOf(end);
    if (from < 0 || to < from) throw new Error(`docs/SCALE.md has no place for ${name}`);
    text = `${text.slice(0, from + begin.length)}\n\n${body}\n\n${text.slice(to)}`;
  }
  return text;
}

export function measuredValues(): Values {
  return Object.fromEntries(
    Object.entries(MEASURED as Record<string, Measured>).map(([name, { value }]) => [name, value]),
  ) as Values;
}

if (import.meta.main) {
  const tables = sections(measuredValues());
  const file = fileURLToPath(new URL('../docs/SCALE.md', import.meta.url));
  if (process.argv.includes('--write')) writeFileSync(file, written(readFileSync(file, 'utf8'), tables));
  else console.log(Object.values(tables).join('\n\n'));
}
