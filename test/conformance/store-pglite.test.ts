import { Pglite } from '../../actors/store/pglite.ts';
import { PostgresStore } from '../../actors/store/postgres.ts';
import { storeConformance } from './store.ts';
import { peekSql } from './store-peek.ts';

/** One database for the suite: making a cluster takes seconds, emptying it does not. */
storeConformance('PGlite', async () => {
  const sql = await Pglite.open();
  return {
    async fresh() {
      await sql.exec('drop schema public cascade; create schema public;');
      return { store: new PostgresStore(sql), peek: peekSql(sql), another: () => new PostgresStore(sql) };
    },
    close: () => sql.close(),
  };
});
