import mqtt from 'mqtt';
import { Pg } from '../../actors/store/pg.ts';
import type { NodeProcess } from '../../test/e2e/node-process.ts';
import { findMosquittoServer } from '../../test/servers/mosquitto.ts';
import { findNats } from '../../test/servers/nats.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { treeCpuS } from '../cpu.ts';
import { pause, sizeOf } from '../plant.ts';
import {
  CAREFUL,
  COLLECTOR,
  type Contender,
  NODE_RED,
  type Places,
  TWINMESH,
  TWINMESH_NATS,
} from '../rivals/contender.ts';
import type { Figure, Scenario } from '../scenario.ts';
import { temporaryFolder } from '../temporary.ts';

const TWINS = 1_000;
/** Waiting in the broker when the clock starts. */
const READINGS = sizeOf('READINGS', 40_000);
/** The same, with a kill -9 when half of them are stored. */
const BACKLOG = sizeOf('BACKLOG', 12_000);
/** As they come, with a kill -9 in the middle. */
const STEADY = sizeOf('STEADY', 6_000);
const STEADY_PER_S = 1_000;
const WINDOW = 2_000;
const WITHIN_MS = 90_000;
const QUIET_MS = 4_000;
/** `ONLY=Node-RED` tries those whose name holds the word. */
const CONTENDERS = [COLLECTOR, CAREFUL, NODE_RED, TWINMESH, TWINMESH_NATS].filter(({ name }) =>
  name.includes(process.env.ONLY ?? ''),
);

/** The same readings, as JSON over MQTT QoS 1 through Mosquitto, stored in PostgreSQL by one process of each kind. */
const scenario: Scenario = {
  name: 'side-by-side',
  title: 'MQTT QoS 1 through Mosquitto into PostgreSQL: a collector, Node-RED, twinmesh',
  async run(say) {
    const postgres = await findPostgres();
    const nats = postgres && (await findNats());
    if (postgres === null || nats === null) {
      await postgres?.stop();
      return [];
    }
    const figures: Figure[] = [];
    try {
      for (const contender of CONTENDERS) {
        const missing = contender.missing();
        if (missing !== null) {
          say(`${contender.name}: skipped: ${missing}`);
          continue;
        }
        const pids = [postgres.pid, ...(contender.needsNats ? [nats.pid] : [])];
        figures.push(
          ...(await measure(contender, { databaseUrl: await postgres.database(), natsUrl: nats.url, pids }, say)),
        );
      }
      return figures;
    } finally {
      await nats.stop();
      await postgres.stop();
    }
  },
};
export default scenario;

interface Servers {
  databaseUrl: string;
  natsUrl: string;
  pids: (number | null)[];
}

async function measure(contender: Contender, servers: Servers, say: (line: string) => void): Promise<Figure[]> {
  const broker = await findMosquittoServer();
  if (broker === null) return [];
  const folder = temporaryFolder('rival');
  const sql = await Pg.open({ url: servers.databaseUrl, maxConnections: 2 });
  const places: Places = { folder: folder.path, mqttUrl: broker.url, ...servers };
  const count = async (text: string): Promise<number> => (await sql.query<{ n: number }>(text))[0].n;
  let running: NodeProcess | null = null;
  const start = async (): Promise<NodeProcess> => {
    running = await contender.start(places);
    return running;
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    running?.signal(signal);
    await running?.ended();
    running = null;
  };
  try {
    await contender.prepare(sql);
    // makes its session at the broker, and its tables; a stop in order might take the session back
    await start();
    await pause(1_000);
    await end('SIGKILL');
    const sender = new Sender(broker.url);

    await sender.send(READINGS);
    const cpu = (pid: number): number[] =>
      [pid, ...servers.pids].map((of) => (of === null ? Number.NaN : treeCpuS(of)));
    const node = await start();
    await until(async () => (await count(contender.stored)) > 0);
    const first = { n: await count(contender.stored), at: performance.now(), cpu: cpu(node.pid) };
    await until(async () => (await count(contender.stored)) >= READINGS);
    const took = (performance.now() - first.at) / 1000;
    const readings = READINGS - first.n;
    const costs = cpu(node.pid).map((now, i) => ((now - first.cpu[i]) * 1e6) / readings);
    const cost = costs.reduce((sum, c) => sum + c, 0);
    say(
      `${contender.name}: ${Math.round(readings / took)} readings/s over ${took.toFixed(1)} s; CPU a reading ${costs.map((c) => c.toFixed(0)).join(' + ')} µs`,
    );
    await end('SIGKILL');

    const backlog = await killed(contender, sender, count, async (before) => {
      await sender.send(BACKLOG);
      await start();
      await until(async () => (await count(contender.stored)) >= before + BACKLOG / 2);
      await end('SIGKILL');
      await start();
    });
    await end('SIGKILL');
    const steady = await killed(contender, sender, count, async () => {
      await start();
      const sending = sender.send(STEADY, STEADY_PER_S);
      await pause((STEADY / STEADY_PER_S / 2) * 1000);
      await end('SIGKILL');
      await start();
      await sending;
    });
    say(
      `  kill -9: ${backlog.missing} missing, ${backlog.twice} twice of a backlog of ${BACKLOG}; ${steady.missing} missing, ${steady.twice} twice at ${STEADY_PER_S}/s`,
    );
    await sender.close();
    const parts = contender.needsNats ? 'process, PostgreSQL, NATS' : 'process, PostgreSQL';
    return [
      { what: `${contender.name}: stored`, value: readings / took, unit: 'readings/s' },
      {
        what: `${contender.name}: CPU of a million readings`,
        value: cost,
        unit: 's',
        note: `${parts}: ${costs.map((c) => c.toFixed(1)).join(', ')}`,
      },
      missingFigure(contender, `kill -9 in a backlog of ${BACKLOG.toLocaleString('en-US')}`, backlog),
      missingFigure(contender, `kill -9 at ${STEADY_PER_S.toLocaleString('en-US')} readings/s`, steady),
    ];
  } finally {
    await end('SIGKILL');
    await sql.close();
    await broker.stop();
    folder.remove();
  }
}

interface Toll {
  missing: number;
  twice: number;
}

function missingFigure(contender: Contender, how: string, { missing, twice }: Toll): Figure {
  const ours = contender === TWINMESH || contender === TWINMESH_NATS;
  return {
    what: `${contender.name}: missing after ${how}`,
    value: missing,
    unit: 'readings',
    ...(ours ? { atMost: 0 } : {}),
    note: `stored twice: ${twice}`,
  };
}

/** What of the readings that the broker acknowledged meanwhile is not in the table once nothing comes any more. */
async function killed(
  contender: Contender,
  sender: Sender,
  count: (text: string) => Promise<number>,
  ordeal: (storedBefore: number) => Promise<void>,
): Promise<Toll> {
  const before = {
    acknowledged: sender.acknowledged,
    distinct: await count(contender.distinct),
    stored: await count(contender.stored),
  };
  await ordeal(before.stored);
  let last = -1;
  let since = performance.now();
  const wanted = (): number => before.stored + sender.acknowledged - before.acknowledged;
  await until(async () => {
    const now = await count(contender.stored);
    if (now !== last) since = performance.now();
    last = now;
    // a process that comes back may take a while to own its shards again
    return performance.now() - since > (now >= wanted() ? 1_000 : QUIET_MS * 2);
  });
  const distinct = (await count(contender.distinct)) - before.distinct;
  const stored = (await count(contender.stored)) - before.stored;
  return { missing: sender.acknowledged - before.acknowledged - distinct, twice: stored - distinct };
}

async function until(done: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WITHIN_MS;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`not within ${WITHIN_MS / 1000} s`);
    await pause(50);
  }
}

/** Machines in turn, a second apart, ending about now; each message is counted when the broker has acknowledged it. */
class Sender {
  acknowledged = 0;
  readonly #client: Promise<mqtt.MqttClient>;
  readonly #from = Date.now() - Math.ceil((READINGS + BACKLOG + STEADY) / TWINS) * 1000;
  #sent = 0;

  constructor(url: string) {
    this.#client = mqtt.connectAsync(url, { clientId: 'bench-sender', clean: true });
  }

  async send(messages: number, perSecond = Number.POSITIVE_INFINITY): Promise<void> {
    const client = await this.#client;
    const until = this.#sent + messages;
    const first = this.#sent;
    const startedAt = performance.now();
    let open = 0;
    while (this.#sent < until || open > 0) {
      const due = Math.min(until, first + ((performance.now() - startedAt) / 1000) * perSecond || until);
      while (this.#sent < due && open < WINDOW) {
        open++;
        const { topic, text } = this.#message(this.#sent++);
        client.publish(topic, text, { qos: 1 }, (error) => {
          open--;
          if (!error) this.acknowledged++;
        });
      }
      await pause(1);
    }
  }

  async close(): Promise<void> {
    await (await this.#client).endAsync();
  }

  #message(k: number): { topic: string; text: string } {
    const id = `M${k % TWINS}`;
    const t = Math.floor(k / TWINS);
    const text = JSON.stringify({
      timestamp: new Date(this.#from + t * 1000).toISOString(),
      machine_id: id,
      readings: { temperature: 65 + (t % 97) / 10, vibration: 1.2, pressure: 45 + (k % 7) / 10, power: 250 - (k % 11) },
    });
    return { topic: `factory/machines/${id}/readings`, text };
  }
}
