import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { DASHBOARDS } from '../../deploy/grafana/build.ts';
import type { Panel } from '../../deploy/grafana/panel.ts';
import { ROOT } from '../e2e/node-process.ts';

/** What deploy/ asks Prometheus: the expressions of rules and panels, and the metrics in them. */
export interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  for?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

export const RULES_FILE = readFileSync(join(ROOT, 'deploy/prometheus/rules.yml'), 'utf8');
export const RULES: Rule[] = parse(RULES_FILE).groups.flatMap((group: { rules: Rule[] }) => group.rules);

export const PANELS = Object.entries(DASHBOARDS).flatMap(([file, dashboard]) =>
  dashboard.rows.flatMap((row) => row.panels.map((panel) => ({ file, panel }))),
);

export function queriesOf(panel: Panel): string[] {
  return panel.kind === 'logs' ? [] : panel.queries.map(({ expr }) => expr.replaceAll('$battery', '.*'));
}

/** Names of metrics in an expression: what is neither a function, an operator, a label nor inside braces or quotes. */
export function namesOf(expr: string): string[] {
  const bare = expr
    .replace(/"[^"]*"/g, '')
    .replace(/\{[^}]*\}/g, '')
    .replace(/\[[^\]]*\]/g, '')
    .replace(/\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g, '');
  return [...bare.matchAll(/[a-zA-Z_:][\w:]*/g)]
    .filter(({ 0: word, index }) => !/^\s*\(/.test(bare.slice(index + word.length)))
    .map(([word]) => word)
    .filter((word) => !['or', 'and', 'unless', 'bool', 'offset'].includes(word));
}

/** Every metric that a rule or a panel asks for, but those that rules record. */
export function askedMetrics(): Set<string> {
  const recorded = new Set(RULES.flatMap(({ record }) => record ?? []));
  const expressions = [...RULES.map(({ expr }) => expr), ...PANELS.flatMap(({ panel }) => queriesOf(panel))];
  return new Set(expressions.flatMap(namesOf).filter((name) => !recorded.has(name)));
}

/** Series names of an exposition. */
export function exposedMetrics(text: string): Set<string> {
  return new Set(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name, type]) =>
      type === 'histogram' ? ['bucket', 'sum', 'count'].map((part) => `${name}_${part}`) : [name],
    ),
  );
}

/** Not ours: of Prometheus itself and of the exporter of the machine. */
export const FOREIGN =
  /^(up|ALERTS|node_(cpu_seconds_total|filesystem_avail_bytes|filesystem_size_bytes|memory_MemAvailable_bytes))$/;

/** Only a node of a mesh has these: it shares its log, and its database is a server. */
export const MESH_ONLY = /^twinmesh_(nats_connected|log_(?!lag_readings)\w+|database_pool_\w+)$/;
