import { emptyTemplate } from './embedded.ts';
import { findKafka } from './kafka.ts';
import { findNats } from './nats.ts';

/**
 * Has the servers that come as source or as a Maven artifact built and fetched once, before tests that run side by side all
 * ask for them. What is there already is only started and ended.
 */
process.env.REQUIRE_SERVERS = '1';
await emptyTemplate();
for (const [name, find] of [
  ['NATS', findNats],
  ['Kafka', findKafka],
] as const) {
  const from = performance.now();
  const server = await find();
  await server?.stop();
  console.log(`${name} is there (${((performance.now() - from) / 1000).toFixed(1)} s)`);
}
