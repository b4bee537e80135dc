import type { ChaosNode } from '../chaos/node.ts';

/** What `GET /api/v1/nodes` says of a node, as far as it is shown. */
export interface NodeFacts {
  node: string;
  state: string;
  shards: number;
  twins: number;
  readings: number;
  fenced: number;
}

export interface Glance {
  nodes: readonly ChaosNode[];
  facts: ReadonlyMap<string, NodeFacts>;
  /** Readings a second folded by each node since the last look. */
  rates: ReadonlyMap<string, number>;
  alerts: number;
  acknowledged: number;
  gateway: string | null;
  key: string;
  keys: string;
  happened: readonly string[];
}

/** The live table of the demonstration. */
export function tableText({ nodes, facts, rates, alerts, acknowledged, gateway, key, keys, happened }: Glance): string {
  const head = ['node', 'state', 'shards', 'twins', 'readings/s', 'fenced', 'gateway'];
  const rows = nodes.map((node) => {
    const fact = facts.get(node.name);
    const state = !node.running ? 'dead' : node.paused ? 'paused' : (fact?.state ?? 'starting');
    const numbers = [fact?.shards ?? 0, fact?.twins ?? 0, Math.round(rates.get(node.name) ?? 0), fact?.fenced ?? 0];
    return [node.name, state, ...numbers.map(String), node.running ? node.url : ''];
  });
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i].length)));
  const lines = [head, ...rows].map((row) =>
    row.map((cell, i) => (i >= 2 && i <= 5 ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '),
  );
  const total = [...rates.values()].reduce((sum, rate) => sum + rate, 0);
  return [
    ...lines,
    '',
    `${Math.round(total)} readings/s folded, ${acknowledged} acknowledged to the devices, ${alerts} alerts standing`,
    gateway === null ? 'No gateway answers.' : `curl -s -H 'Authorization: Bearer ${key}' ${gateway}/api/v1/fleet`,
    '',
    ...happened.slice(-8),
    ...(keys === '' ? [] : ['', keys]),
    '',
  ].join('\n');
}
