import { resolve } from 'node:path';
import { loadKinds } from '../../actors/runtime/kind-registry.ts';
import { type KafkaFacts, probeKafka } from '../../mixins/kafka-probe.ts';
import { type Check, masked } from './check.ts';
import { asTwinmesh } from './failure.ts';

/** Kafka: there, its topics, and how far the ingest nodes have read. */
const BEHIND = 100_000;
/** Topics that nodes write: contracts of the outside. */
const OUT = ['alerts', 'dead-letters'];

export const kafka: Check = {
  part: 'kafka',
  applies: ({ kafkaBrokers }) => kafkaBrokers.length > 0,
  async look({ settings }, tell) {
    const kinds = await loadKinds(settings.kindsDir === null ? [] : [resolve(settings.kindsDir)]);
    const wanted = [...kinds.kafkaTopics(), ...OUT];
    const place = settings.kafkaBrokers.join(', ');
    let facts: KafkaFacts;
    try {
      facts = await probeKafka(settings, settings.kafkaGroup, wanted);
    } catch (thrown) {
      const error = asTwinmesh(thrown);
      const refused = /SASL|authenticat/i.test(error.message);
      tell.fault(
        `${place}: ${masked(error.message)}`,
        refused
          ? 'Correct KAFKA_SASL, KAFKA_USER and KAFKA_PASSWORD.'
          : 'Start Kafka, or correct KAFKA_BROKERS and KAFKA_TLS; what it advertises (advertised.listeners) must be reachable from here. Offsets stay where they are.',
      );
      return;
    }
    tell.ok(`${facts.brokers} brokers at ${place}`);
    const missing = wanted.filter((topic) => !facts.topics.has(topic));
    if (missing.length > 0)
      tell.warning(
        `topics that are missing: ${missing.join(', ')}`,
        'Nodes make them at start where they may; else create them with 6 partitions.',
      );
    let behind = 0;
    for (const lag of facts.lag.values()) behind += lag ?? 0;
    if (behind > BEHIND)
      tell.warning(
        `the group ${settings.kafkaGroup} is ${behind} records behind (${facts.members} members)`,
        'Add ingest nodes, up to the number of partitions, or look whether the log takes readings.',
      );
    else if (facts.topics.size > 0)
      tell.ok(`the group ${settings.kafkaGroup} is ${behind} records behind (${facts.members} members)`);
    if (settings.kafkaSasl === 'plain' && !settings.kafkaTls)
      tell.warning('the password goes over the network as it is', 'Set KAFKA_TLS=on, or use scram-sha-512.');
  },
};
