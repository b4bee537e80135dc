import { describe } from 'vitest';
import { Pg } from '../../actors/store/pg.ts';
import { Pglite } from '../../actors/store/pglite.ts';
import { findPostgres } from '../servers/postgres.ts';
import { sqlConformance } from './sql.ts';

sqlConformance('PGlite', async () => {
  const sql = await Pglite.open();
  return { sql, close: () => sql.close() };
});

const server = await findPostgres();

describe.skipIf(server === null)('on a real server', () => {
  sqlConformance('PostgreSQL', async () => {
    const sql = await Pg.open({ url: server!.url });
    return {
      sql,
      async close() {
        await sql.close();
        await server!.stop();
      },
    };
  });
});
