import mqtt from 'mqtt';
import { systemClock } from '../../actors/protocol/clock.ts';
import { MqttClient } from '../../mixins/mqtt-client.ts';
import { MqttDoor } from '../../services/ingest/mqtt-door.ts';
import { findMosquitto, Mosquitto } from '../../test/integration/mosquitto.ts';
import { cpuFigure, machineMessage, openCommitted, until } from '../committed.ts';
import { type Figure, median, type Scenario } from '../scenario.ts';

const TWINS = 1_000;
const READINGS = 40_000;
const ROUNDS = 3;
const WINDOW = 5_000;
const QUIET = { info() {}, warn() {} };

/**
 * QoS 1 all the way: what waits in Mosquitto for two subscribers is handed to one that throws it away, then to the door. The
 * publisher is done before either is timed.
 */
const scenario: Scenario = {
  name: 'mosquitto',
  title: 'Mosquitto QoS 1, one message a reading → committed in PostgreSQL, all servers on this machine',
  async run(say) {
    const binary = findMosquitto();
    const target = binary === null ? null : await openCommitted();
    if (binary === null || target === null) {
      say('skipped: no Mosquitto or no PostgreSQL here');
      return [];
    }
    const broker = new Mosquitto(binary);
    await broker.start();
    const url = `mqtt://127.0.0.1:${broker.port}`;
    const filters = ['factory/machines/+/readings'];
    let seen = 0;
    const raw = new MqttClient({
      url,
      clientId: 'bench-raw',
      filters,
      clock: systemClock,
      random: Math.random,
      onMessage(_topic, _payload, done) {
        seen++;
        done('stored');
      },
    });
    const door = () =>
      new MqttDoor({
        ingress: target.ingress,
        clock: systemClock,
        random: Math.random,
        wait: 'commit',
        filters,
        settings: {
          host: '127.0.0.1',
          mqttUrl: url,
          natsUrl: null,
          mqttListenPort: 0,
          mqttWsPort: 0,
          nodeId: 'bench',
          maxPayloadBytes: 65_536,
        },
        authenticate: () => Promise.resolve(null),
        onOffline() {},
        logger: QUIET,
      });
    const rates: number[] = [];
    const raws: number[] = [];
    const spent = { user: 0, system: 0 };
    try {
      // Makes both sessions.
      raw.open();
      const first = door();
      await first.open();
      await until(() => raw.state === 'connected' && first.status().connections === 1);
      await new Promise((resolve) => setTimeout(resolve, 500));
      await first.close();
      raw.close();
      for (let round = 0; round < ROUNDS; round++) {
        await publish(url, round * READINGS);
        const before = { seen, accepted: target.accepted() };
        raws.push(
          await rate(
            () => seen - before.seen,
            () => raw.open(),
          ),
        );
        // The last acknowledgements leave: what is not acknowledged would come again in the next round.
        await new Promise((resolve) => setTimeout(resolve, 200));
        raw.close();
        const timed = door();
        const cpu = process.cpuUsage();
        rates.push(
          await rate(
            () => target.accepted() - before.accepted,
            () => void timed.open(),
          ),
        );
        const { user, system } = process.cpuUsage(cpu);
        if (round > 0) {
          spent.user += user;
          spent.system += system;
        }
        await timed.close();
        say(
          `round ${round}: ${Math.round(rates[round])} readings/s committed, ${Math.round(raws[round])}/s thrown away`,
        );
      }
      const rows = await target.rows();
      if (rows !== ROUNDS * READINGS) throw new Error(`${rows} rows of ${ROUNDS * READINGS} readings`);
      // the first round warms up
      const figure: Figure = {
        what: 'QoS 1 → committed, one subscriber',
        value: median(rates.slice(1)),
        unit: 'readings/s',
        ceiling: { what: 'the same messages acknowledged and thrown away', value: median(raws.slice(1)) },
        atLeast: 10_000,
      };
      return [figure, cpuFigure('the same, node without its servers', spent, (ROUNDS - 1) * READINGS)];
    } finally {
      raw.close();
      await target.close();
      await broker.remove();
    }
  },
};
export default scenario;

/** Messages a second from the first that has come to the last. */
async function rate(done: () => number, open: () => void): Promise<number> {
  open();
  await until(() => done() > 0);
  const first = { count: done(), at: performance.now() };
  await until(() => done() >= READINGS);
  return ((READINGS - first.count) * 1000) / (performance.now() - first.at);
}

async function publish(url: string, from: number): Promise<void> {
  const client = await mqtt.connectAsync(url);
  let sent = 0;
  let open = 0;
  await new Promise<void>((resolve, reject) => {
    const more = () => {
      while (sent < READINGS && open < WINDOW) {
        const { id, text } = machineMessage(from + sent++, TWINS);
        open++;
        client.publish(`factory/machines/${id}/readings`, text, { qos: 1 }, (error) => {
          if (error) reject(error);
          open--;
          if (sent === READINGS && open === 0) resolve();
          else if (open < WINDOW / 2) more();
        });
      }
    };
    more();
  });
  await client.endAsync(true);
}
