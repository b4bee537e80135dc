import { describe } from 'vitest';
import { Pg } from '../../actors/store/pg.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { findPostgres } from '../servers/postgres.ts';
import { storeConformance } from './store.ts';
import { peekSql } from './store-peek.ts';

const server = await findPostgres();

describe.skipIf(server === null)('on a real server', () => {
  storeConformance('PostgreSQL', async () => {
    const url = await server!.database();
    // Two pools, so that `another` is another connection in earnest.
    const [one, two] = await Promise.all([Pg.open({ url, maxConnections: 4 }), Pg.open({ url, maxConnections: 4 })]);
    return {
      async fresh() {
        await one.exec('drop schema public cascade; create schema public;');
        return { store: new PostgresStore(one), peek: peekSql(one), another: () => new PostgresStore(two) };
      },
      async close() {
        await one.close();
        await two.close();
        await server!.stop();
      },
    };
  });
});
