import { Pg } from '../../actors/store/pg.ts';
import { findPostgres } from '../../test/servers/postgres.ts';
import { pipeline } from '../pipeline.ts';
import type { Scenario } from '../scenario.ts';

const scenario: Scenario = {
  name: 'pipeline-postgres',
  title: 'the durable pipeline on a PostgreSQL of this machine, synchronous commit on',
  async run(say) {
    const server = await findPostgres();
    if (server === null) {
      say('skipped: no PostgreSQL here');
      return [];
    }
    const sql = await Pg.open({ url: await server.database() });
    try {
      return await pipeline({ sql, twins: 10_000, readings: 500_000, perPayload: 500, atLeast: 70_000, say });
    } finally {
      await sql.close();
      await server.stop();
    }
  },
};
export default scenario;
