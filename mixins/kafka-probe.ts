import { type KafkaSettings, openKafka } from './kafka.ts';

/** What can be seen of Kafka with the credentials of this node. */
export interface KafkaFacts {
  brokers: number;
  /** Partitions of each topic that is there. */
  topics: Map<string, number>;
  /** Records that the consumer group has not read, by topic; null where the group has read none of it yet. */
  lag: Map<string, number | null>;
  /** Members that the group has now. */
  members: number;
}

const SILENT = { debug() {}, info() {}, warn() {} };

/** Throws what the client throws. */
export async function probeKafka(
  settings: KafkaSettings,
  group: string,
  topics: readonly string[],
): Promise<KafkaFacts> {
  const admin = openKafka(settings, SILENT).admin({ retry: { retries: 0 } });
  await admin.connect();
  try {
    const { brokers } = await admin.describeCluster();
    const all = new Set(await admin.listTopics());
    const there = topics.filter((topic) => all.has(topic));
    const facts: KafkaFacts = { brokers: brokers.length, topics: new Map(), lag: new Map(), members: 0 };
    if (there.length === 0) return facts;
    const { topics: metadata } = await admin.fetchTopicMetadata({ topics: there });
    for (const { name, partitions } of metadata) facts.topics.set(name, partitions.length);
    const { groups } = await admin.describeGroups([group]);
    facts.members = groups[0]?.members.length ?? 0;
    for (const { topic, partitions } of await admin.fetchOffsets({ groupId: group, topics: there })) {
      const ends = new Map(
        (await admin.fetchTopicOffsets(topic)).map(({ partition, high }) => [partition, Number(high)]),
      );
      const read = partitions.filter(({ offset }) => Number(offset) >= 0);
      const lag = read.reduce(
        (sum, { partition, offset }) => sum + Math.max(0, (ends.get(partition) ?? 0) - Number(offset)),
        0,
      );
      facts.lag.set(topic, read.length === 0 ? null : lag);
    }
    return facts;
  } finally {
    await admin.disconnect();
  }
}
