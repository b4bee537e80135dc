import { Pg } from '../../actors/store/pg.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { pipeline } from '../pipeline.ts';
import type { Figure, Scenario } from '../scenario.ts';

const scenario: Scenario = {
  name: 'pipeline-postgres',
  title: 'the durable pipeline on a PostgreSQL of this machine, synchronous commit on',
  async run(say) {
    const server = await findPostgres();
    if (server === null) {
      say('skipped: no PostgreSQL here');
      return [];
    }
    try {
      const figures: Figure[] = [];
      for (const feed of [
        { batches: true, perPayload: 8_000, atLeast: 80_000 },
        { batches: false, perPayload: 500, atLeast: 70_000 },
      ]) {
        const sql = await Pg.open({ url: await server.database() });
        say(feed.batches ? 'batches in the encoding of the log:' : 'JSON payloads, decoded in the same process:');
        figures.push(
          ...(await pipeline({ sql, twins: 10_000, readings: 500_000, say, databasePid: server.pid, ...feed })),
        );
        await sql.close();
      }
      return figures;
    } finally {
      await server.stop();
    }
  },
};
export default scenario;
