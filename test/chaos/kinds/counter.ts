import { defineTwin } from '../../../actors/protocol/kind.ts';

/**
 * The kind of the fault harness: each reading carries its number. Windows are short and limits are crossed often, so that
 * rolling state and events have something to be wrong about.
 */

/** Where senders over Kafka write. */
export const KAFKA_TOPIC = 'counter-readings';
/** Above this `mark`, folding throws. */
export const POISON_MARK = 900;
const POISON_MESSAGE = 'poison at {value}';

// A kind is data, and its fold is the runtime's: the one place from where a turn can be made to throw is a text that is
// filled in. Only this text, only in processes that load this kind.
const replaceAll = String.prototype.replaceAll;
String.prototype.replaceAll = function (this: string, ...args: Parameters<typeof replaceAll>): string {
  if (String(this) === POISON_MESSAGE) throw new Error('a turn over a poisoned reading throws');
  return replaceAll.apply(this, args);
} as typeof replaceAll;

export default defineTwin({
  kind: 'counter',
  version: 2,
  title: 'Counter',
  description: 'A simulated asset that numbers its readings.',
  metrics: {
    n: { unit: '', min: 0, max: 1e9 },
    load: { unit: 'N', min: 0, max: 1000 },
    temperature: { unit: '°C', min: -50, max: 200 },
    mark: { unit: '', min: 0, max: 1000 },
  },
  formats: [
    {
      name: 'counter',
      kafka: [KAFKA_TOPIC],
      decode: ({ id, at, seq, ...values }) => ({ id, at, seq, values }),
      example: { id: 'a-1', at: '2026-01-01T00:00:00Z', seq: 7, n: 7, load: 120, temperature: 20 },
    },
  ],
  windows: { '10s': { spanMs: 10_000, panes: 5 }, '60s': { spanMs: 60_000, panes: 6 } },
  detectors: {
    cooldownMs: 5_000,
    zscore: {
      window: '10s',
      threshold: 3,
      minCount: 4,
      metrics: ['temperature'],
      minStd: { temperature: 0.5 },
      holdMs: 8_000,
    },
  },
  rules: [
    {
      name: 'hot',
      metric: 'temperature',
      above: 80,
      hysteresis: 5,
      holdMs: 2_000,
      cooldownMs: 3_000,
      severity: 'critical',
      message: '{value} °C is hot',
    },
    {
      name: 'idle',
      metric: 'load',
      below: 50,
      hysteresis: 10,
      holdMs: 0,
      cooldownMs: 1_000,
      severity: 'warning',
      message: 'idle at {value}',
    },
    {
      name: 'poison',
      metric: 'mark',
      above: POISON_MARK,
      hysteresis: 0,
      holdMs: 0,
      cooldownMs: 0,
      severity: 'info',
      message: POISON_MESSAGE,
    },
  ],
  models: {
    level: { model: 'counter-level', inputs: ['load', 'temperature'], everyMs: 1_000 },
  },
  silentAfterMs: 60_000,
  graph: { type: 'Counter' },
  digest: () => '',
});
