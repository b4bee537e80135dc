import { TwinmeshError } from '../actors/protocol/errors.ts';
import { MqttPublisher } from '../mixins/mqtt-publisher.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { DemoFleet } from './demo/fleet.ts';
import { FleetFile } from './demo/fleet-file.ts';
import { demoKey } from './demo/key.ts';

/** The demo fleet publishes over MQTT as devices would, with a gateway's key of its own. `DEMO=off` ends it. */
interface Demo {
  fleet: DemoFleet | undefined;
  publisher: MqttPublisher | undefined;
  demoFleet(): DemoFleet;
}

const START_TIMEOUT_MS = 120_000;

const demo: PartsSchema<Demo> = {
  name: 'demo',
  metadata: { role: 'ingest' },
  mixins: [partsMixin],
  actions: {
    scenarios: {
      rest: 'GET /api/v1/demo/scenarios',
      role: 'viewer',
      params: {},
      openapi: {
        summary: 'Failure scenarios of the demo fleet',
        description:
          'By kind, each with the twins that it can be started on. `not_found` where no demo fleet runs on the node.',
        tags: ['demo'],
        response: {
          type: 'object',
          required: ['items', 'nextCursor'],
          properties: {
            items: {
              type: 'array',
              items: {
                type: 'object',
                required: ['kind', 'scenario', 'description', 'twins'],
                properties: {
                  kind: { type: 'string' },
                  scenario: { type: 'string' },
                  description: { type: 'string' },
                  twins: { type: 'array', items: { type: 'string' } },
                },
              },
            },
            nextCursor: { type: ['string', 'null'] },
          },
        },
      },
      handler() {
        return { items: this.demoFleet().scenarios(), nextCursor: null };
      },
    },

    inject: {
      rest: 'POST /api/v1/demo/scenarios',
      role: 'operator',
      params: {
        twinId: { type: 'string', description: 'A twin of the demo fleet, e.g. machine:MACHINE_001.' },
        scenario: { type: 'string', description: 'One of the scenarios of its kind.' },
        severity: { type: 'number', min: 0, max: 1, default: 0.5, description: 'Above 0, at most 1.' },
      },
      openapi: {
        summary: 'Start a failure scenario on one asset of the demo fleet',
        description: 'It ends by itself, or when the next one starts, as the kind says.',
        tags: ['demo'],
        response: {
          type: 'object',
          required: ['twinId', 'scenario', 'severity'],
          properties: { twinId: { type: 'string' }, scenario: { type: 'string' }, severity: { type: 'number' } },
        },
      },
      handler(ctx) {
        const { twinId, scenario, severity } = ctx.params as { twinId: string; scenario: string; severity: number };
        this.demoFleet().inject(twinId, scenario, severity);
        return { twinId, scenario, severity };
      },
    },
  },

  methods: {
    demoFleet(): DemoFleet {
      if (!this.fleet) throw new TwinmeshError('not_found', 'The demo fleet is off; DEMO=on starts it.');
      return this.fleet;
    },
  },

  async started() {
    const { settings, sql, kinds, clock } = this.parts;
    if (!settings.demo) return;
    // Not by `dependencies`, which looks only once a second.
    await this.broker.waitForServices('ingest', START_TIMEOUT_MS, 20);
    const own = settings.mqttUrl === null;
    const key = own ? await demoKey(sql) : undefined;
    if (key === null) {
      this.logger.warn('the key of the demo fleet has been revoked: it stays silent (DEMO=off says so for good)');
      return;
    }
    // The broker knows its port; the setting may say "any free one".
    const { mqtt } = await this.broker.call<{ mqtt: { port: number | null } }>('ingest.status');
    const publisher = new MqttPublisher({
      url: settings.mqttUrl ?? `mqtt://${dialable(settings.host)}:${mqtt.port ?? settings.mqttListenPort}`,
      clientId: `twinmesh-demo-${settings.nodeId}`,
      ...(own ? { username: 'demo', password: key } : {}),
      onState: (state, reason) => this.logger.debug({ state, reason }, 'demo fleet'),
    });
    this.publisher = publisher;
    const file = new FleetFile(settings.dataDir, settings.demoSeed, this.logger);
    this.fleet = new DemoFleet({
      kinds: kinds.all(),
      seed: settings.demoSeed,
      clock,
      intervalMs: settings.simulationInterval === null ? null : settings.simulationInterval * 1000,
      speedFactor: settings.speedFactor,
      send: (topic, message) => publisher.publish(topic, JSON.stringify(message)),
      keep: (saved) => file.write(saved),
    });
    const saved = file.read();
    const anew = saved === null ? [] : this.fleet.resume(saved);
    if (anew.length > 0)
      this.logger.warn({ twins: anew }, 'assets of the demo fleet begin anew: their simulator has changed');
    this.fleet.start();
  },

  async stopped() {
    this.fleet?.stop();
    await this.publisher?.close();
  },
};

/** An address that is bound on every interface is reached on this machine. */
function dialable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}

export default demo;
