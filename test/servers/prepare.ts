import { emptyTemplate } from './embedded.ts';
import { findKafka } from './kafka.ts';
import { findMlflow } from './mlflow.ts';
import { findNats } from './nats.ts';
import { findS3 } from './s3.ts';

/**
 * Has the servers that come as source or as packages built and fetched once, before tests that run side by side all ask for them:
 * `prepare.ts nats kafka`. What is there already is only started and ended.
 */
process.env.REQUIRE_SERVERS = '1';
const SERVERS = { nats: findNats, kafka: findKafka, s3: findS3, mlflow: findMlflow };
type Name = keyof typeof SERVERS;
const named = process.argv.slice(2);
const unknown = named.filter((name) => !(name in SERVERS));
if (unknown.length > 0)
  throw new Error(`There is no ${unknown.join(', ')}; there is ${Object.keys(SERVERS).join(', ')}.`);
if (!named.includes('mlflow') || named.length > 1) await emptyTemplate();
for (const name of named as Name[]) {
  const from = performance.now();
  const server = await SERVERS[name]();
  await server?.stop();
  console.log(`${name} is there (${((performance.now() - from) / 1000).toFixed(1)} s)`);
}
