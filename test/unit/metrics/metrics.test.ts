import { describe, expect, it } from 'vitest';
import battery from '../../../actors/kinds/battery.ts';
import machine from '../../../actors/kinds/machine.ts';
import { systemClock } from '../../../actors/protocol/clock.ts';
import type { TwinEvent } from '../../../actors/protocol/event.ts';
import type { HostCounters, HostStatus, TwinEventListener } from '../../../actors/runtime/host-api.ts';
import { Metrics } from '../../../services/metrics.ts';
import { FakeClock, settle } from '../gateway/fake-clock.ts';

const counters: HostCounters = {
  accepted: 7,
  late: 1,
  duplicates: 2,
  conflicts: 0,
  backfilled: 3,
  poison: 0,
  commits: 4,
  fenced: 0,
  aborted: 0,
  unknownOutcomes: 0,
  activations: 5,
  passivations: 1,
  ticks: 0,
  commands: 0,
  events: 6,
};

function statusOf(change: Partial<HostStatus> = {}): HostStatus {
  return {
    node: 'n',
    state: 'running',
    shards: { owned: 3, total: 8, easing: 0, draining: 0, recovering: 0 },
    twins: { resident: 5 },
    stale: null,
    counters,
    inference: {
      asked: 0,
      answered: 0,
      refused: 0,
      dropped: 0,
      failed: 0,
      throttled: 0,
      waiting: 0,
      failingSince: null,
      failing: [],
    },
    ...change,
  };
}

/** One line of the exposition, without its name. */
async function sampleOf(metrics: Metrics, series: string): Promise<number | undefined> {
  const line = (await metrics.text()).split('\n').find((l) => l.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

function rows(found: { kind: string; id: string; reported: Record<string, number> }[], judged = [0, 0]) {
  const asked: string[] = [];
  return {
    asked,
    async query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
      asked.push(text);
      if (text.includes('anomaly_events')) {
        const by = { kind: 'battery', detector: 'model', model: 'battery-failure@1.0.0' };
        const rest = { kind: 'battery', detector: 'zscore', model: '' };
        return [
          { ...by, confirmed: judged[0] - 1, rejected: judged[1] },
          { ...rest, confirmed: 1, rejected: 0 },
        ] as Row[];
      }
      if (text.includes('jsonb_each_text')) return [] as Row[];
      if (text.includes('count(*)')) {
        const kinds = [...new Set(found.map((twin) => twin.kind))];
        return kinds.map((kind) => ({
          kind,
          health: 'ok',
          online: true,
          twins: found.filter((twin) => twin.kind === kind).length,
        })) as Row[];
      }
      const shown = params[0] as string[];
      return found.filter((twin) => shown.includes(twin.kind)) as Row[];
    },
  };
}

describe('metrics', () => {
  it('read the counters of the host at each scrape', async () => {
    const metrics = new Metrics(systemClock);
    let status = statusOf();
    metrics.followHost({ status: () => status, onEvents: () => () => undefined });
    expect(await sampleOf(metrics, 'twinmesh_readings_accepted_total')).toBe(7);
    expect(await sampleOf(metrics, 'twinmesh_shards_owned')).toBe(3);
    status = statusOf({
      counters: { ...counters, accepted: 9 },
      stale: { reason: 'store down', since: '2026-01-01T00:00:00.000Z', remedy: 'x' },
    });
    expect(await sampleOf(metrics, 'twinmesh_readings_accepted_total')).toBe(9);
    expect(await sampleOf(metrics, 'twinmesh_stale')).toBe(1);
    metrics.close();
  });

  it('measure anomalies as their events commit', async () => {
    const metrics = new Metrics({ ...systemClock, now: () => 1_000_042 });
    let tell: TwinEventListener = () => undefined;
    let left = false;
    metrics.followHost({
      status: statusOf,
      onEvents(listener) {
        tell = listener;
        return () => {
          left = true;
        };
      },
    });
    const event = { type: 'anomaly.detected', receivedAt: 1_000_000, body: { score: 4.5 } } as unknown as TwinEvent;
    tell([event, { ...event, type: 'twin.online' }], new Map());
    expect(await sampleOf(metrics, 'anomaly_detection_latency_ms_sum')).toBe(42);
    expect(await sampleOf(metrics, 'anomaly_score_distribution_count')).toBe(1);
    expect(await sampleOf(metrics, 'twinmesh_events_by_type_total{type="twin.online"}')).toBe(1);
    metrics.close();
    expect(left).toBe(true);
  });

  it('tell what ingress counted, by protocol and code', async () => {
    const metrics = new Metrics(systemClock);
    const tally = {
      messages: new Map([['mqtt', 12]]),
      readings: new Map([['mqtt accepted', 10]]),
      refusals: new Map([['http not_json', 2]]),
    };
    metrics.followIngress({ tally, inFlightBytes: 5, ignoredFields: 1, paused: null });
    expect(await sampleOf(metrics, 'mqtt_messages_received_total')).toBe(12);
    expect(await sampleOf(metrics, 'twinmesh_readings_rejected_total{protocol="http",code="not_json"}')).toBe(2);
    tally.messages.set('mqtt', 13);
    expect(await sampleOf(metrics, 'mqtt_messages_received_total')).toBe(13);
    metrics.close();
  });

  it('count cuts and requests as they are told', async () => {
    const metrics = new Metrics(systemClock);
    metrics.cut(120, 8);
    metrics.http({ method: 'GET', route: '/api/v1/twins/:twinId', status: 200, durationMs: 3 });
    expect(await sampleOf(metrics, 'twinmesh_cut_entries_sum')).toBe(120);
    const series = 'twinmesh_http_request_duration_ms_count{method="GET",route="/api/v1/twins/:twinId",status="200"}';
    expect(await sampleOf(metrics, series)).toBe(1);
    metrics.close();
  });
});

describe('gauges of twins', () => {
  // what models say has gauges and a look of its own
  const plain = { ...battery, models: undefined };
  const two = [
    { kind: 'battery', id: 'EV-001', reported: { soc: 81.5 } },
    { kind: 'battery', id: 'EV-002', reported: { soc: 40 } },
  ];
  const soc = Object.values(battery.metrics).find((metric) => metric.gauge === 'battery_soc_percent');
  const name = Object.keys(battery.metrics).find((key) => battery.metrics[key] === soc) ?? '';
  const fleet = two.map((twin) => ({ ...twin, reported: { [name]: twin.reported.soc } }));

  it('have the names and the label that the outside expects', async () => {
    const metrics = new Metrics(systemClock);
    metrics.followFleet({ sql: rows(fleet), kinds: [plain, machine], maxTwins: 2 });
    expect(await sampleOf(metrics, 'battery_soc_percent{battery_id="EV-001"}')).toBe(81.5);
    expect(await sampleOf(metrics, 'twinmesh_twins{kind="battery",health="ok",online="true"}')).toBe(2);
    metrics.close();
  });

  it('give way to aggregates above the cap', async () => {
    const metrics = new Metrics(systemClock);
    metrics.followFleet({ sql: rows(fleet), kinds: [plain, machine], maxTwins: 1 });
    expect(await metrics.text()).not.toContain('battery_id="EV-001"');
    expect(await sampleOf(metrics, 'twinmesh_twins{kind="battery",health="ok",online="true"}')).toBe(2);
    metrics.close();
  });

  it('take one look at the store for a scrape interval', async () => {
    const metrics = new Metrics(systemClock);
    const sql = rows(fleet, [3, 1]);
    metrics.followFleet({ sql, kinds: [plain], maxTwins: 10 });
    expect(await sampleOf(metrics, 'false_positive_rate')).toBe(0.25);
    const by = 'kind="battery",detector="model",model="battery-failure@1.0.0"';
    expect(await sampleOf(metrics, `twinmesh_false_positive_rate{${by}}`)).toBeCloseTo(1 / 3);
    await metrics.text();
    expect(sql.asked).toHaveLength(4);
    metrics.close();
  });

  it('do not break the scrape when the store is down', async () => {
    const metrics = new Metrics(systemClock);
    const sql = { query: () => Promise.reject(new Error('down')) };
    metrics.followFleet({ sql, kinds: [plain], maxTwins: 10 });
    await metrics.text();
    expect(await sampleOf(metrics, 'twinmesh_scrape_failures_total{source="fleet"}')).toBe(1);
    metrics.close();
  });

  it('show the last look while the store hangs, and ask it once', async () => {
    const clock = new FakeClock();
    const metrics = new Metrics(clock);
    const store = rows(fleet);
    let hangs = false;
    const query = <Row>(text: string, params?: readonly unknown[]) =>
      hangs ? new Promise<Row[]>(() => asked++) : store.query<Row>(text, params);
    let asked = 0;
    metrics.followFleet({ sql: { query }, kinds: [plain], maxTwins: 10 });
    const series = 'twinmesh_twins{kind="battery",health="ok",online="true"}';
    expect(await sampleOf(metrics, series)).toBe(2);
    hangs = true;
    clock.advance(10_000);
    const scrape = sampleOf(metrics, series);
    await settle();
    clock.advance(500);
    expect(await scrape).toBe(2);
    clock.advance(10_000);
    expect(await sampleOf(metrics, series)).toBe(2);
    expect(asked).toBe(1);
    metrics.close();
  });
});
