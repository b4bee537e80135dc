import { resolve } from 'node:path';
import type { Settings } from '../config/settings.ts';

/** What a start shows: what runs in the process, what by URL, where things are, and the first key once. */
export interface BannerFacts {
  version: string;
  settings: Settings;
  kinds: readonly string[];
  /** Twins in the database when the node started. */
  twins: number;
  startedInMs: number;
  /** The first admin key of a new database, shown this once. */
  firstKey: string | null;
}

export function bannerText(facts: BannerFacts): string {
  const { settings } = facts;
  const http = `http://${printableHost(settings.host)}:${settings.port}`;
  const mqtt = printableHost(settings.host);
  const parts: [string, string][] = [
    [
      'mesh',
      settings.natsUrl === null
        ? 'one node, in this process'
        : `${settings.roles.join(', ')} over NATS at ${settings.natsUrl.split(',').map(withoutSecret).join(', ')}`,
    ],
    [
      'state and history',
      settings.databaseUrl === null
        ? `embedded PostgreSQL (PGlite) in ${resolve(settings.dataDir)}`
        : `PostgreSQL at ${withoutSecret(settings.databaseUrl)}`,
    ],
    [
      'log',
      settings.natsUrl === null
        ? 'in memory; a source is told after the commit'
        : `JetStream; a source is told ${settings.ack === 'commit' ? 'after the commit' : 'when the log has it'}`,
    ],
    [
      'MQTT broker',
      settings.mqttUrl === null && settings.natsUrl !== null
        ? 'none; set MQTT_URL'
        : settings.mqttUrl === null
          ? `embedded, mqtt://${mqtt}:${settings.mqttListenPort} and ws://${mqtt}:${settings.mqttWsPort}`
          : `client of ${withoutSecret(settings.mqttUrl)}`,
    ],
    ['kinds', facts.kinds.join(', ')],
    ['twins', `${facts.twins} known${settings.demo ? '; the demo fleet is on (DEMO=off ends it)' : ''}`],
  ];
  const watched = settings.roles.includes('gateway') ? http : `http://${mqtt}:${settings.metricsPort}`;
  const api: [string, string][] = [
    ['API', `${http}/api/v1/twins`],
    ['documentation', `${http}/docs`],
  ];
  const places: [string, string][] = [
    ...(settings.roles.includes('gateway') ? api : []),
    ['health, metrics', `${watched}/health/ready  ${watched}/metrics`],
    ...(settings.natsUrl === null ? [] : ([['nodes', 'npm run -s nodes']] as [string, string][])),
    ['keys, devices', 'npm run -s key -- --help    npm run -s device -- --help'],
  ];
  const lines = [
    '',
    `twinmesh ${facts.version} · node ${settings.nodeId} · started in ${(facts.startedInMs / 1000).toFixed(1)} s`,
    '',
    ...columns(parts),
    '',
    ...columns(places),
  ];
  if (facts.firstKey !== null) {
    lines.push(
      '',
      '  The first admin key, shown this once and stored nowhere in clear:',
      '',
      `    ${facts.firstKey}`,
      '',
      `    curl -s -H 'Authorization: Bearer ${facts.firstKey}' ${http}/api/v1/fleet`,
    );
  }
  if (settings.notices.length > 0) lines.push('', ...settings.notices.map((notice) => `  note: ${notice}`));
  return `${lines.join('\n')}\n\n`;
}

function columns(rows: readonly [string, string][]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`);
}

function printableHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Host, port and path of a URL: user, password and query may be secrets. */
export function withoutSecret(url: string): string {
  const { host, pathname, protocol } = new URL(url);
  return `${protocol}//${decodeURIComponent(host)}${pathname === '/' ? '' : pathname}`;
}
