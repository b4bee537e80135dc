import type { Dashboard } from './panel.ts';

/** Dashboards of the fleet: business, data quality, MQTT, batteries. Shared figures: maximum over nodes. */
const events = (type: string, window = '1h') =>
  `sum(increase(twinmesh_events_by_type_total{type="${type}"}[${window}])) or vector(0)`;

export const BUSINESS: Dashboard = {
  uid: 'twinmesh-business',
  title: 'Business',
  description: 'What the fleet does, what was found, and what was done about it.',
  tags: ['business'],
  from: 'now-24h',
  rows: [
    {
      title: 'Fleet',
      height: 6,
      panels: [
        {
          title: 'Twins',
          kind: 'stat',
          queries: [{ expr: 'max by (kind) (sum by (kind, instance) (twinmesh_twins))', legend: '{{kind}}' }],
        },
        {
          title: 'Online',
          kind: 'gauge',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [
            {
              expr: '1 - (twinmesh:offline:share or 0 * max by (kind) (sum by (kind, instance) (twinmesh_twins)))',
              legend: '{{kind}}',
            },
          ],
          thresholds: [0.95, 0.9],
        },
        {
          title: 'Health',
          kind: 'stat',
          queries: [{ expr: 'max by (health) (sum by (health, instance) (twinmesh_twins))', legend: '{{health}}' }],
        },
      ],
    },
    {
      title: 'Anomalies and alerts',
      panels: [
        { title: 'Anomalies an hour', queries: [{ expr: events('anomaly.detected'), legend: 'anomalies' }] },
        {
          title: 'Open alerts',
          stacked: true,
          queries: [
            {
              expr: 'max by (severity) (sum by (severity, instance) (twinmesh_alerts)) or vector(0)',
              legend: '{{severity}}',
            },
          ],
        },
        {
          title: 'Alerts an hour',
          queries: [
            { expr: events('alert.raised'), legend: 'raised' },
            { expr: events('alert.acknowledged'), legend: 'acknowledged' },
            { expr: events('alert.cleared'), legend: 'cleared' },
          ],
        },
      ],
    },
    {
      title: 'Work',
      panels: [
        {
          title: 'Maintenance recorded, by day',
          queries: [{ expr: events('maintenance.recorded', '1d'), legend: 'maintenance' }],
        },
        {
          title: 'Maintenance predicted, by day',
          queries: [{ expr: events('maintenance.predicted', '1d'), legend: 'predicted' }],
        },
        {
          title: 'Rejected share of judged anomalies',
          description: 'Above a tenth, the detectors cry wolf.',
          kind: 'gauge',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [{ expr: 'max(false_positive_rate)' }],
          thresholds: [0.05, 0.1],
        },
        {
          title: 'Anomaly score, mean since start',
          queries: [
            {
              expr: 'sum(anomaly_score_distribution_sum) / (sum(anomaly_score_distribution_count) > 0)',
              legend: 'score',
            },
          ],
        },
      ],
    },
    {
      title: 'Machines, as reported',
      panels: ['temperature', 'vibration', 'pressure', 'power'].map((metric) => ({
        title: `${metric[0].toUpperCase()}${metric.slice(1)}`,
        queries: ['avg', 'max'].map((aggregate) => ({
          expr: `max(twinmesh_reported{kind="machine",metric="${metric}",aggregate="${aggregate}"})`,
          legend: aggregate,
        })),
      })),
    },
  ],
};

export const DATA_QUALITY: Dashboard = {
  uid: 'twinmesh-data-quality',
  title: 'Data quality',
  description: 'What came in, what became of it, and who is silent.',
  tags: ['data'],
  rows: [
    {
      title: 'Now',
      height: 5,
      panels: [
        {
          title: 'Refused (promised under 0.1 %)',
          kind: 'stat',
          unit: 'percentunit',
          queries: [{ expr: 'twinmesh:refused:share5m or vector(0)' }],
          thresholds: [0.0005, 0.001],
        },
        {
          title: 'Duplicates in a day (stored: 0)',
          description: 'Readings that came twice and were recognised.',
          kind: 'stat',
          queries: [{ expr: 'sum(increase(twinmesh_readings_duplicate_total[1d]))' }],
        },
        {
          title: 'Late in a day',
          kind: 'stat',
          queries: [{ expr: 'sum(increase(twinmesh_readings_late_total[1d]))' }],
        },
        {
          title: 'Put aside as poison',
          kind: 'stat',
          queries: [{ expr: 'sum(increase(twinmesh_readings_poison_total[1d]))' }],
          thresholds: [1, 1],
        },
        {
          title: 'Lost dead letters',
          kind: 'stat',
          queries: [{ expr: 'sum(twinmesh_dead_letters_dropped)' }],
          thresholds: [1, 1],
        },
      ],
    },
    {
      title: 'What became of readings',
      panels: [
        {
          title: 'Readings a second',
          stacked: true,
          queries: ['accepted', 'duplicate', 'backfilled', 'conflicting', 'poison'].map((fate) => ({
            expr: `sum(rate(twinmesh_readings_${fate}_total[1m]))`,
            legend: fate,
          })),
        },
        {
          title: 'Refused by code',
          queries: [
            { expr: 'sum by (code) (rate(twinmesh_readings_rejected_total[5m])) or vector(0)', legend: '{{code}}' },
          ],
        },
        {
          title: 'Fields that mean nothing',
          queries: [{ expr: 'sum(rate(twinmesh_ignored_fields_total[5m]))', legend: 'fields/s' }],
        },
      ],
    },
    {
      title: 'Silence',
      panels: [
        {
          title: 'Offline by kind',
          queries: [
            {
              expr: 'max by (kind) (sum by (kind, instance) (twinmesh_twins{online="false"})) or 0 * max by (kind) (sum by (kind, instance) (twinmesh_twins))',
              legend: '{{kind}}',
            },
          ],
        },
        {
          title: 'Since the newest reading',
          unit: 's',
          queries: [{ expr: 'max by (kind) (twinmesh_freshness_seconds)', legend: '{{kind}}' }],
          thresholds: [30, 60],
        },
      ],
    },
  ],
};

export const MQTT: Dashboard = {
  uid: 'twinmesh-mqtt',
  title: 'MQTT rate',
  description: 'Messages in, by protocol and outcome.',
  tags: ['mqtt'],
  rows: [
    {
      title: 'MQTT',
      panels: [
        {
          title: 'MQTT messages a second',
          queries: [{ expr: 'sum(rate(mqtt_messages_received_total[1m]))', legend: 'messages/s' }],
        },
        { title: 'Connections', queries: [{ expr: 'twinmesh_mqtt_connections', legend: '{{instance}}' }] },
        {
          title: 'Refused sign-ins and dropped messages',
          queries: [
            { expr: 'sum(twinmesh_mqtt_refused_sign_ins)', legend: 'sign-ins refused' },
            { expr: 'sum(twinmesh_mqtt_dropped)', legend: 'not delivered to subscribers' },
          ],
        },
      ],
    },
    {
      title: 'All doors',
      panels: [
        {
          title: 'Messages by protocol',
          stacked: true,
          queries: [{ expr: 'sum by (protocol) (rate(twinmesh_messages_received_total[1m]))', legend: '{{protocol}}' }],
        },
        {
          title: 'Readings by outcome',
          queries: [
            {
              expr: 'sum by (protocol, outcome) (rate(twinmesh_ingest_readings_total[1m]))',
              legend: '{{protocol}} {{outcome}}',
            },
          ],
        },
        {
          title: 'Payloads in flight',
          unit: 'bytes',
          queries: [{ expr: 'twinmesh_ingest_in_flight_bytes', legend: '{{instance}}' }],
        },
        {
          title: 'Paused',
          description: '1 while the log takes nothing: sources are not acknowledged and wait.',
          max: 1,
          queries: [{ expr: 'twinmesh_ingest_paused', legend: '{{instance}}' }],
        },
      ],
    },
  ],
};

/** A figure of each battery that is chosen. Several nodes may expose it. */
const battery = (name: string) => `max by (battery_id) (${name}{battery_id=~"$battery"})`;
const reported = (metric: string, aggregate: string) =>
  `max(twinmesh_reported{kind="battery",metric="${metric}",aggregate="${aggregate}"})`;

export const BATTERY: Dashboard = {
  uid: 'twinmesh-battery',
  title: 'Battery',
  description: 'Each pack by name up to METRICS_MAX_TWINS of them; above it, the fleet.',
  tags: ['battery'],
  variable: { name: 'battery', label: 'Battery', query: 'label_values(battery_soc_percent, battery_id)' },
  rows: [
    {
      title: 'Now',
      height: 6,
      panels: [
        {
          title: 'Packs',
          kind: 'stat',
          queries: [{ expr: 'max(sum by (instance) (twinmesh_twins{kind="battery"}))' }],
        },
        {
          title: 'Lowest charge',
          kind: 'gauge',
          unit: 'percent',
          min: 0,
          max: 100,
          queries: [{ expr: reported('soc', 'min') }],
          thresholds: [20, 10],
        },
        {
          title: 'Lowest health',
          kind: 'gauge',
          unit: 'percent',
          min: 50,
          max: 100,
          queries: [{ expr: reported('soh', 'min') }],
          thresholds: [85, 80],
        },
        {
          title: 'Hottest',
          kind: 'gauge',
          unit: 'celsius',
          min: 0,
          max: 80,
          queries: [{ expr: reported('temperature', 'max') }],
          thresholds: [45, 55],
        },
      ],
    },
    {
      title: 'Each pack',
      panels: [
        {
          title: 'State of charge',
          unit: 'percent',
          min: 0,
          max: 100,
          queries: [{ expr: battery('battery_soc_percent'), legend: '{{battery_id}}' }],
        },
        {
          title: 'State of health',
          unit: 'percent',
          max: 100,
          queries: [{ expr: battery('battery_soh_percent'), legend: '{{battery_id}}' }],
        },
        {
          title: 'Temperature',
          unit: 'celsius',
          queries: [{ expr: battery('battery_temperature_celsius'), legend: '{{battery_id}}' }],
          thresholds: [45, 55],
        },
      ],
    },
    {
      title: 'What models say of each pack',
      panels: [
        {
          title: 'Remaining useful life, cycles',
          queries: [{ expr: battery('battery_rul_cycles'), legend: '{{battery_id}}' }],
        },
        {
          title: 'Probability of failure',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [{ expr: battery('battery_failure_probability'), legend: '{{battery_id}}' }],
          thresholds: [0.3, 0.6],
        },
      ],
    },
    {
      title: 'Fleet',
      panels: [
        {
          title: 'Voltage',
          unit: 'volt',
          queries: ['min', 'avg', 'max'].map((a) => ({ expr: reported('voltage', a), legend: a })),
        },
        {
          title: 'Current (negative: discharging)',
          unit: 'amp',
          queries: ['min', 'avg', 'max'].map((a) => ({ expr: reported('current', a), legend: a })),
        },
        {
          title: 'Power',
          unit: 'watt',
          queries: ['min', 'avg', 'max'].map((a) => ({ expr: reported('power', a), legend: a })),
        },
        { title: 'Charge cycles', queries: ['avg', 'max'].map((a) => ({ expr: reported('cycles', a), legend: a })) },
      ],
    },
    {
      title: 'Worst now',
      panels: [
        {
          title: 'Least charged',
          kind: 'table',
          unit: 'percent',
          queries: [{ expr: `bottomk(10, ${battery('battery_soc_percent')})` }],
        },
        {
          title: 'Least healthy',
          kind: 'table',
          unit: 'percent',
          queries: [{ expr: `bottomk(10, ${battery('battery_soh_percent')})` }],
        },
        {
          title: 'Open alerts of batteries',
          queries: [
            { expr: 'max by (severity) (twinmesh_alerts{kind="battery"}) or vector(0)', legend: '{{severity}}' },
          ],
        },
      ],
    },
  ],
};
