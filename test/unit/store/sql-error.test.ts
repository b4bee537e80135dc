import { describe, expect, it } from 'vitest';
import { CommitAborted, type Cut, OutcomeUnknown } from '../../../actors/store/port.ts';
import { Checkpoint } from '../../../actors/store/postgres/commit.ts';
import { type Sql, SqlError } from '../../../actors/store/sql.ts';

const CUT: Cut = {
  node: 'n',
  shards: [],
  readings: [],
  entries: [],
  events: [],
  snapshots: [],
  summaries: [],
  deadLetters: [],
  cursors: [],
};

function failing(error: SqlError): Promise<unknown> {
  const sql = { query: () => Promise.reject(error) } as unknown as Sql;
  return new Checkpoint(sql).commit(CUT, new Map()).catch((thrown: unknown) => thrown);
}

describe('a statement that the server refuses', () => {
  it.each(['22021', '23505', 'P0001', '54001', '53200'])('is at fault itself with %s', async (state) => {
    const error = new SqlError('refused', 'no', state);
    expect(error.code).toBe('internal');
    expect(await failing(error)).toBeInstanceOf(CommitAborted);
  });

  it.each(['53100', '53300', '53400', '58030', '25006'])(
    'is not at fault with %s: the store is down',
    async (state) => {
      const error = new SqlError('refused', 'no', state);
      expect(error.code).toBe('store_down');
      // No abort, which would end in condemning a good reading, but the same cut again.
      expect(await failing(error)).toBe(error);
    },
  );

  it('says that a disk is full', () => {
    expect(new SqlError('refused', 'could not extend file', '53100').message).toBe(
      'The database has no space left (could not extend file); give its disk room.',
    );
  });

  it('is of unknown outcome when the session ended with it', async () => {
    expect(await failing(new SqlError('unknown', 'gone', '57P01'))).toBeInstanceOf(OutcomeUnknown);
  });
});
