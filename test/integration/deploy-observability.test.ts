import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { DASHBOARDS, dashboardFiles } from '../../deploy/grafana/build.ts';
import { eventually, NodeProcess, ROOT, whereabouts } from '../e2e/node-process.ts';
import { emptyDatabase } from '../servers/embedded.ts';
import { findPrometheus, type PrometheusServer, startPrometheus } from '../servers/prometheus.ts';
import {
  askedMetrics,
  exposedMetrics,
  FOREIGN,
  MESH_ONLY,
  namesOf,
  PANELS,
  queriesOf,
  RULES,
  RULES_FILE,
} from './deploy-expressions.ts';

/** Rules and dashboards: valid by promtool, made of metrics that a running node has, answered by a real Prometheus. */
const DEPLOY = join(ROOT, 'deploy');
const programs = findPrometheus();
describe('dashboards', () => {
  it('are the files that Grafana reads', () => {
    const committed = readdirSync(join(DEPLOY, 'grafana/dashboards'));
    const files = dashboardFiles();
    expect(committed.sort()).toEqual([...files.keys()].sort());
    for (const [name, text] of files)
      expect([name, readFileSync(join(DEPLOY, 'grafana/dashboards', name), 'utf8') === text]).toEqual([name, true]);
  });

  it('are those of the contracts, refreshed every 5 s, the battery with eight panels or more', () => {
    const titles = Object.values(DASHBOARDS).map(({ title }) => title);
    for (const title of [
      'System health',
      'Business',
      'Data quality',
      'Service levels',
      'MQTT rate',
      'Database performance',
      'Battery',
      'Runtime and mesh',
      'ML performance',
    ])
      expect(titles).toContain(title);
    for (const text of dashboardFiles().values()) expect(JSON.parse(text).refresh).toBe('5s');
    expect(PANELS.filter(({ file }) => file === 'battery').length).toBeGreaterThanOrEqual(8);
    expect(new Set(Object.values(DASHBOARDS).map(({ uid }) => uid)).size).toBe(titles.length);
  });

  it('ask sources of data that are provisioned', () => {
    const { datasources } = parse(readFileSync(join(DEPLOY, 'grafana/provisioning/datasources/plant.yml'), 'utf8'));
    const known = datasources.map(({ uid }: { uid: string }) => uid);
    const asked = [...dashboardFiles().values()].flatMap((text) =>
      [...text.matchAll(/"datasource": \{[^}]*"uid": "(\w+)"/g)].map(([, uid]) => uid),
    );
    expect(asked.length).toBeGreaterThan(50);
    expect([...new Set(asked)].filter((uid) => !known.includes(uid))).toEqual([]);
  });
});

describe('alert rules', () => {
  it('have the thresholds of the contracts', () => {
    const rule = (name: string) => RULES.find(({ alert }) => alert === name) as (typeof RULES)[number];
    expect(rule('ServiceDown')).toMatchObject({ expr: 'up == 0', for: '5m' });
    expect(rule('ErrorShareHigh').expr).toMatch(/> 0\.05$/);
    expect(rule('LatencyHigh').expr).toMatch(/p99_5m > 100$/);
    for (const name of [
      'DataQuality',
      'DevicesOffline',
      'DatabaseConnections',
      'CpuHigh',
      'DiskFilling',
      'LogLag',
      'FencedCommits',
      'NoProgress',
      'PoisonReadings',
    ])
      expect([name, rule(name)?.expr.length > 0]).toEqual([name, true]);
  });

  it('each say how bad it is, what is wrong and what to do', () => {
    for (const { alert, labels, annotations } of RULES.filter((rule) => rule.alert !== undefined)) {
      expect([alert, labels?.severity]).toEqual([alert, expect.stringMatching(/^(critical|high|warning)$/)]);
      expect([alert, annotations?.summary, annotations?.remedy]).toEqual([
        alert,
        expect.stringMatching(/\.$/),
        expect.stringMatching(/\.$/),
      ]);
    }
  });
});

describe.skipIf(programs === null)('with a real Prometheus', () => {
  const folder = mkdtempSync(join(tmpdir(), 'twinmesh-observed-'));
  let node: NodeProcess;
  let prometheus: PrometheusServer;
  let exposed: Set<string>;

  beforeAll(async () => {
    await emptyDatabase(join(folder, 'data'));
    const notifiers = join(folder, 'notifiers.json');
    const receivers = { erp: { type: 'webhook', url: 'http://127.0.0.1:9/' } };
    const rules = [{ name: 'all', events: ['alert'], receivers: ['erp'] }];
    writeFileSync(notifiers, JSON.stringify({ receivers, rules }));
    const settings = { DEMO: 'on', DEMO_SEED: '7', SHARDS: '16', SPEED_FACTOR: '2' };
    node = NodeProcess.start(folder, { ...settings, NOTIFIERS_FILE: notifiers, METRICS_KEEP_MS: '1000' });
    const { http, key } = await whereabouts(node);
    const ask = (path: string, init: RequestInit = {}) =>
      fetch(http + path, { ...init, headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' } });
    // A week in a few seconds: an anomaly, a refusal, a duplicate, a judged anomaly and requests of all kinds.
    const send = (values: object, when: string) =>
      ask('/api/v1/telemetry', {
        method: 'POST',
        body: JSON.stringify([{ twinId: 'machine:OBSERVED', at: when, values }]),
      });
    for (let i = 30; i > 0; i--)
      await send({ temperature: 60 + Math.sin(i) }, new Date(Date.now() - i * 1000).toISOString());
    const at = new Date().toISOString();
    await send({ temperature: 400, vibration: 900 }, at);
    await send({ temperature: 400, vibration: 900 }, at);
    await send({ temperature: 'hot' }, at);
    await ask('/api/v1/nothing');
    for (const path of ['twins', 'fleet', 'twins/machine:OBSERVED/history', 'sensors/1/stats', 'anomalies'])
      await ask(`/api/v1/${path}`);

    const config = parse(readFileSync(join(DEPLOY, 'prometheus/prometheus.yml'), 'utf8'));
    prometheus = await startPrometheus(programs!, {
      'rules.yml': RULES_FILE.replaceAll(/interval: 15s/g, 'interval: 1s'),
      'prometheus.yml': JSON.stringify({
        global: { ...config.global, scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
        rule_files: config.rule_files,
        scrape_configs: [{ job_name: 'twinmesh', static_configs: [{ targets: [new URL(http).host] }] }],
      }),
    });
    exposed = exposedMetrics(await (await fetch(`${http}/metrics`)).text());
    // Enough samples that rates have something to say, also of what is looked up in the database.
    await eventually(
      () =>
        prometheus.query(
          'max(changes(twinmesh_database_commits[1m])) > 0 and max(count_over_time(twinmesh:http_errors:share5m[1m])) >= 2',
        ),
      (found) => found.length > 0,
    );
  }, 120_000);
  afterAll(async () => {
    await prometheus?.stop();
    node?.signal('SIGTERM');
    await node?.ended();
    rmSync(folder, { recursive: true, force: true });
  });

  it('configuration and rules pass promtool, and the rules their unit tests', () => {
    const promtool = (...args: string[]) =>
      spawnSync(programs!.promtool, args, { cwd: join(DEPLOY, 'prometheus'), encoding: 'utf8' });
    for (const args of [
      ['check', 'config', '--syntax-only', 'prometheus.yml'],
      ['check', 'rules', 'rules.yml'],
      ['test', 'rules', 'rules.test.yml'],
    ]) {
      const done = promtool(...args);
      expect([args, done.status, done.stdout + done.stderr]).toEqual([args, 0, expect.stringMatching(/SUCCESS/)]);
    }
  });

  it('every metric of a rule or a panel is exposed', () => {
    const asked = askedMetrics();
    expect(asked.size).toBeGreaterThan(40);
    const here = [...asked].filter((name) => !FOREIGN.test(name) && !MESH_ONLY.test(name));
    expect(here.filter((name) => !exposed.has(name))).toEqual([]);
  });

  it('every panel is answered with data, except those of the machine and of the mesh', async () => {
    const empty: string[] = [];
    for (const { file, panel } of PANELS) {
      const queries = queriesOf(panel).filter(
        (expr) => !namesOf(expr).some((name) => name.startsWith('node_') || MESH_ONLY.test(name)),
      );
      for (const expr of queries) {
        const found = await prometheus.query(expr);
        if (found.length === 0) empty.push(`${file}: ${panel.title}: ${expr}`);
      }
    }
    expect(empty).toEqual([]);
  });

  it('says what happened', async () => {
    const one = async (expr: string) => Number((await prometheus.query(expr))[0]?.value[1]);
    expect(await one('sum(twinmesh_shards_owned)')).toBe(16);
    expect(await one('sum(twinmesh_readings_rejected_total)')).toBeGreaterThan(0);
    expect(await one('count(battery_soc_percent)')).toBeGreaterThan(0);
    expect(await one('sum(twinmesh_events_by_type_total{type="anomaly.detected"})')).toBeGreaterThan(0);
    expect(await one('max(twinmesh_database_commits)')).toBeGreaterThan(10);
    const { groups } = await prometheus.get<{
      groups: { rules: { name: string; health: string; lastError?: string }[] }[];
    }>('/api/v1/rules');
    const broken = groups.flatMap((group) => group.rules).filter((rule) => rule.health !== 'ok');
    expect(broken).toEqual([]);
  });
});
