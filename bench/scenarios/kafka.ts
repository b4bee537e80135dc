import type { Kafka } from 'kafkajs';
import { systemClock } from '../../actors/protocol/clock.ts';
import { ensureTopics, openKafka } from '../../mixins/kafka.ts';
import { KafkaSource } from '../../mixins/kafka-source.ts';
import { KafkaDoor } from '../../services/ingest/kafka-door.ts';
import { findKafka } from '../../test/servers/kafka.ts';
import { cpuFigure, machineMessage, openCommitted, until } from '../committed.ts';
import { type Figure, median, type Scenario } from '../scenario.ts';

const TWINS = 10_000;
const READINGS = 200_000;
const ROUNDS = 4;
const TOPIC = 'sensor-readings';
const QUIET = { debug() {}, info() {}, warn() {} };

/** What is in Kafka already, one JSON message a reading, to committed rows; and the same records read and thrown away. */
const scenario: Scenario = {
  name: 'kafka',
  title: 'Kafka, one message a reading → committed in PostgreSQL, all servers on this machine',
  async run(say) {
    const server = await findKafka({ own: true });
    const target = server && (await openCommitted());
    if (server === null || target === null) {
      say('skipped: no Kafka or no PostgreSQL here');
      return [];
    }
    const settings = {
      kafkaBrokers: server.brokers,
      kafkaTls: false,
      kafkaSasl: 'none',
      kafkaUser: null,
      kafkaPassword: null,
      kafkaGroup: 'bench',
      nodeId: 'bench',
      tlsCaFile: null,
      tlsCertFile: null,
      tlsKeyFile: null,
      maxSkewMs: 0,
    };
    const kafka = openKafka(settings, QUIET);
    try {
      await ensureTopics(kafka, [TOPIC], QUIET);
      const rates: number[] = [];
      const raws: number[] = [];
      const spent = { user: 0, system: 0 };
      for (let round = 0; round < ROUNDS; round++) {
        await produce(kafka, round * READINGS);
        raws.push(await readRaw(kafka));
        const before = target.accepted();
        const door = new KafkaDoor({
          ingress: target.ingress,
          clock: systemClock,
          random: Math.random,
          wait: 'commit',
          topics: [TOPIC],
          settings,
          logger: QUIET,
        });
        const cpu = process.cpuUsage();
        door.open();
        await until(() => target.accepted() > before);
        const first = { at: performance.now(), done: target.accepted() - before };
        await until(() => target.accepted() - before === READINGS);
        rates.push(((READINGS - first.done) * 1000) / (performance.now() - first.at));
        const { user, system } = process.cpuUsage(cpu);
        if (round > 0) {
          spent.user += user;
          spent.system += system;
        }
        await door.close();
        say(
          `round ${round}: ${Math.round(rates[round])} readings/s, read and thrown away ${Math.round(raws[round])}/s`,
        );
      }
      const rows = await target.rows();
      if (rows !== ROUNDS * READINGS) throw new Error(`${rows} rows of ${ROUNDS * READINGS} readings`);
      // the first round warms up
      const value = median(rates.slice(1));
      const ceiling = { what: 'the same records read and thrown away', value: median(raws.slice(1)) };
      const what = `Kafka → committed, ${TWINS.toLocaleString('en-US')} twins of 4 metrics, one message a reading`;
      const figure: Figure = { what, value, unit: 'readings/s', ceiling, atLeast: 40_000 };
      return [figure, cpuFigure('the same, node without its servers', spent, (ROUNDS - 1) * READINGS)];
    } finally {
      await target.close();
      await server.stop();
    }
  },
};
export default scenario;

async function produce(kafka: Kafka, from: number): Promise<void> {
  const producer = kafka.producer({
    createPartitioner: (await import('kafkajs')).default.Partitioners.DefaultPartitioner,
  });
  await producer.connect();
  for (let k = from; k < from + READINGS; k += 5_000) {
    const messages = Array.from({ length: 5_000 }, (_, i) => {
      const { id, text } = machineMessage(k + i, TWINS);
      return { key: id, value: text };
    });
    await producer.send({ topic: TOPIC, messages, acks: -1 });
  }
  await producer.disconnect();
}

/** Records a second of a group that does nothing with them. */
async function readRaw(kafka: Kafka): Promise<number> {
  let seen = 0;
  let first = 0;
  let firstAt = 0;
  const source = new KafkaSource({
    kafka,
    group: 'raw',
    topics: [TOPIC],
    clock: systemClock,
    random: Math.random,
    logger: QUIET,
    onRecords(_, records, done) {
      if (seen === 0) {
        first = records.length;
        firstAt = performance.now();
      }
      seen += records.length;
      done();
    },
  });
  source.open();
  await until(() => seen === READINGS);
  const rate = ((READINGS - first) * 1000) / (performance.now() - firstAt);
  await source.close();
  return rate;
}
