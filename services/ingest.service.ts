import { randomUUID } from 'node:crypto';
import type { Context } from 'moleculer';
import { DeadLetters } from '../actors/ingress/dead-letters.ts';
import { DOOR_LIMITS } from '../actors/ingress/door.ts';
import { Ingress } from '../actors/ingress/ingress.ts';
import type { SubmitResult } from '../actors/ingress/intake.ts';
import { type Protocol, TELEMETRY_PATH } from '../actors/ingress/route.ts';
import { type ErrorCode, messageOf, TwinmeshError } from '../actors/protocol/errors.ts';
import type { KafkaSourceStatus } from '../mixins/kafka-source.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { type DriftTold, driftMessage } from './drift/message.ts';
import type { CallMeta } from './gateway/caller.ts';
import { type Doors, openDoors } from './ingest/doors.ts';
import { MqttDoor, type MqttStatus } from './ingest/mqtt-door.ts';
import { mqttEvents, publishDeltas } from './ingest/mqtt-events.ts';
import type { NatsDoorStatus } from './ingest/nats-door.ts';
import { signIn } from './ingest/sign-in.ts';
import { SUBMIT_SCHEMA, TELEMETRY_BODIES, telemetryBodies } from './ingest/telemetry-docs.ts';

/**
 * Telemetry in: over HTTP (answered after the commit), over MQTT, Kafka and NATS (acknowledged when durable); what is refused
 * goes to the dead letters. Owns the node's ingress; other services reach it by `ingest.submit`.
 */
interface Ingest {
  ingress: Ingress;
  deadLetters: DeadLetters;
  mqtt: MqttDoor;
  doors: Doors;
  take(ctx: TelemetryContext, address: string): Promise<SubmitResult>;
  goodbye(twinId: string, by: string): Promise<void>;
}

type TelemetryContext = Context<{ body: Uint8Array; contentType?: string }, CallMeta>;

interface Submission {
  protocol: Protocol;
  address: string;
  payload: Uint8Array | string;
  ndjson?: boolean;
  /** The payload comes out of the dead letters: what is refused again is not written again. */
  replay?: boolean;
  /** When it first arrived, ms; default: now. */
  arrivedAt?: number;
}

export interface IngestStatus {
  /** Since when the log takes nothing, and why; null when it does. */
  paused: { since: string; reason: string } | null;
  inFlightBytes: number;
  deadLetters: { stored: number; dropped: number };
  mqtt: MqttStatus;
  /** Null without KAFKA_BROKERS. */
  kafka: KafkaSourceStatus | null;
  /** Null without NATS_URL. */
  nats: NatsDoorStatus | null;
}

const DEADLINE_MS = 25_000;
/** Levels that a message may nest. */
const MAX_DEPTH = 16;
const JSON_TYPES = [
  'application/json',
  'text/json',
  'text/plain',
  'application/x-www-form-urlencoded',
  'application/octet-stream',
  '',
];
const NDJSON_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl', 'application/x-jsonlines'];

const ingest: PartsSchema<Ingest> = {
  name: 'ingest',
  metadata: { role: 'ingest' },
  mixins: [partsMixin],

  actions: {
    telemetry: {
      rest: `POST ${TELEMETRY_PATH}`,
      role: 'device',
      params: { body: { type: 'any', description: 'The messages, as bytes.' } },
      openapi: {
        summary: 'Send telemetry of any kind',
        description:
          'One message, an array of them, or NDJSON; gzip is taken. Answered after the commit, message by message: a message that is refused costs its neighbours nothing and is kept in the dead letters. Sending the same again is safe.',
        tags: ['telemetry'],
        body: 'raw',
        bodyTypes: TELEMETRY_BODIES,
        response: SUBMIT_SCHEMA,
      },
      handler(ctx: TelemetryContext) {
        return this.take(ctx, TELEMETRY_PATH);
      },
    },

    data: {
      rest: 'POST /api/data',
      role: 'device',
      params: { body: { type: 'any', description: 'The messages, as bytes.' } },
      openapi: {
        summary: 'Send readings of generic IoT devices',
        description: 'One value a message, the metric named by `sensor_type`; an array or NDJSON takes several.',
        tags: ['telemetry'],
        envelope: false,
        body: 'raw',
        bodyTypes: telemetryBodies({
          device_id: 'dev-7',
          sensor_type: 'temperature',
          value: 21.5,
          unit: 'C',
          timestamp: '2026-01-01T12:00:00Z',
        }),
        response: SUBMIT_SCHEMA,
      },
      handler(ctx: TelemetryContext) {
        return this.take(ctx, '/api/data');
      },
    },

    /** For other services: one payload of a trusted source. Not over HTTP. */
    submit: {
      visibility: 'public',
      params: { protocol: { type: 'string' }, address: { type: 'string' }, payload: { type: 'any' } },
      handler(ctx: Context<Submission>): Promise<SubmitResult> {
        const { protocol, address, payload, ndjson, replay, arrivedAt } = ctx.params;
        const { maxBodyBytes } = this.parts.settings;
        return this.ingress.submit({ protocol, address, speaker: null }, payload, {
          wait: 'commit',
          patient: false,
          deadlineMs: DEADLINE_MS,
          maxBytes: maxBodyBytes,
          ndjson,
          replay,
          arrivedAt,
        });
      },
    },

    /** Of the drift of a model, over MQTT: without a mesh this node has the broker, in one `events` has. Not over HTTP. */
    drift: {
      visibility: 'public',
      params: { told: { type: 'object' } },
      async handler(ctx: Context<{ told: DriftTold }>): Promise<boolean> {
        const { topic, payload } = driftMessage(ctx.params.told);
        if (this.mqtt.status().role === 'off') return false;
        await this.mqtt.publish(topic, payload, { qos: 1, retain: false });
        return true;
      },
    },

    status: {
      visibility: 'public',
      handler(): IngestStatus {
        const { paused, inFlightBytes } = this.ingress;
        const { stored, dropped } = this.deadLetters;
        return {
          paused: paused && { since: new Date(paused.since).toISOString(), reason: paused.reason },
          inFlightBytes,
          deadLetters: { stored, dropped },
          mqtt: this.mqtt.status(),
          kafka: this.doors?.kafka?.status() ?? null,
          nats: this.doors?.nats?.status() ?? null,
        };
      },
    },
  },

  events: {
    /** Keys have been revoked or rotated, here or on another node. */
    'keys.revoked'(ctx: Context<{ ids: string[] }>) {
      for (const id of ctx.params.ids) this.mqtt?.disconnect(id);
    },
    /** A body that the gateway refused before it was a payload: too large, not the gzip it says it is. */
    'body.refused'(ctx: Context<{ path: string; code: ErrorCode; message: string }>) {
      const { path, code, message } = ctx.params;
      this.ingress?.refuse({ protocol: 'http', address: path, speaker: null }, new TwinmeshError(code, message));
    },
  },

  methods: {
    take(ctx: TelemetryContext, address: string): Promise<SubmitResult> {
      const { body, contentType } = ctx.params;
      const type = (contentType ?? ctx.meta.request?.contentType ?? '').split(';', 1)[0].trim().toLowerCase();
      const ndjson = NDJSON_TYPES.includes(type);
      const source = { protocol: 'http' as const, address, speaker: ctx.meta.user ?? null };
      if (!ndjson && !JSON_TYPES.includes(type)) {
        const message = `The body is ${type.slice(0, 60)}; application/json or application/x-ndjson is taken.`;
        const refusal = new TwinmeshError('unsupported', message);
        this.ingress.refuse(source, refusal);
        throw refusal;
      }
      const { maxBodyBytes } = this.parts.settings;
      return this.ingress.submit(source, body, {
        wait: 'commit',
        patient: false,
        deadlineMs: DEADLINE_MS,
        maxBytes: maxBodyBytes,
        ndjson,
        // Whether it is traced was decided with the request.
        trace: ctx.meta.traceparent ?? null,
      });
    },

    /** Telemetry brings a twin back online; only its going needs to be told. */
    async goodbye(twinId: string, by: string): Promise<void> {
      const command = { name: 'offline', key: `will-${randomUUID()}`, by, reason: 'said goodbye' };
      try {
        await this.broker.call('twins.command', { twinId, command });
      } catch (error) {
        this.logger.debug({ twinId, error: messageOf(error) }, 'goodbye of a twin that is not known');
      }
    },
  },

  async started() {
    const { settings, kinds, sql, log, hosts, clock, metrics, logger, tracing } = this.parts;
    const deadLetters = new DeadLetters({ sql, clock });
    const ingress = new Ingress({
      log,
      kinds,
      clock,
      shards: settings.shards,
      door: { ...DOOR_LIMITS, maxSkewMs: settings.maxSkewMs },
      json: { maxBytes: settings.maxPayloadBytes, maxDepth: MAX_DEPTH },
      deadLetters,
      batchPrefix: `${settings.nodeId}-${randomUUID()}`,
      tracer: tracing,
    });
    const mqtt = new MqttDoor({
      ingress,
      clock,
      random: Math.random,
      wait: settings.ack === 'commit' ? 'commit' : 'durable',
      filters: [...kinds.mqttFilters(), 'twins/+/+/telemetry', 'twins/+/+/status'],
      settings,
      authenticate: (username, password) => signIn(sql, username, password),
      anonymous: settings.mqttAnonymous,
      onOffline: (twinId, speaker) => void this.goodbye(twinId, speaker?.name ?? 'mqtt'),
      logger: logger.child({ part: 'mqtt' }),
    });
    this.deadLetters = deadLetters;
    this.ingress = ingress;
    this.mqtt = mqtt;
    await mqtt.open();
    if (settings.natsUrl === null) this.parts.host.addSink(mqttEvents(mqtt.publish));
    if (settings.natsUrl === null && settings.mqttUrl === null) await publishDeltas(sql, mqtt.publish);

    if (hosts) this.parts.host.followIngest(() => ingress.paused?.since ?? null);
    metrics.followIngress(ingress);
    metrics.followGauge(
      'twinmesh_mqtt_connections',
      'Connections of the MQTT broker, or to it.',
      () => mqtt.status().connections,
    );
    metrics.followGauge(
      'twinmesh_mqtt_refused_sign_ins',
      'MQTT connections refused for their key since start.',
      () => mqtt.status().refusedSignIns,
    );
    metrics.followGauge(
      'twinmesh_mqtt_dropped',
      'Messages that MQTT subscribers did not get since start, because they were slow or away for too long.',
      () => mqtt.status().dropped,
    );
    metrics.followGauge(
      'twinmesh_dead_letters_dropped',
      'Refused messages that could not be kept.',
      () => deadLetters.dropped,
    );
    deadLetters.onStored(() => void this.broker.broadcastLocal('dead-letters.stored'));
    this.doors = await openDoors({
      parts: this.parts,
      ingress,
      onLetters: (listener) => deadLetters.onStored(listener),
    });
  },

  async stopped() {
    // First the sources, with a moment for what they wait for; then what still waits; then what there is to tell about it.
    await Promise.all([this.mqtt?.close(), this.doors?.close()]);
    this.ingress?.close();
    await this.deadLetters?.close();
  },
};

export default ingest;
