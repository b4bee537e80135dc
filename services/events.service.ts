import type { Context } from 'moleculer';
import { openKafka } from '../mixins/kafka.ts';
import { KafkaPublisher } from '../mixins/kafka-publisher.ts';
import { MqttClient } from '../mixins/mqtt-client.ts';
import { type PartsSchema, partsMixin } from '../mixins/parts.ts';
import { tlsFiles } from '../mixins/tls.ts';
import { DRIFT_TOPIC, type DriftTold, driftMessage } from './drift/message.ts';
import { EVENT_TOPICS, kafkaEvents } from './events/kafka-events.ts';
import { mqttEvents } from './ingest/mqtt-events.ts';

/**
 * Events out of the twins of this node: every sink gets each event at least once, in order within a shard, and its cursor
 * moves with the checkpoint, so that the next owner goes on where this one stopped. The embedded MQTT broker is fed by
 * `ingest`, in whose process it lives.
 */
interface Events {
  mqtt: MqttClient | undefined;
  kafka: KafkaPublisher | undefined;
}

const events: PartsSchema<Events> = {
  name: 'events',
  metadata: { role: 'host' },
  mixins: [partsMixin],

  actions: {
    /** Of the drift of a model. Answers when the broker has it; false where this node has none of that sort. Not over HTTP. */
    drift: {
      visibility: 'public',
      params: { to: { type: 'enum', values: ['kafka', 'mqtt'] }, told: { type: 'object' } },
      async handler(ctx: Context<{ to: 'kafka' | 'mqtt'; told: DriftTold }>): Promise<boolean> {
        const { topic, key, payload } = driftMessage(ctx.params.told);
        if (ctx.params.to === 'kafka') await this.kafka?.publish([{ topic: DRIFT_TOPIC, key, value: payload }]);
        else await this.mqtt?.publish(topic, payload, { qos: 1, retain: false });
        return this[ctx.params.to] !== undefined;
      },
    },
  },

  async started() {
    const { settings, host, clock, logger, metrics } = this.parts;
    if (settings.kafkaBrokers.length > 0) {
      const part = logger.child({ part: 'kafka-events' });
      const kafka = new KafkaPublisher({
        kafka: openKafka(settings, part),
        topics: [...EVENT_TOPICS, DRIFT_TOPIC],
        clock,
        logger: part,
      });
      this.kafka = kafka;
      host.addSink(kafkaEvents((messages) => kafka.publish(messages)));
      metrics.followGauge(
        'twinmesh_kafka_events_failing',
        '1 while Kafka takes no events; they wait in the database.',
        () => (kafka.reason === null ? 0 : 1),
      );
    }
    if (settings.mqttUrl === null || settings.natsUrl === null) return;
    const mqtt = new MqttClient({
      url: settings.mqttUrl,
      tls: tlsFiles(settings),
      clientId: `twinmesh-events-${settings.nodeId}`,
      filters: [],
      clock,
      random: Math.random,
      onMessage: (_topic, _payload, done) => done('refused'),
      onState: (state, reason) => {
        if (reason === null) logger.info({ part: 'events', state }, 'MQTT broker');
        else logger.warn({ part: 'events', state, reason }, 'MQTT broker');
      },
    });
    this.mqtt = mqtt;
    mqtt.open();
    host.addSink(mqttEvents((topic, payload, options) => mqtt.publish(topic, payload, options)));
  },

  async stopped() {
    this.mqtt?.close();
    await this.kafka?.close();
  },
};

export default events;
